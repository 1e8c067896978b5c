"""Alignments from and to the files of IMOD and AreTomo."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from tomodask.engine.files import explained
from tomodask.errors import ConversionError, DataError, ParameterError, TomodaskWarning
from tomodask.exporting import write_excluded
from tomodask.geometry import Projection, aligned_shape
from tomodask.graph.inputs import chosen_projection
from tomodask.io.aretomo import read_aln, write_aln
from tomodask.io.aretomo_projection import alignment_of_projection, global_projection
from tomodask.io.imod import (
    read_angles,
    read_transforms,
    read_zfactors,
    write_angles,
    write_transforms,
    write_zfactors,
)
from tomodask.io.imod_local import (
    areas_of_field,
    field_of_areas,
    read_local_alignments,
    write_local_alignments,
)
from tomodask.io.series import open_series, write_alignment
from tomodask.model import (
    alignment_dataset,
    provenance,
    sections_of,
    thickness_of,
    tilt_series_of,
)

if TYPE_CHECKING:
    from os import PathLike

    import xarray as xr
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["export_alignment", "import_alignment", "read_imod_alignment"]

#: Stretch and skew that differ by more between views were solved, and z factors belong to them.
_SOLVED = 1e-4


def import_alignment(
    series: str | Path,
    *,
    name: str = "imported",
    xf: str | PathLike[str] | None = None,
    tlt: str | PathLike[str] | None = None,
    xtilt: str | PathLike[str] | None = None,
    zfac: str | PathLike[str] | None = None,
    local_xf: str | PathLike[str] | None = None,
    aln: str | PathLike[str] | None = None,
    overwrite: bool = False,
) -> xr.Dataset:
    """Store an alignment made by another program beside the images that it is of.

    Parameters
    ----------
    series
        Folder of the store.
    name
        Of the alignment.
    xf, tlt, xtilt, zfac, local_xf
        IMOD's transforms with, where there are any, the solved angles, x-tilts, z factors and
        local alignments; one line a section.
    aln
        AreTomo's alignment, instead.
    overwrite
        Whether an alignment of that name is replaced.

    Returns
    -------
    xarray.Dataset
        The alignment, as stored.

    Raises
    ------
    FormatError
        If a file cannot be read.
    DataError
        If it is of another number of views.
    ConversionError
        If it cannot be expressed, or a file that belongs to it is missing.

    Warns
    -----
    TomodaskWarning
        Where AreTomo's local alignment is left out, whose sign is not documented.
    """
    if (xf is None) == (aln is None):
        raise ParameterError("give an alignment of IMOD (xf, --xf) or of AreTomo (aln, --aln)")
    path = Path(series).expanduser().resolve()
    tree = open_series(path)
    views = tilt_series_of(tree)
    nominal = views["tilt_angle"].values
    pixel = float(views.attrs["pixel_size"])
    order = sections_of(tree)  # the view of each section
    if xf is not None:
        shape = (views.sizes["y"], views.sizes["x"])
        read = read_imod_alignment(
            xf, nominal[order], pixel, shape, tlt=tlt, xtilt=xtilt, zfac=zfac, local_xf=local_xf
        )
        projection = read[np.argsort(order)]
        files = {"xf": xf, "tlt": tlt, "xtilt": xtilt, "zfac": zfac, "local_xf": local_xf}
        found = np.ones(len(nominal), bool)
    else:
        assert aln is not None
        if (tlt, xtilt, zfac, local_xf) != (None,) * 4:
            raise ParameterError("tlt, xtilt, zfac and local_xf belong to xf, not to aln")
        projection, found = _read_aln(aln, nominal, pixel)
        files = {"aln": aln}
    names = {kind: Path(file).name for kind, file in files.items() if file is not None}
    alignment = alignment_dataset(
        projection,
        method="imported",
        attributes={"provenance": provenance("import alignment", **names)},
        found=found,
    )
    write_alignment(path, name, alignment, overwrite=overwrite)
    return alignment


def read_imod_alignment(
    xf: str | PathLike[str],
    tilt_angle: FloatArray,
    pixel_size: float,
    shape: tuple[int, int],
    *,
    tlt: str | PathLike[str] | None = None,
    xtilt: str | PathLike[str] | None = None,
    zfac: str | PathLike[str] | None = None,
    local_xf: str | PathLike[str] | None = None,
) -> Projection:
    """Return the projection of IMOD's files, one view a section.

    Parameters
    ----------
    xf, tlt, xtilt, zfac, local_xf
        The files; without `tlt` the angles are the nominal ones.
    tilt_angle
        (tilt,) nominal, degrees, in the order of the sections.
    pixel_size
        A.
    shape
        (y, x) of the raw images.

    Raises
    ------
    FormatError, DataError
        If a file cannot be read, or has another number of lines.
    ConversionError
        If stretch or skew were solved and the z factors, which belong to them, are not given.
    """

    def table(path: str | PathLike[str], values: FloatArray) -> FloatArray:
        if len(values) != len(tilt_angle):
            raise DataError(
                f"{path} has {len(values)} lines, the series has {len(tilt_angle)} images; give "
                "the file of this stack"
            )
        return values

    projection = Projection.from_transforms(
        table(xf, read_transforms(xf)),
        pixel_size,
        tilt_angle if tlt is None else table(tlt, read_angles(tlt)),
        x_tilt=0.0 if xtilt is None else table(xtilt, read_angles(xtilt)),
        z_factor=(0.0, 0.0) if zfac is None else table(zfac, read_zfactors(zfac)),
    )
    solved = max(float(np.ptp(projection.stretch)), float(np.ptp(projection.skew)))
    if zfac is None and solved > _SOLVED:
        raise ConversionError(
            f"{xf}: stretch or skew differ by {solved:.2g} between views, so they were solved, and "
            "z factors belong to the solution: give them with zfac (--zfac)"
        )
    if local_xf is None:
        return projection
    axis = float(np.median(projection.tilt_axis_angle))
    aligned = aligned_shape(shape, axis)
    areas = read_local_alignments(local_xf)
    field = field_of_areas(areas, projection, pixel_size, (aligned[1], aligned[0]))
    return Projection.create(
        projection.tilt_angle,
        tilt_axis_angle=projection.tilt_axis_angle,
        shift=projection.shift,
        magnification=projection.magnification,
        stretch=projection.stretch,
        skew=projection.skew,
        x_tilt=projection.x_tilt,
        z_factor=projection.z_factor,
        local=field,
    )


def _read_aln(
    path: str | PathLike[str], nominal: FloatArray, pixel_size: float
) -> tuple[Projection, NDArray[np.bool_]]:
    """Return AreTomo's alignment of all views, and which views it has; dark ones are nominal."""
    read = read_aln(path)
    if len(read.view) + len(read.dark) != len(nominal):
        raise DataError(
            f"{path} is of {len(read.view) + len(read.dark)} views, the series has {len(nominal)}; "
            "give the file of this series"
        )
    if read.local is not None:
        warnings.warn(
            f"{path}: its local alignment is left out, for its sign is not documented",
            TomodaskWarning,
            stacklevel=3,
        )
    rank = np.argsort(nominal, kind="stable")  # AreTomo counts views by rising tilt
    views = rank[read.view]
    known = global_projection(read, pixel_size)
    axis = np.full(len(nominal), float(np.median(known.tilt_axis_angle)))
    angle, shift = np.array(nominal, np.float64), np.zeros((len(nominal), 2))
    axis[views], angle[views], shift[views] = known.tilt_axis_angle, known.tilt_angle, known.shift
    found = np.zeros(len(nominal), bool)
    found[views] = True
    return Projection.create(angle, tilt_axis_angle=axis, shift=shift), found


def export_alignment(
    series: xr.DataTree,
    out: str | Path,
    *,
    alignment: str,
    format: Literal["imod", "aretomo"] = "imod",  # noqa: A002
) -> list[Path]:
    """Write an alignment for IMOD or AreTomo.

    For IMOD: one line per section of the stack that it belongs to, the imported one or, of
    movies, that which :func:`export_images` writes. ``NAME.xf`` and ``NAME.tlt`` always,
    ``NAME.xtilt`` where x-tilt is not zero, ``NAME.zfac`` where there are z factors,
    ``NAME.local.xf`` where there is a local field, ``NAME.excluded`` (sections from 1, as IMOD
    counts views) where views are excluded: they have their lines all the same.

    For AreTomo: ``NAME.aln``, in the order of tilt angles, excluded views as dark frames.

    Tilt offset is contained in the angles, z shift in the shifts.

    Parameters
    ----------
    series
        From ``tomodask.open``.
    out
        Folder; made when absent.
    alignment
        Its name.
    format
        "imod" or "aretomo".

    Returns
    -------
    The files.

    Raises
    ------
    ConversionError
        If the format cannot hold the alignment: AreTomo's has no magnification, stretch, skew,
        x-tilt, z factors, and no local field of our kind.
    """
    if format not in ("imod", "aretomo"):
        raise ParameterError(f"format {format!r}: give 'imod' or 'aretomo'")
    projection, _ = chosen_projection(series, alignment)
    views = tilt_series_of(series)
    included = views["included"].values.astype(bool)
    folder = Path(out).expanduser()
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if format == "imod":
        order = sections_of(series)
        return _write_imod(folder / alignment, projection[order], views, included[order])
    nominal = views["tilt_angle"].values
    order = np.argsort(nominal, kind="stable")
    pixel = float(views.attrs["pixel_size"])
    height = thickness_of(series[f"alignments/{alignment}"].to_dataset())
    written = folder / f"{alignment}.aln"
    write_aln(
        written,
        alignment_of_projection(
            projection[order],
            pixel,
            (views.sizes["x"], views.sizes["y"]),
            included=included[order],
            nominal_tilt=nominal[order],
            thickness=None if height is None else round(height / pixel),
        ),
    )
    return [written]


def _write_imod(
    stem: Path, projection: Projection, views: xr.Dataset, included: NDArray[np.bool_]
) -> list[Path]:
    """Write IMOD's files under a name; return them."""
    pixel = float(views.attrs["pixel_size"])

    def named(suffix: str) -> Path:
        return stem.with_name(f"{stem.name}.{suffix}")

    written = [named("xf"), named("tlt")]
    write_transforms(written[0], projection.to_transforms(pixel))
    write_angles(written[1], projection.tilt_angle)
    if projection.x_tilt.any():
        written.append(named("xtilt"))
        write_angles(written[-1], projection.x_tilt)
    if projection.z_factor.any():
        written.append(named("zfac"))
        write_zfactors(written[-1], projection.z_factor)
    if projection.local is not None:
        written.append(named("local.xf"))
        axis = float(np.median(projection.tilt_axis_angle))
        y, x = aligned_shape((views.sizes["y"], views.sizes["x"]), axis)
        areas = areas_of_field(projection.local, projection, pixel, (x, y))
        write_local_alignments(written[-1], areas)
    written += write_excluded(named("excluded"), included)
    # What an earlier export left and this alignment does not have would be read as its own.
    for suffix in ("xtilt", "zfac", "local.xf"):
        if named(suffix) not in written:
            named(suffix).unlink(missing_ok=True)
    return written

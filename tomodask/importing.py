"""From a stack of images and its angles to a tilt series in a store."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np

from tomodask.alignment_files import read_imod_alignment
from tomodask.engine.files import write_whole
from tomodask.engine.ledger import Ledger
from tomodask.engine.run import Stage, Task, at_once, run_stages
from tomodask.engine.shards import ShardGrid, write_shard
from tomodask.engine.workers import Resources
from tomodask.errors import DataError, ParameterError, TomodaskWarning
from tomodask.io.doses import acquisition_order, cumulated_dose, dose_before
from tomodask.io.mdoc import read_mdoc
from tomodask.io.series import (
    alignment_names,
    create_series,
    images_folder,
    images_grid,
    read_alignment,
    write_alignment,
    write_coordinates,
)
from tomodask.io.stack import StackInfo, open_stack, read_section
from tomodask.io.tilt_table import read_tilt_table
from tomodask.model import alignment_dataset, provenance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distributed import Client
    from numpy.typing import NDArray

    from tomodask.engine.events import Listener
    from tomodask.io.mdoc import MdocSection
    from tomodask.io.tilt_table import TiltTable

__all__ = ["import_stack"]

PathLike = str | Path

#: Pixel sizes that differ by more than this fraction are of different images.
_SAME_SIZE = 0.01


def import_stack(
    stack: PathLike,
    out: PathLike,
    *,
    tilt_angles: PathLike | Sequence[float] | None = None,
    xf: PathLike | None = None,
    tlt: PathLike | None = None,
    xtilt: PathLike | None = None,
    zfac: PathLike | None = None,
    pixel_size: float | None = None,
    tilt_axis: float | None = None,
    exposure: float | None = None,
    voltage: float | None = None,
    exclude: Sequence[int] = (),
    overwrite: bool = False,
    workers: int | None = None,
    memory_limit: str | float | None = None,
    scheduler: str | Client = "threads",
    progress: Listener | None = None,
) -> Path:
    """Import a stack of tilt images into a new store.

    Parameters
    ----------
    stack
        MRC (.mrc, .st, .ali, ...) or TIFF.
    out
        Folder of the store, by custom ``NAME.zarr``.
    tilt_angles
        A .rawtlt or .tlt file, a table of angles with order of acquisition and exposures
        (AreTomo's _TLT.txt, or one that names its columns), an mdoc, or the angles in degrees, one
        per section. By default they are taken from an mdoc beside the stack or from the extended
        header.
    xf, tlt, xtilt, zfac
        IMOD's transforms of this stack with, where they differ from `tilt_angles`, the solved
        angles, x-tilts and z factors; stored as the alignment "imported".
    pixel_size
        A; wins over what the files say.
    tilt_axis
        Angle of the tilt axis, degrees CCW from +y; wins over what the files say.
    exposure
        e/A^2 of each view; wins over what the files say.
    voltage
        kV; wins over what the files say.
    exclude
        Sections, from 0, to flag as not included.
    overwrite
        Whether a store of another import at `out` is replaced, with all that it holds.
    workers, memory_limit, scheduler, progress
        As in ``tomodask.store``.

    Returns
    -------
    pathlib.Path
        Folder of the store; open it with ``tomodask.open``.

    Raises
    ------
    FormatError
        If a file is truncated or not what it should be.
    DataError
        If the counts of views and angles differ, there are fewer than two views, or an included
        view holds NaN.
    ParameterError
        If the pixel size is known from nowhere.
    PlanMismatchError
        If `out` holds another import.

    Warns
    -----
    TomodaskWarning
        Where several views have the same angle, or what files say is contradictory.
    """
    info = open_stack(stack)
    views = info.shape[0]
    if views < 2 or min(info.shape) < 2:
        raise DataError(
            f"{info.path} holds {views} images of {info.shape[2]} x {info.shape[1]} pixels; a tilt "
            "series needs at least 2 views; give the stack, not a single image"
        )
    for what, value in (("exposure", exposure), ("voltage", voltage)):
        if value is not None and not (np.isfinite(value) and value > 0):
            raise ParameterError(f"{what} {value}: give a positive number (--{what})")
    recorded = _recorded(info, tilt_angles, exposure)
    angles = recorded.tilt_angle
    included = _included(info, exclude)
    size = pixel_size if pixel_size is not None else recorded.pixel_size
    if size is None:
        raise ParameterError(
            f"{info.path} does not say its pixel size; give it in A with pixel_size (--pixel-size)"
        )
    if pixel_size is None:
        size = float(f"{size:.7g}")  # headers hold it in single precision
    if not (np.isfinite(size) and size > 0):
        raise ParameterError(f"pixel size {size} A: give a positive number")
    kilovolts = voltage if voltage is not None else recorded.voltage
    axis = tilt_axis if tilt_axis is not None else recorded.tilt_axis_angle
    if axis is not None and not np.isfinite(axis):
        raise ParameterError(f"tilt axis {axis} degrees: give a finite number")
    alignment = (
        None
        if xf is None
        else _imported_alignment(info, angles, size, xf=xf, tlt=tlt, xtilt=xtilt, zfac=zfac)
    )
    if xf is None and (tlt, xtilt, zfac) != (None, None, None):
        raise ParameterError("tlt, xtilt and zfac belong to transforms: give xf (--xf) too")
    _warn_duplicates(info, angles)

    coordinates: dict[str, NDArray[np.generic]] = {
        "tilt_angle": angles,
        "included": included,
        "reason": np.where(included, "", "excluded by the user at import"),
        "section": np.arange(views, dtype=np.int64),
        **recorded.more,
    }
    stat = info.path.stat()
    attributes: dict[str, Any] = {
        "pixel_size": float(size),
        **({} if axis is None else {"tilt_axis_angle": float(axis)}),
        **({"voltage": kilovolts} if kilovolts else {}),
        "provenance": provenance(
            "import",
            stack=str(info.path),
            stored_as=str(info.dtype),
            angles=recorded.source,
            given_by_user=[
                name
                for name, value in (
                    ("pixel_size", pixel_size),
                    ("tilt_axis", tilt_axis),
                    ("exposure", exposure),
                    ("voltage", voltage),
                )
                if value is not None
            ],
        ),
    }
    identity = {
        "step": "import stack",
        "stack": [info.path.name, stat.st_size, stat.st_mtime_ns],
        "tilt_angle": angles.tolist(),
        "included": included.tolist(),
        "pixel_size": float(size),
        "tilt_axis_angle": axis,
        "voltage": kilovolts,
        **{name: values.tolist() for name, values in recorded.more.items()},
    }
    path = Path(out).expanduser().resolve()
    grid = images_grid(info.shape)
    folder = images_folder(path)
    resources = Resources(workers=workers, memory_limit=memory_limit, scheduler=scheduler)
    step = f"import {path.name}"
    with Ledger(folder, path) as ledger:
        stages = [_read_views(info, included, folder, grid, ledger.scratch)]
        if ledger.plan() is None or (overwrite and not ledger.matches(identity)):
            # What cannot be made must not cost what there is.
            at_once(step, stages, resources)
            ledger.clear()
            create_series(path, info.shape, coordinates, attributes)
        ledger.begin(identity)
        if not ledger.complete:
            run_stages(step, stages, ledger, resources, progress)
            sums = [int(_checksum_file(ledger.scratch, t).read_text()) for t in range(views)]
            write_coordinates(path, {"checksum": np.array(sums, np.uint32)})
            ledger.finish(task.key for stage in stages for task in stage.tasks)
    if alignment is not None:
        known = "imported" in alignment_names(path)
        if not known or overwrite or not read_alignment(path, "imported").equals(alignment):
            write_alignment(path, "imported", alignment, overwrite=overwrite)
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class _Recorded:
    """What files tell of a series."""

    tilt_angle: NDArray[np.float64]
    source: str
    pixel_size: float | None
    tilt_axis_angle: float | None
    voltage: float | None
    more: dict[str, NDArray[np.generic]]


def _recorded(
    info: StackInfo, tilt_angles: PathLike | Sequence[float] | None, exposure: float | None
) -> _Recorded:
    """Gather angles and metadata; what the user gives wins over mdoc, mdoc over the header."""
    mdoc_path = _mdoc_of(info, tilt_angles)
    asked = mdoc_path is not None and mdoc_path == _path_of(tilt_angles)
    sections: tuple[MdocSection, ...] = ()
    table: TiltTable | None = None
    size, axis = info.pixel_size, info.tilt_axis_angle
    voltage = info.metadata.get("voltage")
    angles: Any = info.tilt_angles
    source = "extended header"
    if mdoc_path is not None:
        mdoc = read_mdoc(mdoc_path)
        try:
            sections = mdoc.by_z_value(info.shape[0])
        except DataError as error:
            if asked or tilt_angles is None:
                raise
            warnings.warn(f"not used: {error}", TomodaskWarning, stacklevel=4)
            mdoc_path = None
    if mdoc_path is not None:
        if all(section.tilt_angle is not None for section in sections):
            angles, source = [section.tilt_angle for section in sections], mdoc_path.name
        if size and mdoc.pixel_size and abs(mdoc.pixel_size / size - 1) > _SAME_SIZE:
            warnings.warn(
                f"{info.path.name} says pixels of {size:g} A, {mdoc_path.name} "
                f"{mdoc.pixel_size:g}: the stack's own header is believed; give pixel_size "
                "(--pixel-size) to be sure",
                TomodaskWarning,
                stacklevel=4,
            )
        size = size or mdoc.pixel_size
        axis = mdoc.tilt_axis_angle if mdoc.tilt_axis_angle is not None else axis
        voltage = mdoc.voltage or voltage
    if tilt_angles is not None and not asked:
        if isinstance(tilt_angles, str | Path):
            table = read_tilt_table(tilt_angles)
            angles, source = table.tilt_angle, str(tilt_angles)
        else:
            angles, source = tilt_angles, "given"
    if angles is None:
        raise DataError(
            f"{info.path}: no tilt angles in its header and no mdoc beside it; give a .rawtlt, "
            ".tlt or mdoc file with tilt_angles (--tilt-angles)"
        )
    found = np.asarray(angles, np.float64)
    if found.shape != (info.shape[0],):
        raise DataError(
            f"{source} has {found.size} tilt angles, {info.path} has {info.shape[0]} images; give "
            "one angle per image, excluded ones too"
        )
    bad = np.flatnonzero(~np.isfinite(found) | (np.abs(found) > 180))
    if len(bad):
        raise DataError(
            f"{source}: angle {found[bad[0]]} of section {bad[0]} is no tilt angle in degrees"
        )
    return _Recorded(
        tilt_angle=found,
        source=source,
        pixel_size=size,
        tilt_axis_angle=axis,
        voltage=float(voltage) if isinstance(voltage, int | float) else None,
        more=_acquired(info, sections, table, exposure),
    )


def _acquired(
    info: StackInfo,
    sections: Sequence[MdocSection],
    table: TiltTable | None,
    exposure: float | None,
) -> dict[str, NDArray[np.generic]]:
    """Return order, exposure and dose, as far as known; the user wins over table over mdoc."""
    name = info.path.name
    known: dict[str, Any] = {"order": None, "exposure": None, "dose": None}
    if sections and all(section.exposure is not None for section in sections):
        known["exposure"] = np.array([section.exposure for section in sections], np.float64)
    if sections and all(section.time is not None for section in sections):
        prior = [section.prior_dose for section in sections]
        known["order"], _ = acquisition_order(name, [s.time for s in sections], prior)
        if known["exposure"] is not None:
            known["dose"], _ = dose_before(name, known["order"], known["exposure"], prior)
    if table is not None:
        given = {"order": table.order, "exposure": table.exposure, "dose": table.dose}
        given = {key: values for key, values in given.items() if values is not None}
        if given:
            known |= {"dose": None, **given}
    if exposure is not None:
        known |= {"exposure": np.full(info.shape[0], exposure), "dose": None}
        if known["order"] is None:
            warnings.warn(
                f"{name}: the order of acquisition is not known, so neither is the dose before "
                "each view; give a table with it with tilt_angles (--tilt-angles)",
                TomodaskWarning,
                stacklevel=5,
            )
    if known["dose"] is None and known["exposure"] is not None and known["order"] is not None:
        known["dose"] = cumulated_dose(known["order"], known["exposure"])
    return {key: values for key, values in known.items() if values is not None}


def _path_of(tilt_angles: PathLike | Sequence[float] | None) -> Path | None:
    return Path(tilt_angles) if isinstance(tilt_angles, str | Path) else None


def _mdoc_of(info: StackInfo, tilt_angles: PathLike | Sequence[float] | None) -> Path | None:
    """Return the mdoc that was given, or that lies beside the stack."""
    if isinstance(tilt_angles, str | Path) and Path(tilt_angles).suffix.lower() == ".mdoc":
        return Path(tilt_angles)
    for beside in (info.path.with_name(info.path.name + ".mdoc"), info.path.with_suffix(".mdoc")):
        if beside.exists():
            return beside
    return None


def _included(info: StackInfo, exclude: Sequence[int]) -> NDArray[np.bool_]:
    included = np.ones(info.shape[0], bool)
    for section in exclude:
        if not 0 <= section < info.shape[0]:
            raise ParameterError(
                f"section {section} to exclude: {info.path} has sections 0 to {info.shape[0] - 1}"
            )
        included[section] = False
    if included.sum() < 2:
        raise ParameterError(f"excluding {len(exclude)} sections leaves fewer than two views")
    return included


def _warn_duplicates(info: StackInfo, angles: NDArray[np.float64]) -> None:
    values, counts = np.unique(angles, return_counts=True)
    double = values[counts > 1]
    if len(double):
        listed = ", ".join(f"{value:g}" for value in double[:8])
        warnings.warn(
            f"{info.path.name}: several views have the tilt angle {listed} degrees; all are kept "
            "and share the angle's weight",
            TomodaskWarning,
            stacklevel=3,
        )


def _imported_alignment(
    info: StackInfo, angles: NDArray[np.float64], pixel_size: float, **files: PathLike | None
) -> Any:
    """Return the alignment of IMOD's files."""
    xf = files.pop("xf")
    assert xf is not None
    shape = (info.shape[1], info.shape[2])
    projection = read_imod_alignment(xf, angles, pixel_size, shape, **files)
    named = {"xf": xf, **files}
    names = {name: Path(path).name for name, path in named.items() if path is not None}
    return alignment_dataset(
        projection,
        method="imported",
        attributes={"provenance": provenance("import alignment", format="imod", **names)},
    )


def _read_views(
    info: StackInfo, included: NDArray[np.bool_], folder: Path, grid: ShardGrid, scratch: Path
) -> Stage:
    """Return the stage that copies every section into its shard."""
    tasks = [
        Task(
            f"view/{view}",
            _import_view,
            (info, view, bool(included[view]), folder, grid, _checksum_file(scratch, view)),
            _checksum_file(scratch, view),
        )
        for view in range(info.shape[0])
    ]
    # A section as read, as float32, padded to whole chunks, and one chunk packed.
    return Stage("read views", tasks, 4 * 4 * int(np.prod(grid.shard)))


def _checksum_file(scratch: Path, view: int) -> Path:
    return scratch / f"checksum_{view}"


def _import_view(
    info: StackInfo, view: int, included: bool, folder: Path, grid: ShardGrid, checksum: Path
) -> tuple[int, int]:
    """Copy one section into its shard and leave its checksum."""
    image = read_section(info, view)
    bad = 0 if not included else int(image.size - np.count_nonzero(np.isfinite(image)))
    if bad:
        raise DataError(
            f"section {view} of {info.path} holds {bad} values that are not finite numbers; "
            f"exclude it (--exclude {view}), or mend the stack"
        )
    written = write_shard(folder, grid, (view, 0, 0), image[None])
    with write_whole(checksum) as temporary:
        temporary.write_text(str(google_crc32c.value(image)))
    return image.size * info.dtype.itemsize, written

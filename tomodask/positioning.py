"""Placing a specimen: level, and at the middle of its tomogram, which is then no thicker than it.

What is found is stored as a new alignment: an offset of the tilt angles, an x-tilt (pitch), the
height that is placed at the middle, and the thickness.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import dask
import numpy as np
from scipy.spatial.transform import Rotation

from tomodask.engine.events import Event
from tomodask.engine.threads import single_threaded
from tomodask.errors import DataError, ParameterError, ProductMissingError, TomodaskWarning
from tomodask.geometry import LocalField, Projection
from tomodask.graph.inputs import chosen_projection
from tomodask.graph.reconstruct import reconstruct
from tomodask.io.series import check_name, open_series, write_alignment
from tomodask.kernels.position import Slab, fit_surfaces, level_angles
from tomodask.kernels.slab_boundary import MatterEnds, fit_slab, matter_ends
from tomodask.model import (
    alignment_dataset,
    measured_observations,
    projection_of,
    provenance,
    tilt_series_of,
)

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from tomodask.engine.events import Listener

    FloatArray = NDArray[np.float64]

__all__ = ["landmark_points", "position"]

#: An angle that is known no better than this is left as it is, degrees.
_UNKNOWN_ANGLE = 2.0
#: A thickness that is known no better than this part of it is not stored.
_UNKNOWN_THICKNESS = 0.25
#: Part of the places whose matter may reach the ends of the volume.
_CUT = 0.02
#: Voxel of the volume that is looked at, A, and most voxels along a typical edge.
_VOXEL, _MOST_VOXELS = 24.0, 360.0


def position(
    series: str | Path,
    *,
    alignment: str | None = None,
    name: str | None = None,
    method: Literal["auto", "landmarks", "volume"] = "auto",
    landmarks: str | None = None,
    height: float = 5000.0,
    margin: float = 100.0,
    overwrite: bool = False,
    progress: Listener | None = None,
) -> xr.Dataset:
    """Find how the specimen lies, and store an alignment that puts it level and in the middle.

    Landmarks tell its slopes; where they lie on both faces also its height and thickness. What
    they do not tell is seen in a coarse, thick tomogram: matter is what two halves of the views
    both show. An angle that cannot be told is left as it is, and a thickness that cannot be seen
    is not stored; both are said.

    Parameters
    ----------
    series
        Folder of the store.
    alignment
        The alignment to start from; by default the only one.
    name
        Name of the new alignment; "NAME-positioned" by default.
    method
        "landmarks", "volume", or "auto": landmarks as far as they tell.
    landmarks
        Name of the landmarks; by default those with the alignment's name, or the only ones.
    height
        Height of the tomogram that is looked at, A: well above the thickness expected.
    margin
        Added to the thickness above and below, A.
    overwrite
        Whether an alignment of that name is replaced.
    progress
        Told of the progress.

    Returns
    -------
    xarray.Dataset
        The alignment, as stored: ``tilt_offset``, ``x_tilt``, ``z_shift`` and, where it is known,
        ``thickness``. Its attribute "position" holds what was found, with standard errors.

    Raises
    ------
    ProductMissingError
        If there is no such alignment, or there are no such landmarks.
    DataError
        If the specimen is not seen, or reaches beyond the height that is looked at.
    ParameterError
        If the name is taken and `overwrite` is false, or a length makes no sense.

    Warns
    -----
    TomodaskWarning
        Where an angle or the thickness is not to be trusted.
    """
    if not (height > 0 and margin >= 0):
        raise ParameterError(f"height {height:g} A, margin {margin:g} A: give positive lengths")
    path = Path(series).expanduser().resolve()
    tree = open_series(path)
    _, label = chosen_projection(tree, alignment)
    if label == "none":
        raise ParameterError("a specimen is placed by an alignment; give the name of one")
    before = tree[f"alignments/{label}"].to_dataset()
    new = check_name(name or f"{label}-positioned")
    if new in tree["alignments"].children and not overwrite:
        raise ParameterError(
            f"{path} has an alignment {new!r} already; give another name (--name), or replace it "
            "with overwrite=True (--overwrite)"
        )
    _tell(progress, new, 0)
    placed, found = before, []
    with single_threaded():
        if method != "volume":
            points = _points(tree, before, label, landmarks, needed=method == "landmarks")
            if points is not None:
                slab = fit_surfaces(points)
                if method == "landmarks" or _known_angles(slab) == (True, True):
                    placed = _placed(placed, _trusted(slab))
                    found.append(("landmarks", slab))
        if not found or (found[-1][1].surfaces == 1 and method == "auto"):
            ends = _matter(tree, placed, height)
            slab = fit_slab(ends, level=(bool(found), bool(found)))
            if not found and False in _known_angles(slab):
                across, along = _known_angles(slab)
                level = fit_slab(ends, level=(not across, not along))
                slab = replace(
                    level, slope_x_error=slab.slope_x_error, slope_y_error=slab.slope_y_error
                )
            placed = _placed(placed, _trusted(slab))
            found.append(("volume", slab))
    result = _described(placed, before, label, found, margin, height)
    write_alignment(path, new, result, overwrite=overwrite)
    _tell(progress, new, 1)
    return result


def landmark_points(projection: Projection, table: xr.Dataset) -> FloatArray:
    """Return the specimen points of landmarks from where they are seen.

    Parameters
    ----------
    projection
        Of the views.
    table
        Landmarks; only measurements of chosen ones count, by their weights where these are known.

    Returns
    -------
    (landmark, 3) specimen (x, y, z), A; NaN where too few views see one.
    """
    used = measured_observations(table)
    of, view = table["landmark_of"].values[used], table["view"].values[used]
    seen = np.stack([table["x"].values[used], table["y"].values[used]], axis=1)
    weight = np.nan_to_num(table["weight"].values[used], nan=1.0)
    camera = projection.image_matrix() @ projection.view_matrix()[:, :2]
    points = np.full((table.sizes["landmark"], 3), np.nan)
    for landmark in np.unique(of):
        mine = (of == landmark) & (weight > 0)
        rows = (camera[view[mine]] * np.sqrt(weight[mine])[:, None, None]).reshape(-1, 3)
        if len(rows) < 6 or np.linalg.matrix_rank(rows, tol=1e-3) < 3:
            continue
        point = np.zeros(3)
        for _ in range(1 if projection.local is None else 3):
            off = seen[mine] - projection.project(point[None])[view[mine], 0]
            off *= np.sqrt(weight[mine])[:, None]
            point = point + np.linalg.lstsq(rows, off.reshape(-1), rcond=None)[0]
        points[landmark] = point
    return points


def _points(
    tree: xr.DataTree, alignment: xr.Dataset, label: str, name: str | None, *, needed: bool
) -> FloatArray | None:
    """Return the points of the landmarks asked for, None where none are needed nor there."""
    there = list(tree["landmarks"].children) if "landmarks" in tree.children else []
    if name is None:
        name = label if label in there else there[0] if len(there) == 1 else None
    if name is None and not needed:
        return None
    if name not in there:
        raise ProductMissingError(
            f"{tree.name} has no landmarks {name or label!r} (there: "
            f"{', '.join(there) or 'none'}); name some with landmarks= (--landmarks), or look at "
            "the volume (--method volume)"
        )
    table = tree[f"landmarks/{name}"].to_dataset()
    if not needed and table.attrs.get("method") == "patches":
        return None  # patches lie where the specimen's content is, not on its surfaces
    points = landmark_points(projection_of(alignment), table)
    enough = np.count_nonzero(np.isfinite(points[:, 2])) >= 4
    return points if needed or enough else None


def _matter(tree: xr.DataTree, alignment: xr.Dataset, height: float) -> MatterEnds:
    """Return where matter begins and ends in a coarse tomogram of the given height."""
    tilt_series = tilt_series_of(tree)
    pixel = float(tilt_series.attrs["pixel_size"])
    images = tilt_series["images"]
    edge = float(np.sqrt(images.sizes["y"] * images.sizes["x"])) * pixel
    binning = max(1.0, max(_VOXEL, edge / _MOST_VOXELS) / pixel)
    thickness = int(height / (binning * pixel))
    views = np.flatnonzero(tilt_series["included"].values)
    if len(views) < 6:
        raise DataError(
            f"{tree.name} has {len(views)} included views: too few to make a volume of each half"
        )
    halves = []
    with dask.config.set(scheduler="threads"):
        for half in (views[::2], views[1::2]):
            weights = np.zeros(images.sizes["tilt"])
            weights[half] = 1
            halves.append(
                reconstruct(
                    tree,
                    thickness=thickness,
                    binning=binning,
                    alignment=alignment,
                    view_weights=weights.tolist(),
                ).compute()
            )
    z, y, x = (halves[0][axis].values for axis in "zyx")
    ends = matter_ends(halves[0].values, halves[1].values, (z, y, x))
    if len(ends) and ends.cut.mean() > _CUT:
        raise DataError(
            f"{tree.name}: the specimen reaches beyond the {height:g} A that were looked at; give "
            f"a larger height (--height {2 * height:g})"
        )
    return ends


def _known_angles(slab: Slab) -> tuple[bool, bool]:
    """Return whether the slopes along x and along y are known well enough to act on."""
    limit = np.tan(np.deg2rad(_UNKNOWN_ANGLE))
    return bool(slab.slope_x_error <= limit), bool(slab.slope_y_error <= limit)


def _trusted(slab: Slab) -> Slab:
    """Return a slab without the slopes that are not known; says so."""
    known = dict(zip(("x", "y"), _known_angles(slab), strict=True))
    for axis, sure in known.items():
        if not sure:
            error = np.rad2deg(np.arctan(getattr(slab, f"slope_{axis}_error")))
            turn = {"x": "tilt offset", "y": "x-tilt"}[axis]
            warnings.warn(
                f"the {turn} is left as it is: it can be told to {error:.1f} degrees only; look "
                "at a tomogram, or use landmarks on both faces",
                TomodaskWarning,
                stacklevel=4,
            )
    return replace(
        slab,
        slope_x=slab.slope_x if known["x"] else 0.0,
        slope_y=slab.slope_y if known["y"] else 0.0,
    )


def _placed(alignment: xr.Dataset, slab: Slab) -> xr.Dataset:
    """Return an alignment in whose frame a slab of the old one's is level and in the middle."""
    get = {name: float(alignment.get(name, 0.0)) for name in ("z_shift", "tilt_offset")}
    base = projection_of(alignment.drop_vars("z_shift", errors="ignore"))
    pitch = float(np.median(base.x_tilt))
    tilt, x_tilt = level_angles(slab.slope_x, slab.slope_y, pitch)
    turned = _turned(base, tilt, x_tilt, pitch)
    steep = np.sqrt(1 + slab.slope_x**2 + slab.slope_y**2)
    values: dict[str, Any] = {
        "tilt_offset": get["tilt_offset"] + tilt,
        "z_shift": (slab.centre + get["z_shift"]) / steep,
    }
    if np.isfinite(slab.height):
        values["thickness"] = slab.height / steep
    changed = alignment_dataset(turned, method="positioned", **values)
    # The angles stay those that were solved; the offset is kept beside them.
    result = alignment.assign(changed.drop_vars("tilt_angle").variables)
    return result if "thickness" in values else result.drop_vars("thickness", errors="ignore")


def _turned(projection: Projection, tilt: float, x_tilt: float, pitch: float) -> Projection:
    """Return the same cameras about a specimen that is turned; see `level_angles`."""
    turn = Rotation.from_euler("x", -pitch, degrees=True)
    turn *= Rotation.from_euler("y", tilt, degrees=True)
    turn *= Rotation.from_euler("x", pitch + x_tilt, degrees=True)
    matrix = turn.as_matrix()
    camera = projection.image_matrix() @ projection.view_matrix()[:, :2]
    turned = Projection.from_cameras(
        camera @ matrix,
        projection.shift,
        projection.tilt_angle + tilt,
        x_tilt=projection.x_tilt + x_tilt,
    )
    if projection.local is None:
        return turned
    into: FloatArray = np.linalg.inv(turned.image_matrix()) @ projection.image_matrix()
    return replace(turned, local=_turned_field(projection.local, matrix, into))


def _turned_field(field: LocalField, turn: FloatArray, into: FloatArray) -> LocalField:
    """Return a local field at the same knots of the turned frame, to first order in height."""
    y, x = np.meshgrid(field.knot_y, field.knot_x, indexing="ij")
    step = 1.0

    def displacement(z: float) -> FloatArray:
        at_x, at_y, at_z = turn @ np.stack([x.ravel(), y.ravel(), np.full(x.size, z)])
        shift, slope = field.at(at_x, at_y)
        moved: FloatArray = np.einsum("tij,tpj->tpi", into, shift + at_z[:, None] * slope)
        return moved.reshape(len(field), *x.shape, 2)

    middle = displacement(0.0)
    return LocalField.create(
        field.knot_y, field.knot_x, middle, (displacement(step) - displacement(-step)) / (2 * step)
    )


def _described(
    placed: xr.Dataset,
    before: xr.Dataset,
    label: str,
    found: list[tuple[str, Slab]],
    margin: float,
    height: float,
) -> xr.Dataset:
    """Return the alignment as it is stored: thickness with its margin, and where all is from."""
    slab = found[-1][1]
    if not np.isfinite(slab.height) or slab.height_error > _UNKNOWN_THICKNESS * slab.height:
        placed = placed.drop_vars("thickness", errors="ignore")
        why = (
            "landmarks of one layer do not tell it"
            if not np.isfinite(slab.height)
            else f"{slab.height:.0f} A is known to {slab.height_error:.0f} A only"
        )
        warnings.warn(
            f"no thickness is stored: {why}; look at a tomogram and give the thickness",
            TomodaskWarning,
            stacklevel=3,
        )
    else:
        placed["thickness"] = placed["thickness"] + 2 * margin
        placed["thickness"].attrs.update(before.get("thickness", placed["thickness"]).attrs)
    placed.attrs = {
        **before.attrs,
        "positioned": {
            "from": label,
            "thickness_margin": float(margin),
            "found": [
                {"by": by, **{key: _plain(value) for key, value in asdict(of).items()}}
                for by, of in found
            ],
        },
        "provenance": provenance(
            "position",
            alignment=label,
            height=float(height),
            margin=float(margin),
            of=before.attrs.get("provenance", {}),
        ),
    }
    return placed


def _plain(value: float) -> float | None:
    """Return what JSON can hold."""
    return round(value, 6) if np.isfinite(value) else None


def _tell(progress: Listener | None, name: str, done: int) -> None:
    if progress is not None:
        kind: Literal["start", "task"] = "task" if done else "start"
        progress(Event(kind=kind, step=f"position {name}", stage="place", done=done, total=1))

"""Alignment of a series without gold, from a coarse one.

The views are whitened and compared with what the most probable specimen, confined to a slab, would
look like in each (``specimen``, ``joint``): first coarsely, then finely sampled. Patches of the
field are then tracked against it (``landmarks``).

References
----------
.. [1] Castano-Diez, D., Scheffer, M., Al-Amoudi, A. and Frangakis, A. S., Alignator: a GPU powered
   software package for robust fiducial-less alignment of cryo tilt-series, J. Struct. Biol. 170
   (2010) 117, doi:10.1016/j.jsb.2010.01.014 (patches tracked by cross-correlation).
.. [2] Zheng, S. et al., AreTomo: An integrated software package for automated marker-free,
   motion-corrected cryo-electron tomographic alignment and reconstruction, J. Struct. Biol. X 6
   (2022) 100068, doi:10.1016/j.yjsbx.2022.100068 (projection matching).
.. [3] Golub, G. and Pereyra, V., Separable nonlinear least squares: the variable projection method
   and its applications, Inverse Problems 19 (2003) R1, doi:10.1088/0266-5611/19/2/201.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tomodask.errors import DataError, ParameterError
from tomodask.kernels.patches.landmarks import Patches, track_patches
from tomodask.kernels.patches.level import Level
from tomodask.kernels.patches.region import region_mask
from tomodask.kernels.patches.slow import solve_slow_modes
from tomodask.kernels.patches.uncertainty import expected_error
from tomodask.kernels.patches.views import Frame, Geometry, Views

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]
    Images = NDArray[np.float32]

__all__ = ["PatchAlignment", "align_patches"]

#: Longer edges of the frames: of slow modes, and of the last steps; and the steps in each.
_COARSE, _FINE = 96, 128
_FIRST_STEPS, _LAST_STEPS = 2, 2
#: A step is the last when no point moves by more than this, pixels of the frame.
_CONVERGED = 0.01


@dataclass(frozen=True, eq=False, slots=True)
class PatchAlignment:
    """What the alignment without gold found.

    Parameters
    ----------
    shift
        (tilt, 2) raw (x, y) of the specimen's origin from the image centre, A.
    tilt_axis_angle
        (tilt,) degrees, counter-clockwise from +y.
    tilt_angle
        (tilt,) degrees, as given: they are not refined.
    found
        (tilt,) bool; false where excluded or without signal: shift and axis are then interpolated
        between neighbours in tilt.
    significance
        (tilt,) standard errors by which a view correlates with a neighbour; 0 where excluded.
    error
        Expected root mean square error of the positions of points in the views, A, but for what
        a displacement of the points in the specimen explains. It holds the noise, the unknown
        specimen, and errors of the tilt angles of the size assumed; it cannot see what all views
        share (distortion, magnification, beam tilt) nor a specimen that moved.
    patches
        The patches as landmarks; see :class:`Patches`.
    """

    shift: FloatArray
    tilt_axis_angle: FloatArray
    tilt_angle: FloatArray
    found: NDArray[np.bool_]
    significance: FloatArray
    error: float
    patches: Patches


def align_patches(
    read: Callable[[int], NDArray[np.generic]],
    tilt_angle: ArrayLike,
    included: ArrayLike,
    *,
    shape: tuple[int, int],
    pixel_size: float,
    tilt_axis_angle: float,
    initial_shift: ArrayLike,
    thickness: float = 1800.0,
    patch: float = 1000.0,
    overlap: float = 0.5,
    tilt_error: float = 0.15,
    region: ArrayLike | None = None,
    seed: int = 0,
) -> PatchAlignment:
    """Align a tilt series by the specimen itself.

    Parameters
    ----------
    read
        Returns the (y, x) image of a view; called once for each included one.
    tilt_angle, included
        (tilt,) degrees and bool.
    shape
        (y, x) pixels of an image.
    pixel_size
        A.
    tilt_axis_angle
        Degrees, counter-clockwise from +y, to within a degree or two.
    initial_shift
        (tilt, 2) raw (x, y) of the specimen's origin, A, to within about 50 A.
    thickness
        Of the slab that holds the specimen, A: rather too much than too little.
    patch, overlap
        Edge of the patches, A, and the fraction that neighbours share.
    tilt_error
        Standard deviation of the errors of the tilt angles that is expected, degrees.
    region
        Part of the specimen to be used, as seen in an untilted view with the origin at the image
        centre: (y, x) bool of the images' shape, or (n, 2) corners x, y in pixels of a polygon
        (two corners: a rectangle).
    seed
        Of the draw from which the error is estimated.

    Returns
    -------
    PatchAlignment

    Raises
    ------
    DataError
        If views cannot be used, or fewer than three hold signal.
    ParameterError
        If a parameter makes no sense.
    """
    angles = np.asarray(tilt_angle, np.float64)
    start = np.array(np.broadcast_to(np.asarray(initial_shift, np.float64), (len(angles), 2)))
    used = np.flatnonzero(np.broadcast_to(np.asarray(included, bool), angles.shape))
    _check(angles, used, start, thickness, patch, overlap)
    mask = None if region is None else region_mask(region, shape)
    views = Views.read(read, [int(v) for v in used], shape, pixel_size, 2 * _FINE)
    axis = np.deg2rad(tilt_axis_angle)
    geometry = Geometry(np.deg2rad(angles), np.full(len(angles), axis), start)

    def level_of(edge: int) -> Level:
        frame = Frame.create(shape, pixel_size, axis, edge)
        return Level(views, frame, thickness, mask, pixel_size, axis)

    coarse = level_of(_COARSE)
    used = coarse.seen(geometry, used)
    geometry, _ = _stepped(coarse, geometry, used, _FIRST_STEPS)
    used = coarse.seen(geometry, used)
    geometry, slow = solve_slow_modes(coarse, geometry, used)
    fine = level_of(_FINE)
    before, used = used, fine.seen(geometry, used)
    slow = slow.kept(np.isin(before, used))
    geometry, sources = _stepped(fine, geometry, used, _LAST_STEPS)
    significance = np.zeros(len(angles))
    significance[used] = fine.significance(geometry, used)
    found = np.zeros(len(angles), bool)
    found[used] = True
    geometry = _interpolated(geometry, found)
    joint = fine.joint(sources)
    error = expected_error(joint, geometry, used, slow, thickness, np.deg2rad(tilt_error), seed)
    patches = track_patches(
        joint,
        fine.whitened,
        sources,
        geometry,
        used,
        patch=patch,
        overlap=overlap,
        mask=mask,
        raw_shape=shape,
        raw_pixel=pixel_size,
    )
    return PatchAlignment(
        shift=geometry.shift,
        tilt_axis_angle=np.rad2deg(geometry.rotation),
        tilt_angle=angles,
        found=found,
        significance=significance,
        error=error,
        patches=patches,
    )


def _stepped(
    level: Level, geometry: Geometry, used: NDArray[np.int64], steps: int
) -> tuple[Geometry, Images]:
    """Return the geometry after some steps, and the most probable sources there."""
    sources: Images | None = None
    for _ in range(steps):
        level.prepare(geometry, used)
        sources = level.concentrate(level.fit(sources))
        geometry, change = level.step(geometry, used, sources)
        if change < _CONVERGED:
            break
    level.prepare(geometry, used)
    return geometry, level.concentrate(level.fit(sources))


def _interpolated(geometry: Geometry, found: NDArray[np.bool_]) -> Geometry:
    """Return the geometry with views that were not found between their neighbours in tilt."""
    known = np.flatnonzero(found)
    known = known[np.argsort(geometry.tilt[known], kind="stable")]
    rotation, shift = geometry.rotation.copy(), geometry.shift.copy()
    at, tilt = geometry.tilt[~found], geometry.tilt[known]
    rotation[~found] = np.interp(at, tilt, rotation[known])
    for axis in (0, 1):
        shift[~found, axis] = np.interp(at, tilt, shift[known, axis])
    return Geometry(geometry.tilt, rotation, shift)


def _check(
    angles: FloatArray,
    used: NDArray[np.int64],
    start: FloatArray,
    thickness: float,
    patch: float,
    overlap: float,
) -> None:
    if len(used) < 3:
        raise DataError(
            f"{len(used)} of {len(angles)} views are included; patches need three or more"
        )
    if not np.isfinite(start[used]).all():
        raise ParameterError("an initial shift is not a finite number: align coarsely first")
    for name, value in (("thickness", thickness), ("patch", patch)):
        if not (np.isfinite(value) and value > 0):
            raise ParameterError(f"{name} {value} A: give a positive number")
    if not 0 <= overlap < 1:
        raise ParameterError(f"overlap {overlap}: give 0 to less than 1")

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
from scipy import ndimage

from tomodask.errors import DataError, ParameterError
from tomodask.kernels.patches.joint import Joint, fit_sources
from tomodask.kernels.patches.landmarks import Patches, track_patches
from tomodask.kernels.patches.region import region_mask
from tomodask.kernels.patches.specimen import Specimen
from tomodask.kernels.patches.spectrum import measure_spectrum
from tomodask.kernels.patches.uncertainty import expected_error
from tomodask.kernels.patches.views import Frame, Geometry, Views

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]
    Images = NDArray[np.float32]

__all__ = ["PatchAlignment", "align_patches"]

#: Longer edges of the frames, and steps in each.
_LEVELS = ((128, 6), (192, 2))
#: Iterations for the sources alone at first, then in each step, and for both.
_FIRST, _SOURCES, _BOTH = 12, 8, 24
#: A step is the last when no point moves by more than this, pixels of the frame.
_CONVERGED = 0.01
#: Standard deviation of the rotations about their mean that is expected, degrees.
_ROTATION = 0.3
#: Steps before which the expected matter is updated, and after which the axis is searched.
_CONCENTRATE, _AXIS_AFTER = 3, 2
#: Its first trial, the number of trials, and how far it may be, degrees.
_TURN, _TURNS, _FARTHEST = 0.5, 3, 3.0
#: Distance, A, over which matter is expected beside matter, and its variance anywhere, relative.
_NEAR, _ANYWHERE = 100.0, 0.05
#: The volume is so much wider than the frame.
_MARGIN = 1.1
#: Standard errors by which a view must correlate with a neighbour to count as found.
_FOUND = 6.0


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
    views = Views.read(read, [int(v) for v in used], shape, pixel_size, 2 * _LEVELS[-1][0])
    geometry = Geometry(
        np.deg2rad(angles), np.full(len(angles), np.deg2rad(tilt_axis_angle)), start
    )
    significance = np.zeros(len(angles))
    sources: Images | None = None
    level: _Level | None = None
    axis_error = 0.0
    for edge, steps in _LEVELS:
        frame = Frame.create(shape, pixel_size, np.deg2rad(tilt_axis_angle), edge)
        if level is not None and frame.pixel_size == level.frame.pixel_size:
            break  # a small field is finely sampled at once
        level = _Level(views, frame, thickness, mask, pixel_size, np.deg2rad(tilt_axis_angle))
        sources = None
        for number in range(steps):
            used, seen = level.prepare(geometry, used)
            significance[:] = 0
            significance[used] = seen
            sources = level.fit(sources)
            if number < _CONCENTRATE:
                sources = level.concentrate(sources)
            if edge == _LEVELS[0][0] and number == _AXIS_AFTER:
                geometry, axis_error = level.axis(geometry, used)
                used, seen = level.prepare(geometry, used)
                sources = level.concentrate(level.fit(None))
            geometry, change = level.step(geometry, used, sources)
            if change < _CONVERGED:
                break
    assert level is not None
    used, seen = level.prepare(geometry, used)
    significance[used] = seen
    sources = level.fit(sources)
    found = np.zeros(len(angles), bool)
    found[used] = True
    geometry = _interpolated(geometry, found)
    joint = level.joint(sources)
    error = expected_error(
        joint, geometry, used, thickness, np.deg2rad(tilt_error), axis_error, seed
    )
    patches = track_patches(
        joint,
        level.whitened,
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


class _Level:
    """The series in one frame: whitened views, and the specimen that they see."""

    def __init__(
        self,
        views: Views,
        frame: Frame,
        thickness: float,
        mask: NDArray[np.bool_] | None,
        raw_pixel: float,
        axis: float,
    ) -> None:
        self.views, self.frame, self.thickness = views, frame, thickness
        self._mask, self._raw_pixel, self._axis = mask, raw_pixel, axis
        self._amplitude: Images | None = None
        self._depth = max(3, round(thickness / frame.pixel_size))
        self._width = 2 * int(frame.shape[0] * _MARGIN / 2)
        half_edge = frame.longest / 2
        rotation = 1 / (np.deg2rad(_ROTATION) * half_edge) ** 2
        self._precision = np.array([1e-4, 1e-4, rotation])

    def prepare(
        self, geometry: Geometry, used: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], FloatArray]:
        """Whiten the views in a geometry; return those with signal, and their significance."""
        tilt = geometry.tilt[used]
        side = (self._width - 1) / 2 * self.frame.pixel_size
        reach = side * np.cos(tilt) - self.thickness / 2 * np.abs(np.sin(tilt))
        spectrum = measure_spectrum(self.views, self.frame, geometry, used, self.thickness, reach)
        good = spectrum.significance > _FOUND
        if np.count_nonzero(good) < 3:
            raise DataError(
                f"{np.count_nonzero(good)} of {len(used)} views hold anything that their "
                "neighbours show, too: check the coarse alignment and the region, exclude empty "
                "views, or align by the stage's positions"
            )
        if not good.all():
            return self.prepare(geometry, used[good])
        frame = self.frame
        weights = np.stack(
            [
                self.views.weight(int(v), frame, geometry, r) * self._inside(frame, t)
                for v, r, t in zip(used, reach, tilt, strict=True)
            ]
        )
        whitening = (1 / np.sqrt(spectrum.noise)).astype(np.float32)[frame.ring]
        images = np.stack([self.views.sampled(int(v), frame, geometry) for v in used])
        whitened = frame.images(frame.spectra(images) * whitening) * weights
        self.whitened = whitened / np.sqrt(spectrum.scale).astype(np.float32)[:, None, None]
        self.specimen = Specimen(frame, self._depth, self._width, tilt, spectrum, weights)
        if self._amplitude is not None:
            self.specimen.amplitude = self._amplitude
        return used, spectrum.significance

    def concentrate(self, sources: Images) -> Images:
        """Expect matter where it is found; return the sources of the same density.

        A specimen is not spread evenly. Where the slab is empty, a prior that says so keeps the
        views' noise out of the reference.
        """
        density = sources * self.specimen.amplitude
        power = ndimage.gaussian_filter(
            density**2, _NEAR / self.frame.pixel_size, mode="constant", truncate=2.5
        )
        above = np.maximum(power - np.median(power), 0)
        amplitude = np.sqrt(above / max(float(above.mean()), 1e-30) + _ANYWHERE)
        self._amplitude = self.specimen.amplitude = amplitude.astype(np.float32)
        return self.fit((density / amplitude).astype(np.float32))

    def slope(
        self, geometry: Geometry, used: NDArray[np.int64], turned: float
    ) -> tuple[float, float]:
        """Return the log-likelihood's slope by the axis, turned by radians, and its variance.

        Each trial makes its own specimen: one made before would favour where it was made.
        """
        views = len(used)
        self._amplitude = None
        self.prepare(geometry.moved(used, np.zeros((views, 2)), np.full(views, turned)), used)
        sources = self.fit(None)
        for _ in range(_CONCENTRATE - 1):
            sources = self.concentrate(sources)
        joint = self.joint(sources)
        residual = self.whitened - self.specimen.views(sources)
        return joint.turning(residual), joint.turning_power

    def axis(self, geometry: Geometry, used: NDArray[np.int64]) -> tuple[Geometry, float]:
        """Return the geometry at the most probable axis, and the error of that, radians.

        The reference turns with the views nearly unseen, so that the equations' own step is far
        too short: the root of the slope is found by the secant instead. The reference's own noise
        adds to the slope's variance and not to its change: the error is the one over the other.
        """
        tried = [0.0]
        first, variance = self.slope(geometry, used, 0.0)
        slopes = [first]
        ahead = np.sign(slopes[0]) * np.deg2rad(_TURN)
        for _ in range(_TURNS):
            tried.append(float(np.clip(ahead, -np.deg2rad(_FARTHEST), np.deg2rad(_FARTHEST))))
            slope, variance = self.slope(geometry, used, tried[-1])
            slopes.append(slope)
            line = np.polyfit(tried, slopes, 1)
            ahead = (
                -line[1] / line[0]
                if line[0] < 0
                else tried[-1] + np.deg2rad(_TURN) * np.sign(slopes[-1])
            )
        ahead = float(np.clip(ahead, -np.deg2rad(_FARTHEST), np.deg2rad(_FARTHEST)))
        error = np.sqrt(variance) / max(-float(line[0]), 1e-9)
        error = min(float(error), np.deg2rad(_FARTHEST))
        return geometry.moved(used, np.zeros((len(used), 2)), np.full(len(used), ahead)), error

    def fit(self, sources: Images | None) -> Images:
        """Return the most probable sources, starting from some."""
        if sources is None:
            nothing = np.zeros(self.specimen.shape, np.float32)
            return fit_sources(self.specimen, self.whitened, nothing, _FIRST)
        return fit_sources(self.specimen, self.whitened, sources, _SOURCES)

    def joint(self, sources: Images) -> Joint:
        """Return the equations of sources and geometry."""
        return Joint(self.specimen, sources, self._precision)

    def step(
        self, geometry: Geometry, used: NDArray[np.int64], sources: Images
    ) -> tuple[Geometry, float]:
        """Return a better geometry, and by how many pixels points move at most."""
        joint = self.joint(sources)
        half_edge = self.frame.longest / 2
        rotation = geometry.rotation[used]
        deviation = np.zeros((len(used), 3))
        deviation[:, 2] = (rotation - rotation.mean()) * half_edge
        right = joint.right_side(self.whitened - self.specimen.views(sources), deviation)
        solved = joint.solve(right, _BOTH)
        move = solved.geometry.copy()
        move[:, 2] += solved.turn
        moved = geometry.moved(used, move[:, :2] * self.frame.pixel_size, move[:, 2] / half_edge)
        return moved, float(np.abs(move).max())

    def _inside(self, frame: Frame, tilt: float) -> Images | np.float32:
        """Return (u, v) which beams pass through the region, in the plane of the tilt axis."""
        if self._mask is None:
            return np.float32(1)
        # The region is given for an untilted view; it lies there as the coarse axis says.
        return _seen_region(self._mask, frame, tilt, self._raw_pixel, self._axis)


def _seen_region(
    mask: NDArray[np.bool_], frame: Frame, tilt: float, raw_pixel: float, axis: float
) -> Images:
    x = frame.u[:, None] * frame.pixel_size / np.cos(tilt)
    y = frame.v[None, :] * frame.pixel_size
    cos, sin = np.cos(axis), np.sin(axis)
    column = np.rint((cos * x - sin * y) / raw_pixel + (mask.shape[1] - 1) / 2).astype(np.int64)
    row = np.rint((sin * x + cos * y) / raw_pixel + (mask.shape[0] - 1) / 2).astype(np.int64)
    inside = (column >= 0) & (column < mask.shape[1]) & (row >= 0) & (row < mask.shape[0])
    seen = mask[np.clip(row, 0, mask.shape[0] - 1), np.clip(column, 0, mask.shape[1] - 1)]
    region: Images = (inside & seen).astype(np.float32)
    return region


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

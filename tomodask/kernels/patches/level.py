"""The series in one frame: whitened views, the specimen that they see, and steps of both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from tomodask.errors import DataError
from tomodask.kernels.patches.joint import Joint, fit_sources
from tomodask.kernels.patches.specimen import Specimen
from tomodask.kernels.patches.spectrum import measure_spectrum

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomodask.kernels.patches.spectrum import Spectrum
    from tomodask.kernels.patches.views import Frame, Geometry, Views

    FloatArray = NDArray[np.float64]
    Images = NDArray[np.float32]

__all__ = ["CONCENTRATE", "Level"]

#: Iterations for the sources alone, and for both.
_SOURCES, _BOTH = 25, 24
#: Rounds of fitting the sources before which the expected matter is updated.
CONCENTRATE = 3
#: Standard deviation of the rotations about their mean that is expected, degrees.
_ROTATION = 0.3
#: Distance, A, over which matter is expected beside matter, and its variance anywhere, relative.
_NEAR, _ANYWHERE = 100.0, 0.05
#: The volume is so much wider than the frame.
_MARGIN = 1.1
#: Standard errors by which a view must correlate with a neighbour to count as found.
_FOUND = 6.0


class Level:
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
        self.whitened: Images
        self.specimen: Specimen
        self.information: FloatArray
        self._amplitude: Images | None = None
        self._depth = max(3, round(thickness / frame.pixel_size))
        self._width = 2 * int(frame.shape[0] * _MARGIN / 2)
        half_edge = frame.longest / 2
        rotation = 1 / (np.deg2rad(_ROTATION) * half_edge) ** 2
        self._precision = np.array([1e-4, 1e-4, rotation])

    def seen(self, geometry: Geometry, used: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the views with signal.

        Raises
        ------
        DataError
            If fewer than three have.
        """
        while True:
            significance = self.significance(geometry, used)
            good = significance > _FOUND
            if np.count_nonzero(good) < 3:
                raise DataError(
                    f"{np.count_nonzero(good)} of {len(used)} views hold anything that their "
                    "neighbours show, too: check the coarse alignment and the region, exclude "
                    "empty views, or align by the stage's positions"
                )
            if good.all():
                return used
            used = used[good]

    def significance(self, geometry: Geometry, used: NDArray[np.int64]) -> FloatArray:
        """Return by how many standard errors views correlate with a neighbour."""
        return self._spectrum(geometry, used)[0].significance

    def _spectrum(self, geometry: Geometry, used: NDArray[np.int64]) -> tuple[Spectrum, FloatArray]:
        """Return the spectrum in a geometry, and how far from the axis beams may lie."""
        tilt = geometry.tilt[used]
        side = (self._width - 1) / 2 * self.frame.pixel_size
        reach = side * np.cos(tilt) - self.thickness / 2 * np.abs(np.sin(tilt))
        args = (self.views, self.frame, geometry, used, self.thickness, reach)
        return measure_spectrum(*args), reach

    def prepare(self, geometry: Geometry, used: NDArray[np.int64]) -> None:
        """Whiten the views in a geometry."""
        tilt = geometry.tilt[used]
        spectrum, reach = self._spectrum(geometry, used)
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

    def slopes(self, geometry: Geometry, used: NDArray[np.int64], strips: int) -> FloatArray:
        """Return the log-likelihood's (strip, view, 3) slopes by the views' geometry.

        They are by shifts along u and v and by a rotation, pixels (of the latter at half an
        edge), each for strips of the field across the tilt axis, which see nothing in common.
        The specimen is made anew: one made elsewhere would favour where it was made. How much of
        the views' power it explains is kept as ``explained``: with the noise white it is, but for
        a constant, twice the logarithm of the likelihood.
        """
        self._amplitude = None
        self.prepare(geometry, used)
        sources = self.fit(None)
        for _ in range(CONCENTRATE - 1):
            sources = self.concentrate(sources)
        joint = self.joint(sources)
        self.information = joint.information
        seen = self.specimen.views(sources)
        self.explained = float(np.vdot(self.whitened, seen))
        residual = self.whitened - seen
        pull = np.sum(joint.derivatives * residual[:, None], axis=2, dtype=np.float64)
        return np.stack([part.sum(axis=2) for part in np.array_split(pull, strips, axis=2)])

    def fit(self, sources: Images | None) -> Images:
        """Return the most probable sources, starting from some."""
        if sources is None:
            nothing = np.zeros(self.specimen.shape, np.float32)
            return fit_sources(self.specimen, self.whitened, nothing, _SOURCES)
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

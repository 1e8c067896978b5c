"""Displacements between the views of a tilt series by cross-correlation.

One view is mapped onto the plane of another by the affine that relates their tilts (cosine
stretching), both spectra are whitened, their product is weighted by how coherent the two are
expected to be, and the peak of its transform is fitted below the pixel.

The weight is that of the generalised correlation method: with a coherence c(k) between two views
the maximum-likelihood displacement weights the whitened cross-spectrum by ``c / (1 - c^2)``. The
coherence has two factors. One depends on the frequency's length and is measured on the series
itself. The other is geometry: matter at height z moves by ``z cos t (tan t - tan t')`` across the
tilt axis when a view of tilt t' is stretched to tilt t, so that matter spread evenly over a
thickness T keeps the coherence ``sinc(k_u T cos t (tan t - tan t'))``. Correlating with the sum of
views so weighted is correlating with the reprojection of their back-projection into a slab of
that thickness.

References
----------
.. [1] Guckenberger, R., Determination of a common origin in the micrographs of tilt series,
   Ultramicroscopy 9 (1982) 167, doi:10.1016/0304-3991(82)90239-8 (cosine stretching).
.. [2] Knapp, C. and Carter, G., The generalized correlation method for estimation of time delay,
   IEEE Trans. Acoust. Speech Signal Process. 24 (1976) 320, doi:10.1109/TASSP.1976.1162830.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import scipy.fft

from tomodask.kernels.resample import resample, spline_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomodask.kernels.resample import SplineImage

    FloatArray = NDArray[np.float64]
    Spectrum = NDArray[np.complex64]

__all__ = [
    "Peak",
    "Plane",
    "coherence_weight",
    "find_peak",
    "overlap_correlation",
    "stretch_matrix",
    "without_hot_pixels",
]

#: A pixel is hot when it exceeds all but the _CLUSTER brightest of the 5 x 5 around it by this many
#: standard deviations of the image's own noise.
_HOT_PIXEL, _CLUSTER = 8.0, 5
#: Coherences above this weigh as this much: the weight has a pole at 1.
_COHERENCE_LIMIT = 0.9
#: The taper at the images' edges is this fraction of the shorter edge wide.
_TAPER = 12


def without_hot_pixels(image: NDArray[np.generic]) -> NDArray[np.float32]:
    """Return an image whose isolated bright pixels are replaced by their surroundings.

    Hot pixels and X-rays stand at the same place in every view or dominate its variance; either
    way they pull a correlation to where the specimen is not. Extended bright matter stays.

    Parameters
    ----------
    image
        (y, x), any real dtype.

    Returns
    -------
    (y, x) float32, a copy.
    """
    clean = np.array(image, np.float32)
    # Differences of neighbours measure the noise, whatever the specimen's contrast.
    step = np.abs(np.diff(clean[::4], axis=1))
    noise = float(np.median(step)) * 1.4826 / np.sqrt(2)
    if noise == 0:
        noise = float(step.std())
    rows, columns = np.nonzero(clean > np.median(clean[::4, ::4]) + _HOT_PIXEL * noise)
    if not len(rows):
        return clean
    # Reflected at the edges, so that no pixel is its own neighbour.
    reach = np.arange(-2, 3)
    last_y, last_x = clean.shape[0] - 1, clean.shape[1] - 1
    around_y = last_y - np.abs(last_y - np.abs(rows[:, None, None] + reach[:, None]))
    around_x = last_x - np.abs(last_x - np.abs(columns[:, None, None] + reach[None, :]))
    around = np.sort(clean[around_y, around_x].reshape(len(rows), -1), axis=1)
    hot = clean[rows, columns] - around[:, -1 - _CLUSTER] > _HOT_PIXEL * noise
    clean[rows[hot], columns[hot]] = around[hot, around.shape[1] // 2]
    return clean


def stretch_matrix(tilt_axis_angle: float, tilt: float, onto: float) -> FloatArray:
    """Return the (2, 2) map of raw (x, y) from a view of tilt `onto` to a view of tilt `tilt`.

    On the plane of the tilt axis, positions across the axis scale with the cosine of the tilt.
    Angles in degrees.
    """
    angle = np.deg2rad(tilt_axis_angle)
    across = np.array([np.cos(angle), np.sin(angle)])
    ratio = np.cos(np.deg2rad(tilt)) / np.cos(np.deg2rad(onto))
    matrix: FloatArray = np.eye(2) + (ratio - 1) * np.outer(across, across)
    return matrix


@dataclass(frozen=True, eq=False, slots=True)
class Plane:
    """The pixels on which the views of a series are correlated, and their frequencies.

    Build it with :meth:`create`.

    Parameters
    ----------
    raw_shape, raw_pixel_size
        (y, x) pixels of the raw images, and their size, A.
    shape, pixel_size
        (y, x) pixels of the plane, and their size, A.
    padded
        (y, x) of the transform.
    fy, fx
        (y, 1) and (1, x) frequencies of the half spectrum, cycles per pixel, float32.
    ring
        (y, x) int64: the ring of each frequency, one Fourier pixel of the longer edge wide.
    """

    raw_shape: tuple[int, int]
    raw_pixel_size: float
    shape: tuple[int, int]
    pixel_size: float
    padded: tuple[int, int]
    fy: NDArray[np.float32]
    fx: NDArray[np.float32]
    ring: NDArray[np.int64]

    @classmethod
    def create(cls, raw_shape: tuple[int, int], pixel_size: float, longest_edge: int) -> Self:
        """Return the plane of images binned until no edge exceeds `longest_edge` pixels."""
        binning = max(1.0, max(raw_shape) / longest_edge)
        shape = (int(raw_shape[0] / binning), int(raw_shape[1] / binning))
        padded = tuple(int(scipy.fft.next_fast_len(n, real=True)) for n in shape)
        fy = scipy.fft.fftfreq(padded[0]).astype(np.float32)[:, None]
        fx = scipy.fft.rfftfreq(padded[1]).astype(np.float32)[None, :]
        ring = np.rint(np.hypot(fy, fx) * max(padded)).astype(np.int64)
        return cls(
            raw_shape=raw_shape,
            raw_pixel_size=float(pixel_size),
            shape=shape,
            pixel_size=float(pixel_size * binning),
            padded=(padded[0], padded[1]),
            fy=fy,
            fx=fx,
            ring=ring,
        )

    @property
    def ring_frequency(self) -> FloatArray:
        """(ring,) frequency of the rings, cycles per pixel."""
        return np.arange(int(self.ring.max()) + 1) / max(self.padded)

    def ring_sums(self, values: NDArray[np.float32]) -> FloatArray:
        """Return the (ring,) sums of (y, x) values of the half spectrum."""
        return np.bincount(self.ring.ravel(), values.ravel()).astype(np.float64)

    def view(self, image: NDArray[np.generic]) -> SplineImage:
        """Return the spline coefficients of a raw image, tapered and low-passed for the plane."""
        return spline_image(
            image,
            binning=self.pixel_size / self.raw_pixel_size,
            taper=max(4, min(self.raw_shape) // _TAPER),
        )

    def image(
        self, view: SplineImage, matrix: FloatArray, shift: FloatArray
    ) -> NDArray[np.float32]:
        """Return a view mapped onto the plane: (y, x) float32, zero outside of the view.

        Parameters
        ----------
        view
            From :meth:`view`.
        matrix, shift
            (2, 2) and (2,): the plane's (x, y) position p shows the view's ``matrix p + shift``,
            both in A from their centres.
        """
        raw_centre = (np.array(self.raw_shape[::-1]) - 1) / 2
        centre = (np.array(self.shape[::-1]) - 1) / 2
        step = matrix * (self.pixel_size / self.raw_pixel_size)
        first = shift / self.raw_pixel_size + raw_centre - step @ centre
        out = np.empty((1, *self.shape), np.float32)
        resample(
            view,
            first=(first[1], first[0]),
            step=(step[1, 1], step[0, 1]),
            lane_step=(step[1, 0], step[0, 0]),
            out=out,
        )
        mapped: NDArray[np.float32] = out[0]
        return mapped

    def whitened(self, image: NDArray[np.float32]) -> Spectrum:
        """Return the half spectrum of a (y, x) image, of unit mean power on every ring."""
        spectrum: Spectrum = scipy.fft.rfft2(image, s=self.padded, workers=1)
        count = np.bincount(self.ring.ravel())
        power = self.ring_sums(spectrum.real**2 + spectrum.imag**2) / count
        scale = 1 / np.sqrt(np.maximum(power, np.finfo(np.float32).tiny))
        spectrum *= scale.astype(np.float32)[self.ring]
        return spectrum

    def correlation(self, product: Spectrum) -> NDArray[np.float32]:
        """Return the (y, x) correlation of a cross-spectrum; displacement 0 lies at [0, 0]."""
        result: NDArray[np.float32] = scipy.fft.irfft2(product, s=self.padded, workers=1)
        return result

    def depth_coherence(
        self, tilt_axis_angle: float, tilt: float, onto: float, thickness: float
    ) -> NDArray[np.float32]:
        """Return the coherence that matter spread over a thickness leaves between two tilts.

        Parameters
        ----------
        tilt_axis_angle, tilt, onto
            The view of tilt `tilt` is stretched to the tilt `onto`; degrees.
        thickness
            A.

        Returns
        -------
        (y, x) float32 of the half spectrum.
        """
        axis, t, s = np.deg2rad([tilt_axis_angle, onto, tilt])
        spread = thickness / self.pixel_size * np.cos(t) * (np.tan(t) - np.tan(s))
        across = self.fx * np.float32(np.cos(axis)) + self.fy * np.float32(np.sin(axis))
        coherence: NDArray[np.float32] = np.sinc(across * np.float32(spread))
        return coherence


@dataclass(frozen=True, slots=True)
class Peak:
    """The highest point of a correlation.

    Parameters
    ----------
    displacement
        (x, y) pixels.
    significance
        Its height in standard deviations of the correlation.
    evidence
        ``significance^2 / 2`` less what the prior takes off for the distance.
    error
        (x, y) standard error of the displacement that the correlation's noise leaves, pixels. The
        specimen's own structure counts as noise, so that it is an upper estimate.
    """

    displacement: tuple[float, float]
    significance: float
    evidence: float
    error: tuple[float, float]


def find_peak(
    correlation: NDArray[np.float32],
    *,
    drift: float,
    limit: tuple[float, float],
) -> Peak:
    """Return the most probable displacement under a prior for short ones.

    For an unknown amplitude the log-likelihood of a displacement is half the squared height of
    the correlation in standard deviations. The prior is a two-dimensional Cauchy distribution:
    it tips the balance between peaks near the noise and does not stop a strong one anywhere.

    Parameters
    ----------
    correlation
        (y, x), displacement 0 at [0, 0], wrapping around.
    drift
        Scale of the prior, pixels.
    limit
        Largest (x, y) displacement, pixels.
    """
    height, width = correlation.shape
    reach_x = min(int(limit[0]), (width - 3) // 2)
    reach_y = min(int(limit[1]), (height - 3) // 2)
    y, x = np.arange(-reach_y, reach_y + 1), np.arange(-reach_x, reach_x + 1)
    deviation = float(correlation.std())
    if deviation == 0:
        return Peak((0.0, 0.0), 0.0, 0.0, (np.inf, np.inf))
    near = correlation[np.ix_(y, x)] / np.float32(deviation)
    squared = (y[:, None] ** 2 + x[None, :] ** 2) / drift**2
    evidence = 0.5 * near * np.abs(near) - 1.5 * np.log1p(squared)
    row, column = np.unravel_index(int(np.argmax(evidence)), evidence.shape)
    top, left = int(y[row]), int(x[column])
    around = np.arange(-1, 2)
    box = correlation[np.ix_(top + around, left + around)].astype(np.float64) / deviation
    offset, curvature = _parabola(box)
    slope = [float(np.std(np.diff(correlation, axis=axis))) / deviation for axis in (1, 0)]
    return Peak(
        displacement=(left + offset[0], top + offset[1]),
        significance=float(near[row, column]),
        evidence=float(evidence[row, column]),
        error=(slope[0] / curvature[0], slope[1] / curvature[1]),
    )


def _parabola(box: FloatArray) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the (x, y) summit of a 3 x 3 box from its middle, and the downward curvatures."""
    gradient = np.array([box[1, 2] - box[1, 0], box[2, 1] - box[0, 1]]) / 2
    xx = box[1, 2] + box[1, 0] - 2 * box[1, 1]
    yy = box[2, 1] + box[0, 1] - 2 * box[1, 1]
    xy = (box[2, 2] + box[0, 0] - box[2, 0] - box[0, 2]) / 4
    if xx >= 0 or yy >= 0 or xx * yy - xy**2 <= 0:  # on a slope, where the prior put it
        return (0.0, 0.0), (1e-9, 1e-9)
    offset = np.clip(-np.linalg.solve(np.array([[xx, xy], [xy, yy]]), gradient), -1, 1)
    return (float(offset[0]), float(offset[1])), (-float(xx), -float(yy))


def coherence_weight(coherence: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the weight of a whitened cross-spectrum for the coherence expected there."""
    limited = np.clip(coherence, -_COHERENCE_LIMIT, _COHERENCE_LIMIT)
    weight: NDArray[np.float32] = limited / (1 - limited**2)
    return weight


def overlap_correlation(image: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return the correlation coefficient of two (y, x) images where neither is exactly zero.

    Zero stands for "outside". Without an overlap of two pixels, or of constant images, it is 0.
    """
    inside = (image != 0) & (other != 0)
    if np.count_nonzero(inside) < 2:
        return 0.0
    a, b = image[inside].astype(np.float64), other[inside].astype(np.float64)
    a -= a.mean()
    b -= b.mean()
    norm = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / norm) if norm > 0 else 0.0

"""The search for frame shifts near enough to refine.

The likelihood has many maxima as long as frames are pixels apart. Here every frame has a belief
about its shift, a mean and a variance. In turn, each is correlated with the sum of the others, each
of those put where it is believed to be and damped by how unsure that is, which is the mean-field
approximation of the joint posterior: at first only low frequencies, and the frames that are sure
of themselves, count. The correlation is in units of log-likelihood, so that its exponential is the
new belief. Neighbours in time draw a frame to them by a heavy-tailed prior, which lets jumps be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.fft

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomodask.kernels.frame_spectra import FrameSpectra

    FloatArray = NDArray[np.float64]

__all__ = ["WIDELY", "search_shifts"]

#: Samples of the correlation per sample of the band.
_OVERSAMPLING = 2
#: Scale of the step between neighbours, pixels.
_STEP = 2.0
#: How far from none shifts are thought to be where nothing is known, pixels.
WIDELY = 4.0


def search_shifts(
    spectra: FrameSpectra,
    weight: NDArray[np.float32],
    *,
    max_shift: float,
    start: FloatArray | None = None,
    deviation: float = WIDELY,
    sweeps: int = 6,
) -> FloatArray:
    """Return (frame, 2) shifts, pixels, within a pixel or so of the most probable ones.

    Parameters
    ----------
    spectra
        Of the frames, cropped to the band that is searched.
    weight
        (ring,) of the aligned sum's power in the log-likelihood.
    max_shift
        Largest shift against the sum, pixels.
    start
        (frame, 2) shifts to start from.
    deviation
        How far from none the shifts are thought to be without a start, pixels.
    sweeps
        Most rounds over all frames.
    """
    count = len(spectra)
    grid = _Grid(spectra, max_shift)
    table = weight[spectra.ring]
    transforms = [spectra.real[i] + 1j * spectra.imaginary[i] for i in range(count)]
    mean = np.zeros((count, 2)) if start is None else start.copy()
    variance = np.full(count, deviation**2 if start is None else min(_STEP, deviation) ** 2)
    placed = [_placed(spectra, transforms[i], mean[i], variance[i]) for i in range(count)]
    total = np.sum(placed, axis=0)
    for _ in range(sweeps):
        before = mean.copy()
        for i in range(count):
            total -= placed[i]
            belief = grid.log_likelihood(transforms[i] * np.conj(total) * table)
            for j in (i - 1, i + 1):
                if 0 <= j < count:
                    belief -= 1.5 * np.log1p(
                        grid.squared_distance(mean[j]) / (_STEP**2 + variance[j])
                    )
            mean[i], variance[i] = grid.moments(belief)
            placed[i] = _placed(spectra, transforms[i], mean[i], variance[i])
            total += placed[i]
        if np.abs(mean - before).max() < grid.step.max() / 4:
            break
    centred: FloatArray = mean - mean.mean(axis=0)
    return centred


def _placed(
    spectra: FrameSpectra, transform: NDArray[np.complex64], mean: FloatArray, variance: float
) -> NDArray[np.complex64]:
    """Return a transform shifted back by `mean` and blurred by `variance`."""
    y, x = spectra.phases(mean[None])
    y *= np.exp(-2 * np.pi**2 * variance * spectra.fy**2)
    x *= np.exp(-2 * np.pi**2 * variance * spectra.fx**2)
    placed: NDArray[np.complex64] = transform * x
    placed *= y[0][:, None]
    return placed


class _Grid:
    """The shifts at which the log-likelihood is sampled."""

    def __init__(self, spectra: FrameSpectra, max_shift: float) -> None:
        self.cropped = spectra.cropped
        self.size = tuple(
            int(scipy.fft.next_fast_len(_OVERSAMPLING * n, real=True)) for n in spectra.cropped
        )
        self.step = np.array(spectra.shape) / self.size
        reach = [
            min(n // 2 - 1, int(max_shift / d)) for n, d in zip(self.size, self.step, strict=True)
        ]
        self.rows, self.columns = (np.arange(-r, r + 1) for r in reach)
        self.y, self.x = self.rows * self.step[0], self.columns * self.step[1]

    def log_likelihood(self, product: NDArray[np.complex64]) -> FloatArray:
        """Return the transform of a weighted cross-spectrum on the grid."""
        padded = np.zeros((self.size[0], product.shape[1]), np.complex64)
        upper = (self.cropped[0] + 1) // 2
        padded[:upper] = product[:upper]
        padded[self.size[0] - (self.cropped[0] - upper) :] = product[upper:]
        # Only the rows within reach are transformed along x.
        rows = scipy.fft.ifft(padded, axis=0, workers=1, norm="forward")[self.rows]
        full = scipy.fft.irfft(rows, self.size[1], axis=1, workers=1, norm="forward")
        values: FloatArray = full[:, self.columns].astype(np.float64)
        return values

    def squared_distance(self, place: FloatArray) -> FloatArray:
        """Return the squared distances of the grid's points from a shift, pixels^2."""
        squared: FloatArray = ((self.y - place[0]) ** 2)[:, None] + (self.x - place[1]) ** 2
        return squared

    def moments(self, log: FloatArray) -> tuple[FloatArray, float]:
        """Return the mean and the variance along an axis of exp(log)."""
        density = np.exp(log - log.max())
        density /= density.sum()
        rows, columns = density.sum(axis=1), density.sum(axis=0)
        mean = np.array([rows @ self.y, columns @ self.x])
        spread = rows @ (self.y - mean[0]) ** 2 + columns @ (self.x - mean[1]) ** 2
        variance = float(spread / 2)
        if variance < (self.step**2).mean() / 4:  # less than the grid resolves: a parabola
            row, column = np.unravel_index(int(np.argmax(log)), log.shape)
            mean[0] = self.y[row] + self.step[0] * _summit(log[:, column], int(row))
            mean[1] = self.x[column] + self.step[1] * _summit(log[row], int(column))
        return mean, variance + float((self.step**2).mean()) / 100


def _summit(curve: FloatArray, at: int) -> float:
    """Return how far from index `at`, its highest, the summit of a curve lies, in samples."""
    if not 0 < at < len(curve) - 1:
        return 0.0
    left, middle, right = curve[at - 1 : at + 2]
    bend = left + right - 2 * middle
    return float((left - right) / (2 * bend)) if bend < 0 else 0.0

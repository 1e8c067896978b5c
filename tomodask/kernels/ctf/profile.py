"""The oscillation of a view along equal phase, and how far it is seen.

References
----------
.. [1] Rohou, A. and Grigorieff, N., CTFFIND4: Fast and accurate defocus estimation from electron
   micrographs, J. Struct. Biol. 192 (2015) 216, doi:10.1016/j.jsb.2015.08.008 (average along equal
   phase).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tomodask.kernels._jit import njit
from tomodask.kernels.ctf.background import tile_levels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomodask.kernels.ctf.background import Oscillation
    from tomodask.kernels.ctf.likelihood import Focus
    from tomodask.kernels.ctf.rings import Rings
    from tomodask.kernels.ctf.spectra import TileSpectra

    FloatArray = NDArray[np.float64]

__all__ = ["Profile", "profile"]

#: The local correlation looks at least at so many rings to either side, and at one oscillation.
_REACH = 6
#: Rings are followed as far as the local correlation is beyond so many standard deviations of
#: what noise correlates.
_SIGNIFICANT = 3.0


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """A view's power along equal phase.

    Parameters
    ----------
    power, model, match
        (ring,): power over background less one, the same of the model, and their local
        correlation. NaN where nothing falls.
    resolution
        To which the rings are followed, A.
    score
        Correlation of power and model up to there.
    """

    power: FloatArray
    model: FloatArray
    match: FloatArray
    resolution: float
    score: float


def profile(
    spectra: TileSpectra,
    view: Oscillation,
    rings: Rings,
    mean: FloatArray,
    height: FloatArray,
    contrast: FloatArray,
    focus: Focus,
    noise: float,
) -> Profile:
    """Average a view along equal phase: each cell goes to the ring of its phase at mean defocus.

    Parameters
    ----------
    spectra, view
        Of the view.
    rings
        The cells.
    mean
        (sector, ring) background.
    height
        (tile,) what the defocus of a tile is larger by, A.
    contrast
        (ring,) of the view's oscillation.
    focus
        Of the view.
    noise
        Variance of cells over what it should be.
    """
    size = len(rings.frequency)
    sums = np.zeros((3, size))
    seen = contrast * view.seen(rings, focus.defocus)
    _along_phase(
        spectra.power[:, :, rings.used],
        tile_levels(spectra, rings, mean),
        view.samples,
        rings.frequency,
        focus.defocus + height[:, None] + np.asarray(focus.astigmatism) @ rings.turns,
        focus.defocus,
        float(rings.optics.wavelength),
        float(rings.optics.aberration * rings.optics.wavelength**2 / 2),
        2 * float(rings.optics.phase(0.0, 0.0, focus.phase_shift)),
        seen,
        sums,
    )
    weight = sums[0]
    with np.errstate(invalid="ignore", divide="ignore"):
        power, model = sums[1:] / weight
    filled = [np.where(weight > 0, each, 0.0) for each in (power, model)]
    match, deviate, expected = _local(rings, focus.defocus, weight / noise, *filled)
    start = int(np.argmax(expected))
    lost = np.flatnonzero(deviate[start:] < _SIGNIFICANT)
    last = start + (int(lost[0]) if len(lost) else size - start) - 1
    last = last if last >= start else 0
    part = slice(0, max(last + 1, min(size, 2 * _REACH)))
    return Profile(
        power,
        model,
        np.where(weight > 0, match, np.nan),
        float(1 / rings.frequency[last]),
        _correlation(weight[part], filled[0][part], filled[1][part]),
    )


def _correlation(weight: FloatArray, a: FloatArray, b: FloatArray) -> float:
    norm = np.sqrt(float(weight @ a**2) * float(weight @ b**2))
    return float(weight @ (a * b)) / norm if norm > 0 else 0.0


def _local(
    rings: Rings, defocus: float, weight: FloatArray, power: FloatArray, model: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the local correlation, and its deviation and expected one in units of noise's."""
    size = len(weight)
    phase = rings.phase(defocus, 0.0)
    slope = np.maximum(np.abs(np.gradient(phase)), 1e-6)
    reach = np.minimum(np.maximum(_REACH, np.ceil(2 * np.pi / slope)), size // 4).astype(int)
    low = np.maximum(np.arange(size) - reach, 0)
    high = np.minimum(np.arange(size) + reach + 1, size)
    sums = []
    for values in (weight * power * model, weight * power**2, weight * model**2):
        total = np.concatenate([[0.0], np.cumsum(values)])
        sums.append(total[high] - total[low])
    common, of_power, of_model = sums
    # Differences of running sums are rounded: where the model is nothing, nothing agrees with it.
    common[of_model <= 1e-9 * of_model.max()] = 0
    of_model, of_power = np.maximum(of_model, 1e-30), np.maximum(of_power, 1e-30)
    match = np.clip(common / np.sqrt(of_power * of_model), -1, 1)
    return match, common / np.sqrt(of_model), np.sqrt(of_model)


@njit
def _along_phase(
    power: NDArray[np.float32],
    scale: NDArray[np.float32],
    samples: FloatArray,
    frequency: FloatArray,
    local: FloatArray,
    defocus: float,
    wavelength: float,
    bend: float,
    constant: float,
    contrast: FloatArray,
    sums: FloatArray,
) -> None:
    """Add cells (tile, sector, ring) to weight, power and model of the rings of their phase."""
    size = len(frequency)
    step = (frequency[size - 1] - frequency[0]) / (size - 1)
    for t in range(power.shape[0]):
        for s in range(power.shape[1]):
            for r in range(size):
                squared = frequency[r] ** 2
                path = squared * (local[t, s] - bend * squared)
                root = defocus**2 - 4 * bend * path
                if root <= 0 or path <= 0:
                    continue
                there = np.sqrt(2 * path / (defocus + np.sqrt(root)))
                place = (there - frequency[0]) / step
                if place < 0 or place >= size - 1:
                    continue
                i = int(place)
                part = place - i
                value = power[t, s, r] * scale[t, s, r] - 1
                model = -contrast[r] * np.cos(2 * np.pi * wavelength * path + constant)
                for j, share in ((i, (1 - part) * samples[s, r]), (i + 1, part * samples[s, r])):
                    sums[0, j] += share
                    sums[1, j] += share * value
                    sums[2, j] += share * model

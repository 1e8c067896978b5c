"""What fitted beads leave of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomodask.kernels._jit import njit
from tomodask.kernels.beads.profile import SAMPLES_PER_PIXEL

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["disc_means", "without_beads"]


@njit
def without_beads(
    image: NDArray[np.float32], places: FloatArray, depth: FloatArray, value: FloatArray
) -> NDArray[np.float32]:
    """Return an image less its beads, at (bead, 2) pixel indices (x, y)."""
    rest = image.copy()
    reach = (len(value) - 2) / SAMPLES_PER_PIXEL
    for bead in range(len(places)):
        cx, cy = places[bead]
        for y in range(max(int(cy - reach), 0), min(int(cy + reach) + 2, image.shape[0])):
            for x in range(max(int(cx - reach), 0), min(int(cx + reach) + 2, image.shape[1])):
                at = np.sqrt((x - cx) ** 2 + (y - cy) ** 2) * SAMPLES_PER_PIXEL
                k = int(at)
                if k + 1 < len(value):
                    rest[y, x] += depth[bead] * (value[k] + (at - k) * (value[k + 1] - value[k]))
    return rest


@njit
def disc_means(
    image: NDArray[np.float32], places: FloatArray, offsets: FloatArray, radius: float
) -> FloatArray:
    """Return (bead, offset) means of discs at offsets (x, y) from places; infinite if outside."""
    means = np.zeros((len(places), len(offsets)))
    for bead in range(len(places)):
        for k in range(len(offsets)):
            cx, cy = places[bead, 0] + offsets[k, 0], places[bead, 1] + offsets[k, 1]
            total, number = 0.0, 0
            for y in range(max(int(cy - radius), 0), min(int(cy + radius) + 2, image.shape[0])):
                for x in range(max(int(cx - radius), 0), min(int(cx + radius) + 2, image.shape[1])):
                    if (x - cx) ** 2 + (y - cy) ** 2 <= max(radius, 0.8) ** 2:
                        total += image[y, x]
                        number += 1
            means[bead, k] = total / number if number > 0 else np.inf
    return means

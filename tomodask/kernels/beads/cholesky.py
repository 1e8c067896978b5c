"""Small symmetric systems, within compiled loops over beads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomodask.kernels._jit import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["inverse_diagonal", "solve"]


@njit
def _factor(normal: FloatArray, size: int) -> bool:
    """Replace the lower triangle of a matrix by its Cholesky factor."""
    for a in range(size):
        for b in range(a + 1):
            total = normal[a, b]
            for c in range(b):
                total -= normal[a, c] * normal[b, c]
            if a == b:
                if not total > 1e-12 * abs(normal[a, a]):
                    return False
                normal[a, a] = np.sqrt(total)
            else:
                normal[a, b] = total / normal[b, b]
    return True


@njit
def solve(normal: FloatArray, right: FloatArray, size: int) -> bool:
    """Solve in place; `normal`, given as its lower triangle, is kept."""
    factor = normal[:size, :size].copy()
    if not _factor(factor, size):
        return False
    for a in range(size):
        for b in range(a):
            right[a] -= factor[a, b] * right[b]
        right[a] /= factor[a, a]
    for a in range(size - 1, -1, -1):
        for b in range(a + 1, size):
            right[a] -= factor[b, a] * right[b]
        right[a] /= factor[a, a]
    return True


@njit
def inverse_diagonal(normal: FloatArray, size: int) -> FloatArray:
    """Return the diagonal of the inverse, infinite where there is none."""
    result = np.full(size, np.inf)
    for a in range(size):
        unit = np.zeros(size)
        unit[a] = 1.0
        if solve(normal, unit, size):
            result[a] = unit[a]
    return result

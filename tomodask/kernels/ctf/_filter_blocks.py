"""The passes over the transforms of blocks of an image, whose filter depends on the height.

Blocks are (row, block, column): a row is one frequency across the slope, the columns of a block
are positions along it, or their frequencies. The phase chi is counted in half turns and reduced in
double precision, since it reaches hundreds of them; what it changes by within a block is small.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tomodask.kernels._jit import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["METHODS", "add_blocks", "cut_blocks", "filter_blocks", "phases", "weigh_blocks"]

#: The number of each method of :class:`Correction`.
METHODS = {"phase-flip": 0, "wiener": 1, "multiply": 2}
#: Added and subtracted, these round to a whole number: the vectoriser knows no other way.
_ROUND_32 = np.float32(1.5 * 2**23)
_ROUND_64 = 1.5 * 2.0**52


@njit
def cut_blocks(
    rows: NDArray[np.complex64], margin: int, core: int, out: NDArray[np.complex64]
) -> None:
    """Copy rows (row, u) into overlapping blocks (row, block, column), zero outside the rows."""
    width = rows.shape[1]
    for r in range(out.shape[0]):
        for b in range(out.shape[1]):
            start = b * core - margin
            low = max(0, -start)
            high = max(low, min(out.shape[2], width - start))
            out[r, b, :low] = 0
            out[r, b, low:high] = rows[r, start + low : start + high]
            out[r, b, high:] = 0


@njit
def phases(
    fu: NDArray[np.float64],
    fv: NDArray[np.float64],
    squared: NDArray[np.float64],
    linear: NDArray[np.float64],
    rate: float,
    quartic: float,
    constant: float,
    heights: NDArray[np.float64],
    phase: NDArray[np.float32],
    change: NDArray[np.float32],
) -> None:
    """Write chi of every block's middle, in half turns from -1 to 1, and its change per A.

    Parameters
    ----------
    fu, fv
        Frequencies of the columns and of the rows, 1/A.
    squared, linear
        Coefficients of (fu^2, fu fv, fv^2): of the squared frequency of the raw image, and of chi
        in half turns without what follows.
    rate, quartic, constant
        ``chi = linear + k^2 (rate height - quartic k^2) + constant``, half turns.
    heights
        Defocus at the blocks' middles beyond that of `linear`, A.
    phase
        (row, block, column), written.
    change
        (row, column), written: half turns per A of defocus.
    """
    for r in range(len(fv)):
        y = fv[r]
        for b in range(len(heights)):
            focus = heights[b] * rate
            for j in range(len(fu)):
                x = fu[j]
                k2 = (squared[0] * x + squared[1] * y) * x + squared[2] * y * y
                turns = (linear[0] * x + linear[1] * y) * x + linear[2] * y * y
                turns = (turns + k2 * (focus - quartic * k2) + constant) * 0.5
                phase[r, b, j] = 2 * (turns - ((turns + _ROUND_64) - _ROUND_64))
        for j in range(len(fu)):
            x = fu[j]
            change[r, j] = rate * ((squared[0] * x + squared[1] * y) * x + squared[2] * y * y)


@njit
def weigh_blocks(
    blocks: NDArray[np.complex64],
    fu: NDArray[np.float64],
    fv: NDArray[np.float64],
    squared: NDArray[np.float64],
    table: NDArray[np.float32],
    scale: float,
) -> None:
    """Multiply blocks, in place, by a weight of the raw frequency.

    The weight is linear between samples at steps of ``1 / scale``.
    """
    for r in range(blocks.shape[0]):
        y = fv[r]
        for j in range(blocks.shape[2]):
            x = fu[j]
            k = np.sqrt((squared[0] * x + squared[1] * y) * x + squared[2] * y * y) * scale
            i = min(int(k), len(table) - 2)
            weight = table[i] + np.float32(k - i) * (table[i + 1] - table[i])
            for b in range(blocks.shape[1]):
                blocks[r, b, j] *= weight


@njit
def filter_blocks(
    blocks: NDArray[np.complex64],
    phase: NDArray[np.float32],
    change: NDArray[np.float32],
    height: np.float32,
    method: int,
    noise: np.float32,
    out: NDArray[np.complex64],
) -> None:
    """Write the transforms of blocks, times what undoes the transfer at a height.

    Parameters
    ----------
    blocks
        (row, block, column) transforms.
    phase, change
        From :func:`phases`.
    height
        Defocus beyond that of the blocks' middles, A.
    method
        One of `METHODS`.
    noise
        Noise to signal power ratio, for "wiener".
    out
        Written.
    """
    count = blocks.shape[2]
    factor = np.empty(count, np.float32)
    for r in range(blocks.shape[0]):
        of_row = change[r]
        for b in range(blocks.shape[1]):
            middle = phase[r, b]
            if method == 0:
                for j in range(count):
                    factor[j] = np.float32(1) if _turned(middle[j], of_row[j], height) >= 0 else -1
            else:
                for j in range(count):
                    factor[j] = _sine(_turned(middle[j], of_row[j], height))
            if method == 1:
                for j in range(count):
                    factor[j] = factor[j] / (factor[j] * factor[j] + noise)
            source = blocks[r, b].view(np.float32)  # so that the loop is one over vectors
            target = out[r, b].view(np.float32)
            for j in range(count):
                target[2 * j] = source[2 * j] * factor[j]
                target[2 * j + 1] = source[2 * j + 1] * factor[j]


@njit
def add_blocks(
    blocks: NDArray[np.complex64],
    margin: int,
    core: int,
    share: NDArray[np.float32],
    first: int,
    last: int,
    rows: NDArray[np.complex64],
) -> None:
    """Add columns `first` to `last` of the blocks' cores, times their share, to rows (row, u)."""
    for r in range(blocks.shape[0]):
        for b in range(blocks.shape[1]):
            end = min(last, rows.shape[1] - b * core)
            source = blocks[r, b, margin : margin + core].view(np.float32)
            target = rows[r, b * core :].view(np.float32)
            for j in range(first, end):
                target[2 * j] += source[2 * j] * share[j]
                target[2 * j + 1] += source[2 * j + 1] * share[j]


@njit
def _turned(middle: Any, change: Any, height: Any) -> Any:
    """Return chi at a height in half turns, from -1 to 1."""
    turns = (middle + change * height) * np.float32(0.5)
    return np.float32(2) * (turns - ((turns + _ROUND_32) - _ROUND_32))


@njit
def _sine(turns: Any) -> Any:
    """Return sin(pi turns) for -1 <= turns <= 1, to 1e-7."""
    folded = np.float32(0.5) - abs(abs(turns) - np.float32(0.5))
    square = folded * folded
    value = _SINE[4]
    value = value * square + _SINE[3]
    value = value * square + _SINE[2]
    value = value * square + _SINE[1]
    value = (value * square + _SINE[0]) * folded
    return -value if turns < 0 else value


def _sine_polynomial() -> tuple[np.float32, ...]:
    """Return the odd polynomial that fits sin(pi x) from 0 to 1/2 best at Chebyshev points."""
    x = 0.25 + 0.25 * np.cos(np.pi * (np.arange(64) + 0.5) / 64)
    powers = x[:, None] ** np.arange(1, 10, 2)
    return tuple(np.linalg.lstsq(powers, np.sin(np.pi * x), rcond=None)[0].astype(np.float32))


_SINE = _sine_polynomial()

"""Adding a frame, moved, to a sum: a separable filter in real space.

For each fraction of a pixel the filter is the one nearest to an exact shift over a band of
frequencies. The image is worked on in tiles that stay in the cache, a tile in blocks of one offset
each, whose pixels share the weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomodask.kernels._jit import njit
from tomodask.kernels._vector import WIDTH, make_filter, prefetch

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FRACTION_BITS", "TILE", "add_moved"]

#: Weights of the filter, along each axis.
_TAPS = 20
#: Band, in units of Nyquist, over which the filter is fitted, and the weight of what lies beyond,
#: which keeps it from being amplified.
_BAND = 0.86
_BEYOND = 2e-3
#: Offsets are rounded to 2^-10 pixel.
FRACTION_BITS = 10
#: (y, x) pixels that are worked on at once: what a tile takes of a frame, converted to float32,
#: and of both sums stays in the second-level cache.
TILE = (64, 1024)
#: Rows of a frame that are asked for ahead of being read: no row of a tile is long enough for the
#: processor to see by itself what comes next. Bytes of a line of the cache.
_AHEAD, _LINE = 8, 64


def _shift_filters() -> NDArray[np.float32]:
    """Return the weights for each fraction of a pixel, one after the other.

    The sum of squares of ``sum_k w_k exp(i pi f k) - exp(i pi f s)`` over frequencies f is a
    quadratic form of the weights w with elements sin(pi b d) / (pi d) for a band up to b, and is
    minimised with their sum as a constraint.
    """
    tap = np.arange(_TAPS) - (_TAPS / 2 - 1)
    fraction = np.arange(2**FRACTION_BITS) / 2**FRACTION_BITS

    def inner(distance: NDArray[np.float64]) -> NDArray[np.float64]:
        band: NDArray[np.float64] = _BAND * np.sinc(_BAND * distance)
        return (1 - _BEYOND) * band + _BEYOND * np.sinc(distance)

    inverse = np.linalg.inv(inner(tap[:, None] - tap))
    weights = inner(fraction[:, None] - tap) @ inverse
    level = inverse.sum(axis=0)
    weights += (1 - weights.sum(axis=1, keepdims=True)) * level / level.sum()
    return weights.astype(np.float32).reshape(-1)


_BEFORE = _TAPS // 2 - 1
_FRACTION_MASK = 2**FRACTION_BITS - 1
_WEIGHTS = _shift_filters()
#: Rows that are filtered along y at once.
_ROWS = 4
_rows_64 = make_filter(_TAPS, _ROWS, 4)
_rows_16 = make_filter(_TAPS, _ROWS, 1)
_row_64 = make_filter(_TAPS, 1, 4, add=True)
_row_16 = make_filter(_TAPS, 1, 1, add=True)


def add_moved(
    frames: NDArray[np.generic],
    first: int,
    offset: NDArray[np.int32],
    block: tuple[int, int],
    sums: NDArray[np.float32],
) -> None:
    """Add frames, each block at its offset, to sums in turn.

    Parameters
    ----------
    frames
        (frame, y, x), C order.
    first
        Number of the first of `frames` among those of `offset`.
    offset
        (frame, block y, block x, 2) int32: (y, x) where the block's pixels lie in the frame
        relative to the sum, in units of ``2^-FRACTION_BITS`` pixel.
    block
        (y, x) pixels of a block; they divide `TILE`.
    sums
        (n, y, x) float32: frame number f is added to ``sums[f % n]``.
    """
    _add(frames, first, offset, *block, _WEIGHTS, sums)


@njit
def _add(
    frames: NDArray[np.generic],
    first: int,
    offset: NDArray[np.int32],
    block_y: int,
    block_x: int,
    weights: NDArray[np.float32],
    sums: NDArray[np.float32],
) -> None:
    count, height, width = frames.shape
    # A tile of the sums is made in one piece: rows of the image, often a power of two apart, would
    # not fit the ways of the cache.
    piece = np.empty((len(sums), TILE[0], TILE[1] + WIDTH), np.float32)
    for y0 in range(0, height, TILE[0]):
        y1 = min(y0 + TILE[0], height)
        for x0 in range(0, width, TILE[1]):
            x1 = min(x0 + TILE[1], width)
            piece[:] = 0
            for i in range(count):
                tile = offset[
                    first + i,
                    y0 // block_y : (y1 - 1) // block_y + 1,
                    x0 // block_x : (x1 - 1) // block_x + 1,
                ]
                total = piece[(first + i) % len(sums)]
                _add_tile(
                    frames[i], y0, x0, y1 - y0, x1 - x0, tile, block_y, block_x, weights, total
                )
            for n in range(len(sums)):
                for y in range(y0, y1):
                    _add_row(piece[n, y - y0, : x1 - x0], sums[n, y, x0:x1])


@njit
def _add_tile(
    frame: NDArray[np.generic],
    y0: int,
    x0: int,
    height: int,
    width: int,
    tile: NDArray[np.int32],
    block_y: int,
    block_x: int,
    weights: NDArray[np.float32],
    total: NDArray[np.float32],
) -> None:
    """Add what a frame holds of the tile of the sum that begins at (y0, x0)."""
    whole = tile >> FRACTION_BITS
    low_y, low_x = whole[:, :, 0].min(), whole[:, :, 1].min()
    rows = height + whole[:, :, 0].max() - low_y + _TAPS - 1
    stride = width + whole[:, :, 1].max() - low_x + _TAPS - 1 + WIDTH
    # One allocation: the part of the frame, and rows of it filtered along y.
    lines = (rows + _ROWS - 1) * stride
    length = width + _TAPS + 2 * WIDTH
    work = np.empty(lines + _ROWS * length, np.float32)
    _read(frame, y0 + low_y - _BEFORE, x0 + low_x - _BEFORE, rows, stride, work)
    sums, sums_stride = total.reshape(-1), total.shape[1]
    for j in range(tile.shape[0]):
        bottom, top = j * block_y, min((j + 1) * block_y, height)
        for k in range(tile.shape[1]):
            wy = (tile[j, k, 0] & _FRACTION_MASK) * _TAPS
            wx = (tile[j, k, 1] & _FRACTION_MASK) * _TAPS
            left = k * block_x
            count = min(block_x, width - left)
            column = left + whole[j, k, 1] - low_x
            for y in range(bottom, top, _ROWS):
                at = (y + whole[j, k, 0] - low_y) * stride + column
                step = stride
                if wy:
                    # Rows beyond the block, too, where it is cut off: they are not used.
                    _filter_y(work, at, stride, weights, wy, lines, length, count + _TAPS - 1)
                    at, step = lines, length
                else:
                    at += _BEFORE * stride
                for row in range(y, min(y + _ROWS, top)):
                    if wx:
                        _filter_x(work, at, weights, wx, sums, row * sums_stride + left, count)
                    else:
                        start = at + _BEFORE
                        _add_row(work[start : start + count], total[row, left : left + count])
                    at += step


# Both filter whole vectors: up to 15 values more than are asked for.
@njit
def _filter_y(
    work: NDArray[np.float32],
    at: int,
    stride: int,
    weights: NDArray[np.float32],
    weights_at: int,
    out: int,
    out_stride: int,
    count: int,
) -> None:
    x = 0
    while x + 4 * WIDTH <= count:
        _rows_64(work, at + x, stride, weights, weights_at, work, out + x, out_stride)
        x += 4 * WIDTH
    while x < count:
        _rows_16(work, at + x, stride, weights, weights_at, work, out + x, out_stride)
        x += WIDTH


@njit
def _filter_x(
    work: NDArray[np.float32],
    at: int,
    weights: NDArray[np.float32],
    weights_at: int,
    out: NDArray[np.float32],
    out_at: int,
    count: int,
) -> None:
    x = 0
    while x + 4 * WIDTH <= count:
        _row_64(work, at + x, 1, weights, weights_at, out, out_at + x, 0)
        x += 4 * WIDTH
    while x < count:
        _row_16(work, at + x, 1, weights, weights_at, out, out_at + x, 0)
        x += WIDTH


@njit
def _read(
    frame: NDArray[np.generic],
    y0: int,
    x0: int,
    rows: int,
    columns: int,
    out: NDArray[np.float32],
) -> None:
    """Read a part of a frame, mirrored beyond its edges, as float32."""
    height, width = frame.shape
    left = min(max(-x0, 0), columns)
    right = min(max(width - x0, left), columns)
    for y in range(rows):
        ahead = frame[min(max(y0 + y + _AHEAD, 0), height - 1)]
        for x in range(x0 + left, x0 + right, _LINE // frame.itemsize):
            prefetch(ahead, x)
        row = frame[_mirror(y0 + y, height)]
        at = y * columns
        for x in range(left):
            out[at + x] = row[_mirror(x0 + x, width)]
        _copy_row(row[x0 + left : x0 + right], out[at + left : at + right])
        for x in range(right, columns):
            out[at + x] = row[_mirror(x0 + x, width)]


# Rows of their own, so that no index can be negative: what numba does about those keeps LLVM from
# using vectors.
@njit
def _copy_row(row: NDArray[np.generic], out: NDArray[np.float32]) -> None:
    for x in range(len(out)):
        out[x] = row[x]


@njit
def _add_row(row: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    for x in range(len(out)):
        out[x] += row[x]


@njit
def _mirror(index: int, size: int) -> int:
    """Return the pixel whose mirror image stands at an index, the edge being between pixels."""
    index %= 2 * size
    return min(index, 2 * size - 1 - index)

"""Parts of rows and columns of a camera that read one value, whatever falls on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomodask.kernels._jit import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    Image = NDArray[np.float32]

__all__ = ["stuck_columns"]

#: Shortest run of one value along a line that is looked at, pixels; how improbable it must be, as
#: a natural logarithm, and how far to both sides is looked for how rare the value is.
_SHORTEST_RUN, _RUN, _BESIDE = 16, -25.0, 8


@njit
def stuck_columns(pixels: Image) -> FloatArray:
    """Return the runs of one value along columns.

    A run counts where that value is so rare on both sides of it that chance cannot make it: blank
    areas have it all over, and most pixels of a sparse frame are zero.

    Parameters
    ----------
    pixels
        (y, x) float32; give the transposed image for runs along rows.

    Returns
    -------
    (pixel, 3) float64 rows (y, x, excess over the mean of the columns beside the run).
    """
    rows, columns = pixels.shape
    found = np.empty((256, 3))
    number = 0
    # Every run of the shortest length that counts crosses one of these rows, and the one after it.
    step = _SHORTEST_RUN // 2
    for anchor in range(step - 1, rows - 1, step):
        for x in range(columns):
            value = pixels[anchor, x]
            if pixels[anchor + 1, x] != value or pixels[anchor - 1, x] != value:
                continue
            first, last = anchor - 1, anchor + 1
            while first > max(anchor - step, 0) and pixels[first - 1, x] == value:
                first -= 1
            if first == anchor - step:  # met at the anchor before
                continue
            while last < rows - 1 and pixels[last + 1, x] == value:
                last += 1
            length = last + 1 - first
            if length < _SHORTEST_RUN:
                continue
            # On either side by itself: at the edge of a blank area one side is not.
            frequency, total, around = 0.0, 0.0, 0
            for left, right in ((x - _BESIDE, x - 2), (x + 3, x + _BESIDE + 1)):
                equal, pairs = 1, 2
                for v in range(first, last + 1):
                    for u in range(max(left, 0), min(right, columns)):
                        equal += pixels[v, u] == value
                        total += pixels[v, u]
                        pairs += 1
                if pairs > 2:
                    frequency = max(frequency, equal / pairs)
                    around += pairs - 2
            if length * np.log(frequency) > _RUN:
                continue
            while number + length > len(found):
                found = np.concatenate((found, np.empty_like(found)))
            excess = value - total / around
            for v in range(first, last + 1):
                found[number, 0], found[number, 1] = v, x
                found[number, 2] = excess
                number += 1
    return found[:number]

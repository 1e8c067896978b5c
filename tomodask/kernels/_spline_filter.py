"""The recursion that turns samples into cubic B-spline coefficients.

References
----------
.. [1] Unser, M., Splines: a perfect fit for signal and image processing, IEEE Signal Process. Mag.
   16 (1999) 22, doi:10.1109/79.799930.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomodask.kernels._jit import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["spline_coefficients"]


@njit
def spline_coefficients(image: NDArray[np.float32]) -> None:
    """Turn samples into cubic B-spline coefficients in place, with mirror boundaries.

    The inverse of the spline's sampling filter is a causal and an anticausal recursion along each
    axis, with the pole sqrt(3) - 2 ([1]_).
    """
    rows, columns = image.shape
    pole = np.float32(np.sqrt(3.0) - 2.0)
    gain = np.float32(6.0)
    tail = pole / (pole * pole - np.float32(1))
    reach = 16  # the pole to this power is below the precision of float32
    if rows > 1:
        start = np.zeros(columns, np.float32)
        factor = np.float32(1)
        for k in range(min(reach, rows)):
            for x in range(columns):
                start[x] += factor * image[k, x]
            factor *= pole
        for x in range(columns):
            image[0, x] = start[x]
        for y in range(1, rows):
            for x in range(columns):
                image[y, x] += pole * image[y - 1, x]
        for x in range(columns):
            image[rows - 1, x] = tail * (image[rows - 1, x] + pole * image[rows - 2, x])
        for y in range(rows - 2, -1, -1):
            for x in range(columns):
                image[y, x] = pole * (image[y + 1, x] - image[y, x])
    else:
        gain = np.float32(1.0)
    if columns > 1:
        # Eight rows at once: one recursion alone waits for its own result at every step, and more
        # rows, a power of two apart, would not fit the ways of the cache.
        for y0 in range(0, rows, 8):
            y1 = min(y0 + 8, rows)
            for y in range(y0, y1):
                total = np.float32(0)
                factor = np.float32(1)
                for k in range(min(reach, columns)):
                    total += factor * image[y, k]
                    factor *= pole
                image[y, 0] = total
            for x in range(1, columns):
                for y in range(y0, y1):
                    image[y, x] += pole * image[y, x - 1]
            for y in range(y0, y1):
                last = tail * (image[y, columns - 1] + pole * image[y, columns - 2])
                image[y, columns - 1] = last
            for x in range(columns - 2, -1, -1):
                for y in range(y0, y1):
                    image[y, x] = pole * (image[y, x + 1] - image[y, x])
        gain *= np.float32(6.0)
    for y in range(rows):
        for x in range(columns):
            image[y, x] *= gain

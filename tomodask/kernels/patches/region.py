"""The part of the field that is to be used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomodask.errors import ParameterError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["region_mask"]


def region_mask(region: ArrayLike, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the (y, x) bool mask of a region.

    Parameters
    ----------
    region
        A mask of that shape, or (n, 2) corners x, y, in pixels from the first, of a polygon; two
        corners are those of a rectangle.
    shape
        (y, x) pixels.

    Raises
    ------
    ParameterError
        If it is neither, or holds no pixel.
    """
    given = np.asarray(region)
    if given.dtype == bool and given.shape == tuple(shape):
        mask = given.copy()
    elif given.dtype != bool and given.ndim == 2 and given.shape[1] == 2 and len(given) >= 2:
        corners = given.astype(np.float64)
        if len(corners) == 2:
            (x0, y0), (x1, y1) = corners
            corners = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
        mask = _polygon(corners, shape)
    else:
        raise ParameterError(
            f"a region of shape {given.shape} and type {given.dtype}: give a bool mask of shape "
            f"{tuple(shape)} or (n, 2) corners x, y of a polygon"
        )
    if not mask.any():
        raise ParameterError("the region holds no pixel: give corners in pixels, inside the image")
    return mask


def _polygon(corners: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the pixels from which a ray along x crosses the outline an odd number of times."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    inside = np.zeros(shape, bool)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y0 == y1:
            continue
        crossed = (y0 > y) != (y1 > y)
        inside ^= crossed & (x < x0 + (y - y0) / (y1 - y0) * (x1 - x0))
    return inside

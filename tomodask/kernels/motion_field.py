"""Local motion: a smooth displacement on top of that of whole frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["MotionField"]


@dataclass(frozen=True, eq=False, slots=True)
class MotionField:
    """A displacement that is smooth over the image and over the frames.

    It is a tensor product of cubic B-splines on uniform knots: along an axis of n coefficients
    the image's edges (pixel centres 0 and size - 1), or the first and last frame, are n - 3 knot
    intervals apart, and coefficient c belongs to the spline whose support ends c + 1 intervals
    after the first edge.

    Parameters
    ----------
    coefficients
        (t, y, x, 2) float64, the last axis being (y, x) in pixels.
    frames
        Number of frames.
    shape
        (y, x) pixels of a frame.
    """

    coefficients: FloatArray
    frames: int
    shape: tuple[int, int]

    def at(self, frame: ArrayLike, y: ArrayLike, x: ArrayLike) -> FloatArray:
        """Return the (..., 2) displacements (y, x) in pixels, at pixel indices that broadcast."""
        frame, y, x = np.broadcast_arrays(
            np.asarray(frame, np.float64), np.asarray(y, np.float64), np.asarray(x, np.float64)
        )
        c = self.coefficients
        bt = spline_basis(frame, self.frames, c.shape[0])
        by = spline_basis(y, self.shape[0], c.shape[1])
        bx = spline_basis(x, self.shape[1], c.shape[2])
        local: FloatArray = np.einsum("...t,...y,...x,tyxd->...d", bt, by, bx, c, optimize=True)
        return local

    def on_grid(self, frame: float, ys: ArrayLike, xs: ArrayLike) -> FloatArray:
        """Return the (y, x, 2) displacements of a frame at rows `ys` and columns `xs`."""
        c = self.coefficients
        bt = spline_basis(np.asarray(frame, np.float64), self.frames, c.shape[0])
        by = spline_basis(np.asarray(ys, np.float64), self.shape[0], c.shape[1])
        bx = spline_basis(np.asarray(xs, np.float64), self.shape[1], c.shape[2])
        plane = np.tensordot(bt, c, 1)
        local: FloatArray = np.einsum("iy,jx,yxd->ijd", by, bx, plane, optimize=True)
        return local

    def resampled(self, place: FloatArray) -> MotionField:
        """Return the field of as many frames as places, each as this one's frame is there.

        The splines along t are fitted by least squares, and the mean over frames is zero.

        Parameters
        ----------
        place
            (frame,) frames of this field, from 0; need not be whole.
        """
        count = self.coefficients.shape[0]
        there = spline_basis(place, self.frames, count)
        here = spline_basis(np.arange(len(place), dtype=np.float64), len(place), count)
        fitted = np.tensordot(np.linalg.pinv(here) @ there, self.coefficients, 1)
        # The splines sum to one, so that a constant taken off each is taken off the field.
        fitted -= np.tensordot(here.mean(axis=0), fitted, 1)
        return MotionField(fitted, len(place), self.shape)


def spline_basis(position: FloatArray, size: int, count: int) -> FloatArray:
    """Return the (..., count) cubic B-splines at positions of an axis of `size` samples."""
    intervals = count - 3
    u = np.clip(position / max(size - 1, 1), 0, 1) * intervals
    distance = np.abs(u[..., None] + 1 - np.arange(count))
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.maximum(2 - distance, 0) ** 3 / 6
    basis: FloatArray = np.where(distance < 1, near, far)
    return basis

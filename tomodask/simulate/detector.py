"""A counting camera: the gain of its pixels, its dead and its hot ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from scipy import ndimage

from tomodask.errors import ParameterError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Detector"]

# Relative deviations of the sensitivity of pixels and of columns, and the sensitivities of the
# quadrants, whose amplifiers differ: all four, so that no rotation or mirror maps them onto
# themselves.
_PIXEL, _COLUMN = 0.03, 0.01
_QUADRANTS = ((0.965, 0.99), (1.03, 1.01))
# How much a hot pixel counts in each frame, in means of the frame.
_HOT_RANGE = (8.0, 40.0)


@dataclass(frozen=True, eq=False, slots=True)
class Detector:
    """A camera. What it counts, times its gain, is the number of electrons on average.

    Parameters
    ----------
    gain
        (y, x) float32: the gain reference, by which counts are multiplied; its mean is 1. It is 0
        at dead pixels, as DigitalMicrograph writes it.
    dead
        (y, x) bool: pixels that count nothing.
    heat
        (y, x) float32: what a pixel counts in every frame beside the electrons, in means of the
        frame; 0 but for hot pixels.
    """

    gain: NDArray[np.float32]
    dead: NDArray[np.bool_]
    heat: NDArray[np.float32]

    @classmethod
    def ideal(cls, shape: tuple[int, int]) -> Self:
        """Return a camera of (y, x) pixels that all have gain 1."""
        return cls(np.ones(shape, np.float32), np.zeros(shape, bool), np.zeros(shape, np.float32))

    @classmethod
    def random(
        cls,
        shape: tuple[int, int],
        *,
        seed: int,
        dead_columns: int = 1,
        dead_pixels: int = 20,
        hot_pixels: int = 5,
    ) -> Self:
        """Return a camera as they are.

        Sensitivities of pixels differ by 3 %, of columns by 1 % and of quadrants by up to 7 %, and
        rise smoothly by a few percent; no rotation or mirror image of the gain is like it.

        Parameters
        ----------
        shape
            (y, x) pixels.
        seed
            Equal seeds give equal cameras.
        dead_columns
            Columns of the whole height that count nothing.
        dead_pixels
            Single ones, a third of them in pairs.
        hot_pixels
            Pixels that count 8 to 40 times the mean in every frame.

        Raises
        ------
        ParameterError
            If there are fewer pixels than defects.
        """
        rows, columns = shape
        if dead_columns > columns or dead_pixels + hot_pixels > rows * columns // 4:
            raise ParameterError(
                f"{dead_columns} dead columns, {dead_pixels} dead and {hot_pixels} hot pixels are "
                f"too many for a camera of {rows} x {columns} pixels; give fewer"
            )
        rng = np.random.default_rng(seed)
        y, x = np.linspace(-1, 1, rows)[:, None], np.linspace(-1, 1, columns)[None, :]
        sensitivity = 1 + _PIXEL * rng.standard_normal(shape)
        sensitivity *= 1 + _COLUMN * rng.standard_normal(columns)
        sensitivity *= np.asarray(_QUADRANTS)[(y > 0).astype(int), (x > 0).astype(int)]
        sensitivity *= 1 + 0.02 * x + 0.01 * y * x
        gain = (1 / sensitivity).astype(np.float32)

        dead = np.zeros(shape, bool)
        dead[:, rng.choice(columns, dead_columns, replace=False)] = True
        places = rng.choice(rows * columns, dead_pixels, replace=False)
        dead.flat[places] = True
        pairs = np.zeros(shape, bool)
        pairs.flat[places[::3]] = True
        dead |= ndimage.shift(pairs, (0, 1), order=0)
        heat = np.zeros(shape, np.float32)
        healthy = np.flatnonzero(~dead)
        hot = rng.choice(healthy, hot_pixels, replace=False)
        heat.flat[hot] = rng.uniform(*_HOT_RANGE, hot_pixels)

        gain /= gain[~dead].mean()
        gain[dead] = 0
        return cls(gain, dead, heat)

    @property
    def hot(self) -> NDArray[np.bool_]:
        """(y, x) bool: pixels that count too much in every frame."""
        return self.heat > 0

    def expected_counts(self, electrons: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what is counted on average where `electrons` (y, x) arrive in a frame."""
        sensitivity = np.divide(1, self.gain, out=np.zeros_like(self.gain), where=~self.dead)
        counts: NDArray[np.float32] = sensitivity * electrons + self.heat * electrons.mean()
        return counts

"""Gain references and defects: what makes a corrected frame of a camera's counts.

A gain is multiplicative: corrected = counts x gain. A pixel where it is 0 is dead, a defect.

A gain reference is often kept as the camera delivers it while the movies are rotated or flipped.
The eight ways are named after what is done to the *gain*, y up: first a rotation
counter-clockwise, then a flip upside down. The options of MotionCor, AreTomo3 and RELION mean the
same in the same order:

=======================  ============  ==========================================
here                     ``RotGain``   ``FlipGain``
=======================  ============  ==========================================
``rot0`` ... ``rot270``  0, 1, 2, 3    0
``... flipud``           0, 1, 2, 3    1
``... fliplr``           0, 1, 2, 3    2 (the same as ``flipud``, 180 degrees on)
=======================  ============  ==========================================

Those programs turn over the rows of TIFF files as is done here, but not those of EER files, so
that for an EER their ``FlipGain`` is another (see `tomodask.io.eer`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np

from tomodask.errors import DataError, ParameterError
from tomodask.kernels._jit import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    T = TypeVar("T", bound=np.generic)

__all__ = [
    "ORIENTATIONS",
    "Orientation",
    "Repair",
    "correct_frame",
    "dead_pixels",
    "expand",
    "orient",
    "plan_repair",
]

#: Good pixels that a defect is filled from, and how far they may be.
_DONORS, _FARTHEST = 8, 64


@dataclass(frozen=True, slots=True)
class Orientation:
    """What is done to a gain reference so that it lies on its movies.

    Parameters
    ----------
    rotation : {0, 90, 180, 270}
        Degrees counter-clockwise, of an image whose row 0 is the bottom.
    flip : bool
        Whether it is turned upside down after that.

    Raises
    ------
    ParameterError
        Another rotation.
    """

    rotation: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        if self.rotation not in {0, 90, 180, 270}:
            raise ParameterError(
                f"an orientation is of {self.rotation} degrees; give 0, 90, 180 or 270"
            )

    def __str__(self) -> str:
        return f"rot{self.rotation} flipud" if self.flip else f"rot{self.rotation}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an orientation: ``rot90``, ``flipud``, ``rot270 flipud``, ``rot90 fliplr``, ...

        Raises
        ------
        ParameterError
            The text is none.
        """
        words = text.split()
        rotation = words.pop(0) if words and words[0].startswith("rot") else "rot0"
        flip = words.pop(0) if words else "none"
        angle = rotation.removeprefix("rot")
        if (
            words
            or angle not in {"0", "90", "180", "270"}
            or flip
            not in {
                "none",
                "flipud",
                "fliplr",
            }
        ):
            raise ParameterError(
                f"{text!r} is no orientation of a gain reference; give one of "
                + ", ".join(str(orientation) for orientation in ORIENTATIONS)
            )
        # To flip left to right is to turn by 180 degrees and flip upside down.
        turn = 180 if flip == "fliplr" else 0
        return cls((int(angle) + turn) % 360, flip != "none")


#: All eight.
ORIENTATIONS = tuple(
    Orientation(rotation, flip) for flip in (False, True) for rotation in (0, 90, 180, 270)
)


def orient(image: NDArray[T], orientation: Orientation) -> NDArray[T]:
    """Return a gain reference, or the mask of its defects, turned as an orientation says.

    Parameters
    ----------
    image
        (y, x), row 0 the bottom.
    orientation
        What to do.

    Returns
    -------
    (y, x) or, after 90 or 270 degrees, (x, y); C-contiguous.
    """
    # With row 0 at the bottom the rows count upwards, so NumPy's sense of rotation is reversed.
    turned = np.rot90(image, -(orientation.rotation // 90))
    return np.ascontiguousarray(turned[::-1] if orientation.flip else turned)


def expand(image: NDArray[T], shape: tuple[int, int]) -> NDArray[T]:
    """Return a gain reference, or a mask, repeated onto frames of 2 or 4 pixels per pixel.

    Parameters
    ----------
    image
        (y, x), in the frames' orientation.
    shape
        (y, x) of the frames.

    Returns
    -------
    (y, x) of the frames' shape; `image` itself if it has that.

    Raises
    ------
    DataError
        The shapes do not fit.
    """
    factor = shape[0] // image.shape[0]
    if shape != (image.shape[0] * factor, image.shape[1] * factor) or factor not in {1, 2, 4}:
        raise DataError(
            f"an image of {image.shape} pixels (y, x) does not fit frames of {shape}, nor does it "
            "2 or 4 times enlarged; check its orientation, and the superresolution of the frames"
        )
    return image if factor == 1 else image.repeat(factor, axis=0).repeat(factor, axis=1)


def dead_pixels(gain: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Return the (y, x) mask of the pixels for which a gain holds nothing: not finite, or <= 0."""
    dead: NDArray[np.bool_] = ~(np.isfinite(gain) & (gain > 0))
    return dead


@dataclass(frozen=True, eq=False, slots=True)
class Repair:
    """Which good pixels the defects of a camera are filled from; build it with `plan_repair`.

    Parameters
    ----------
    shape
        (y, x) of the frames.
    places
        (defect,) int64: flat indices of the defects.
    donors
        (defect, 8) int64: flat indices of the nearest good pixels of each.
    """

    shape: tuple[int, int]
    places: NDArray[np.int64]
    donors: NDArray[np.int64]


def plan_repair(defects: NDArray[np.bool_]) -> Repair:
    """Find the eight good pixels nearest to each defect.

    Parameters
    ----------
    defects
        (y, x) mask.

    Returns
    -------
    Repair
        For `correct_frame`. Ties of distance are broken by position, so that equal masks give
        equal repairs.

    Raises
    ------
    DataError
        A defect has too few good pixels within 64 pixels.
    """
    ny, nx = defects.shape
    places = np.flatnonzero(defects)
    donors = np.full((len(places), _DONORS), -1, np.int64)
    found = np.zeros(len(places), np.int64)
    reach = np.arange(-_FARTHEST, _FARTHEST + 1)
    offsets = np.stack(np.meshgrid(reach, reach, indexing="ij"), axis=-1).reshape(-1, 2)
    distance = (offsets**2).sum(axis=1)
    nearest_first = np.argsort(distance, kind="stable")[1:]
    pending = np.arange(len(places))
    rows, columns = np.divmod(places, nx)
    for dy, dx in offsets[nearest_first].tolist():
        if not len(pending):
            break
        y, x = rows[pending] + dy, columns[pending] + dx
        inside = (0 <= y) & (y < ny) & (0 <= x) & (x < nx)
        good = inside.copy()
        good[inside] = ~defects[y[inside], x[inside]]
        lucky = pending[good]
        donors[lucky, found[lucky]] = y[good] * nx + x[good]
        found[lucky] += 1
        pending = pending[found[pending] < _DONORS]
    if len(pending):
        raise DataError(
            f"{len(pending)} defects, the first at row {rows[pending[0]]}, column "
            f"{columns[pending[0]]}, have fewer than {_DONORS} good pixels within {_FARTHEST}; "
            "check that the defects are those of this camera"
        )
    return Repair((ny, nx), places, donors)


def correct_frame(
    counts: NDArray[Any],
    gain: NDArray[np.float32] | None = None,
    repair: Repair | None = None,
    *,
    number: int = 0,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Apply a gain to one frame, and fill its defects.

    Parameters
    ----------
    counts
        (y, x), any real dtype: the frame as read.
    gain
        (y, x) multiplicative gain in the frame's orientation, None for ones.
    repair
        From `plan_repair`, None where nothing is to be filled.
    number
        Of the frame in its movie: it draws from which neighbours the defects are filled.
    out
        (y, x) to write to.

    Returns
    -------
    (y, x) float32.

    Raises
    ------
    DataError
        The shapes differ.

    Notes
    -----
    A defect takes the corrected value of *one* of the eight nearest good pixels, another in each
    frame, drawn by its place and the frame's number alone. The value has the noise of a true one,
    where a mean would leave a smooth spot at the same place in every frame, which weighs a
    correlation of frames towards no motion and a power spectrum towards less noise. Over many
    frames the sum tends to the mean of the eight. The filling is linear in the counts, so the sum
    of corrected frames does not depend on how they are divided into halves.
    """
    if out is None:
        out = np.empty(counts.shape, np.float32)
    for name, shape in (
        ("gain", None if gain is None else gain.shape),
        ("repair", None if repair is None else repair.shape),
        ("output", out.shape),
    ):
        if shape is not None and shape != counts.shape:
            raise DataError(
                f"the {name} is of {shape} pixels (y, x), the frame of {counts.shape}; "
                "orient and expand it first"
            )
    if gain is None:
        out[...] = counts
    else:
        _multiply(counts, gain, out)
    if repair is not None:
        _fill(out.reshape(-1), repair.places, repair.donors, number)
    return out


@njit
def _multiply(counts: NDArray[Any], gain: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    for y in range(counts.shape[0]):
        for x in range(counts.shape[1]):
            out[y, x] = np.float32(counts[y, x]) * gain[y, x]


@njit
def _fill(
    frame: NDArray[np.float32],
    places: NDArray[np.int64],
    donors: NDArray[np.int64],
    number: int,
) -> None:
    for i in range(len(places)):
        # A bit mixer (splitmix64): neighbouring places and frames draw independently.
        key = np.uint64(places[i]) + np.uint64(number) * np.uint64(0x9E3779B97F4A7C15)
        key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        key ^= key >> np.uint64(31)
        frame[places[i]] = frame[donors[i, np.int64(key % np.uint64(donors.shape[1]))]]

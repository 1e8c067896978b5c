"""One movie: its frames aligned and summed.

What a task of motion correction computes once the movie is read; arrays in, arrays out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from tomodask.errors import DataError, ParameterError
from tomodask.kernels.dose_weighting import sum_weighted_frames
from tomodask.kernels.fourier_crop import cropped_shape, fourier_crop
from tomodask.kernels.frame_sums import sum_bytes, sum_frames
from tomodask.kernels.motion import estimate_bytes, estimate_motion

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomodask.kernels.motion import Motion
    from tomodask.kernels.motion_field import MotionField

__all__ = ["Corrected", "FrameCorrection", "correct_frames", "corrected_shape", "correction_bytes"]

#: Images that the search for bad pixels takes.
_SEARCH = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameCorrection:
    """How frames are aligned and summed.

    Parameters
    ----------
    pixel_size
        Of the frames, A.
    patches
        (y, x) patches of the local field; None for whole frames alone.
    binning
        Pixel size of the sums over that of the frames.
    skip
        Frames left out at the begin and at the end.
    group
        Frames that are summed for the estimate, where single ones hold too little.
    voltage
        kV, where frames are weighted by dose; None where they are not.
    b_factor
        A^2 per e/A^2 by which the weights fall, instead of the critical doses.
    """

    pixel_size: float
    patches: tuple[int, int] | None = None
    binning: float = 1.0
    skip: tuple[int, int] = (0, 0)
    group: int = 1
    voltage: float | None = None
    b_factor: float | None = None

    def __post_init__(self) -> None:
        if not (np.isfinite(self.binning) and self.binning >= 1):
            raise ParameterError(f"binning {self.binning}: give a number >= 1")
        if min(self.skip) < 0:
            raise ParameterError(
                f"skip {self.skip[0]} and {self.skip[1]} frames: give numbers >= 0"
            )
        if self.group < 1:
            raise ParameterError(f"groups of {self.group} frames: give a number >= 1")
        if self.patches is not None and min(self.patches) < 1:
            raise ParameterError(
                f"patches {self.patches[1]}x{self.patches[0]}: give numbers of at least 1"
            )

    def identity(self) -> dict[str, Any]:
        """Return what determines the values, for the plan and the provenance."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }


@dataclass(frozen=True, slots=True, eq=False)
class Corrected:
    """The sums of a movie and how its frames moved.

    Parameters
    ----------
    images
        "images", "even" and "odd": (y, x) float32, electrons (or counts) per pixel of the sum.
    motion
        Of the frames that were summed.
    frames
        Frames of the movie, those left out too.
    """

    images: dict[str, NDArray[np.float32]]
    motion: Motion
    frames: int

    def record(self) -> dict[str, Any]:
        """Return what is kept of the movie, as JSON can hold it."""
        field = self.motion.field
        return {
            "frames": self.frames,
            "shift": self.motion.shift.tolist(),
            "score": float(self.motion.score),
            # Of no estimate there is no error.
            "residual": float(self.motion.residual) if self.motion.supported else None,
            "supported": bool(self.motion.supported),
            "field": None if field is None else field.coefficients.tolist(),
        }


def corrected_shape(shape: tuple[int, int], binning: float) -> tuple[tuple[int, int], float]:
    """Return the shape (y, x) of the sums of frames, and their exact binning."""
    return (shape, 1.0) if binning == 1 else cropped_shape(shape, binning)


def correction_bytes(raw: int, shape: tuple[int, int, int], correction: FrameCorrection) -> int:
    """Return the bytes of the arrays of one movie's task.

    Parameters
    ----------
    raw
        Bytes of its frames as they are read.
    shape
        (frame, y, x).
    correction
        What is to be done.
    """
    image = 4 * shape[1] * shape[2]
    estimate = estimate_bytes(shape, pixel_size=correction.pixel_size)
    summing = sum_bytes(shape, weighted=correction.voltage is not None)
    # The gain, a corrected frame, and the mask of bad pixels; the search for them works on a few
    # images; a binned sum has its transform beside it.
    return raw + 3 * image + max(_SEARCH * image, estimate, summing + 3 * image)


def correct_frames(
    frames: Sequence[NDArray[np.float32]],
    correction: FrameCorrection,
    dose: tuple[float, float] | None = None,
) -> Corrected:
    """Align and sum the frames of a movie.

    Parameters
    ----------
    frames
        (frame, y, x), or a sequence that makes each frame when it is asked for.
    correction
        What to do.
    dose
        e/A^2 before the movie, and of the movie; needed to weight by dose.

    Raises
    ------
    DataError
        If nothing is left to sum, or values are not finite.
    ParameterError
        If frames are to be weighted and the dose is not known.
    """
    count = len(frames)
    chosen = range(correction.skip[0], count - correction.skip[1])
    if not chosen:
        raise DataError(
            f"the movie has {count} frames, of which {correction.skip[0]} at the begin and "
            f"{correction.skip[1]} at the end are left out; leave out fewer"
        )
    part = frames[chosen.start : chosen.stop]
    motion, place = _estimated(part, correction)
    local = None if motion.field is None else partial(_displacement, motion.field, place)
    if correction.voltage is None:
        full, even, odd = sum_frames(part, motion.shift, local)
    else:
        if dose is None:
            raise ParameterError("frames are to be weighted by dose, but the dose is not recorded")
        full, even, odd = sum_weighted_frames(
            part,
            motion.shift,
            local,
            dose=[dose[0] + dose[1] * (frame + 1) / count for frame in chosen],
            pixel_size=correction.pixel_size,
            voltage=correction.voltage,
            b_factor=correction.b_factor,
        )
    images = {"images": full, "even": even, "odd": odd}
    shape, factor = corrected_shape((full.shape[0], full.shape[1]), correction.binning)
    if shape != full.shape:
        # Electrons per pixel of the sum: a larger pixel holds more of them.
        images = {
            name: fourier_crop(image, shape, factor) * np.float32(factor**2)
            for name, image in images.items()
        }
    return Corrected(images, motion, count)


def _displacement(
    field: MotionField,
    place: NDArray[np.float64],
    frame: int,
    ys: NDArray[np.float64],
    xs: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the local displacement of a frame that stands at `place` among those of the field."""
    return field.on_grid(place[frame], ys, xs)


def _estimated(
    frames: Sequence[NDArray[np.float32]], correction: FrameCorrection
) -> tuple[Motion, NDArray[np.float64]]:
    """Return the motion of frames, estimated on groups of them where that is asked for.

    Beside it, (frame,) where each frame stands among those that the estimate, and its local
    field, was made of.
    """
    size, count = correction.group, len(frames)
    options: dict[str, Any] = {
        "pixel_size": correction.pixel_size,
        "patches": correction.patches,
    }
    if size == 1 or count <= size:
        return estimate_motion(frames, **options), np.arange(count, dtype=np.float64)
    motion = estimate_motion(_Groups(frames, size), **options)
    groups = len(motion.shift)
    bounds = [min(group * size, count) for group in range(groups + 1)]
    middle = np.array([(a + b - 1) / 2 for a, b in pairwise(bounds)])
    # What moves between two groups moves evenly; at the ends it goes on as between the last two.
    place = np.interp(np.arange(count), middle, np.arange(groups))
    shift = np.stack([_carried_on(motion.shift[:, axis], middle, count) for axis in (0, 1)], axis=1)
    shift -= shift.mean(axis=0)
    error = motion.error[np.rint(place).astype(int)]
    return replace(motion, shift=shift, error=error), place


def _carried_on(
    values: NDArray[np.float64], at: NDArray[np.float64], count: int
) -> NDArray[np.float64]:
    frames = np.arange(count, dtype=np.float64)
    result = np.interp(frames, at, values)
    for ends, outside in (((0, 1), frames < at[0]), ((-1, -2), frames > at[-1])):
        slope = (values[ends[0]] - values[ends[1]]) / (at[ends[0]] - at[ends[1]])
        result[outside] = values[ends[0]] + slope * (frames[outside] - at[ends[0]])
    return result


class _Groups(Sequence["NDArray[np.float32]"]):
    """Sums of consecutive frames, made when they are asked for; the last may have fewer."""

    def __init__(self, frames: Sequence[NDArray[np.float32]], size: int) -> None:
        self._frames, self._size = frames, size

    def __len__(self) -> int:
        return (len(self._frames) + self._size - 1) // self._size

    @overload
    def __getitem__(self, index: int) -> NDArray[np.float32]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[NDArray[np.float32]]: ...
    def __getitem__(
        self, index: int | slice
    ) -> NDArray[np.float32] | Sequence[NDArray[np.float32]]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        first = range(len(self))[index] * self._size
        last = min(first + self._size, len(self._frames))
        total = np.array(self._frames[first], np.float32)
        for frame in range(first + 1, last):
            total += self._frames[frame]
        return total

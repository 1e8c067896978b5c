"""One movie: its frames aligned and summed.

What a task of motion correction computes once the movie is read; arrays in, arrays out.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tomodask.errors import DataError, ParameterError
from tomodask.kernels.fourier_crop import cropped_shape, fourier_crop
from tomodask.kernels.frame_sums import sum_bytes, sum_frames
from tomodask.kernels.motion import estimate_bytes, estimate_motion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tomodask.kernels.motion import Motion

__all__ = ["Corrected", "FrameCorrection", "correct_frames", "corrected_shape", "correction_bytes"]


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
    voltage
        kV, where frames are weighted by dose; None where they are not.
    """

    pixel_size: float
    patches: tuple[int, int] | None = None
    binning: float = 1.0
    skip: tuple[int, int] = (0, 0)
    voltage: float | None = None

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
            "residual": float(self.motion.residual),
            "supported": bool(self.motion.supported),
            "field": None if field is None else field.coefficients.tolist(),
        }


def corrected_shape(shape: tuple[int, int], binning: float) -> tuple[tuple[int, int], float]:
    """Return the shape (y, x) of the sums of frames, and their exact binning."""
    return (shape, 1.0) if binning == 1 else cropped_shape(shape, binning)


def correction_bytes(frames: int, shape: tuple[int, int], correction: FrameCorrection) -> int:
    """Return the bytes of the arrays of one movie's task."""
    size = (frames, *shape)
    raw: int = 2 * frames * shape[0] * shape[1]  # counts of at most two bytes are kept as they are stored
    estimate = estimate_bytes(size, pixel_size=correction.pixel_size)
    return raw + max(estimate, sum_bytes(size, weighted=correction.voltage is not None))


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
    motion = estimate_motion(part, pixel_size=correction.pixel_size, patches=correction.patches)
    local = None if motion.field is None else motion.field.on_grid
    if correction.voltage is not None and dose is None:
        raise ParameterError("frames are to be weighted by dose, but the dose is not recorded")
    full, even, odd = sum_frames(part, motion.shift, local)
    images = {"images": full, "even": even, "odd": odd}
    shape, factor = corrected_shape(full.shape, correction.binning)
    if shape != full.shape:
        # Electrons per pixel of the sum: a larger pixel holds more of them.
        images = {
            name: fourier_crop(image, shape, factor) * np.float32(factor**2)
            for name, image in images.items()
        }
    return Corrected(images, motion, count)

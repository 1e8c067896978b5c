"""The sum of a movie's frames, each moved back to where the specimen was.

Every frame is read once and sampled at the moved points by a separable filter in real space; the
sums of the even and of the odd frames are made in the same pass, and the full sum from the two.

**Interpolation.** For each fraction of a pixel (to 1/1024) the filter is the one nearest, by
least squares over the frequencies from 0 to 0.86 Nyquist, to an exact shift; its weights sum to
1. Whole pixels are copied to the bit.
Against frames that never moved, the power along an axis changes by less than 1.3 % up to 0.85
Nyquist whatever the fraction; on average over all fractions 3 % are lost at 0.87 Nyquist, 12 % at
0.9, 42 % at 0.95. No frequency is amplified by more than that. (An even number of weights cannot
move the Nyquist frequency itself by half a pixel.)

**Local motion.** The displacement is constant in small blocks of the sum, so that all their
pixels share the weights. Blocks are so small that the error this makes, as standard deviation
over a block, stays below 0.025 pixels where the displacement changes most: 0.4 % of the power at
0.8 Nyquist there, less elsewhere. (Below 0.009 pixels per pixel, that is: blocks of 8 x 16 pixels
are the smallest.) The errors of a block's frames are in proportion to the gradients of their
displacements, which sum to zero with these, so that no pattern of blocks builds up in the sum.

**Beyond the frame's edge** a frame continues as its own mirror image (the edge between the first
two pixels). A rim as wide as the largest shift so repeats what lies inside it, in the frames that
do not reach there; it has the brightness and the noise of its surroundings.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from tomodask.errors import DataError, ParameterError
from tomodask.kernels._frame_shift import FRACTION_BITS, add_moved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import ArrayLike, NDArray

    #: (frame, ys, xs) -> (y, x, 2), pixels.
    Displacement = Callable[[int, NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]

__all__ = ["FrameOffsets", "add_frames", "moving_frames", "sum_bytes", "sum_frames"]

#: Blocks of one offset, of which the first that is small enough is taken; they divide a tile.
_BLOCKS = ((64, 256), (32, 128), (32, 64), (16, 64), (16, 32), (8, 32), (8, 16))
#: Standard deviation of the displacement over a block, pixels.
_TOLERANCE = 0.025
#: No frame is shifted further than this, pixels.
_FARTHEST = 1e6
#: Distance of the points from which the steepness of a displacement is taken, pixels.
_COARSE = 64
#: Types of frames that are read as they are; others are converted first.
_NATIVE = (np.uint8, np.int8, np.uint16, np.int16, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class FrameOffsets:
    """Where the content of each block of the sum lies in each frame.

    Parameters
    ----------
    shape
        (y, x) of the frames and of the sum.
    block
        (y, x) pixels of a block.
    offset
        (frame, block y, block x, 2) int32: (y, x) offset in units of 2^-10 pixel.
    """

    shape: tuple[int, int]
    block: tuple[int, int]
    offset: NDArray[np.int32]


def sum_frames(
    frames: NDArray[np.generic] | Iterable[NDArray[np.generic]],
    shift: ArrayLike,
    displacement: Displacement | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Sum the frames of a movie, moved back, and their even and odd halves.

    Parameters
    ----------
    frames
        (frame, y, x), or (y, x) frames one at a time, each of which is needed only once. Counts
        of 8 and 16 bits and float32 are read as they are.
    shift
        (frame, 2) pixels (y, x): where a frame's content lies relative to the sum, whose pixel
        (y, x) is the frame's (y + shift_y, x + shift_x).
    displacement
        Function ``(frame, ys, xs)`` that returns the (y, x, 2) displacements, in pixels, that
        come on top of the shift of frame number `frame` at rows `ys` and columns `xs` of the sum.

    Returns
    -------
    full, even, odd
        (y, x) float32: sums of all frames, of frames 0, 2, 4 ... and of 1, 3, 5 ...; each half in
        the order of the frames, and ``full = even + odd``.

    Raises
    ------
    DataError
        If there is no frame, or frames differ in shape or number from each other or the shifts.
    ParameterError
        If a shift is not finite or has the wrong shape.
    """
    offsets, stacks = moving_frames(frames, shift, displacement)
    halves = np.zeros((2, *offsets.shape), np.float32)
    for first, stack in stacks:
        add_frames(stack, offsets, first, halves)
    return halves[0] + halves[1], halves[0], halves[1]


def sum_bytes(shape: tuple[int, int, int], *, weighted: bool = False) -> int:
    """Return the bytes that summing takes beside the frames themselves.

    Parameters
    ----------
    shape
        (frame, y, x).
    weighted
        Whether the frames are weighted by dose, too.

    Returns
    -------
    The three sums in float32 and the offsets of the smallest blocks; weighted, the transforms of
    both halves and of one frame, and that frame, instead of the sums, which are made when frame
    and transforms are gone.
    """
    frames, height, width = shape
    transform = 8 * height * (width // 2 + 1)
    arrays = 3 * transform + 4 * height * width if weighted else 3 * 4 * height * width
    smallest = _BLOCKS[-1]
    return arrays + frames * 8 * (height // smallest[0] + 1) * (width // smallest[1] + 1)


def moving_frames(
    frames: NDArray[np.generic] | Iterable[NDArray[np.generic]],
    shift: ArrayLike,
    displacement: Displacement | None = None,
) -> tuple[FrameOffsets, Iterator[tuple[int, NDArray[np.generic]]]]:
    """Return the offsets of a movie's frames, and the frames as :func:`add_frames` takes them.

    Parameters and errors are those of :func:`sum_frames`.

    Returns
    -------
    offsets
        In blocks as large as the displacement allows.
    stacks
        Number of the first frame, and (frame, y, x) frames: all at once where they lie in memory
        so, else one at a time.
    """
    stacks = _stacks(frames)
    first = next(stacks, None)
    if first is None:
        raise DataError("a movie without frames cannot be summed")
    shape = (first.shape[1], first.shape[2])
    offsets = FrameOffsets(shape, *_offsets(shape, np.asarray(shift, np.float64), displacement))
    return offsets, _numbered(chain([first], stacks), offsets)


def add_frames(
    frames: NDArray[np.generic], offsets: FrameOffsets, first: int, sums: NDArray[np.float32]
) -> None:
    """Add moved frames to sums in turn.

    Parameters
    ----------
    frames
        (frame, y, x), from :func:`moving_frames`, as are the next two.
    offsets
        Of all frames of the movie.
    first
        Number of the first of `frames` in the movie.
    sums
        (n, y, x) float32: frame number f is added to ``sums[f % n]``.
    """
    add_moved(frames, first, offsets.offset, offsets.block, sums)


def _stacks(
    frames: NDArray[np.generic] | Iterable[NDArray[np.generic]],
) -> Iterator[NDArray[np.generic]]:
    """Give stacks (frame, y, x) of types that can be added, without copying where possible."""
    if isinstance(frames, np.ndarray) and frames.ndim != 3:
        raise DataError(f"frames of shape {frames.shape}: give (frame, y, x)")
    if isinstance(frames, np.ndarray) and _is_native(frames):
        if len(frames):
            yield frames
        return
    for frame in frames:
        yield (frame if _is_native(frame) else np.ascontiguousarray(frame, np.float32))[None]


def _is_native(frames: NDArray[np.generic]) -> bool:
    """Whether frames are read as they are."""
    return frames.dtype in _NATIVE and frames.flags.c_contiguous


def _numbered(
    stacks: Iterable[NDArray[np.generic]], offsets: FrameOffsets
) -> Iterator[tuple[int, NDArray[np.generic]]]:
    """Give the number of its first frame with each stack."""
    shifts, count = len(offsets.offset), 0
    for stack in stacks:
        if stack.shape[1:] != offsets.shape:
            raise DataError(f"frame {count} is {stack.shape[1:]}, the first {offsets.shape}")
        if count + len(stack) > shifts:
            raise DataError(f"more frames than the {shifts} shifts: give a shift for each")
        yield count, stack
        count += len(stack)
    if count < shifts:
        raise DataError(f"{count} frames and {shifts} shifts: give a shift for each")


def _offsets(
    shape: tuple[int, int], shifts: NDArray[np.float64], displacement: Displacement | None
) -> tuple[tuple[int, int], NDArray[np.int32]]:
    """Return the size of blocks and the offsets of `FrameOffsets`."""
    if shifts.ndim != 2 or shifts.shape[1] != 2:
        raise ParameterError(f"shifts of shape {shifts.shape}: give (frame, 2), pixels (y, x)")
    block = _BLOCKS[0]
    if displacement is not None:
        block = _block(_steepness(shape, len(shifts), displacement))
    # Centres of the blocks; the last ones may be cut off by the edge.
    ys, xs = (
        (np.arange(0, n, b) + np.minimum(np.arange(0, n, b) + b, n) - 1) / 2
        for n, b in zip(shape, block, strict=True)
    )
    offset = np.empty((len(shifts), len(ys), len(xs), 2), np.int32)
    for frame, whole in enumerate(shifts):
        local = np.zeros(2) if displacement is None else displacement(frame, ys, xs)
        total = np.rint((whole + local) * 2**FRACTION_BITS)
        if not (np.abs(total) < _FARTHEST * 2**FRACTION_BITS).all():
            raise ParameterError(f"frame {frame} is shifted by {whole} pixels: give finite numbers")
        offset[frame] = total
    return block, offset


def _steepness(shape: tuple[int, int], frames: int, displacement: Displacement) -> float:
    """Return the largest gradient of a displacement, pixels per pixel."""
    ys, xs = (np.linspace(0, n - 1, max(2, -(-n // _COARSE) + 1)) for n in shape)
    steps = (max(ys[1] - ys[0], 1), max(xs[1] - xs[0], 1))
    largest = 0.0
    for frame in range(frames):
        local = displacement(frame, ys, xs)
        along_y = np.abs(np.diff(local, axis=0)).max() / steps[0]
        along_x = np.abs(np.diff(local, axis=1)).max() / steps[1]
        largest = max(largest, float(np.hypot(along_y, along_x)))
    return largest


def _block(steepness: float) -> tuple[int, int]:
    """Return the largest block over which a displacement is constant enough."""
    for block in _BLOCKS:
        if steepness * np.hypot(*block) / np.sqrt(12) <= _TOLERANCE:
            return block
    return _BLOCKS[-1]

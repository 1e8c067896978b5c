"""Movies: the frames of one exposure, whatever their format.

The functions that the rest of the package calls. A movie in MRC or TIFF is a stack whose sections
are its frames; an EER holds single electrons, from which frames are rendered (`Rendering`).

**Rows.** Frames are y up: row 0 is the bottom of the image. The first row of an MRC file is the
bottom; that of a TIFF, and of an EER, is the top, as IMOD and SerialEM hold, so their rows are
turned over on reading. Programs that write TIFFs of which the first row is the bottom exist;
``row_order="up"`` says that a file is one.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tomodask.errors import FormatError, ParameterError
from tomodask.io.eer import EerInfo, is_eer, open_eer, render_eer
from tomodask.io.paths import readable
from tomodask.io.stack import StackInfo, open_stack
from tomodask.io.stack_info import read_contiguous_section
from tomodask.io.tiff import read_tiff_pages

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike

    from numpy.typing import NDArray

__all__ = ["MovieInfo", "Rendering", "open_movie", "read_frame", "read_frames"]

RowOrder = Literal["file", "up"]

#: e/A^2 of a rendered frame, and raw frames of one where the exposure is not known.
_DOSE_PER_FRAME, _GROUP = 0.25, 10


@dataclass(frozen=True, slots=True)
class Rendering:
    """How the electron events of an EER become frames.

    Attributes
    ----------
    superresolution : {1, 2, 4}
        Rendered pixels per sensor pixel along each axis.
    group : int, optional
        Raw frames of the camera per rendered frame.
    dose_per_frame : float, optional
        e/A^2 per rendered frame, instead of `group`; the number of raw frames that comes nearest
        is taken.

    Raises
    ------
    ParameterError
        A value that makes no sense, or both `group` and `dose_per_frame`.

    Notes
    -----
    With neither, a rendered frame holds about 0.25 e/A^2, as in AreTomo3: less leaves too few
    electrons to align a frame by, more blurs it. Where the exposure is not known it holds 10 raw
    frames, the default of IMOD and of AreTomo3. Raw frames that do not fill a last group are left
    out, as RELION and IMOD do; `MovieInfo.unused_raw_frames` says how many.
    """

    superresolution: int = 1
    group: int | None = None
    dose_per_frame: float | None = None

    def __post_init__(self) -> None:
        if self.superresolution not in {1, 2, 4}:
            raise ParameterError(
                f"superresolution is {self.superresolution}; an electron is placed on 1, 2 or 4 "
                "pixels per sensor pixel"
            )
        if self.group is not None and self.dose_per_frame is not None:
            raise ParameterError(
                f"group ({self.group}) and dose_per_frame ({self.dose_per_frame}) are both given; "
                "each follows from the other, give one"
            )
        if self.group is not None and not 1 <= self.group <= 65535:
            raise ParameterError(f"group is {self.group}; give 1 to 65535 raw frames")
        if self.dose_per_frame is not None and not 0 < self.dose_per_frame < np.inf:
            raise ParameterError(
                f"dose_per_frame is {self.dose_per_frame}; give a positive number of e/A^2"
            )


@dataclass(frozen=True, slots=True)
class MovieInfo:
    """A movie on disk, as far as its headers tell; it holds no pixels.

    It is small, immutable and picklable, so that a task can read its own frames.

    Attributes
    ----------
    path : Path
        The file, absolute.
    format : {"mrc", "tiff", "eer"}
        Which reader opens it.
    shape : tuple of int
        (frame, y, x), as `read_frames` gives them.
    dtype : numpy.dtype
        The type of the pixels as `read_frames` gives them, of native byte order.
    raw_frames : int
        Frames that the file holds; more than ``shape[0]`` where an EER's are grouped.
    pixel_size : float or None
        A per pixel of `shape`; None where the file does not say.
    exposure : float or None
        e/A^2 of the whole file, as given to `open_movie` or measured by an EER's camera.
    row_order : {"file", "up"}
        "up" where the file's first row is the bottom, whatever its format.
    rendering : Rendering or None
        Of an EER, with the `Rendering.group` that was chosen.
    identity : tuple of int
        Size of the file, bytes, and the time of its last change, ns: equal while it is the same.
    source : StackInfo or EerInfo
        What the format's own reader found, for `read_frames`.
    """

    path: Path
    format: Literal["mrc", "tiff", "eer"]
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    raw_frames: int
    pixel_size: float | None
    exposure: float | None
    row_order: RowOrder
    rendering: Rendering | None
    identity: tuple[int, int]
    source: StackInfo | EerInfo

    @property
    def group(self) -> int:
        """Raw frames per frame."""
        return (self.rendering.group or 1) if self.rendering else 1

    @property
    def unused_raw_frames(self) -> int:
        """Raw frames at the end of an EER that do not fill a group."""
        return self.raw_frames - self.group * self.shape[0]

    @property
    def frame_dose(self) -> float | None:
        """e/A^2 of one frame; None where the exposure is not known."""
        return None if self.exposure is None else self.exposure * self.group / self.raw_frames


def open_movie(
    path: str | PathLike[str],
    *,
    rendering: Rendering | None = None,
    exposure: float | None = None,
    row_order: RowOrder = "file",
) -> MovieInfo:
    """Read the headers of a movie, and check that the file is complete.

    Parameters
    ----------
    path : path-like
        MRC, TIFF or EER, told by its content.
    rendering : Rendering, optional
        How an EER becomes frames; the other formats hold frames already.
    exposure : float, optional
        e/A^2 of the whole movie.
    row_order : {"file", "up"}
        "up" where the file's first row is the bottom of the image although its format's is not.

    Returns
    -------
    MovieInfo
        What the headers tell. No pixel is read.

    Raises
    ------
    FormatError
        None of the formats, truncated, without frames, with frames of several sizes, or encoded
        in a way that cannot be read.
    StoreError
        The file does not exist or cannot be read.
    ParameterError
        The exposure or the rendering makes no sense for this movie.
    """
    path = Path(path).absolute()
    if exposure is not None and not 0 < exposure < np.inf:
        raise ParameterError(f"{path}: exposure is {exposure}; give a positive number of e/A^2")
    with readable(path):
        status = path.stat()
    if not (stat.S_ISREG(status.st_mode) or path.is_dir()):  # reading a pipe would wait for ever
        raise FormatError(f"{path}: is not a file of data, so no movie; give a file")
    identity = status.st_size, status.st_mtime_ns
    if is_eer(path):
        return _open_rendered(
            open_eer(path), rendering or Rendering(), exposure, row_order, identity
        )
    stack = open_stack(path)
    dtype = stack.dtype.newbyteorder("=")
    return MovieInfo(
        path=path,
        format=stack.format,
        shape=stack.shape,
        dtype=np.dtype(np.float32) if dtype == np.float16 else dtype,
        raw_frames=stack.shape[0],
        pixel_size=stack.pixel_size,
        exposure=exposure,
        row_order=row_order,
        rendering=None,
        identity=identity,
        source=stack,
    )


def read_frames(
    info: MovieInfo, start: int = 0, stop: int | None = None, step: int = 1
) -> NDArray[Any]:
    """Read some frames of a movie.

    Parameters
    ----------
    info : MovieInfo
        From `open_movie`.
    start, stop, step : int
        Which frames, as of a `range`; all of them by default.

    Returns
    -------
    ndarray of `info.dtype`, shape (frame, y, x)
        C-contiguous, y up: row 0 is the bottom row of the image.

    Raises
    ------
    ParameterError
        There are no such frames.
    FormatError
        The frames' bytes are missing or corrupt.
    StoreError
        The file cannot be read.
    """
    frames = range(start, info.shape[0] if stop is None else stop, step)
    if not frames or min(frames) < 0 or max(frames) >= info.shape[0]:
        raise ParameterError(
            f"{info.path}: has no frames {start}:{stop}:{step}; "
            f"its frames are 0 to {info.shape[0] - 1}"
        )
    if isinstance(info.source, EerInfo):
        assert info.rendering is not None
        return render_eer(
            info.source,
            frames,
            group=info.group,
            superresolution=info.rendering.superresolution,
            upside_down=info.row_order == "file",
            dtype=info.dtype,
        )
    images = np.empty((len(frames), *info.shape[1:]), info.dtype)
    for image, section in zip(images, _sections(info.source, frames), strict=True):
        # The readers turn the rows of a TIFF over.
        keep = info.row_order == "up" and info.format == "tiff"
        image[...] = section[::-1] if keep else section
    return images


def read_frame(info: MovieInfo, index: int) -> NDArray[Any]:
    """Read one frame of a movie.

    Parameters
    ----------
    info : MovieInfo
        From `open_movie`.
    index : int
        Frame, from 0.

    Returns
    -------
    ndarray of `info.dtype`, shape (y, x)
        As of `read_frames`.
    """
    frame: NDArray[Any] = read_frames(info, index, index + 1)[0]
    return frame


def _sections(stack: StackInfo, frames: range) -> Iterator[NDArray[Any]]:
    if stack.format == "tiff":
        return read_tiff_pages(stack, frames)
    return (read_contiguous_section(stack, index) for index in frames)


def _open_rendered(
    source: EerInfo,
    rendering: Rendering,
    exposure: float | None,
    row_order: RowOrder,
    identity: tuple[int, int],
) -> MovieInfo:
    zoom = rendering.superresolution
    finest = 1 << min(source.subpixel_bits)
    if zoom > finest:
        raise ParameterError(
            f"{source.path}: its electrons are placed on {finest} pixels per sensor pixel; "
            f"superresolution {zoom} needs more, give {finest} or less"
        )
    raw_frames, ny, nx = source.shape
    if exposure is None and source.dose is not None and source.pixel_size is not None:
        exposure = source.dose / source.pixel_size**2
    group = _raw_frames_per_frame(source, rendering, exposure)
    return MovieInfo(
        path=source.path,
        format="eer",
        shape=(raw_frames // group, ny * zoom, nx * zoom),
        # A raw frame adds at most one electron to a pixel.
        dtype=np.dtype(np.uint8 if group <= 255 else np.uint16),
        raw_frames=raw_frames,
        pixel_size=None if source.pixel_size is None else source.pixel_size / zoom,
        exposure=exposure,
        row_order=row_order,
        rendering=Rendering(superresolution=zoom, group=group),
        identity=identity,
        source=source,
    )


def _raw_frames_per_frame(source: EerInfo, rendering: Rendering, exposure: float | None) -> int:
    raw_frames = source.shape[0]
    if rendering.group is not None:
        if rendering.group > raw_frames:
            raise ParameterError(
                f"{source.path}: has {raw_frames} raw frames, fewer than one group of "
                f"{rendering.group}; give a smaller group"
            )
        return rendering.group
    if exposure is not None:
        dose = rendering.dose_per_frame or _DOSE_PER_FRAME
        group = round(dose * raw_frames / exposure)
        return min(max(group, 1), raw_frames, 65535)
    if rendering.dose_per_frame is not None:
        raise ParameterError(
            f"{source.path}: frames of {rendering.dose_per_frame} e/A^2 are asked for, but its "
            "exposure is not known; give the exposure, or the group"
        )
    return min(_GROUP, raw_frames)

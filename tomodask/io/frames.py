"""The frames of a series' movies as steps use them: gain-corrected, defects mended, y up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, overload

import numpy as np

from tomodask.errors import DataError
from tomodask.io.defects import read_defects
from tomodask.io.gain import read_gain
from tomodask.io.movies import MovieInfo, Rendering, open_movie, read_frame, read_frames
from tomodask.io.paths import readable
from tomodask.kernels.gain import (
    Orientation,
    Repair,
    correct_frame,
    dead_pixels,
    expand,
    orient,
    plan_repair,
)
from tomodask.kernels.hot_pixels import find_hot_pixels

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

__all__ = ["FrameSource", "Frames"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameSource:
    """How the movies of a series are read; small and picklable.

    Parameters
    ----------
    gain
        File of the gain reference; None where movies are corrected already.
    orientation
        Of the gain relative to the movies.
    reciprocal
        Whether counts are divided by what the gain's file holds.
    defects
        File of the defects; None where none are known.
    row_order
        "up" where a movie's first row is the bottom whatever its format.
    rendering
        How an EER becomes frames.
    """

    gain: Path | None = None
    orientation: Orientation = field(default_factory=Orientation)
    reciprocal: bool = False
    defects: Path | None = None
    row_order: Literal["file", "up"] = "file"
    rendering: Rendering = field(default_factory=Rendering)

    @classmethod
    def of(cls, movies: xr.Dataset) -> FrameSource:
        """Return how the movies of a table are read."""
        attributes = movies.attrs
        gain: dict[str, Any] = attributes.get("gain") or {}
        defects = attributes.get("defects")
        return cls(
            gain=Path(gain["path"]) if gain else None,
            orientation=Orientation.parse(gain.get("orientation", "rot0")),
            reciprocal=bool(gain.get("reciprocal", False)),
            defects=Path(defects) if defects else None,
            row_order=attributes.get("row_order", "file"),
            rendering=Rendering(**attributes.get("rendering", {})),
        )

    def identity(self) -> dict[str, Any]:
        """Return what determines the frames besides the movies' files.

        Raises
        ------
        StoreError
            If the gain or the defects are not there.
        """
        return {
            "gain": _version(self.gain),
            "orientation": str(self.orientation),
            "reciprocal": self.reciprocal,
            "defects": _version(self.defects),
            "row_order": self.row_order,
            "rendering": str(self.rendering),
        }

    def _versions(self) -> tuple[object, ...]:
        """Return what tells the files of the camera from later ones of the same name."""
        return _version(self.gain), _version(self.defects)

    def open(self, movie: str | Path, exposure: float | None = None) -> MovieInfo:
        """Return what the headers of a movie tell; errors as of :func:`open_movie`."""
        return open_movie(
            movie, rendering=self.rendering, exposure=exposure, row_order=self.row_order
        )

    def read_frame(self, info: MovieInfo, index: int) -> NDArray[np.float32]:
        """Read one frame (y, x), mended where the gain or the defects say so; as :meth:`read`."""
        gain, dead = _camera(self, (info.shape[1], info.shape[2]), self._versions())
        return correct_frame(read_frame(info, index), gain, _repair(dead), number=index)

    def read(self, info: MovieInfo) -> Frames:
        """Read a movie.

        Raises
        ------
        FormatError, StoreError
            If the movie, the gain or the defects cannot be read.
        DataError
            If their shapes do not fit the frames.
        """
        shape = (info.shape[1], info.shape[2])
        gain, dead = _camera(self, shape, self._versions())
        raw = read_frames(info)
        total = raw.sum(axis=0, dtype=np.float32 if raw.dtype.kind == "f" else np.int32)
        spoilt = find_hot_pixels(correct_frame(total, gain, _repair(dead)))
        bad = np.zeros(shape, bool) if dead is None else dead.copy()
        bad[spoilt.y, spoilt.x] = True
        return Frames(raw, gain, _repair(bad), (spoilt.y, spoilt.x))


class Frames(Sequence["NDArray[np.float32]"]):
    """The frames of one movie, held as counts and corrected one by one as they are asked for.

    Parameters
    ----------
    raw
        (frame, y, x) counts as read.
    gain
        (y, x) multiplicative gain; None for ones.
    repair
        What bad pixels are filled from.
    spoilt
        (y, x) int32 indices of pixels that are mended because this movie shows them to be bad,
        besides those that the gain or the defects name.
    first
        Number of the first frame in the movie.
    """

    def __init__(
        self,
        raw: NDArray[Any],
        gain: NDArray[np.float32] | None,
        repair: Repair | None,
        spoilt: tuple[NDArray[np.int32], NDArray[np.int32]],
        first: int = 0,
    ) -> None:
        self._raw, self._gain, self._repair, self._first = raw, gain, repair, first
        self.spoilt = spoilt

    @property
    def shape(self) -> tuple[int, int, int]:
        """(frame, y, x)."""
        frames, height, width = self._raw.shape
        return frames, height, width

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._raw)

    @overload
    def __getitem__(self, index: int) -> NDArray[np.float32]: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> NDArray[np.float32] | Self:
        """Return one frame (y, x), corrected, or a run of frames."""
        if isinstance(index, slice):
            start, _, step = index.indices(len(self))
            if step != 1:
                raise IndexError("frames are cut in runs: give a slice without a step")
            return type(self)(
                self._raw[index], self._gain, self._repair, self.spoilt, self._first + start
            )
        number = range(len(self))[index]
        return correct_frame(
            self._raw[number], self._gain, self._repair, number=self._first + number
        )


def _repair(bad: NDArray[np.bool_] | None) -> Repair | None:
    return None if bad is None or not bad.any() else plan_repair(bad)


def _version(path: Path | None) -> tuple[str, int, int] | None:
    if path is None:
        return None
    with readable(path):
        stat = path.stat()
    return path.name, stat.st_size, stat.st_mtime_ns


@lru_cache(maxsize=2)
def _camera(
    source: FrameSource, shape: tuple[int, int], versions: tuple[object, ...]
) -> tuple[NDArray[np.float32] | None, NDArray[np.bool_] | None]:
    """Return the gain on the frames' pixels and the mask of what it and the defects call bad.

    The versions of their files tell what is kept from what must be read again.
    """
    del versions
    gain, bad = None, None
    if source.gain is not None:
        plain = read_gain(source.gain, reciprocal=source.reciprocal)
        try:
            gain = expand(orient(plain, source.orientation), shape)
        except DataError as error:
            raise DataError(f"{source.gain}, the gain, does not fit the frames: {error}") from error
        bad = dead_pixels(gain)
    if source.defects is not None:
        mask = read_defects(source.defects, shape)
        bad = mask if bad is None else bad | mask
    return gain, bad

"""Reading and writing whole shards of stored arrays.

zarr-python makes the arrays and any Zarr reader opens them. Their shards, however, are written
here: a shard of the sharding codec is its inner chunks one after the
other and an index with a checksum, so that a task can stream each chunk to the file as soon as it
is computed, in one copy. Through zarr-python the same write needs the whole shard in memory and
several copies of it (benchmarks/README.md).
"""

from __future__ import annotations

import struct
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import google_crc32c
import numpy as np
import zarr
from numcodecs import Blosc
from zarr.codecs import BloscCodec

from tomodask.engine.files import explained, partial_path
from tomodask.errors import FormatError, ShardAlignmentError, StoreError, TomodaskError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from numpy.typing import NDArray

__all__ = [
    "ShardGrid",
    "ShardWriter",
    "StoredArray",
    "configure_zarr",
    "create_array",
    "read_region",
    "read_shard",
    "reading",
    "stored_grid",
    "write_shard",
]


def configure_zarr() -> None:
    """Keep Zarr and Blosc to the thread of the task that calls them."""
    import numcodecs.blosc

    zarr.config.set({"threading.max_workers": 1, "async.concurrency": 4})
    numcodecs.blosc.use_threads = False


@dataclass(frozen=True, slots=True)
class ShardGrid:
    """Shape, shards and inner chunks of a stored float32 array.

    Parameters
    ----------
    shape, shard, chunk
        Per axis; a shard is a multiple of the chunk along every axis.
    compressed
        Whether chunks are compressed (Blosc, LZ4 over bit planes). It halves images of counts;
        reconstructed noise shrinks by a tenth only, at a third of the cost of making it.
    """

    shape: tuple[int, ...]
    shard: tuple[int, ...]
    chunk: tuple[int, ...]
    compressed: bool = False

    def __post_init__(self) -> None:
        if any(s % c for s, c in zip(self.shard, self.chunk, strict=True)):
            raise ShardAlignmentError(
                f"shards of {self.shard} are not made of whole chunks of {self.chunk}"
            )

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of shards along each axis."""
        return tuple(-(-n // s) for n, s in zip(self.shape, self.shard, strict=True))

    def region(self, index: tuple[int, ...]) -> tuple[slice, ...]:
        """Return the part of the array that a shard holds.

        Raises
        ------
        ShardAlignmentError
            If there is no such shard.
        """
        if not all(0 <= i < n for i, n in zip(index, self.counts, strict=True)):
            raise ShardAlignmentError(f"no shard {index} in an array of {self.counts} shards")
        return tuple(
            slice(i * s, min((i + 1) * s, n))
            for i, s, n in zip(index, self.shard, self.shape, strict=True)
        )

    def shard_of(self, region: tuple[slice, ...]) -> tuple[int, ...]:
        """Return the shard that a region is.

        Raises
        ------
        ShardAlignmentError
            If the region's edges are not those of one shard: two writers of one shard would
            overwrite each other's part.
        """
        index = tuple((part.start or 0) // s for part, s in zip(region, self.shard, strict=True))
        bounds = [part.indices(n) for part, n in zip(region, self.shape, strict=True)]
        own = [part.indices(n) for part, n in zip(self.region(index), self.shape, strict=True)]
        if bounds != own:
            raise ShardAlignmentError(
                f"region {region} is not one shard of an array of {self.shape} in shards of "
                f"{self.shard}; write whole shards"
            )
        return index


def create_array(
    group: zarr.Group,
    name: str,
    grid: ShardGrid,
    dimensions: tuple[str, ...],
    attributes: dict[str, Any],
) -> Path:
    """Create an empty float32 array whose shards :class:`ShardWriter` writes.

    The fill value is NaN, so that a missing shard shows.

    Returns
    -------
    pathlib.Path
        Its folder.
    """
    array = group.create_array(
        name,
        shape=grid.shape,
        chunks=grid.chunk,
        shards=grid.shard,
        dtype="float32",
        compressors=BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle")
        if grid.compressed
        else None,
        fill_value=float("nan"),
        dimension_names=dimensions,
        attributes=attributes,
        config={"write_empty_chunks": True},
    )
    return Path(str(group.store_path.store.root)) / array.path  # type: ignore[attr-defined]


#: Offset and length, in a shard's index, of a chunk that is not there.
_ABSENT = 2**64 - 1
#: The same format as the array's codec: Zarr's Blosc codec stores what numcodecs' encodes.
_PACKER = Blosc(cname="lz4", clevel=5, shuffle=Blosc.BITSHUFFLE)


class ShardWriter:
    """Write one shard, chunk after chunk, in any order of chunks.

    Use it as a context manager: on success the shard appears under its name, whole; on failure
    nothing does.

    Parameters
    ----------
    array
        Folder of the array.
    grid
        Its layout.
    index
        Which shard.
    """

    def __init__(self, array: Path, grid: ShardGrid, index: tuple[int, ...]) -> None:
        grid.region(index)  # raises where there is no such shard
        self.path = Path(array, "c", *map(str, index))
        self.grid = grid
        self.chunks = tuple(s // c for s, c in zip(grid.shard, grid.chunk, strict=True))
        self._index = np.full((int(np.prod(self.chunks)), 2), _ABSENT, "<u8")
        self._temporary = partial_path(self.path)
        self.bytes_written = 0

    def __enter__(self) -> Self:
        """Open the temporary file."""
        with explained(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = self._temporary.open("xb", buffering=0)
        return self

    def write(self, chunk: tuple[int, ...], values: NDArray[np.float32]) -> None:
        """Write one chunk, complete to its full size, at its place in the shard.

        Parameters
        ----------
        chunk
            Index of the chunk in the shard.
        values
            float32, C-contiguous, of the chunk's shape.
        """
        if values.shape != self.grid.chunk or values.dtype != np.dtype("<f4"):
            raise ShardAlignmentError(
                f"chunk of {values.shape} {values.dtype}, the array has {self.grid.chunk} float32"
            )
        if not all(0 <= i < n for i, n in zip(chunk, self.chunks, strict=True)):
            raise ShardAlignmentError(f"no chunk {chunk} in a shard of {self.chunks} chunks")
        at = int(np.ravel_multi_index(chunk, self.chunks))
        whole = np.ascontiguousarray(values)
        packed = memoryview(_PACKER.encode(whole)) if self.grid.compressed else whole.data
        data = packed.cast("B")
        self._index[at] = self.bytes_written, len(data)
        self._write(data)

    def _write(self, data: memoryview | bytes) -> None:
        with explained(self.path):
            view = memoryview(data)
            while view:
                view = view[self._stream.write(view) :]
        self.bytes_written += len(data)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Write the index and give the file its name, or remove it."""
        try:
            if kind is None:
                missing = int(np.count_nonzero(self._index[:, 1] == _ABSENT))
                if missing:
                    raise ShardAlignmentError(f"{missing} chunks of {self.path} were not written")
                table = self._index.tobytes()
                self._write(table + struct.pack("<I", google_crc32c.value(table)))
                self._stream.close()
                with explained(self.path):
                    self._temporary.replace(self.path)
        finally:
            self._stream.close()
            self._temporary.unlink(missing_ok=True)


def write_shard(
    array: Path, grid: ShardGrid, index: tuple[int, ...], values: NDArray[np.float32]
) -> int:
    """Write one shard from an array that may be smaller, filled up with zeros; return its bytes."""
    whole = values
    if values.shape != grid.shard:
        whole = np.zeros(grid.shard, np.float32)
        whole[tuple(slice(n) for n in values.shape)] = values
    with ShardWriter(array, grid, index) as writer:
        for chunk in np.ndindex(*writer.chunks):
            part = tuple(slice(i * c, (i + 1) * c) for i, c in zip(chunk, grid.chunk, strict=True))
            writer.write(chunk, whole[part])
    return writer.bytes_written


def stored_grid(array: Path) -> ShardGrid:
    """Return the layout of an array that :func:`create_array` made.

    Raises
    ------
    StoreError, FormatError
        If the array is not there, or its description cannot be read.
    """
    with reading(array):
        stored = zarr.open_array(array, mode="r")
        shards = stored.shards or stored.chunks
        return ShardGrid(stored.shape, shards, stored.chunks, bool(stored.compressors))


def read_shard(array: Path, grid: ShardGrid, index: tuple[int, ...]) -> NDArray[np.float32]:
    """Read what one shard holds of the array, in the calling thread.

    Parameters
    ----------
    array
        Folder of the array.
    grid
        Its layout.
    index
        Which shard.

    Returns
    -------
    float32, cropped to the array.

    Raises
    ------
    StoreError
        If the shard cannot be read.
    FormatError
        If it is missing, truncated or damaged.
    """
    path = Path(array, "c", *map(str, index))
    counts = tuple(s // c for s, c in zip(grid.shard, grid.chunk, strict=True))
    size = 16 * int(np.prod(counts)) + 4
    with reading(path):
        _require_shard(path)
        data = memoryview(path.read_bytes())
        table = bytes(data[-size:-4])
        if len(data) < size or struct.unpack("<I", data[-4:])[0] != google_crc32c.value(table):
            raise FormatError(
                f"{path} is truncated or damaged: its index is not whole; remove this product and "
                "make it again"
            )
        places = np.frombuffer(table, "<u8").reshape(*counts, 2)
        out = np.empty(grid.shard, np.float32)
        for chunk in np.ndindex(*counts):
            start, length = (int(value) for value in places[chunk])
            packed = data[start : start + length]
            plain = _PACKER.decode(packed) if grid.compressed else packed
            part = tuple(slice(i * c, (i + 1) * c) for i, c in zip(chunk, grid.chunk, strict=True))
            out[part] = np.frombuffer(plain, "<f4").reshape(grid.chunk)
    region = grid.region(index)
    return out[tuple(slice(0, part.stop - part.start) for part in region)]


def read_region(path: Path, region: tuple[slice | int, ...]) -> NDArray[Any]:
    """Read a part of a stored array.

    Raises
    ------
    StoreError
        If the array is not there or cannot be read.
    FormatError
        If its data is corrupt.
    """
    with reading(path, region):
        array = zarr.open_array(path, mode="r")
        _require_shards(path, array.shape, array.shards or array.chunks, region)
        return np.asarray(array[region])


@contextmanager
def reading(path: Path, region: tuple[slice | int, ...] = ()) -> Iterator[None]:
    """Turn what Zarr and the system say of a store that cannot be read into our errors.

    Raises
    ------
    StoreError
        If the file is not there or may not be read.
    FormatError
        If what it holds is damaged.
    """
    try:
        yield
    except TomodaskError:
        raise
    except FileNotFoundError as error:
        raise StoreError(f"{path} holds no array; check the path, or make it again") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreError(
            error.errno, f"cannot read {path}: {reason}; check its permissions and the disk"
        ) from error
    except (ValueError, RuntimeError, KeyError, TypeError, SystemError, MemoryError) as error:
        # The last two come of a damaged header of a packed chunk.
        where = f" at {_shown(region)}" if region else ""
        raise FormatError(
            f"cannot read {path}{where}: {error}; the store is damaged there: remove this product "
            "and make it again"
        ) from error


def _require_shards(
    path: Path,
    shape: tuple[int, ...],
    shards: tuple[int, ...],
    region: tuple[slice | int, ...],
) -> None:
    """Raise where a shard is missing: Zarr would give its fill value for it."""
    whole = region + (slice(None),) * (len(shape) - len(region))
    spans = []
    for part, n, s in zip(whole, shape, shards, strict=True):
        inside = range(n)[part] if isinstance(part, slice) else [range(n)[part]]
        spans.append(range(inside[0] // s, inside[-1] // s + 1) if inside else range(0))
    for index in product(*spans):
        _require_shard(Path(path, "c", *map(str, index)))


def _require_shard(path: Path) -> None:
    if not (path.is_file() and path.stat().st_size):
        raise FormatError(
            f"{path} is missing or empty: the store is damaged; remove this product and make it "
            "again"
        )


def _shown(region: tuple[slice | int, ...]) -> str:
    """Return a region as one writes it in an index."""
    parts = (
        str(part)
        if isinstance(part, int)
        else f"{'' if part.start is None else part.start}:{'' if part.stop is None else part.stop}"
        for part in region
    )
    return f"[{', '.join(parts)}]"


@dataclass(frozen=True, slots=True)
class StoredArray:
    """A stored array that is opened anew by whoever reads a part of it; small and picklable.

    Parameters
    ----------
    path
        Folder of the array.
    shape, dtype
        As stored.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def open(cls, path: Path) -> tuple[Self, tuple[int, ...]]:
        """Return the array and its shards.

        Raises
        ------
        StoreError
            If there is no array.
        FormatError
            If what describes it is damaged.
        """
        with reading(path):
            array = zarr.open_array(path, mode="r")
        return cls(path, array.shape, np.dtype(array.dtype)), array.shards or array.chunks

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __getitem__(self, region: tuple[slice | int, ...]) -> NDArray[Any]:
        """Read a region."""
        return read_region(self.path, region)

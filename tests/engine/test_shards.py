from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from tomodask.engine.shards import ShardGrid, ShardWriter, StoredArray, create_array, read_region
from tomodask.errors import FormatError, ShardAlignmentError, StoreError

if TYPE_CHECKING:
    from pathlib import Path


def written(folder: Path, grid: ShardGrid, values: np.ndarray, order: int = 1) -> Path:
    """Store `values`, padded with zeros to whole shards; `order` -1 takes chunks backwards."""
    array = create_array(
        zarr.open_group(folder, mode="w", zarr_format=3), "a", grid, ("z", "y", "x"), {}
    )
    for index in np.ndindex(*grid.counts):
        part = values[grid.region(index)]
        whole = np.zeros(grid.shard, np.float32)
        whole[tuple(slice(n) for n in part.shape)] = part
        with ShardWriter(array, grid, index) as writer:
            for chunk in list(np.ndindex(*writer.chunks))[::order]:
                at = tuple(
                    slice(i * c, (i + 1) * c) for i, c in zip(chunk, grid.chunk, strict=True)
                )
                writer.write(chunk, np.ascontiguousarray(whole[at]))
    return array


@st.composite
def grids(draw: st.DrawFn) -> ShardGrid:
    sizes = st.integers(1, 9)
    chunk = tuple(draw(st.integers(1, 4)) for _ in range(3))
    shard = tuple(c * draw(st.integers(1, 3)) for c in chunk)
    return ShardGrid(
        (draw(sizes), draw(sizes), draw(sizes)), shard, chunk, compressed=draw(st.booleans())
    )


@given(data=st.data(), grid=grids(), order=st.sampled_from([1, -1]))
def test_zarr_reads_the_same_bits(
    data: st.DataObject, grid: ShardGrid, order: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """zarr-python, an independent reader, finds every voxel, NaN and -0.0 included."""
    floats = st.floats(width=32, allow_nan=True, allow_infinity=True)
    values = data.draw(npst.arrays(np.float32, grid.shape, elements=floats))
    array = written(tmp_path_factory.mktemp("z"), grid, values, order)
    found = np.asarray(zarr.open_array(array, mode="r")[:])
    np.testing.assert_array_equal(found.view(np.uint32), values.view(np.uint32))


def test_zarr_writes_what_read_region_reads(tmp_path: Path) -> None:
    grid = ShardGrid((5, 130, 7), (5, 64, 8), (5, 64, 4), compressed=True)
    group = zarr.open_group(tmp_path, mode="w", zarr_format=3)
    array = create_array(group, "a", grid, ("z", "y", "x"), {})
    values = np.random.default_rng(0).normal(size=grid.shape).astype(np.float32)
    zarr.open_array(array, mode="r+")[:] = values
    region = (slice(1, 4), slice(60, 70), slice(None))
    np.testing.assert_array_equal(read_region(array, region), values[region])
    stored, shards = StoredArray.open(array)
    assert (stored.shape, stored.dtype, stored.ndim, shards) == (
        grid.shape, np.dtype("f4"), 3, grid.shard,
    )  # fmt: skip
    np.testing.assert_array_equal(stored[(2,)], values[2])


@pytest.mark.parametrize("compressed", [False, True])
def test_zeros_are_written(tmp_path: Path, compressed: bool) -> None:
    """The fill value is NaN: a chunk of zeros that was left out would read as missing."""
    grid = ShardGrid((4, 4, 4), (4, 4, 4), (2, 2, 2), compressed)
    array = written(tmp_path, grid, np.zeros(grid.shape, np.float32))
    np.testing.assert_array_equal(zarr.open_array(array, mode="r")[:], 0)


@pytest.mark.parametrize("empty", [False, True])
def test_missing_shard_is_an_error(tmp_path: Path, empty: bool) -> None:
    """Zarr would give NaN for it."""
    grid = ShardGrid((4, 8, 4), (4, 4, 4), (4, 4, 4))
    array = written(tmp_path, grid, np.ones(grid.shape, np.float32))
    shard = array / "c/0/1/0"
    shard.unlink()
    if empty:
        shard.touch()
    np.testing.assert_array_equal(read_region(array, (slice(None), slice(4), 3)), 1)
    assert read_region(array, (slice(0), slice(None))).shape == (0, 8, 4)
    for region in [(slice(None),), (0, 4), (slice(None), slice(3, 5)), (0, -1)]:
        with pytest.raises(FormatError, match=r"missing or empty.*damaged") as caught:
            read_region(array, region)
        assert str(shard) in str(caught.value)


def test_damaged_index_is_noticed_by_its_checksum(tmp_path: Path) -> None:
    grid = ShardGrid((4, 4, 4), (4, 4, 4), (2, 2, 2))
    array = written(tmp_path, grid, np.ones(grid.shape, np.float32))
    shard = array / "c/0/0/0"
    data = bytearray(shard.read_bytes())
    data[-20] ^= 1  # in the table of offsets, before its checksum
    shard.write_bytes(data)
    with pytest.raises(FormatError, match=r"(?s)c.*damaged") as caught:
        read_region(array, (slice(None), slice(2), 0))
    assert str(array) in str(caught.value)
    assert "[:, :2, 0]" in str(caught.value)


@pytest.mark.parametrize("keep", [0.0, 0.4, 0.9])
@pytest.mark.parametrize("compressed", [False, True])
def test_truncated_shard_is_noticed(tmp_path: Path, keep: float, compressed: bool) -> None:
    grid = ShardGrid((4, 4, 4), (4, 4, 4), (2, 2, 2), compressed)
    values = np.random.default_rng(0).normal(size=grid.shape).astype(np.float32)
    array = written(tmp_path, grid, values)
    shard = array / "c/0/0/0"
    data = shard.read_bytes()
    shard.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(FormatError, match="damaged"):
        read_region(array, (slice(None),) * 3)


def test_missing_array(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no array"):
        read_region(tmp_path / "nothing", (slice(None),))
    with pytest.raises(StoreError, match="holds no array"):
        StoredArray.open(tmp_path / "nothing")


def test_damaged_metadata(tmp_path: Path) -> None:
    grid = ShardGrid((4, 4, 4), (4, 4, 4), (2, 2, 2))
    array = written(tmp_path, grid, np.ones(grid.shape, np.float32))
    for text in ("", "{", "{}", '{"zarr_format": 3, "node_type": "array"}'):
        (array / "zarr.json").write_text(text)
        with pytest.raises((FormatError, StoreError), match="a"):
            StoredArray.open(array)


@pytest.mark.parametrize(
    "region",
    [
        (slice(0, 5), slice(0, 32), slice(0, 7)),  # half a shard
        (slice(0, 5), slice(32, 96), slice(0, 7)),  # across two
        (slice(0, 5), slice(0, 128), slice(0, 7)),  # two
        (slice(0, 5), slice(0, 64, 2), slice(0, 7)),  # every other row
        (slice(0, 5), slice(-64, 0), slice(0, 7)),  # before the array
        (slice(0, 5), slice(192, 256), slice(0, 7)),  # behind it
        (slice(0, 5), slice(64, 64), slice(0, 7)),  # nothing
        (slice(0, 4), slice(0, 64), slice(0, 7)),  # short in z
    ],
)
def test_region_off_the_edges_of_shards(region: tuple[slice, ...]) -> None:
    grid = ShardGrid((5, 130, 7), (6, 64, 8), (3, 32, 4))
    with pytest.raises(ShardAlignmentError):
        grid.shard_of(region)


def test_region_of_a_shard() -> None:
    grid = ShardGrid((5, 130, 7), (6, 64, 8), (3, 32, 4))
    for index in np.ndindex(*grid.counts):
        assert grid.shard_of(grid.region(index)) == index
    assert grid.shard_of((slice(None), slice(128, 192), slice(None))) == (0, 2, 0)
    for index in ((0, 3, 0), (0, -1, 0), (1, 0, 0)):
        with pytest.raises(ShardAlignmentError, match="no shard"):
            grid.region(index)


def test_shards_are_made_of_whole_chunks() -> None:
    with pytest.raises(ShardAlignmentError, match="whole chunks"):
        ShardGrid((8, 8), (8, 6), (4, 4))


def test_writer_refuses_what_would_spoil_the_shard(tmp_path: Path) -> None:
    grid = ShardGrid((4, 4, 4), (4, 4, 4), (2, 2, 2))
    ones = np.ones((2, 2, 2), np.float32)
    with pytest.raises(ShardAlignmentError, match="no shard"):
        ShardWriter(tmp_path, grid, (0, 1, 0))
    with ShardWriter(tmp_path, grid, (0, 0, 0)) as writer:
        for chunk in np.ndindex(*writer.chunks):
            writer.write(chunk, ones)
        for chunk in ((2, 0, 0), (-1, 0, 0)):
            with pytest.raises(ShardAlignmentError, match="no chunk"):
                writer.write(chunk, ones)
        for wrong in (ones[:1], ones.astype(np.float64), ones.astype(">f4")):
            with pytest.raises(ShardAlignmentError, match="the array has"):
                writer.write((0, 0, 0), wrong)


def test_shard_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    grid = ShardGrid((4, 4, 4), (4, 4, 4), (2, 2, 2))
    with ShardWriter(tmp_path, grid, (0, 0, 0)) as writer:
        for chunk in np.ndindex(*writer.chunks):
            assert not writer.path.exists()
            assert len(list(writer.path.parent.glob("*.partial"))) == 1
            writer.write(chunk, np.ones(grid.chunk, np.float32))
    assert list(writer.path.parent.iterdir()) == [writer.path]
    writer.path.unlink()

    with (
        pytest.raises(ShardAlignmentError, match=r"7 chunks .* not written"),
        ShardWriter(tmp_path, grid, (0, 0, 0)) as writer,
    ):
        writer.write((1, 0, 0), np.ones(grid.chunk, np.float32))
    assert not list(writer.path.parent.iterdir())


def test_bytes_written_are_those_of_the_file(tmp_path: Path) -> None:
    grid = ShardGrid((4, 4, 4), (4, 4, 4), (2, 2, 2), compressed=True)
    with ShardWriter(tmp_path, grid, (0, 0, 0)) as writer:
        for chunk in np.ndindex(*writer.chunks):
            writer.write(chunk, np.ones(grid.chunk, np.float32))
    assert writer.bytes_written == writer.path.stat().st_size

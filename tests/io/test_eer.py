"""EER files, against a writer made from the format's description, and against imagecodecs."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import imagecodecs
import numpy as np
import pytest

from tests.io import eer_writer
from tomodask.errors import FormatError, ParameterError, StoreError
from tomodask.io.eer import is_eer, open_eer
from tomodask.io.movies import Rendering, open_movie, read_frame, read_frames

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = (24, 40)
# Few enough that runs of empty pixels need escapes, of 7 and of 8 bits.
RATE = 0.01


def frames_of(n: int, rate: float = RATE, shape: tuple[int, int] = SHAPE) -> list:
    rng = np.random.default_rng(5)
    return [eer_writer.random_electrons(rng, shape, rate) for _ in range(n)]


def write(path: Path, frames: list, shape: tuple[int, int] = SHAPE, **options: object) -> Path:
    compression = options.get("compression", 65001)
    streams = [
        eer_writer.encode(
            frame,
            shape,
            eer_writer.SKIP_BITS.get(compression, 7),
            whole_escapes=compression == 65000,
        )
        for frame in frames
    ]
    return eer_writer.write(path, streams, shape, **options)


@pytest.mark.parametrize("rate", [0, 0.001, 0.01, 0.2, 1])
@pytest.mark.parametrize("compression", [65000, 65001])
@pytest.mark.parametrize("zoom", [1, 2, 4])
def test_every_electron_lands_where_it_was_seen(
    tmp_path: Path, rate: float, compression: int, zoom: int
) -> None:
    frames = frames_of(3, rate)
    path = write(tmp_path / "a.eer", frames, compression=compression)
    info = open_movie(path, rendering=Rendering(superresolution=zoom, group=1))
    assert info.shape == (3, SHAPE[0] * zoom, SHAPE[1] * zoom)
    expected = np.stack([eer_writer.image(frame, SHAPE, zoom) for frame in frames])
    found = read_frames(info)
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    # The sensor's first row is the top.
    np.testing.assert_array_equal(found, expected[:, ::-1])


def test_a_frame_lies_as_imagecodecs_decodes_it(tmp_path: Path) -> None:
    frames = frames_of(1, 0.05)
    stream = eer_writer.encode(frames[0], SHAPE)
    path = eer_writer.write(tmp_path / "a.eer", [stream], SHAPE)
    for level in (0, 1, 2):
        zoom = 1 << level
        shape = SHAPE[0] * zoom, SHAPE[1] * zoom
        decoded = imagecodecs.eer_decode(stream, shape, 7, 2, 2, superres=level)
        info = open_movie(path, rendering=Rendering(zoom, group=1), row_order="up")
        np.testing.assert_array_equal(read_frame(info, 0), decoded)


def test_variable_bits(tmp_path: Path) -> None:
    frames = frames_of(2, 0.05)
    # One bit along y and three along x: places of eighths and halves.
    placed = [[(y, x, sy // 2, 2 * sx) for y, x, sy, sx in frame] for frame in frames]
    streams = [eer_writer.encode(frame, SHAPE, 5, (1, 3)) for frame in placed]
    tags = {65007: 5, 65008: 3, 65009: 1}
    path = eer_writer.write(tmp_path / "a.eer", streams, SHAPE, compression=65002, tags=tags)
    for zoom in (1, 2):
        info = open_movie(path, rendering=Rendering(zoom, group=2))
        expected = sum(eer_writer.image(frame, SHAPE, zoom) for frame in frames)
        np.testing.assert_array_equal(read_frame(info, 0), expected[::-1])
    with pytest.raises(ParameterError, match=r"a\.eer: its electrons are placed on 2 pixels"):
        open_movie(path, rendering=Rendering(4))


def test_later_files_of_8_bits_waste_nothing(tmp_path: Path) -> None:
    frames = frames_of(2, 0.002)
    streams = [eer_writer.encode(frame, SHAPE, 8) for frame in frames]
    path = eer_writer.write(tmp_path / "a.eer", streams, SHAPE, compression=65000)
    found = read_frames(open_movie(path, rendering=Rendering(group=1)))
    for image, frame in zip(found, frames, strict=True):
        np.testing.assert_array_equal(image, eer_writer.image(frame, SHAPE)[::-1])


@pytest.mark.parametrize("whole_escapes", [True, False])
def test_first_frame_without_escapes_says_nothing(tmp_path: Path, whole_escapes: bool) -> None:
    frames = [*frames_of(2, 1.0), *frames_of(2, 0.002)]
    streams = [eer_writer.encode(f, SHAPE, 8, whole_escapes=whole_escapes) for f in frames]
    path = eer_writer.write(tmp_path / "a.eer", streams, SHAPE, compression=65000)
    assert open_eer(path).whole_escapes == whole_escapes
    found = read_frames(open_movie(path, rendering=Rendering(group=1)))
    for image, frame in zip(found, frames, strict=True):
        np.testing.assert_array_equal(image, eer_writer.image(frame, SHAPE)[::-1])


def test_row_order_up_keeps_the_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "a.eer", [[(0, 3, 0, 0)]])
    assert read_frame(open_movie(path), 0)[-1, 3] == 1
    assert read_frame(open_movie(path, row_order="up"), 0)[0, 3] == 1


def test_strips_and_an_integrated_image(tmp_path: Path) -> None:
    frames = frames_of(4, 0.05)
    path = write(tmp_path / "a.eer", frames, strips=3, integrated=True)
    info = open_movie(path, rendering=Rendering(group=1))
    assert info.raw_frames == 4
    expected = np.stack([eer_writer.image(frame, SHAPE) for frame in frames])
    np.testing.assert_array_equal(read_frames(info), expected[:, ::-1])


def test_groups_are_sums_and_an_incomplete_one_is_left_out(tmp_path: Path) -> None:
    frames = frames_of(11, 0.1)
    path = write(tmp_path / "a.eer", frames)
    info = open_movie(path, rendering=Rendering(group=3))
    assert (info.shape[0], info.raw_frames, info.unused_raw_frames) == (3, 11, 2)
    counts = np.stack([eer_writer.image(frame, SHAPE) for frame in frames])[:, ::-1]
    expected = counts[:9].reshape(3, 3, *SHAPE).sum(axis=1)
    np.testing.assert_array_equal(read_frames(info), expected)
    np.testing.assert_array_equal(read_frames(info, 1), expected[1:])
    np.testing.assert_array_equal(read_frames(info, 0, 3, 2), expected[::2])


def test_a_pixel_hit_in_every_raw_frame_of_a_large_group(tmp_path: Path) -> None:
    path = write(tmp_path / "a.eer", [[(1, 2, 0, 0)]] * 300)
    for group, dtype in ((255, np.uint8), (256, np.uint16), (300, np.uint16)):
        info = open_movie(path, rendering=Rendering(group=group))
        assert info.dtype == dtype
        assert read_frame(info, 0)[SHAPE[0] - 2, 2] == group


@pytest.mark.parametrize(
    ("rendering", "exposure", "group"),
    [
        (Rendering(), None, 10),
        (Rendering(), 3.0, 3),  # 40 raw frames of 0.075
        (Rendering(), 1000.0, 1),
        (Rendering(), 0.1, 40),
        (Rendering(dose_per_frame=0.5), 3.0, 7),
        (Rendering(group=8), 3.0, 8),
    ],
)
def test_group_follows_from_the_dose(
    tmp_path: Path, rendering: Rendering, exposure: float | None, group: int
) -> None:
    path = write(tmp_path / "a.eer", [[]] * 40)
    info = open_movie(path, rendering=rendering, exposure=exposure)
    assert info.rendering == Rendering(rendering.superresolution, group=group)
    assert info.shape[0] == 40 // group
    if exposure is not None:
        assert info.frame_dose == pytest.approx(exposure * group / 40)


def test_metadata_give_the_pixel_size_and_the_exposure(tmp_path: Path) -> None:
    items = (
        '<item name="numberOfFrames">40</item><item name="totalDose" unit="e/pixel">12.0</item>'
        '<item name="sensorPixelSize.width" unit="m">2.0E-10</item>'
        '<item name="sensorPixelSize.height" unit="m">2.0E-10</item>'
        '<item name="eerGainReference">C:\\gains\\a.gain</item>'
    )
    path = write(tmp_path / "a.eer", [[]] * 40, metadata=items)
    info = open_movie(path)
    assert info.pixel_size == 2.0
    assert info.exposure == pytest.approx(3.0)
    assert info.group == 3
    assert open_movie(path, rendering=Rendering(2)).pixel_size == 1.0
    assert open_movie(path, exposure=6.0).exposure == 6.0
    assert open_eer(path).metadata["eerGainReference"] == "C:\\gains\\a.gain"
    # The sensor's own pixels are no size on the specimen.
    write(path, [[]], metadata=items.replace("E-10", "E-06").replace(">40<", ">1<"))
    assert open_movie(path).pixel_size is None
    assert pickle.loads(pickle.dumps(info)) == info
    assert hash(info) == hash(pickle.loads(pickle.dumps(info)))


def test_no_truncated_file_is_read_as_a_shorter_movie(tmp_path: Path) -> None:
    frames = frames_of(4, 0.05, (8, 12))
    path = write(tmp_path / "a.eer", frames, (8, 12))
    whole = read_frames(open_movie(path, rendering=Rendering(group=1)))
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(FormatError, match=r"a\.eer"):
            read_frames(open_movie(path, rendering=Rendering(group=1)))
    path.write_bytes(content)
    np.testing.assert_array_equal(
        read_frames(open_movie(path, rendering=Rendering(group=1))), whole
    )


def test_every_damaged_byte_of_the_events_is_noticed_or_harmless(tmp_path: Path) -> None:
    # A flipped bit moves electrons; where it moves the end of the frame, it is seen.
    path = write(tmp_path / "a.eer", frames_of(1, 0.05))
    content = bytearray(path.read_bytes())
    info = open_movie(path, rendering=Rendering(group=1))
    refused = 0
    for at in range(16, 100):
        damaged = content.copy()
        damaged[at] ^= 0x10
        path.write_bytes(damaged)
        try:
            assert read_frames(info).shape == info.shape
        except FormatError as error:
            assert "raw frame 0" in str(error)  # noqa: PT017
            refused += 1
    assert refused > 30


@pytest.mark.parametrize("compression", [65000, 65001])
def test_every_damaged_byte_of_the_directories_is_refused_or_harmless(
    tmp_path: Path, compression: int
) -> None:
    path = write(tmp_path / "a.eer", [[], []], (2, 3), compression=compression)
    content = path.read_bytes()
    refused = 0
    for at in range(len(content)):
        for flipped in (0x01, 0x80, 0xFF):
            damaged = bytearray(content)
            damaged[at] ^= flipped
            path.write_bytes(damaged)
            try:
                info = open_movie(path, rendering=Rendering(group=1))
                assert read_frames(info).shape == info.shape
            except FormatError as error:
                assert path.name in str(error)  # noqa: PT017
                refused += 1
    assert refused > len(content)  # of three damages to each byte


def test_frames_too_large_for_any_camera(tmp_path: Path) -> None:
    tags = {256: 65535, 257: 65535}
    path = eer_writer.write(tmp_path / "a.eer", [bytes(8)], SHAPE, tags=tags)
    assert open_eer(path).shape[1:] == (65535, 65535)
    path = eer_writer.write(tmp_path / "a.eer", [bytes(8)], (1 << 20, 1 << 31), compression=65000)
    with pytest.raises(FormatError, match=r"a\.eer.*corrupt"):
        open_movie(path)


def test_fewer_frames_than_the_metadata_promise(tmp_path: Path) -> None:
    path = write(tmp_path / "a.eer", [[]] * 3, metadata='<item name="numberOfFrames">4</item>')
    with pytest.raises(FormatError, match=r"a\.eer.*promise 4 frames, of which 3"):
        open_movie(path)


def test_frames_of_several_sizes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.eer", [[]] * 2)
    content = path.read_bytes()
    width = np.array([SHAPE[1]], "<u8").tobytes()
    first = content.index(b"\0\1\4\0\1\0\0\0\0\0\0\0" + width)
    second = content.index(b"\0\1\4\0\1\0\0\0\0\0\0\0" + width, first + 1)
    path.write_bytes(content[: second + 12] + b"\x08" + content[second + 13 :])
    with pytest.raises(FormatError, match=r"a\.eer.*differ in size"):
        open_movie(path)


def test_a_loop_of_directories(tmp_path: Path) -> None:
    path = write(tmp_path / "a.eer", [[]] * 3)
    content = bytearray(path.read_bytes())
    content[-8:] = content[8:16]
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"a\.eer.*loop"):
        open_movie(path)


def test_damaged_metadata(tmp_path: Path) -> None:
    path = write(tmp_path / "a.eer", [[]], metadata="<item>")
    with pytest.raises(FormatError, match=r"a\.eer.*XML"):
        open_movie(path)


def test_what_is_no_eer(tmp_path: Path) -> None:
    path = tmp_path / "a.eer"
    with pytest.raises(StoreError, match=r"a\.eer"):
        is_eer(path)
    path.write_bytes(b"")
    assert not is_eer(path)
    path.write_bytes(b"II+\0\x08\0\0\0" + bytes(8))
    assert not is_eer(path)
    with pytest.raises(FormatError, match=r"a\.eer"):
        open_movie(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"superresolution": 3}, "superresolution is 3"),
        ({"group": 0}, "group is 0"),
        ({"group": 2, "dose_per_frame": 0.2}, "both given"),
        ({"dose_per_frame": -1.0}, "dose_per_frame is -1"),
        ({"dose_per_frame": float("nan")}, "dose_per_frame is nan"),
    ],
)
def test_rendering_that_makes_no_sense(options: dict[str, object], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        Rendering(**options)


def test_rendering_that_does_not_fit_the_movie(tmp_path: Path) -> None:
    path = write(tmp_path / "a.eer", [[]] * 3)
    with pytest.raises(ParameterError, match=r"a\.eer: has 3 raw frames"):
        open_movie(path, rendering=Rendering(group=4))
    with pytest.raises(ParameterError, match=r"a\.eer.*exposure is not known"):
        open_movie(path, rendering=Rendering(dose_per_frame=0.2))


def test_a_directory_that_points_beyond_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.eer", frames_of(3, 0.05))
    content = bytearray(path.read_bytes())
    # The entry of the second frame's one strip: its tag, type and count.
    entry = b"\x11\x01\x10\0\x01\0\0\0\0\0\0\0"
    second = content.index(entry, content.index(entry) + 1)
    content[second + 12 : second + 20] = (len(content) - 8).to_bytes(8, "little")
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"a\.eer.*truncated"):
        open_movie(path)


@pytest.mark.parametrize("tags", [{65007: 0}, {65007: 40}, {65008: 9}, {256: 0}])
def test_encodings_that_make_no_sense(tmp_path: Path, tags: dict[int, int]) -> None:
    path = eer_writer.write(tmp_path / "a.eer", [bytes(64)], SHAPE, compression=65002, tags=tags)
    with pytest.raises(FormatError, match=r"a\.eer.*corrupt"):
        open_movie(path)

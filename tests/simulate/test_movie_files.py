"""Files of movies, read by other people's readers."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import imagecodecs
import mdocfile
import mrcfile
import numpy as np
import pytest
import tifffile

from tomodask.errors import ParameterError
from tomodask.geometry import Projection
from tomodask.io.defects import read_defects
from tomodask.io.gain import read_gain
from tomodask.io.mdoc import read_mdoc
from tomodask.io.movies import Rendering, open_movie, read_frames
from tomodask.kernels.gain import Orientation, orient
from tomodask.simulate import (
    Ball,
    Detector,
    Imaging,
    Phantom,
    demo_movie_series,
    oriented,
    simulate_movie,
    simulate_movie_series,
    write_gain,
    write_movie,
    write_movie_series,
)
from tomodask.simulate.eer_encoder import EER_BITS, Electrons, encode_frame, scatter, write_eer

ANGLES = np.arange(-6.0, 7.0, 3.0)
SHAPE = (40, 56)
# A bead near the top right: mirrored and turned images are told from the right one.
BEAD = Phantom((Ball((70.0, 50.0, 0.0), 40.0, -0.02),))


def record_series(**options):
    return simulate_movie_series(
        BEAD,
        Projection.create(ANGLES, tilt_axis_angle=85.0),
        SHAPE,
        pixel_size=5.0,
        frames=3,
        imaging=Imaging(exposure=1.5),
        x_rays=1,
        seed=3,
        **options,
    )


@pytest.fixture(scope="module")
def series():
    return record_series(reacquired=(4,), exposure=[1.0, 1.25, 1.5, 1.75, 2.0])


@pytest.fixture(scope="module")
def movie():
    return simulate_movie(
        BEAD,
        Projection.create([0.0]),
        SHAPE,
        pixel_size=5.0,
        frames=3,
        imaging=Imaging(exposure=1.5),
        detector=Detector.random(SHAPE, seed=1),
        x_rays=3,
    )


def sums_show_the_bead_at_the_top_right(total):
    rows, columns = total.shape
    corners = {
        (y, x): np.median(total[y : y + rows // 2, x : x + columns // 2])
        for y in (0, rows // 2)
        for x in (0, columns // 2)
    }
    darkest = total[
        rows * 6 // 8 - 3 : rows * 6 // 8 + 3, columns * 6 // 8 - 3 : columns * 6 // 8 + 3
    ]
    return darkest.mean() < 0.6 * min(corners.values())


def test_the_specimen_is_told_from_its_mirror_images(movie):
    total = movie.frames.sum(axis=0)
    assert sums_show_the_bead_at_the_top_right(total)
    assert not sums_show_the_bead_at_the_top_right(total[::-1])
    assert not sums_show_the_bead_at_the_top_right(total[:, ::-1])


@pytest.mark.parametrize(("codec", "code"), [("lzw", 5), ("zlib", 8), ("zstd", 50000), ("none", 1)])
def test_tiff_has_the_counts_from_the_top(tmp_path, movie, codec, code):
    path = tmp_path / "m.tif"
    write_movie(path, movie, compression=codec)
    with tifffile.TiffFile(path) as tif:
        assert len(tif.pages) == 3
        assert {page.compression.value for page in tif.pages} == {code}
        assert not tif.pages[0].is_tiled
        pages = tif.asarray()
    assert pages.dtype == np.uint8
    np.testing.assert_array_equal(pages, movie.frames[:, ::-1])


@pytest.mark.parametrize("bright", [False, True])
def test_mrc_has_the_counts_from_the_bottom(tmp_path, movie, bright):
    frames = movie.frames.copy()
    frames[0, 0, 0] = 200 if bright else 0
    np.minimum(frames, 200 if bright else 127, out=frames)
    path = tmp_path / "m.mrc"
    write_movie(path, replace(movie, frames=frames))
    with mrcfile.open(path) as mrc:
        np.testing.assert_array_equal(mrc.data, frames)
        assert mrc.is_image_stack()
        assert mrc.header.mode == (1 if bright else 0)
        assert mrc.voxel_size.x == 5


@pytest.mark.parametrize("compression", [65000, 65001, 65002])
@pytest.mark.parametrize("shape", [(48, 64), (300, 401)])
@pytest.mark.parametrize("rate", [0.0, 0.0005, 0.3])
def test_eer_decodes_to_what_was_encoded(tmp_path, compression, shape, rate):
    rng = np.random.default_rng(1)
    bits = EER_BITS[compression]
    counts = rng.poisson(rate, shape)
    counts[[0, -1], [0, -1]] = 2 if rate else 0
    raw = list(scatter(counts, 6, bits, rng))
    path = tmp_path / "m.eer"
    write_eer(path, raw, shape, compression=compression, metadata={"time": (2.5, "s")})
    with tifffile.TiffFile(path) as tif:
        assert tif.is_eer
        assert tif.is_bigtiff
        assert tif.eer_metadata["time"] == 2.5
        assert tif.eer_metadata["time.unit"] == "s"
        frames = tif.asarray()
        strips = [page.dataoffsets[0] for page in tif.pages]
    assert frames.shape == (6, *shape)
    assert frames.max(initial=0) <= 1
    np.testing.assert_array_equal(frames.sum(axis=0), counts)
    assert strips == sorted(strips)


@pytest.mark.parametrize("compression", [65000, 65001, 65002])
@pytest.mark.parametrize("levels", [1, 2])
def test_electrons_lie_where_they_were_put_within_their_pixels(compression, levels):
    shape, bits = (32, 48), EER_BITS[compression]
    rng = np.random.default_rng(2)
    pixel = np.sort(rng.choice(shape[0] * shape[1], 300, replace=False))
    place = rng.integers(4, size=(300, 2))
    stream = encode_frame(Electrons(pixel, place), shape[0] * shape[1], bits)
    zoom = 2**levels
    fine = (shape[0] * zoom, shape[1] * zoom)
    decoded = imagecodecs.eer_decode(stream, fine, *bits, superres=levels)
    expected = np.zeros(fine, int)
    y, x = np.divmod(pixel, shape[1])
    expected[zoom * y + place[:, 1] * zoom // 4, zoom * x + place[:, 0] * zoom // 4] = 1
    np.testing.assert_array_equal(decoded, expected)


def test_a_frame_of_known_bits():
    # Pixel 2, place x = 1, y = 3: skip 2, place bits 01 ^ 10 = 11 and 11 ^ 10 = 01, least first;
    # then pixel 131 after 128 empty ones: an escape of 127 and a skip of 1, place 0, 0 -> 10, 10.
    stream = encode_frame(Electrons(np.array([2, 131]), np.array([[1, 3], [0, 0]])), 140, (7, 2, 2))
    text = "".join(f"{byte:08b}"[::-1] for byte in stream)
    coded = "0100000" + "11" + "10" + "1111111" + "1000000" + "01" + "01" + "0001000"
    assert text.startswith(coded)
    assert set(text[len(coded) :]) <= {"0"}
    assert len(stream) % 8 == 0


def test_eer_movie_holds_the_counts_of_the_frames_from_the_top(tmp_path, movie):
    path = tmp_path / "m.eer"
    write_movie(path, movie, raw_frames=250)
    with tifffile.TiffFile(path) as tif:
        raw = tif.asarray()
        metadata = tif.eer_metadata
    assert metadata["numberOfFrames"] == 750
    assert metadata["sensorPixelSize.width"] == pytest.approx(5e-10)
    assert metadata["totalDose"] == pytest.approx(movie.frames.sum(axis=0).mean())
    rendered = raw.reshape(3, 250, *SHAPE).sum(axis=1)
    np.testing.assert_array_equal(rendered, np.minimum(movie.frames, 250)[:, ::-1])
    # Electrons come all through a frame, not at its beginning.
    times = raw[:250].sum(axis=(1, 2))
    assert times[:125].sum() == pytest.approx(times[125:].sum(), rel=0.1)


def test_more_electrons_than_raw_frames_are_refused():
    with pytest.raises(ParameterError, match="5 electrons"):
        next(scatter(np.full((2, 2), 5), 4, (7, 2, 2), np.random.default_rng(0)))


@pytest.mark.parametrize("orientation", range(8))
@pytest.mark.parametrize("reciprocal", [False, True])
def test_gain_corrects_the_movie_once_it_is_turned_back(tmp_path, movie, orientation, reciprocal):
    detector = movie.detector
    inverse = {1: 3, 3: 1}.get(orientation, orientation)
    for name in ("g.mrc", "g.tif", "g.gain"):
        path = tmp_path / name
        write_gain(path, detector, orientation=orientation, reciprocal=reciprocal)
        image = mrcfile.read(path) if name == "g.mrc" else tifffile.imread(path)[::-1]
        if reciprocal:
            image = np.divide(1, image, out=np.zeros_like(image), where=image > 0)
        np.testing.assert_allclose(oriented(image, inverse), detector.gain, rtol=1e-6)
        np.testing.assert_array_equal(oriented(image, inverse) == 0, detector.dead)


@pytest.mark.parametrize("movie_format", ["tiff", "eer", "mrc"])
def test_corrected_counts_are_the_electrons(tmp_path, series, movie_format):
    files = write_movie_series(
        tmp_path, series, movie_format=movie_format, raw_frames=255, gain_orientation=5
    )
    gain = orient(read_gain(files.gain), Orientation.parse("rot270 fliplr"))
    np.testing.assert_allclose(gain, series.detector.gain, rtol=1e-6)
    defects = read_defects(files.defects, SHAPE)
    np.testing.assert_array_equal(defects, series.detector.dead | series.detector.hot)
    info = open_movie(files.movies[2], rendering=Rendering(group=255))
    truth = series.movie(2)
    np.testing.assert_array_equal(read_frames(info), truth.frames)


def test_defects_are_listed_from_the_top(tmp_path, series):
    files = write_movie_series(tmp_path, series)
    bad = np.zeros(SHAPE, bool)
    for line in files.defects.read_text().splitlines():
        key, *numbers = line.split()
        if key == "BadColumns":
            bad[:, [int(n) for n in numbers]] = True
        if key == "BadPixels":
            for x, y in zip(numbers[::2], numbers[1::2], strict=True):
                bad[SHAPE[0] - 1 - int(y), int(x)] = True
    np.testing.assert_array_equal(bad, series.detector.dead | series.detector.hot)
    assert f"CameraSizeX {SHAPE[1]}" in files.defects.read_text()


@pytest.mark.parametrize("movie_format", ["tiff", "eer", "mrc"])
@pytest.mark.parametrize("software", ["SerialEM", "Tomography 5"])
def test_mdoc_tells_what_was_recorded(tmp_path, series, movie_format, software):
    files = write_movie_series(
        tmp_path, series, movie_format=movie_format, software=software, raw_frames=100
    )
    (path,) = files.mdocs
    info = read_mdoc(path)
    assert info.tilt_axis_angle == pytest.approx(85, abs=0.1)
    assert info.pixel_size == 5
    assert info.voltage == 300
    assert info.image_size == (SHAPE[1], SHAPE[0])
    assert [section.tilt_angle for section in info.sections] == [0, 3, -3, -6, 6, 6]
    np.testing.assert_allclose([s.exposure for s in info.sections], [1.5, 1.75, 1.25, 1, 2, 2])
    times = [section.time for section in info.sections]
    assert times == sorted(set(times))
    assert times[0] == datetime(2026, 11, 20, 12, 34, 56)
    frames = 300 if movie_format == "eer" else 3
    sections = mdocfile.read(path)
    assert list(sections.NumSubFrames) == [frames] * 6
    for row, movie_path in zip(sections.itertuples(), files.movies, strict=True):
        assert row.SubFramePath.name == movie_path.name
        assert str(row.SubFramePath).startswith("\\\\")
        assert movie_path.is_file()
    if software == "SerialEM":
        np.testing.assert_allclose(sections.PriorRecordDose, [0, 1.5, 3.25, 4.5, 5.5, 7.5])
        first = info.sections[0].frame_doses
        assert first[0] == (pytest.approx(1.5 / frames, rel=1e-5), frames)


@pytest.mark.filterwarnings("ignore")
def test_names_are_those_of_the_software(tmp_path, series):
    names = {
        (software, movie_format): write_movie_series(
            tmp_path, series, name="P_1", movie_format=movie_format, software=software
        )
        .movies[1]
        .name
        for software in ("SerialEM", "Tomography 5")
        for movie_format in ("tiff", "mrc")
    }
    assert names["SerialEM", "tiff"] == "P_1_002_3.0_Nov20_12.35.33.tif"
    assert names["SerialEM", "mrc"] == "P_1_002_3.0_Nov20_12.35.33.mrc"
    assert names["Tomography 5", "tiff"] == "P_1_002_3.00_20261120_123533_fractions.tiff"


def test_sections_by_angle_keep_time_and_dose(tmp_path, series):
    files = write_movie_series(tmp_path, series, sections="angle")
    info = read_mdoc(files.mdocs[0])
    assert [section.tilt_angle for section in info.sections] == [-6, -3, 0, 3, 6, 6]
    order = np.argsort([section.time for section in info.sections])
    dose = np.array([section.prior_dose for section in info.sections])
    np.testing.assert_allclose(dose[order], series.dose)


def test_each_movie_may_have_its_own_mdoc(tmp_path, series):
    files = write_movie_series(tmp_path, series, mdocs="movies")
    assert len(files.mdocs) == len(files.movies) == 6
    for number, (path, movie_path) in enumerate(zip(files.mdocs, files.movies, strict=True)):
        assert path.name == movie_path.name + ".mdoc"
        info = read_mdoc(path)
        (section,) = info.sections
        assert section.kind == "FrameSet"
        assert section.tilt_angle == series.tilt_angle[number]
        assert section.prior_dose == pytest.approx(series.dose[number])
        assert info.tilt_axis_angle == pytest.approx(85, abs=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"movie_format": "dm4"}, "dm4"),
        ({"mdocs": "movies", "software": "Tomography 5"}, "no mdoc per movie"),
        ({"gain_orientation": 8}, "0 to 7"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, series, options, message):
    with pytest.raises(ParameterError, match=message):
        write_movie_series(tmp_path, series, **options)


def test_movies_without_counting_noise_are_not_written(tmp_path, series):
    quiet = replace(series, imaging=Imaging(counting_noise=False))
    with pytest.raises(ParameterError, match="counting_noise"):
        write_movie_series(tmp_path, quiet)


def test_demo_has_all_that_goes_wrong():
    demo = demo_movie_series()
    assert len(demo) == 16
    assert {fault for fault in demo.fault if fault} == {"dark", "drifted"}
    assert demo.fault[list(demo.view).index(3)] == "drifted"

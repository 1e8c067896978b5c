"""From movies to a tilt series as a user goes it: one command a step, against the truth."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mrcfile
import numpy as np
import pytest
import xarray as xr
import zarr

import tomodask as td
from tests.movie_sample import (
    ANGLES,
    FRAMES,
    PIXEL,
    SHAPE,
    VIEWS,
    found_shifts,
    imported,
    movie_series,
    true_shifts,
    write,
)
from tomodask.cli import main
from tomodask.errors import (
    DataError,
    FormatError,
    ParameterError,
    PlanMismatchError,
    StoreError,
    TomodaskWarning,
)
from tomodask.simulate.detector import Detector
from tomodask.simulate.imaging import Imaging

if TYPE_CHECKING:
    from tomodask.simulate.movie_files import MovieFiles
    from tomodask.simulate.movie_series import MovieSeries

PARTS = ("images", "even", "odd")


@pytest.fixture(scope="module")
def truth() -> MovieSeries:
    return movie_series()


@pytest.fixture(scope="module")
def files(truth: MovieSeries, tmp_path_factory: pytest.TempPathFactory) -> MovieFiles:
    return write(tmp_path_factory.mktemp("movies"), truth)


def commands(files: MovieFiles, out: Path) -> list[str]:
    folder = files.movies[0].parent
    return [
        *("import", str(files.mdocs[0]), "--frames", str(folder), "--gain", str(files.gain)),
        *("--defects", str(files.defects), "--out", str(out), "--quiet"),
    ]


@pytest.fixture(scope="module")
def store(files: MovieFiles, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The series with its images, made with the command line."""
    path = tmp_path_factory.mktemp("store") / "m.zarr"
    assert main(commands(files, path)) == 0
    assert main(["motion", str(path), "--quiet"]) == 0
    return path


@pytest.fixture
def copy(store: Path, tmp_path: Path) -> Path:
    """The same, to change."""
    return Path(shutil.copytree(store, tmp_path / "copy" / "m.zarr"))


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def images_of(path: Path, part: str = "images") -> np.ndarray:
    values: np.ndarray = td.open(path)["tilt_series"][part].values
    return values


# Import


def test_dry_run_prints_the_table_and_writes_nothing(
    files: MovieFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m.zarr"
    before = contents(files.movies[0].parent)
    assert main([*commands(files, out), "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines[-VIEWS:]] == [
        files.movies[order].name for order in (3, 2, 0, 1, 4)
    ]
    assert not out.exists()
    assert contents(files.movies[0].parent) == before


def test_table_is_the_truth(store: Path, files: MovieFiles, truth: MovieSeries) -> None:
    table = td.open(store)["movies"].to_dataset()
    by_angle = np.argsort(truth.tilt_angle)
    np.testing.assert_array_equal(table["tilt_angle"], ANGLES)
    np.testing.assert_array_equal(table["order"], by_angle)
    np.testing.assert_array_equal(table["dose"], truth.dose[by_angle])
    np.testing.assert_array_equal(table["exposure"], truth.exposure[by_angle])
    np.testing.assert_array_equal(table["frames"], FRAMES)
    assert table["movie"].values.tolist() == [str(files.movies[i]) for i in by_angle]
    assert table["included"].all()
    assert table.attrs["pixel_size"] == PIXEL
    assert table.attrs["tilt_axis_angle"] == 85.0
    assert table.attrs["gain"]["path"] == str(files.gain)
    assert not list((store / "movies").rglob("*.tif"))


def test_view_taken_again_is_flagged(tmp_path: Path) -> None:
    truth = movie_series(reacquired=(1,))
    table = td.read_movies(write(tmp_path, truth).mdocs)
    by_angle = np.argsort(truth.tilt_angle, kind="stable")
    np.testing.assert_array_equal(table["dose"], truth.dose[by_angle])
    np.testing.assert_array_equal(table["order"], by_angle)
    assert table["included"].values.tolist() == [True, False, True, True, True, True]
    assert "taken again later" in str(table["reason"].values[1])


def test_missing_movie_is_flagged_and_the_rest_imported(
    files: MovieFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(files.movies[0].parent, tmp_path / "movies"))
    lost = folder / files.movies[1].name
    content = lost.read_bytes()
    lost.unlink()
    out = tmp_path / "m.zarr"
    command = [*commands(files, out)[:3], str(folder), *commands(files, out)[4:]]
    assert main(command) == 1
    assert "views 3 were not found" in capsys.readouterr().err
    table = td.open(out)["movies"].to_dataset()
    assert table["included"].values.tolist() == [True, True, True, False, True]
    assert lost.name in str(table["reason"].values[3])
    assert table["movie"].values[3] == ""
    assert main(["motion", str(out), "--quiet"]) == 1
    assert main(command) == 1  # the same import again
    lost.write_bytes(content)
    assert main([*command, "--overwrite"]) == 0
    assert main(["motion", str(out), "--quiet"]) == 0
    assert td.info(out)["excluded_views"] == []


def test_same_import_changes_nothing(store: Path, files: MovieFiles) -> None:
    before = contents(store)
    assert main(commands(files, store)) == 0
    assert contents(store) == before


def test_other_import_is_refused(
    copy: Path, files: MovieFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(copy)
    other = [*commands(files, copy), "--exclude", "0", "--tilt-axis", "-94"]
    assert main(other) == 2
    assert "another import" in capsys.readouterr().err
    assert contents(copy) == before
    # What is told anew reaches the images; no movie is corrected again.
    assert main([*other, "--overwrite"]) == 0
    shards = contents(copy / "tilt_series" / "images" / "c")
    assert main(["motion", str(copy), "--quiet"]) == 0
    assert contents(copy / "tilt_series" / "images" / "c") == shards
    series = td.open(copy)["tilt_series"].to_dataset()
    assert series["included"].values.tolist() == [False, True, True, True, True]
    assert series["reason"].values[0] == "excluded by the user at import"
    assert series.attrs["tilt_axis_angle"] == -94


def test_import_of_other_views_over_a_curated_series(copy: Path, tmp_path: Path) -> None:
    td.curate(copy, exclude=[0], automatic=False)
    td.clean(copy)
    files = write(tmp_path / "other", movie_series(angles=ANGLES[1:]))
    with pytest.warns(TomodaskWarning, match="other views than before"):
        imported(files, copy, overwrite=True)
    with pytest.raises(PlanMismatchError):
        td.correct_motion(copy)
    td.correct_motion(copy, overwrite=True)
    assert "cleaning" not in td.open(copy).children
    assert td.preprocess(td.open(copy)).sizes["tilt"] == 4
    assert len(td.curate(copy)["included"]) == 4


def test_folder_that_holds_something_else_is_refused(files: MovieFiles, tmp_path: Path) -> None:
    out = tmp_path / "home"
    out.mkdir()
    (out / "thesis.tex").write_text("precious")
    for overwrite in (False, True):
        with pytest.raises(StoreError, match="holds something else"):
            imported(files, out, overwrite=overwrite)
    assert list(contents(out)) == ["thesis.tex"]


def test_file_in_the_place_of_the_store(
    files: MovieFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m.zarr"
    out.write_text("precious")
    assert main(commands(files, out)) == 1
    assert f"{out}: Not a directory" in capsys.readouterr().err
    assert out.read_text() == "precious"


def test_defects_are_read_at_import(files: MovieFiles, tmp_path: Path) -> None:
    """Not when the first movie is corrected."""
    with pytest.raises(StoreError, match=r"none\.txt: cannot be read"):
        imported(files, tmp_path / "m.zarr", defects=tmp_path / "none.txt")
    (tmp_path / "other.txt").write_text("CameraSizeX 999\nCameraSizeY 77\nBadColumns 5\n")
    with pytest.raises(FormatError, match=r"other\.txt"):
        imported(files, tmp_path / "m.zarr", defects=tmp_path / "other.txt")
    assert not (tmp_path / "m.zarr").exists()


def test_views_are_excluded_at_import(files: MovieFiles, tmp_path: Path) -> None:
    table = td.open(imported(files, tmp_path / "m.zarr", exclude=[0, 4]))["movies"]
    assert table["included"].values.tolist() == [False, True, True, True, False]
    assert table["reason"].values[4] == "excluded by the user at import"
    with pytest.raises(ParameterError, match="views 0 to 4"):
        td.read_movies(files.mdocs, exclude=[5])


# Gain


@pytest.fixture(scope="module")
def square() -> MovieSeries:
    return movie_series((128, 128), ANGLES[1:4])


@pytest.fixture(scope="module")
def unturned(square: MovieSeries, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    folder = tmp_path_factory.mktemp("unturned")
    path = imported(write(folder, square), folder / "m.zarr", gain_orientation="rot0")
    td.correct_motion(path)
    return images_of(path)


@pytest.mark.parametrize("orientation", [1, 2, 4, 7])
def test_gain_is_laid_on_the_movies(
    orientation: int, square: MovieSeries, unturned: np.ndarray, tmp_path: Path
) -> None:
    """However it is turned, the images are those of the gain that fits."""
    files = write(tmp_path, square, gain_orientation=orientation)
    path = imported(files, tmp_path / "m.zarr")
    found = td.open(path)["movies"].attrs["gain"]
    assert found["orientation_from"] == "movies"
    assert found["orientation"] != "rot0"
    td.correct_motion(path)
    np.testing.assert_array_equal(images_of(path), unturned)


def test_gain_flattens_the_image(square: MovieSeries, unturned: np.ndarray) -> None:
    """Quadrants of the camera differ by 7 %; the images of no specimen would not."""
    by_angle = np.argsort(square.tilt_angle)
    for view, image in enumerate(unturned):
        expected = square.movie(int(by_angle[view])).image
        ratio = (image / expected).reshape(2, 64, 2, 64).mean(axis=(1, 3))
        np.testing.assert_allclose(ratio, ratio.mean(), rtol=0.01)


def test_gain_that_does_not_fit_is_refused(
    files: MovieFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "g.mrc"
    with mrcfile.new(other) as mrc:
        mrc.set_data(np.ones((100, 90), np.float32))
    command = commands(files, tmp_path / "m.zarr")
    command[command.index(str(files.gain))] = str(other)
    assert main(command) == 1
    message = capsys.readouterr().err
    assert str(other) in message
    assert "does not fit" in message
    assert not (tmp_path / "m.zarr").exists()
    with pytest.raises(DataError, match="does not fit"):
        td.read_movies(files.mdocs, gain=files.gain, gain_orientation="rot90")
    with pytest.raises(ParameterError, match="belongs to a gain"):
        td.read_movies(files.mdocs, gain_orientation="rot90")
    with mrcfile.new(tmp_path / "flat.mrc") as mrc:
        mrc.set_data(np.ones(SHAPE, np.float32))
    with pytest.raises(DataError, match="is not told by them"):  # flat, it lies anyhow
        td.read_movies(files.mdocs, gain=tmp_path / "flat.mrc")


# Motion


def test_motion_is_the_truth(store: Path, truth: MovieSeries) -> None:
    tree = td.open(store)
    motion = tree["motion"].to_dataset()
    error = found_shifts(motion) - true_shifts(truth, tree["movies"].to_dataset())
    assert np.sqrt(np.mean(error**2)) < 0.2  # the shifts themselves are 1.4 pixels
    assert motion["supported"].all()
    np.testing.assert_allclose(found_shifts(motion).mean(axis=1), 0, atol=1e-6)


def test_images_are_sums_of_aligned_frames(store: Path, truth: MovieSeries) -> None:
    """They differ from the noise-free image by shot noise alone; unaligned sums by more."""
    series = td.open(store)["tilt_series"].to_dataset()
    inside = (slice(12, -12), slice(12, -12))
    for view, order in enumerate(series["order"].values):
        movie = truth.movie(int(order))
        expected = movie.image[inside]
        noise = series["images"].values[view][inside] - expected
        assert 0.5 < np.mean(noise**2) / expected.mean() < 1.15
        good = (movie.detector.gain > 0) & ~movie.detector.hot
        counts = (movie.frames * movie.detector.gain)[:, good].mean(axis=1).sum()
        assert series["images"].values[view].mean() == pytest.approx(counts, rel=3e-3)


def test_halves_add_up(store: Path) -> None:
    full, even, odd = (images_of(store, part) for part in PARTS)
    assert full.dtype == even.dtype == odd.dtype == np.float32
    np.testing.assert_allclose(even + odd, full, rtol=1e-6)
    assert even.mean() == pytest.approx(full.mean() / 2, rel=0.02)
    # The halves share the specimen, not the noise.
    noise = even - odd
    assert abs(np.corrcoef(noise.ravel(), full.ravel())[0, 1]) < 0.1
    np.testing.assert_allclose(noise.std(), np.sqrt(full.mean()), rtol=0.3)


def integer_movies(folder: Path) -> tuple[np.ndarray, Path]:
    """Two movies whose frames are one scene cut out at whole pixels, and their mdoc."""
    rng = np.random.default_rng(3)
    scene = np.kron(rng.integers(20, 60, (45, 45)), np.ones((4, 4)))
    scene = rng.poisson(scene).astype(np.int16)
    shift = np.array([[-5, 4], [-1, 3], [2, -1], [4, -6]])
    # frame(y + shift) = scene(y): the content lies `shift` above and to the right
    frames = [scene[20 - y : 148 - y, 20 - x : 132 - x] for y, x in shift]
    for z in range(2):
        with mrcfile.new(folder / f"a_00{z}.mrc") as mrc:
            mrc.set_data(np.stack(frames))
            mrc.set_image_stack()
    (folder / "a.mdoc").write_text(
        "PixelSpacing = 2.0\nImageSize = 112 128\nVoltage = 300\n"
        + "".join(
            f"\n[ZValue = {z}]\nTiltAngle = {z}\nExposureDose = 2\nSubFramePath = a_00{z}.mrc\n"
            f"NumSubFrames = 4\nDateTime = 06-Jun-23  23:1{z}:46\n"
            for z in range(2)
        )
    )
    return shift, folder / "a.mdoc"


def test_csv_says_where_the_content_of_a_frame_lies(tmp_path: Path) -> None:
    """Row by row, in pixels of the frames, from cuts at whole pixels."""
    shift, mdoc = integer_movies(tmp_path)
    assert main(f"import {mdoc} --out {tmp_path}/m.zarr --quiet".split()) == 0
    assert main(f"motion {tmp_path}/m.zarr --bin 2 --quiet".split()) == 0
    assert main(f"export {tmp_path}/m.zarr --motion {tmp_path}/m.csv --quiet".split()) == 0
    with (tmp_path / "m.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["tilt", "frame", "shift_y", "shift_x"]
    places = [(row["tilt"], row["frame"]) for row in rows]
    assert places == [(str(tilt), str(n)) for tilt in range(2) for n in range(4)]
    found = [[float(row["shift_y"]), float(row["shift_x"])] for row in rows]
    np.testing.assert_allclose(found, np.tile(shift - shift.mean(axis=0), (2, 1)), atol=0.1)


def test_frames_are_left_out(files: MovieFiles, tmp_path: Path, store: Path) -> None:
    path = imported(files, tmp_path / "m.zarr")
    options = ["--skip-first", "1", "--skip-last", "2", "--quiet"]
    assert main(["motion", str(path), *options]) == 0
    motion = td.open(path)["motion"].to_dataset()
    summed = np.isfinite(motion["shift_y"].values)
    assert summed.tolist() == [[False, True, True, True, False, False]] * VIEWS
    np.testing.assert_allclose(motion["shift_x"].values[:, 1:4].mean(axis=1), 0, atol=1e-6)
    ratio = images_of(path).mean() / images_of(store).mean()
    assert ratio == pytest.approx(3 / FRAMES, rel=0.01)
    even, odd = images_of(path, "even").mean(), images_of(path, "odd").mean()
    # two of the three are of one half
    assert sorted([even / odd, odd / even])[1] == pytest.approx(2, rel=0.02)
    lines = td.export_motion(td.open(path), tmp_path / "m.csv").read_text().split()
    assert len(lines) == 1 + 3 * VIEWS
    assert lines[1].startswith("0,1,")


def test_binning(files: MovieFiles, tmp_path: Path, store: Path) -> None:
    """A larger pixel holds more electrons; motion stays in that of the frames."""
    path = imported(files, tmp_path / "m.zarr")
    td.correct_motion(path, binning=2)
    tree = td.open(path)
    for part in PARTS:
        binned = images_of(path, part)
        assert binned.shape == (VIEWS, SHAPE[0] // 2, SHAPE[1] // 2)
        assert binned.mean() == pytest.approx(4 * images_of(store, part).mean(), rel=1e-3)
    blocks = images_of(store).reshape(VIEWS, 80, 2, 72, 2).sum(axis=(2, 4))
    assert np.corrcoef(blocks.ravel(), images_of(path).ravel())[0, 1] > 0.95
    assert tree["tilt_series"].attrs["pixel_size"] == 2 * PIXEL
    assert tree["motion"].attrs["pixel_size"] == PIXEL
    np.testing.assert_array_equal(
        tree["motion"]["shift_y"].values, td.open(store)["motion"]["shift_y"].values
    )


def test_formats_give_the_same_images(tmp_path: Path) -> None:
    """TIFF and EER begin with the top row, MRC with the bottom row."""
    imaging = Imaging(exposure=3.0, ice_thickness=500.0)
    truth = movie_series(
        angles=ANGLES[1:4], imaging=imaging, detector=Detector.ideal(SHAPE), frames=4
    )
    images: dict[str, np.ndarray] = {}
    for kind in ("tiff", "mrc", "eer"):
        more = {"raw_frames": 40} if kind == "eer" else {}
        files = write(tmp_path / kind, truth, movie_format=kind, **more)
        path = td.import_movies(
            files.mdocs, tmp_path / f"{kind}.zarr", **({"eer_group": 40} if more else {})
        )
        td.correct_motion(path)
        images[kind] = images_of(path)
    np.testing.assert_array_equal(images["tiff"], images["mrc"])
    np.testing.assert_array_equal(images["eer"], images["mrc"])
    expected = np.stack([truth.movie(i).image for i in np.argsort(truth.tilt_angle)])
    match = np.corrcoef(images["mrc"].ravel(), expected.ravel())[0, 1]
    upside_down = np.corrcoef(images["mrc"].ravel(), expected[:, ::-1].ravel())[0, 1]
    assert match > 0.15 > 3 * abs(upside_down)


def test_dose_weighting_is_marked(files: MovieFiles, tmp_path: Path, store: Path) -> None:
    path = imported(files, tmp_path / "m.zarr")
    assert main(["motion", str(path), "--dose-weighting", "--quiet"]) == 0
    tree = td.open(path)
    assert tree["tilt_series"].attrs["applied"] == ["dose weighting"]
    assert "dose weighting" in td.preprocess(tree).attrs["applied"]
    assert "applied" not in td.open(store)["tilt_series"].attrs
    weighted, plain = images_of(path), images_of(store)
    assert not np.allclose(weighted, plain, rtol=1e-3)
    # What is coarse stays, what is fine fades.
    assert weighted.mean() == pytest.approx(plain.mean(), rel=0.01)
    steps = [np.diff(images, axis=2).std() for images in (weighted, plain)]
    assert steps[0] < steps[1]


def test_dose_weighting_needs_the_dose(copy: Path) -> None:
    group = zarr.open_group(copy / "movies", mode="a")
    del group["dose"]
    with pytest.raises(ParameterError, match="records no dose"):
        td.correct_motion(copy, dose_weighting=True, overwrite=True)
    assert np.isfinite(images_of(copy)).all()


def bits(path: Path) -> dict[str, bytes]:
    return {
        name: content
        for part in ("tilt_series", "motion")
        for name, (_, content) in contents(path / part).items()
        if ".ledger" not in name
    }


@pytest.mark.parametrize(
    "options",
    [
        {"workers": 1},
        {"workers": 3},
        pytest.param(
            {"scheduler": "processes", "workers": 2, "memory_limit": "8GiB"},
            marks=pytest.mark.slow,
        ),
    ],
    ids=str,
)
def test_result_depends_on_no_resource(
    options: dict[str, Any], files: MovieFiles, tmp_path: Path, store: Path
) -> None:
    path = imported(files, tmp_path / "m.zarr")
    td.correct_motion(path, **options)
    assert bits(path) == bits(store)


def test_same_motion_changes_nothing(store: Path) -> None:
    before = contents(store)
    assert main(["motion", str(store), "--quiet"]) == 0
    assert contents(store) == before


def test_other_motion_is_refused(
    copy: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(copy)
    assert main(["motion", str(copy), "--bin", "2", "--quiet"]) == 1
    message = capsys.readouterr().err
    assert "binning: 1.0 before, 2.0 now" in message
    assert "--overwrite" in message
    assert contents(copy) == before
    assert main(["motion", str(copy), "--bin", "2", "--overwrite", "--quiet"]) == 0
    assert images_of(copy).shape[1:] == (80, 72)
    assert main(["motion", str(copy), "--overwrite", "--quiet"]) == 0
    assert bits(copy) == bits(store)


@pytest.mark.parametrize(
    "options",
    ["--bin 0.5", "--bin nan", "--skip-first -1", "--patches 5", "--patches 0x0", "--workers 0"],
)
def test_motion_that_makes_no_sense(options: str, files: MovieFiles, tmp_path: Path) -> None:
    path = imported(files, tmp_path / "m.zarr")
    before = contents(path)
    assert main(["motion", str(path), *options.split(), "--quiet"]) == 2
    assert contents(path) == before


def test_nothing_left_to_sum(
    files: MovieFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refused; and better parameters are no other plan of something that never was."""
    path = imported(files, tmp_path / "m.zarr")
    assert main(["motion", str(path), "--skip-first", str(FRAMES), "--quiet"]) == 1
    assert "leave out fewer" in capsys.readouterr().err
    assert "tilt_series" not in td.open(path).children
    assert main(["motion", str(path), "--quiet"]) == 0


def test_stack_has_no_movies(store: Path, tmp_path: Path) -> None:
    td.export_images(td.open(store), tmp_path / "s.mrc")
    path = td.import_stack(tmp_path / "s.mrc", tmp_path / "s.zarr", tilt_angles=list(ANGLES))
    with pytest.raises(td.errors.ProductMissingError, match="imported from a stack"):
        td.correct_motion(path)


# On to the tomogram


def test_whole_path(files: MovieFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "m.zarr", tmp_path
    steps = (
        " ".join(commands(files, path)),
        f"motion {path} --patches 2x2 --quiet",
        f"clean {path} --quiet",
        f"curate {path} --exclude 4 --reason bent --write {out}/c.csv --quiet",
        f"preprocess {path} --bin 2 --normalize --out {out}/p.mrc --quiet",
        f"export {path} --stack {out}/s.mrc --quiet",
        f"export {path} --stack {out}/o.mrc --half odd --quiet",
        f"export {path} --motion {out}/m.csv",
        f"align {path} --quiet",
        f"reconstruct {path} --thickness 16 --quiet",
    )
    for step in steps:
        assert main(step.split()) == 0, step
    capsys.readouterr()
    assert main(["info", str(path), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["views"] == VIEWS
    assert values["halves"]
    assert values["excluded_views"] == [4]
    assert values["reasons"]["4"] == "bent"
    assert values["total_dose"] == 60
    assert values["movies"] == {
        "count": VIEWS,
        "missing": [],
        "gain": f"{files.gain.name}: rot0, multiply by it (as the movies tell)",
        "rendering": {"superresolution": 1},
    }
    assert values["tomograms"]["wbp"]["shape_xyz"][2] == 16
    with mrcfile.open(out / "s.mrc") as mrc:
        np.testing.assert_array_equal(mrc.data, td.unaligned_stack(td.open(path)).values)
        np.testing.assert_allclose(mrc.voxel_size.x, PIXEL)
    np.testing.assert_allclose(np.loadtxt(out / "s.rawtlt"), ANGLES)
    assert (out / "s.excluded").read_text().split() == ["5"]
    np.testing.assert_array_equal(
        mrcfile.read(out / "o.mrc"), td.unaligned_stack(td.open(path), part="odd").values
    )
    prepared = mrcfile.read(out / "p.mrc")
    assert prepared.shape == (VIEWS - 1, SHAPE[0] // 2, SHAPE[1] // 2)
    np.testing.assert_allclose(prepared.mean(axis=(1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(np.loadtxt(out / "p.rawtlt"), ANGLES[:4])
    assert main(["info", str(path)]) == 0
    assert "with halves" in capsys.readouterr().out
    plainly_opened(path)


def plainly_opened(path: Path) -> None:
    """The whole store by xarray and Zarr alone; nothing else lies in it."""
    tree = xr.open_datatree(path, engine="zarr", consolidated=False)
    made = {"movies", "motion", "tilt_series", "cleaning", "curation", "alignments", "tomograms"}
    assert set(tree.children) == made
    assert {item.name for item in path.iterdir()} == made | {"zarr.json"}
    np.testing.assert_array_equal(tree["tilt_series"]["images"].values, images_of(path))
    np.testing.assert_array_equal(tree["movies"]["tilt_angle"], ANGLES)
    assert tree["motion"]["shift_y"].attrs["units"] == "angstrom"
    assert tree["movies"].attrs["text"]["movie"]["values"][0].endswith(".tif")
    group = zarr.open_group(path, mode="r")
    assert group["tilt_series/odd"].shape == (VIEWS, *SHAPE)

"""Pixels that the camera spoilt: found, mended wherever images are read, and given back."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import mrcfile
import numpy as np
import pytest

import tomodask as td
from tests.image_sample import contents, counted, scene, stored
from tomodask.cli import main
from tomodask.errors import DataError, PlanMismatchError, ProductMissingError, StoreError

if TYPE_CHECKING:
    import xarray as xr

ANGLES = np.linspace(-30, 30, 7)
SHAPE = (150, 141)
MISSING = 5
#: (view, y, x) of pixels that count too much, in bursts as X-rays make them and at the edges, and
#: of pixels that count nothing.
HOT = np.array(
    [(0, 20, 30), (0, 20, 31), (0, 21, 30), (1, 77, 8), (3, 0, 0), (3, 149, 140), (6, 60, 60)]
)
DEAD = np.array([(1, 100, 50), (6, 10, 90)])
PARTS = ("images", "even", "odd")


@pytest.fixture(scope="module")
def clean_halves() -> tuple[np.ndarray, np.ndarray]:
    even, odd = counted(scene(ANGLES, SHAPE, level=400, contrast=0.03))
    even[MISSING], odd[MISSING] = np.nan, np.nan
    return even, odd


@pytest.fixture(scope="module")
def spoilt(
    clean_halves: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A series with spoilt pixels, all heat in the even frames; not cleaned."""
    even, odd = (half.copy() for half in clean_halves)
    even[tuple(HOT.T)] += 2500
    for half in (even, odd):
        half[tuple(DEAD.T)] = 0
    return stored(tmp_path_factory.mktemp("spoilt") / "s.zarr", ANGLES, even, odd)


@pytest.fixture
def series(spoilt: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(spoilt, tmp_path / "series" / "s.zarr"))


@pytest.fixture(scope="module")
def cleaned(spoilt: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cleaned") / "s.zarr"
    shutil.copytree(spoilt, path)
    td.clean(path)
    return path


@pytest.fixture(scope="module")
def mended(cleaned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A series whose stored images are the mended ones, without any cleaning."""
    even, odd = (td.unaligned_stack(td.open(cleaned), part=part).values for part in PARTS[1:])
    path = stored(tmp_path_factory.mktemp("mended") / "s.zarr", ANGLES, even, odd)
    images = td.unaligned_stack(td.open(cleaned)).values
    np.testing.assert_allclose(td.unaligned_stack(td.open(path)).values, images, rtol=1e-5)
    # The sum itself, rather than the sum of the halves as it is rounded.
    shutil.rmtree(path)
    return stored(path, ANGLES, images)


def places(table: xr.Dataset) -> list[tuple[int, int, int]]:
    view = np.repeat(np.arange(len(ANGLES)), np.diff(table["start"].values))
    return sorted(
        zip(view.tolist(), table["y"].values.tolist(), table["x"].values.tolist(), strict=True)
    )


def test_just_the_spoilt_pixels_are_found(cleaned: Path) -> None:
    table = td.open(cleaned)["cleaning"].to_dataset()
    expected = sorted(map(tuple, np.concatenate([HOT, DEAD]).tolist()))
    assert places(table) == expected
    assert int(table["dead"].sum()) == len(DEAD)
    assert td.info(cleaned)["cleaning"] == {"pixels": len(expected)}


def test_store_stays_as_it_is(spoilt: Path, cleaned: Path) -> None:
    one, other = contents(spoilt / "tilt_series"), contents(cleaned / "tilt_series")
    assert {name: content for name, (_, content) in one.items()} == {
        name: content for name, (_, content) in other.items()
    }
    raw = td.open(cleaned)["tilt_series"]["images"].values
    assert raw[tuple(HOT.T)].min() > 2500
    assert not list(cleaned.glob(".work*"))


@pytest.mark.parametrize("part", PARTS)
def test_images_are_mended_where_they_are_spoilt(part: str, spoilt: Path, cleaned: Path) -> None:
    """The halves at the places of the sum; all other pixels are as they were."""
    before = td.unaligned_stack(td.open(spoilt), part=part).values  # type: ignore[arg-type]
    after = td.unaligned_stack(td.open(cleaned), part=part).values  # type: ignore[arg-type]
    edited = np.zeros(before.shape, bool)
    edited[tuple(np.concatenate([HOT, DEAD]).T)] = True
    edited[MISSING] = False
    np.testing.assert_array_equal(after[~edited], before[~edited])
    assert (after[edited] != before[edited]).all()
    for view, y, x in np.concatenate([HOT, DEAD]):
        around = before[view, max(y - 6, 0) : y + 7, max(x - 6, 0) : x + 7]
        usual, noise = np.median(around), np.sqrt(np.median(around))
        assert abs(after[view, y, x] - usual) < 6 * noise


def test_mended_halves_add_up(cleaned: Path) -> None:
    full, even, odd = (
        td.unaligned_stack(td.open(cleaned), part=part).values  # type: ignore[arg-type]
        for part in PARTS
    )
    np.testing.assert_allclose(even + odd, full, rtol=1e-5)


def test_every_step_reads_the_mended_images(cleaned: Path, mended: Path, tmp_path: Path) -> None:
    """Bit for bit what a series gives whose stored images are the mended ones."""
    one, other = td.open(cleaned), td.open(mended)
    for make in (
        td.unaligned_stack,
        lambda tree: td.preprocess(tree, binning=2, normalize=True),
        td.preprocess,
        lambda tree: td.align_stack(tree, alignment="none"),
        lambda tree: td.align_stack(tree, alignment="none", binning=2.5),
        lambda tree: td.reconstruct(tree, thickness=12, binning=2, alignment="none"),
    ):
        np.testing.assert_array_equal(make(one).values, make(other).values)
    written = []
    for name, path in (("one", cleaned), ("other", mended)):
        copy = Path(shutil.copytree(path, tmp_path / name / "s.zarr"))
        volume = td.reconstruct(td.open(copy), thickness=12, alignment="none")
        td.store(volume, name="wbp", workers=2)
        stored_volume = td.open(copy)["tomograms/wbp/full/0"]["tomogram"].values
        np.testing.assert_array_equal(stored_volume, volume.values)
        td.export_images(td.open(copy), tmp_path / f"{name}.mrc")
        written.append((stored_volume, mrcfile.read(tmp_path / f"{name}.mrc")))
        alignment = td.align(copy)
        written[-1] += (alignment["shift_x"].values, alignment["score"].values)
    for found, expected in zip(*written, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_applied_is_said(cleaned: Path, spoilt: Path) -> None:
    assert td.unaligned_stack(td.open(cleaned)).attrs["applied"] == ["cleaning"]
    assert td.preprocess(td.open(cleaned)).attrs["applied"] == ["cleaning"]
    assert "applied" not in td.unaligned_stack(td.open(spoilt)).attrs


def test_undo(series: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(series)
    raw = td.unaligned_stack(td.open(series)).values
    assert main(["clean", str(series), "--quiet"]) == 0
    assert "9 pixels in 7 views (2 dead)" in capsys.readouterr().out
    assert not np.array_equal(td.unaligned_stack(td.open(series)).values, raw, equal_nan=True)
    assert main(["clean", str(series), "--undo"]) == 0
    assert contents(series) == before
    np.testing.assert_array_equal(td.unaligned_stack(td.open(series)).values, raw)
    assert main(["clean", str(series), "--undo"]) == 0


def test_undo_of_nothing_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["clean", str(tmp_path / "none.zarr"), "--undo"]) == 1
    assert "undone" not in capsys.readouterr().out
    assert not (tmp_path / "none.zarr").exists()


def test_cleaning_again_replaces(series: Path) -> None:
    assert td.clean(series, peak=1000.0, difference=1000.0).sizes["edit"] == 0
    np.testing.assert_array_equal(
        td.unaligned_stack(td.open(series)).values, td.open(series)["tilt_series"]["images"].values
    )
    found = places(td.clean(series))
    assert found == places(td.clean(series))  # on what is stored, not on what is mended
    assert len(found) == len(HOT) + len(DEAD)


def test_result_depends_on_no_resource(series: Path, cleaned: Path) -> None:
    td.clean(series, workers=1)
    expected = contents(cleaned / "cleaning")
    assert {name: content for name, (_, content) in contents(series / "cleaning").items()} == {
        name: content for name, (_, content) in expected.items()
    }


def test_lazy_work_notices_that_it_changed(series: Path) -> None:
    td.clean(series)
    lazy = td.preprocess(td.open(series), binning=2)
    volume = td.reconstruct(td.open(series), thickness=8, alignment="none")
    td.clean(series, peak=1000.0, difference=1000.0)
    for work in (lazy, volume):
        with pytest.raises(DataError, match="was changed since this was begun: open the series"):
            work.compute()
    td.undo_cleaning(series)
    with pytest.raises((DataError, StoreError), match="cleaning"):
        lazy.compute()
    td.preprocess(td.open(series), binning=2).compute()


def test_plan_of_a_tomogram_knows_the_cleaning(series: Path) -> None:
    def store() -> None:
        volume = td.reconstruct(td.open(series), thickness=8, alignment="none")
        td.store(volume, name="wbp", overwrite=False)

    store()
    td.clean(series)
    with pytest.raises(PlanMismatchError, match="edits: None before"):
        store()
    td.undo_cleaning(series)
    store()


def test_series_without_images(tmp_path: Path) -> None:
    from tests.movie_sample import imported, write

    path = imported(write(tmp_path / "m"), tmp_path / "m.zarr")
    with pytest.raises(ProductMissingError, match="no images yet"):
        td.clean(path)

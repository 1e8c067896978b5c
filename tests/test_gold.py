"""Gold that is erased when tomograms are made, and given back."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import tomodask as td
from tests.image_sample import PIXEL, contents, stored
from tomodask.cli import main
from tomodask.errors import (
    DataError,
    ParameterError,
    PlanMismatchError,
    ProductMissingError,
    TomodaskWarning,
)
from tomodask.geometry import Projection
from tomodask.io.series import write_alignment, write_landmarks
from tomodask.model import alignment_dataset, landmarks_dataset
from tomodask.simulate import Imaging, Phantom, beads_and_vesicles, simulate_tilt_series

if TYPE_CHECKING:
    import xarray as xr

TILTS = np.arange(-60, 61, 6.0)
SHAPE = (220, 200)
RADIUS = 50.0
#: Beads that were tracked; the others are found in the views.
TRACKED = 7


@pytest.fixture(scope="module")
def specimen() -> Phantom:
    return beads_and_vesicles(
        4, (1500.0, 1700.0, 500.0), beads=10, bead_radius=RADIUS, vesicles=0, particles=0
    )


@pytest.fixture(scope="module")
def truth() -> Projection:
    rng = np.random.default_rng(3)
    return Projection.create(TILTS, tilt_axis_angle=3.0, shift=rng.normal(0, 30, (len(TILTS), 2)))


@pytest.fixture(scope="module")
def shown(specimen: Phantom, truth: Projection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A series with halves, its alignment, and landmarks of some of the beads in some views."""
    imaging = Imaging(exposure=3.0)
    found = simulate_tilt_series(specimen, truth, SHAPE, pixel_size=PIXEL, imaging=imaging, seed=1)
    even = np.random.default_rng(0).binomial(found.images.astype(int), 0.5).astype(np.float32)
    path = stored(tmp_path_factory.mktemp("gold") / "s.zarr", TILTS, even, found.images - even)
    write_alignment(path, "beads", alignment_dataset(truth, method="beads"))
    seen = truth.project(specimen.bead_centres[:TRACKED])
    view, bead = np.nonzero(np.random.default_rng(1).random(seen.shape[:2]) > 0.3)
    table = landmarks_dataset(
        landmark=bead,
        view=view,
        position=seen[view, bead],
        attributes={"bead_diameter": 2 * RADIUS},
    )
    write_landmarks(path, "beads", table)
    return path


@pytest.fixture(scope="module")
def erased(shown: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = Path(shutil.copytree(shown, tmp_path_factory.mktemp("erased") / "s.zarr"))
    td.erase_gold(path)
    return path


@pytest.fixture
def series(shown: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shown, tmp_path / "s.zarr"))


def tomogram(path: Path) -> xr.DataArray:
    return td.reconstruct(td.open(path), thickness=70, alignment="beads")


def test_every_bead_of_every_view_is_found(
    erased: Path, specimen: Phantom, truth: Projection
) -> None:
    table = td.open(erased)["gold"].to_dataset()
    true = truth.project(specimen.bead_centres) / PIXEL + (np.array(SHAPE[::-1]) - 1) / 2
    view = np.repeat(np.arange(len(TILTS)), np.diff(table["start"].values))
    place = np.stack([table["x"].values, table["y"].values], axis=1)
    for t in range(len(TILTS)):
        distance = np.linalg.norm(true[t][:, None] - place[view == t], axis=2)
        assert distance.min(axis=1).max() < 1.5  # none is missed,
        assert distance.min(axis=0).max() < 1.5  # none is invented
    assert np.count_nonzero(table["landmark"] < 0) == (10 - TRACKED) * len(TILTS)
    assert 5 < float(table["radius"][0]) < 8


def test_tomograms_are_made_without(erased: Path, shown: Path, specimen: Phantom) -> None:
    """No trace of the beads is left in their mean, to a thirtieth of what they were."""
    means = []
    for path in (shown, erased):
        volume = tomogram(path)
        z, y, x = (volume[axis].values for axis in "zyx")
        centres = specimen.bead_centres
        at = [
            np.rint((c - v[0]) / PIXEL).astype(int)
            for c, v in zip(centres.T, (x, y, z), strict=True)
        ]
        values = volume.values
        means.append(
            np.mean([values[k - 2 : k + 3, j - 2 : j + 3, i - 2 : i + 3].mean()
                     for i, j, k in zip(*at, strict=True)])
        )  # fmt: skip
    assert means[0] < 0
    assert abs(means[1]) < abs(means[0]) / 30


def test_what_measures_sees_the_gold(erased: Path, shown: Path) -> None:
    one, other = td.open(erased), td.open(shown)
    for make in (
        lambda tree: td.unaligned_stack(tree, part="even"),
        lambda tree: td.preprocess(tree, binning=2),
    ):
        np.testing.assert_array_equal(make(one).values, make(other).values)


def test_aligned_stacks_are_made_without(erased: Path, shown: Path) -> None:
    stack, before = (
        td.align_stack(td.open(path), alignment="none").values for path in (erased, shown)
    )
    assert (stack != before).any(axis=(1, 2)).all()
    assert stack.min() > before.min() + 60  # counts: gold is black
    assert td.align_stack(td.open(erased), alignment="none").attrs["applied"] == [
        "gold erasing",
        "alignment",
    ]


def test_in_memory_and_on_disk_are_the_same(erased: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(erased, tmp_path / "s.zarr"))
    td.store(tomogram(path), name="wbp", workers=2)
    np.testing.assert_array_equal(
        td.open(path)["tomograms/wbp/full/0"]["tomogram"].values, tomogram(path).values
    )


def test_plan_of_a_tomogram_knows_the_gold(series: Path) -> None:
    td.store(tomogram(series), name="wbp")
    td.erase_gold(series, untracked=False, radius=6.0)
    with pytest.raises(PlanMismatchError, match=r"edits: None before, '\+gold"):
        td.store(tomogram(series), name="wbp")
    lazy = tomogram(series)
    td.erase_gold(series, untracked=False, radius=7.0)
    with pytest.raises(DataError, match="gold was changed since"):
        lazy.compute()
    td.undo_erasing(series)
    td.store(tomogram(series), name="wbp")


def test_undo_and_command(series: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(series)
    assert main(["erase-gold", str(series), "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "210 beads in 21 views" in said
    assert "63 of them not tracked" in said
    assert main(["erase-gold", str(series), "--undo"]) == 0
    assert contents(series) == before
    assert main(["erase-gold", str(series), "--diameter", "-1", "--quiet"]) == 2


def test_result_depends_on_no_resource(series: Path, erased: Path) -> None:
    td.erase_gold(series, workers=1)
    assert td.open(series)["gold"].attrs["digest"] == td.open(erased)["gold"].attrs["digest"]


def test_without_landmarks(series: Path) -> None:
    shutil.rmtree(series / "landmarks")
    with pytest.raises(ParameterError, match="diameter of the beads is not known"):
        td.erase_gold(series)
    table = td.erase_gold(series, diameter=2 * RADIUS / 10)
    assert table.sizes["edit"] == 210
    assert (table["landmark"] == -1).all()


def test_what_is_not_there(series: Path) -> None:
    with pytest.raises(ProductMissingError, match="no landmarks 'other'"):
        td.erase_gold(series, landmarks="other")
    with pytest.raises(ParameterError, match="radius"):
        td.erase_gold(series, radius=0)
    shutil.rmtree(series / "landmarks")
    with pytest.warns(TomodaskWarning, match="no gold was found"):
        td.erase_gold(series, diameter=10.0, untracked=False)


def test_wrong_places_are_not_believed(series: Path, erased: Path) -> None:
    """A bead that was tracked to somewhere else is erased where the geometry has it."""
    table = td.open(series)["landmarks/beads"].to_dataset()
    x = table["x"].values.copy()
    x[5] += 300
    weight = np.ones(len(x))
    weight[5] = 0
    changed = table.assign(x=("observation", x), weight=("observation", weight))
    write_landmarks(series, "beads", changed)
    found = td.erase_gold(series)
    expected = td.open(erased)["gold"].to_dataset()
    assert found.sizes == expected.sizes
    np.testing.assert_allclose(found["x"], expected["x"], atol=0.5)


def test_beads_that_the_solution_does_without_are_erased_in_all_views(
    series: Path, erased: Path
) -> None:
    table = td.open(series)["landmarks/beads"].to_dataset()
    chosen = np.arange(table.sizes["landmark"]) < 4
    weight = np.where(chosen[table["landmark_of"].values], 1.0, 0.0)
    changed = table.assign(chosen=("landmark", chosen), weight=("observation", weight))
    write_landmarks(series, "beads", changed)
    found, before = td.erase_gold(series, untracked=False), td.open(erased)["gold"].to_dataset()
    np.testing.assert_array_equal(found["landmark"], before["landmark"][before["landmark"] > 0])


def test_images_made_anew_have_other_gold(erased: Path, shown: Path, tmp_path: Path) -> None:
    path = stored(tmp_path / "s.zarr", TILTS, td.open(shown)["tilt_series"]["even"].values)
    shutil.copytree(erased / "gold", path / "gold")
    with pytest.warns(TomodaskWarning, match="made anew since gold was found"):
        td.open(path)

"""Alignment by gold beads through a store, and landmarks mended by hand: Python and commands."""

from __future__ import annotations

import shutil
import warnings
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

import tomodask as td
from tests.bead_sample import AXIS, EXCLUDED, PIXEL, SHAPE, TILTS, bead_series
from tests.image_sample import contents
from tomodask.bead_alignment import _diameter
from tomodask.cli import main
from tomodask.engine.gather import gathered
from tomodask.engine.workers import Resources
from tomodask.errors import (
    MemoryLimitError,
    ParameterError,
    ProductMissingError,
    StoreError,
    TomodaskWarning,
)
from tomodask.geometry import Projection
from tomodask.simulate import Imaging, beads_and_vesicles, simulate_tilt_series

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr

    from tomodask.engine.events import Event

USED = np.setdiff1d(np.arange(len(TILTS)), EXCLUDED)


class Made:
    """The series once aligned, the truth, and what was said meanwhile."""

    def __init__(self, folder: Path) -> None:
        self.path, self.beads = bead_series(folder)
        self.events: list[Event] = []
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.alignment = td.align(self.path, method="beads", progress=self.events.append)
        self.warnings = [str(one.message) for one in caught]

    def bead_of(self) -> dict[int, int]:
        """Return the bead that each landmark is, by the mean distance over the views."""
        found = {}
        for number, track in td.open_landmarks(self.path).points().groupby("landmark"):
            views, seen = track["view"].to_numpy(), track[["x", "y"]].to_numpy()
            apart = np.hypot(*(self.beads[views] - seen[:, None]).T).mean(axis=1)
            found[int(number)] = int(np.argmin(apart))
        return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("beads"))


@pytest.fixture
def series(made: Made, tmp_path: Path) -> Path:
    """A copy to change."""
    return shutil.copytree(made.path, tmp_path / "a.zarr")


def cameras(alignment: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """(tilt, 2, 3) and (tilt, 2): raw = matrix (x, y, z) + shift, as the documentation has it."""
    value = {name: alignment[name].values for name in alignment.data_vars}
    tilt, axis = np.deg2rad(value["tilt_angle"]), np.deg2rad(value["tilt_axis_angle"])
    none = np.zeros(len(tilt))
    assert not value["x_tilt"].any()
    u = np.stack([np.cos(tilt), none, np.sin(tilt) + value["z_factor_u"]], axis=-1)
    v = np.stack([none, none + 1, value["z_factor_v"]], axis=-1)
    turn = np.array([[np.cos(axis), -np.sin(axis)], [np.sin(axis), np.cos(axis)]])
    strain = np.array(
        [[1 + value["stretch"], value["skew"]], [value["skew"], 1 - value["stretch"]]]
    )
    image = np.einsum("v,ijv,jkv->vik", value["magnification"], turn, strain)
    shift = np.stack([value["shift_x"], value["shift_y"]], axis=-1)
    return image @ np.stack([u, v], axis=1), shift


def best_error(alignment: xr.Dataset, beads: np.ndarray) -> float:
    """RMS distance, pixels, of the beads from where the alignment can put them at best."""
    matrix, shift = (part[USED] for part in cameras(alignment))
    target = (beads[USED] - shift[:, None]).transpose(0, 2, 1).reshape(2 * len(USED), -1)
    points = np.linalg.lstsq(matrix.reshape(-1, 3), target, rcond=None)[0]
    missed = matrix.reshape(-1, 3) @ points - target
    return float(np.sqrt(2 * np.mean(missed**2)) / PIXEL)


def same(one: xr.Dataset, other: xr.Dataset) -> None:
    for name in one.data_vars:
        np.testing.assert_array_equal(one[name].values, other[name].values, str(name))


# The alignment


def test_beads_lie_where_the_alignment_says(made: Made) -> None:
    stored = td.open(made.path)["alignments/beads"].to_dataset()
    same(stored, made.alignment)
    assert best_error(stored, made.beads) < 0.1
    assert abs(float(stored["tilt_axis_angle"].median()) - (AXIS - 0.6)) < 0.2
    assert stored.attrs["landmarks"] == 10
    assert stored.attrs["variables"]["rotation"] == "estimated"
    # What is expected of the error is what it is, to a factor of two.
    assert 0.5 < stored.attrs["error"] / PIXEL / best_error(stored, made.beads) < 2


def test_landmarks_are_the_beads(made: Made) -> None:
    marks = td.open_landmarks(made.path)
    assert marks.name == "beads"
    bead = made.bead_of()
    assert sorted(bead.values()) == list(range(10))
    points = marks.points()
    tracked = points[points["source"] == "tracked"]
    error = marks.table["error"].values[points["source"] == "tracked"] / PIXEL
    assert 0.005 < error.min() <= error.max() < 0.5
    assert len(tracked) >= 180
    place = np.stack([tracked["x"], tracked["y"]], axis=1)
    truth = made.beads[tracked["view"], [bead[number] for number in tracked["landmark"]]]
    assert np.hypot(*(place - truth).T).max() < 0.4 * PIXEL
    assert np.hypot(tracked["residual_x"], tracked["residual_y"]).mean() < 0.15
    np.testing.assert_array_equal(points["tilt_angle"], TILTS[points["view"]])
    height = marks.by_landmark()["z"]
    assert height.max() == pytest.approx(-height.min(), abs=1.0)
    assert marks.table.attrs["bead_diameter_is"] == "estimated"


def test_gold_of_many_pixels_is_measured() -> None:
    phantom = beads_and_vesicles(1, (1000.0, 1000.0, 300.0), beads=6, vesicles=0, particles=0)
    images = simulate_tilt_series(
        phantom, Projection.create([0.0]), (900, 900), pixel_size=1.35, seed=1,
        imaging=Imaging(exposure=3.0),
    ).images  # fmt: skip
    source = SimpleNamespace(read=lambda view: images[view], pixel_size=1.35)
    assert _diameter(source, np.zeros(1), [0]) == pytest.approx(100.0 / 1.35, rel=0.02)


def test_excluded_views_have_a_place_but_no_say(made: Made) -> None:
    found = made.alignment["found"].values
    np.testing.assert_array_equal(np.flatnonzero(~found), EXCLUDED)
    assert not np.isin(td.open_landmarks(made.path).table["view"], EXCLUDED).any()
    assert np.isfinite(made.alignment["shift_x"]).all()
    assert not set(EXCLUDED) & {
        v for views in td.open_landmarks(made.path).gaps().values() for v in views
    }
    assert made.warnings == []


def test_progress_is_told(made: Made) -> None:
    kinds = [event.kind for event in made.events]
    assert kinds == ["start", *["task"] * len(USED), "end"]
    assert [event.done for event in made.events[1:-1]] == list(range(1, len(USED) + 1))
    assert {(e.step, e.stage, e.total) for e in made.events} == {
        ("align beads", "find beads", len(USED))
    }


@pytest.mark.slow
@pytest.mark.parametrize("where", ["one thread", "processes", "client"])
def test_result_depends_on_no_resource(made: Made, series: Path, where: str) -> None:
    from distributed import Client, LocalCluster

    options = {"method": "beads", "overwrite": True}
    if where == "client":
        cluster = LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
        )
        with cluster, Client(cluster, set_as_default=False) as client:
            found = td.align(series, scheduler=client, **options)
    elif where == "processes":
        found = td.align(series, scheduler="processes", workers=2, **options)
    else:
        found = td.align(series, workers=1, **options)
    same(found, made.alignment)
    same(td.open_landmarks(series).table, td.open_landmarks(made.path).table)


def test_what_does_not_fit_the_memory_is_refused(series: Path) -> None:
    with pytest.raises(MemoryLimitError, match="align beads: find beads"):
        td.align(series, method="beads", overwrite=True, memory_limit="1MB", bead_diameter=10)


def square(number: int) -> int:
    if number == 3:
        raise StoreError("three cannot be read")
    return number**2


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_are_gathered_in_order(workers: int) -> None:
    def gather(*numbers: int) -> list[int]:
        return gathered(
            "it",
            square,
            [(number,) for number in numbers],
            stage="square",
            task_bytes=1000,
            resources=Resources(workers=workers),
        )

    assert gather(*range(5, 12)) == [25, 36, 49, 64, 81, 100, 121]
    assert gather() == []
    with pytest.raises(StoreError, match="three"):
        gather(1, 2, 3, 4)


# Looking


def test_largest_residuals_come_first(made: Made) -> None:
    marks = td.open_landmarks(made.path, "beads")
    worst = marks.largest_residuals(5)
    length = np.sort(np.hypot(marks.table["residual_x"], marks.table["residual_y"]) / PIXEL)[::-1]
    np.testing.assert_allclose(worst["residual"], length[:5])
    by = marks.by_landmark()
    assert by["views"].sum() == (marks.table["source"].values == "tracked").sum()
    assert by["largest_residual"].max() == pytest.approx(length[0])
    assert by["in_use"].all()


def test_residuals_are_prediction_less_measurement(made: Made) -> None:
    marks = td.open_landmarks(made.path)
    table, (matrix, shift) = marks.table, cameras(made.alignment)
    xyz = np.stack([table[f"specimen_{axis}"].values for axis in "xyz"], axis=-1)
    view, of = table["view"].values, table["landmark_of"].values
    predicted = np.einsum("nij,nj->ni", matrix[view], xyz[of]) + shift[view]
    residual = predicted - np.stack([table["x"].values, table["y"].values], axis=1)
    for column, axis in enumerate("xy"):
        np.testing.assert_allclose(table[f"residual_{axis}"], residual[:, column], atol=1e-6)


def test_picture(made: Made, tmp_path: Path) -> None:
    marks = td.open_landmarks(made.path)
    path = marks.picture(tmp_path / "a.png")
    assert np.asarray(Image.open(path)).std() > 5
    figure = marks.plot()
    assert "10 in use of 10" in figure.get_suptitle()
    assert figure._repr_png_()[1:4] == b"PNG"  # what a notebook asks for
    vectors, by_view, by_landmark, tracks, along, across = figure.axes[:6]
    assert "residuals" in vectors.get_title()
    # tracks in pixels, where the beads are
    drawn = np.concatenate([line.get_xydata() for line in tracks.lines])
    assert np.abs(drawn).max() < max(SHAPE) / 2
    assert len(by_view.lines[1].get_xdata()) == len(USED)
    assert len(by_landmark.patches) == 10
    for ax, axis in ((along, "x"), (across, "y")):
        places = np.concatenate([line.get_xydata() for line in ax.lines[:2]])
        by = marks.by_landmark()
        assert {tuple(p) for p in places} == {tuple(p) for p in by[[axis, "z"]].to_numpy()}
    # before it is solved there is a picture too
    bare = marks.table.assign({f"residual_{a}": marks.table["residual_x"] * np.nan for a in "xy"})
    td.Landmarks(marks.path, "beads", bare, td.open(made.path)["tilt_series"].to_dataset()).plot()


# Mending


def test_edits_one_by_one(made: Made) -> None:
    marks = td.open_landmarks(made.path)
    before = marks.table
    points = len(marks.points())
    marks.move(1, 3, x=10.0, y=-20.0).delete(2, 5).delete(3).add({7: (1.0, 2.0), 8: (3.0, 4.0)})
    now = marks.points().set_index(["landmark", "view"])
    assert tuple(now.loc[(1, 3), ["x", "y", "source"]]) == (10.0, -20.0, "edited")
    assert np.isnan(now.loc[(1, 3), "residual"])
    assert now.loc[(2, 5), "source"] == "deleted"
    assert now.loc[(11, 8), ["x", "y"]].tolist() == [3.0, 4.0]
    assert len(now) == points + 2
    assert not marks.by_landmark().loc[3, "in_use"]
    assert 3 not in marks.gaps()
    assert marks.restore(3).by_landmark().loc[3, "in_use"]
    assert [edit.split()[0] for edit in marks.edits()] == [
        "move", "delete", "delete", "add", "restore"
    ]  # fmt: skip
    assert "5 edits" in marks.summary()[0]
    for _ in range(5):
        marks.undo()
    for name in ("landmark_of", "view", "x", "y", "source", "number", "chosen"):
        np.testing.assert_array_equal(marks.table[name], before[name])
    with pytest.raises(ParameterError, match="no edit"):
        marks.undo()


def test_a_wrong_point_is_mended(made: Made) -> None:
    """Displaced by 8 pixels it has the largest residual; moved by it, it is back at the bead."""
    marks = td.open_landmarks(made.path)
    points = marks.points()
    row = points[(points["landmark"] == 4) & (points["view"] == 13)].iloc[0]
    marks.move(4, 13, x=row["x"] + 60.0, y=row["y"] - 75.0).solve()
    worst = marks.largest_residuals(1).iloc[0]
    assert (worst["landmark"], worst["view"], worst["weight"]) == (4, 13, 0.0)
    assert worst["residual"] == pytest.approx(8.0, abs=0.5)
    marks.move_by_residual(4, 13).solve()
    bead = made.bead_of()[4]
    mended = marks.points().set_index(["landmark", "view"]).loc[(4, 13)]
    assert np.hypot(*(mended[["x", "y"]].tolist() - made.beads[13, bead])) < 0.4 * PIXEL
    assert mended["residual"] < 0.3
    assert best_error(marks.alignment, made.beads) < 0.1


def test_a_point_is_centred_on_its_bead(made: Made) -> None:
    marks = td.open_landmarks(made.path)
    point = marks.points().iloc[30]
    marks.move(point.landmark, point.view, x=point.x + 25.0, y=point.y - 20.0)
    marks.centre(point.landmark, point.view)
    found = marks.points().set_index(["landmark", "view"]).loc[(point.landmark, point.view)]
    assert np.hypot(found.x - point.x, found.y - point.y) < 0.4 * PIXEL
    assert found.source == "edited"
    marks.move(point.landmark, point.view, x=-1700.0, y=1700.0)
    with pytest.raises(ParameterError, match="no bead is to be seen"):
        marks.centre(point.landmark, point.view)
    del marks.table.attrs["bead_diameter"]
    with pytest.raises(ParameterError, match="diameter"):
        marks.centre(point.landmark, point.view)


def test_gaps_are_filled_with_predictions(made: Made) -> None:
    marks = td.open_landmarks(made.path)
    table = marks.table
    gone = (table["landmark_of"].values == 4) & np.isin(table["view"].values, (8, 9))
    marks.table = table.isel(observation=~gone)
    assert marks.gaps()[5] == [8, 9]
    marks.fill_gaps()
    assert marks.gaps()[5] == [8, 9]  # they are no measurements
    points = marks.points().set_index(["landmark", "view"])
    bead = made.bead_of()[5]
    for view in (8, 9):
        assert points.loc[(5, view), "source"] == "filled"
        assert np.hypot(*(points.loc[(5, view), ["x", "y"]] - made.beads[view, bead])) < 0.3 * PIXEL
    marks.solve()
    points = marks.points()
    points = points[points["source"] == "filled"]
    assert (points["weight"] == 0).all()
    assert points["residual"].max() < 0.05
    marks.table = marks.table.assign(chosen=marks.table["chosen"] & False)
    assert len(marks.fill_gaps().edits()) == 1  # nothing to fill is no edit


def test_landmarks_left_out_are_judged_all_the_same(made: Made) -> None:
    marks = td.open_landmarks(made.path).delete(6).solve()
    left_out = marks.by_landmark().loc[6]
    assert not left_out["in_use"]
    assert np.isfinite(left_out[["x", "y", "z"]].tolist()).all()
    table = marks.table
    own = table["landmark_of"].values == 5
    residual = np.hypot(table["residual_x"].values[own], table["residual_y"].values[own]) / PIXEL
    assert residual.max() < 0.5
    assert (table["weight"].values[own] == 0).all()
    assert marks.alignment.attrs["landmarks"] == 9


def test_what_is_saved_is_there_when_opened_again(series: Path) -> None:
    marks = td.open_landmarks(series)
    row = marks.points().iloc[0]
    marks.move(1, 0, x=row["x"] + 1.0, y=row["y"]).delete(10).solve().save()
    again = td.open_landmarks(series)
    assert again.edits() == marks.edits()
    same(again.table, marks.table)
    assert again.alignment is not None
    same(again.alignment, marks.alignment)
    assert again.undo().by_landmark().loc[10, "in_use"]
    again.save("other")
    assert td.open_landmarks(series, "other").edits() == marks.edits()[:1]
    with pytest.raises(ProductMissingError, match="beads, other: name one"):
        td.open_landmarks(series)
    assert (
        "alignments/other" in td.open(series).groups[0] or "other" in td.open(series)["alignments"]
    )


def test_views_that_are_excluded_take_no_part(series: Path) -> None:
    table = td.open_landmarks(series).table
    bad = table["view"].values == 9
    apart = table.assign(x=("observation", table["x"].values + 500.0 * bad))
    marks = td.open_landmarks(series)
    marks.table = apart
    td.curate(series, exclude=[9])
    marks = td.Landmarks(series, "beads", apart, td.open(series)["tilt_series"].to_dataset())
    marks.solve()
    assert marks.alignment is not None
    assert not marks.alignment["found"].values[9]
    assert 9 not in marks.largest_residuals(500)["view"].to_numpy()
    without = td.Landmarks(series, "beads", table.isel(observation=~bad), marks._views).solve()
    same(without.alignment, marks.alignment)


def test_an_alignment_of_other_landmarks_is_told(series: Path) -> None:
    """As after a crash between storing landmarks and storing their alignment."""
    stored = td.open_landmarks(series)
    before = contents(series / "alignments" / "beads")
    alignment, stored.alignment = stored.delete(4).solve().alignment, None
    stored.save()
    assert contents(series / "alignments" / "beads") == before
    with pytest.warns(TomodaskWarning, match="not solved from landmarks 'beads' as they are"):
        td.open_landmarks(series)
    stored.alignment = alignment
    stored.delete(5).save()  # an edit alone is none of that
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        td.open_landmarks(series)


def test_saving_replaces_no_other(series: Path) -> None:
    other = td.open(series)["alignments/beads"].to_dataset()
    td.store_alignment(series, other.assign(shift_x=other["shift_x"] + 5), name="mine")
    marks = td.open_landmarks(series)
    before = contents(series / "alignments" / "mine")
    with pytest.raises(ParameterError, match="'mine' already"):
        marks.save("mine")
    assert (contents(series / "alignments" / "mine"), marks.name) == (before, "beads")
    with pytest.raises(ParameterError, match="letters, digits"):
        marks.save("../x")
    marks.save("mine", overwrite=True)
    assert td.open_landmarks(series, "mine").alignment is not None


def test_what_was_edited_is_kept_when_aligned_again(made: Made, series: Path) -> None:
    marks = td.open_landmarks(series)
    points = marks.points().set_index(["landmark", "view"])
    x, y = points.loc[(2, 6), ["x", "y"]]
    marks.move(2, 6, x=x + 1.0, y=y).delete(3, 7).delete(5).add(
        {view: tuple(made.beads[view, :2].mean(axis=0)) for view in (8, 9, 10, 12)}
    )
    marks.save()
    with pytest.raises(ParameterError, match="'beads' already"):
        td.align(series, method="beads")
    alignment = td.align(series, method="beads", overwrite=True)
    again = td.open_landmarks(series)
    assert again.edits() == ["edits of the landmarks before"]
    bead = made.bead_of()

    def number_of(which: int) -> int:
        """Return the landmark that is the bead of an earlier one; it may be counted anew."""
        place = made.beads[10, bead[which]]
        here = again.points().query("view == 10 and landmark <= 10")
        return int(here.iloc[np.argmin(np.hypot(*(here[["x", "y"]] - place).T.values))]["landmark"])

    now = again.points().set_index(["landmark", "view"])
    assert now.loc[(number_of(2), 6), ["x", "y", "source"]].tolist() == [x + 1.0, y, "edited"]
    assert now.loc[(number_of(3), 7), "source"] == "deleted"
    assert not again.by_landmark().loc[number_of(5), "in_use"]
    assert again.by_landmark().loc[11, "views"] == 4
    assert alignment.attrs["landmarks"] == 10  # one less, one more
    assert best_error(alignment, made.beads) < 0.15
    assert again.undo().by_landmark()["in_use"].all()


def test_patches_move_locally_only_when_asked(
    made: Made, series: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where edits are carried over, and they are solved anew."""
    asked = []

    def solved(table: xr.Dataset, views: xr.Dataset, **options: object) -> tuple[object, object]:
        asked.append(options["local"])
        return table, made.alignment

    fresh = td.open_landmarks(series).table, made.alignment
    monkeypatch.setattr("tomodask.alignment.patches_alignment", lambda *_, **__: fresh)
    monkeypatch.setattr("tomodask.alignment.solve_landmarks", solved)
    td.open_landmarks(series).delete(2).save("patches")
    td.align(series, method="patches", overwrite=True)
    td.align(series, method="patches", overwrite=True, local=True)
    assert asked == [False, True, True]


@pytest.mark.parametrize(
    ("given", "taken"), [(AXIS + 20, AXIS), (AXIS - 200, AXIS - 180), (AXIS, AXIS)]
)
def test_patches_start_from_an_axis_that_the_views_fit(
    given: float, taken: float, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(*_: object, **options: float) -> None:
        raise ParameterError(f"axis {options['tilt_axis_angle']:.4f}")

    monkeypatch.setattr("tomodask.patch_alignment.align_patches", started)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(ParameterError) as stopped:
            td.align(made.path, method="patches", tilt_axis=given)
    axis = float(str(stopped.value).split()[1])
    assert axis == pytest.approx(taken, abs=1e-9 if given == taken else 3.0)
    said = [str(one.message) for one in caught]
    assert [f"given as {given:.1f} degrees" in text for text in said] == [True] * (given != taken)


@pytest.mark.parametrize("given", [True, False])
def test_command_asks_for_local_motion(
    given: bool, made: Made, series: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(td, "align", lambda *_, **all_: asked.append(all_) or made.alignment)
    flag = "--local" if given else "--no-local"
    assert main(["align", str(series), "--method", "beads", flag, "--quiet"]) == 0
    assert asked[0]["local"] is given


def test_landmarks_of_a_name_are_not_replaced_by_an_alignment(series: Path) -> None:
    marks = td.open_landmarks(series)
    marks.alignment = None
    marks.save("patches")
    before = contents(series / "landmarks")
    with pytest.raises(ParameterError, match="'patches' already"):
        td.align(series, method="beads", name="patches")
    assert contents(series / "landmarks") == before


def test_what_cannot_be_done_is_told(made: Made, tmp_path: Path) -> None:
    marks = td.open_landmarks(made.path)
    with pytest.raises(ParameterError, match="no landmark 99; give one of 1, 2"):
        marks.move(99, 0, x=0.0, y=0.0)
    with pytest.raises(ParameterError, match="views 0 to 20"):
        marks.move(1, 21, x=0.0, y=0.0)
    with pytest.raises(ParameterError, match="finite"):
        marks.move(1, 2, x=np.nan, y=0.0)
    with pytest.raises(ParameterError, match="no point in view 4"):
        marks.move_by_residual(1, 4)
    with pytest.raises(ParameterError, match="no point in view 4"):
        marks.delete(1, 4)
    with pytest.raises(ParameterError, match="no landmark 99"):
        marks.restore(99)
    with pytest.raises(ParameterError, match="no landmark 99"):
        marks.add({1: (0.0, 0.0)}, landmark=99)
    with pytest.raises(ParameterError, match="no places"):
        marks.add({})
    with pytest.raises(ParameterError, match="solve first"):
        marks.move(1, 3, x=0.0, y=0.0).move_by_residual(1, 3)
    marks.alignment = None
    with pytest.raises(ParameterError, match="solve first"):
        marks.fill_gaps()
    with pytest.raises(ProductMissingError, match="no landmarks 'gold' \\(there: beads\\)"):
        td.open_landmarks(made.path, "gold")
    with pytest.raises(ParameterError, match="bead diameter"):
        td.align(made.path, bead_diameter=10.0)
    bare = shutil.copytree(
        made.path, tmp_path / "bare.zarr", ignore=shutil.ignore_patterns("landmarks")
    )
    with pytest.raises(ProductMissingError, match="there: none yet"):
        td.open_landmarks(bare)


# Commands


def test_command_lists_and_mends(series: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(options: str, code: int = 0) -> str:
        assert main(["landmarks", str(series), *options.split()]) == code
        said = capsys.readouterr()
        return said.out if code == 0 else said.err

    before = contents(series / "landmarks")
    listed = run("--residuals 3")
    assert contents(series / "landmarks") == before
    assert "landmarks  beads: 10 in use of 10" in listed
    assert "residual   mean 0.0" in listed
    assert "gaps       2 in 2 landmarks" in listed
    assert len(listed.split("largest residuals")[1].strip().splitlines()) == 5
    run("--move 1:3:-20.5:30 --delete 2:5 --delete 3")
    marks = td.open_landmarks(series)
    assert [edit.split(" to ")[0] for edit in marks.edits()] == [
        "move landmark 1 in view 3", "delete landmark 2 in view 5", "delete landmark 3"
    ]  # fmt: skip
    assert "(-20.5, 30.0) A" in marks.edits()[0]
    listed = run("--undo 2 --move-by-residual 2:6 --solve")
    assert "edit       move landmark 2 in view 6 by its residual" in listed
    marks = td.open_landmarks(series)
    assert len(marks.edits()) == 2
    assert marks.by_landmark().loc[3, "in_use"]
    assert marks.largest_residuals(1).iloc[0][["landmark", "view"]].tolist() == [1, 3]
    listed = run("--undo 2 --solve --fill --save-as mended")
    assert set(td.open(series)["alignments"].children) == {"beads", "mended"}
    assert "filled" in listed
    assert "name one with" in run("", code=1)
    assert "already" in run("--name beads --save-as mended", code=2)
    run("--name beads --save-as mended --overwrite")
    run("--name mended --delete 9 --restore 9")
    assert td.open_landmarks(series, "mended").by_landmark()["in_use"].all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--move 1:3:5", "give LANDMARK:VIEW:X:Y"),
        ("--move 1:3.5:5:5", "give LANDMARK:VIEW:X:Y"),
        ("--move 1:3:x:5", "give LANDMARK:VIEW:X:Y"),
        ("--move 99:3:5:5", "no landmark 99"),
        ("--delete 1:2:3", "give LANDMARK:VIEW"),
        ("--move-by-residual 1", "give LANDMARK:VIEW"),
        ("--move-by-residual 1:4", "no point in view 4"),
        ("--undo 1", "no edit"),
        ("--restore 50", "no landmark 50"),
    ],
)
def test_wrong_commands_change_nothing(
    made: Made, options: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(made.path)
    assert main(["landmarks", str(made.path), "--delete", "1", *options.split()]) == 2
    assert words in capsys.readouterr().err
    assert contents(made.path) == before


def test_commands_for_models_and_pictures(
    series: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, picture = tmp_path / "a.fid", tmp_path / "a.png"
    files = ["--export-model", str(model), "--picture", str(picture)]
    assert main(["landmarks", str(series), *files]) == 0
    assert f"wrote      {model}" in capsys.readouterr().out
    assert picture.stat().st_size > 10_000
    imported = ["landmarks", str(series), "--import-model", str(model)]
    assert main([*imported, "--name", "again", "--solve"]) == 0
    assert "residual   mean 0.0" in capsys.readouterr().out
    assert main([*imported, "--name", "again"]) == 2
    assert "already" in capsys.readouterr().err
    assert main([*imported, "--name", "again", "--overwrite"]) == 0
    found, expected = (td.open_landmarks(series, name).points() for name in ("again", "beads"))
    expected = expected[expected["source"] == "tracked"]
    np.testing.assert_allclose(found[["x", "y"]], expected[["x", "y"]], atol=1e-3)
    assert main([*imported]) == 0
    assert "landmarks  fiducials:" in capsys.readouterr().out


def test_align_command(
    series: Path, tmp_path: Path, made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--method", "beads", "--quiet"]
    picture = ["--picture", str(tmp_path / "a.png")]
    diameter = ["--bead-diameter", "10"]
    command = ["align", str(series), *options, *picture, *diameter]
    assert main([*command, "--name", "ten"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert f"alignment  ten: {len(USED)} of {len(TILTS)} views, tilt axis 84." in printed.out
    assert "landmarks  ten: 10 in use of 10" in printed.out
    assert (tmp_path / "a.png").stat().st_size > 10_000
    assert td.open_landmarks(series, "ten").table.attrs["bead_diameter_is"] == "given"
    alignment = td.open(series)["alignments/ten"].to_dataset()
    assert best_error(alignment, made.beads) < 0.1
    assert main([*command, "--name", "ten"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*command, "--name", "x", "--bead-diameter", "-1"]) == 2
    assert main(["align", str(series), "--bead-diameter", "10", "--name", "y"]) == 2
    assert (
        main(["align", str(series), "--method", "beads", "--name", "z", "--memory-limit", "1MB"])
        == 1
    )


def test_an_axis_that_is_searched_is_told(made: Made, series: Path) -> None:
    with pytest.warns(TomodaskWarning, match="opposite"):
        found = td.align(series, method="beads", name="searched", search_axis=True)
    off = (float(found["tilt_axis_angle"].median()) - (AXIS - 0.6) + 90) % 180 - 90
    assert abs(off) < 0.2
    assert best_error(found, made.beads) < 0.1


def test_variables_are_given_in_words(series: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["align", str(series), "--method", "beads", "--overwrite", "--quiet"]
    assert main([*command, "--vary", "rotation=single,tilt=grouped:5"]) == 0
    stored = td.open(series)["alignments/beads"].attrs["variables"]
    assert (stored["rotation"], stored["tilt"]) == ("single", "grouped by 5")
    assert stored["magnification"] == "fixed"
    assert main([*command, "--vary", "rotation=sometimes"]) == 2
    assert "kinds fixed, single" in capsys.readouterr().err


def test_a_turned_axis_and_a_wrong_diameter_are_told(series: Path) -> None:
    with pytest.warns(TomodaskWarning, match="turned by about 180"):
        td.align(series, method="beads", overwrite=True, tilt_axis=-95.0)
    with pytest.warns(TomodaskWarning, match="show beads of"):
        td.align(series, method="beads", overwrite=True, bead_diameter=15.0)


def test_solving_again_changes_nothing(series: Path) -> None:
    td.align(series, method="beads", overwrite=True)
    marks = td.open_landmarks(series)
    before = marks.alignment
    after = marks.solve().alignment
    np.testing.assert_allclose(after["shift_x"], before["shift_x"], atol=0.01 * PIXEL)
    np.testing.assert_allclose(after["tilt_angle"], before["tilt_angle"], atol=0.01)

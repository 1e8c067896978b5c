"""The benchmark of alignment runs, and measures errors and tracks as it says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks import alignment, alignment_accuracy
from benchmarks.alignment_accuracy import PIXEL, Truth
from tomodask.errors import ParameterError
from tomodask.model import landmarks_dataset
from tomodask.simulate import (
    SimulatedTiltSeries,
    beads_and_vesicles,
    random_misalignment,
    simulate_tilt_series,
)

if TYPE_CHECKING:
    from tomodask.geometry import Projection

SIZE = alignment.SIZES["tiny"]
TILTS = np.arange(-48, 49, 12.0)
BLIND = 2


@pytest.fixture(scope="module")
def truth() -> Truth:
    series = simulate_tilt_series(
        beads_and_vesicles(1, (1500.0, 1500.0, 400.0), beads=5, vesicles=0, particles=0),
        random_misalignment(TILTS, seed=1, shift_sd=20.0, tilt_axis_angle=0.0, axis_jitter=0.0),
        (240, 240),
        pixel_size=PIXEL,
        seed=1,
    )
    return Truth(Path(), series, np.arange(len(TILTS)) != BLIND)


def shifted(series: SimulatedTiltSeries, view: int, shift: tuple[float, float]) -> Projection:
    moved = series.projection.shift.copy()
    moved[view] += shift
    return replace(series.projection, shift=moved)


def test_errors_have_no_origin_and_no_excluded_view(truth: Truth) -> None:
    same = shifted(truth.series, BLIND, (500.0, 500.0)).moved_origin([100.0, -50.0, 80.0])
    assert truth.errors(same, truth.points()).max() < 1e-9


def test_an_error_of_one_view_is_measured(truth: Truth) -> None:
    """A shift along the axis, less its mean over the views, is what moving points leaves."""
    wrong = shifted(truth.series, 4, (0.0, 3 * PIXEL))
    errors = truth.errors(wrong, truth.points())
    views = len(TILTS) - 1
    expected = np.full(views, 3 / views)
    expected[4 - 1] = 3 - 3 / views  # the excluded view lies before it
    np.testing.assert_allclose(errors, np.repeat(expected[:, None], errors.shape[1], axis=1))


def test_tracks_are_compared_with_the_beads(truth: Truth) -> None:
    """Four beads tracked, the last badly, one of them twice, and something that is no bead."""
    places = np.moveaxis(truth.series.bead_positions, 0, 1)[[0, 1, 2, 3, 3, 0]].copy()
    places[3, :2] += [0.0, 40.0]
    places[5] += 200.0
    landmark, view = np.nonzero(np.ones(places.shape[:2]))
    source = np.where((landmark == 0) & (view > 5), "filled", "tracked")
    used = view != BLIND
    table = landmarks_dataset(
        landmark=landmark[used],
        view=view[used],
        position=places[landmark, view][used],
        source=source[used],
    )
    found = alignment_accuracy.compared(truth, table)
    assert (found.found, found.visible, found.false) == (4, 5, 2)
    assert (found.measured, found.seen, found.wrong) == (4 * 8 - 3, 4 * 8, 2)


def test_a_bead_outside_the_images_is_not_seen(truth: Truth) -> None:
    visible = truth.visible()
    assert not visible[BLIND].any()
    assert visible[truth.included].all()
    moved = replace(truth.series, projection=shifted(truth.series, 0, (2000.0, 0.0)))
    assert not replace(truth, series=moved).visible()[0].any()


def test_series_are_the_same_each_time_and_differ(tmp_path: Path) -> None:
    first, again, other = (
        alignment_accuracy.simulated("free", seed, (128, 128), 5) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.images, again.images)
    assert not np.array_equal(first.projection.shift, other.projection.shift)
    assert len(first.bead_centres) == 0


def test_gold(tmp_path: Path) -> None:
    text = alignment.report(SIZE, tmp_path, part="beads")
    assert "| series aligned | 1 of 1 |" in text
    assert "| false tracks | 0 |" in text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_without_gold(tmp_path: Path) -> None:
    text = alignment.report(SIZE, tmp_path, part="patches")
    assert "(1 aligned)" in text
    assert "| expected error / error |" in text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_speed(tmp_path: Path) -> None:
    costs = alignment.speed(SIZE, tmp_path)
    assert len(costs) == 7
    assert all(cost.cpu > 0 for cost in costs.values())


def test_models(data_dir: Path, tmp_path: Path) -> None:
    rows = alignment.model(data_dir, SIZE, tmp_path)
    assert [row[0] for row in rows] == ["BBa", "BBb"]
    assert all(row[3] == row[4] for row in rows)


def test_models_without_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TOMODASK_DATA", raising=False)
    assert "TOMODASK_DATA" in alignment.report(SIZE, tmp_path, part="model")


def test_an_unknown_part_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="speed"):
        alignment.report(SIZE, tmp_path, part="spede")

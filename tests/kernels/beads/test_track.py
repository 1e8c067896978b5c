from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.kernels.beads.point_series import TILTS, point_series
from tomodask.errors import DataError
from tomodask.kernels.beads import FILLED, TRACKED, align_beads, detect_beads
from tomodask.kernels.beads.credible import checked
from tomodask.kernels.beads.remeasure import remeasure
from tomodask.kernels.beads.track import Tracks, adjusted
from tomodask.simulate import Imaging, beads_and_vesicles, random_misalignment, simulate_tilt_series

PIXEL, DIAMETER = 8.0, 12.5


def tracks_of(series, noise=0.1, seed=0):
    rng = np.random.default_rng(seed)
    position = series.seen + rng.normal(0, noise, series.seen.shape)
    error = np.full(position.shape[:2], noise)
    return Tracks(position, error, np.zeros(len(position)))


def test_wrong_measurements_are_found_and_do_not_harm():
    series = point_series(1, count=8)
    tracks = tracks_of(series)
    clean = adjusted(tracks, TILTS, 85.0, None)
    assert clean.wrong.sum() <= 1
    truth = np.zeros(clean.wrong.shape, bool)
    truth[[0, 3, 3, 5, 7], [2, 9, 10, 9, 20]] = True
    tracks.position[truth] += [6.0, -4.0]
    found = adjusted(tracks, TILTS, 85.0, None)
    assert found.wrong[truth].all()
    assert found.wrong.sum() <= truth.sum() + 2
    assert found.solution.noise < 1.1 * clean.solution.noise
    assert np.isnan(found.residual[truth]).all()


def test_three_landmarks_are_enough():
    series = point_series(2, count=3)
    found = adjusted(tracks_of(series), TILTS, 80.0, None)
    seen = np.einsum("tij,lj->lti", found.solution.matrix, found.solution.points)
    error = seen + found.solution.shift - series.seen
    assert np.sqrt(np.mean(np.sum(error**2, axis=2))) < 0.2


def test_pieces_of_one_track_are_merged():
    series = point_series(3, count=5)
    tracks = tracks_of(series)
    pieces = Tracks(
        np.concatenate([tracks.position, tracks.position[:1]]),
        np.concatenate([tracks.error, tracks.error[:1]]),
        np.zeros(6),
    )
    first = np.arange(len(TILTS)) < 10
    pieces.drop(np.stack([*np.zeros((5, len(TILTS)), bool), first]))
    pieces.position[0, ~first], pieces.error[0, ~first] = np.nan, np.nan
    points = np.concatenate([series.points, series.points[:1] + 1.0])
    merged = pieces.merge(points, 5.0)
    assert len(merged.position) == 5
    assert merged.measured.all()
    # Beads that touch are a diameter apart, and remain two.
    assert len(pieces.merge(points + np.arange(6)[:, None] * 20.0, 5.0).position) == 6


def simulated(seed=0, beads=7, shift_sd=200.0):
    """Return a small series with gold on both surfaces."""
    tilts = np.arange(-54.0, 55.0, 9.0)
    projection = random_misalignment(
        tilts, seed=seed, shift_sd=shift_sd, tilt_axis_angle=80.0, axis_jitter=0.15, tilt_jitter=0.1
    )
    specimen = beads_and_vesicles(seed, (2600.0, 2600.0, 900.0), beads=beads, vesicles=2)
    return simulate_tilt_series(
        specimen,
        projection,
        (400, 416),
        pixel_size=PIXEL,
        imaging=Imaging(exposure=3.0, ice_thickness=900.0),
        tilt_angle=tilts,
        seed=seed,
    )


@pytest.fixture(scope="module")
def series():
    return simulated()


@pytest.fixture(scope="module")
def detections(series):
    return [detect_beads(image, DIAMETER) for image in series.images]


def align(series, detections, included=None, read=None, **options):
    count = len(series.images)
    return align_beads(
        series.images.__getitem__ if read is None else read,
        detections,
        series.tilt_angle,
        np.ones(count, bool) if included is None else included,
        shape=series.images.shape[1:],
        diameter=DIAMETER,
        **{"tilt_axis_angle": 70.0, **options},
    )


def reprojection_error(found, series, views=slice(None)):
    """Return the RMS, pixels, of the true beads triangulated by the solution and reprojected."""
    truth = np.moveaxis(series.bead_positions, 0, 1)[:, views] / PIXEL
    design = found.solution.matrix[views].reshape(-1, 3)
    target = (truth - found.solution.shift[views]).reshape(len(truth), -1).T
    points = np.linalg.lstsq(design, target)[0]
    return np.sqrt(2 * np.mean((design @ points - target) ** 2))


def matched_beads(found, series):
    """Return which true bead each landmark is, and check that it is that one in every view."""
    truth = series.bead_positions / PIXEL
    beads = []
    for position, source in zip(found.position, found.source, strict=True):
        views = np.flatnonzero(source == TRACKED)
        apart = np.linalg.norm(position[views, None] - truth[views], axis=2)
        beads.append(int(np.argmin(np.median(apart, axis=0))))
        assert apart[:, beads[-1]].max() < 1.5
    return beads


def test_a_series_is_aligned_by_its_gold(series, detections):
    found = align(series, detections)
    assert reprojection_error(found, series) < 0.2
    beads = matched_beads(found, series)
    assert sorted(beads) == list(range(series.bead_positions.shape[1]))
    assert sorted(found.chosen) == list(range(len(beads)))
    assert found.notes == ()
    upper = series.bead_centres[beads, 2] > 0
    np.testing.assert_array_equal(found.surface, 1 + upper)


def test_what_was_not_detected_is_measured_in_the_images(series, detections):
    rng = np.random.default_rng(0)
    fewer = [
        replace(
            d,
            centres=replace(
                d.centres,
                # Three of ten are put where nothing is.
                position=np.where(
                    rng.random((len(d), 1)) < 0.3, rng.uniform(-190, 190, (len(d), 2)), d.position
                ),
            ),
        )
        for d in detections
    ]
    read = []
    found = align(series, fewer, read=lambda view: read.append(view) or series.images[view])
    assert reprojection_error(found, series) < 0.2
    assert len(set(matched_beads(found, series))) == series.bead_positions.shape[1]
    assert np.mean(found.source == TRACKED) > 0.97
    assert np.bincount(read).max() <= 2


def test_views_left_out_are_filled_in_nowhere_and_measured_nowhere(series, detections):
    included = np.arange(len(detections)) != 4
    dark = [None if view == 9 else d for view, d in enumerate(detections)]
    found = align(series, dark, included)
    assert (found.source[:, [4, 9]] == 0).all()
    assert np.isnan(found.position[:, 4]).all()
    assert any("views 9" in note for note in found.notes)
    rest = np.setdiff1d(np.arange(len(detections)), [4, 9])
    assert reprojection_error(found, series, rest) < 0.2


def test_a_bead_hidden_in_a_view_is_filled_by_the_model(series, detections):
    images = series.images.copy()
    where = np.rint(series.bead_positions[5, 2] / PIXEL + (np.array([416, 400]) - 1) / 2)
    x, y = where.astype(int)
    hole = images[5, y - 12 : y + 13, x - 12 : x + 13]
    hole[:] = np.random.default_rng(0).normal(np.median(images[5]), images[5].std() / 3, hole.shape)
    shown = [*detections]
    shown[5] = detect_beads(images[5], DIAMETER)
    found = align(series, shown, read=images.__getitem__)
    landmark = matched_beads(found, series).index(2)
    assert found.source[landmark, 5] == FILLED
    truth = series.bead_positions[5, 2] / PIXEL
    assert np.linalg.norm(found.position[landmark, 5] - truth) < 0.5
    assert np.isnan(found.error[landmark, 5])


def test_fewer_are_chosen_when_fewer_are_asked_for(series, detections):
    found = align(series, detections, count=4)
    assert len(found.chosen) == len(found.solution.points) == 4
    assert len(found.points) == series.bead_positions.shape[1]
    assert set(found.surface[found.chosen]) == {1, 2}


def test_scrambled_tilt_angles_are_refused(series, detections):
    scrambled = replace(series, tilt_angle=np.random.default_rng(3).permutation(series.tilt_angle))
    with pytest.raises(DataError, match="tilt angles"):
        align(scrambled, detections)


def test_solutions_that_cannot_be_believed_are_refused():
    series = point_series(4, count=6, tilts=TILTS)
    tracks = tracks_of(series)
    solution = adjusted(tracks, TILTS, 85.0, None).solution
    used = np.ones(len(TILTS), bool)
    shown = np.ones(tracks.error.shape, bool)
    assert checked(solution, TILTS, used, tracks, shown, 10.0) == []
    with pytest.raises(DataError, match="miss the places of a rigid specimen"):
        checked(replace(solution, noise=5.0), TILTS, used, tracks, shown, 10.0)
    with pytest.raises(DataError, match="other tilts"):
        checked(solution, TILTS[::-1], used, tracks, shown, 10.0)
    with pytest.raises(DataError, match="fit one specimen"):
        checked(replace(solution, solved=np.arange(25) < 12), TILTS, used, tracks, shown, 10.0)
    long = replace(tracks, elongation=np.full(6, 0.3), error=np.full(shown.shape, 0.03))
    with pytest.raises(DataError, match="not gold"):
        checked(solution, TILTS, used, long, shown, 10.0)
    tracks.drop(np.arange(6)[:, None] % 3 > 0 + np.zeros(len(TILTS)))
    with pytest.raises(DataError, match="only 33 % of the places"):
        checked(solution, TILTS, used, tracks, shown, 10.0)
    one = TILTS.copy()
    one[3] += 15
    (note,) = checked(solution, one, used, tracks_of(series), shown, 10.0)
    assert "view 3" in note


def test_places_without_a_bead_are_not_measured(series):
    truth = series.bead_positions[4] / PIXEL
    places = np.stack([truth[0], truth[1] + 1.0, [0.0, 0.0]])[:, None]
    apart = np.linalg.norm(truth, axis=1).min()
    assert apart > 2 * DIAMETER
    position, error = remeasure(
        lambda view: series.images[4],
        places,
        np.ones((3, 1), bool),
        np.ones((3, 1), bool),
        diameter=DIAMETER,
        deviation=np.array([1.0]),
        profiles=[None],
    )
    np.testing.assert_allclose(position[:2, 0], truth[:2], atol=0.6)
    assert np.isnan(position[2]).all()
    assert np.isnan(error[2]).all()

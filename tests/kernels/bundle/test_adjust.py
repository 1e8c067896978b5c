from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.kernels.bundle.simulated_tracks import NAMES, camera, tracks
from tomodask.errors import DataError, ParameterError
from tomodask.kernels.bundle import (
    Freedom,
    Mapping,
    Observations,
    Variables,
    automatic_variables,
    predict,
    project,
    solve,
    triangulate,
)
from tomodask.kernels.bundle.cameras import camera_derivatives, camera_matrices
from tomodask.kernels.bundle.variables import PARAMETERS

FREE, ESTIMATED = Freedom("free"), Freedom("estimated")
STAGE = {"rotation": 0.15, "tilt": 0.15}
ATTRIBUTE = {name: "tilt_angle" if name == "tilt" else name for name in NAMES}


def radians(values):
    angles = ("rotation", "tilt", "skew", "x_tilt")
    return np.column_stack(
        [np.deg2rad(values[n]) if n in angles else values[n] for n in PARAMETERS]
    )


@pytest.fixture
def values():
    rng = np.random.default_rng(0)
    return rng.normal(0, 0.3, (5, 7)) + np.array([1.4, 0.5, 1.0, 1.0, 0.0, 0.0, 0.0])


def test_cameras_follow_the_steps():
    rng = np.random.default_rng(1)
    one = {n: rng.normal(0, 20) for n in NAMES}
    one |= {"magnification": 1.3, "compression": 0.8, "stretch": 0.1}
    expected = camera(**one)
    found = camera_matrices(radians({n: np.array([v]) for n, v in one.items()}))
    np.testing.assert_allclose(found[0], expected, atol=1e-14)


@pytest.mark.parametrize("name", PARAMETERS)
def test_derivatives_are_those_of_the_cameras(values, name):
    place = PARAMETERS.index(name)
    moved = np.zeros(7)
    moved[place] = 1e-5
    difference = (camera_matrices(values + moved) - camera_matrices(values - moved)) / 2e-5
    found = camera_derivatives(values, (name,))[1][:, 0]
    np.testing.assert_allclose(found, difference, atol=1e-9)


@pytest.mark.parametrize(
    "freed",
    [
        {"rotation"},
        {"rotation", "tilt"},
        {"rotation", "tilt", "magnification"},
        {"rotation", "magnification", "skew"},
        {"rotation", "x_tilt"},
    ],
)
def test_exact_tracks_give_the_exact_geometry(freed):
    sizes = dict(zip(NAMES, (0.3, 0.3, 0.003, 0.02, 0.003, 0.2, 0.3), strict=True))
    made = tracks(3, jitter={n: sizes[n] for n in freed}, axis=-12.5, missing=0.1)
    variables = Variables(**dict.fromkeys(freed, FREE))
    solution = solve(made.observations, made.tilt, tilt_axis_angle=-10.0, variables=variables)
    assert made.error(solution) < 1e-7
    for name in NAMES:
        np.testing.assert_allclose(
            getattr(solution, ATTRIBUTE[name]), made.values[name], atol=1e-7, err_msg=name
        )
    centre = made.points.mean(axis=0)
    np.testing.assert_allclose(solution.points, made.points - centre, atol=1e-6)
    np.testing.assert_allclose(solution.shift, made.shift + made.matrix @ centre, atol=1e-6)
    assert solution.solved.all()


def test_exact_tracks_give_the_exact_compression():
    made = tracks(3)
    label = np.searchsorted([-30, -10, 10, 30], made.tilt) - 1
    label[label == 1] = -1  # no effect at low tilt
    compression = np.where(label < 0, 1.0, 1 + 0.02 * label)
    made.values["compression"] = compression
    for view in range(41):
        made.matrix[view] = camera(*(made.values[n][view] for n in NAMES))
    seen = made.observations
    position = made.seen_at(made.points)[seen.view, seen.landmark]
    solution = solve(
        replace(seen, position=position),
        made.tilt,
        tilt_axis_angle=85.0,
        variables=Variables(compression=Mapping.blocks(label)),
    )
    np.testing.assert_allclose(solution.compression, compression, atol=1e-7)


@pytest.mark.parametrize("axis", [85.0, 12.0, -88.0, 178.0])
@pytest.mark.parametrize("off", [20.0, -20.0, 190.0])
def test_a_wrong_axis_is_found_modulo_half_a_turn(axis, off):
    made = tracks(4, axis=axis, noise=0.1)
    solution = solve(
        made.observations, made.tilt, tilt_axis_angle=axis + off, variables=Variables()
    )
    turned = (solution.rotation - axis + 90) % 180 - 90
    assert np.abs(turned).max() < 0.05
    assert made.error(solution) < 0.1
    assert any("180" in line for line in solution.warnings)


@pytest.mark.parametrize("kind", ["swapped", "random"])
@pytest.mark.parametrize("seed", range(3))
def test_wrong_tracks_and_a_displaced_view_are_survived(seed, kind):
    made = tracks(seed, noise=0.2, jitter=STAGE, missing=0.05)
    rng = np.random.default_rng(seed)
    wrong = rng.choice(15, 3, replace=False)
    place = project(made.matrix, made.shift, made.points)
    position, seen = made.observations.position.copy(), made.observations
    for landmark in wrong:
        rows = seen.landmark == landmark
        if kind == "random":
            position[rows] = rng.uniform(-450, 450, (rows.sum(), 2))
        else:
            other = rng.choice(np.setdiff1d(np.arange(15), wrong))
            rows &= seen.view >= rng.integers(8, 33)
            position[rows] = place[seen.view[rows], other] + 10
    made.shift[7] += (200.0, -100.0)
    position[seen.view == 7] += (200.0, -100.0)
    spoiled = replace(made.observations, position=position)
    solution = solve(spoiled, made.tilt, tilt_axis_angle=105.0)
    assert made.error(solution) < 0.3
    assert solution.solved.all()
    if kind == "random":
        text = next(line for line in solution.warnings if line.startswith("landmarks"))
        assert all(str(landmark + 1) in text for landmark in wrong)
    right = ~np.isin(seen.landmark, wrong)
    assert solution.robust_weight[right].mean() > 0.85


def test_observations_without_sense_are_refused():
    made = tracks(5)
    position = np.random.default_rng(0).uniform(-450, 450, made.observations.position.shape)
    with pytest.raises(DataError):
        solve(replace(made.observations, position=position), made.tilt, tilt_axis_angle=85.0)


def test_angles_of_the_wrong_order_are_refused():
    made = tracks(5, noise=0.1)
    shuffled = np.random.default_rng(0).permutation(made.tilt)
    with pytest.raises(DataError):
        solve(made.observations, shuffled, tilt_axis_angle=85.0)


def test_too_little_is_refused():
    made = tracks(6)
    few = made.observations[made.observations.landmark < 2]
    with pytest.raises(DataError, match="landmarks"):
        solve(few, made.tilt, tilt_axis_angle=85.0)
    seen = made.observations
    apart = seen[(seen.landmark < 7) == (seen.view < 20)]
    with pytest.raises(DataError, match="share no landmark"):
        solve(apart, made.tilt, tilt_axis_angle=85.0)
    with pytest.raises(DataError, match="tilt angles"):
        solve(seen, made.tilt[:-1], tilt_axis_angle=85.0)


def test_a_common_value_that_no_observation_can_tell_is_refused():
    made = tracks(6)
    with pytest.raises(ParameterError, match="specimen"):
        solve(
            made.observations,
            made.tilt,
            tilt_axis_angle=85.0,
            variables=Variables(magnification=Freedom("single")),
        )
    # A stretch that goes as the tangent of the tilt is a shear of the specimen.
    with pytest.raises(DataError, match="stretch"):
        solve(
            made.observations,
            made.tilt,
            tilt_axis_angle=85.0,
            variables=Variables(stretch=FREE),
        )
    everything = Mapping(np.eye(41))  # without a reference, the common scale is open
    with pytest.raises(DataError, match="magnification"):
        solve(
            made.observations,
            made.tilt,
            tilt_axis_angle=85.0,
            variables=Variables(magnification=everything),
        )


def test_priors_do_as_well_as_the_better_of_fixed_and_free():
    free = Variables(FREE, FREE)
    for noise, jitter in ((0.1, STAGE), (0.5, STAGE), (0.5, {})):
        errors = {"single": [], "free": [], "automatic": []}
        for seed in range(3):
            made = tracks(seed + 20, landmarks=8, noise=noise, jitter=jitter)
            chosen = automatic_variables(made.observations)
            for name, variables in zip(errors, (Variables(), free, chosen), strict=True):
                solution = solve(
                    made.observations, made.tilt, tilt_axis_angle=85.0, variables=variables
                )
                errors[name].append(made.error(solution))
        mean = {name: np.mean(values) for name, values in errors.items()}
        assert mean["automatic"] < 1.15 * min(mean["single"], mean["free"]), (noise, mean)


def test_expected_errors_are_those_made():
    ratios = []
    for seed in range(4):
        made = tracks(seed, landmarks=12, noise=0.3, jitter=STAGE)
        solution = solve(
            made.observations, made.tilt, tilt_axis_angle=85.0, variables=Variables(FREE, FREE)
        )
        assert solution.noise == pytest.approx(0.3, rel=0.1)
        ratios.append(made.error(solution) / np.sqrt(np.mean(solution.error**2)))
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.25)


def test_left_out_residuals_are_those_of_solving_without():
    made = tracks(2, landmarks=8, noise=0.3)
    options = {"tilt_axis_angle": 85.0, "variables": Variables(FREE), "robust": False}
    solution = solve(made.observations, made.tilt, **options)
    keep = np.ones(len(made.observations), bool)
    for one in (0, 100, 321):
        keep[:] = True
        keep[one] = False
        without = solve(made.observations[keep], made.tilt, **options)
        landmark, view = made.observations.landmark[one], made.observations.view[one]
        expected = predict(without, landmark, view) - made.observations.position[one]
        np.testing.assert_allclose(solution.left_out[one], expected, atol=0.01)
    assert solution.leave_out_error > 1.1 * solution.mean_residual


def test_the_order_of_observations_does_not_matter():
    made = tracks(8, noise=0.2, jitter=STAGE)
    order = np.random.default_rng(0).permutation(len(made.observations))
    one = solve(made.observations, made.tilt, tilt_axis_angle=85.0)
    other = solve(made.observations[order], made.tilt, tilt_axis_angle=85.0)
    np.testing.assert_allclose(one.residual[order], other.residual, atol=1e-9)


def test_the_unit_of_length_does_not_matter():
    made = tracks(8, noise=0.2, jitter=STAGE)
    larger = replace(made.observations, position=made.observations.position * 8)
    one = solve(made.observations, made.tilt, tilt_axis_angle=85.0)
    other = solve(larger, made.tilt, tilt_axis_angle=85.0)
    np.testing.assert_allclose(other.residual, 8 * one.residual, atol=1e-6)
    np.testing.assert_allclose(other.rotation, one.rotation, atol=1e-6)


def test_a_turned_image_turns_the_axis_alone():
    made = tracks(8, noise=0.2, jitter=STAGE)
    x, y = made.observations.position.T
    turned = replace(made.observations, position=np.column_stack([-y, x]))
    one = solve(made.observations, made.tilt, tilt_axis_angle=85.0)
    other = solve(turned, made.tilt, tilt_axis_angle=175.0)
    np.testing.assert_allclose(other.rotation, one.rotation + 90, atol=1e-6)
    np.testing.assert_allclose(other.points, one.points, atol=1e-5)


def test_an_earlier_solution_is_a_start():
    made = tracks(8, noise=0.2, jitter=STAGE)
    options = {"tilt_axis_angle": 85.0, "variables": Variables(FREE, FREE)}
    first = solve(made.observations, made.tilt, **options)
    fixed = Variables(Freedom("fixed"))
    again = solve(made.observations, made.tilt, tilt_axis_angle=0.0, variables=fixed, start=first)
    np.testing.assert_allclose(again.rotation, first.rotation, atol=1e-9)
    np.testing.assert_allclose(again.tilt_angle, first.tilt_angle, atol=1e-9)
    assert again.mean_residual == pytest.approx(first.mean_residual, rel=0.01)


def test_a_view_without_observations_lies_between_its_neighbours():
    made = tracks(9, noise=0.1, jitter=STAGE)
    seen = made.observations[made.observations.view != 12]
    solution = solve(seen, made.tilt, tilt_axis_angle=85.0)
    assert not solution.solved[12]
    assert solution.solved.sum() == 40
    assert np.isfinite(solution.matrix).all()
    assert np.isfinite(solution.shift).all()
    # Nothing was to be seen there, so nothing is amiss.
    assert not any("neighbours" in line for line in solution.warnings)


def test_a_view_with_too_few_observations_is_named():
    made = tracks(9, noise=0.1, jitter=STAGE)
    view, landmark = made.observations.view, made.observations.landmark
    seen = made.observations[(view != 12) | (landmark == 0)]
    solution = solve(seen, made.tilt, tilt_axis_angle=85.0)
    assert not solution.solved[12]
    assert any("views 12:" in line and "neighbours" in line for line in solution.warnings)


def test_short_tracks_that_overlap_are_enough():
    made = tracks(10, landmarks=120, noise=0.3, jitter=STAGE)
    first = np.random.default_rng(0).integers(-10, 36, 120)[made.observations.landmark]
    view = made.observations.view
    short = made.observations[(view >= first) & (view < first + 16)]
    solution = solve(short, made.tilt, tilt_axis_angle=85.0)
    assert made.error(solution) < 0.3


def test_triangulated_points_are_the_points():
    made = tracks(11, missing=0.2)
    points = triangulate(made.matrix, made.shift, made.observations)
    np.testing.assert_allclose(points, made.points, atol=1e-9)
    alone = Observations.create([0, 1, 1], [3, 3, 30], np.zeros((3, 2)))
    points = triangulate(made.matrix, made.shift, alone)
    assert np.isnan(points[0]).all()
    assert np.isfinite(points[1]).all()


@pytest.mark.parametrize(
    ("landmark", "view", "position"),
    [
        ([0, 0], [1, 1], np.zeros((2, 2))),
        ([0], [1], np.full((1, 2), np.nan)),
        ([-1], [1], np.zeros((1, 2))),
        ([0, 1], [1], np.zeros((2, 2))),
    ],
)
def test_bad_observations_are_refused(landmark, view, position):
    with pytest.raises(DataError):
        Observations.create(landmark, view, position)

"""Ready specimens and misalignments keep what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist

from tomodask.errors import ParameterError
from tomodask.geometry import VolumeGrid
from tomodask.simulate import (
    Ball,
    Gaussian,
    Shell,
    beads_and_vesicles,
    random_misalignment,
)

ANGLES = np.arange(-60.0, 61.0, 3.0)


def test_equal_seeds_give_equal_specimens_and_others_do_not():
    assert beads_and_vesicles(3) == beads_and_vesicles(3)
    assert beads_and_vesicles(3) != beads_and_vesicles(4)


def test_specimen_holds_what_was_asked_for():
    phantom = beads_and_vesicles(0, beads=13, vesicles=2, particles=5, bead_radius=40.0)
    kinds = [type(item) for item in phantom.objects]
    assert (kinds.count(Ball), kinds.count(Shell), kinds.count(Gaussian)) == (13, 2, 20)
    assert {item.radius for item in phantom.objects if isinstance(item, Ball)} == {40.0}


@pytest.mark.parametrize("seed", range(4))
def test_everything_lies_inside_the_extent(seed):
    extent = np.array([3000.0, 3600.0, 1400.0])
    phantom = beads_and_vesicles(seed, tuple(extent))
    grid = VolumeGrid.centred((100, 200, 180), 20.0)
    density = phantom.density(grid, supersample=1)
    axes = grid.coordinates()
    outside = np.ones(grid.shape, bool)
    outside[np.ix_(*(np.abs(axes[name]) < extent["xyz".index(name)] / 2 for name in "zyx"))] = False
    # A particle's Gaussian ends where it has fallen to a few per cent.
    assert np.abs(density[outside]).max() < 0.05 * 1.5e-3
    assert density[~outside].min() < -5e-3


@pytest.mark.parametrize("seed", range(4))
def test_beads_are_apart_and_on_both_surfaces(seed):
    centres = beads_and_vesicles(seed).bead_centres
    assert pdist(centres[:, :2]).min() > 200
    np.testing.assert_allclose(np.abs(centres[:, 2]), 700)
    assert abs(centres[:, 2].sum()) < 1
    inside = beads_and_vesicles(seed, bead_layer="throughout").bead_centres
    assert len(np.unique(inside[:, 2])) == len(inside)
    assert np.abs(inside[:, 2]).max() <= 700


@pytest.mark.parametrize("seed", range(4))
def test_objects_do_not_overlap(seed):
    phantom = beads_and_vesicles(seed, particles=0)
    solids = [
        (item.centre, max(item.semi_axes) if isinstance(item, Shell) else item.radius)
        for item in phantom.objects
    ]
    centres, radii = np.array([c for c, _ in solids]), np.array([r for _, r in solids])
    first, second = np.triu_indices(len(radii), 1)
    assert np.all(pdist(centres) > radii[first] + radii[second])


@pytest.mark.parametrize("seed", range(4))
def test_beads_have_no_accidental_symmetry(seed):
    centres = beads_and_vesicles(seed).bead_centres
    tree = cKDTree(centres)
    for signs in np.ndindex(2, 2, 2):
        flipped = centres * (1 - 2 * np.array(signs))
        if any(signs):
            assert np.median(tree.query(flipped)[0]) > 100


def test_a_specimen_that_does_not_fit_is_refused():
    with pytest.raises(ParameterError, match="larger extent"):
        beads_and_vesicles(0, (600.0, 600.0, 600.0), beads=40)
    with pytest.raises(ParameterError, match="larger extent"):
        beads_and_vesicles(0, (4000.0, 4000.0, 90.0), vesicles=0)


def test_drift_has_the_deviation_and_the_memory_it_promises():
    shift = random_misalignment(np.zeros(20_000), seed=1, shift_sd=40.0).shift
    np.testing.assert_allclose(shift.std(axis=0), 40, rtol=0.05)
    for column in shift.T:
        assert np.corrcoef(column[1:], column[:-1])[0, 1] == pytest.approx(0.8, abs=0.02)
    assert abs(np.corrcoef(shift.T)[0, 1]) < 0.05
    # Stationary from the first view on.
    first = [
        random_misalignment([0.0], seed=seed, shift_sd=40.0).shift[0, 0] for seed in range(900)
    ]
    assert np.std(first) == pytest.approx(40, rel=0.1)


def test_jitter_is_about_the_nominal_values():
    truth = random_misalignment(
        np.full(5000, 30.0),
        seed=2,
        tilt_axis_angle=-94.0,
        axis_jitter=0.2,
        tilt_jitter=0.4,
        magnification_jitter=0.003,
    )
    for values, mean, deviation in (
        (truth.tilt_axis_angle, -94, 0.2),
        (truth.tilt_angle, 30, 0.4),
        (truth.magnification, 1, 0.003),
    ):
        assert values.mean() == pytest.approx(mean, abs=5 * deviation / np.sqrt(5000))
        assert values.std() == pytest.approx(deviation, rel=0.05)


def test_misalignment_is_reproducible_and_plain_by_default():
    truth = random_misalignment(ANGLES, seed=5)
    assert truth == random_misalignment(ANGLES, seed=5)
    assert truth != random_misalignment(ANGLES, seed=6)
    np.testing.assert_array_equal(truth.tilt_angle, ANGLES)
    np.testing.assert_array_equal(truth.magnification, 1)

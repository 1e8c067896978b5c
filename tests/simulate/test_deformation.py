"""Deformations, and the images of specimens that a local field moves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from tomodask.errors import ParameterError
from tomodask.geometry import LocalField, Projection
from tomodask.simulate import Ball, Phantom, Shell, dose_symmetric_order, random_deformation

TILTS = np.arange(-60, 61, 12.0)
EXTENT = (4000.0, 3000.0)


def deformation(**options) -> LocalField:
    return random_deformation(TILTS, **{"seed": 3, "amplitude": 24.0, "extent": EXTENT} | options)


def test_nothing_has_moved_at_the_first_exposure() -> None:
    field = deformation()
    first = dose_symmetric_order(TILTS) == 0
    assert not field.shift[first].any()
    assert not field.slope[first].any()
    assert np.abs(field.shift[~first]).max(axis=(1, 2, 3)).min() > 0


def test_amplitude_is_the_displacement_at_the_last_exposure() -> None:
    # Recorded last at tilt zero, the image shows the displacement along x and y alone.
    order = np.roll(np.arange(len(TILTS)), len(TILTS) // 2 + 1)
    in_plane = np.mean(
        [
            np.mean(np.sum(deformation(seed=seed, order=order).shift[5] ** 2, axis=-1))
            for seed in range(30)
        ]
    )
    assert in_plane == pytest.approx(24.0**2 * 2 / 3, rel=0.2)


def test_motion_grows_smoothly_with_the_exposures() -> None:
    order = dose_symmetric_order(TILTS)
    along_y = deformation().shift[np.argsort(order), :, :, 1]
    steps = np.abs(np.diff(along_y, axis=0)).max(axis=(1, 2))
    assert steps.max() < 4 * np.median(steps)


def test_a_dome_turns_the_normals() -> None:
    # At 90 degrees u is the height: the slope along u of the plate at rest is -dz/dx there.
    order = np.array([0, 1])
    field = random_deformation([90.0, 90.0], seed=5, amplitude=24.0, extent=EXTENT, order=order)
    flat = random_deformation([90.0, 0.0], seed=5, amplitude=24.0, extent=EXTENT, order=order)
    height = field.shift[1, :, :, 0]
    expected = -np.gradient(height, field.knot_x, axis=1, edge_order=2)
    np.testing.assert_allclose(
        flat.slope[1, :, 2:-2, 0], expected[:, 2:-2], atol=0.1 * np.abs(expected).max()
    )


def test_what_makes_no_deformation_is_refused() -> None:
    for options in ({"amplitude": -1.0}, {"extent": (0.0, 10.0)}, {"order": [0, 1]}):
        with pytest.raises(ParameterError):
            deformation(**options)


@pytest.mark.parametrize("item", [Ball((310.0, -250.0, 180.0), 60.0, -1.0)], ids=["ball"])
def test_objects_are_displaced_as_a_whole(item: Ball) -> None:
    rigid = Projection.create(TILTS, tilt_axis_angle=85.0, shift=(16.0, -30.0), x_tilt=2.0)
    moved = replace(rigid, local=deformation(amplitude=200.0))
    before, after = (
        Phantom((item,)).project(one, (160, 160), pixel_size=8.0, supersample=4)
        for one in (rigid, moved)
    )
    expected = (moved.project([item.centre]) - rigid.project([item.centre]))[:, 0] / 8.0
    found = np.array(
        [
            np.subtract(ndimage.center_of_mass(b), ndimage.center_of_mass(a))[::-1]
            for a, b in zip(before, after, strict=True)
        ]
    )
    assert np.abs(expected).max() > 3
    np.testing.assert_allclose(found, expected, atol=0.01)
    np.testing.assert_allclose(after.sum(axis=(1, 2)), before.sum(axis=(1, 2)), rtol=1e-3)


def test_both_walls_of_a_shell_move_together() -> None:
    shell = Shell((200.0, 100.0, 50.0), (160.0, 160.0, 160.0), 40.0, -1.0)
    rigid = Projection.create([0.0])
    there = np.full((1, 1, 1, 2), 24.0)  # three pixels exactly, everywhere
    moved = replace(rigid, local=LocalField.create([0.0], [0.0], there))
    before, after = (Phantom((shell,)).project(p, (96, 96), pixel_size=8.0) for p in (rigid, moved))
    np.testing.assert_allclose(np.roll(before, (3, 3), axis=(1, 2)), after, atol=1e-4)

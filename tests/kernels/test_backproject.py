"""The lane back-projector against a plain sum in float64."""

from __future__ import annotations

import numpy as np
import pytest

from tomodask.kernels.backproject import PAD_ROWS, backproject, pad_projections


def plain(
    data: np.ndarray,
    cos_x: np.ndarray,
    sin_z: np.ndarray,
    origin: float,
    x: np.ndarray,
    z: np.ndarray,
) -> np.ndarray:
    """(z, lane, x) by interpolation with NumPy, zero outside the data."""
    out = np.zeros((len(z), data.shape[2], len(x)))
    padded = np.pad(data.astype(np.float64), ((0, 0), (1, 1), (0, 0)))
    for view, c, s in zip(padded, cos_x, sin_z, strict=True):
        u = origin + x[None, :] * c + z[:, None] * s
        for lane in range(data.shape[2]):
            at = np.arange(-1, data.shape[1] + 1)
            out[:, lane] += np.interp(u, at, view[:, lane], left=0, right=0)
    return out


@pytest.mark.parametrize("lanes", [16, 48, 64, 80, 144])
@pytest.mark.parametrize(("width", "height"), [(130, 21), (64, 1), (1, 70)])
def test_agrees_with_a_plain_sum(lanes: int, width: int, height: int) -> None:
    rng = np.random.default_rng(lanes + width)
    angles = np.deg2rad([-71.0, -30.0, 0.0, 33.3, 60.0])
    cos_x, sin_z = 1.7 * np.cos(angles), 1.7 * np.sin(angles)
    projections = pad_projections(5, 90, lanes)
    data = projections[:, PAD_ROWS[0] : PAD_ROWS[0] + 90]
    data[:] = rng.normal(size=data.shape)
    x, z = -40.5 + np.arange(width), -7.0 + np.arange(height)
    found = backproject(projections, cos_x, sin_z, origin=44.5, x=(x[0], width), z=(z[0], height))
    assert found.shape == (-(-width // 64), height, lanes, 64)
    volume = found.transpose(1, 2, 0, 3).reshape(height, lanes, -1)[:, :, :width]
    # float32 positions of rows up to 90 are good to 4e-6, weights times differences of order 3
    np.testing.assert_allclose(volume, plain(data, cos_x, sin_z, 44.5, x, z), atol=2e-4, rtol=1e-4)


def test_part_of_a_layer_is_written_in_place() -> None:
    rng = np.random.default_rng(0)
    projections = pad_projections(3, 50, 32)
    projections[:, 1:51] = rng.normal(size=(3, 50, 32))
    geometry = {"cos_x": np.array([1.0, 0.8, 0.6]), "sin_z": np.array([0.0, 0.6, -0.8])}
    whole = backproject(projections, **geometry, origin=24.5, x=(-20, 64), z=(-5, 11))
    parts = np.full_like(whole, np.nan)
    for start, count in ((0, 4), (4, 6), (10, 1)):
        backproject(
            projections,
            **geometry,
            origin=24.5,
            x=(-20, 64),
            z=(-5 + start, count),
            out=parts,
            out_z=start,
        )
    np.testing.assert_array_equal(parts, whole)


def test_a_lane_does_not_depend_on_its_neighbours() -> None:
    """Bits do not depend on how many lanes are computed together."""
    rng = np.random.default_rng(1)
    wide = pad_projections(4, 60, 80)
    wide[:, 1:61] = rng.normal(size=(4, 60, 80))
    narrow = pad_projections(4, 60, 16)
    narrow[:, 1:61] = wide[:, 1:61, 64:]
    angles = np.linspace(-1, 1, 4)
    options = {"origin": 29.5, "x": (-30.0, 64), "z": (-9.0, 19)}
    both = [backproject(p, np.cos(angles), np.sin(angles), **options) for p in (wide, narrow)]
    np.testing.assert_array_equal(both[0][:, :, 64:], both[1])


def test_shapes_are_checked() -> None:
    projections = pad_projections(2, 10, 16)
    options = {"origin": 4.5, "x": (0.0, 4), "z": (0.0, 4)}
    with pytest.raises(ValueError, match="lanes"):
        backproject(projections[:, :, :8].copy(), np.ones(2), np.ones(2), **options)
    with pytest.raises(ValueError, match="shapes"):
        backproject(projections, np.ones(3), np.ones(3), **options)

"""Erased discs against the surroundings they stand in."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from tomodask.errors import DataError, ParameterError
from tomodask.kernels.erase_discs import erase_discs

SHAPE = (300, 320)


def lattice(step: int = 36, offset: int = 24) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.meshgrid(
        np.arange(offset, SHAPE[0] - offset, step),
        np.arange(offset, SHAPE[1] - offset, step),
        indexing="ij",
    )
    return y.ravel() + 0.3, x.ravel() - 0.4


def inside(y: np.ndarray, x: np.ndarray, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    mask = np.zeros(SHAPE, bool)
    for a, b in zip(y, x, strict=True):
        mask |= np.hypot(rows - a, columns - b) <= radius
    return mask


def noise(seed: int, sigma: float = 0.0) -> np.ndarray:
    field = gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), sigma)
    return field / field.std()


@pytest.mark.parametrize("radius", [2.5, 6.0])
@pytest.mark.parametrize("sigma", [0.0, 1.0])
def test_level_variance_and_correlation_are_those_around(radius: float, sigma: float) -> None:
    y, x = lattice()
    mask = inside(y, x, radius)
    found: list[np.ndarray] = []
    for seed in range(4):
        image = 500 + 10 * noise(seed, sigma)
        spoilt = np.where(mask, 200.0, image).astype(np.float32)
        filled = erase_discs(spoilt, y, x, np.full(len(y), radius), seed=seed)
        np.testing.assert_array_equal(filled[~mask], spoilt[~mask])
        found.append((filled - 500) / 10)
    values = np.array(found)
    assert abs(values[:, mask].mean()) < 0.08
    assert abs(values[:, mask].var() - 1) < (0.1 if sigma == 0 else 0.2)
    both = mask[:, 1:] & mask[:, :-1]
    neighbours = (values[:, :, 1:] * values[:, :, :-1])[:, both].mean()
    expected = np.mean([(noise(s, sigma)[:, 1:] * noise(s, sigma)[:, :-1]).mean() for s in (8, 9)])
    assert abs(neighbours - expected) < 0.15


def test_gradients_go_on_through_the_disc() -> None:
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]] / 300
    smooth = 1000 + 80 * rows - 150 * columns + 60 * columns * rows
    y, x = lattice()
    mask = inside(y, x, 7)
    filled = erase_discs(np.where(mask, 0, smooth), y, x, np.full(len(y), 7.0))
    np.testing.assert_allclose(filled[mask], smooth[mask], atol=0.5)


def test_halves_add_up_and_stay_independent() -> None:
    y, x = lattice()
    radius = np.linspace(3, 8, len(y))
    even, odd = noise(1), noise(2)
    one, other = (erase_discs(half, y, x, radius, seed=5) for half in (even, odd))
    both = erase_discs(even + odd, y, x, radius, seed=5)
    np.testing.assert_allclose(one + other, both, atol=2e-5)
    changed = one != even.astype(np.float32)
    assert abs(np.corrcoef(one[changed], other[changed])[0, 1]) < 0.05
    again = erase_discs(even, y, x, radius, seed=6)
    assert not np.array_equal(again[changed], one[changed])


def test_neither_beads_nor_neighbours_are_borrowed() -> None:
    """Close and touching discs, at the edges too: none lends its darkness to another."""
    y = np.array([10.0, 17.0, 1.0, 299.0, 150.0, 150.0, 150.0, 400.0])
    x = np.array([10.0, 14.0, 200.0, 318.0, 100.0, 109.0, 130.0, 10.0])
    mask = inside(y, x, 6)
    image = np.where(mask, -1000.0, noise(3))
    filled = erase_discs(image, y, x, np.full(len(y), 6.0))
    assert np.abs(filled).max() < 6


def test_clusters_are_filled_from_beside_them() -> None:
    """A long chain of beads on a gradient, filled level with what is on both its sides."""
    x = np.arange(60.0, 260.0, 9.0)
    y = 150 + 20 * np.sin(x / 30)
    columns = np.broadcast_to(np.arange(SHAPE[1], dtype=float), SHAPE)
    mask = inside(y, x, 7)
    found = []
    for seed in range(6):
        image = 0.2 * columns + noise(seed)
        filled = erase_discs(np.where(mask, -300, image), y, x, np.full(len(x), 7.0), seed=seed)
        found.append(filled - 0.2 * columns)
    values = np.array(found)[:, mask]
    assert abs(values.mean()) < 0.1
    assert abs(values.var() - 1) < 0.15


def test_bad_places_are_refused() -> None:
    image = noise(0)
    np.testing.assert_array_equal(erase_discs(image, [], [], []), image.astype(np.float32))
    with pytest.raises(ParameterError, match="positive radii"):
        erase_discs(image, [3.0], [3.0], [0.0])
    with pytest.raises(DataError, match="nothing is left"):
        erase_discs(image, [150.0], [150.0], [400.0])

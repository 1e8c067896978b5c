"""Spectra in two dimensions: where frequencies lie, flatness, and where rings are moved to."""

from __future__ import annotations

import numpy as np
import pytest

from tomodask.kernels.ctf import Optics, Transfer
from tomodask.kernels.ctf.periodograms import mean_periodogram, same_phase, tile_periodograms
from tomodask.kernels.ctf.tiles import TileGrid

PIXEL = 2.0
OPTICS = Optics(300.0, 2.7, 0.07)


def noise(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("angle", [20.0, 90.0, 140.0])
def test_a_grating_is_a_pair_of_points(angle: float) -> None:
    shape, size = (213, 260), 100
    turn = np.deg2rad(angle)
    k = 0.1 * np.array([np.cos(turn), np.sin(turn)])
    y, x = (np.arange(n) * PIXEL for n in shape)
    grating = np.cos(2 * np.pi * (k[0] * x[None, :] + k[1] * y[:, None]))
    image = noise(shape) + grating.astype(np.float32)
    found = mean_periodogram(image, TileGrid(shape, size), PIXEL)
    frequency = np.fft.fftshift(np.fft.fftfreq(size, PIXEL))
    row, column = np.unravel_index(found.argmax(), found.shape)
    at = np.array([frequency[column], frequency[row]])
    np.testing.assert_allclose(at * np.sign(at @ k), k, atol=0.6 / (size * PIXEL))
    np.testing.assert_allclose(found[1:, 1:], found[:0:-1, :0:-1], atol=1e-5)


def test_each_tile_is_flat_around_0() -> None:
    shape = (230, 200)
    strong = noise(shape, 1)
    strong[:, :100] *= 3
    found = tile_periodograms(strong, TileGrid(shape, 100))
    assert found.shape == (len(TileGrid(shape, 100)), 100, 100)
    np.testing.assert_allclose(found.mean(axis=(1, 2)), 0, atol=0.05)
    np.testing.assert_allclose(found.var(axis=(1, 2)), 1, atol=0.3)


def test_tiles_that_show_nothing_are_nan_and_not_in_the_mean() -> None:
    shape = (200, 400)
    image = noise(shape)
    image[:, 200:] = 0
    grid = TileGrid(shape, 100)
    each = tile_periodograms(image, grid)
    nothing = np.isnan(each).all(axis=(1, 2))
    np.testing.assert_array_equal(nothing, grid.centres(1.0)[:, 0] > -50 + 1)
    mean = mean_periodogram(image, grid, PIXEL)
    np.testing.assert_allclose(mean, each[~nothing].mean(axis=0), atol=1e-5)
    assert np.isnan(mean_periodogram(np.zeros(shape, np.float32), grid, PIXEL)).all()


@pytest.mark.parametrize(
    ("here", "there"), [(20000.0, 23500.0), (8000.0, 6000.0), (-9000.0, -12000.0), (1500.0, 1700.0)]
)
def test_phases_agree_exactly(here: float, there: float) -> None:
    squared = np.linspace(0, 0.2, 400) ** 2
    found = same_phase(OPTICS, squared, np.full(400, here), np.full(400, there))
    known = np.isfinite(found)
    assert known[: 200 if here < 2000 else None].all()
    np.testing.assert_allclose(
        OPTICS.phase(found[known], there), OPTICS.phase(squared[known], here), atol=1e-9
    )
    # The same rings, not others that happen to have the phase.
    assert (np.diff(found[known]) * (there / here) > 0).all()


def test_no_rings_where_one_tile_is_over_and_one_under_focus() -> None:
    found = same_phase(OPTICS, np.array([0.01]), np.array([500.0]), np.array([-200.0]))
    assert np.isnan(found).all()


def test_rings_go_where_the_transfer_says() -> None:
    """One tile of one astigmatic defocus, moved to another: its zeros are those of the other."""
    size, own, wanted = 256, 26000.0, 20000.0
    frequency = np.fft.fftfreq(size, PIXEL)
    x, y = frequency[None, :], frequency[:, None]
    source = Transfer(OPTICS, own + 5000, own - 5000, 30.0)
    spectrum = np.fft.fft2(noise((size, size))) * source.values(x, y)
    image = np.fft.ifft2(spectrum).real.astype(np.float32)
    target = Transfer(OPTICS, wanted + 5000, wanted - 5000, 30.0)
    grid = TileGrid((size, size), size)
    found = np.fft.ifftshift(mean_periodogram(image, grid, PIXEL, target, np.array([own - wanted])))
    band = (np.hypot(x, y) > 1 / 30) & (np.hypot(x, y) < 1 / 9) & np.isfinite(found)
    rings = {
        name: np.corrcoef(found[band], transfer.values(x, y)[band] ** 2)[0, 1]
        for name, transfer in (("target", target), ("source", source))
    }
    assert rings["target"] > 0.4
    assert abs(rings["source"]) < 0.15

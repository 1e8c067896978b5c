"""Spectra of tiles on noise whose statistics are known, gratings, and images with faults."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mrcfile
import numpy as np
import pytest

from tomodask.errors import ParameterError
from tomodask.kernels.ctf.spectra import sectors, tile_edge, tile_spectra

if TYPE_CHECKING:
    from pathlib import Path

PIXEL = 2.0


def noise(shape: tuple[int, int], seed: int = 0, level: float = 0.0) -> np.ndarray:
    return (level + np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def counts(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(12.0, shape).astype(np.float32)


@pytest.mark.parametrize("tile", [128, 90])
def test_white_noise_has_power_1_and_the_scatter_of_its_samples(tile: int) -> None:
    layout = sectors((tile, tile), PIXEL, tile=tile)
    power = np.concatenate(
        [tile_spectra(noise((tile, tile), seed, 50.0), layout).power for seed in range(1500)]
    ).astype(np.float64)
    cells = layout.samples.size
    assert abs(power.mean() - 1) < 4 / np.sqrt(layout.samples.sum() * len(power) / 3)
    np.testing.assert_allclose(power.mean(axis=0), 1, atol=6 / np.sqrt(len(power)))
    scatter = power.var(axis=0) * layout.samples
    third = scatter.shape[1] // 3
    for rings in (slice(4, third), slice(third, 2 * third), slice(2 * third, None)):
        np.testing.assert_allclose(scatter[:, rings].mean(), 1, atol=0.03)
    # Each cell for itself, within the error of a variance from so many tiles.
    error = np.sqrt((2 + 6 / layout.samples) / len(power))
    assert np.count_nonzero(np.abs(scatter - 1) > 4 * error) <= 0.01 * cells


@pytest.mark.parametrize(("shape", "tile"), [((150, 210), 64), ((96, 96), 96)])
def test_independent_samples_are_those_of_the_whole_image(
    shape: tuple[int, int], tile: int
) -> None:
    layout = sectors(shape, PIXEL, tile=tile)
    sums = []
    for seed in range(600):
        found = tile_spectra(noise(shape, seed), layout)
        sums.append((found.power.astype(np.float64) * layout.samples).sum())
    expected = layout.samples.sum() * len(found.power) / found.independent
    np.testing.assert_allclose(np.var(sums) / expected, 1, atol=0.2)


@pytest.mark.parametrize("angle", [0.0, 30.0, 75.0, 90.0, 135.0, 165.0])
def test_a_grating_lies_in_its_direction_and_ring(angle: float) -> None:
    """Counter-clockwise from +x where row 0 is the bottom."""
    shape, frequency = (300, 241), 0.09
    y, x = (np.arange(n) * PIXEL for n in shape)
    turn = np.deg2rad(angle)
    phase = 2 * np.pi * frequency * (np.cos(turn) * x[None, :] + np.sin(turn) * y[:, None])
    layout = sectors(shape, PIXEL, tile=128)
    power = tile_spectra(np.cos(phase).astype(np.float32), layout).power.mean(axis=0)
    sector, ring = np.unravel_index(power.argmax(), power.shape)
    assert abs(np.rad2deg(layout.direction[sector]) - angle) < 1e-9
    assert abs(layout.frequency[ring] - frequency) < 1 / (128 * PIXEL)
    assert power[sector].sum() > 0.95 * power.sum()


def test_sectors_are_even_and_rings_rise() -> None:
    layout = sectors((512, 512), PIXEL, tile=256)
    np.testing.assert_allclose(np.diff(layout.direction), np.pi / len(layout.direction))
    assert layout.direction[0] == 0
    assert (layout.samples > 0).all()
    step = 1 / (256 * PIXEL)
    assert layout.frequency[0] < 12 * step
    np.testing.assert_allclose(np.diff(layout.frequency), step, rtol=0.2)
    assert layout.frequency[-1] < 0.5 / PIXEL


@pytest.mark.parametrize("shape", [(301, 240), (255, 512), (128, 129)])
def test_positions_say_where_in_the_image_a_tile_is(shape: tuple[int, int]) -> None:
    place = (int(0.7 * shape[0]), int(0.35 * shape[1]))  # y, x
    image = 0.1 * noise(shape)
    image[place[0] - 9 : place[0] + 10, place[1] - 9 : place[1] + 10] *= 6
    found = tile_spectra(image, sectors(shape, PIXEL, tile=64))
    excess = np.maximum(found.power[:, :, 8:].mean(axis=(1, 2)) - 0.0105, 0)
    centre = (excess @ found.position) / excess.sum()
    truth = [(place[i] - (shape[i] - 1) / 2) * PIXEL for i in (1, 0)]
    np.testing.assert_allclose(centre, truth, atol=12 * PIXEL)
    # From edge to edge.
    reach = (np.array(shape[::-1]) - 64) / 2 * PIXEL
    np.testing.assert_allclose(found.position.min(axis=0), -reach, atol=1e-9)
    np.testing.assert_allclose(found.position.max(axis=0), reach, atol=1e-9)


def test_footprint_is_the_spread_of_what_a_tile_shows() -> None:
    """A tile sees a bright spot as its taper's square says."""
    tile = 128
    layout = sectors((tile, tile), PIXEL, tile=tile)
    seen = []
    at = np.arange(4, tile, 8)
    for x in at:
        image = 0.5 * noise((tile, tile), 1)
        plain = tile_spectra(image, layout).power[0, :, 20:].mean()
        image[:, x - 4 : x + 4] *= 2
        seen.append(tile_spectra(image, layout).power[0, :, 20:].mean() - plain)
    away = (at - tile / 2) * PIXEL
    spread = np.sqrt(np.average(away**2, weights=seen))
    np.testing.assert_allclose(tile_spectra(image, layout).footprint, spread, rtol=0.05)


def test_steep_power_at_low_frequency_does_not_leak() -> None:
    shape = (512, 512)
    k = np.hypot(np.fft.fftfreq(512, PIXEL)[:, None], np.fft.rfftfreq(512, PIXEL))
    steep = 100 * np.where(k < 1 / 40, (np.maximum(k, 1 / 1000) * 100) ** -1.5, 0)
    strong = np.fft.irfft2(np.fft.rfft2(noise(shape, 1)) * steep, s=shape)
    layout = sectors(shape, PIXEL, tile=256)
    alone, both = (
        tile_spectra(image.astype(np.float32), layout).power.mean(axis=0)
        for image in (noise(shape), noise(shape) + strong)
    )
    assert both[:, layout.frequency < 1 / 50].mean() > 1e3
    far = layout.frequency > 1 / 20
    np.testing.assert_allclose(both[:, far], alone[:, far], atol=0.03)
    np.testing.assert_allclose(both[:, far].mean(), alone[:, far].mean(), atol=1e-3)


def test_level_and_gradient_of_the_illumination_do_not_count() -> None:
    shape = (200, 256)
    layout = sectors(shape, PIXEL, tile=128)
    slope = 5 * np.linspace(0, 1, 256, dtype=np.float32) + 1e4
    far = layout.frequency > 1 / 15
    plain, tilted = (
        tile_spectra(image, layout).power[:, :, far]
        for image in (noise(shape), noise(shape) + slope)
    )
    np.testing.assert_allclose(tilted, plain, atol=0.02)


def test_blocked_tiles_are_left_out_and_the_others_as_they_were() -> None:
    image = counts((512, 512))
    layout = sectors(image.shape, PIXEL, tile=128)
    whole = tile_spectra(image, layout)
    for fill in (0.0, np.nan, 0.3):
        blocked = image.copy()
        blocked[:, 300:] = fill if fill != 0.3 else counts((512, 212), 3) * 0.02
        found = tile_spectra(blocked, layout)
        edge = (300 - 511 / 2) * PIXEL
        assert found.position[:, 0].max() < edge - 40 * PIXEL
        assert len(found.power) >= 8 * 3
        same = [np.flatnonzero((whole.position == p).all(axis=1))[0] for p in found.position]
        clear = found.position[:, 0] + 64 * PIXEL < edge
        np.testing.assert_array_equal(found.power[clear], whole.power[same][clear])


def test_missing_pixels_do_not_lower_the_power() -> None:
    image = counts((256, 256))
    image[np.random.default_rng(1).random(image.shape) < 0.02] = np.nan
    found = tile_spectra(image, sectors(image.shape, PIXEL, tile=128))
    assert len(found.power) == 9
    assert np.isfinite(found.power).all()
    np.testing.assert_allclose(found.power.mean() / 12, 1, atol=0.01)


def test_hot_pixels_and_a_burnt_region_stay_where_they_are() -> None:
    image = counts((512, 512))
    layout = sectors(image.shape, PIXEL, tile=128)
    plain = tile_spectra(image, layout).power.mean(axis=(1, 2))
    rng = np.random.default_rng(2)
    image[rng.integers(0, 512, 40), rng.integers(0, 512, 40)] = 1e6
    hot = tile_spectra(image, layout)
    np.testing.assert_allclose(hot.power.mean(axis=(1, 2)), plain, rtol=0.1)
    image[:100, :100] += 1e3 * noise((100, 100))
    burnt = tile_spectra(image, layout)
    away = (burnt.position > (164 - 511 / 2) * PIXEL).any(axis=1)
    np.testing.assert_array_equal(burnt.power[away], hot.power[away])


def test_rings_of_a_real_micrograph(data_dir: Path) -> None:
    """Of 1.058 um of defocus, as other programs have it; seen to beyond 6 A."""
    image = mrcfile.read(data_dir / "micrographs" / "fei-extended.mrc").astype(np.float32)
    layout = sectors(image.shape, 0.85378)
    found = tile_spectra(image, layout)
    assert len(found.power) == 49
    k = layout.frequency
    profile = np.average(found.power.mean(axis=0), axis=0, weights=layout.samples)
    defocus = np.arange(9000.0, 12501.0, 25.0)
    # sin^2 of 300 kV, Cs 2.7 mm, amplitude contrast 0.07
    phase = np.pi * 0.0196875 * k**2 * (defocus[:, None] - 2.7e7 * 0.0196875**2 * k**2 / 2)
    rings = np.sin(phase + np.arcsin(0.07)) ** 2
    for low, high in ((1 / 12, 1 / 7), (1 / 7, 1 / 5)):
        band = (low < k) & (k < high)
        flat = profile[band] - np.polyval(np.polyfit(k[band], profile[band], 3), k[band])
        match = [np.corrcoef(flat, each[band])[0, 1] for each in rings]
        assert max(match) > 0.6
        assert abs(defocus[np.argmax(match)] - 10580) < 150


@pytest.mark.parametrize("value", [0.0, 7.0, np.nan])
def test_an_image_of_nothing_has_no_tiles(value: float) -> None:
    image = np.full((200, 200), value, np.float32)
    found = tile_spectra(image, sectors(image.shape, PIXEL, tile=64))
    assert found.power.shape[0] == 0
    assert found.position.shape == (0, 2)


@pytest.mark.parametrize(
    ("shape", "pixel_size", "edge"),
    [
        ((4096, 4096), 2.0, 500),
        ((3838, 3710), 0.85378, 1024),
        ((1024, 720), 4.0, 250),
        ((201, 333), 8.0, 100),
        ((101, 400), 2.0, 100),
        ((64, 64), 40.0, 32),
    ],
)
def test_a_tile_is_1000_angstrom_where_that_is_sensible(
    shape: tuple[int, int], pixel_size: float, edge: int
) -> None:
    assert tile_edge(shape, pixel_size) == edge


def test_what_makes_no_sense_is_refused() -> None:
    for tile in (127, 30, 258):
        with pytest.raises(ParameterError, match=f"tile {tile}"):
            sectors((300, 257), PIXEL, tile=tile)
    with pytest.raises(ParameterError, match="pixel size 0"):
        sectors((300, 257), 0.0)
    with pytest.raises(ParameterError, match="too small"):
        sectors((300, 20), PIXEL)

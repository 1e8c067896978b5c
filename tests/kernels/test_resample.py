"""Spline resampling against SciPy's and against functions known everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import map_coordinates, spline_filter

from tomodask.kernels.resample import (
    FINE,
    NODE_SPACING,
    border_level,
    edge_taper,
    resample,
    spline_image,
)


def smooth(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A band-limited picture without symmetry that is zero at its edges."""
    bump = np.exp(-((y - 60) ** 2 + (x - 70) ** 2) / 400)
    return bump * (2 + np.cos(0.5 * x + 0.3 * y) + np.sin(0.45 * y - 0.2 * x))


def grid_of(options: dict[str, tuple[float, float]], shape: tuple[int, int, int]) -> np.ndarray:
    band, i, lane = np.indices(shape)
    lanes = band * shape[2] + lane
    return np.stack(
        [
            options["first"][axis] + i * options["step"][axis] + lanes * options["lane_step"][axis]
            for axis in (0, 1)
        ]
    )


AFFINE = {"first": (3.3, -4.7), "step": (0.31, 1.02), "lane_step": (0.97, -0.28)}


@pytest.mark.parametrize("shape", [(128, 150), (127, 131)])
def test_evaluates_a_smooth_function(shape: tuple[int, int]) -> None:
    y, x = np.indices(shape)
    image = spline_image(smooth(y, x).astype(np.float32) + 5)
    out = np.empty((2, 100, 48), np.float32)
    resample(image, **AFFINE, out=out)
    at = grid_of(AFFINE, out.shape)
    inside = (at[0] > 0) & (at[0] < shape[0] - 1) & (at[1] > 0) & (at[1] < shape[1] - 1)
    # positions are rounded to 1/1024 pixel, and a cubic spline follows 0.1 cycles/pixel to 2e-3
    error = (out + image.level - 5) - smooth(*at)
    assert np.abs(error[inside]).max() < 6e-3
    assert (out[~inside & (at.min(axis=0) < -1)] == 0).all()


def test_coefficients_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    raw = rng.normal(size=(41, 67)).astype(np.float32)
    image = spline_image(raw)
    expected = spline_filter(raw.astype(np.float64) - image.level, order=3, mode="mirror")
    np.testing.assert_allclose(image.coefficients, expected, atol=2e-5)


def test_agrees_with_scipy_on_noise() -> None:
    rng = np.random.default_rng(1)
    raw = rng.normal(size=(90, 80)).astype(np.float32)
    image = spline_image(raw)
    options = {"first": (2.0, 3.0), "step": (0.0, 0.75), "lane_step": (0.5, 0.125)}
    out = np.empty((3, 64, 32), np.float32)
    resample(image, **options, out=out)
    at = grid_of(options, out.shape)
    expected = map_coordinates(raw.astype(np.float64), at.reshape(2, -1), order=3, mode="mirror")
    # fractions here are multiples of 1/8: exact in the table
    np.testing.assert_allclose(out.ravel() + image.level, expected, atol=5e-5)


def test_whole_pixels_come_back() -> None:
    rng = np.random.default_rng(2)
    raw = rng.normal(100, 10, size=(70, 64)).astype(np.float32)
    image = spline_image(raw)
    out = np.empty((1, 64, 70), np.float32)
    resample(image, first=(0, 0), step=(0, 1), lane_step=(1, 0), out=out)
    np.testing.assert_allclose(out[0].T + image.level, raw, atol=1e-3)


@pytest.mark.parametrize("binning", [2.0, 3.0, 2.5])
def test_binning_keeps_what_the_output_can_hold(binning: float) -> None:
    """Waves below the output's Nyquist stay, waves beyond go."""
    y, x = np.indices((240, 250))
    window = np.exp(-((y - 120) ** 2 + (x - 125) ** 2) / 2000)
    low, high = 0.3 / binning, 0.75 / binning
    for frequency, kept in ((low, True), (high, False)):
        wave = window * np.cos(2 * np.pi * frequency * x)
        image = spline_image(wave.astype(np.float32), binning=binning)
        options = {"first": (60.0, 65.0), "step": (0.0, binning), "lane_step": (binning, 0.0)}
        out = np.empty((1, 48, 48), np.float32)
        resample(image, **options, out=out)
        at = grid_of(options, out.shape)
        expected = np.exp(-((at[0] - 120) ** 2 + (at[1] - 125) ** 2) / 2000) * np.cos(
            2 * np.pi * frequency * at[1]
        )
        if kept:
            np.testing.assert_allclose(out + image.level, expected, atol=0.02)
        else:
            assert np.abs(out + image.level).max() < 0.02


@pytest.mark.parametrize(
    ("binning", "frequency"),
    [(1.0, (0.0, 0.46)), (1.0, (0.44, 0.1)), (1.0, (-0.3, 0.31)), (1.1, (0.0, 0.46))],
)
def test_fine_splines_keep_what_lies_near_nyquist(
    binning: float, frequency: tuple[float, float]
) -> None:
    """A packet of waves, turned and shifted, is what it would be at the new points."""

    def packet(y: np.ndarray, x: np.ndarray) -> np.ndarray:
        window = np.exp(-((y - 100) ** 2 + (x - 110) ** 2) / 1000)
        return window * np.cos(2 * np.pi * (frequency[0] * y + frequency[1] * x) / binning)

    raw = packet(*np.indices((200, 211))).astype(np.float32)
    options = {
        "first": (20.3, 30.6),
        "step": (-0.087 * binning, 0.996 * binning),
        "lane_step": (0.996 * binning, 0.087 * binning),
    }
    off = {}
    for oversampling in (1.0, FINE):
        image = spline_image(raw, binning=binning, oversampling=oversampling)
        out = np.empty((1, 130, 130), np.float32)
        resample(image, **options, out=out)
        expected = packet(*grid_of(options, out.shape))
        # a factor common to all is no error
        along = (out * expected).sum() / np.linalg.norm(expected)
        off[oversampling] = 1 - float(along / np.linalg.norm(out))
    assert off[FINE] < 0.01
    assert off[FINE] < 0.2 * off[1.0]


def test_transfer_is_applied_at_the_right_frequency() -> None:
    y, x = np.indices((128, 150))
    wave = np.cos(2 * np.pi * 24 * x / 150) * np.exp(-((y - 64) ** 2 + (x - 75) ** 2) / 600)
    seen: dict[str, np.ndarray] = {}

    def halve_waves(fy: np.ndarray, fx: np.ndarray) -> np.ndarray:
        seen.update(fy=fy, fx=fx)
        return np.where(np.hypot(fy, fx) > 0.05, np.float32(0.5), np.float32(1))

    image = spline_image(wave.astype(np.float32), transfer=halve_waves)
    out = np.empty((1, 150, 128), np.float32)
    resample(image, first=(0, 0), step=(0, 1), lane_step=(1, 0), out=out)
    np.testing.assert_allclose(out[0].T + image.level, 0.5 * wave, atol=0.01)
    assert seen["fx"].max() == pytest.approx(0.5, abs=0.01)
    assert seen["fy"].min() == pytest.approx(-0.5, abs=0.01)


def test_edges_fall_to_the_border() -> None:
    image = np.full((64, 80), 7.0, np.float32)
    image[10:54, 10:70] = 3.0
    assert border_level(image, 5) == pytest.approx(7.0)
    filled = np.arange(64 * 80, dtype=np.float32).reshape(64, 80)
    tapered = spline_image(filled, taper=8)
    out = np.empty((1, 80, 64), np.float32)
    resample(tapered, first=(0, 0), step=(0, 1), lane_step=(1, 0), out=out)
    result = out[0].T
    assert np.abs(result[0]).max() < 0.02 * np.abs(filled).max()
    np.testing.assert_allclose(
        result[8:-8, 8:-8] + tapered.level, filled[8:-8, 8:-8], rtol=1e-3, atol=2
    )
    assert edge_taper(10, 3)[[3, 6]].tolist() == [1.0, 1.0]


def test_follows_a_displacement() -> None:
    """Where it is bilinear between the nodes; whatever the bands."""
    y, x = np.indices((128, 150))
    image = spline_image(smooth(y, x).astype(np.float32) + 5)
    bands, count, lanes = 2, 100, 48

    def moved(lane: np.ndarray, i: np.ndarray) -> np.ndarray:
        return np.stack([2 - 0.02 * lane + 0.01 * i, -1.5 + 2e-4 * lane * i], axis=-1)

    nodes = [np.arange((n - 1) // NODE_SPACING + 2.0) * NODE_SPACING for n in (96, count)]
    out = np.empty((bands, count, lanes), np.float32)
    resample(image, **AFFINE, out=out, displacement=moved(nodes[0][:, None], nodes[1][None]))
    band, i, lane = np.indices(out.shape)
    shift = moved(band * lanes + lane, i)
    at = grid_of(AFFINE, out.shape) + np.moveaxis(shift, -1, 0)
    inside = (at > 0).all(axis=0) & (at[0] < 127) & (at[1] < 149)
    assert np.abs((out + image.level - 5 - smooth(*at))[inside]).max() < 6e-3


def test_no_displacement_is_none() -> None:
    image = spline_image(np.random.default_rng(0).normal(size=(90, 80)).astype(np.float32))
    plain, displaced = (np.empty((2, 70, 32), np.float32) for _ in range(2))
    resample(image, **AFFINE, out=plain)
    resample(image, **AFFINE, out=displaced, displacement=np.zeros((5, 6, 2)))
    np.testing.assert_array_equal(plain, displaced)
    with pytest.raises(ValueError, match="do not fit"):
        resample(image, **AFFINE, out=displaced, displacement=np.zeros((4, 6, 2)))

"""Finding how a gain lies on movies of known truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from tomodask.errors import DataError
from tomodask.kernels.gain import ORIENTATIONS, Orientation, orient
from tomodask.kernels.gain_orientation import find_orientation

#: Electrons per pixel of a view: 3 e/A^2 at 1.35 A.
ELECTRONS = 5.5
SHAPE = (192, 160)


def reference(shape: tuple[int, int] = SHAPE, spread: float = 0.05, seed: int = 0) -> np.ndarray:
    """Return the gain of a camera: pixels, columns, and a smooth shading."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape) / max(shape)
    gain = 1 + spread * rng.standard_normal(shape)
    gain += 0.2 * spread * rng.standard_normal(shape[1])
    gain += 0.1 * (y - 0.5) * x
    return gain.astype(np.float32)


def specimen(shape: tuple[int, int], seed: int = 1) -> np.ndarray:
    """Return a transmission with the contrast of ice, membranes, and gold."""
    rng = np.random.default_rng(seed)
    fine = ndimage.gaussian_filter(rng.standard_normal(shape), 1.5)
    coarse = ndimage.gaussian_filter(rng.standard_normal(shape), 12)
    image = 1 + 0.1 * fine / fine.std() + 0.1 * coarse / coarse.std()
    y, x = np.indices(shape)
    for centre_y, centre_x in rng.uniform(0, 1, (6, 2)) * shape:
        image[np.hypot(y - centre_y, x - centre_x) < 6] *= 0.2
    return np.clip(image, 0.05, None)


def record(gain: np.ndarray, electrons: float = ELECTRONS, seed: int = 2) -> np.ndarray:
    """Return the counts of one exposure, on a camera of this gain."""
    rng = np.random.default_rng(seed)
    return rng.poisson(electrons * specimen(gain.shape, seed) / gain)


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=str)
@pytest.mark.parametrize("reciprocal", [False, True])
def test_each_orientation_is_found(orientation: Orientation, reciprocal: bool) -> None:
    gain = reference()
    counts = record(orient(gain, orientation))
    found = find_orientation(counts, 40 / gain if reciprocal else gain)
    assert found.orientation == orientation
    assert found.reciprocal is reciprocal
    assert found.reason == ""
    slope = found.slopes[ORIENTATIONS.index(orientation)]
    error = found.errors[ORIENTATIONS.index(orientation)]
    assert slope == pytest.approx(-1 if reciprocal else 1, abs=5 * error)
    assert np.isnan(found.slopes).sum() == 4  # those that turn the edges


def test_all_eight_compete_on_a_square_camera() -> None:
    gain = reference((160, 160))
    for orientation in ORIENTATIONS:
        found = find_orientation(record(orient(gain, orientation)), gain)
        assert found.orientation == orientation
        assert np.isfinite(found.slopes).all()


def test_errors_are_honest() -> None:
    gain = reference((160, 160), spread=0.04)
    found = [find_orientation(record(gain, seed=seed), gain) for seed in range(30)]
    slopes = np.stack([result.slopes for result in found])
    errors = np.stack([result.errors for result in found])
    pull = (slopes - np.eye(8)[0]) / errors
    assert np.sqrt((pull**2).mean()) == pytest.approx(1, abs=0.2)


def test_scaled_and_floating_counts() -> None:
    gain = reference()
    counts = record(orient(gain, Orientation(180)))
    for scaled in (counts * 100.0, (counts / 16).astype(np.float32), counts.astype(np.int16)):
        assert find_orientation(scaled, gain).orientation == Orientation(180)


def test_superresolution() -> None:
    gain = reference()
    orientation = Orientation(270, True)
    fine = orient(gain, orientation).repeat(2, axis=0).repeat(2, axis=1)
    counts = np.random.default_rng(0).poisson(1.5 / fine)
    assert find_orientation(counts, gain).orientation == orientation


def test_hot_and_dead_pixels_do_not_mislead() -> None:
    gain = reference()
    gain[:, 40] = 0
    gain[7] = np.nan
    gain[100, 100] = 900
    turned = orient(np.nan_to_num(gain), Orientation(0, True))
    counts = record(np.where(turned > 0, turned, 1))
    counts[turned == 0] = 0
    rng = np.random.default_rng(0)
    counts[rng.integers(0, 192, 40), rng.integers(0, 160, 40)] = 4000
    found = find_orientation(counts, gain)
    assert found.orientation == Orientation(0, True)


@pytest.mark.parametrize("scale", [1, 100])
def test_corrected_movies_are_told(scale: int) -> None:
    gain = reference((320, 320))
    counts = record(gain)
    found = find_orientation((scale * counts * gain).astype(np.float32), gain)
    assert found.orientation is None
    assert not found.reciprocal
    assert "corrected already" in found.reason


def test_another_cameras_gain_is_told() -> None:
    counts = record(reference((320, 320)))
    found = find_orientation(counts, reference((320, 320), seed=9))
    assert found.orientation is None
    assert "another camera's" in found.reason


@pytest.mark.parametrize("gain", [np.ones(SHAPE), reference(spread=0.001)])
def test_flat_gain_is_told(gain: np.ndarray) -> None:
    found = find_orientation(record(np.ones(SHAPE)), gain.astype(np.float32))
    assert found.orientation is None
    assert "too flat" in found.reason


def test_too_few_counts_are_told() -> None:
    gain = reference()
    found = find_orientation(record(gain, electrons=0.05), gain)
    assert found.orientation is None
    assert "too few" in found.reason


def test_more_movies_decide() -> None:
    gain = reference(spread=0.02)
    few = find_orientation(record(gain, 1.0), gain)
    many = find_orientation(sum(record(gain, 1.0, seed) for seed in range(2, 42)), gain)
    assert few.orientation is None
    assert many.orientation == Orientation()


def test_symmetric_gain_is_told() -> None:
    half = reference((96, 160))
    gain = np.concatenate([half, half[::-1]])
    found = find_orientation(record(gain), gain)
    assert found.orientation is None
    assert "fit alike" in found.reason
    assert "flipud" in found.reason


def test_columns_that_any_flip_shares_do_not_decide_wrongly() -> None:
    rng = np.random.default_rng(0)
    gain = (1 + 0.05 * rng.standard_normal((1, 160)) + np.zeros((192, 1))).astype(np.float32)
    gain += 0.005 * rng.standard_normal(gain.shape).astype(np.float32)
    for orientation in (Orientation(), Orientation(180)):
        found = find_orientation(record(orient(gain, orientation)), gain)
        assert found.orientation in {None, orientation}


def test_errors() -> None:
    with pytest.raises(DataError, match=r"\(10, 12\).*\(30, 40\)"):
        find_orientation(np.ones((30, 40)), np.ones((10, 12), np.float32))
    with pytest.raises(DataError, match="blank"):
        find_orientation(np.zeros((30, 40)), np.ones((30, 40), np.float32))
    with pytest.raises(DataError, match="no positive pixel"):
        find_orientation(np.ones((30, 40)), np.zeros((30, 40), np.float32))

"""The likelihood of an oscillation against sums over all cells, and numerical derivatives."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tomodask.kernels.ctf import Optics
from tomodask.kernels.ctf.background import background, oscillation, smooth_surfaces
from tomodask.kernels.ctf.focus import focus_transform
from tomodask.kernels.ctf.likelihood import Focus, evaluate
from tomodask.kernels.ctf.rings import Rings
from tomodask.kernels.ctf.spectra import TileSpectra, sectors

FloatArray = NDArray[np.float64]

LAYOUT = sectors((512, 512), 2.0, tile=256)
RINGS = Rings.between(LAYOUT, Optics(300.0, 2.7, 0.07), (30.0, 5.0))
SMOOTH = smooth_surfaces(RINGS)
GRADIENT = np.array([0.4, -0.9])
CONTRAST = 0.3 * np.exp(-80 * RINGS.squared)
FOCUS = Focus(24000.0, (300.0, -200.0), 10.0)


@pytest.fixture(scope="module")
def spectra() -> TileSpectra:
    rng = np.random.default_rng(6)
    position = rng.uniform(-300, 300, (9, 2))
    count = np.broadcast_to(LAYOUT.samples, (9, *LAYOUT.samples.shape))
    power = rng.gamma(count, 5 / count).astype(np.float32)
    return TileSpectra(power, position, 0.5, 83.0)


def model(spectra: TileSpectra, focus: Focus) -> FloatArray:
    """Return the oscillation of every cell, (tile, sector, ring)."""
    k, wave = RINGS.frequency, 0.019687489
    theta = RINGS.direction[:, None]
    local = focus.defocus + (spectra.position @ GRADIENT)[:, None, None]
    local = local + focus.astigmatism[0] * np.cos(2 * theta)
    local = local + focus.astigmatism[1] * np.sin(2 * theta)
    chi = np.pi * wave * k**2 * local - np.pi / 2 * 2.7e7 * wave**3 * k**4
    chi = chi + np.deg2rad(focus.phase_shift) + np.arcsin(0.07)
    delay = 2 * k * (wave * FOCUS.defocus - 2.7e7 * wave**3 * k**2)
    seen = np.exp(-((delay / 83) ** 2) / 8) * np.sinc(delay * np.diff(k).mean())
    seen = seen * np.exp(-((2 * np.pi * wave * k**2 * np.hypot(*GRADIENT) * 83) ** 2) / 2)
    found: FloatArray = -CONTRAST * seen * np.cos(2 * chi)
    return found


def cells(values: FloatArray) -> FloatArray:
    """Take from cells (tile, sector, ring) what a background of the view could take."""
    weight = np.sqrt(RINGS.samples)
    basis = (SMOOTH.surface * weight).reshape(len(SMOOTH.surface), -1).T
    mean = (values.mean(axis=0) * weight).ravel()
    taken = basis @ np.linalg.lstsq(basis, mean, rcond=None)[0]
    found: FloatArray = values - taken.reshape(weight.shape) / weight
    return found


def whitened(spectra: TileSpectra) -> FloatArray:
    """Return power over the background of each tile, a level and a slope of its own, less 1."""
    mean = background(spectra, RINGS, SMOOTH)
    ratio = spectra.power[:, :, RINGS.used] / mean
    x = np.log(RINGS.frequency)
    weight = RINGS.samples
    x = x - (weight * x).sum() / weight.sum()
    level = (ratio * weight).sum(axis=(1, 2)) / weight.sum()
    slope = (ratio * weight * x).sum(axis=(1, 2)) / (weight * x**2).sum() / level
    surplus = ratio / level[:, None, None] / (1 + slope[:, None, None] * x) - 1
    found: FloatArray = np.minimum(surplus, 8 / np.sqrt(weight))
    return found


def test_sums_over_tiles_hold_the_least_squares_of_all_cells(spectra: TileSpectra) -> None:
    mean = background(spectra, RINGS, SMOOTH)
    view = oscillation(spectra, RINGS, SMOOTH, mean, GRADIENT)
    found = evaluate(view, RINGS, SMOOTH, CONTRAST, FOCUS, 1.0)
    expected = cells(model(spectra, FOCUS))
    weight = RINGS.samples * spectra.independent
    data = cells(whitened(spectra))
    energy = (weight * expected**2).sum()
    assert found.energy == pytest.approx(energy, rel=1e-5)
    wanted = (weight * data * expected).sum()
    assert found.correlation == pytest.approx(wanted, abs=1e-3 * np.sqrt(energy))


def test_slope_and_information_are_derivatives(spectra: TileSpectra) -> None:
    mean = background(spectra, RINGS, SMOOTH)
    view = oscillation(spectra, RINGS, SMOOTH, mean, GRADIENT)
    found = evaluate(view, RINGS, SMOOTH, CONTRAST, FOCUS, 0.7)
    weight = RINGS.samples * spectra.independent
    data = cells(whitened(spectra))
    changes = []
    for part, step in enumerate((1.0, 1.0, 1.0, 0.01)):
        ends = []
        for sign in (1, -1):
            values = np.array([FOCUS.defocus, *FOCUS.astigmatism, FOCUS.phase_shift])
            values[part] += sign * step
            focus = Focus(float(values[0]), (float(values[1]), float(values[2])), float(values[3]))
            ends.append(0.7 * cells(model(spectra, focus)))
        changes.append((ends[0] - ends[1]) / (2 * step))
    rest = data - 0.7 * cells(model(spectra, FOCUS))
    slope = [(weight * rest * change).sum() for change in changes]
    information = np.array([[(weight * a * b).sum() for a in changes] for b in changes])
    scale = np.sqrt(np.diag(information))
    np.testing.assert_allclose(found.slope / scale, slope / scale, atol=1e-3)
    np.testing.assert_allclose(
        found.information / np.outer(scale, scale),
        information / np.outer(scale, scale),
        atol=1e-4,
    )


def test_the_focus_transform_is_the_evaluation_at_every_defocus(spectra: TileSpectra) -> None:
    mean = background(spectra, RINGS, SMOOTH)
    view = oscillation(spectra, RINGS, SMOOTH, mean, GRADIENT)
    defocus = np.arange(20000.0, 28001.0, 50.0)
    transform = focus_transform([view], RINGS, SMOOTH, CONTRAST, defocus)
    shift = np.array([[300.0, -200.0]]) @ RINGS.turns
    matched = transform.matched(shift, np.array([10.0]))[0]
    for index in (40, 80, 110):
        focus = Focus(float(defocus[index]), (300.0, -200.0), 10.0)
        found = evaluate(view, RINGS, SMOOTH, CONTRAST, focus, 1.0)
        # Tiles resolve each sector's own defocus here, and the interpolation is linear.
        scale = np.sqrt(found.energy)
        assert matched[index] == pytest.approx(found.correlation, abs=0.05 * scale)
        assert transform.energy[0, index] == pytest.approx(found.energy, rel=0.05)


def test_the_other_hand_is_the_mirrored_sums(spectra: TileSpectra) -> None:
    mean = background(spectra, RINGS, SMOOTH)
    view = oscillation(spectra, RINGS, SMOOTH, mean, GRADIENT).mirrored()
    other = oscillation(spectra, RINGS, SMOOTH, mean, -GRADIENT)
    np.testing.assert_allclose(view.turned, other.turned, atol=1e-3)
    np.testing.assert_allclose(view.second, other.second)

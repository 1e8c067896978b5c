"""Spectra of rings and sectors, as images."""

from __future__ import annotations

import numpy as np

from tomodask.kernels.ctf import Optics
from tomodask.kernels.ctf.spectra import Sectors, TileSpectra
from tomodask.kernels.ctf.spectrum_image import rescaled_rings, ring_contrast, spectrum_image

OPTICS = Optics(300.0, 2.7, 0.07)
FREQUENCY = np.linspace(0.02, 0.2, 400)
DIRECTION = np.arange(12) * np.pi / 12
LAYOUT = Sectors(512, 2.0, FREQUENCY, DIRECTION, np.ones((12, 400)))


def rings(defocus: float) -> np.ndarray:
    q = FREQUENCY**2
    chi = np.pi * 0.0196875 * q * defocus - np.pi / 2 * 2.7e7 * 0.0196875**3 * q**2
    return np.broadcast_to(np.sin(chi + np.arcsin(0.07)) ** 2, (12, 400)).astype(np.float32)


def test_tiles_of_other_heights_are_brought_to_one_defocus() -> None:
    raised = np.array([-2000.0, 0.0, 2000.0])
    power = np.stack([rings(30000.0 + h) for h in raised])
    tiles = TileSpectra(power, np.zeros((3, 2)), 1.0, 100.0)
    found = rescaled_rings(tiles, LAYOUT, OPTICS, 30000.0, raised)
    inside = slice(30, 370)  # what is stretched beyond the rings is not known
    assert np.abs(found - rings(30000.0))[:, inside].max() < 0.05
    assert np.abs(power.mean(axis=0) - rings(30000.0))[:, inside].max() > 0.5


def test_background_is_taken_out_and_rings_are_not() -> None:
    slope = np.exp(3 - 40 * FREQUENCY).astype(np.float32)
    found = ring_contrast(slope * (1 + 0.2 * (rings(20000.0) - 0.5)), LAYOUT)
    expected = 0.2 * (rings(20000.0) - 0.5)
    beyond = 60  # the first, slow oscillation is the background's as well
    seen, true = (each[:, beyond:].ravel() for each in (found, expected))
    assert np.corrcoef(seen, true)[0, 1] > 0.98
    assert abs(np.polyfit(true, seen, 1)[0] - 1) < 0.05


def test_directions_are_those_of_the_image() -> None:
    """A sector at 30 degrees lies up and to the right; and opposite."""
    ratio = np.zeros((12, 400), np.float32)
    ratio[2] = 1.0
    axis, image = spectrum_image(ratio, LAYOUT, 128)
    assert axis[64] == 0
    at = np.deg2rad(30)
    row, column = (np.argmin(np.abs(axis - 0.1 * part)) for part in (np.sin(at), np.cos(at)))
    assert image[row, column] > 0.9
    assert image[128 - row, 128 - column] > 0.9
    assert image[row, 128 - column] == 0
    assert np.isnan(image[64, 64])
    assert np.isnan(image[1, 1])

"""Tables of contrast transfer with rings that are known, made without the package's formulae."""

from __future__ import annotations

import numpy as np

from tomodask.kernels.ctf import Optics
from tomodask.model import ctf_dataset

WAVELENGTH, ABERRATION, AMPLITUDE = 0.019687489, 2.7e7, 0.07


def rings(x, y, u, v, angle, phase=0.0):
    """Squared sine of the phase of contrast transfer at frequencies (x, y), 1/A."""
    squared = x**2 + y**2
    direction = np.arctan2(y, x) - np.deg2rad(angle)
    defocus = (u + v) / 2 + (u - v) / 2 * np.cos(2 * direction)
    chi = np.pi * WAVELENGTH * squared * defocus
    chi -= np.pi / 2 * ABERRATION * WAVELENGTH**3 * squared**2
    return np.sin(chi + np.arcsin(AMPLITUDE) + np.deg2rad(phase)) ** 2


def estimated(
    views=5, size=192, edge=0.15, signal=0.2, noise=0.01, u=20500.0, v=19500.0, angle=30.0,
    doubtful=(), seed=0, **more,
):  # fmt: skip
    """A table as an estimate gives it, each view 100 A farther from focus than the one before."""
    rng = np.random.default_rng(seed)
    steps = 100.0 * np.arange(views)
    axis = np.arange(-(size // 2), size // 2) * (2 * edge / size)
    x, y = axis[None, :], axis[:, None]
    envelope = signal * np.exp(-75.0 * (x**2 + y**2))
    spectrum = np.stack([
        envelope * (2 * rings(x, y, u + step, v + step, angle) - 1) for step in steps
    ])  # fmt: skip
    random = rng.normal(0, noise, spectrum.shape)
    spectrum += random + random[:, ::-1, ::-1]
    spectrum[:, np.hypot(x, y) > edge] = np.nan
    frequency = np.linspace(0.005, edge, 120)
    mean = (u + v) / 2 + steps[:, None]
    model = signal * np.exp(-75 * frequency**2) * (2 * rings(frequency, 0, mean, mean, 0) - 1)
    known = np.ones(views, bool)
    known[list(doubtful)] = False
    values = {
        "defocus_u": u + steps,
        "defocus_v": v + steps,
        "astigmatism_angle": np.full(views, angle),
        "phase_shift": np.zeros(views),
        "defocus_error": np.linspace(40, 80, views),
        "astigmatism_error": np.where(known, 100.0, 5000.0),
        "fit_resolution": np.where(known, np.linspace(8, 9, views), np.nan),
        "score": np.where(known, 0.8, 0.1),
        "confidence": np.where(known, 0.98, 0.05),
        "fitted": known,
        "profile": model + rng.normal(0, noise / 10, model.shape),
        "profile_model": model,
        "profile_match": np.where(frequency < 1 / 8, 0.9, 0.0) * np.ones((views, 1)),
        "frequency": frequency,
        "spectrum": spectrum,
        "frequency_x": axis,
        "frequency_y": axis,
    }
    attributes = {
        "handedness_confidence": 0.9731,
        "warnings": [f"view {view} shows no rings" for view in doubtful],
    }
    return ctf_dataset(
        Optics(300.0, 2.7, AMPLITUDE), method="estimated", handedness=-1, attributes=attributes,
        **(values | more),
    )  # fmt: skip


def imported(views=5):
    """A table as a file gives it: the defocus, and nothing of how it was found."""
    return ctf_dataset(
        Optics(300.0, 2.7, AMPLITUDE),
        method="imported",
        defocus_u=np.linspace(30000, 31000, views),
        defocus_v=np.linspace(30000, 31000, views),
        astigmatism_angle=np.zeros(views),
        phase_shift=np.zeros(views),
    )

"""The filter for visibility against its definition, written out as its author published it."""

from __future__ import annotations

import numpy as np
import pytest

from tomodask.errors import ParameterError
from tomodask.kernels.ctf import Optics
from tomodask.kernels.deconvolve import Deconvolution, deconvolve_block

OPTICS = Optics(300.0, 2.7, 0.07)


def curve(**values: object) -> Deconvolution:
    return Deconvolution(**({"optics": OPTICS, "defocus": 3e4, "voxel_size": 10.0} | values))


def published(f: np.ndarray, voxel: float, *, strength: float, falloff: float, cut: float,
              defocus: float, shift: float) -> np.ndarray:  # fmt: skip
    """Lengths in metres, underfocus negative and the high-pass a fraction of Nyquist, as there."""
    highpass = 1 - np.cos(np.minimum(1, f / cut) * np.pi)
    snr = np.exp(-f * falloff * 100 / voxel) * 10 ** (3 * strength) * highpass + 1e-12
    voltage, cs = 300e3, 2.7e-3
    wavelength = 12.2643247e-10 / np.sqrt(voltage * (1 + voltage * 0.978466e-6))
    k2 = (f / (2 * voxel * 1e-10)) ** 2
    w = np.pi / 2 * (wavelength**3 * cs * k2**2 - 2 * wavelength * defocus * 1e-10 * k2) - shift
    transfer = 0.07 * np.cos(w) - np.sqrt(1 - 0.07**2) * np.sin(w)
    return transfer / (transfer**2 + 1 / snr)


@pytest.mark.parametrize(("voxel", "strength", "falloff"), [(10.0, 1.0, 1.0), (6.0, 0.7, 1.2)])
@pytest.mark.parametrize("shift", [0.0, 90.0])
def test_the_curve_is_the_published_one(
    voxel: float, strength: float, falloff: float, shift: float
) -> None:
    f = np.linspace(0, 1, 500)
    made = curve(
        voxel_size=voxel, strength=strength, falloff=falloff, highpass=250.0, phase_shift=shift
    )
    expected = published(
        f, voxel, strength=strength, falloff=falloff, cut=2 * voxel / 250.0, defocus=3e4,
        shift=np.deg2rad(shift),
    )  # fmt: skip
    found = made.factor(f * 0.5 / voxel)
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())
    assert found[0] == 0


def test_dense_stays_dark_and_low_frequencies_grow() -> None:
    low = curve().factor(np.linspace(1 / 250, 1 / 120, 20))
    assert (low > 1).all()


def test_flipped_phases_are_not_flipped_again() -> None:
    k = np.linspace(0, 0.05, 200)
    np.testing.assert_allclose(curve(phase_flipped=True).factor(k), np.abs(curve().factor(k)))


def test_the_filter_is_that_of_the_mirrored_volume() -> None:
    volume = np.random.default_rng(0).standard_normal((11, 20, 13)).astype(np.float32)
    mirrored = np.pad(volume, [(0, n) for n in volume.shape], mode="symmetric")
    k = np.sqrt(sum(f**2 for f in np.meshgrid(*(np.fft.fftfreq(n, 10.0) for n in mirrored.shape),
                                              indexing="ij")))  # fmt: skip
    expected = np.fft.ifftn(np.fft.fftn(mirrored) * curve().factor(k)).real
    expected = expected[tuple(slice(n) for n in volume.shape)]
    found = deconvolve_block(volume, curve())
    np.testing.assert_allclose(found, expected, atol=1e-4 * expected.std())


def test_reach_holds_the_kernel() -> None:
    made = curve(voxel_size=14.0, highpass=200.0)
    size = 2 * made.reach() + 101
    point = np.zeros((size, 1, 1), np.float32)  # mirrored without end: a plane
    point[size // 2] = 1
    response = deconvolve_block(point, made)[:, 0, 0]
    far = np.abs(np.arange(size) - size // 2) > made.reach()
    assert np.sqrt((response[far] ** 2).sum() / (response**2).sum()) < 2e-3


@pytest.mark.parametrize(
    "wrong", [{"highpass": 0.0}, {"highpass": np.inf}, {"falloff": -1.0}, {"defocus": np.nan}]
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ParameterError):
        curve(**wrong)

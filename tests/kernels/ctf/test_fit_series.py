"""The contrast transfer estimated from spectra that were drawn from its model, written out here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tomodask.errors import DataError, ParameterError
from tomodask.kernels.ctf import Optics
from tomodask.kernels.ctf.series import SeriesFit, fit_series
from tomodask.kernels.ctf.spectra import TileSpectra, sectors, tile_spectra

FloatArray = NDArray[np.float64]

WAVELENGTH = 0.019687489  # A, 300 kV
OPTICS = Optics(300.0, 2.7, 0.07)
PIXEL = 2.0
LAYOUT = sectors((1024, 1024), PIXEL)


def twice_chi(k: FloatArray, defocus: FloatArray, phase_shift: float = 0.0) -> FloatArray:
    chi = np.pi * WAVELENGTH * k**2 * defocus - np.pi / 2 * 2.7e7 * WAVELENGTH**3 * k**4
    return 2 * (chi + np.deg2rad(phase_shift) + np.arcsin(0.07))


@dataclass
class Truth:
    """A series: mean defocus, astigmatism (half the difference, angle) and height by view."""

    tilt: FloatArray
    defocus: FloatArray
    half: float
    angle: float
    gradient: FloatArray
    hand: int
    order: NDArray[np.intp]

    def fit(self, spectra: list[TileSpectra | None], **options: object) -> SeriesFit:
        given = {"gradient": self.gradient, "tilt_angle": self.tilt, "order": self.order}
        return fit_series(spectra, LAYOUT, OPTICS, **(given | options))  # type: ignore[arg-type]

    def error(self, fit: SeriesFit) -> FloatArray:
        return (fit.defocus_u + fit.defocus_v) / 2 - self.defocus


def series(seed: int, views: int = 11, hand: int = 1, spread: float = 150.0) -> Truth:
    rng = np.random.default_rng([40, seed])
    tilt = np.linspace(-50, 50, views)
    order = np.argsort(np.argsort(np.abs(tilt) + 1e-3 * (tilt < 0)))
    axis = np.deg2rad(rng.uniform(-180, 180))
    across = np.array([np.cos(axis), np.sin(axis)])
    return Truth(
        tilt=tilt,
        defocus=rng.uniform(18000, 40000) + rng.normal(0, spread, views),
        half=float(rng.uniform(0, 500)),
        angle=float(rng.uniform(-90, 90)),
        gradient=-np.tan(np.deg2rad(tilt))[:, None] * across,
        hand=hand,
        order=order,
    )


def draw(
    rng: np.random.Generator,
    truth: Truth,
    view: int,
    *,
    strength: float = 1.0,
    phase_shift: float = 0.0,
    thickness: float = 0.0,
    rise: float = 0.0,
    fall: float = 100.0,
) -> TileSpectra:
    """Draw gamma-distributed cells of the tiles of one view."""
    k, theta = LAYOUT.frequency, LAYOUT.direction
    edge = np.array([-393.0, -131.0, 131.0, 393.0])
    position = np.stack(np.meshgrid(edge, edge), axis=-1).reshape(-1, 2)
    height = truth.hand * position @ truth.gradient[view]
    turned = truth.half * np.cos(2 * (theta - np.deg2rad(truth.angle)))
    local = (truth.defocus[view] + height[:, None] + turned)[..., None]
    footprint = 163.0
    delay = 2 * WAVELENGTH * k * local
    slope = float(np.hypot(*truth.gradient[view]))
    seen = np.exp(-((delay / footprint) ** 2) / 8)
    seen *= np.exp(-((2 * np.pi * WAVELENGTH * k**2 * slope * footprint) ** 2) / 2)
    beam = thickness / np.cos(np.deg2rad(truth.tilt[view]))
    seen *= np.sinc(WAVELENGTH * k**2 * beam)
    ice = strength * np.exp(-fall * k**2)
    mean = 1 + ice * (1 - seen * np.cos(twice_chi(k, local, phase_shift))) / 2
    mean *= 12 * (1 + rise / (1 + (k / 0.02) ** 2))
    independent = 0.4
    count = np.broadcast_to(LAYOUT.samples * independent, mean.shape)
    power = rng.gamma(count, mean / count).astype(np.float32)
    return TileSpectra(power, position, independent, footprint)


def drawn(truth: Truth, seed: int = 0, **options: float) -> list[TileSpectra | None]:
    rng = np.random.default_rng([41, seed])
    return [draw(rng, truth, view, **options) for view in range(len(truth.tilt))]


def vector(length: FloatArray, angle: FloatArray) -> FloatArray:
    found: FloatArray = length * np.exp(2j * np.deg2rad(angle))
    return found


@pytest.mark.parametrize("hand", [1, -1])
def test_a_clear_series_is_found_within_its_errors(hand: int) -> None:
    truth = series(1, hand=hand)
    fit = truth.fit(drawn(truth))
    error = truth.error(fit)
    assert np.abs(error).mean() < 80
    assert (np.abs(error) < 1.5 * fit.defocus_error).all()
    astigmatism = vector(fit.defocus_u - fit.defocus_v, fit.astigmatism_angle)
    assert np.abs(astigmatism - vector(2 * truth.half, truth.angle)).mean() < 150
    assert fit.handedness == hand
    assert fit.handedness_confidence > 0.999
    assert fit.confidence.min() > 0.99
    assert fit.score.min() > 0.5
    assert (fit.fit_resolution < 12).all()
    assert (fit.defocus_u >= fit.defocus_v).all()
    assert fit.fitted.all()
    assert not fit.warnings


def test_error_bars_hold_the_truth_of_weak_series_as_often_as_they_say() -> None:
    held, narrower = [], []
    for seed in range(5):
        truth = series(seed + 10, views=9)
        fit = truth.fit(drawn(truth, seed, strength=0.3))
        error = np.abs(truth.error(fit))
        held.extend(error < fit.defocus_error)
        narrower.extend(error < fit.defocus_error / 3)
    assert 0.8 < np.mean(held) < 0.99
    assert np.mean(narrower) < 0.65


def test_noise_is_not_taken_for_rings() -> None:
    truth = series(2)
    fit = truth.fit(drawn(truth, strength=0.0))
    assert fit.confidence.max() < 0.5
    assert fit.handedness == 0
    assert any("handedness" in text for text in fit.warnings)
    assert any("no rings" in text for text in fit.warnings)


def test_a_view_of_noise_takes_its_defocus_from_the_others() -> None:
    truth = series(3)
    spectra = drawn(truth)
    spectra[4] = draw(np.random.default_rng(5), truth, 4, strength=0.0)
    fit = truth.fit(spectra)
    assert fit.confidence[4] < 0.5
    assert np.delete(fit.confidence, 4).min() > 0.9
    assert abs(truth.error(fit)[4]) < 1000
    assert fit.defocus_error[4] > 2 * np.median(fit.defocus_error)
    assert any("view 4" in text for text in fit.warnings)


def test_leaving_views_out_moves_no_other_beyond_its_error() -> None:
    truth = series(4)
    spectra = drawn(truth)
    whole = truth.fit(spectra)
    spectra[2] = spectra[5] = None
    fit = truth.fit(spectra)
    kept = np.delete(np.arange(11), [2, 5])
    change = truth.error(fit) - truth.error(whole)
    assert (np.abs(change[kept]) < 0.5 * whole.defocus_error[kept]).all()
    assert not fit.fitted[[2, 5]].any()
    assert np.isnan(fit.score[[2, 5]]).all()
    assert np.isnan(fit.profile[2]).all()
    assert (np.abs(truth.error(fit)[[2, 5]]) < 2 * fit.defocus_error[[2, 5]]).all()


def test_a_refocused_view_keeps_its_own_defocus_and_is_named() -> None:
    truth = series(5)
    truth.defocus[3] += 7000
    fit = truth.fit(drawn(truth))
    assert abs(truth.error(fit)[3]) < 300
    assert np.abs(truth.error(fit)).max() < 500
    assert any("view 3" in text and "refocused" in text for text in fit.warnings)


@pytest.mark.parametrize("limits", [(5000.0, 12000.0), (50000.0, 80000.0)])
def test_defocus_outside_the_range_is_told(limits: tuple[float, float]) -> None:
    truth = series(6, views=5)
    fit = truth.fit(drawn(truth), defocus_range=limits)
    assert fit.confidence.max() < 0.1
    told = [text for text in fit.warnings if "widen" in text]
    assert len(told) == 1
    value = float(told[0].split("about ")[1].split(" A")[0])
    assert abs(value - truth.defocus.mean()) < 1500


def test_a_phase_shift_is_found() -> None:
    truth = series(7)
    fit = truth.fit(drawn(truth, phase_shift=60.0), phase_shift=(0.0, 120.0))
    assert np.abs(fit.phase_shift - 60).max() < 10
    assert (np.abs(fit.phase_shift - 60) < 2 * fit.phase_shift_error).all()
    assert np.abs(truth.error(fit)).mean() < 300


def test_a_known_phase_shift_is_used() -> None:
    truth = series(7)
    fit = truth.fit(drawn(truth, phase_shift=60.0), phase_shift=60.0)
    assert (fit.phase_shift == 60).all()
    assert (fit.phase_shift_error == 0).all()
    assert np.abs(truth.error(fit)).mean() < 100


def test_the_nodes_tell_the_thickness() -> None:
    truth = series(8)
    fit = truth.fit(drawn(truth, thickness=2500.0, fall=50.0), thickness=True)
    assert fit.thickness is not None
    assert fit.thickness_error is not None
    assert abs(fit.thickness - 2500) < max(100, 2 * fit.thickness_error)
    assert np.abs(truth.error(fit)).mean() < 100
    thin = truth.fit(drawn(truth), thickness=True)
    assert thin.thickness is None
    assert any("thickness" in text for text in thin.warnings)


def test_an_inclined_plane_is_found() -> None:
    truth = series(9)
    spectra = drawn(truth, strength=2.0)
    # The specimen is drawn flat and said to be tilted by 4 degrees less than it is.
    axis = truth.gradient[-1] / -np.tan(np.deg2rad(truth.tilt[-1]))
    truth.gradient = -np.tan(np.deg2rad(truth.tilt - 4))[:, None] * axis
    fit = truth.fit(spectra, inclination=True)
    assert fit.inclination is not None
    assert fit.inclination_error is not None
    wanted = np.array([-np.tan(np.deg2rad(4)), 0.0])
    assert (np.abs(fit.inclination - wanted) < 2 * fit.inclination_error).all()
    assert (fit.inclination_error < 0.05).all()


@pytest.mark.parametrize("defocus", [6000.0, 10000.0, 30000.0])
def test_slow_rings_on_a_steep_background(defocus: float) -> None:
    truth = series(11, views=1)
    truth.tilt[:], truth.gradient[:], truth.defocus[:] = 0, 0, defocus
    fit = truth.fit(drawn(truth, strength=3.0, rise=5.0), handedness=None)
    assert abs(truth.error(fit)[0]) < 3 * fit.defocus_error[0]
    assert fit.defocus_error[0] < 100
    assert fit.handedness == 0
    assert fit.confidence[0] > 0.99


def test_profile_and_model_agree_and_fall_on_the_mean_rings() -> None:
    truth = series(12)
    fit = truth.fit(drawn(truth, strength=2.0))
    low = fit.frequency < 1 / 12
    for view in (0, 5, 10):
        power, model = fit.profile[view, low], fit.profile_model[view, low]
        assert np.corrcoef(power, model)[0, 1] > 0.8
        expected = -np.cos(twice_chi(fit.frequency[low], truth.defocus[view]))
        assert np.corrcoef(power, expected)[0, 1] > 0.7
        assert np.nanmedian(fit.profile_match[view, low]) > 0.8
    assert np.nanmax(np.abs(fit.profile_match)) <= 1


def test_an_image_of_noise_seen_through_a_transfer() -> None:
    rng = np.random.default_rng(3)
    size = 1024
    k = np.fft.fftfreq(size, PIXEL)
    kx, ky = k[None, :], k[:, None]
    radius, theta = np.hypot(kx, ky), np.arctan2(ky, kx)
    local = 21000 + 400 * np.cos(2 * (theta - np.deg2rad(30)))
    transfer = np.sin(twice_chi(radius, local) / 2) * np.exp(-25 * radius**2)
    specimen = np.fft.ifft2(np.fft.fft2(rng.normal(size=(size, size))) * transfer).real
    image = (specimen + rng.normal(size=(size, size))).astype(np.float32)
    fit = fit_series(
        [tile_spectra(image, LAYOUT)],
        LAYOUT,
        OPTICS,
        gradient=np.zeros((1, 2)),
        tilt_angle=np.zeros(1),
    )
    assert abs((fit.defocus_u + fit.defocus_v)[0] / 2 - 21000) < 60
    assert abs((fit.defocus_u - fit.defocus_v)[0] - 800) < 120
    assert abs(fit.astigmatism_angle[0] - 30) < 5


@pytest.mark.skipif("TOMODASK_DATA" not in os.environ, reason="TOMODASK_DATA names no folder")
def test_a_micrograph() -> None:
    import mrcfile

    path = Path(os.environ["TOMODASK_DATA"]) / "micrographs" / "fei-extended.mrc"
    if not path.exists():
        pytest.skip(f"{path} is absent")
    with mrcfile.mmap(path) as file:
        image = np.asarray(file.data, np.float32)
    image = image.reshape(image.shape[-2:])
    layout = sectors(image.shape, 0.85378)
    spectra = [tile_spectra(image, layout)]
    fit = fit_series(spectra, layout, OPTICS, gradient=np.zeros((1, 2)), tilt_angle=np.zeros(1))
    # Other programs' two-dimensional fits.
    assert abs((fit.defocus_u + fit.defocus_v)[0] / 2 - 10580) < 150
    assert fit.fit_resolution[0] < 6
    assert fit.confidence[0] > 0.99


def test_what_makes_no_sense_is_refused() -> None:
    truth = series(1, views=3)
    spectra = drawn(truth)
    with pytest.raises(DataError, match="no view"):
        truth.fit([None, None, None])
    with pytest.raises(DataError, match="gradients"):
        truth.fit(spectra[:2])
    with pytest.raises(ParameterError, match="defocus range"):
        truth.fit(spectra, defocus_range=(5000.0, 5000.0))
    with pytest.raises(ParameterError, match="handedness"):
        truth.fit(spectra, handedness=2)
    with pytest.raises(ParameterError, match="rings"):
        truth.fit(spectra, resolution=(30.0, 28.0))

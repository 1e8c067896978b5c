"""The correction of tilted views against a direct evaluation, its formulas written out here."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from tomodask.kernels.ctf import Correction, Optics, Transfer
from tomodask.kernels.ctf.correct import (
    TiltedTransfer,
    correct_image,
    correction_bytes,
    weight_image,
)

PIXEL = 1.5
WAVELENGTH, CS, CONTRAST = 0.0196875, 2.7e7, 0.07
DEFOCUS = (1.25e4, 1.15e4, 30.0)
PHASE_PLATE = 10.0
_TURN = np.deg2rad(85.0)
#: A tilt axis near x, and what magnification and x-tilt do.
MATRIX = np.array([[np.cos(_TURN), -np.sin(_TURN)], [np.sin(_TURN), np.cos(_TURN)]]) @ [
    [1.01, 0.06],
    [0.0, 0.99],
]


def raw_frequency(fu: np.ndarray, fv: np.ndarray) -> np.ndarray:
    inverse = np.linalg.inv(MATRIX)
    return np.einsum("ji,j...->i...", inverse, np.stack(np.broadcast_arrays(fu, fv)))


def chi(fu: np.ndarray, fv: np.ndarray, height: float) -> np.ndarray:
    """The phase of the raw frequency that (fu, fv) is, by its length and direction."""
    x, y = raw_frequency(fu, fv)
    k2, direction = x**2 + y**2, np.arctan2(y, x)
    u, v, angle = DEFOCUS
    focus = (u + v) / 2 + (u - v) / 2 * np.cos(2 * (direction - np.deg2rad(angle))) + height
    return (
        np.pi * WAVELENGTH * k2 * focus
        - np.pi / 2 * CS * WAVELENGTH**3 * k2**2
        + np.deg2rad(PHASE_PLATE)
        + np.arcsin(CONTRAST)
    )


def factor(method: str, transfer: np.ndarray) -> np.ndarray:
    if method == "multiply":
        return transfer
    return np.sign(transfer) if method == "phase-flip" else transfer / (transfer**2 + 0.2)


def tilted(slope: tuple[float, float]) -> TiltedTransfer:
    transfer = Transfer(Optics(300.0, 2.7, CONTRAST), *DEFOCUS, PHASE_PLATE)
    return TiltedTransfer(transfer, tuple(map(tuple, MATRIX.tolist())), slope)


def corrected(
    image: np.ndarray, method: str, slope: tuple[float, float], **more: object
) -> np.ndarray:
    return correct_image(
        image.astype(np.float32),
        tilted(slope),
        Correction(method, 5.0),
        pixel_size=PIXEL,
        first=first_of(image.shape),
        **more,
    )


def first_of(shape: tuple[int, ...]) -> tuple[float, float]:
    return -(shape[0] - 1) / 2 * PIXEL, -(shape[1] - 1) / 2 * PIXEL


def band_limited(shape: tuple[int, int], cutoff: float, seed: int = 0) -> np.ndarray:
    noise = np.fft.rfft2(np.random.default_rng(seed).standard_normal(shape))
    k = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1]))
    return np.fft.irfft2(noise * (k < cutoff), s=shape)


# x-tilt makes the height change across the slope too: the image is then cut in both directions.
SLOPES = [(0.0, 0.0), (-1.7, 0.0), (-1.7, 0.1), (0.01, 0.15), (0.5, -0.5)]


@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize(
    ("method", "tolerance"), [("multiply", 0.005), ("wiener", 0.05), ("phase-flip", 0.2)]
)
def test_every_pixel_has_the_filter_of_its_own_height(
    slope: tuple[float, float], method: str, tolerance: float
) -> None:
    # The signs of a flip spread without end, and so does what a finite margin leaves of them.
    shape, size = (301, 384), 900
    image = band_limited(shape, 0.25)
    transform = np.fft.fft2(image, s=(size, size))
    fv, fu = np.fft.fftfreq(size, PIXEL)[:, None], np.fft.fftfreq(size, PIXEL)
    first = first_of(shape)
    result = corrected(image, method, slope)
    found, expected = [], []
    for row, column in np.random.default_rng(1).integers(0, shape, (12, 2)):
        height = slope[0] * (first[1] + column * PIXEL) + slope[1] * (first[0] + row * PIXEL)
        wave = np.exp(2j * np.pi * PIXEL * (fv * row + fu * column))
        filtered = transform * factor(method, np.sin(chi(fu, fv, height)))
        expected.append((filtered * wave).sum().real / size**2)
        found.append(result[row, column])
    difference = np.array(found) - expected
    assert np.sqrt(np.mean(difference**2)) < tolerance * np.std(expected)


def test_multiplying_at_zero_tilt_is_the_transfer_itself() -> None:
    blob = np.zeros((400, 400))
    at = np.arange(400) - 200.0
    blob += np.exp(-(at[:, None] ** 2 + (at - 7) ** 2) / (2 * 2.0**2))
    fv, fu = np.fft.fftfreq(1024, PIXEL)[:, None], np.fft.fftfreq(1024, PIXEL)
    spectrum = np.fft.fft2(blob, s=(1024, 1024)) * np.sin(chi(fu, fv, 0.0))
    expected = np.fft.ifft2(spectrum).real[:400, :400]
    np.testing.assert_allclose(
        corrected(blob, "multiply", (0.0, 0.0)), expected, atol=1e-4 * np.abs(expected).max()
    )


def points_image(
    shape: tuple[int, int], points: np.ndarray, slope: tuple[float, float]
) -> np.ndarray:
    """Points (row, column), each with the transfer of its own height."""
    fv, fu = np.fft.fftfreq(shape[0], PIXEL)[:, None], np.fft.fftfreq(shape[1], PIXEL)
    first = first_of(shape)
    spectrum = np.zeros(shape, complex)
    for row, column in points:
        height = slope[0] * (first[1] + column * PIXEL) + slope[1] * (first[0] + row * PIXEL)
        wave = np.exp(-2j * np.pi * PIXEL * (fv * row + fu * column))
        spectrum += wave * np.sin(chi(fu, fv, height))
    low_pass = np.exp(-((np.hypot(fu, fv) * PIXEL / 0.3) ** 8))
    return np.fft.ifft2(spectrum * low_pass).real


@pytest.mark.parametrize("method", ["phase-flip", "wiener", "multiply"])
def test_points_of_a_steep_view_are_restored_everywhere(method: str) -> None:
    shape = (256, 1200)
    points = np.array([[128, 150], [100, 400], [150, 600], [110, 800], [140, 1050]])
    slope = (-np.tan(np.deg2rad(60.0)), 0.0)
    image = points_image(shape, points, slope)
    flat = points_image(shape, points[2:3], (0.0, 0.0))
    ideal = corrected(flat, method, (0.0, 0.0))[tuple(points[2])]
    restored = corrected(image, method, slope)[tuple(points.T)] / ideal
    np.testing.assert_allclose(restored, 1, atol=0.08)
    for wrong in ((0.0, 0.0), (-slope[0], 0.0)):  # one defocus for all, and the other hand
        left = corrected(image, method, wrong)[tuple(points.T)] / ideal
        assert np.abs(left[[0, -1]]).max() < 0.4


def test_a_weight_takes_part_in_the_pass() -> None:
    image = band_limited((150, 161), 0.4)
    found = corrected(image, "multiply", (0.0, 0.0), weight=lambda k: np.exp(-40 * k**2))
    fv, fu = np.fft.fftfreq(512, PIXEL)[:, None], np.fft.fftfreq(512, PIXEL)
    x, y = raw_frequency(fu, fv)
    spectrum = np.fft.fft2(image, s=(512, 512)) * np.sin(chi(fu, fv, 0.0))
    expected = np.fft.ifft2(spectrum * np.exp(-40 * (x**2 + y**2))).real[:150, :161]
    np.testing.assert_allclose(found, expected, atol=5e-3 * expected.std())


def test_a_weight_alone() -> None:
    image = band_limited((150, 161), 0.4)
    matrix = tuple(map(tuple, MATRIX.tolist()))
    found = weight_image(
        image.astype(np.float32), matrix, lambda k: np.exp(-40 * k**2), pixel_size=PIXEL
    )
    fv, fu = np.fft.fftfreq(512, PIXEL)[:, None], np.fft.fftfreq(512, PIXEL)
    x, y = raw_frequency(fu, fv)
    spectrum = np.fft.fft2(image, s=(512, 512)) * np.exp(-40 * (x**2 + y**2))
    expected = np.fft.ifft2(spectrum).real[:150, :161]
    np.testing.assert_allclose(found, expected, atol=1e-4 * expected.std())


@pytest.mark.parametrize("method", ["phase-flip", "wiener", "multiply"])
def test_correction_is_linear(method: str) -> None:
    one, other = (band_limited((129, 200), 0.5, seed) for seed in (1, 2))
    slope = (-1.0, 0.2)
    sum_of_both = corrected(one, method, slope) + 2 * corrected(other, method, slope)
    np.testing.assert_allclose(
        corrected(one + 2 * other, method, slope), sum_of_both, atol=1e-5 * np.std(sum_of_both)
    )


def test_what_leaves_one_end_does_not_enter_at_the_other() -> None:
    for end in (np.s_[:3, :], np.s_[:, :3], np.s_[-3:, :], np.s_[:, -3:]):
        image = np.zeros((300, 320))
        image[end] = 1.0
        for slope in ((0.0, 0.0), (-1.0, 0.0), (0.05, -1.0)):
            opposite = corrected(image, "multiply", slope)[::-1, ::-1][end]
            assert np.abs(opposite).max() < 0.01


@pytest.mark.parametrize("slope", [(0.0, 0.0), (-1.7, 0.0), (-1.7, 0.1), (0.01, 0.15)])
def test_memory_is_what_is_said(slope: tuple[float, float]) -> None:
    image = band_limited((1000, 1250), 0.5)
    first = first_of(image.shape)
    said = correction_bytes(image.shape, tilted(slope), pixel_size=PIXEL, first=first)
    image = image.astype(np.float32)
    corrected(image, "wiener", slope)  # compiles
    tracemalloc.start()
    correct_image(image, tilted(slope), Correction("wiener"), pixel_size=PIXEL, first=first)
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0.7 * said < held <= said


def test_memory_of_a_weight_is_what_is_said() -> None:
    image = band_limited((500, 600), 0.5).astype(np.float32)
    matrix = ((1.0, 0.0), (0.0, 1.0))
    weight_image(image, matrix, np.ones_like, pixel_size=PIXEL)
    tracemalloc.start()
    weight_image(image, matrix, np.ones_like, pixel_size=PIXEL)
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    said = correction_bytes(image.shape, None, pixel_size=PIXEL, first=(0.0, 0.0))
    assert 0.7 * said < held <= said

"""Planes of a view against formulas written out here, in float64."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from tomodask.kernels.ctf import Correction, Optics, Transfer
from tomodask.kernels.ctf.compose import compose_rows
from tomodask.kernels.ctf.plane_filter import FilterRows, filter_spectrum, phase_polynomial
from tomodask.kernels.ctf.planes import plane_bytes, plane_size, weighted_planes
from tomodask.kernels.weighting import (
    OVERSAMPLING,
    RowFilter,
    filter_length,
    filter_rows,
    radial_weights,
)

OPTICS = Optics(300.0, 2.7, 0.07)
WAVELENGTH = 0.019687489
TRANSFER = Transfer(OPTICS, 31000.0, 29500.0, 35.0, 20.0)
#: A turned, stretched and sheared image.
MATRIX = np.array([[0.08, -1.02], [0.99, 0.03]])
METHODS = ("phase-flip", "wiener", "multiply")


def transfer_at(fu: np.ndarray, fv: np.ndarray, defocus: float) -> np.ndarray:
    """sin chi of TRANSFER, at frequencies of the image that MATRIX makes."""
    x, y = np.einsum("ji,jab->iab", np.linalg.inv(MATRIX), np.array(np.broadcast_arrays(fu, fv)))
    squared, angle = x**2 + y**2, np.arctan2(y, x) - np.deg2rad(35.0)
    local = 30250.0 + 750.0 * np.cos(2 * angle) + defocus
    chi = np.pi * WAVELENGTH * squared * local - np.pi / 2 * 2.7e7 * WAVELENGTH**3 * squared**2
    return np.sin(chi + np.deg2rad(20.0) + np.arcsin(0.07))


def factor_of(method: str, value: np.ndarray) -> np.ndarray:
    if method == "phase-flip":
        return np.sign(value)
    return value / (value**2 + 0.1) if method == "wiener" else value


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("size", "pixel"), [((40, 36), 4.0), ((41, 35), 1.5)])
def test_transform_is_multiplied_by_the_factor(
    method: str, size: tuple[int, int], pixel: float
) -> None:
    rng = np.random.default_rng(0)
    spectrum = np.fft.rfft2(rng.normal(size=size)).astype(np.complex64)
    fu, fv = np.fft.fftfreq(size[0], pixel), np.fft.rfftfreq(size[1], pixel)
    rows = np.arange(size[0])
    weight = rng.uniform(0.5, 1.5, size[0]).astype(np.float32)
    out = np.full_like(spectrum, np.nan)
    filter_spectrum(
        spectrum,
        FilterRows(rows, rows[::-1], fu, weight),
        fv[1],
        phase_polynomial(TRANSFER, MATRIX),
        defocus=-800.0,
        spacing=0.0,
        correction=Correction(method, 10.0),  # type: ignore[arg-type]
        out=out,
    )
    value = transfer_at(fu[:, None], fv[None, :], -800.0)
    expected = spectrum * weight[:, None] * factor_of(method, value)
    sure = np.abs(value) > 1e-3  # nearer to zero the sign is a matter of rounding
    np.testing.assert_allclose(out[::-1][sure], expected[sure], atol=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize("shape", [(40, 33), (51, 36)])
def test_constant_transfer_is_plain_weighting(shape: tuple[int, int]) -> None:
    """Where nothing is to be undone, rows are those of a reconstruction without CTF."""
    image = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    size = plane_size(shape, 5)
    assert size[0] == filter_length(shape[0])
    (weights,) = radial_weights(RowFilter(), [0.0], length=size[0], spacing=4.0, thickness=100.0)
    whole = (0, OVERSAMPLING * shape[0])
    (found,) = weighted_planes(
        image,
        pixel_size=4.0,
        size=size,
        weights=weights,
        transfer=Transfer(Optics(300.0, 0.0, 1.0), 0.0, 0.0),
        matrix=np.eye(2),
        defocus=[0.0],
        rows=[whole],
        correction=Correction("multiply"),
    )
    expected = np.empty((whole[1], shape[1]), np.float32)
    filter_rows(image, weights, size[0], expected)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_transform_has_room_for_what_a_point_spreads_over() -> None:
    assert plane_size((100, 216), 10) == (filter_length(100), 216)
    assert plane_size((100, 216), 60)[0] >= 160


def test_strips_are_parts_of_planes() -> None:
    image = np.random.default_rng(2).normal(size=(30, 24)).astype(np.float32)
    size = plane_size(image.shape, 8)
    strips = [(0, 60), (10, 31), (5, 5), (40, 60)]
    cut, whole = (
        list(
            weighted_planes(
                image,
                pixel_size=4.0,
                size=size,
                weights=np.ones(size[0] // 2 + 1, np.float32),
                transfer=TRANSFER,
                matrix=MATRIX,
                defocus=[-1500.0, -500.0, 500.0, 1500.0],
                rows=rows,
                correction=Correction(),
            )
        )
        for rows in (strips, [(0, 60)] * 4)
    )
    for (first, stop), part, plane in zip(strips, cut, whole, strict=True):
        assert part.shape == (stop - first, 24)
        np.testing.assert_array_equal(part, plane[first:stop])


@pytest.mark.parametrize("method", METHODS)
def test_interpolation_between_planes_keeps_the_signal(method: str) -> None:
    """A wave, averaged over heights: as strong as after an exact correction, and in phase."""
    pixel, n = 2.0, 48
    k, frequency = 20, 20 / (n * pixel)
    wave = np.cos(2 * np.pi * k * np.arange(n) / n)
    spacing = np.pi / 3 / (np.pi * WAVELENGTH * frequency**2)
    planes = list(
        weighted_planes(
            np.zeros((n, 4), np.float32) + wave[:, None].astype(np.float32),
            pixel_size=pixel,
            size=(n, 4),
            weights=np.ones(n // 2 + 1, np.float32),
            transfer=Transfer(OPTICS, 20000.0, 20000.0),
            matrix=np.eye(2),
            defocus=list(spacing * np.arange(7.0)),
            rows=[(0, 2 * n)] * 7,
            correction=Correction(method, 10.0),  # type: ignore[arg-type]
        )
    )
    gains = np.array([2 * (plane[::2, 0] * wave).sum() / n for plane in planes])
    heights = np.linspace(0, 6, 601)
    found = np.interp(heights, np.arange(7.0), gains)
    chi = np.pi * WAVELENGTH * frequency**2 * (20000 + spacing * heights)
    chi += np.arcsin(0.07) - np.pi / 2 * 2.7e7 * WAVELENGTH**3 * frequency**4
    value = np.sin(chi)
    exact = factor_of(method, value)
    # 6 planes apart are a whole turn: the mean over all phases of the transfer
    assert (value * found)[:-1].mean() == pytest.approx((value * exact)[:-1].mean(), rel=0.03)
    assert np.corrcoef(value, found)[0, 1] > 0.98 * np.corrcoef(value, exact)[0, 1]


def test_doses_weigh_by_the_length_of_the_raw_frequency() -> None:
    n, pixel = 32, 3.0
    image = np.random.default_rng(3).normal(size=(n, n)).astype(np.float32)
    arguments = {
        "pixel_size": pixel,
        "size": (n, n),
        "weights": np.ones(n // 2 + 1, np.float32),
        "transfer": Transfer(Optics(300.0, 0.0, 1.0), 0.0, 0.0),
        "matrix": np.diag([2.0, 0.5]),
        "defocus": [0.0],
        "rows": [(0, 2 * n)],
        "correction": Correction("multiply"),
    }
    (found,) = weighted_planes(image, **arguments, dose_weight=lambda k: np.exp(-8 * k))
    fu, fv = np.fft.fftfreq(n, pixel)[:, None], np.fft.rfftfreq(n, pixel)[None, :]
    length = np.hypot(fu / 2, 2 * fv)
    expected = np.fft.irfft2(np.fft.rfft2(image) * np.exp(-8 * length), s=(n, n))
    np.testing.assert_allclose(found[::2], expected, atol=1e-4)


def test_rows_lie_between_planes() -> None:
    rng = np.random.default_rng(4)
    planes = rng.normal(size=(4, 50, 16)).astype(np.float32)
    strips = np.array([[0, 50], [5, 50], [0, 40], [10, 30]])
    stored = np.concatenate([plane[a:b] for plane, (a, b) in zip(planes, strips, strict=True)])
    for start, step in ((1.3, 0.0), (-1.0, 0.11), (4.2, -0.13), (2.0, 0.0), (3.0, 0.0)):
        out = np.full((35, 16), np.nan, np.float32)
        compose_rows(stored, strips, 10, start, step, out)
        for i, row in enumerate(out):
            at = np.clip(start + i * step, 0, 3)
            below = min(int(at), 2)
            if any(not strips[k, 0] <= 10 + i < strips[k, 1] for k in (below, below + 1)):
                assert not row.any()
                continue
            expected = (1 - (at - below)) * planes[below, 10 + i]
            expected = expected + (at - below) * planes[below + 1, 10 + i]
            np.testing.assert_allclose(row, expected, atol=1e-6)


def test_one_plane_serves_all_rows() -> None:
    plane = np.random.default_rng(5).normal(size=(20, 16)).astype(np.float32)
    out = np.empty((12, 16), np.float32)
    compose_rows(plane, np.array([[3, 23]]), 5, 0.7, 0.01, out)
    np.testing.assert_array_equal(out, plane[2:14])


def test_memory_is_as_estimated() -> None:
    shape = (400, 500)
    size = plane_size(shape, 60)
    image = np.random.default_rng(6).normal(size=shape).astype(np.float32)
    count = 3

    def run() -> None:
        for _ in weighted_planes(
            image,
            pixel_size=4.0,
            size=size,
            weights=np.ones(size[0] // 2 + 1, np.float32),
            transfer=TRANSFER,
            matrix=MATRIX,
            defocus=list(np.arange(count) * 500.0),
            rows=[(0, 2 * shape[0])] * count,
            correction=Correction(),
        ):
            pass

    run()
    tracemalloc.start()
    run()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0.6 * plane_bytes(shape, size) < peak <= 1.05 * plane_bytes(shape, size)

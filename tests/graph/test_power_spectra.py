"""Spectra of tilted views whose contrast transfer is written out here."""

from __future__ import annotations

from functools import cache

import dask
import numpy as np
import pytest
import xarray as xr

from tests.graph.sample import tree_of
from tomodask.errors import DataError, ParameterError
from tomodask.geometry import Projection
from tomodask.graph.power_spectra import power_spectra
from tomodask.kernels.ctf import Optics
from tomodask.model import alignment_dataset, ctf_dataset

PIXEL, SHAPE, TILE = 3.0, (611, 480), 160
TILTS = np.array([0.0, 55.0, -55.0])
AXIS, DEFOCUS, HAND = 80.0, 22000.0, -1
#: Astigmatism and its direction.
ASTIGMATISM, ANGLE = 600.0, 25.0
SHIFT = np.array([[0.0, 0.0], [120.0, -60.0], [-90.0, 30.0]])


def transfer(x: np.ndarray, y: np.ndarray, defocus: float) -> np.ndarray:
    """Of 300 kV, Cs 2.7 mm and amplitude contrast 0.07."""
    wavelength, aberration = 0.0196875, 2.7e7
    turn = np.arctan2(y, x) - np.deg2rad(ANGLE)
    local = defocus + ASTIGMATISM / 2 * np.cos(2 * turn)
    k = x**2 + y**2
    phase = np.pi * wavelength * k * (local - aberration * wavelength**2 * k / 2)
    return np.sin(phase + np.arcsin(0.07))


@cache
def views() -> np.ndarray:
    """Noise through the contrast transfer of a plane that lies across each image.

    The height falls by tan(tilt) times the distance from the axis.
    """
    rng = np.random.default_rng(0)
    images = []
    for tilt in np.deg2rad(TILTS):
        y, x = ((np.arange(n) - (n - 1) / 2) * PIXEL for n in SHAPE)
        turn = np.deg2rad(AXIS)
        height = -np.tan(tilt) * (np.cos(turn) * x[None, :] + np.sin(turn) * y[:, None])
        ky, kx = (np.fft.fftfreq(n, PIXEL) for n in SHAPE)
        spectrum = np.fft.fft2(rng.standard_normal(SHAPE))
        planes = np.linspace(height.min(), height.max() + 1e-6, 24 if tilt else 2)
        image = np.zeros(SHAPE)
        for plane in planes:
            defocus = DEFOCUS + HAND * plane
            near = np.clip(1 - np.abs(height - plane) / (planes[1] - planes[0]), 0, None)
            image += near * np.fft.ifft2(spectrum * transfer(kx, ky[:, None], defocus)).real
        images.append(10 + image + 0.5 * rng.standard_normal(SHAPE))
    return np.array(images, np.float32)


def series(**nodes: xr.Dataset) -> xr.DataTree:
    tree = tree_of(views(), PIXEL, Projection.create(TILTS, tilt_axis_angle=AXIS, shift=SHIFT))
    for name, dataset in nodes.items():
        tree[name] = xr.DataTree(dataset)
    return tree


def table(hand: int, count: int = len(TILTS)) -> xr.Dataset:
    """Of the defocus at the image centre."""
    return ctf_dataset(
        Optics(300.0, 2.7, 0.07),
        method="imported",
        handedness=hand,
        tilt_angle=TILTS[:count],
        defocus_u=np.full(count, DEFOCUS + ASTIGMATISM / 2),
        defocus_v=np.full(count, DEFOCUS - ASTIGMATISM / 2),
        astigmatism_angle=np.full(count, ANGLE),
        phase_shift=np.zeros(count),
    )


def contrast(spectra: xr.DataArray) -> np.ndarray:
    """(tilt,) of the rings of the view's defocus, at high frequency; 1 where there is no blur."""
    x, y = np.meshgrid(spectra["frequency_x"], spectra["frequency_y"])
    rings = transfer(x, y, DEFOCUS) ** 2
    band = (np.hypot(x, y) > 1 / 10) & (np.hypot(x, y) < 1 / 7)
    # The background over which the power stands is that of mean transfer and noise.
    slopes = [np.polyfit(rings[band], view[band], 1)[0] for view in spectra.values]
    return np.array(slopes) * (0.5 + 0.25)


def test_rings_of_tilted_views_are_sharp_with_the_right_hand_only() -> None:
    right = contrast(power_spectra(series(), ctf=table(HAND), tile=TILE))
    none = contrast(power_spectra(series(), tile=TILE))
    wrong = contrast(power_spectra(series(), ctf=table(-HAND), tile=TILE))
    np.testing.assert_allclose(none[0], right[0], atol=0.02)  # not tilted
    assert (right > 0.6).all()
    assert (none[1:] < 0.7 * right[1:]).all()
    assert (wrong[1:] < 0.3 * right[1:]).all()


def test_the_series_own_ctf_is_taken() -> None:
    given = power_spectra(series(), ctf=table(HAND), tile=TILE)
    own = power_spectra(series(ctf=table(HAND)), tile=TILE)
    assert own.attrs["rescaled"]
    np.testing.assert_array_equal(own.values, given.values)
    unknown = power_spectra(series(ctf=table(0)), tile=TILE)
    assert not unknown.attrs["rescaled"]
    np.testing.assert_array_equal(unknown.values, power_spectra(series(), tile=TILE).values)


def test_the_tables_place_of_reference_is_heeded() -> None:
    """The same defocus, said of another place of the image."""
    place = np.array([300.0, -200.0])
    turn = np.deg2rad(AXIS)
    slope = -np.tan(np.deg2rad(TILTS)) * (np.array([np.cos(turn), np.sin(turn)]) @ place)
    elsewhere = table(HAND).assign(
        reference_x=("tilt", np.full(3, place[0])), reference_y=("tilt", np.full(3, place[1]))
    )
    for name in ("defocus_u", "defocus_v"):
        elsewhere[name] = elsewhere[name] + HAND * slope
    np.testing.assert_allclose(
        power_spectra(series(), ctf=elsewhere, tile=TILE).values,
        power_spectra(series(), ctf=table(HAND), tile=TILE).values,
        atol=1e-3,
    )


def test_where_the_specimen_was_shifted_does_not_matter() -> None:
    """The table is of the image centre, wherever the alignment has put the specimen's origin."""
    away = Projection.create(TILTS, tilt_axis_angle=AXIS, shift=SHIFT + np.array([900.0, 700.0]))
    moved = alignment_dataset(away, method="moved")
    np.testing.assert_allclose(
        power_spectra(series(), ctf=table(HAND), alignment=moved, tile=TILE).values,
        power_spectra(series(), ctf=table(HAND), tile=TILE).values,
        atol=1e-3,
    )


def test_building_is_lazy_and_makes_one_task_a_view(no_compute: None) -> None:
    tree = series(ctf=table(HAND))
    for by in ("view", "tile"):
        spectra = power_spectra(tree, tile=TILE, by=by)
        own = list(spectra.data.dask.layers[spectra.data.name])
        assert len(own) == len(TILTS)
        assert spectra.dtype == np.float32
        assert spectra.data.chunks[0] == (1, 1, 1)


def test_by_tile() -> None:
    spectra = power_spectra(series(ctf=table(HAND)), tile=TILE, by="tile")
    assert spectra.dims == ("tilt", "tile", "frequency_y", "frequency_x")
    assert not spectra.attrs["rescaled"]
    assert spectra["tile_x"].attrs["units"] == spectra["tile_y"].attrs["units"] == "angstrom"
    # A tile at the right of a view is as far out of focus as the height there says.
    x, y = np.meshgrid(spectra["frequency_x"], spectra["frequency_y"])
    band = (np.hypot(x, y) > 1 / 20) & (np.hypot(x, y) < 1 / 9)
    turn = np.deg2rad(AXIS)
    for view in (1, 2):
        across = np.cos(turn) * spectra["tile_x"] + np.sin(turn) * spectra["tile_y"]
        height = -np.tan(np.deg2rad(TILTS[view])) * across.values
        for tile in (0, spectra.sizes["tile"] - 1):
            found = spectra.values[view, tile][band]
            right, wrong = (
                np.corrcoef(found, (transfer(x, y, DEFOCUS + hand * height[tile]) ** 2)[band])[0, 1]
                for hand in (HAND, -HAND)
            )
            assert right > wrong + 0.15
    plain = power_spectra(series(), tile=TILE)
    np.testing.assert_allclose(spectra.mean("tile").values, plain.values, atol=1e-5)


def test_frequencies_and_values() -> None:
    spectra = power_spectra(series(), tile=TILE)
    assert spectra.dims == ("tilt", "frequency_y", "frequency_x")
    for axis in ("frequency_y", "frequency_x"):
        np.testing.assert_allclose(spectra[axis], np.fft.fftshift(np.fft.fftfreq(TILE, PIXEL)))
        assert spectra[axis].attrs["units"] == "1/angstrom"
    inner = spectra.values[:, 1:, 1:]
    np.testing.assert_allclose(inner, inner[:, ::-1, ::-1], atol=1e-5)
    assert abs(inner.mean()) < 0.1
    assert power_spectra(series()).sizes["frequency_x"] == 240  # half of the shorter edge


def test_a_view_of_nothing_is_nan_and_a_view_without_ctf_is_not_rescaled() -> None:
    tree = series()
    images = tree["tilt_series/images"]
    holes = images.data.map_blocks(
        lambda block, block_info: (
            block * (np.nan if block_info[0]["chunk-location"][0] == 1 else 1)
        ),
        dtype=np.float32,
    )
    tree["tilt_series/images"] = images.copy(data=holes)
    part = table(HAND)
    part["defocus_u"][2] = np.nan
    spectra = power_spectra(tree, ctf=part, tile=TILE).values
    assert np.isnan(spectra[1]).all()
    np.testing.assert_array_equal(spectra[2], power_spectra(series(), tile=TILE).values[2])


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ParameterError, match="'row'"):
        power_spectra(series(), by="row")
    with pytest.raises(ParameterError, match="tile 161"):
        power_spectra(series(), tile=161)
    with pytest.raises(DataError, match="2 views"):
        power_spectra(series(), ctf=table(HAND, 2))


def test_the_scheduler_does_not_matter() -> None:
    lazy = power_spectra(series(ctf=table(HAND)), tile=TILE)
    with dask.config.set(scheduler="synchronous"):
        one = lazy.values
    with dask.config.set(scheduler="threads", num_workers=3):
        np.testing.assert_array_equal(lazy.values, one)

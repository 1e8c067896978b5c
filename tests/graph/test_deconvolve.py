"""Tomograms deconvolved slab by slab."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import xarray as xr

from tomodask.errors import (
    DoubleApplicationError,
    ParameterError,
    ProductMissingError,
    SchemaError,
)
from tomodask.graph.deconvolve import deconvolve
from tomodask.kernels.ctf import Optics
from tomodask.model import ctf_dataset

MICROSCOPE = {"voltage": 300.0, "spherical_aberration": 2.7, "amplitude_contrast": 0.07}


def tomogram(shape: tuple[int, int, int], chunks: object = None) -> xr.DataArray:
    """Noise and coarse structure, of a mean that is not 0."""
    rng = np.random.default_rng(0)
    white = np.fft.rfftn(rng.standard_normal(shape))
    k = np.sqrt(
        np.fft.fftfreq(shape[0])[:, None, None] ** 2
        + np.fft.fftfreq(shape[1])[:, None] ** 2
        + np.fft.rfftfreq(shape[2]) ** 2
    )
    coarse = np.fft.irfftn(white / np.maximum(k, 0.01), s=shape, axes=(0, 1, 2))
    values = (coarse / coarse.std() + rng.standard_normal(shape) + 3).astype(np.float32)
    data = values if chunks is None else da.from_array(values, chunks)
    coords = {axis: 20.0 * np.arange(n) for axis, n in zip("zyx", shape, strict=True)}
    return xr.DataArray(data, dims=("z", "y", "x"), coords=coords, attrs={"voxel_size": 20.0})


def series(**defocus: object) -> xr.DataTree:
    tilt = [-40.0, -10.0, 20.0, 25.0]
    nodes = {
        "tilt_series": xr.Dataset(
            {"images": (("tilt", "y", "x"), np.zeros((4, 2, 2), np.float32))},
            coords={"tilt_angle": ("tilt", tilt), "included": ("tilt", [True, True, True, False])},
        ),
        "ctf": ctf_dataset(
            Optics(**MICROSCOPE),
            method="imported",
            defocus_u=[9e4, 2.2e4, 3.2e4, 9e4],
            defocus_v=[9e4, 2.0e4, 3.0e4, 9e4],
            astigmatism_angle=np.zeros(4),
            phase_shift=[0.0, 5.0, 7.0, 0.0],
        ),
    }
    return xr.DataTree.from_dict(nodes, name="simulated")


def whole(volume: xr.DataArray) -> np.ndarray:
    """The filter on the transform of the whole volume, mirrored beyond its faces."""
    beyond = [(0, n) for n in volume.shape]
    values = np.pad(np.asarray(volume.values, float), beyond, mode="symmetric")
    k = np.sqrt(
        np.fft.fftfreq(values.shape[0], 20.0)[:, None, None] ** 2
        + np.fft.fftfreq(values.shape[1], 20.0)[:, None] ** 2
        + np.fft.rfftfreq(values.shape[2], 20.0) ** 2
    )
    wavelength, nyquist = 0.0196875, 0.025
    k = np.minimum(k, nyquist)
    chi = np.pi * wavelength * k**2 * (3e4 - 2.7e7 * wavelength**2 * k**2 / 2) + np.arcsin(0.07)
    snr = 1e3 * np.exp(-100 * k / nyquist / 20) * (1 - np.cos(np.pi * np.minimum(1, 300 * k)))
    factor = np.sin(chi) * snr / (np.sin(chi) ** 2 * snr + 1)
    filtered = np.fft.irfftn(np.fft.rfftn(values) * factor, s=values.shape, axes=(0, 1, 2))
    return filtered[tuple(slice(n) for n in volume.shape)]


def test_slabs_are_those_of_the_whole_volume() -> None:
    volume = tomogram((30, 300, 40), chunks=(-1, 50, -1))
    found = deconvolve(volume, defocus=3e4, **MICROSCOPE)
    assert found.chunks == ((30,), (64, 64, 64, 64, 44), (40,))
    expected = whole(volume)
    error = found.values - expected
    assert np.sqrt(np.mean(error**2)) < 1e-3 * expected.std()
    xr.testing.assert_equal(found.coords.to_dataset(), volume.coords.to_dataset())


def test_values_do_not_depend_on_chunks() -> None:
    made = [
        deconvolve(tomogram((12, 150, 20), chunks), defocus=3e4, **MICROSCOPE).values
        for chunks in (None, (5, 33, 7), (-1, 64, -1))
    ]
    np.testing.assert_array_equal(made[0], made[1])
    np.testing.assert_array_equal(made[0], made[2])


def test_building_computes_nothing(no_compute: None) -> None:
    deconvolve(tomogram((12, 150, 20), (-1, 64, -1)), series=series())


def test_the_series_says_the_defocus() -> None:
    volume = tomogram((12, 70, 20))
    found = deconvolve(volume, series=series())
    said = found.attrs["provenance"]
    assert (said["defocus"], said["phase_shift"], said["voltage"]) == (2.6e4, 6.0, 300.0)
    given = deconvolve(volume, defocus=2.6e4, phase_shift=6.0, **MICROSCOPE)
    np.testing.assert_array_equal(found.values, given.values)


def test_nothing_is_undone_twice() -> None:
    volume = tomogram((12, 70, 20))
    once = deconvolve(volume, series=series())
    assert once.attrs["provenance"]["step"] == "deconvolve"
    with pytest.raises(DoubleApplicationError, match="deconvolved already"):
        deconvolve(once, series=series())
    made = {"step": "reconstruct", "ctf": "3d", "correction": "wiener"}
    with pytest.raises(DoubleApplicationError, match="wiener"):
        deconvolve(volume.assign_attrs(provenance=made), series=series())
    flipped = volume.assign_attrs(provenance=made | {"correction": "phase-flip"})
    assert deconvolve(flipped, series=series()).attrs["provenance"]["phase_flipped"]
    plain = volume.assign_attrs(provenance=made | {"ctf": "none"})
    assert not deconvolve(plain, series=series()).attrs["provenance"]["phase_flipped"]


def test_what_is_not_known_is_asked_for() -> None:
    volume = tomogram((12, 70, 20))
    with pytest.raises(ParameterError, match="needs defocus"):
        deconvolve(volume, **MICROSCOPE)
    with pytest.raises(ParameterError, match="needs voltage"):
        deconvolve(volume, defocus=3e4)
    with pytest.raises(ParameterError, match="high-pass"):
        deconvolve(tomogram((2, 600, 2)), defocus=3e4, highpass=1e4, **MICROSCOPE)
    with pytest.raises(SchemaError, match="voxel_size"):
        deconvolve(volume.drop_attrs(), defocus=3e4, **MICROSCOPE)
    without = series()
    del without["ctf"]
    with pytest.raises(ProductMissingError, match="no CTF"):
        deconvolve(volume, series=without)


def test_memory_of_a_slab_is_known() -> None:
    import tracemalloc

    from tomodask.graph.array_slabs import ArraySlabs

    volume = tomogram((40, 256, 96), (-1, 64, -1))
    lazy = deconvolve(volume, defocus=20000.0, highpass=200.0, **MICROSCOPE)
    slabs = ArraySlabs.of(lazy)
    depth = 40
    next(slabs.stored_layers(1, None, depth))  # compiles
    tracemalloc.start()
    next(slabs.stored_layers(1, None, depth))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0.5 * slabs.task_bytes(depth) < peak <= slabs.task_bytes(depth)

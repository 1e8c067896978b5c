from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr

from tomodask.simulate import random_misalignment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def volume_of() -> Callable[..., xr.DataArray]:
    """Give a volume of an array, its coordinates in A from its centre."""

    def make(values: Any, voxel: float = 10.0) -> xr.DataArray:
        coordinates = {
            axis: (np.arange(size) - (size - 1) / 2) * voxel
            for axis, size in zip("zyx", values.shape, strict=True)
        }
        return xr.DataArray(values, dims=("z", "y", "x"), coords=coordinates)

    return make


@pytest.fixture
def tilt_series() -> xr.Dataset:
    """Five views of 20 x 30 pixels: noise, and in view t one bright pixel at (3, 2 + 5 t)."""
    images = np.random.default_rng(5).normal(100, 1, (5, 20, 30)).astype(np.float32)
    images[range(5), 3, range(2, 27, 5)] = 1000
    return xr.Dataset(
        {"images": (("tilt", "y", "x"), images)},
        coords={
            "tilt_angle": ("tilt", np.array([6.0, 0.0, -6.0, 3.0, -3.0])),
            "included": ("tilt", np.array([True, True, False, True, True])),
            "section": ("tilt", np.arange(5)),
            "order": ("tilt", np.array([4, 0, 3, 1, 2])),
            "dose": ("tilt", np.array([12.0, 0.0, 9.0, 3.0, 6.0])),
            "exposure": ("tilt", np.full(5, 3.0)),
        },
        attrs={"pixel_size": 20.0, "tilt_axis_angle": 85.0},
    )


@pytest.fixture
def series(tilt_series: xr.Dataset, volume_of: Callable[..., xr.DataArray]) -> xr.DataTree:
    """A series with two alignments and a tomogram of two levels."""
    from tomodask.model import alignment_dataset

    projection = random_misalignment(
        tilt_series["tilt_angle"].values, seed=1, shift_sd=50.0, tilt_axis_angle=85.0
    )
    scores = np.array([0.5, 0.7, np.nan, 0.6, 0.6])
    nodes = {
        "tilt_series": tilt_series,
        "alignments/coarse": alignment_dataset(projection, method="correlation", score=scores),
        "alignments/imported": alignment_dataset(projection, method="imported"),
    }
    for level in (0, 1):
        zeros = np.zeros((8 >> level, 20 >> level, 30 >> level), np.float32)
        volume = volume_of(zeros, 20.0 * 2**level)
        nodes[f"tomograms/wbp/full/{level}"] = volume.to_dataset(name="tomogram")
    return xr.DataTree.from_dict(nodes, name="TS_01")


@pytest.fixture(autouse=True)
def closed_figures() -> Iterator[None]:
    """Close what a test drew with pyplot."""
    yield
    import matplotlib.pyplot as plt

    plt.close("all")

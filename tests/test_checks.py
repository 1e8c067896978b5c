"""What one looks at before an alignment: size, gaps, double tilts, order, contrast."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from scipy.ndimage import gaussian_filter

from tomodask.checks import Check, check_stack

ANGLES = np.arange(-30.0, 31, 3)


def stack(
    angles: np.ndarray = ANGLES,
    *,
    shape: tuple[int, int] = (128, 160),
    contrast: np.ndarray | float = 0.1,
    applied: tuple[str, ...] = (),
    views: np.ndarray | None = None,
) -> xr.DataArray:
    rng = np.random.default_rng(0)
    structure = gaussian_filter(rng.normal(size=shape), 4)
    structure /= structure.std()
    strength = np.broadcast_to(contrast, len(angles))
    images = [100 * (1 + c * structure) + rng.normal(0, 2, shape) for c in strength]
    values = np.array(images, np.float32)
    if "normalization" in applied:
        values -= values.mean(axis=(1, 2), keepdims=True)
        values /= 100
    return xr.DataArray(
        da.from_array(values, chunks=(1, -1, -1)),
        dims=("tilt", "y", "x"),
        coords={
            "tilt": np.arange(len(angles)) if views is None else views,
            "tilt_angle": ("tilt", angles),
        },
        attrs={"pixel_size": 12.5, "applied": list(applied)},
    )


def checks(data: xr.DataArray) -> dict[str, Check]:
    return {check.name: check for check in check_stack(data)}


def failed(data: xr.DataArray) -> list[str]:
    return [check.name for check in check_stack(data) if not check.ok]


def test_a_good_series() -> None:
    found = checks(stack())
    assert list(found) == ["size", "missing tilts", "double tilts", "order", "contrast"]
    assert all(check.ok for check in found.values())
    assert found["size"].message == "21 views of 160 x 128 pixels of 12.5 A"
    assert found["missing tilts"].message == "-30.0 to +30.0 degrees, step 3.00; no gaps"


def test_missing_tilts() -> None:
    found = checks(stack(np.delete(ANGLES, [5, 14, 15])))["missing tilts"]
    assert not found.ok
    assert "nothing from -18.0 to -12.0, +9.0 to +18.0" in found.message


def test_double_tilts() -> None:
    angles = np.sort(np.append(ANGLES, [-12.0, 9.3]))
    data = stack(angles)
    assert failed(data) == ["double tilts"]
    assert checks(data)["double tilts"].message == "more than one view at -12.0, +9.0 degrees"


@pytest.mark.parametrize("scheme", ["uneven", "cosine", "one view", "two views"])
def test_schemes_that_are_as_they_should_be(scheme: str) -> None:
    """Angles as they are measured; steps that follow the cosine; very few."""
    rng = np.random.default_rng(1)
    angles = {
        "uneven": ANGLES + rng.normal(0, 0.05, len(ANGLES)),
        "cosine": np.degrees(np.arcsin(np.linspace(-0.8, 0.8, 21))),
        "one view": np.array([3.0]),
        "two views": np.array([0.0, 3.0]),
    }[scheme]
    assert failed(stack(angles)) == []


def test_order() -> None:
    """By the number of the view, which is not its place once views are excluded."""
    angles = ANGLES.copy()
    angles[[7, 8]] = angles[[8, 7]]
    data = stack(angles, views=np.arange(len(angles)) + 10)
    assert failed(data) == ["order"]
    assert checks(data)["order"].message == "tilt angles fall after view 17"


def test_contrast() -> None:
    strength = np.full(len(ANGLES), 0.1)
    strength[3] = 0.02
    found = checks(stack(contrast=strength))["contrast"]
    assert not found.ok
    assert "low beside its neighbours: view 3 (-21.0 degrees)" in found.message
    assert "lowest" in found.message
    # A contrast that fades with the tilt is what one expects.
    assert failed(stack(contrast=0.1 * np.cos(np.radians(2 * ANGLES)))) == []


def test_contrast_is_not_that_of_noise() -> None:
    """A view of nothing but noise is low although its pixels vary as much."""
    data = stack(ANGLES[:9], shape=(512, 512))
    noise = np.random.default_rng(3).normal(100, float(data[4].std()), data.shape[1:])
    values = data.values
    values[4] = noise
    assert failed(data.copy(data=values)) == ["contrast"]


def test_normalised_views_have_no_mean() -> None:
    """Their mean is zero, and is not divided by."""
    data = stack(applied=("binning", "normalization"))
    assert failed(data) == []
    strength = np.full(len(ANGLES), 0.1)
    strength[3] = 0.02
    assert failed(stack(contrast=strength, applied=("normalization",))) == ["contrast"]


@pytest.mark.parametrize("shape", [(48, 160), (20, 20), (63, 64)])
def test_images_that_are_too_small(shape: tuple[int, int]) -> None:
    assert "size" in failed(stack(ANGLES[:3], shape=shape))


def test_blank_views() -> None:
    data = stack(ANGLES[:5])
    values = data.values
    values[2] = 0
    found = checks(data.copy(data=values))["contrast"]
    assert "view 2" in found.message


def test_one_view_at_a_time() -> None:
    """In order, each once."""
    read: list[int] = []

    def block(images: np.ndarray, block_info: Any = None) -> np.ndarray:
        read.append(block_info[0]["chunk-location"][0])
        return images

    data = stack(shape=(96, 96))
    lazy = data.data.map_blocks(block, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32))
    check_stack(data.copy(data=lazy))
    assert read == list(range(len(ANGLES)))

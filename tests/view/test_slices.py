"""Only the slices asked for are read, and they are the right ones."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import xarray as xr

from tomodask.errors import ParameterError, SchemaError
from tomodask.view.slices import contrast_limits, level_for, read_orthoslices, voxel_size


def numbered(shape):
    return np.arange(np.prod(shape), dtype=np.float64).reshape(shape)


class Recorder:
    """An array as a file is: it keeps what is read from it."""

    def __init__(self, values):
        self.values = values
        self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim
        self.read = np.zeros(values.shape, int)

    def __getitem__(self, key):
        self.read[key] += 1
        return self.values[key]


def test_slices_are_those_of_the_array(volume_of):
    values = numbered((5, 7, 9))
    slices = read_orthoslices(volume_of(values), z=1, y=2, x=3)
    np.testing.assert_array_equal(slices.xy, values[1])
    np.testing.assert_array_equal(slices.xz, values[:, 2])
    np.testing.assert_array_equal(slices.yz, values[:, :, 3].T)
    assert slices.point == (-10.0, -10.0, -10.0)
    assert slices.first == (-20.0, -30.0, -40.0)
    assert slices.shape == (5, 7, 9)


def test_thick_slices_are_means_within_the_volume(volume_of):
    values = numbered((6, 7, 9)) ** 1.5
    slices = read_orthoslices(volume_of(values), z=0, y=3, x=8, thickness=4)
    np.testing.assert_allclose(slices.xy, values[:2].mean(0), rtol=1e-6)
    np.testing.assert_allclose(slices.xz, values[:, 1:5].mean(1), rtol=1e-6)
    np.testing.assert_allclose(slices.yz, values[:, :, 6:].mean(2).T, rtol=1e-6)


def test_large_slices_are_averaged_down(volume_of):
    values = numbered((4, 10, 12))
    slices = read_orthoslices(volume_of(values), z=2, y=4, x=4, max_pixels=8)
    np.testing.assert_allclose(slices.xy, values[2].reshape(5, 2, 6, 2).mean((1, 3)))
    np.testing.assert_allclose(slices.yz.T, values[:, :, 4].reshape(2, 2, 5, 2).mean((1, 3)))
    assert slices.pixel_size == 20.0
    assert slices.first == (-10.0, -40.0, -50.0)


def test_a_stored_volume_is_read_at_its_slices_alone(volume_of):
    source = Recorder(np.random.default_rng(0).normal(size=(20, 32, 40)))
    lazy = da.from_array(source, chunks=(20, 8, 40), meta=np.empty((0, 0, 0)))
    read_orthoslices(volume_of(lazy), thickness=2)
    expected = np.zeros(source.shape, int)
    expected[9:11] += 1
    expected[:, 15:17] += 1
    expected[:, :, 19:21] += 1
    np.testing.assert_array_equal(source.read, expected)


def test_a_computed_volume_is_computed_once_and_where_needed(volume_of):
    computed = []

    def block(block_info=None):
        computed.append(block_info[None]["chunk-location"])
        return np.ones(block_info[None]["chunk-shape"])

    lazy = da.map_blocks(
        block, chunks=((9, 9), (8, 8), (7, 7, 7)), dtype=float, meta=np.empty((0, 0, 0))
    )
    read_orthoslices(volume_of(lazy), z=0, y=0, x=0)
    assert len(computed) == len(set(computed))
    assert set(computed) == {index for index in np.ndindex(2, 2, 3) if 0 in index}


@pytest.mark.parametrize("options", [{"z": 5}, {"y": -1}, {"thickness": 0}, {"max_pixels": 0}])
def test_what_is_not_there_is_refused(volume_of, options):
    with pytest.raises(ParameterError, match=r"0 to 4|0 to 6|give whole numbers"):
        read_orthoslices(volume_of(numbered((5, 7, 9))), **options)


def test_what_is_no_volume_is_refused(volume_of):
    volume = volume_of(numbered((5, 7, 9)))
    with pytest.raises(SchemaError, match="no cubes"):
        voxel_size(volume[:, ::2])
    with pytest.raises(SchemaError, match=r"needs \(z, y, x\)"):
        voxel_size(volume.transpose("y", "z", "x"))
    with pytest.raises(SchemaError, match="coordinate in A"):
        voxel_size(volume.drop_vars("z"))


def test_voxel_size_of_a_single_voxel_is_its_attribute(volume_of):
    voxel = volume_of(np.zeros((1, 1, 1)))
    with pytest.raises(SchemaError, match="nan"):
        voxel_size(voxel)
    assert voxel_size(voxel.assign_attrs(voxel_size=7.5)) == 7.5


@pytest.mark.parametrize(("most", "expected"), [(10_000, 160), (240, 160), (239, 80), (1, 40)])
def test_level_is_the_finest_that_fits(volume_of, most, expected):
    levels = {
        str(level): volume_of(da.zeros((80 >> level, 120 >> level, 160 >> level))).to_dataset(
            name="tomogram"
        )
        for level in range(3)
    }
    tree = xr.DataTree.from_dict(levels)
    assert level_for(tree, max_pixels=most).sizes["x"] == expected


def test_a_node_without_levels_is_refused(series):
    with pytest.raises(SchemaError, match="tomograms/wbp"):
        level_for(series["tomograms"])


def test_contrast_ignores_a_few_extreme_pixels():
    rng = np.random.default_rng(3)
    noise = rng.normal(50, 2, (1000, 1000))
    clean = contrast_limits(noise)
    assert clean == pytest.approx((50 - 2.576 * 2, 50 + 2.576 * 2), abs=0.1)
    noise.flat[rng.choice(noise.size, 1000)] = 1e9
    noise[0, :5] = np.nan, np.inf, -np.inf, -1e9, -1e9
    assert contrast_limits(noise) == pytest.approx(clean, abs=0.2)


def test_contrast_is_the_same_every_time():
    image = np.random.default_rng(3).normal(size=(700, 700))
    assert contrast_limits(image) == contrast_limits(image.copy())


def test_contrast_sees_all_columns():
    """A sample at a regular stride would see the even columns alone."""
    image = np.zeros((1000, 1000))
    image[:, 1::2] = np.random.default_rng(0).normal(10, 1, (1000, 500))
    low, high = contrast_limits(image)
    assert low == 0
    assert high == pytest.approx(10 + 2.33, abs=0.1)


@pytest.mark.parametrize("value", [0.0, -7.5, 1e8])
def test_a_constant_image_is_grey(value):
    low, high = contrast_limits(np.full((10, 10), value))
    assert low < value < high


def test_a_dot_on_an_empty_ground_is_seen():
    image = np.zeros((100, 100))
    image[3, 4] = -2
    assert contrast_limits(image) == (-2, 0)


def test_an_image_without_numbers_has_limits():
    low, high = contrast_limits(np.full((3, 3), np.nan))
    assert low < high

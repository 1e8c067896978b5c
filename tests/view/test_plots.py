"""Plots hold the numbers they should, on the axes they were given."""

from __future__ import annotations

import subprocess
import sys

import dask.array as da
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from tomodask.errors import ParameterError, SchemaError
from tomodask.view.plots import (
    plot_orthoslices,
    plot_shifts,
    plot_tilts,
    plot_view,
    scale_bar_length,
)


@pytest.fixture
def ax():
    return Figure().subplots()


def points(collection):
    return {tuple(point) for point in np.asarray(collection.get_offsets()).tolist()}


def test_importing_the_pictures_does_not_import_matplotlib():
    code = (
        "import sys, tomodask.view.images, tomodask.view.plots, tomodask.view.html, "
        "tomodask.view.progress, tomodask.accessor; print(*sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"matplotlib", "rich", "IPython"} & set(run.stdout.split())


def test_tilts_against_dose(tilt_series, ax):
    assert plot_tilts(tilt_series, ax) is ax
    included, excluded = ax.collections
    assert points(included) == {(12, 6), (0, 0), (3, 3), (6, -3)}
    assert points(excluded) == {(9, -6)}
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), [0, 3, 6, 9, 12])
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [0, 3, -3, -6, 6])
    assert "dose" in ax.get_xlabel()


@pytest.mark.parametrize(
    ("missing", "label", "first"),
    [(["dose"], "order", (4.0, 6.0)), (["dose", "order"], "section", (0.0, 6.0))],
)
def test_tilts_against_what_is_recorded(tilt_series, ax, missing, label, first):
    plot_tilts(tilt_series.drop_vars(missing), ax)
    assert label in ax.get_xlabel()
    assert first in points(ax.collections[0])


def test_shifts_in_nanometres_by_angle(series, ax):
    alignment = series["alignments/coarse"].to_dataset()
    assert plot_shifts(alignment, ax) is ax
    by_angle = [2, 4, 1, 3, 0]
    for line, name in zip(ax.lines, ("shift_x", "shift_y"), strict=True):
        np.testing.assert_allclose(line.get_ydata(), alignment[name].values[by_angle] / 10)
        np.testing.assert_allclose(line.get_xdata(), alignment["tilt_angle"].values[by_angle])
    (right,) = set(ax.figure.axes) - {ax}
    np.testing.assert_array_equal(right.lines[0].get_ydata(), alignment["score"].values[by_angle])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["x", "y", "score"]


def test_shifts_without_scores_have_one_scale(series, ax):
    plot_shifts(series["alignments/imported"].to_dataset(), ax)
    assert ax.figure.axes == [ax]


def test_shifts_of_what_is_no_alignment(tilt_series, ax):
    with pytest.raises(SchemaError, match="tilt_axis_angle"):
        plot_shifts(tilt_series, ax)


def test_view_is_upright_and_in_nanometres(tilt_series, ax):
    assert plot_view(tilt_series, 2, ax) is ax
    (image,) = ax.images
    np.testing.assert_array_equal(image.get_array(), tilt_series["images"].values[2])
    assert image.origin == "lower"
    assert image.get_extent() == pytest.approx([-30, 30, -20, 20])
    assert ax.get_title() == "view 2: -6.0° after 9.0 e/Å² (excluded)"


def test_large_view_is_averaged_to_the_same_place(tilt_series, ax):
    images = np.zeros((5, 1500, 2101), np.float32)
    images[1, 300:303, 900:903] = 1
    plot_view(tilt_series.drop_vars("images").assign(images=(("tilt", "y", "x"), images)), 1, ax)
    (image,) = ax.images
    assert image.get_array().shape == (500, 701)
    assert image.get_array()[100, 300] == 1
    left, right, bottom, top = image.get_extent()
    assert (left, bottom) == pytest.approx((-2101, -1500))
    assert (right - left, top - bottom) == pytest.approx((701 * 6, 500 * 6))


def test_one_view_reads_one_view(tilt_series, ax):
    read = []

    def block(values, block_info=None):
        read.append(block_info[0]["chunk-location"][0])
        return values

    lazy = da.from_array(tilt_series["images"].values, chunks=(1, 20, 30))
    images = da.map_blocks(block, lazy, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32))
    plot_view(tilt_series.assign(images=(("tilt", "y", "x"), images)), 3, ax)
    assert read == [3]


@pytest.mark.parametrize("index", [-1, 5])
def test_view_that_is_not_there(tilt_series, ax, index):
    with pytest.raises(ParameterError, match="views 0 to 4"):
        plot_view(tilt_series, index, ax)


def test_orthoslices_share_their_coordinates(volume_of):
    values = np.random.default_rng(0).normal(size=(6, 10, 14)).astype(np.float32)
    axes = Figure().subplots(3)
    xy, xz, yz = plot_orthoslices(volume_of(values), tuple(axes), z=1, y=2, x=3)
    assert (xy, xz, yz) == tuple(axes)
    np.testing.assert_array_equal(xy.images[0].get_array(), values[1])
    np.testing.assert_array_equal(xz.images[0].get_array(), values[:, 2])
    np.testing.assert_array_equal(yz.images[0].get_array(), values[:, :, 3].T)
    assert xy.images[0].get_extent() == pytest.approx([-7, 7, -5, 5])
    assert xz.images[0].get_extent() == pytest.approx([-7, 7, -3, 3])
    assert yz.images[0].get_extent() == pytest.approx([-3, 3, -5, 5])
    assert {ax.images[0].origin for ax in (xy, xz, yz)} == {"lower"}
    assert len({ax.images[0].get_clim() for ax in (xy, xz, yz)}) == 1


def test_without_axes_a_figure_of_pyplot_is_made(volume_of, tilt_series):
    """As a notebook expects it: xarray's own plots do the same."""
    drawn = plot_orthoslices(volume_of(np.zeros((6, 10, 14), np.float32)))
    assert [ax.figure.number for ax in drawn] == [1, 1, 1]
    drawn[0].figure.canvas.draw()
    assert plot_tilts(tilt_series).figure.number == 2
    assert plt.get_fignums() == [1, 2]


@pytest.mark.parametrize(
    ("width", "length"), [(240, 50), (400, 100), (401, 100), (799, 100), (800, 200), (3.2, 0.5)]
)
def test_scale_bar_is_a_round_number(width, length):
    assert scale_bar_length(width) == pytest.approx(length)

"""Each method of ``.tomo`` hands the object and its options to the function that does the work."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

import tomodask.accessor
from tests.ctf_rings_sample import estimated
from tomodask.errors import ProductMissingError, StoreError
from tomodask.model import projection_of
from tomodask.view.html import series_text


@pytest.fixture
def calls(monkeypatch):
    """Replace a function by one that keeps what it is called with."""

    def replace(module, name):
        kept = []

        def record(*arguments, **options):
            kept.append((arguments, options))
            return "result"

        monkeypatch.setattr(import_module(module), name, record)
        return kept

    return replace


@pytest.mark.parametrize("method", ["reconstruct", "align_stack"])
def test_series_goes_to_the_builders(series, calls, method):
    kept = calls(f"tomodask.graph.{method}", method)
    assert getattr(series.tomo, method)(binning=2, alignment="coarse") == "result"
    ((tree,), options) = kept[0]
    assert tree is series
    assert options == {"binning": 2, "alignment": "coarse"}


def test_align_goes_to_the_store(series, calls):
    kept = calls("tomodask.alignment", "align")
    series.encoding["source"] = "/data/TS_01.zarr"
    assert series.tomo.align(method="coarse") == "result"
    assert kept == [((Path("/data/TS_01.zarr"),), {"method": "coarse"})]


def test_align_needs_a_store(series):
    with pytest.raises(StoreError, match="TS_01"):
        series.tomo.align()


def test_summary(series):
    assert repr(series.tomo.summary()) == series_text(series)


def test_series_is_plotted(series):
    figure = Figure()
    tilts, view = figure.subplots(2)
    assert series.tomo.plot_tilts(tilts) is tilts
    assert len(tilts.collections) == 2
    assert series.tomo.plot_view(1, ax=view) is view
    np.testing.assert_array_equal(
        view.images[0].get_array(), series["tilt_series"]["images"].values[1]
    )


def test_contrast_transfer_is_plotted_for_the_views_of_the_series(series, calls, tmp_path):
    series["ctf"] = xr.DataTree(estimated())
    module = "tomodask.view.ctf_plots"
    of_views = {name: series["tilt_series"][name].values for name in ("tilt_angle", "included")}
    for method in ("plot_ctf_series", "plot_ctf_sheet"):
        kept = calls(module, method)
        assert getattr(series.tomo, method)() == "result"
        ((ctf,), options) = kept[0]
        assert ctf.identical(series["ctf"].to_dataset())
        np.testing.assert_equal(options, of_views)
    kept = calls(module, "save_ctf_pictures")
    assert series.tomo.save_ctf_pictures(tmp_path) == "result"
    np.testing.assert_equal(kept[0][1], {"folder": tmp_path, **of_views})
    kept = calls(module, "plot_ctf_view")
    assert series.tomo.plot_ctf_view(2) == "result"
    assert kept[0][0][1] == 2
    assert kept[0][1] == {"tilt_angle": -6.0}
    ctf = estimated(1)
    assert ctf.tomo.plot_ctf_view() == "result"
    assert kept[1] == ((ctf, 0), {})


def test_no_contrast_transfer(series):
    with pytest.raises(ProductMissingError, match="TS_01 has no CTF"):
        series.tomo.plot_ctf_sheet()


def test_alignment(series):
    alignment = series["alignments/coarse"].to_dataset()
    expected = projection_of(alignment)
    np.testing.assert_array_equal(alignment.tomo.projection.shift, expected.shift)
    ax = Figure().subplots()
    assert alignment.tomo.plot_shifts(ax) is ax
    assert len(ax.lines) == 2


def test_volume(volume_of, calls, tmp_path):
    volume = volume_of(np.random.default_rng(0).normal(size=(6, 10, 14)))
    axes = tuple(Figure().subplots(3))
    assert volume.tomo.plot_orthoslices(axes, z=1) == axes
    np.testing.assert_allclose(axes[0].images[0].get_array(), volume.values[1], rtol=1e-6)
    path = volume.tomo.orthoslices_png(tmp_path / "a.png", thickness=3)
    assert path == tmp_path / "a.png"
    assert path.exists()
    kept = calls("tomodask.storing", "store")
    assert volume.tomo.store(name="wbp", overwrite=True) == "result"
    assert volume.tomo.store(tmp_path) == "result"
    assert [(arguments[1:], options) for arguments, options in kept] == [
        ((None,), {"name": "wbp", "overwrite": True}),
        ((tmp_path,), {}),
    ]
    assert all(arguments[0] is volume for arguments, _ in kept)


def test_all_kinds_of_objects_have_it():
    assert isinstance(xr.DataTree().tomo, tomodask.accessor.SeriesAccessor)
    assert isinstance(xr.Dataset().tomo, tomodask.accessor.DatasetAccessor)
    assert isinstance(xr.DataArray().tomo, tomodask.accessor.VolumeAccessor)

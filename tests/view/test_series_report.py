"""The picture of a series shows every view in its place, what is left out, and the plots."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.image import imread

from tests.ctf_rings_sample import estimated
from tomodask.errors import DataError
from tomodask.view.series_report import series_picture


def series(views, shape=(60, 90), excluded=()):
    """Views of noise, their angles in mixed order."""
    images = np.random.default_rng(0).normal(0, 0.1, (views, *shape)).astype(np.float32)
    angles = np.random.default_rng(1).permutation(np.linspace(-50, 50, views))
    included = np.ones(views, bool)
    included[list(excluded)] = False
    reasons = np.array(["" if good else "dark: its mean is 3 % of it" for good in included])
    return xr.Dataset(
        {
            "images": (("tilt", "y", "x"), images),
            "tilt_angle": ("tilt", angles),
            "included": ("tilt", included),
            "reason": ("tilt", reasons),
        },
        attrs={"pixel_size": 20.0},
    )


def motion(views, frames=6):
    shifts = np.cumsum(np.random.default_rng(2).normal(0, 2, (2, views, frames)), axis=2)
    shifts[:, 0, 4:] = np.nan
    return xr.Dataset(
        {"shift_y": (("tilt", "frame"), shifts[0]), "shift_x": (("tilt", "frame"), shifts[1])}
    )


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved, in turn."""
    figures = []
    save = Figure.savefig

    def keep(figure, *args, **kwargs):
        figures.append(figure)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def texts(figure):
    found = [text.get_text() for text in figure.texts]
    return found + [text.get_text() for ax in figure.axes for text in ax.texts]


@pytest.mark.parametrize("views", [1, 5, 41])
def test_every_view_is_there_in_order_of_its_tilt(tmp_path, drawn, views):
    data = series(views, excluded=[0] if views > 1 else [])
    path = series_picture(data, tmp_path / "out.png", title="TS_01")
    assert imread(path).shape[1] == 1600
    (figure,) = drawn
    panels = [ax for ax in figure.axes if ax.images]
    assert len(panels) == views
    order = np.argsort(data["tilt_angle"].values)
    places = [(-round(ax.get_position().y0, 6), ax.get_position().x0) for ax in panels]
    assert places == sorted(places)
    for ax, view in zip(panels, order, strict=True):
        assert ax.texts[0].get_text() == f"{data['tilt_angle'].values[view]:+.1f}°"
        # Row 0 lies at the bottom.
        assert ax.images[0].origin == "lower"
        excluded = not data["included"].values[view]
        assert ax.spines["left"].get_visible() == excluded
        assert ("dark" in [text.get_text() for text in ax.texts]) == excluded
    assert any("TS_01" in text and f"{views} views" in text for text in texts(figure))
    assert any("180 x 120 nm" in text for text in texts(figure))


def test_panels_and_plots_do_not_overlap_and_lie_within(tmp_path, drawn):
    data = series(41, excluded=[3, 7])
    series_picture(
        data, tmp_path / "out.png", motion=motion(41), intensity=np.ones(41),
        expected=np.ones(41), curves={"score": np.linspace(0, 1, 41)},
    )  # fmt: skip
    (figure,) = drawn
    boxes = [ax.get_tightbbox() for ax in figure.axes if ax.images]
    boxes += [ax.get_tightbbox() for ax in figure.axes if ax.lines]
    full = figure.bbox
    for number, box in enumerate(boxes):
        assert full.x0 <= box.x0 < box.x1 <= full.x1
        assert full.y0 <= box.y0 < box.y1 <= full.y1
        for other in boxes[:number]:
            width = min(box.x1, other.x1) - max(box.x0, other.x0)
            height = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert min(width, height) < 6  # frames are drawn half outside


def test_the_plots_show_the_values(tmp_path, drawn):
    data = series(7, excluded=[2])
    moved = motion(7)
    mean = np.arange(7.0) + 10
    series_picture(
        data, tmp_path / "out.png", motion=moved, intensity=mean, expected=mean + 1,
        curves={"score": mean / 20},
    )  # fmt: skip
    (figure,) = drawn
    tracks, travel, intensity, curves = (ax for ax in figure.axes if ax.get_xlabel())
    angles, included = data["tilt_angle"].values, data["included"].values
    paths = [line.get_xydata() for line in tracks.lines if len(line.get_xydata()) > 2]
    assert len(paths) == 7
    assert sorted(len(path) for path in paths) == [4, 6, 6, 6, 6, 6, 6]
    for path in paths:
        np.testing.assert_array_equal(path[0], 0)
    lengths = np.hypot(np.diff(moved["shift_x"][3]), np.diff(moved["shift_y"][3])).sum()
    shown = dict(travel.lines[0].get_xydata().tolist())
    assert shown[angles[3]] == pytest.approx(lengths)
    law, good, bad = intensity.lines
    np.testing.assert_array_equal(law.get_xydata()[:, 0], np.sort(angles))
    np.testing.assert_array_equal(law.get_ydata(), (mean + 1)[np.argsort(angles)])
    np.testing.assert_array_equal(good.get_ydata(), mean[included])
    np.testing.assert_array_equal(bad.get_xydata(), [[angles[2], 12]])
    np.testing.assert_array_equal(curves.lines[0].get_ydata(), (mean / 20)[np.argsort(angles)])


def test_the_defocus_is_shown_hollow_where_it_is_not_to_be_trusted(tmp_path, drawn):
    data = series(7, excluded=[2])
    series_picture(data, tmp_path / "out.png", ctf=estimated(7, doubtful=[2, 5]))
    (figure,) = drawn
    (ax,) = (ax for ax in figure.axes if ax.get_xlabel())
    good, bad, doubtful = ax.lines
    angles = data["tilt_angle"].values
    shown = {angle: y for angle, y in good.get_xydata() if np.isfinite(y)}
    assert shown == pytest.approx({angles[view]: 2 + view / 100 for view in (0, 1, 3, 4, 6)})
    np.testing.assert_allclose(bad.get_xydata(), [[angles[2], 2.02]])
    np.testing.assert_allclose(doubtful.get_xydata(), [[angles[5], 2.05]])
    assert doubtful.get_markerfacecolor() == "none"
    assert "µm" in ax.get_ylabel()


def test_reasons_are_written_out_and_many_are_counted(tmp_path, drawn):
    data = series(30, excluded=range(20))
    series_picture(data, tmp_path / "out.png")
    lines = [text for text in texts(drawn[0]) if "its mean is 3 %" in text]
    assert len(lines) == 11
    assert "and 9 more" in texts(drawn[0])
    assert "20 left out" in " ".join(texts(drawn[0]))


def test_lazy_images_without_reasons_and_a_view_of_nothing(tmp_path):
    data = series(3, excluded=[1]).drop_vars("reason")
    data["images"][2] = 0
    assert series_picture(data.chunk({"tilt": 1}), tmp_path / "out.png").is_file()


def test_equal_series_are_equal_files(tmp_path):
    paths = [series_picture(series(3), tmp_path / f"{name}.png") for name in "ab"]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_no_views_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no views"):
        series_picture(series(3).isel(tilt=slice(0)), tmp_path / "out.png")
    assert not list(tmp_path.iterdir())

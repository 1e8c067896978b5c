"""Pictures of contrast transfer show the values of the table, and say what is not to be trusted."""

from __future__ import annotations

import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.image import imread

from tests.ctf_rings_sample import estimated, imported, rings
from tomodask.errors import DataError, ParameterError, SchemaError
from tomodask.view.ctf_plots import (
    plot_ctf_series,
    plot_ctf_sheet,
    plot_ctf_view,
    save_ctf_pictures,
)

ANGLES = np.array([30.0, -15.0, 0.0, 15.0, -30.0])


def texts(figure):
    found = [text.get_text() for text in figure.texts]
    for ax in figure.axes:
        found += [text.get_text() for text in ax.texts]
    return found


def curve(ax, label):
    (line,) = (line for line in ax.lines if line.get_label() == label)
    return line.get_xdata(), line.get_ydata()


def drawn_within(figure):
    """Whether all that is written lies within the figure."""
    figure.canvas.draw()
    full = figure.bbox
    boxes = [ax.get_tightbbox() for ax in figure.axes]
    boxes += [text.get_window_extent() for text in figure.texts]
    return all(
        full.x0 - 1 <= box.x0 and box.x1 <= full.x1 + 1 and full.y0 - 1 <= box.y0
        and box.y1 <= full.y1 + 1 for box in boxes
    )  # fmt: skip


def test_importing_does_not_import_matplotlib():
    code = "import sys, tomodask.view.ctf_plots; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "matplotlib" not in run.stdout.split()


def test_view_shows_the_profile_the_fit_and_where_it_ends():
    ctf = estimated()
    figure = plot_ctf_view(ctf, 3, tilt_angle=15)
    picture, profile, match = figure.axes
    limit = 1.3 / float(ctf["fit_resolution"][3])
    shown = ctf["frequency"].values <= limit
    for label, name in (("measured", "profile"), ("fitted", "profile_model")):
        x, y = curve(profile, label)
        np.testing.assert_array_equal(x, ctf["frequency"].values[shown])
        np.testing.assert_array_equal(y, ctf[name].values[3][shown])
    np.testing.assert_array_equal(match.lines[0].get_ydata(), ctf["profile_match"][3][shown])
    assert match.get_xlim() == pytest.approx((0, limit))
    for ax in (profile, match):
        (end,) = (line for line in ax.lines if len(line.get_xdata()) == 2 and ax.lines[-1] is line)
        assert end.get_xdata()[0] == pytest.approx(1 / float(ctf["fit_resolution"][3]))
    assert "1/Å" in match.get_xlabel()
    assert "Å" in picture.get_xlabel()
    title, quality = (text.get_text() for text in figure.texts)
    assert title == ("view 3, +15.0°:  defocus 2.030 ± 0.007 µm, astigmatism 100 ± 10 nm at 30°")
    assert quality == "rings followed to 8.75 Å, score 0.80, confidence 0.98"
    assert drawn_within(figure)


def test_view_shows_rings_that_go_on_in_the_fit():
    ctf = estimated(u=22000.0, v=18500.0, angle=60.0, noise=0.002, edge=0.2, size=256)
    picture = plot_ctf_view(ctf, 0).axes[0]
    (image,) = picture.images
    limit = 1.3 / float(ctf["fit_resolution"][0])
    assert image.get_extent() == pytest.approx([-limit, limit, -limit, limit])
    assert image.origin == "lower"
    values = np.asarray(image.get_array())
    size = len(values)
    centres = (np.arange(size) - (size - 1) / 2) * 2 * limit / size
    x, y = np.meshgrid(centres, centres)
    truth = rings(x, y, 22000, 18500, 60)
    for half in (x < 0, x > 0):
        where = half & (np.hypot(x, y) > 0.03) & (np.hypot(x, y) < 1 / 8)
        assert np.corrcoef(values[where], truth[where])[0, 1] > 0.95


def test_view_marks_the_zeros_and_resolutions():
    ctf = estimated(u=22000.0, v=18500.0, angle=60.0)
    picture = plot_ctf_view(ctf, 0).axes[0]
    (contours,) = picture.collections
    x, y = np.concatenate([path.vertices for path in contours.get_paths()]).T
    assert rings(x, y, 22000, 18500, 60).max() < 1e-3
    # Three zeros lie between the centre and these.
    walk = rings(np.linspace(0, np.hypot(x, y).max(), 2000), 0, 20250, 20250, 0)
    assert np.count_nonzero((walk[1:-1] < walk[2:]) & (walk[1:-1] < walk[:-2])) == 3
    (circle,) = picture.patches
    assert circle.radius == pytest.approx(1 / 8)
    for tick, label in zip(picture.get_xticks(), picture.get_xticklabels(), strict=True):
        assert abs(tick) == pytest.approx(1 / float(label.get_text()))
    assert {"measured", "fitted", "zeros", "8 Å"} == set(texts(picture.figure)[2:])


def test_view_that_does_not_believe_itself_says_so():
    figure = plot_ctf_view(estimated(doubtful=[1]), 1)
    assert "not to be trusted" in texts(figure)
    assert figure.texts[1].get_text() == (
        "not to be trusted:  score 0.10, confidence 0.05, defocus of its neighbours"
    )
    assert figure.axes[0].spines["left"].get_linewidth() > 2
    good = plot_ctf_view(estimated(doubtful=[1]), 0)
    assert not any("trusted" in text for text in texts(good))
    assert good.axes[0].spines["left"].get_linewidth() < 2


def test_view_that_was_not_estimated():
    ctf = estimated()
    for name in ctf.data_vars:
        if ctf[name].dtype.kind == "f":
            ctf[name].values[2] = np.nan
    ctf["fitted"].values[2] = False
    ctf["confidence"].values[2] = 0
    figure = plot_ctf_view(ctf, 2)
    figure.canvas.draw()
    assert "not estimated" in texts(figure)
    assert not figure.axes[0].images
    plot_ctf_sheet(ctf, ANGLES).canvas.draw()
    plot_ctf_series(ctf, ANGLES).canvas.draw()


@pytest.mark.parametrize("view", [-1, 5])
def test_view_that_is_not_there(view):
    with pytest.raises(ParameterError, match="views 0 to 4"):
        plot_ctf_view(estimated(), view)


def points(container):
    return container.lines[0].get_xdata(), container.lines[0].get_ydata()


def test_series_shows_the_values_against_the_tilt():
    ctf = estimated()
    figure = plot_ctf_series(ctf, ANGLES)
    defocus, length, direction, resolution, score = figure.axes
    for container, name in zip(defocus.containers, ("defocus_u", "defocus_v"), strict=True):
        x, y = points(container)
        np.testing.assert_array_equal(x, ANGLES)
        np.testing.assert_allclose(y, ctf[name].values / 1e4)
        (bars,) = container.lines[2]
        low, high = np.array(bars.get_segments())[:, :, 1].T
        np.testing.assert_allclose((high - low) / 2, ctf["defocus_error"].values / 1e4)
    np.testing.assert_allclose(points(length.containers[0])[1], 100)
    np.testing.assert_allclose(points(direction.containers[0])[1], 30)
    (bars,) = direction.containers[0].lines[2]
    low, high = np.array(bars.get_segments())[:, :, 1].T
    # A vector of 1000 A with an error of 100 A turns by asin(0.1), its axis by half of it.
    np.testing.assert_allclose(high - low, np.rad2deg(np.arcsin(0.1)))
    np.testing.assert_allclose(points(resolution.containers[0])[1], ctf["fit_resolution"].values)
    for container, name in zip(score.containers, ("score", "confidence"), strict=True):
        np.testing.assert_allclose(points(container)[1], ctf[name].values)
        assert container.get_label() == name
    labels = [ax.get_ylabel() for ax in figure.axes]
    assert [label.split("(")[-1].rstrip(")") for label in labels[:4]] == [
        "µm", "nm", "degrees", "Å"
    ]  # fmt: skip
    assert "degrees" in score.get_xlabel()
    assert (
        "handedness -1 (confidence 0.97): defocus falls with height" in figure.texts[0].get_text()
    )
    assert "5 of 5 views" in figure.texts[0].get_text()


def test_series_shows_hollow_what_does_not_count():
    warning = " ".join(f"word{number}" for number in range(60))
    ctf = estimated(doubtful=[3])
    ctf.attrs["warnings"].append(warning)
    figure = plot_ctf_series(ctf, ANGLES, included=ANGLES > -20)
    defocus = figure.axes[0]
    assert {tuple(points(container)[0]) for container in defocus.containers} == {(30, -15, 0)}
    hollow = [line for line in defocus.lines if line.get_markerfacecolor() == "white"]
    assert [tuple(line.get_xdata()) for line in hollow] == [(15, -30), (15, -30)]
    # All are within, and a bar of no meaning does not squeeze the others.
    low, high = defocus.get_ylim()
    assert low < ctf["defocus_v"].min() / 1e4 < ctf["defocus_u"].max() / 1e4 < high
    assert "4 of 5 views to be trusted" in figure.texts[0].get_text()
    lines = [text.get_text() for text in figure.texts[1:]]
    assert lines[0] == "hollow: excluded, or not to be trusted; bars: 90 % intervals"
    assert lines[1] == "view 3 shows no rings"
    assert " ".join(lines[2:]) == warning
    assert drawn_within(figure)


def test_direction_of_no_astigmatism_has_no_bar():
    ctf = estimated(u=20040.0, v=20000.0)
    direction = plot_ctf_series(ctf, ANGLES).axes[2]
    assert not len(points(direction.containers[0])[0])
    hollow = [line for line in direction.lines if line.get_markerfacecolor() == "white"]
    np.testing.assert_array_equal(hollow[0].get_xdata(), ANGLES)


@pytest.mark.parametrize(("sign", "way"), [(1, "grows"), (-1, "falls"), (0, "unknown")])
def test_series_says_its_handedness(sign, way):
    ctf = imported()
    ctf.attrs["defocus_handedness"] = sign
    assert way in plot_ctf_series(ctf, ANGLES).texts[0].get_text()


def test_series_that_was_imported_shows_what_there_is():
    figure = plot_ctf_series(imported(), ANGLES)
    figure.canvas.draw()
    np.testing.assert_allclose(points(figure.axes[0].containers[0])[1], np.linspace(3, 3.1, 5))
    assert not figure.axes[3].lines


def test_sheet_has_all_views_in_order_of_their_tilt():
    ctf = estimated(9, doubtful=[4])
    angles = np.random.default_rng(1).permutation(np.arange(-40.0, 41, 10))
    figure = plot_ctf_sheet(ctf, angles, included=np.arange(9) != 2)
    assert len(figure.axes) == 9
    order = np.argsort(angles)
    places = [(-round(ax.get_position().y0, 6), ax.get_position().x0) for ax in figure.axes]
    assert places == sorted(places)
    assert len({row for row, _ in places}) == 2
    written = texts(figure)
    for view, title in zip(order, written[1::2], strict=True):
        assert title.startswith(f"{view}: {angles[view]:+.1f}°")
        assert title.endswith("excluded") == (view == 2)
    for view, words in zip(order, written[2::2], strict=True):
        expected = f"{2 + view / 100:.3f} µm"
        assert words == expected + ("" if view == 4 else f", {8 + view / 8:.1f} Å")
    framed = [ax.spines["left"].get_visible() for ax in figure.axes]
    assert framed == [view == 4 for view in order]
    assert "1 not to be trusted" in written[0]
    limits = {ax.get_xlim() for ax in figure.axes}
    assert len(limits) == 1
    assert all(len(ax.images) == 1 for ax in figure.axes)
    assert drawn_within(figure)


def test_pictures_are_written(tmp_path):
    ctf = estimated(2).chunk({"tilt": 1})
    files = save_ctf_pictures(ctf, [3.0, 0.0], tmp_path / "pictures")
    names = ["series.png", "sheet.png", "view_000.png", "view_001.png"]
    assert [file.name for file in files] == names
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == names
    assert {imread(file).shape[1] for file in files} == {1500}
    assert not plt.get_fignums()


def test_equal_tables_are_equal_files(tmp_path):
    first, second = (
        save_ctf_pictures(estimated(1), None, tmp_path / name)[0].read_bytes() for name in "ab"
    )
    assert first == second


def test_pictures_of_a_micrograph_and_of_an_import(tmp_path):
    assert [file.name for file in save_ctf_pictures(estimated(1), None, tmp_path)] == [
        "view_000.png"
    ]
    assert [file.name for file in save_ctf_pictures(imported(), ANGLES, tmp_path)] == ["series.png"]


def test_what_cannot_be_drawn():
    with pytest.raises(DataError, match="imported"):
        plot_ctf_view(imported(), 0)
    with pytest.raises(DataError, match="spectrum"):
        plot_ctf_sheet(estimated().drop_vars("spectrum"), ANGLES)
    with pytest.raises(ParameterError, match="5 views"):
        plot_ctf_series(imported(), ANGLES[:4])
    with pytest.raises(ParameterError, match="included"):
        plot_ctf_sheet(estimated(), ANGLES, included=[True])
    with pytest.raises(SchemaError, match="defocus_v"):
        plot_ctf_series(imported().drop_vars("defocus_v"), ANGLES)


def test_figures_show_themselves_in_notebooks():
    assert plot_ctf_series(imported(), ANGLES)._repr_png_()[1:4] == b"PNG"

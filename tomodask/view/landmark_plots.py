"""Landmarks in pictures: how well they fit, where they were seen, and where they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tomodask.model import measured_observations
from tomodask.view.figures import ShownFigure, write_png

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

__all__ = ["landmarks_figure", "landmarks_png"]

_DPI = 100
#: Width of the field that the longest usual residual is drawn with.
_ARROW = 0.06
#: Weight below which a point counts as found wrong.
_WRONG = 0.1
_GOOD, _BAD, _LOWER, _UPPER = "C0", "C3", "C2", "C4"


def landmarks_figure(landmarks: xr.Dataset, views: xr.Dataset, *, title: str = "") -> Figure:
    """Return a figure of an alignment's landmarks.

    Six panels: the residuals as vectors over the field; their mean in each view; their mean for
    each landmark; the tracks through the raw images; the landmarks seen along the tilt axis (x,
    z) and across it (y, z).

    Parameters
    ----------
    landmarks
        The table, solved.
    views
        The tilt series: "tilt_angle" and the attribute "pixel_size", with sizes ``y`` and ``x``.
    title
        First line.
    """
    pixel = float(views.attrs["pixel_size"])
    figure = ShownFigure(figsize=(16, 10), dpi=_DPI, layout="constrained")
    axes = figure.subplots(2, 3)
    if title:
        figure.suptitle(title, fontsize=11)
    measured = measured_observations(landmarks, views["included"].values)
    shape = (views.sizes["x"], views.sizes["y"])
    _plot_vectors(axes[0, 0], landmarks, measured, pixel, shape)
    _plot_by_view(axes[0, 1], landmarks, measured, pixel, views["tilt_angle"].values)
    _plot_by_landmark(axes[0, 2], landmarks, measured, pixel)
    _plot_tracks(axes[1, 0], landmarks, measured, pixel, shape)
    _plot_side(axes[1, 1], landmarks, "x")
    _plot_side(axes[1, 2], landmarks, "y")
    return figure


def landmarks_png(
    landmarks: xr.Dataset, views: xr.Dataset, path: str | Path, *, title: str = ""
) -> Path:
    """Write :func:`landmarks_figure` as a PNG file, and return the file."""
    return write_png(landmarks_figure(landmarks, views, title=title), path)


def _residuals(landmarks: xr.Dataset, pixel: float) -> NDArray[Any]:
    return np.stack([landmarks[f"residual_{axis}"].values for axis in "xy"], axis=1) / pixel


def _frame(ax: Axes, shape: tuple[int, int]) -> None:
    """Show the outline of the images, in pixels from their centre."""
    from matplotlib.patches import Rectangle

    wide, high = shape
    ax.add_patch(Rectangle((-wide / 2, -high / 2), wide, high, fill=False, color="0.6"))
    ax.set(xlim=(-0.55 * wide, 0.55 * wide), ylim=(-0.55 * high, 0.55 * high), aspect="equal")
    ax.set(xlabel="raw x (pixels from the centre)", ylabel="raw y")


def _plot_vectors(
    ax: Axes, landmarks: xr.Dataset, measured: Any, pixel: float, shape: tuple[int, int]
) -> None:
    _frame(ax, shape)
    residual = _residuals(landmarks, pixel)
    length = np.hypot(*residual.T)
    shown = measured & np.isfinite(length)
    if not shown.any():
        ax.set_title("residuals: not solved yet")
        return
    scale = _ARROW * max(shape) / max(float(np.quantile(length[shown], 0.95)), 1e-6)
    places = np.stack([landmarks[axis].values for axis in "xy"], axis=1) / pixel
    wrong = landmarks["weight"].values < _WRONG
    for some, colour in ((shown & ~wrong, _GOOD), (shown & wrong, _BAD)):
        ax.quiver(
            *places[some].T,
            *(residual[some] * scale).T,
            angles="xy",
            scale_units="xy",
            scale=1,
            width=0.0015,
            color=colour,
        )
    found = f", {int((shown & wrong).sum())} found wrong (red)" if (shown & wrong).any() else ""
    ax.set_title(f"residuals, {scale:.0f} x enlarged{found}")


def _plot_by_view(
    ax: Axes, landmarks: xr.Dataset, measured: Any, pixel: float, angles: NDArray[Any]
) -> None:
    length = np.hypot(*_residuals(landmarks, pixel).T)
    view = landmarks["view"].values
    shown = measured & np.isfinite(length)
    ax.plot(angles[view[shown]], length[shown], ".", color="0.75", ms=3, zorder=1)
    order = np.unique(view[shown])
    order = order[np.argsort(angles[order])]
    means = [length[shown & (view == one)].mean() for one in order]
    ax.plot(angles[order], means, "o-", color=_GOOD, ms=3, label="mean")
    top = float(np.quantile(length[shown], 0.995)) * 1.3 if shown.any() else 1.0
    ax.set(xlabel="tilt angle (degrees)", ylabel="residual (pixels)", ylim=(0, max(top, 1e-3)))
    count = ax.twinx()
    count.step(angles[order], [int((shown & (view == one)).sum()) for one in order], color="0.8")
    count.set(ylabel="landmarks seen", ylim=(0, None))
    ax.set_zorder(count.get_zorder() + 1)
    ax.patch.set_visible(False)
    ax.set_title("by view")


def _plot_by_landmark(ax: Axes, landmarks: xr.Dataset, measured: Any, pixel: float) -> None:
    length = np.hypot(*_residuals(landmarks, pixel).T)
    of = landmarks["landmark_of"].values
    shown = measured & np.isfinite(length)
    used = np.unique(of[shown])
    means = np.array([length[shown & (of == one)].mean() for one in used])
    order = np.argsort(means)[::-1]
    place = np.arange(len(used))
    ax.bar(place, means[order], color=_GOOD)
    ax.plot(place, [length[shown & (of == used[i])].max() for i in order], "v", color=_BAD, ms=3)
    step = max(1, -(-len(used) // 25))
    numbers = landmarks["number"].values[used[order]]
    ax.set_xticks(place[::step], [str(number) for number in numbers[::step]], fontsize=7)
    ax.set(xlabel="landmark", ylabel="residual (pixels)")
    ax.set_title("by landmark: mean (bar) and largest (red)")


def _plot_tracks(
    ax: Axes, landmarks: xr.Dataset, measured: Any, pixel: float, shape: tuple[int, int]
) -> None:
    _frame(ax, shape)
    of, view = landmarks["landmark_of"].values, landmarks["view"].values
    x, y = landmarks["x"].values / pixel, landmarks["y"].values / pixel
    filled = landmarks["source"].values == "filled"
    surface = landmarks["surface"].values
    colours = {0: _GOOD, 1: _LOWER, 2: _UPPER}
    for one in np.unique(of[measured]):
        track = np.flatnonzero((of == one) & measured)
        track = track[np.argsort(view[track])]
        ax.plot(x[track], y[track], "-", color=colours[int(surface[one])], lw=0.6)
        ax.plot(x[track], y[track], ".", color=colours[int(surface[one])], ms=1.5)
        middle = track[len(track) // 2]
        ax.text(x[middle], y[middle], str(landmarks["number"].values[one]), fontsize=6)
    ax.plot(x[filled], y[filled], "o", mfc="none", mec="0.5", ms=3)
    gaps = f"; {int(filled.sum())} filled (circles)" if filled.any() else ""
    ax.set_title(f"tracks of {len(np.unique(of[measured]))} landmarks{gaps}")


def _plot_side(ax: Axes, landmarks: xr.Dataset, axis: str) -> None:
    place, z = landmarks[f"specimen_{axis}"].values, landmarks["specimen_z"].values
    surface, chosen = landmarks["surface"].values, landmarks["chosen"].values
    for which, colour, name in ((0, _GOOD, ""), (1, _LOWER, "lower"), (2, _UPPER, "upper")):
        some = (surface == which) & chosen
        if some.any():
            ax.plot(place[some], z[some], "o", color=colour, ms=4, label=name)
    ax.axhline(0, color="0.8", lw=0.8, zorder=0)
    if (surface > 0).any():
        ax.legend(fontsize=8, loc="best")
    ax.set(xlabel=f"specimen {axis} (A)", ylabel="specimen z (A)")
    ax.set_title(f"landmarks seen {'along' if axis == 'x' else 'across'} the tilt axis")

"""One picture that says how a series was recorded, what was left out of it, and why."""

from __future__ import annotations

from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import dask
import numpy as np

from tomodask.engine.files import write_whole
from tomodask.errors import DataError
from tomodask.model.ctf_facts import trusted_views
from tomodask.view.plots import add_label
from tomodask.view.slices import contrast_limits, reduced

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

    Image = NDArray[Any]

__all__ = ["series_picture"]

_DPI = 100
#: Width of the picture and height of the plots and of a line of text, pixels.
_WIDTH, _PLOTS, _LINE, _MARGIN = 1600, 340, 20, 10
#: Longest edge of a small view, pixels; few views are shown no larger than this.
_THUMBNAIL = 300
#: Pixels between small views.
_GAP = 4
#: Reasons that are written out, and letters of a line of them.
_REASONS, _LETTERS = 12, 200
_INCLUDED, _EXCLUDED = "C0", "C3"


def series_picture(
    views: xr.Dataset,
    path: str | Path,
    *,
    title: str = "",
    motion: xr.Dataset | None = None,
    intensity: ArrayLike | None = None,
    expected: ArrayLike | None = None,
    curves: Mapping[str, ArrayLike] | None = None,
    ctf: xr.Dataset | None = None,
) -> Path:
    """Write a picture of a series: its views, their motion, intensity, scores and defocus.

    The views are in order of their tilt, each with a grey scale of its own; those that are left
    out are framed in red, named in a word, and listed below with the whole reason. The plots
    for which no values are given are left out.

    Parameters
    ----------
    views
        With "images" (tilt, y, x), lazy or not, better small; "tilt_angle", degrees; "included";
        where some are excluded, "reason", such as ``"dark: its mean is 3 % of ..."``; and the
        attribute "pixel_size", A.
    path
        Of the PNG file; replaced when it exists.
    title
        First line, such as the name of the series.
    motion
        With "shift_y" and "shift_x" (tilt, frame), A; NaN beyond a view's last frame.
    intensity, expected
        (tilt,) mean of each view, and what the law of the ice's thickness expects.
    curves
        (tilt,) values by name, drawn together: correlations and scores, which lie in 0 to 1.
    ctf
        The contrast transfer of the views.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    DataError
        If there are no views.
    """
    from matplotlib.figure import Figure

    if not views.sizes["tilt"]:
        raise DataError("the series has no views; import one that has")
    angles = views["tilt_angle"].values.astype(float)
    included = views["included"].values.astype(bool)
    order = np.argsort(angles, kind="stable")
    small, columns = _thumbnails(views, order)
    rows = -(-len(small) // columns)
    high, wide = (size + _GAP for size in _shown(small[0].shape, columns))
    lines = _listed(views, order)

    plots: list[Callable[[Axes], None]] = []
    if motion is not None:
        y, x = (motion[name].values.astype(float) for name in ("shift_y", "shift_x"))
        plots += [
            lambda ax: _plot_tracks(ax, y, x, angles, included),
            lambda ax: _plot_travel(ax, y, x, angles, included),
        ]
    if intensity is not None:
        mean = np.asarray(intensity, np.float64)
        law = None if expected is None else np.asarray(expected, np.float64)
        plots.append(lambda ax: _plot_intensity(ax, mean, law, angles, included))
    if curves:
        plots.append(lambda ax: _plot_curves(ax, curves, angles, included))

    if ctf is not None:
        plots.append(lambda ax: _plot_defocus(ax, ctf, angles, included))

    text = len(lines) * _LINE + (_MARGIN if lines else 0)
    height = 2 * _LINE + rows * high + text + (_PLOTS if plots else 0) + _MARGIN
    figure = Figure(figsize=(_WIDTH / _DPI, height / _DPI), dpi=_DPI)
    top = height - 2 * _LINE
    _write(figure, height - 8, _summary(views, title), weight="bold", size=11)
    left = (_WIDTH - columns * wide + _GAP) // 2
    for place, (view, image) in enumerate(zip(order, small, strict=True)):
        row, column = divmod(place, columns)
        ax = _place(
            figure, left + column * wide, top - (row + 1) * high + _GAP, wide - _GAP, high - _GAP
        )
        _draw_view(ax, image, angles[view], included[view], _word(views, view))
    bottom = top - rows * high - _MARGIN
    for number, line in enumerate(lines):
        _write(figure, bottom - number * _LINE, line, size=9.5)
    for number, plot in enumerate(plots):
        share = _WIDTH / len(plots)
        ax = _place(figure, number * share + 80, 50, min(share - 105, 620), _PLOTS - 100)
        plot(ax)
    target = Path(path).expanduser().resolve()
    with write_whole(target) as temporary:
        # Without the name of the software equal pictures are equal files.
        figure.savefig(temporary, format="png", dpi=_DPI, metadata={"Software": None})
    return target


def _thumbnails(views: xr.Dataset, order: NDArray[np.intp]) -> tuple[list[Image], int]:
    """Return the views in order, averaged down to the size they are shown in, and the columns."""
    height, width = views.sizes["y"], views.sizes["x"]
    count = len(order)
    # The montage is about half as high as wide, and its last row as full as can be.
    usual = max(5, int(np.ceil(np.sqrt(2 * count * height / width))))
    columns = min(range(usual, usual + 3), key=lambda number: (-count % number, number))
    columns = min(count, columns)
    shown = _shown((height, width), columns)
    factor = max(1, height // shown[0], width // shown[1])
    images = views["images"]
    small = dask.compute(*(reduced(images.isel(tilt=int(view)), factor) for view in order))
    return [image.values for image in small], columns


def _shown(shape: tuple[int, ...], columns: int) -> tuple[int, int]:
    """Return the (y, x) pixels of the picture in which a view is shown."""
    width = min((_WIDTH - 2 * _MARGIN) / columns - _GAP, _THUMBNAIL)
    return int(min(width * shape[0] / shape[1], 2 * _THUMBNAIL)), int(width)


def _summary(views: xr.Dataset, title: str) -> str:
    excluded = int(np.count_nonzero(~views["included"].values))
    angles = views["tilt_angle"].values
    nanometre = float(views.attrs["pixel_size"]) / 10
    words = [title] if title else []
    words.append(f"{len(angles)} views from {angles.min():+.1f}° to {angles.max():+.1f}°")
    words.append(f"{views.sizes['x'] * nanometre:.3g} x {views.sizes['y'] * nanometre:.3g} nm")
    words.append(f"{excluded} left out" if excluded else "none left out")
    return "   ".join(words)


def _word(views: xr.Dataset, view: int) -> str:
    """Return the first words of the reason for which a view is left out."""
    if bool(views["included"][view]) or "reason" not in views:
        return ""
    if "has_image" in views and not views["has_image"].values[view]:
        return "no image"
    return shorten(str(views["reason"].values[view]).split(":")[0], 24, placeholder="…")


def _listed(views: xr.Dataset, order: NDArray[np.intp]) -> list[str]:
    """Return a line for each view that is left out for a reason."""
    if "reason" not in views:
        return []
    reasons, angles = views["reason"].values, views["tilt_angle"].values
    lines = [
        shorten(f"{angles[view]:+.1f}°  {reasons[view]}", _LETTERS, placeholder=" …")
        for view in order
        if not views["included"].values[view] and reasons[view]
    ]
    if len(lines) > _REASONS:
        lines[_REASONS - 1 :] = [f"and {len(lines) - _REASONS + 1} more"]
    return lines


def _place(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Return axes at a place of the figure, all in pixels."""
    full = figure.bbox
    return figure.add_axes(
        (left / full.width, bottom / full.height, width / full.width, height / full.height)
    )


def _write(figure: Figure, top: float, text: str, **style: Any) -> None:
    figure.text(_MARGIN / figure.bbox.width, top / figure.bbox.height, text, va="top", **style)


def _draw_view(ax: Axes, image: Image, angle: float, included: bool, word: str) -> None:
    black, white = contrast_limits(image)
    ax.imshow(image, cmap="gray", vmin=black, vmax=white, origin="lower", aspect="auto")
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(not included)
    ax.spines[:].set(color=_EXCLUDED, linewidth=3)
    add_label(ax, f"{angle:+.1f}°")
    if word:
        ax.text(
            0.5, 0.03, word, transform=ax.transAxes, ha="center", va="bottom", color="white",
            size=9, weight="bold", bbox={"facecolor": _EXCLUDED, "edgecolor": "none", "pad": 2},
        )  # fmt: skip


def _plot_tracks(ax: Axes, y: Image, x: Image, angles: Image, included: Image) -> None:
    """Plot where the specimen went during each view, from its place in the first frame.

    The plot is as large as the included views need; the others may leave it.
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    colours = colormaps["viridis"]
    scale = Normalize(angles.min(), angles.max() + 1e-6)
    farthest = 1.0
    for along_y, along_x, angle, counts in zip(y, x, angles, included, strict=True):
        known = np.isfinite(along_y) & np.isfinite(along_x)
        if known.any():
            path_x, path_y = along_x[known] - along_x[known][0], along_y[known] - along_y[known][0]
            colour = colours(scale(angle))
            ax.plot(path_x, path_y, color=colour, linewidth=1)
            ax.plot(path_x[-1:], path_y[-1:], "o" if counts else "x", color=colour, markersize=3.5)
            if counts or not included.any():
                farthest = max(farthest, np.abs([path_x, path_y]).max())
    limits = (-1.1 * farthest, 1.1 * farthest)
    ax.set(xlim=limits, ylim=limits, aspect="equal")
    ax.axhline(0, color="0.85", linewidth=0.8, zorder=0)
    ax.axvline(0, color="0.85", linewidth=0.8, zorder=0)
    ax.set_title("motion during each view", size=10, loc="left")
    ax.set(xlabel="x (Å)", ylabel="y (Å)")
    bar = ax.figure.colorbar(ScalarMappable(scale, colours), ax=ax, fraction=0.05, pad=0.02)
    bar.ax.set_title("tilt (°)", size=9)


def _plot_travel(ax: Axes, y: Image, x: Image, angles: Image, included: Image) -> None:
    """Plot the length of the path during each view."""
    steps = np.hypot(np.diff(y, axis=1), np.diff(x, axis=1))
    known = np.isfinite(y).any(axis=1)
    _scatter(ax, np.where(known, np.nansum(steps, axis=1), np.nan), angles, included)
    ax.set(ylabel="length of the path (Å)")
    ax.set_ylim(bottom=0)
    _add_legend(ax)


def _plot_intensity(
    ax: Axes, mean: Image, expected: Image | None, angles: Image, included: Image
) -> None:
    if expected is not None and np.isfinite(expected).any():
        order = np.argsort(angles, kind="stable")
        ax.plot(angles[order], expected[order], color="0.6", linewidth=1.5, label="expected")
    _scatter(ax, mean, angles, included)
    ax.set(ylabel="mean intensity")
    if np.nanmin(mean) >= 0:
        ax.set_ylim(0, 1.08 * max(np.nanmax(mean), 1e-9))
    _add_legend(ax)


def _plot_curves(ax: Axes, curves: Mapping[str, ArrayLike], angles: Image, included: Image) -> None:
    order = np.argsort(angles, kind="stable")
    for number, (name, given) in enumerate(curves.items()):
        values = np.asarray(given, np.float64)
        if not np.isfinite(values).any():
            continue
        ax.plot(angles[order], values[order], ".-", color=f"C{number}", linewidth=1, label=name)
        ax.plot(angles[~included], values[~included], "x", color=_EXCLUDED)
    ax.set(xlabel="tilt angle (degrees)")
    _add_legend(ax)


def _plot_defocus(ax: Axes, ctf: xr.Dataset, angles: Image, included: Image) -> None:
    """Plot the mean defocus of the views; hollow where it is not to be trusted."""
    defocus = (ctf["defocus_u"].values + ctf["defocus_v"].values) / 2e4
    doubtful = included & ~trusted_views(ctf)
    _scatter(ax, np.where(doubtful, np.nan, defocus), angles, included)
    if doubtful.any():
        ax.plot(
            angles[doubtful], defocus[doubtful], "o", color=_INCLUDED, markersize=4,
            markerfacecolor="none", label="not to be trusted",
        )  # fmt: skip
    ax.set(ylabel="mean defocus (µm)")
    _add_legend(ax)


def _scatter(ax: Axes, values: Image, angles: Image, included: Image) -> None:
    ax.plot(angles[included], values[included], ".", color=_INCLUDED, label="included")
    if not included.all():
        ax.plot(angles[~included], values[~included], "x", color=_EXCLUDED, label="left out")
    ax.set_xlabel("tilt angle (degrees)")


def _add_legend(ax: Axes) -> None:
    """Name the marks above the axes, where they hide nothing."""
    ax.legend(
        frameon=False, fontsize=9, ncols=3, loc="lower left", bbox_to_anchor=(0, 1),
        borderaxespad=0.2, columnspacing=1, handletextpad=0.4,
    )  # fmt: skip

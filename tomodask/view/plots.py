"""Plots onto Matplotlib axes; without axes, onto a new figure of pyplot, as in a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tomodask.errors import ParameterError
from tomodask.model import validate
from tomodask.view.slices import Orthoslices, contrast_limits, read_orthoslices, reduced

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.text import Text
    from numpy.typing import NDArray

__all__ = [
    "add_label",
    "add_scale_bar",
    "draw_orthoslices",
    "plot_orthoslices",
    "plot_shifts",
    "plot_tilts",
    "plot_view",
    "scale_bar_length",
]

#: Edge to which an image is averaged down before it is drawn.
_VIEW_PIXELS = 1024


def plot_tilts(tilt_series: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Plot how a series was recorded: tilt angles in the order they were taken.

    Parameters
    ----------
    tilt_series
        With "tilt_angle" and "included"; against "dose", else "order", else the place in the
        stack, whichever is recorded. Excluded views are crosses.
    ax
        Axes to draw on.
    """
    ax = _axes(ax)
    angles, included = tilt_series["tilt_angle"].values, tilt_series["included"].values
    name, label = next(
        (name, label)
        for name, label in (
            ("dose", "dose before the view (e/Å²)"),
            ("order", "acquisition order"),
            ("section", "section of the stack"),
        )
        if name in tilt_series
    )
    place = tilt_series[name].values
    taken = np.argsort(place, kind="stable")
    ax.plot(place[taken], angles[taken], color="0.8", linewidth=1, zorder=1)
    ax.scatter(place[included], angles[included], s=18, color="C0", zorder=2, label="included")
    if not included.all():
        ax.scatter(
            place[~included], angles[~included], s=30, color="C3", marker="x", zorder=2,
            label="excluded",
        )  # fmt: skip
        ax.legend(frameon=False)
    ax.set(xlabel=label, ylabel="tilt angle (degrees)")
    return ax


def plot_shifts(alignment: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Plot the shifts of an alignment, and how well each view fitted where that is known.

    Parameters
    ----------
    alignment
        With "tilt_angle", "shift_x" and "shift_y"; "score" gets a scale of its own at the right.
    ax
        Axes to draw on.
    """
    validate(alignment, "alignment", source="alignment")
    ax = _axes(ax)
    order = np.argsort(alignment["tilt_angle"].values, kind="stable")
    angles = alignment["tilt_angle"].values[order]
    for name, colour in (("shift_x", "C0"), ("shift_y", "C1")):
        shift = alignment[name].values[order] / 10
        ax.plot(angles, shift, ".-", color=colour, linewidth=1, label=name[-1])
    ax.set(xlabel="tilt angle (degrees)", ylabel="shift in the raw image (nm)")
    handles, labels = ax.get_legend_handles_labels()
    if "score" in alignment:
        right = ax.twinx()
        scores = alignment["score"].values[order]
        (points,) = right.plot(angles, scores, "^", color="0.6", markersize=4, label="score")
        right.set(ylabel="score", ylim=(min(0.0, np.nanmin(scores, initial=0.0)), 1.0))
        handles, labels = [*handles, points], [*labels, "score"]
        # The shifts stay on top of the scores.
        ax.set_zorder(right.get_zorder() + 1)
        ax.patch.set_visible(False)
    ax.legend(handles, labels, frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    return ax


def plot_view(tilt_series: xr.Dataset, index: int, ax: Axes | None = None) -> Axes:
    """Plot one image of a tilt series.

    Parameters
    ----------
    tilt_series
        With "images" (tilt, y, x), lazy or not; only the one image is read.
    index
        Which view, from 0.
    ax
        Axes to draw on, in nm from the image centre, y up.

    Raises
    ------
    ParameterError
        If there is no such view.
    """
    validate(tilt_series, "tilt_series", source="tilt series")
    views = tilt_series.sizes["tilt"]
    if not 0 <= index < views:
        raise ParameterError(f"view {index}: the series has views 0 to {views - 1}")
    view = tilt_series.isel(tilt=index)
    image = view["images"]
    factor = -(-max(image.shape) // _VIEW_PIXELS)
    pixels = reduced(image.compute(), factor).values
    pixel = float(tilt_series.attrs["pixel_size"]) * factor / 10
    # Half a pixel before the first pixel's centre, which is (n - 1) / 2 from the image's.
    edges = [-size / 2 * pixel / factor for size in image.shape]
    ax = _axes(ax)
    _draw(ax, pixels, contrast_limits(pixels), (edges[1], edges[0]), pixel)
    add_scale_bar(ax)
    ax.set(xticks=[], yticks=[])
    title = f"view {index}: {float(view['tilt_angle']):+.1f}°"
    if "dose" in view:
        title += f" after {float(view['dose']):.1f} e/Å²"
    ax.set_title(title + ("" if bool(view["included"]) else " (excluded)"))
    return ax


def plot_orthoslices(
    volume: xr.DataArray,
    axes: tuple[Axes, Axes, Axes] | None = None,
    *,
    z: int | None = None,
    y: int | None = None,
    x: int | None = None,
    thickness: int = 1,
) -> tuple[Axes, Axes, Axes]:
    """Plot three slices of a volume: XY, below it XZ, at its right YZ.

    Parameters
    ----------
    volume
        (z, y, x) with coordinates in A, lazy or not; only the slices are read.
    axes
        Axes for the XY, XZ and YZ slice.
    z, y, x, thickness
        As in :func:`tomodask.view.slices.read_orthoslices`.

    Returns
    -------
    The three axes, in nm, y and z up.
    """
    slices = read_orthoslices(volume, z=z, y=y, x=x, thickness=thickness)
    if axes is None:
        axes = _orthoslice_axes(slices)
    draw_orthoslices(axes, slices)
    xy, xz, yz = axes
    xy.set_ylabel("y (nm)")
    xz.set(xlabel="x (nm)", ylabel="z (nm)")
    yz.set_xlabel("z (nm)")
    yz.tick_params(labelbottom=True)  # which a shared axis hides
    return axes


def draw_orthoslices(axes: tuple[Axes, Axes, Axes], slices: Orthoslices) -> None:
    """Draw slices that were read, in one grey scale, with their names and a scale bar.

    Parameters
    ----------
    axes
        For the XY, XZ and YZ slice; in nm, y and z up.
    slices
        From :func:`tomodask.view.slices.read_orthoslices`.
    """
    limits = contrast_limits(slices.xy, slices.xz, slices.yz)
    pixel = slices.pixel_size / 10
    z, y, x = (first / 10 - pixel / 2 for first in slices.first)
    panels = (slices.xy, slices.xz, slices.yz)
    for ax, panel, corner, name in zip(
        axes, panels, ((x, y), (x, z), (z, y)), ("XY", "XZ", "YZ"), strict=True
    ):
        _draw(ax, panel, limits, corner, pixel)
        add_label(ax, name)
    add_scale_bar(axes[0])


def scale_bar_length(width: float) -> float:
    """Return the longest of 1, 2, 5, 10, ... that is at most a quarter of `width`."""
    decade = 10.0 ** np.floor(np.log10(width / 4))
    return float(decade * max(step for step in (1, 2, 5) if step * decade <= width / 4))


def add_scale_bar(ax: Axes) -> None:
    """Draw a scale bar in the lower left corner of axes in nm."""
    from matplotlib.patches import Rectangle

    (left, right), (bottom, _) = ax.get_xlim(), ax.get_ylim()
    length = scale_bar_length(right - left)
    margin, height = 0.03 * (right - left), 0.008 * (right - left)
    bar = Rectangle(
        (left + margin, bottom + margin), length, height, facecolor="white", edgecolor="black",
        linewidth=0.8,
    )  # fmt: skip
    bar.set_gid("scale bar")
    ax.add_patch(bar)
    label = ax.annotate(
        f"{length:g} nm", (left + margin + length / 2, bottom + margin + height), (0, 2),
        textcoords="offset points", ha="center", va="bottom",
    )  # fmt: skip
    _outline(label)


def add_label(ax: Axes, text: str) -> None:
    """Write a few words into the upper left corner of an image."""
    _outline(
        ax.annotate(
            text, (0, 1), (4, -4), xycoords="axes fraction", textcoords="offset points", va="top"
        )
    )


def _outline(text: Text) -> None:
    """Make a text readable on any grey."""
    from matplotlib.patheffects import withStroke

    text.set(
        color="white", weight="bold", path_effects=[withStroke(linewidth=2, foreground="black")]
    )


def _draw(
    ax: Axes,
    image: NDArray[Any],
    limits: tuple[float, float],
    corner: tuple[float, float],
    pixel: float,
) -> None:
    """Draw an image (vertical up, horizontal) in greys, its lower left corner at `corner`."""
    rows, columns = image.shape
    ax.imshow(
        image, cmap="gray", vmin=limits[0], vmax=limits[1], origin="lower", aspect="equal",
        extent=(corner[0], corner[0] + columns * pixel, corner[1], corner[1] + rows * pixel),
    )  # fmt: skip


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(layout="constrained")[1]


def _orthoslice_axes(slices: Orthoslices) -> tuple[Axes, Axes, Axes]:
    """Return axes of a new figure in which the slices have one scale."""
    import matplotlib.pyplot as plt

    depth, rows, columns = slices.shape
    inch = 7 / (columns + depth)
    figure, axes = plt.subplots(
        2, 2, sharex="col", sharey="row", layout="constrained",
        figsize=((columns + depth) * inch + 1, (rows + depth) * inch + 1),
        width_ratios=(columns, depth), height_ratios=(rows, depth),
    )  # fmt: skip
    figure.delaxes(axes[1, 1])
    return axes[0, 0], axes[1, 0], axes[0, 1]

"""Pictures as PNG files: pixel for pixel, whole or absent, drawn without a display."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import dask
import numpy as np

from tomodask.engine.files import write_whole
from tomodask.errors import DataError
from tomodask.model import validate
from tomodask.view.plots import add_label, draw_orthoslices
from tomodask.view.slices import contrast_limits, level_for, read_orthoslices, reduced

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from tomodask.view.slices import Orthoslices

__all__ = ["level_for", "orthoslices_png", "tilt_montage_png"]

_DPI = 100
#: Pixels around the slices, for the caption and the names of the axes, and between them.
_LEFT, _BOTTOM, _TOP, _RIGHT, _GAP = 28, 28, 30, 12, 10
#: A small volume is enlarged to about this many pixels, so that it can be seen.
_SMALLEST = 900
_THUMBNAIL = 192
#: Pixels around each small view, and the least width that holds a caption.
_FRAME, _CAPTION_WIDTH = 2, 420


def orthoslices_png(
    volume: xr.DataArray,
    path: str | Path,
    *,
    z: int | None = None,
    y: int | None = None,
    x: int | None = None,
    thickness: int = 1,
    max_pixels: int = 1600,
) -> Path:
    """Write a picture of three slices of a volume: XY, below it XZ, at its right YZ.

    All are in one grey scale, dark where values are low, with y and z up and one bar for their
    scale. Ticks beside a slice mark where the others cross it.

    Parameters
    ----------
    volume
        (z, y, x) with coordinates in A, lazy or not; only the slices are read. For a large stored
        tomogram give a level of the size of the picture, from :func:`level_for`.
    path
        Of the PNG file; replaced when it exists.
    z, y, x
        Voxel where the slices cross; the central one by default.
    thickness
        Number of slices that are averaged, against noise.
    max_pixels
        Edge of the picture, about; larger slices are averaged down by a whole number.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ParameterError
        If the point lies outside the volume.
    SchemaError
        If it is not a volume with cubic voxels.
    """
    slices = read_orthoslices(volume, z=z, y=y, x=x, thickness=thickness, max_pixels=max_pixels)
    depth, rows, columns = slices.shape
    zoom = max(1, _SMALLEST // (max(rows, columns) + depth))
    width, height, deep = columns * zoom, rows * zoom, depth * zoom
    figure = _figure(
        max(_LEFT + width + _GAP + deep + _RIGHT, _CAPTION_WIDTH),
        _BOTTOM + deep + _GAP + height + _TOP,
    )
    above, beside = _BOTTOM + deep + _GAP, _LEFT + width + _GAP
    xy = _pixel_axes(figure, _LEFT, above, width, height)
    xz = _pixel_axes(figure, _LEFT, _BOTTOM, width, deep)
    yz = _pixel_axes(figure, beside, above, deep, height)
    draw_orthoslices((xy, xz, yz), slices)
    _mark_crossings(xy, xz, yz, slices)
    xy.set_ylabel("y →", labelpad=6)
    xz.set_ylabel("z →", labelpad=6)
    xz.set_xlabel("x →", labelpad=4)
    yz.set_xlabel("z →", labelpad=4)
    at = [f"{axis} = {value / 10:.1f}" for axis, value in zip("zyx", slices.point, strict=True)]
    _caption(
        figure, _LEFT,
        f"{', '.join(at)} nm; {slices.thickness / 10:.3g} nm thick; "
        f"{slices.pixel_size / 10:.3g} nm/pixel",
    )  # fmt: skip
    return _save(figure, path)


def tilt_montage_png(tilt_series: xr.Dataset, path: str | Path, *, max_pixels: int = 1600) -> Path:
    """Write a picture of all views of a tilt series, small, by tilt angle.

    Each view has its own grey scale, since thick ice darkens the high tilts; excluded views are
    framed in red.

    Parameters
    ----------
    tilt_series
        With "images" (tilt, y, x), lazy or not, "tilt_angle" and "included".
    path
        Of the PNG file; replaced when it exists.
    max_pixels
        Edge of the picture, about.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    SchemaError
        If it is not a tilt series.
    DataError
        If it has no views.
    """
    validate(tilt_series, "tilt_series", source="tilt series")
    views, height, width = (tilt_series.sizes[dim] for dim in ("tilt", "y", "x"))
    if not views:
        raise DataError("the tilt series has no views; import a stack that has images")
    columns = min(views, int(np.ceil(np.sqrt(views * height / width))))
    rows = -(-views // columns)
    factor = max(
        -(-columns * width // max_pixels),
        -(-rows * height // max_pixels),
        -(-max(width, height) // _THUMBNAIL),
    )
    order = np.argsort(tilt_series["tilt_angle"].values, kind="stable")
    images = tilt_series["images"]
    thumbnails = dask.compute(*(reduced(images.isel(tilt=int(view)), factor) for view in order))
    high, wide = (size + 2 * _FRAME for size in thumbnails[0].shape)
    figure = _figure(max(columns * wide, _CAPTION_WIDTH), rows * high + _TOP)
    included = tilt_series["included"].values
    for place, (view, thumbnail) in enumerate(zip(order, thumbnails, strict=True)):
        row, column = divmod(place, columns)
        left, bottom = column * wide + _FRAME, (rows - 1 - row) * high + _FRAME
        ax = _pixel_axes(figure, left, bottom, wide - 2 * _FRAME, high - 2 * _FRAME)
        black, white = contrast_limits(thumbnail.values)
        ax.imshow(
            thumbnail.values, cmap="gray", vmin=black, vmax=white, origin="lower", aspect="auto"
        )
        add_label(ax, f"{float(tilt_series['tilt_angle'][view]):+.1f}°")
        if not included[view]:
            ax.spines[:].set(visible=True, color="red", linewidth=2)
    nanometre = float(tilt_series.attrs["pixel_size"]) / 10
    words = f"{views} views of {width * nanometre:.3g} x {height * nanometre:.3g} nm"
    if not included.all():
        words += f", {np.count_nonzero(~included)} excluded (red)"
    _caption(figure, _FRAME, words)
    return _save(figure, path)


def _figure(width: int, height: int) -> Figure:
    """Return a figure of so many pixels, of no interest to pyplot: any thread may draw it."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)


def _pixel_axes(figure: Figure, left: int, bottom: int, width: int, height: int) -> Axes:
    """Return bare axes of so many pixels at a place of the figure."""
    full = figure.bbox
    ax = figure.add_axes(
        (left / full.width, bottom / full.height, width / full.width, height / full.height)
    )
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    return ax


def _caption(figure: Figure, left: int, text: str) -> None:
    """Write a line above the pictures."""
    figure.text(left / figure.bbox.width, 1 - 8 / figure.bbox.height, text, va="top")


def _mark_crossings(xy: Axes, xz: Axes, yz: Axes, slices: Orthoslices) -> None:
    """Mark beside each slice, in the gaps, where the others cross it."""
    z, y, x = (value / 10 for value in slices.point)
    xy.set(xticks=[x], yticks=[y])
    xz.set(xticks=[x], yticks=[z])
    yz.set(xticks=[z], yticks=[y])
    for ax in (xy, xz, yz):
        ax.tick_params(length=5, width=1.2, color="C3", labelbottom=False, labelleft=False)


def _save(figure: Figure, path: str | Path) -> Path:
    target = Path(path).expanduser().resolve()
    with write_whole(target) as temporary:
        # Without the name of the software equal pictures are equal files.
        figure.savefig(temporary, format="png", dpi=_DPI, metadata={"Software": None})
    return target

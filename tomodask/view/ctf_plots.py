"""Contrast transfer in pictures: the rings of every view beside their fit, and the series."""

from __future__ import annotations

from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from tomodask.errors import DataError, ParameterError
from tomodask.model import validate
from tomodask.model.ctf_facts import ctf_facts, trusted_views
from tomodask.view.ctf_drawing import (
    BLUE,
    DOUBT,
    ORANGE,
    draw_profile,
    draw_rings,
    draw_spectrum,
    frequency_limit,
    known_value,
)
from tomodask.view.ctf_words import handedness_words, micrometres

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["plot_ctf_series", "plot_ctf_sheet", "plot_ctf_view", "save_ctf_pictures"]

#: Resolution of the figures, dots per inch, and their width, inches: 1500 pixels.
_DPI, _WIDTH = 150, 10.0
#: Edges of pictures of spectra, pixels.
_LARGE, _SMALL = 700, 196
#: Most spectra side by side on a sheet, and pixels above each for its words, and above all.
_COLUMNS, _CAPTION, _HEAD = 7, 40, 30
#: Letters of a line of a warning.
_LETTERS = 120


def plot_ctf_view(ctf: xr.Dataset, view: int, *, tilt_angle: float | None = None) -> Figure:
    """Plot the rings of one view and their fit.

    At the left the power spectrum, its right half replaced by the fit's squared transfer, all
    rings of one contrast (see :func:`tomodask.view.ctf_rings.measured_rings`): in a good fit they
    pass from half to half unbroken. Ellipses mark the first zeros, a circle how far the rings are
    followed. At the right the power along the rings over its background, and below how well it
    agrees with the fit from frequency to frequency.

    Parameters
    ----------
    ctf
        Estimated contrast transfer, with "spectrum" and "profile".
    view
        Which view, from 0.
    tilt_angle
        Of the view, degrees, for the title.

    Raises
    ------
    ParameterError
        If there is no such view.
    DataError
        If there are no spectra, as where the table was imported.
    """
    _check(ctf, spectra=True)
    if not 0 <= view < ctf.sizes["tilt"]:
        raise ParameterError(f"view {view}: the CTF is of views 0 to {ctf.sizes['tilt'] - 1}")
    one = ctf.isel(tilt=view).load()
    trusted = bool(trusted_views(ctf)[view])
    limit = frequency_limit(one, one.get("fit_resolution", np.nan))
    figure = _figure(5.6)
    axes = figure.subplot_mosaic(
        [["rings", "profile"], ["rings", "match"]], width_ratios=(1, 1.12), height_ratios=(3, 1)
    )
    axes["profile"].sharex(axes["match"])
    draw_rings(axes["rings"], one, limit, _LARGE, trusted=trusted)
    draw_profile(axes["profile"], axes["match"], one, limit)
    name = f"view {view}" + ("" if tilt_angle is None else f", {tilt_angle:+.1f}°")
    focus, quality = _fit_words(one)
    colour = "black" if trusted else DOUBT
    quality = quality if trusted else f"not to be trusted:  {quality}"
    _head(figure, f"{name}:  {focus}", [(quality, colour)], colour)
    return figure


def plot_ctf_series(
    ctf: xr.Dataset, tilt_angle: ArrayLike, *, included: ArrayLike | None = None
) -> Figure:
    """Plot the contrast transfer of a series against the tilt angle, and say its handedness.

    Defocus in the two principal directions, the astigmatism's length and direction, the resolution
    to which rings are followed, and the score and confidence. Bars are 90 % intervals. Hollow
    marks are views that are excluded or are not to be trusted.

    Parameters
    ----------
    ctf
        Contrast transfer; of one that was imported only what it holds is drawn.
    tilt_angle
        (tilt,) degrees.
    included
        (tilt,) which views are not curated out; all by default.

    Raises
    ------
    ParameterError
        If `tilt_angle` or `included` are not of so many views.
    """
    _check(ctf)
    angles = _per_view(ctf, "tilt_angle", tilt_angle)
    used = np.ones(len(angles), bool) if included is None else _per_view(ctf, "included", included)
    solid = trusted_views(ctf) & used.astype(bool)
    facts = ctf_facts(ctf)
    figure = _figure(7.0)
    axes = figure.subplot_mosaic(
        [["defocus", "length"], ["defocus", "direction"], ["resolution", "score"]], sharex=True
    )
    _plot_defocus(axes["defocus"], ctf, angles, solid)
    _plot_astigmatism(axes["length"], axes["direction"], ctf, angles, solid)
    if "fit_resolution" in ctf:
        resolution = ctf["fit_resolution"].values
        _marks(axes["resolution"], angles, resolution, None, solid, BLUE, "o")
        _fit_to(axes["resolution"], resolution, None, solid)
    axes["resolution"].set_ylabel("rings followed to (Å)")
    for name, colour, mark in (("score", BLUE, "o"), ("confidence", ORANGE, "^")):
        if name in ctf:
            _marks(axes["score"], angles, ctf[name].values, None, solid, colour, mark, name)
    axes["score"].set(ylabel="score, confidence", ylim=(-0.05, 1.08))
    _add_legend(axes["score"])
    for name in ("resolution", "score"):
        axes[name].set_xlabel("tilt angle (degrees)")
    for ax in axes.values():
        ax.grid(color="0.92", linewidth=0.8)
        ax.set_axisbelow(True)
    trust = f"{facts['trusted_views']} of {facts['views']} views to be trusted"
    marks = "hollow: excluded, or not to be trusted; bars: 90 % intervals"
    warnings = [line for text in facts["warnings"] for line in wrap(text, _LETTERS)]
    _head(
        figure,
        f"{trust};  {handedness_words(facts)}",
        [(marks, "0.35"), *((line, DOUBT) for line in warnings)],
    )
    return figure


def plot_ctf_sheet(
    ctf: xr.Dataset, tilt_angle: ArrayLike, *, included: ArrayLike | None = None
) -> Figure:
    """Plot the spectra of all views, small, each against its fit, in order of their tilt.

    As in :func:`plot_ctf_view`, all to one frequency; with defocus and the resolution to which
    rings are followed. Views that are not to be trusted are framed, those excluded are named so.

    Parameters
    ----------
    ctf
        Estimated contrast transfer, with "spectrum".
    tilt_angle, included
        As in :func:`plot_ctf_series`.

    Raises
    ------
    ParameterError
        If `tilt_angle` or `included` are not of so many views.
    DataError
        If there are no spectra, as where the table was imported.
    """
    _check(ctf, spectra=True)
    angles = _per_view(ctf, "tilt_angle", tilt_angle)
    used = np.ones(len(angles), bool) if included is None else _per_view(ctf, "included", included)
    trusted = trusted_views(ctf)
    resolution = ctf["fit_resolution"].values[trusted] if "fit_resolution" in ctf else np.array([])
    resolution = resolution[np.isfinite(resolution)]
    limit = frequency_limit(ctf, np.median(resolution) if len(resolution) else np.nan)
    # The last row is as full as can be.
    columns = min(range(_COLUMNS, _COLUMNS - 3, -1), key=lambda number: -len(angles) % number)
    rows = -(-len(angles) // columns)
    figure = _figure((_HEAD + rows * (_SMALL + _CAPTION)) / _DPI)
    width, height = figure.bbox.size
    words = f"spectra to {1 / limit:.3g} Å: measured at the left, fitted at the right of each"
    if not trusted.all():
        words += f"; {np.count_nonzero(~trusted)} not to be trusted (framed)"
    figure.text(8 / width, 1 - 5 / height, words, va="top", fontsize=8.5)
    for place, view in enumerate(np.argsort(angles, kind="stable")):
        row, column = divmod(place, columns)
        middle = (column + 0.5) * width / columns
        top = height - _HEAD - row * (_SMALL + _CAPTION)
        ax = figure.add_axes(
            ((middle - _SMALL / 2) / width, (top - _CAPTION - _SMALL) / height,
             _SMALL / width, _SMALL / height)
        )  # fmt: skip
        one = ctf.isel(tilt=int(view)).load()
        draw_spectrum(ax, one, limit, _SMALL)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set(visible=not trusted[view], color=DOUBT, linewidth=1.5)
        title = f"{view}: {angles[view]:+.1f}°" + ("" if used[view] else ", excluded")
        style: dict[str, Any] = {"color": "black" if trusted[view] else DOUBT, "fontsize": 7}
        for below, text, weight in ((6, title, "bold"), (22, _short_words(one), "normal")):
            figure.text(
                middle / width, (top - below) / height, text, va="top", ha="center",
                weight=weight, **style,
            )  # fmt: skip
    return figure


def save_ctf_pictures(
    ctf: xr.Dataset,
    tilt_angle: ArrayLike | None,
    folder: str | Path,
    *,
    included: ArrayLike | None = None,
) -> list[Path]:
    """Write the pictures of a series: ``series.png``, ``sheet.png``, ``view_000.png`` and on.

    Parameters
    ----------
    ctf
        Contrast transfer; of one without spectra only ``series.png`` is written.
    tilt_angle
        (tilt,) degrees; None for micrographs, of which there is no series to plot.
    folder
        Where they go; made. Files of these names are replaced.
    included
        As in :func:`plot_ctf_series`.

    Returns
    -------
    list of pathlib.Path
        The files, in this order.

    Raises
    ------
    ParameterError
        If `tilt_angle` or `included` are not of so many views.
    """
    from tomodask.view.figures import write_png

    out = Path(folder).expanduser().absolute()
    out.mkdir(parents=True, exist_ok=True)
    files = []
    angles: list[float | None] = [None] * ctf.sizes["tilt"]
    if tilt_angle is not None:
        angles = [float(angle) for angle in _per_view(ctf, "tilt_angle", tilt_angle)]
        whole = {"series": plot_ctf_series}
        if "spectrum" in ctf:
            whole["sheet"] = plot_ctf_sheet
        for name, plot in whole.items():
            figure = plot(ctf, tilt_angle, included=included)
            files.append(write_png(figure, out / f"{name}.png"))
    if "spectrum" in ctf:
        for view, angle in enumerate(angles):
            figure = plot_ctf_view(ctf, view, tilt_angle=angle)
            files.append(write_png(figure, out / f"view_{view:03d}.png"))
    return files


def _figure(height: float) -> Figure:
    from tomodask.view.figures import ShownFigure

    return ShownFigure(figsize=(_WIDTH, height), dpi=_DPI)


def _head(figure: Figure, title: str, lines: list[tuple[str, str]], colour: str = "black") -> None:
    """Write a bold line, and others in their colours, above what is plotted."""
    inch = figure.get_figheight()
    depth = 0.33 + 0.19 * len(lines)
    figure.set_layout_engine("constrained", rect=(0, 0, 1, 1 - depth / inch))
    figure.text(0.012, 1 - 0.1 / inch, title, va="top", fontsize=11, weight="bold", color=colour)
    for number, (line, shade) in enumerate(lines):
        top = 1 - (0.33 + 0.19 * number) / inch
        figure.text(0.012, top, line, va="top", fontsize=9.5, color=shade)


def _check(ctf: xr.Dataset, *, spectra: bool = False) -> None:
    validate(ctf, "ctf", source="CTF")
    missing = [name for name in ("spectrum", "profile") if spectra and name not in ctf]
    if missing:
        raise DataError(
            f"the CTF ({ctf.attrs.get('method')}) has no {missing[0]!r}; estimate it from the "
            "images to see their rings"
        )


def _per_view(ctf: xr.Dataset, name: str, values: ArrayLike) -> NDArray[Any]:
    found: NDArray[Any] = np.asarray(values)
    if found.shape != (ctf.sizes["tilt"],):
        raise ParameterError(
            f"{name} has shape {found.shape}: the CTF is of {ctf.sizes['tilt']} views"
        )
    return found


def _fit_words(one: xr.Dataset) -> tuple[str, str]:
    """Return what a fit found, and how good it is."""
    u, v = float(one["defocus_u"]), float(one["defocus_v"])
    focus = [f"defocus {micrometres((u + v) / 2, known_value(one, 'defocus_error'))} µm"]
    error = known_value(one, "astigmatism_error")
    bar = "" if error is None else f" ± {error / 10:.0f}"
    focus.append(
        f"astigmatism {abs(u - v) / 10:.0f}{bar} nm at {float(one['astigmatism_angle']):.0f}°"
    )
    if float(one["phase_shift"]):
        focus.append(f"phase shift {float(one['phase_shift']):.0f}°")
    quality = [
        text.format(value)
        for name, text in (
            ("fit_resolution", "rings followed to {:.3g} Å"),
            ("score", "score {:.2f}"),
            ("confidence", "confidence {:.2f}"),
        )
        if (value := known_value(one, name)) is not None
    ]
    if "fitted" in one and not bool(one["fitted"]):
        quality.append("defocus of its neighbours")
    return ", ".join(focus), ", ".join(quality)


def _short_words(one: xr.Dataset) -> str:
    mean = (float(one["defocus_u"]) + float(one["defocus_v"])) / 2
    resolution = known_value(one, "fit_resolution")
    return f"{micrometres(mean)} µm" + ("" if resolution is None else f", {resolution:.1f} Å")


def _plot_defocus(ax: Axes, ctf: xr.Dataset, angles: FloatArray, solid: NDArray[np.bool_]) -> None:
    error = ctf["defocus_error"].values / 1e4 if "defocus_error" in ctf else None
    both = []
    for name, colour, mark in (("U", BLUE, "^"), ("V", ORANGE, "v")):
        values = ctf[f"defocus_{name.lower()}"].values / 1e4
        both.append(values)
        _marks(ax, angles, values, error, solid, colour, mark, f"defocus {name}")
    ax.set(ylabel="defocus (µm)")
    _fit_to(ax, np.stack(both), error, solid)
    _add_legend(ax)


def _plot_astigmatism(
    length: Axes, direction: Axes, ctf: xr.Dataset, angles: FloatArray, solid: NDArray[np.bool_]
) -> None:
    values = np.abs(ctf["defocus_u"].values - ctf["defocus_v"].values)
    error = turn = None
    told = solid
    if "astigmatism_error" in ctf:
        error = ctf["astigmatism_error"].values
        # Where the vector may be zero its direction may be any.
        told = solid & (error < values)
        ratio = np.minimum(error / np.maximum(values, 1e-9), 1)
        turn = np.rad2deg(np.arcsin(ratio)) / 2
        error = error / 10
    _marks(length, angles, values / 10, error, solid, BLUE, "o")
    length.set(ylabel="astigmatism (nm)")
    _fit_to(length, values[None] / 10, error, solid)
    length.set_ylim(bottom=0)
    _marks(direction, angles, ctf["astigmatism_angle"].values, turn, told, BLUE, "o")
    direction.set(ylabel="its angle (degrees)", ylim=(-95, 95), yticks=(-90, -45, 0, 45, 90))


def _marks(
    ax: Axes, x: FloatArray, y: FloatArray, error: FloatArray | None, solid: NDArray[np.bool_],
    colour: str, mark: str, label: str | None = None,
) -> None:  # fmt: skip
    """Draw a value of each view, with bars; hollow and without bars what is not solid."""
    bars = None if error is None else error[solid]
    style: dict[str, Any] = {"color": colour, "linestyle": "none", "markersize": 4.5}
    ax.errorbar(x[solid], y[solid], bars, fmt=mark, elinewidth=1, label=label, **style)
    ax.plot(x[~solid], y[~solid], mark, markerfacecolor="white", **style)


def _fit_to(
    ax: Axes, values: FloatArray, error: FloatArray | None, solid: NDArray[np.bool_]
) -> None:
    """Show all values and the bars of the solid ones that are not much longer than most."""
    bars = np.zeros(values.shape[-1]) if error is None else np.where(solid, error, 0)
    if solid.any():
        bars = np.minimum(bars, 3 * np.nanmedian(bars[solid]))
    low, high = np.nanmin(values - bars), np.nanmax(values + bars)
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    ax.set_ylim(low - margin, high + margin)


def _add_legend(ax: Axes) -> None:
    """Name the marks above the axes, where they hide nothing."""
    if ax.get_legend_handles_labels()[0]:
        ax.legend(
            frameon=False, fontsize=9, ncols=2, loc="lower left", bbox_to_anchor=(0, 1),
            borderaxespad=0.2, columnspacing=1, handletextpad=0.4,
        )  # fmt: skip

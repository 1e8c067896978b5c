"""What a series holds, at a glance: HTML for notebooks, text for terminals."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from tomodask.model import views_of
from tomodask.model.ctf_facts import ctf_facts
from tomodask.view.ctf_words import ctf_rows
from tomodask.view.slices import voxel_size

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["SeriesSummary", "series_html", "series_text"]

#: Title of a part, and its rows of (name, value).
Part = tuple[str, list[tuple[str, str]]]


@dataclass(frozen=True, slots=True, eq=False)
class SeriesSummary:
    """A series that shows itself as a summary.

    Parameters
    ----------
    tree
        From ``tomodask.open``.
    """

    tree: xr.DataTree

    def __repr__(self) -> str:
        """Return the summary as text."""
        return series_text(self.tree)

    def _repr_html_(self) -> str:
        return series_html(self.tree)


def series_html(tree: xr.DataTree) -> str:
    """Summarise a series as HTML that needs nothing else; no pixels are read.

    Parameters
    ----------
    tree
        From ``tomodask.open``.
    """
    head = "text-align:left;padding:2px 16px 2px 0"
    rows = []
    for title, values in _parts(tree):
        rows.append(f'<tr><th colspan="2" style="{head};padding-top:8px">{escape(title)}</th></tr>')
        rows += [
            f'<tr><td style="{head}">{escape(name)}</td>'
            f'<td style="{head}">{escape(value)}</td></tr>'
            for name, value in values
        ]
    return f'<table class="tomodask-series">{"".join(rows)}</table>'


def series_text(tree: xr.DataTree) -> str:
    """Summarise a series as lines of text; no pixels are read.

    Parameters
    ----------
    tree
        From ``tomodask.open``.
    """
    lines = []
    for title, values in _parts(tree):
        lines.append(title)
        lines += [f"  {name:<12} {value}" for name, value in values]
    return "\n".join(lines)


def _parts(tree: xr.DataTree) -> list[Part]:
    series = views_of(tree)
    parts = [(f"Tilt series {tree.name or ''}".rstrip(), _series_rows(series))]
    if "ctf" in tree.children:
        parts.append(("CTF", ctf_rows(ctf_facts(tree["ctf"].to_dataset()))))
    for title, group, describe in (
        ("Alignments", "alignments", _alignment_words),
        ("Tomograms", "tomograms", _tomogram_words),
    ):
        if tree.children.get(group):
            nodes = tree[group].children.items()
            parts.append((title, [(name, describe(node)) for name, node in nodes]))
    return parts


def _series_rows(series: xr.Dataset) -> list[tuple[str, str]]:
    angles = series["tilt_angle"].values
    excluded = int(np.count_nonzero(~series["included"].values))
    axis = series.attrs.get("tilt_axis_angle")
    rows = [
        ("views", f"{len(angles)}" + (f" ({excluded} excluded)" if excluded else "")),
        ("image size", _image_words(series)),
        ("pixel size", f"{series.attrs['pixel_size']:.4g} A"),
        ("tilt angles", f"{angles.min():+.1f} to {angles.max():+.1f} degrees"),
        ("tilt axis", "not recorded" if axis is None else f"{axis:.2f} degrees"),
    ]
    if "exposure" in series:
        rows.append(("total dose", f"{float(series['exposure'].sum()):.1f} e/A^2"))
    return rows


def _image_words(series: xr.Dataset) -> str:
    if "images" not in series:
        return "movies only, not corrected yet"
    halves = " with even and odd halves" if "even" in series else ""
    return f"{series.sizes['x']} x {series.sizes['y']} (x, y){halves}"


def _alignment_words(node: xr.DataTree) -> str:
    words = [str(node.attrs.get("method", "unknown method"))]
    words.append(f"tilt axis {float(node['tilt_axis_angle'].median()):.2f} degrees")
    if "score" in node and node["score"].notnull().any():
        words.append(f"mean score {float(node['score'].mean()):.3f}")
    return ", ".join(words)


def _tomogram_words(node: xr.DataTree) -> str:
    levels = node["full"].children
    finest = levels["0"].dataset["tomogram"]
    shape = " x ".join(str(finest.sizes[axis]) for axis in "xyz")
    return f"{shape} (x, y, z), {voxel_size(finest):.4g} A, {len(levels)} levels"

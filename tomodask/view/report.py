"""The picture of a series from its store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import xarray as xr

from tomodask.graph.preprocess import unaligned_stack
from tomodask.model import tilt_series_of
from tomodask.view.series_report import series_picture

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["series_png"]


def series_png(series: xr.DataTree, out: str | Path) -> Path:
    """Write a picture of a series: its views, what was left out and why, motion, scores, defocus.

    Parameters
    ----------
    series
        From ``tomodask.open``; with images.
    out
        PNG file; replaced when it exists.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ProductMissingError
        If the series has no images yet.
    """
    stack = unaligned_stack(series)
    views = xr.Dataset({"images": stack}, attrs=dict(tilt_series_of(series).attrs))
    motion = series["motion"].to_dataset() if "motion" in series.children else None
    curation = series["curation"].to_dataset() if "curation" in series.children else None
    ctf = series["ctf"].to_dataset() if "ctf" in series.children else None
    curves: dict[str, NDArray[np.float64]] = {}
    intensity = expected = None
    if curation is not None and "mean" in curation:
        intensity, expected = curation["mean"].values, curation["expected_mean"].values
        curves = {name: curation[name].values for name in ("correlation", "coverage")}
    return series_picture(
        views,
        out,
        title=str(series.name),
        motion=motion,
        intensity=intensity,
        expected=expected,
        curves=curves,
        ctf=ctf,
    )

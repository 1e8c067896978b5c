"""A tilt series made ready for alignment: cleaned, binned, normalised; as a lazy array."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
import xarray as xr
from dask.base import tokenize

from tomodask.errors import DataError, ParameterError, ProductMissingError
from tomodask.geometry import centred_coordinates
from tomodask.graph.inputs import edited_views, written_out
from tomodask.kernels.fourier_crop import cropped_shape, fourier_crop
from tomodask.model import provenance, tilt_series_of, views_with_image

if TYPE_CHECKING:
    import dask.array as da
    from numpy.typing import NDArray

__all__ = ["preprocess", "unaligned_stack"]

#: Names of the images of a series: the sums of all frames, and of the even and the odd ones.
Part = Literal["images", "even", "odd"]


def unaligned_stack(series: xr.DataTree, *, part: Part = "images") -> xr.DataArray:
    """Return the images of a series as they are: cleaned where `clean` was run, not aligned.

    Parameters
    ----------
    series
        From ``tomodask.open``.
    part
        "images", or their "even" or "odd" half.

    Returns
    -------
    xarray.DataArray
        (tilt, y, x) float32 of all views, excluded ones too, lazily. A view whose movie could not
        be used is NaN.

    Raises
    ------
    ProductMissingError
        If the series has no images yet, or no halves.
    """
    tilt_series = tilt_series_of(series)
    if part not in tilt_series:
        raise ProductMissingError(
            f"{series.name} has no {part} images: halves are made from movies ('tomodask motion')"
        )
    images = tilt_series[part]
    stack = images.copy(data=edited_views(images))
    cleaned = [] if stack.data.name == images.data.name else ["cleaning"]
    applied = [*tilt_series.attrs.get("applied", []), *cleaned]
    stack.attrs = {**images.attrs, "pixel_size": tilt_series.attrs["pixel_size"]}
    if applied:
        stack.attrs["applied"] = applied
    stack.encoding = {}
    return stack


def preprocess(
    series: xr.DataTree, *, binning: float = 1.0, normalize: bool = False, part: Part = "images"
) -> xr.DataArray:
    """Make a tilt series ready for alignment, lazily: cleaned, binned, normalised.

    Parameters
    ----------
    series
        From ``tomodask.open``.
    binning
        Pixel size over that of the images, >= 1; by cropping the Fourier transform.
    normalize
        Whether every view is brought to mean 0 and standard deviation 1.
    part
        "images", or their "even" or "odd" half.

    Returns
    -------
    xarray.DataArray
        (tilt, y, x) float32 of the included views, lazily, with coordinates in A from the image
        centre. ``attrs["applied"]`` says what was done; the store is as it was.

    Raises
    ------
    ProductMissingError
        If the series has no images yet, or no halves.
    ParameterError
        If the binning is below 1 or leaves no pixels.
    DataError
        If no view is included.
    """
    if not (np.isfinite(binning) and binning >= 1):
        raise ParameterError(f"binning {binning}: give a number >= 1")
    stack = unaligned_stack(series, part=part)
    views = np.intersect1d(
        np.flatnonzero(stack["included"].values), views_with_image(tilt_series_of(series))
    )
    if not len(views):
        raise DataError(f"{series.name} has no included views; include some ('tomodask curate')")
    raw = (stack.sizes["y"], stack.sizes["x"])
    shape, factor = (raw, 1.0) if binning == 1 else cropped_shape(raw, binning)
    pixel_size = float(stack.attrs["pixel_size"]) * factor
    done = [*(["binning"] if shape != raw else []), *(["normalization"] if normalize else [])]
    return xr.DataArray(
        _prepared(stack.data, views, shape, factor, normalize=normalize),
        dims=("tilt", "y", "x"),
        coords={
            **{name: values[views] for name, values in stack.coords.items()},
            "tilt": views,
            "y": ("y", centred_coordinates(shape[0], pixel_size)),
            "x": ("x", centred_coordinates(shape[1], pixel_size)),
        },
        name=part,
        attrs={
            "pixel_size": pixel_size,
            "applied": [*stack.attrs.get("applied", []), *done],
            "provenance": provenance(
                "preprocess", part=part, binning=factor, normalize=bool(normalize)
            ),
        },
    )


def _prepared(
    images: da.Array,
    views: NDArray[np.intp],
    shape: tuple[int, int],
    binning: float,
    *,
    normalize: bool,
) -> da.Array:
    name = f"preprocess-{tokenize(images.name, views, shape, binning, normalize)}"
    prepare = partial(_prepare, shape, binning, normalize)
    graph = {
        (name, t, 0, 0): (prepare, (images.name, int(view), 0, 0)) for t, view in enumerate(views)
    }
    return written_out(name, graph, images, ((1,) * len(views), (shape[0],), (shape[1],)))


def _prepare(
    shape: tuple[int, int], binning: float, normalize: bool, image: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return one image (1, y, x) binned and, if asked for, normalised."""
    prepared = fourier_crop(image[0], shape, binning)
    if normalize:
        deviation = prepared.std(dtype=np.float64)
        prepared = prepared - np.float32(prepared.mean(dtype=np.float64))
        prepared /= np.float32(deviation or 1.0)
    return prepared[None]

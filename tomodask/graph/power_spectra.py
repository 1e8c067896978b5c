"""Power spectra of a tilt series, to be looked at, as a lazy array."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import xarray as xr
from dask.base import tokenize

from tomodask.errors import ParameterError
from tomodask.geometry import height_gradient
from tomodask.graph.inputs import chosen_projection, edited_views, written_out
from tomodask.kernels.ctf.periodograms import mean_periodogram, tile_periodograms
from tomodask.kernels.ctf.spectra import tile_edge
from tomodask.kernels.ctf.tiles import TileGrid
from tomodask.model import handedness_of, provenance, tilt_series_of, transfers_at_origin, validate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomodask.kernels.ctf import Transfer

__all__ = ["power_spectra"]

By = Literal["view", "tile"]
#: The contrast transfer at a view's image centre, and how its defocus changes per A of raw x and y.
_Tilted = tuple["Transfer", tuple[float, float]]


def power_spectra(
    series: xr.DataTree,
    *,
    ctf: xr.Dataset | None = None,
    alignment: str | xr.Dataset | None = None,
    tile: int | None = None,
    by: By = "view",
) -> xr.DataArray:
    """Return power spectra of the views, or of the tiles of each view, lazily.

    Parameters
    ----------
    series
        From ``tomodask.open``.
    ctf
        Table of the contrast transfer by which the tiles of a view are rescaled; by default the
        series' own. Where there is none, or its handedness is not known, they are not.
    alignment
        Name of the alignment that says how the views are tilted, "none" for the angles and axis as
        recorded; by default the only one, or "none" where there is none yet.
    tile
        Pixels along an edge of a tile, even; by default about 1000 A, and at most 1024 pixels.
    by
        "view": the mean over the tiles of each view, every tile's spectrum stretched radially from
        its defocus to that of the image centre. "tile": those of all tiles, as they are.

    Returns
    -------
    xarray.DataArray
        Of all views, excluded ones too: (tilt, frequency_y, frequency_x) float32, or
        (tilt, tile, frequency_y, frequency_x) with the coordinates ``tile_x`` and ``tile_y``, A
        from the image centre. Frequencies are 1/A, of the raw image (y up), 0 at index
        ``tile // 2``. Values are the power over a smooth background, less one: Thon rings of the
        contrast's square root around 0. Dark or empty tiles have no part in the mean, and are NaN.
        ``attrs["rescaled"]`` says whether tiles were stretched.

    Raises
    ------
    ParameterError
        If `by` is neither, or the tile makes no sense for such images.
    ProductMissingError
        If the alignment asked for does not exist.
    DataError
        If the table of the contrast transfer is of another number of views.

    Notes
    -----
    Tiles overlap by half [1]_. A view's spectra by tile are about four times as large as its image.

    References
    ----------
    .. [1] Welch, P., The use of fast Fourier transform for the estimation of power spectra, IEEE
       Trans. Audio Electroacoust. 15 (1967) 70, doi:10.1109/TAU.1967.1161901.
    .. [2] Elferich, J., Kong, L., Zottig, X. and Grigorieff, N., CTFFIND5 provides improved insight
       into quality, tilt, and thickness of TEM samples, eLife 13 (2024) RP97227,
       doi:10.7554/eLife.97227 (tiles of a tilted view rescaled to one defocus).
    """
    if by not in get_args(By):
        raise ParameterError(f"power spectra by {by!r}: give 'view' or 'tile'")
    tilt_series = tilt_series_of(series)
    validate(tilt_series, "tilt_series", source=str(series.name))
    images = tilt_series["images"]
    pixel_size = float(tilt_series.attrs["pixel_size"])
    shape = (images.sizes["y"], images.sizes["x"])
    grid = TileGrid(shape, tile_edge(shape, pixel_size, tile))
    count = images.sizes["tilt"]
    tilted: list[_Tilted | None] = [None] * count
    if by == "view":
        tilted = _tilted_transfers(series, ctf, alignment) or tilted
    views = edited_views(images)
    size = grid.tile
    chunks: tuple[tuple[int, ...], ...] = ((1,) * count, (size,), (size,))
    if by == "tile":
        chunks = (chunks[0], (len(grid),), *chunks[1:])
    name = f"power-spectra-{tokenize(views.name, grid, pixel_size, by, tilted)}"
    graph = {
        (name, t, *(0,) * (len(chunks) - 1)): (
            partial(_view_spectrum, grid, pixel_size, tilted[t])
            if by == "view"
            else partial(_tile_spectra, grid),
            (views.name, t, 0, 0),
        )
        for t in range(count)
    }
    frequency = np.fft.fftshift(np.fft.fftfreq(size, pixel_size))
    coordinates: dict[str, Any] = {
        "tilt_angle": tilt_series["tilt_angle"],
        "included": tilt_series["included"],
        "frequency_y": ("frequency_y", frequency, {"units": "1/angstrom"}),
        "frequency_x": ("frequency_x", frequency, {"units": "1/angstrom"}),
    }
    if by == "tile":
        x, y = grid.centres(pixel_size).T
        coordinates |= {
            "tile_x": ("tile", x, {"units": "angstrom"}),
            "tile_y": ("tile", y, {"units": "angstrom"}),
        }
    rescaled = any(each is not None for each in tilted)
    return xr.DataArray(
        written_out(name, graph, views, chunks),
        dims=("tilt", *(("tile",) if by == "tile" else ()), "frequency_y", "frequency_x"),
        coords=coordinates,
        name="power_spectrum",
        attrs={
            "rescaled": rescaled,
            "tile": size,
            "provenance": provenance("power_spectra", tile=size, by=by, rescaled=rescaled),
        },
    )


def _tilted_transfers(
    series: xr.DataTree, ctf: xr.Dataset | None, alignment: str | xr.Dataset | None
) -> list[_Tilted | None] | None:
    """Return what rescales each view, None for a view of which nothing is known, or for all."""
    if ctf is None and "ctf" in series.children:
        ctf = series["ctf"].to_dataset()
    if ctf is None or handedness_of(ctf) == 0:
        return None
    if alignment is None and "alignments" not in series.children:
        alignment = "none"
    projection, _ = chosen_projection(series, alignment)
    slope = handedness_of(ctf) * height_gradient(projection)
    away = np.einsum("ti,ti->t", slope, -projection.shift)
    return [
        (transfer.shifted(float(away[t])), (float(slope[t, 0]), float(slope[t, 1])))
        if np.isfinite([transfer.defocus_u, transfer.defocus_v]).all()
        else None
        for t, transfer in enumerate(transfers_at_origin(ctf, projection))
    ]


def _view_spectrum(
    grid: TileGrid, pixel_size: float, tilted: _Tilted | None, image: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the mean spectrum (1, y, x) of a view (1, y, x)."""
    raw = np.asarray(image[0], np.float32)
    if tilted is None:
        return mean_periodogram(raw, grid, pixel_size)[None]
    transfer, slope = tilted
    raised = grid.centres(pixel_size) @ np.array(slope)
    return mean_periodogram(raw, grid, pixel_size, transfer, raised)[None]


def _tile_spectra(grid: TileGrid, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the spectra (1, tile, y, x) of the tiles of a view (1, y, x)."""
    return tile_periodograms(np.asarray(image[0], np.float32), grid)[None]

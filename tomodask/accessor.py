"""The accessor ``.tomo`` of xarray's objects: the verbs, where the data is.

Importing this module registers it. Each method is one call of the function that does the work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import xarray as xr

from tomodask.errors import ProductMissingError, StoreError
from tomodask.model import projection_of, series_path, tilt_series_of, views_of

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from tomodask.geometry import Projection
    from tomodask.view.html import SeriesSummary

__all__ = ["DatasetAccessor", "SeriesAccessor", "VolumeAccessor"]


@xr.register_datatree_accessor("tomo")
class SeriesAccessor:
    """What can be done with a series, ``series.tomo``.

    Parameters
    ----------
    tree
        From ``tomodask.open``.
    """

    def __init__(self, tree: xr.DataTree) -> None:
        self._tree = tree

    def summary(self) -> SeriesSummary:
        """Return what the series holds, to be shown."""
        from tomodask.view.html import SeriesSummary

        return SeriesSummary(self._tree)

    def plot_tilts(self, ax: Axes | None = None) -> Axes:
        """Plot the tilt angles; see :func:`tomodask.view.plots.plot_tilts`."""
        from tomodask.view.plots import plot_tilts

        return plot_tilts(tilt_series_of(self._tree), ax)

    def plot_view(self, index: int, ax: Axes | None = None) -> Axes:
        """Plot one image; see :func:`tomodask.view.plots.plot_view`."""
        from tomodask.view.plots import plot_view

        return plot_view(tilt_series_of(self._tree), index, ax)

    def plot_ctf_series(self) -> Figure:
        """Plot the contrast transfer; see :func:`tomodask.view.ctf_plots.plot_ctf_series`."""
        from tomodask.view.ctf_plots import plot_ctf_series

        return plot_ctf_series(self._ctf(), **self._views())

    def plot_ctf_sheet(self) -> Figure:
        """Plot all spectra and fits; see :func:`tomodask.view.ctf_plots.plot_ctf_sheet`."""
        from tomodask.view.ctf_plots import plot_ctf_sheet

        return plot_ctf_sheet(self._ctf(), **self._views())

    def plot_ctf_view(self, index: int) -> Figure:
        """Plot the fit of one view; see :func:`tomodask.view.ctf_plots.plot_ctf_view`."""
        from tomodask.view.ctf_plots import plot_ctf_view

        return plot_ctf_view(self._ctf(), index, tilt_angle=self._views()["tilt_angle"][index])

    def save_ctf_pictures(self, folder: str | Path) -> list[Path]:
        """Write the pictures; see :func:`tomodask.view.ctf_plots.save_ctf_pictures`."""
        from tomodask.view.ctf_plots import save_ctf_pictures

        return save_ctf_pictures(self._ctf(), folder=folder, **self._views())

    def align(self, **options: Any) -> xr.Dataset:
        """Align the series and store the alignment; see :func:`tomodask.align`.

        Raises
        ------
        StoreError
            If the series was not opened from a store.
        """
        from tomodask.alignment import align

        path = series_path(self._tree)
        if path is None:
            raise StoreError(
                f"series {self._tree.name!r} was not opened from a store, where its alignment "
                "could be kept; use the tree that tomodask.open returns"
            )
        return align(path, **options)

    def align_stack(self, **options: Any) -> xr.DataArray:
        """Return the aligned stack, lazily; see :func:`tomodask.align_stack`."""
        from tomodask.graph.align_stack import align_stack

        return align_stack(self._tree, **options)

    def reconstruct(self, **options: Any) -> xr.DataArray:
        """Return a tomogram, lazily; see :func:`tomodask.reconstruct`."""
        from tomodask.graph.reconstruct import reconstruct

        return reconstruct(self._tree, **options)

    def _ctf(self) -> xr.Dataset:
        if "ctf" not in self._tree.children:
            raise ProductMissingError(
                f"{self._tree.name} has no CTF: estimate it with estimate_ctf, or import it with "
                "import_ctf"
            )
        return self._tree["ctf"].to_dataset()

    def _views(self) -> dict[str, NDArray[Any]]:
        """Return what plots of the contrast transfer need to know of the views."""
        views = views_of(self._tree)
        return {name: views[name].values for name in ("tilt_angle", "included")}


@xr.register_dataset_accessor("tomo")
class DatasetAccessor:
    """What can be done with an alignment or a CTF: ``alignment.tomo``, ``ctf.tomo``.

    Parameters
    ----------
    dataset
        An alignment, or a table of contrast transfer.
    """

    def __init__(self, dataset: xr.Dataset) -> None:
        self._dataset = dataset

    @property
    def projection(self) -> Projection:
        """The projection model of the alignment."""
        return projection_of(self._dataset)

    def plot_shifts(self, ax: Axes | None = None) -> Axes:
        """Plot the shifts; see :func:`tomodask.view.plots.plot_shifts`."""
        from tomodask.view.plots import plot_shifts

        return plot_shifts(self._dataset, ax)

    def plot_ctf_view(self, index: int = 0) -> Figure:
        """Plot the fit of one view; see :func:`tomodask.view.ctf_plots.plot_ctf_view`."""
        from tomodask.view.ctf_plots import plot_ctf_view

        return plot_ctf_view(self._dataset, index)


@xr.register_dataarray_accessor("tomo")
class VolumeAccessor:
    """What can be done with a volume, ``volume.tomo``.

    Parameters
    ----------
    volume
        (z, y, x) with coordinates in A, lazy or not.
    """

    def __init__(self, volume: xr.DataArray) -> None:
        self._volume = volume

    def plot_orthoslices(
        self, axes: tuple[Axes, Axes, Axes] | None = None, **options: Any
    ) -> tuple[Axes, Axes, Axes]:
        """Plot three slices; see :func:`tomodask.view.plots.plot_orthoslices`."""
        from tomodask.view.plots import plot_orthoslices

        return plot_orthoslices(self._volume, axes, **options)

    def orthoslices_png(self, path: str | Path, **options: Any) -> Path:
        """Write a picture; see :func:`tomodask.view.images.orthoslices_png`."""
        from tomodask.view.images import orthoslices_png

        return orthoslices_png(self._volume, path, **options)

    def store(self, path: str | Path | None = None, **options: Any) -> Path:
        """Compute and store the volume; see :func:`tomodask.store`."""
        from tomodask.storing import store

        return store(self._volume, path, **options)

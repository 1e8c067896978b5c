"""An out-of-core, Dask-parallel engine for cryo-electron tomography.

The public functions, used as ``import tomodask as td``::

    td.import_stack("TS_01.st", "TS_01.zarr", tilt_angles="TS_01.rawtlt")
    td.align("TS_01.zarr", method="coarse")
    series = td.open("TS_01.zarr")
    volume = td.reconstruct(series, thickness=200, binning=4)      # lazy
    td.store(volume, name="wbp")
    td.export_tomogram(td.open("TS_01.zarr"), "wbp.mrc", tomogram="wbp")
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tomodask.alignment import align as align
    from tomodask.alignment import store_alignment as store_alignment
    from tomodask.demonstration import demo as demo
    from tomodask.exporting import export_alignment as export_alignment
    from tomodask.exporting import export_stack as export_stack
    from tomodask.exporting import export_tomogram as export_tomogram
    from tomodask.geometry import Projection as Projection
    from tomodask.geometry import VolumeGrid as VolumeGrid
    from tomodask.graph.align_stack import align_stack as align_stack
    from tomodask.graph.reconstruct import reconstruct as reconstruct
    from tomodask.importing import import_stack as import_stack
    from tomodask.io.series import open_series as open  # noqa: A004
    from tomodask.storing import store as store
    from tomodask.summary import info as info
    from tomodask.view.images import orthoslices_png as orthoslices_png

#: Public name -> where it lives. Imported on first use, so that ``import tomodask`` is quick.
_PUBLIC = {
    "Projection": ("tomodask.geometry", "Projection"),
    "VolumeGrid": ("tomodask.geometry", "VolumeGrid"),
    "align": ("tomodask.alignment", "align"),
    "align_stack": ("tomodask.graph.align_stack", "align_stack"),
    "demo": ("tomodask.demonstration", "demo"),
    "export_alignment": ("tomodask.exporting", "export_alignment"),
    "export_stack": ("tomodask.exporting", "export_stack"),
    "export_tomogram": ("tomodask.exporting", "export_tomogram"),
    "import_stack": ("tomodask.importing", "import_stack"),
    "info": ("tomodask.summary", "info"),
    "open": ("tomodask.io.series", "open_series"),
    "orthoslices_png": ("tomodask.view.images", "orthoslices_png"),
    "reconstruct": ("tomodask.graph.reconstruct", "reconstruct"),
    "store": ("tomodask.storing", "store"),
    "store_alignment": ("tomodask.alignment", "store_alignment"),
}

__all__ = [  # the names are those of _PUBLIC, spelled out for type checkers
    "Projection",
    "VolumeGrid",
    "align",
    "align_stack",
    "demo",
    "export_alignment",
    "export_stack",
    "export_tomogram",
    "import_stack",
    "info",
    "open",
    "orthoslices_png",
    "reconstruct",
    "store",
    "store_alignment",
]

try:
    __version__ = version("tomodask")
except PackageNotFoundError:  # run from a source tree that was not installed
    __version__ = "0"


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    try:
        module, attribute = _PUBLIC[name]
    except KeyError:
        raise AttributeError(f"module 'tomodask' has no attribute {name!r}") from None
    if name in ("open", "align", "reconstruct"):
        import_module("tomodask.accessor")
    value = getattr(import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)

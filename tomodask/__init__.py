"""An out-of-core, Dask-parallel engine for cryo-electron tomography.

The public functions, used as ``import tomodask as td``::

    td.import_movies("TS_01.mdoc", "TS_01.zarr", frames="frames", gain="gain.mrc")
    td.correct_motion("TS_01.zarr", patches=(5, 5))
    td.clean("TS_01.zarr")
    td.curate("TS_01.zarr")
    td.align("TS_01.zarr", method="beads")
    td.estimate_ctf("TS_01.zarr")
    series = td.open("TS_01.zarr")
    volume = td.reconstruct(series, thickness=200, binning=4, ctf="3d")  # lazy
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
    from tomodask.alignment_files import export_alignment as export_alignment
    from tomodask.alignment_files import import_alignment as import_alignment
    from tomodask.checks import check_stack as check_stack
    from tomodask.cleaning import clean as clean
    from tomodask.cleaning import undo_cleaning as undo_cleaning
    from tomodask.cropping import crop as crop
    from tomodask.ctf_estimation import estimate_ctf as estimate_ctf
    from tomodask.ctf_estimation import estimate_micrograph as estimate_micrograph
    from tomodask.ctf_files import export_ctf as export_ctf
    from tomodask.ctf_files import import_ctf as import_ctf
    from tomodask.curation import curate as curate
    from tomodask.curation import write_curation as write_curation
    from tomodask.demonstration import demo as demo
    from tomodask.exporting import export_images as export_images
    from tomodask.exporting import export_motion as export_motion
    from tomodask.exporting import export_stack as export_stack
    from tomodask.exporting import export_tomogram as export_tomogram
    from tomodask.geometry import Projection as Projection
    from tomodask.geometry import VolumeGrid as VolumeGrid
    from tomodask.gold import erase_gold as erase_gold
    from tomodask.gold import undo_erasing as undo_erasing
    from tomodask.graph.align_stack import align_stack as align_stack
    from tomodask.graph.deconvolve import deconvolve as deconvolve
    from tomodask.graph.power_spectra import power_spectra as power_spectra
    from tomodask.graph.preprocess import preprocess as preprocess
    from tomodask.graph.preprocess import unaligned_stack as unaligned_stack
    from tomodask.graph.reconstruct import reconstruct as reconstruct
    from tomodask.importing import import_stack as import_stack
    from tomodask.importing_movies import import_movies as import_movies
    from tomodask.importing_movies import read_movies as read_movies
    from tomodask.io.movie_table import movies_text as movies_text
    from tomodask.io.movies import open_movie as open_movie
    from tomodask.io.movies import read_frames as read_frames
    from tomodask.io.series import open_series as open  # noqa: A004
    from tomodask.kernels.bundle import Freedom as Freedom
    from tomodask.kernels.bundle import Variables as Variables
    from tomodask.landmark_files import export_landmarks as export_landmarks
    from tomodask.landmark_files import import_landmarks as import_landmarks
    from tomodask.landmarks import Landmarks as Landmarks
    from tomodask.landmarks import open_landmarks as open_landmarks
    from tomodask.model_solving import solve_model as solve_model
    from tomodask.motion_correction import correct_motion as correct_motion
    from tomodask.movie_frames import open_frames as open_frames
    from tomodask.positioning import position as position
    from tomodask.storing import store as store
    from tomodask.summary import info as info
    from tomodask.view.images import orthoslices_png as orthoslices_png
    from tomodask.view.report import series_png as series_png

#: Public name -> where it lives. Imported on first use, so that ``import tomodask`` is quick.
_PUBLIC = {
    "Freedom": ("tomodask.kernels.bundle", "Freedom"),
    "Landmarks": ("tomodask.landmarks", "Landmarks"),
    "Projection": ("tomodask.geometry", "Projection"),
    "Variables": ("tomodask.kernels.bundle", "Variables"),
    "VolumeGrid": ("tomodask.geometry", "VolumeGrid"),
    "align": ("tomodask.alignment", "align"),
    "align_stack": ("tomodask.graph.align_stack", "align_stack"),
    "check_stack": ("tomodask.checks", "check_stack"),
    "clean": ("tomodask.cleaning", "clean"),
    "correct_motion": ("tomodask.motion_correction", "correct_motion"),
    "crop": ("tomodask.cropping", "crop"),
    "curate": ("tomodask.curation", "curate"),
    "deconvolve": ("tomodask.graph.deconvolve", "deconvolve"),
    "demo": ("tomodask.demonstration", "demo"),
    "erase_gold": ("tomodask.gold", "erase_gold"),
    "estimate_ctf": ("tomodask.ctf_estimation", "estimate_ctf"),
    "estimate_micrograph": ("tomodask.ctf_estimation", "estimate_micrograph"),
    "export_alignment": ("tomodask.alignment_files", "export_alignment"),
    "export_ctf": ("tomodask.ctf_files", "export_ctf"),
    "export_images": ("tomodask.exporting", "export_images"),
    "export_landmarks": ("tomodask.landmark_files", "export_landmarks"),
    "export_motion": ("tomodask.exporting", "export_motion"),
    "export_stack": ("tomodask.exporting", "export_stack"),
    "export_tomogram": ("tomodask.exporting", "export_tomogram"),
    "import_alignment": ("tomodask.alignment_files", "import_alignment"),
    "import_ctf": ("tomodask.ctf_files", "import_ctf"),
    "import_landmarks": ("tomodask.landmark_files", "import_landmarks"),
    "import_movies": ("tomodask.importing_movies", "import_movies"),
    "import_stack": ("tomodask.importing", "import_stack"),
    "info": ("tomodask.summary", "info"),
    "movies_text": ("tomodask.io.movie_table", "movies_text"),
    "open": ("tomodask.io.series", "open_series"),
    "open_frames": ("tomodask.movie_frames", "open_frames"),
    "open_landmarks": ("tomodask.landmarks", "open_landmarks"),
    "open_movie": ("tomodask.io.movies", "open_movie"),
    "orthoslices_png": ("tomodask.view.images", "orthoslices_png"),
    "position": ("tomodask.positioning", "position"),
    "power_spectra": ("tomodask.graph.power_spectra", "power_spectra"),
    "preprocess": ("tomodask.graph.preprocess", "preprocess"),
    "read_frames": ("tomodask.io.movies", "read_frames"),
    "read_movies": ("tomodask.importing_movies", "read_movies"),
    "reconstruct": ("tomodask.graph.reconstruct", "reconstruct"),
    "series_png": ("tomodask.view.report", "series_png"),
    "solve_model": ("tomodask.model_solving", "solve_model"),
    "store": ("tomodask.storing", "store"),
    "store_alignment": ("tomodask.alignment", "store_alignment"),
    "unaligned_stack": ("tomodask.graph.preprocess", "unaligned_stack"),
    "undo_cleaning": ("tomodask.cleaning", "undo_cleaning"),
    "undo_erasing": ("tomodask.gold", "undo_erasing"),
    "write_curation": ("tomodask.curation", "write_curation"),
}

__all__ = [  # the names are those of _PUBLIC, spelled out for type checkers
    "Freedom",
    "Landmarks",
    "Projection",
    "Variables",
    "VolumeGrid",
    "align",
    "align_stack",
    "check_stack",
    "clean",
    "correct_motion",
    "crop",
    "curate",
    "deconvolve",
    "demo",
    "erase_gold",
    "estimate_ctf",
    "estimate_micrograph",
    "export_alignment",
    "export_ctf",
    "export_images",
    "export_landmarks",
    "export_motion",
    "export_stack",
    "export_tomogram",
    "import_alignment",
    "import_ctf",
    "import_landmarks",
    "import_movies",
    "import_stack",
    "info",
    "movies_text",
    "open",
    "open_frames",
    "open_landmarks",
    "open_movie",
    "orthoslices_png",
    "position",
    "power_spectra",
    "preprocess",
    "read_frames",
    "read_movies",
    "reconstruct",
    "series_png",
    "solve_model",
    "store",
    "store_alignment",
    "unaligned_stack",
    "undo_cleaning",
    "undo_erasing",
    "write_curation",
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
    if name in ("open", "open_landmarks", "align", "import_alignment", "position", "reconstruct"):
        import_module("tomodask.accessor")
    value = getattr(import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)

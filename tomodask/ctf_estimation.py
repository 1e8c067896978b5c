"""Estimating the contrast transfer of a tilt series as a whole, or of a single micrograph."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tomodask.engine.gather import gathered
from tomodask.engine.threads import single_threaded
from tomodask.engine.workers import Resources
from tomodask.errors import DataError, ParameterError, TomodaskWarning
from tomodask.geometry import height_gradient
from tomodask.graph.inputs import chosen_projection, view_source
from tomodask.io.series import open_series, write_ctf
from tomodask.io.stack import open_stack, read_section
from tomodask.kernels.ctf import Optics
from tomodask.kernels.ctf.series import SeriesFit, fit_series
from tomodask.kernels.ctf.spectra import Sectors, TileSpectra, sectors, tile_spectra
from tomodask.kernels.ctf.spectrum_image import rescaled_rings, ring_contrast, spectrum_image
from tomodask.model import ctf_dataset, provenance, tilt_series_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray as xr
    from distributed import Client
    from numpy.typing import NDArray

    from tomodask.engine.events import Listener
    from tomodask.graph.aligned_views import ViewSource

__all__ = ["estimate_ctf", "estimate_micrograph"]

#: Defocus that is looked for where nothing is recorded, A.
_RANGE = (3000.0, 80000.0)
#: Around what is recorded: a stage or a plunge-frozen grid may be off by this factor and length.
_FACTOR, _MARGIN = 2.0, 10000.0
#: No microscope is used beyond these: A, degrees.
_MOST_DEFOCUS, _MOST_PHASE = 3e5, 360.0
#: Arrays of an image's size that one view's spectra hold at once.
_COPIES = 3
#: Columns and rows of the spectra that are kept to look at.
_PICTURE = 256


def estimate_ctf(
    series: str | Path,
    *,
    alignment: str | xr.Dataset | None = None,
    voltage: float | None = None,
    spherical_aberration: float = 2.7,
    amplitude_contrast: float = 0.07,
    defocus_range: tuple[float, float] | None = None,
    phase_shift: float | tuple[float, float] = 0.0,
    handedness: Literal[-1, 1] | None = None,
    astigmatism: bool = True,
    inclination: bool = False,
    thickness: bool = False,
    resolution: tuple[float, float] | None = None,
    tile: int | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    memory_limit: str | float | None = None,
    scheduler: str | Client = "threads",
    progress: Listener | None = None,
) -> xr.Dataset:
    """Estimate the contrast transfer of all views of a series together, and store it.

    The spectra of many tiles of every view are fitted at once: a tile's defocus follows the height
    of the specimen's plane there, so that all tiles of a tilted view tell its defocus, and the
    sign with which they do tells the handedness; the views' defoci and astigmatism lend strength
    to each other as far as they agree.

    Parameters
    ----------
    series
        Folder of the store.
    alignment
        Name of the alignment that says how the views are tilted, "none" for the angles and axis as
        recorded; by default the only one, or "none" where there is none yet.
    voltage
        kV; as recorded by default.
    spherical_aberration
        Cs, mm.
    amplitude_contrast
        Fraction.
    defocus_range
        Smallest and largest defocus to look for, A; by default around the recorded ones, or 3000
        to 80000.
    phase_shift
        Of a phase plate, degrees: a known one, or the range in which it is looked for.
    handedness
        +1 or -1 where it is known: defocus grows, or falls, with height towards the source.
    astigmatism
        Whether the defocus may differ with direction.
    inclination
        Whether the specimen's plane may be inclined to the one the alignment says: its slopes dz/dx
        and dz/dy are then an attribute of the result. Corrections follow the alignment's plane;
        level it with ``position``.
    thickness
        Whether the specimen's thickness is estimated from the nodes of the rings.
    resolution
        Coarsest and finest resolution that are looked at, A.
    tile
        Edge of a tile, pixels; about 1000 A by default.
    overwrite
        Whether a stored contrast transfer is replaced.
    workers, memory_limit, scheduler, progress
        As in ``tomodask.store``.

    Returns
    -------
    xarray.Dataset
        The table, as stored in the group ``ctf``: defocus, astigmatism, errors, fit resolution,
        score and confidence of every view, the rings and their fit, and the handedness.

    Raises
    ------
    ParameterError
        If the voltage is neither recorded nor given, a value makes no sense, or there is a
        contrast transfer already and `overwrite` is false.
    DataError
        If no view is included, none shows anything, one sees the specimen edge-on, or dose or CTF
        were applied to the images before.

    Warns
    -----
    TomodaskWarning
        Where a result is not to be trusted, and why.
    """
    path = Path(series).expanduser().resolve()
    tree = open_series(path)
    views = tilt_series_of(tree)
    if "ctf" in tree.children and not overwrite:
        raise ParameterError(
            f"{path} has a CTF already; replace it with overwrite=True (--overwrite)"
        )
    applied = [*views.attrs.get("applied", []), *views["images"].attrs.get("applied", [])]
    for step in ("ctf", "dose weighting"):
        if step in applied:
            raise DataError(
                f"{path}: {step} was applied to the images, which bends their spectra; make them "
                "without ('tomodask motion'): 'reconstruct' applies both"
            )
    if alignment is None and "alignments" not in tree.children:
        alignment = "none"
    projection, label = chosen_projection(tree, alignment)
    optics = _optics(
        path,
        views.attrs.get("voltage") if voltage is None else voltage,
        spherical_aberration,
        amplitude_contrast,
    )
    source = view_source(views)
    used = [int(view) for view in np.flatnonzero(views["included"].values)]
    if not used:
        raise DataError(f"{path} has no included views")
    layout = sectors(source.shape, source.pixel_size, tile=tile)
    nominal = views["nominal_defocus"].values if "nominal_defocus" in views.coords else None
    limits = _limits(defocus_range, nominal)
    search = _search(limits, phase_shift, resolution, astigmatism=astigmatism, thickness=thickness)
    if handedness not in (None, 1, -1):
        raise ParameterError(f"handedness {handedness}: give 1 or -1")
    # The image centre is what the estimate is of: the alignment's shift is no part of it.
    gradient = height_gradient(projection)
    edge_on = [view for view in used if not np.isfinite(gradient[view]).all()]
    if edge_on:
        raise DataError(f"{path}: view {edge_on[0]} sees the specimen's plane edge-on; exclude it")
    gradient = np.nan_to_num(gradient)
    spectra: list[TileSpectra | None] = [None] * len(projection)
    found = gathered(
        "estimate CTF",
        _view_spectra,
        [(source, view, layout) for view in used],
        stage="power spectra",
        task_bytes=4 * _COPIES * int(np.prod(source.shape)),
        resources=Resources(workers=workers, memory_limit=memory_limit, scheduler=scheduler),
        listen=progress,
    )
    for view, of_view in zip(used, found, strict=True):
        spectra[view] = of_view
    _refuse_blank(path, found)
    order = views["order"].values if "order" in views.coords else None
    with single_threaded():
        fit = fit_series(
            spectra,
            layout,
            optics,
            gradient=gradient,
            tilt_angle=projection.tilt_angle,
            order=order,
            handedness=handedness,
            inclination=inclination,
            **search,
        )
        if fit.inclination is not None:
            slopes = (float(fit.inclination[0]), float(fit.inclination[1]))
            gradient = np.nan_to_num(height_gradient(projection, slopes))
        table = _table(
            fit,
            spectra,
            layout,
            optics,
            gradient,
            provenance(
                "estimate CTF",
                alignment=label,
                geometry=projection.digest(),
                tile=layout.tile,
                defocus_range=list(limits),
                images=[int(value) for value in views["checksum"].values[used]]
                if "checksum" in views.coords
                else [],
                edits=source.edits.applied if source.edits else [],
            ),
        )
    table.attrs["alignment"] = label
    for text in fit.warnings:
        warnings.warn(f"{path.name}: {text}", TomodaskWarning, stacklevel=2)
    write_ctf(path, table)
    return table


def estimate_micrograph(
    micrograph: str | Path,
    *,
    pixel_size: float | None = None,
    voltage: float | None = None,
    spherical_aberration: float = 2.7,
    amplitude_contrast: float = 0.07,
    section: int | None = None,
    defocus_range: tuple[float, float] = _RANGE,
    phase_shift: float | tuple[float, float] = 0.0,
    astigmatism: bool = True,
    thickness: bool = False,
    resolution: tuple[float, float] | None = None,
    tile: int | None = None,
) -> xr.Dataset:
    """Estimate the contrast transfer of one untilted image.

    Parameters
    ----------
    micrograph
        MRC or TIFF.
    pixel_size
        A; as the file says by default.
    voltage
        kV; as the file says by default.
    section
        Which one of a stack, from 0.
    spherical_aberration, amplitude_contrast, defocus_range, phase_shift, astigmatism, thickness, \
resolution, tile
        As in :func:`estimate_ctf`.

    Returns
    -------
    xarray.Dataset
        As of :func:`estimate_ctf`, of one view.

    Raises
    ------
    ParameterError
        If pixel size or voltage is neither recorded nor given, or a value makes no sense.
    FormatError
        If the file is no image.
    DataError
        If it holds nothing whose spectrum could be looked at.

    Warns
    -----
    TomodaskWarning
        Where the result is not to be trusted, and why.
    """
    info = open_stack(micrograph)
    size = pixel_size if pixel_size is not None else info.pixel_size
    if size is None or not size > 0:
        raise ParameterError(
            f"{info.path} says no pixel size: give pixel_size (--pixel-size) in A"
            if pixel_size is None
            else f"pixel size {pixel_size}: give a positive number of A"
        )
    said = info.metadata.get("voltage")
    recorded = float(said) if isinstance(said, int | float) else None
    optics = _optics(
        info.path,
        recorded if voltage is None else voltage,
        spherical_aberration,
        amplitude_contrast,
    )
    if section is None and info.shape[0] > 1:
        raise ParameterError(
            f"{info.path} has {info.shape[0]} sections: a volume shows no contrast transfer; of a "
            "stack of images give section (--section), or import it as a series"
        )
    image = read_section(info, section or 0)
    layout = sectors(image.shape, size, tile=tile)
    limits = _limits(defocus_range, None)
    search = _search(limits, phase_shift, resolution, astigmatism=astigmatism, thickness=thickness)
    with single_threaded():
        spectra: list[TileSpectra | None] = [tile_spectra(image, layout)]
        _refuse_blank(info.path, spectra)
        gradient = np.zeros((1, 2))
        fit = fit_series(
            spectra,
            layout,
            optics,
            gradient=gradient,
            tilt_angle=np.zeros(1),
            **search,
        )
        table = _table(
            fit,
            spectra,
            layout,
            optics,
            gradient,
            provenance("estimate CTF", tile=layout.tile, defocus_range=list(limits)),
        )
    for text in fit.warnings:
        warnings.warn(f"{info.path.name}: {text}", TomodaskWarning, stacklevel=2)
    return table


def _view_spectra(source: ViewSource, view: int, layout: Sectors) -> TileSpectra:
    """Return the spectra of one stored view; a task."""
    return tile_spectra(source.read(view), layout)


def _refuse_blank(path: Path, spectra: Sequence[TileSpectra | None]) -> None:
    """Raise unless there is a tile whose spectrum can be looked at."""
    if not any(of_view is not None and len(of_view.power) for of_view in spectra):
        raise DataError(
            f"{path} shows nothing whose spectrum could be looked at: all of it is constant, dark "
            "or not finite; look at the images, and include views that show the specimen"
        )


def _optics(
    path: Path, voltage: float | None, spherical_aberration: float, amplitude_contrast: float
) -> Optics:
    if voltage is None:
        raise ParameterError(f"{path} records no voltage: give voltage (--voltage) in kV")
    return Optics(float(voltage), float(spherical_aberration), float(amplitude_contrast))


def _search(
    limits: tuple[float, float],
    phase_shift: float | tuple[float, float],
    resolution: tuple[float, float] | None,
    *,
    astigmatism: bool,
    thickness: bool,
) -> dict[str, Any]:
    """Return what the fit looks for, checked before anything is read."""
    phases = phase_shift if isinstance(phase_shift, tuple) else (phase_shift,)
    if list(phases) != sorted(phases) or not all(abs(phase) <= _MOST_PHASE for phase in phases):
        raise ParameterError(
            f"phase shift {phase_shift}: give degrees from {-_MOST_PHASE:g} to {_MOST_PHASE:g}, a "
            "range rising"
        )
    search: dict[str, Any] = {
        "defocus_range": limits,
        "phase_shift": phase_shift,
        "astigmatism": astigmatism,
        "thickness": thickness,
    }
    if resolution is not None:
        if not all(np.isfinite(part) and part > 0 for part in resolution):
            raise ParameterError(f"resolution {resolution}: give two positive numbers of A")
        search["resolution"] = resolution
    return search


def _limits(
    given: tuple[float, float] | None, nominal: NDArray[np.float64] | None
) -> tuple[float, float]:
    """Return the range of defocus that is looked for, A."""
    if given is not None:
        low, high = float(given[0]), float(given[1])
        if not 0 <= low < high <= _MOST_DEFOCUS:
            raise ParameterError(
                f"defocus range {low:g} to {high:g} A ({low / 1e4:g} to {high / 1e4:g} um): give "
                f"two rising numbers from 0 to {_MOST_DEFOCUS / 1e4:g} um"
            )
        return low, high
    known = np.array([]) if nominal is None else nominal[np.isfinite(nominal) & (nominal > 0)]
    if not len(known):
        return _RANGE
    low = max(_RANGE[0], float(known.min()) / _FACTOR - _MARGIN)
    return low, float(known.max()) * _FACTOR + _MARGIN


def _table(
    fit: SeriesFit,
    spectra: list[TileSpectra | None],
    layout: Sectors,
    optics: Optics,
    gradient: NDArray[np.float64],
    origin: dict[str, Any],
) -> xr.Dataset:
    """Return what was found as a table."""
    names = (
        "defocus_u", "defocus_v", "astigmatism_angle", "phase_shift", "defocus_error",
        "astigmatism_error", "phase_shift_error", "fit_resolution", "score", "confidence", "fitted",
        "frequency", "profile", "profile_model", "profile_match",
    )  # fmt: skip
    values: dict[str, Any] = {name: getattr(fit, name) for name in names}
    if fit.thickness is not None:
        values["thickness"] = fit.thickness
    axis, values["spectrum"] = _pictures(spectra, layout, optics, fit, gradient)
    values |= {"frequency_x": axis, "frequency_y": axis}
    zeros = np.zeros(len(fit.defocus_u))
    values |= {"reference_x": zeros, "reference_y": zeros}
    attributes: dict[str, Any] = {
        "handedness_confidence": float(fit.handedness_confidence),
        "pixel_size": layout.pixel_size,
        "warnings": list(fit.warnings),
        "provenance": origin,
    }
    if fit.inclination is not None:
        attributes["inclination"] = [float(value) for value in fit.inclination]
        if fit.inclination_error is not None:
            attributes["inclination_error"] = [float(value) for value in fit.inclination_error]
    if fit.thickness_error is not None:
        attributes["thickness_error"] = float(fit.thickness_error)
    return ctf_dataset(
        optics,
        method="estimated",
        handedness=fit.handedness,
        attributes=attributes,
        **values,
    )


def _pictures(
    spectra: list[TileSpectra | None],
    layout: Sectors,
    optics: Optics,
    fit: SeriesFit,
    gradient: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Return the frequencies (size,) and spectra (tilt, size, size) to look at."""
    blank = np.full(layout.samples.shape, np.nan, np.float32)
    images = []
    axis = np.empty(0)
    for view, of_view in enumerate(spectra):
        contrast = blank
        if of_view is not None and len(of_view.power):
            defocus = (fit.defocus_u[view] + fit.defocus_v[view]) / 2
            height = fit.handedness * (of_view.position @ gradient[view])
            rings = rescaled_rings(of_view, layout, optics, float(defocus), height)
            contrast = ring_contrast(rings, layout)
        axis, image = spectrum_image(contrast, layout, _PICTURE)
        images.append(image)
    return axis, np.stack(images)

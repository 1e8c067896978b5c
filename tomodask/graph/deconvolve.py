"""Tomograms deconvolved for visibility, lazily, slab by slab."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import dask.array as da
import numpy as np
from dask.base import tokenize

from tomodask.errors import DoubleApplicationError, ParameterError, SchemaError
from tomodask.graph.inputs import chosen_ctf, written_out
from tomodask.kernels.ctf import Optics
from tomodask.kernels.deconvolve import Deconvolution, deconvolve_block
from tomodask.model import SLAB, optics_of, provenance, tilt_series_of
from tomodask.model.ctf_facts import trusted_views

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

__all__ = ["deconvolve"]

#: Views up to this tilt, degrees, say what the defocus of the specimen is.
_LOW_TILT = 30.0
#: Most rows that a slab may need on either side.
_FARTHEST = 512
#: Arrays of a slab's size, its neighbourhood included, that filtering it holds at once.
_COPIES = 3


def deconvolve(
    volume: xr.DataArray,
    *,
    series: xr.DataTree | None = None,
    defocus: float | None = None,
    voltage: float | None = None,
    spherical_aberration: float | None = None,
    amplitude_contrast: float | None = None,
    phase_shift: float | None = None,
    strength: float = 1.0,
    falloff: float = 1.0,
    highpass: float = 300.0,
) -> xr.DataArray:
    """Give a tomogram the contrast that defocus took at low frequency, for looking at it; lazily.

    The filter is that of ``tom_deconv`` and Warp, see :mod:`tomodask.kernels.deconvolve`: one curve
    for the whole tomogram and a signal to noise ratio that is assumed. What is measured in a
    tomogram should be measured before.

    Parameters
    ----------
    volume
        ``(z, y, x)``, lazy or in memory, with ``attrs["voxel_size"]``, A.
    series
        From ``tomodask.open``. Its CTF says the microscope, and the defocus and phase shift: the
        mean of the included views up to 30 degrees.
    defocus
        A, underfocus positive. This and what follows are used in place of what the series says.
    voltage
        kV.
    spherical_aberration
        mm.
    amplitude_contrast
        Fraction, 0 to 1.
    phase_shift
        Of a phase plate, degrees; 0 where there is no series.
    strength
        The signal to noise ratio at low frequency is ``10^(3 strength)``.
    falloff
        How fast it falls with frequency.
    highpass
        A: what is larger is taken out.

    Returns
    -------
    xarray.DataArray
        Of the same shape and coordinates, float32, one chunk a slab of 64 rows. Each slab is
        filtered with as many rows on either side as the filter reaches, so that the values do not
        depend on how the volume is chunked; from those of a filter of the whole they differ by less
        than 0.001 of their standard deviation, in the root mean square. Beyond its faces the volume
        is mirrored. The mean is 0; dense stays dark.

    Raises
    ------
    ParameterError
        If a parameter is neither given nor known of the series, or the filter reaches too far.
    ProductMissingError
        If the series has no CTF.
    DoubleApplicationError
        If the volume is deconvolved already, or its contrast transfer undone otherwise than by
        flipping phases.
    SchemaError
        If it is no volume with a voxel size.
    """
    if volume.dims != ("z", "y", "x") or not volume.attrs.get("voxel_size", 0) > 0:
        raise SchemaError(
            f"a volume of dimensions {volume.dims} and voxel size "
            f"{volume.attrs.get('voxel_size')}: give one of (z, y, x) with attrs['voxel_size'], A"
        )
    ctf = None
    if series is not None:
        # The curve is that of one height: on which side the defocus is larger does not matter.
        ctf, _ = chosen_ctf(series, None, handedness=1)
        if defocus is None or phase_shift is None:
            known = _focus(series, ctf)
            defocus = known[0] if defocus is None else defocus
            phase_shift = known[1] if phase_shift is None else phase_shift
    if defocus is None:
        raise ParameterError("deconvolution needs defocus: give it in A, or the series")
    curve = Deconvolution(
        optics=_optics(ctf, voltage, spherical_aberration, amplitude_contrast),
        defocus=float(defocus),
        voxel_size=float(volume.attrs["voxel_size"]),
        strength=strength,
        falloff=falloff,
        highpass=highpass,
        phase_shift=float(phase_shift or 0),
        phase_flipped=_phase_flipped(volume),
    )
    reach = curve.reach()
    if min(reach, volume.sizes["y"]) > _FARTHEST:
        raise ParameterError(
            f"the filter reaches {reach} voxels of {curve.voxel_size:g} A, {_FARTHEST} are the "
            f"most: give a high-pass below {highpass:g} A or a strength below {strength:g} (with a "
            "phase plate there is little to give back), or bin the tomogram more"
        )
    depth, rows, width = volume.shape
    # A slab's rows as they are read, side by side, and transformed.
    block = 4 * depth * width * min(rows, SLAB + 2 * reach)
    attributes = volume.attrs | {
        "task_bytes": _COPIES * block + int(volume.attrs.get("task_bytes", 0)),
        "provenance": provenance(
            "deconvolve",
            defocus=curve.defocus,
            phase_shift=curve.phase_shift,
            voltage=curve.optics.voltage,
            spherical_aberration=curve.optics.spherical_aberration,
            amplitude_contrast=curve.optics.amplitude_contrast,
            strength=float(strength),
            falloff=float(falloff),
            highpass=float(highpass),
            phase_flipped=curve.phase_flipped,
            volume=volume.attrs.get("provenance", {}),
        ),
    }
    return volume.copy(data=_lazy_slabs(volume, curve, reach)).assign_attrs(attributes)


def _lazy_slabs(volume: xr.DataArray, curve: Deconvolution, reach: int) -> da.Array:
    """Return the filtered volume as a dask array of one chunk per slab."""
    depth, rows, width = volume.shape
    source = volume.data
    if not isinstance(source, da.Array):
        source = da.from_array(source, (-1, SLAB, -1))
    slabs = []
    for start in range(0, rows, SLAB):
        stop = min(start + SLAB, rows)
        low, high = max(0, start - reach), min(rows, stop + reach)
        part = source[:, low:high].rechunk(-1)
        name = f"deconvolve-{tokenize(curve, start, low, stop, part.name)}"
        task = (partial(_deconvolved, curve, start - low, stop - low), (part.name, 0, 0, 0))
        slabs.append(
            written_out(name, {(name, 0, 0, 0): task}, part, ((depth,), (stop - start,), (width,)))
        )
    whole: da.Array = da.concatenate(slabs, axis=1)
    return whole


def _deconvolved(
    curve: Deconvolution, start: int, stop: int, block: NDArray[np.generic]
) -> NDArray[np.float32]:
    """Return some rows of a block that is filtered as a whole."""
    filtered = deconvolve_block(np.asarray(block, np.float32), curve)
    return np.ascontiguousarray(filtered[:, start:stop])


def _phase_flipped(volume: xr.DataArray) -> bool:
    """Return whether the phases of a tomogram are flipped.

    Raises
    ------
    DoubleApplicationError
        If its contrast transfer is undone in another way.
    """
    made = volume.attrs.get("provenance", {})
    if made.get("step") == "deconvolve":
        raise DoubleApplicationError(
            "this tomogram is deconvolved already; start from the one that it was made of"
        )
    if made.get("ctf", "none") == "none":
        return False
    if made.get("correction") == "phase-flip":
        return True
    raise DoubleApplicationError(
        f"the contrast transfer of this tomogram is undone ({made.get('correction')}): deconvolve "
        "one that was reconstructed with correction='phase-flip', or without"
    )


def _optics(
    ctf: xr.Dataset | None,
    voltage: float | None,
    spherical_aberration: float | None,
    amplitude_contrast: float | None,
) -> Optics:
    """Return the microscope that is given, completed from the table."""
    known = None if ctf is None else optics_of(ctf)

    def of(name: str, given: float | None) -> float:
        value = getattr(known, name, None) if given is None else given
        if value is None:
            raise ParameterError(f"deconvolution needs {name}: give it, or a series with its CTF")
        return float(value)

    return Optics(
        voltage=of("voltage", voltage),
        spherical_aberration=of("spherical_aberration", spherical_aberration),
        amplitude_contrast=of("amplitude_contrast", amplitude_contrast),
    )


def _focus(series: xr.DataTree, ctf: xr.Dataset) -> tuple[float, float]:
    """Return the mean defocus, A, and phase shift, degrees, of the views of low tilt."""
    tilt_series = tilt_series_of(series)
    mean = ((ctf["defocus_u"] + ctf["defocus_v"]) / 2).values
    low = (np.abs(tilt_series["tilt_angle"].values) <= _LOW_TILT) & np.isfinite(mean)
    low &= tilt_series["included"].values & trusted_views(ctf)
    if not low.any():
        raise ParameterError(
            f"{series.name} has no included view below {_LOW_TILT:g} degrees whose defocus is "
            "known and to be trusted: give defocus and phase_shift"
        )
    return float(mean[low].mean()), float(ctf["phase_shift"].values[low].mean())

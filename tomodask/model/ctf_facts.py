"""What a table of contrast transfer says of the whole series, in a few plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tomodask.model.ctf import handedness_of

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

__all__ = ["ctf_facts", "trusted_views"]

#: Least probability that the rings of a view are the specimen's.
_TRUSTED = 0.5


def trusted_views(ctf: xr.Dataset) -> NDArray[np.bool_]:
    """Return which views' values are their own and are to be believed.

    Parameters
    ----------
    ctf
        A table of contrast transfer. Where it says nothing of this, as one that was imported, it
        is believed.

    Returns
    -------
    (tilt,) bool: estimated from the view itself, by rings that are rather the specimen's than not.
    """
    trusted: NDArray[np.bool_] = np.isfinite(ctf["defocus_u"].values) & np.isfinite(
        ctf["defocus_v"].values
    )
    if "fitted" in ctf:
        trusted &= ctf["fitted"].values.astype(bool)
    if "confidence" in ctf:
        trusted &= ctf["confidence"].values >= _TRUSTED
    return trusted


def ctf_facts(ctf: xr.Dataset) -> dict[str, Any]:
    """Return what a table of contrast transfer comes to.

    Parameters
    ----------
    ctf
        The table.

    Returns
    -------
    dict
        Plain finite values, ready for JSON: "method", "views", "trusted_views" (how many),
        "handedness" (+1, -1 or 0) and, where they are known, "handedness_confidence", "warnings"
        and, over the trusted views, "defocus_range_angstrom", "astigmatism_angstrom" (the median),
        "phase_shift_range_degree" (of a phase plate) and "resolution_range_angstrom" (best, worst).
    """
    trusted = trusted_views(ctf)
    facts: dict[str, Any] = {
        "method": ctf.attrs.get("method"),
        "views": len(trusted),
        "trusted_views": int(trusted.sum()),
        "handedness": handedness_of(ctf),
        "warnings": [str(warning) for warning in ctf.attrs.get("warnings", ())],
    }
    sure = float(ctf.attrs.get("handedness_confidence", np.nan))
    if np.isfinite(sure):
        facts["handedness_confidence"] = round(sure, 3)
    if not trusted.any():
        return facts
    u, v, phase = (ctf[name].values[trusted] for name in ("defocus_u", "defocus_v", "phase_shift"))
    facts["defocus_range_angstrom"] = _range((u + v) / 2)
    facts["astigmatism_angstrom"] = round(float(np.median(np.abs(u - v))), 1)
    if phase[np.isfinite(phase)].any():
        facts["phase_shift_range_degree"] = _range(phase)
    if "fit_resolution" in ctf:
        resolution = ctf["fit_resolution"].values[trusted]
        if np.isfinite(resolution).any():
            facts["resolution_range_angstrom"] = _range(resolution)
    return facts


def _range(values: NDArray[np.float64]) -> list[float]:
    """Return the least and the largest; CTFFIND says inf where it could follow no rings."""
    known = values[np.isfinite(values)]
    return [round(float(end), 2) for end in (known.min(), known.max())]

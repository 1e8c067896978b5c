"""In which order views were taken, and what dose the specimen had received before each."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from tomodask.errors import TomodaskWarning

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from numpy.typing import NDArray

__all__ = ["acquisition_order", "cumulated_dose", "dose_before", "recorded_exposure"]

#: What a recorded dose may lack of the exposures before it, as a fraction of one: rounding.
_ROUNDING = 0.1


def acquisition_order(
    source: str, times: Sequence[datetime | None], prior_doses: Sequence[float | None]
) -> tuple[NDArray[np.int64], str]:
    """Return when each view was taken, as numbers from 0.

    Parameters
    ----------
    source
        What the views are of, for messages.
    times, prior_doses
        What is recorded of each view; views in the order of their sections.

    Returns
    -------
    order : ndarray of int64
        Of each view, from 0.
    followed : str
        What it follows: "DateTime", "PriorRecordDose" or "section number".

    Warns
    -----
    TomodaskWarning
        Where views can only be told apart by their section number, which need not be the order
        of acquisition: stacks are sorted by angle, too.
    """
    views = len(times)
    doses = [-1.0 if dose is None else dose for dose in prior_doses]
    absent = times.count(None)
    keys: list[Any]
    if not absent:
        followed, keys = "DateTime", list(zip(times, doses, strict=True))
        if len(set(keys)) < views:
            _warn(
                f"{source}: {views - len(set(keys))} views have the DateTime of another; these are "
                "taken as acquired in the order of their sections"
            )
    elif None not in prior_doses and len(set(doses)) == views:
        followed, keys = "PriorRecordDose", doses
        if absent < views:
            _warn(
                f"{source}: {absent} of {views} views have no DateTime; the order of acquisition "
                "follows from PriorRecordDose"
            )
    else:
        followed, keys = "section number", [0] * views
        _warn(
            f"{source}: {absent} of {views} views have no DateTime, and PriorRecordDose does not "
            "tell them apart; they are taken as acquired in the order of their sections: check it "
            "(--dry-run)"
        )
    order = np.empty(views, np.int64)
    order[sorted(range(views), key=lambda view: (keys[view], view))] = np.arange(views)
    return order, followed


def recorded_exposure(
    exposure: float | None, frame_doses: Sequence[tuple[float, int]]
) -> tuple[float | None, str]:
    """Return the dose that is recorded of one view and the key that it is from.

    Parameters
    ----------
    exposure
        ``ExposureDose``, e/A^2; None where not calibrated.
    frame_doses
        ``FrameDosesAndNumber``: e/A^2 of a frame, and how many have it.

    Returns
    -------
    exposure : float or None
        e/A^2; None where neither tells.
    source : str
        The key.
    """
    if exposure is not None:
        return exposure, "ExposureDose"
    summed = sum(dose * count for dose, count in frame_doses)
    return (summed if summed > 0 else None), "FrameDosesAndNumber"


def dose_before(
    source: str,
    order: NDArray[np.int64],
    exposures: NDArray[np.float64],
    prior_doses: Sequence[float | None],
) -> tuple[NDArray[np.float64], str]:
    """Return the dose that the specimen had received before each view.

    What the microscope counted is believed where it is consistent with the exposures, because it
    includes images that are no longer there; else the exposures are summed.

    Parameters
    ----------
    source
        What the views are of, for messages.
    order
        Of acquisition, from 0.
    exposures
        e/A^2 of each view.
    prior_doses
        ``PriorRecordDose`` of each view, e/A^2, None where not recorded.

    Returns
    -------
    dose : ndarray of float64
        e/A^2 before each view.
    followed : str
        "PriorRecordDose" or "exposures".

    Warns
    -----
    TomodaskWarning
        Where recorded doses contradict the exposures, or only some views have one.
    """
    summed = cumulated_dose(order, exposures)
    if not any(prior_doses):
        return summed, "exposures"
    missing = sum(dose is None for dose in prior_doses)
    if missing:
        _warn(
            f"{source}: {missing} of {len(order)} views have no PriorRecordDose; the dose is "
            "summed from the exposures"
        )
        return summed, "exposures"
    recorded = np.array(prior_doses, np.float64)
    taken = np.argsort(order)
    short = exposures[taken][:-1] * (1 - _ROUNDING) - np.diff(recorded[taken])
    if np.any(short > 0):
        first = int(np.argmax(short > 0))
        before, after = recorded[taken][first : first + 2]
        _warn(
            f"{source}: PriorRecordDose goes from {before:g} to {after:g} e/A^2 over an exposure "
            f"of {exposures[taken][first]:g}; the dose is summed from the exposures instead"
        )
        return summed, "exposures"
    return recorded, "PriorRecordDose"


def cumulated_dose(order: NDArray[np.int64], exposures: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum of the exposures before each view.

    Parameters
    ----------
    order
        Of acquisition, from 0.
    exposures
        e/A^2 of each view.

    Returns
    -------
    ndarray of float64
        e/A^2.
    """
    taken = np.argsort(order)
    before = np.concatenate(([0.0], np.cumsum(exposures[taken])[:-1]))
    dose = np.empty(len(order))
    dose[taken] = before
    return dose


def _warn(message: str) -> None:
    warnings.warn(message, TomodaskWarning, stacklevel=4)

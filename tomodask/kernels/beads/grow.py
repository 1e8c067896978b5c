"""From one view to all: a model that grows by the view nearest in tilt.

It starts with the detections of a low view, at unknown heights. Each further view is registered to
it as a whole, by the shift that puts most landmarks on detections; its rotation and tilt follow,
and the landmarks' heights from the parallax. So a view may be displaced by any amount, views may
be missing, and the tilt axis need not be known: it is adjusted as the model grows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomodask.kernels.beads.adjustment import adjust
from tomodask.kernels.beads.discover import discover
from tomodask.kernels.beads.link import register
from tomodask.kernels.beads.structure import resect
from tomodask.kernels.bundle.variables import Variables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tomodask.kernels.beads.model import Model

__all__ = ["complete", "grow"]

#: Evidence, and its lead over any other shift, with which a view is registered; and pairs.
_EVIDENCE, _MARGIN, _PAIRS = 6.0, 3.0, 2
#: Numbers of views after which the poses are adjusted and landmarks are looked for.
_MILESTONES = (4, 7, 12, 20, 32)
#: Views, the first ones, whose detections become landmarks at once.
_FOUNDERS = 5
#: Neighbours of the first view, none of which can be registered, after which there is no growing.
_PATIENCE = 4
#: Rounds of completing at most.
_ROUNDS = 6
#: Part of the views that should show a landmark in which it must be found.
_FOUND = 0.25


def grow(model: Model) -> None:
    """Extend a model with one view to as many as can be registered, in place."""
    left = [v for v, d in enumerate(model.detected) if len(d) and not model.aligned[v]]
    failed = 0
    while left and (model.aligned.sum() > 1 or failed < _PATIENCE):
        view = _next(model, left)
        left.remove(view)
        if not _extend(model, view):
            failed += 1
        elif model.aligned.sum() in _MILESTONES:
            _settle(model, Variables())
    _settle(model, Variables())


def _settle(model: Model, variables: Variables | None) -> None:
    """Adjust the poses, assign all detections anew, and look for further landmarks."""
    adjust(model, variables)
    model.measure_deviation()
    for view in np.flatnonzero(model.aligned):
        model.reassign(int(view))
    _forget(model)
    model.add(discover(model, tolerance=3 * model.deviation))


def complete(model: Model, variables: Variables | None) -> None:
    """Register the views that are left, settle, and so on until nothing changes."""
    for _ in range(_ROUNDS):
        before = model.index.copy()
        for view, detected in enumerate(model.detected):
            if len(detected) and not model.aligned[view]:
                _extend(model, view)
        _settle(model, variables)
        if before.shape == model.index.shape and (before == model.index).all():
            break


def _next(model: Model, left: Sequence[int]) -> int:
    """Return the view nearest in tilt to those aligned, the lower of two as near."""
    angles = model.tilt_angle[model.aligned]
    return min(
        left,
        key=lambda v: (
            np.abs(angles - model.tilt_angle[v]).min().round(3),
            abs(model.tilt_angle[v]),
            v,
        ),
    )


def _extend(model: Model, view: int) -> bool:
    """Register a view and add what it shows to the model; False if the place is not certain."""
    points, covariance = model.points()
    known = np.flatnonzero(np.isfinite(points[:, 0]))
    aligned = np.flatnonzero(model.aligned)
    nearest = aligned[np.argmin(np.abs(model.tilt_angle[aligned] - model.tilt_angle[view]))]
    coarse = model.coarse_shift
    model.shift[view] = 0
    predicted, spread = model.predict(view, points[known], covariance[known])
    found = register(
        predicted,
        spread,
        model.detected[view],
        expected=model.shift[nearest] + coarse[view] - coarse[nearest],
        drift=model.drift,
        area=float(np.prod(model.shape)),
    )
    if found.evidence < _EVIDENCE or found.margin < _MARGIN or len(found.landmark) < _PAIRS:
        return False
    model.matrix[view], model.shift[view] = resect(
        model.detected[view][found.detection],
        spread[found.landmark],
        points[known[found.landmark]],
        model.matrix[view],
        found.shift,
    )
    model.aligned[view] = True
    model.reassign(view)
    if model.aligned.sum() <= _FOUNDERS:
        free = model.free(view)
        born = np.full((len(free), len(model.tilt_angle)), -1)
        born[:, view] = free
        model.add(born)
    return True


def _forget(model: Model) -> None:
    """Drop landmarks that too few of the views which should show them do."""
    count = np.sum(model.index >= 0, axis=1)
    enough = np.minimum(3, model.aligned.sum())
    model.keep((count >= enough) & (count >= _FOUND * model.visible().sum(axis=1)))

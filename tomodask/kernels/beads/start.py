"""Which of several beginnings leads to a model of the whole series that can be believed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tomodask.errors import DataError
from tomodask.kernels.beads.credible import REMEDY
from tomodask.kernels.beads.grow import grow
from tomodask.kernels.beads.model import Model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["FEWEST", "linked"]

#: Fewest landmarks of an alignment.
FEWEST = 3
#: Prior deviation of heights, and drift of neighbouring views without and with a coarse alignment,
#: as fractions of the images' shorter edge.
_DEPTH, _DRIFT, _DRIFT_LEFT = 0.15, 0.05, 0.01
#: Views that are tried as the first one.
_STARTS = 5
#: Where the tilt axis is looked for if nothing is known about it, degrees.
_AXES = (0.0, 90.0)
#: Part of the views with detections that must be aligned, and part of the landmarks' places in
#: them that must be detections.
_ALIGNED, _DETECTED = 0.7, 0.3


@dataclass(frozen=True, slots=True)
class _Support:
    """What speaks for a model."""

    landmarks: int
    aligned: float
    detected: float

    @property
    def convincing(self) -> bool:
        """Whether chance is out of the question.

        A landmark that a third of the views show within a few pixels of where it must be is real:
        a false one would be found there by chance in every hundredth view or so.
        """
        return self.landmarks >= FEWEST and self.aligned >= _ALIGNED and self.detected >= _DETECTED


def linked(
    detected: Sequence[FloatArray],
    shape: tuple[int, int],
    tilt_angle: FloatArray,
    tilt_axis_angle: float | None,
    coarse_shift: FloatArray | None,
) -> Model:
    """Return a model of the whole series.

    Parameters
    ----------
    detected
        Per view (n, 2) positions from the image centre, pixels.
    shape
        (y, x) of the images.
    tilt_angle
        (tilt,) degrees.
    tilt_axis_angle
        Degrees, or None.
    coarse_shift
        (tilt, 2) of the views, pixels, or None.

    Raises
    ------
    DataError
        If no beginning leads to a model that explains the detections.
    """
    counts = np.array([len(d) for d in detected])
    if np.sum(counts >= FEWEST) < FEWEST:
        raise DataError(
            f"only {np.sum(counts >= FEWEST)} views show {FEWEST} beads or more: {REMEDY}"
        )
    edge = min(shape)
    drift = edge * (_DRIFT if coarse_shift is None else _DRIFT_LEFT)
    coarse = np.zeros((len(detected), 2)) if coarse_shift is None else coarse_shift
    candidates = np.flatnonzero(counts >= max(FEWEST, np.median(counts[counts > 0]) / 2))
    starts = candidates[np.argsort(np.abs(tilt_angle[candidates]), kind="stable")][:_STARTS]
    best = _Support(0, 0.0, 0.0)
    for view in starts:
        for axis in _AXES if tilt_axis_angle is None else (tilt_axis_angle,):
            model = Model.start(
                detected,
                shape,
                tilt_angle,
                axis,
                int(view),
                depth=_DEPTH * edge,
                coarse_shift=coarse,
                drift=drift,
            )
            grow(model)
            support = _support(model, int(np.sum(counts > 0)))
            if support.convincing:
                return model
            best = max(best, support, key=lambda s: s.landmarks * s.aligned * s.detected)
    raise DataError(
        f"the beads of different views cannot be matched: {best.landmarks} landmarks, seen in "
        f"{100 * best.detected:.0f} % of the places where they should be, in "
        f"{100 * best.aligned:.0f} % of the views, is the most that fits one rigid specimen; "
        f"{REMEDY}"
    )


def _support(model: Model, views: int) -> _Support:
    visible = model.visible()
    seen = visible & (model.index >= 0)
    return _Support(
        landmarks=len(model.index),
        aligned=float(model.aligned.sum() / views),
        detected=float(seen.sum() / max(visible.sum(), 1)),
    )

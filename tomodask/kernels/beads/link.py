"""Which detection of a view is which point of a model, when the view's shift is not known.

Displacements between all predictions and all detections are voted on: the right shift is the one
that many of them share. The best candidates are then judged by their likelihood, in which each
prediction is found within its own covariance or not, false detections are spread evenly over the
field, and shifts far from the expected one are improbable, but not impossible. That likelihood,
relative to nothing being matched at all, is the evidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.special import entr

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

__all__ = ["Registration", "assign", "register"]

#: Candidate shifts that are judged.
_CANDIDATES = 24
#: Squared Mahalanobis distance within which a detection can be a point: 99.9 % of them.
GATE = 13.8


@dataclass(frozen=True, slots=True, eq=False)
class Registration:
    """How detections of a view fit predictions.

    Attributes
    ----------
    shift
        (2,) to be added to the predictions.
    landmark, detection
        (n,) indices of the pairs.
    evidence
        Log-likelihood ratio to no match at all.
    margin
        Evidence less that of the best distinct other shift.
    """

    shift: FloatArray
    landmark: IntArray
    detection: IntArray
    evidence: float
    margin: float


def assign(
    predicted: FloatArray, covariance: FloatArray, detected: FloatArray, *, gate: float = GATE
) -> tuple[IntArray, IntArray, FloatArray]:
    """Return the one-to-one pairs of least total squared Mahalanobis distance within the gate.

    Parameters
    ----------
    predicted, covariance
        (n, 2) and (n, 2, 2).
    detected
        (m, 2).
    gate
        Greatest squared distance of a pair.

    Returns
    -------
    landmark, detection, distance
        (k,) indices, and the squared distances.
    """
    none = np.zeros(0, np.int64)
    if not len(predicted) or not len(detected):
        return none, none, np.zeros(0)
    apart = detected[None] - predicted[:, None]
    distance = np.einsum("nmi,nij,nmj->nm", apart, np.linalg.inv(covariance), apart)
    cost = np.minimum(distance, gate) - gate
    rows, columns = linear_sum_assignment(cost)
    kept = distance[rows, columns] < gate
    return rows[kept], columns[kept], distance[rows, columns][kept]


def register(
    predicted: FloatArray,
    covariance: FloatArray,
    detected: FloatArray,
    *,
    expected: FloatArray,
    drift: float,
    area: float,
) -> Registration:
    """Find the shift of a view's detections from predictions.

    Parameters
    ----------
    predicted, covariance
        (n, 2) and (n, 2, 2), but for the common shift.
    detected
        (m, 2).
    expected
        (2,) the most probable shift.
    drift
        Scale of the shift about it (Cauchy), pixels.
    area
        Of the image, pixels.
    """
    none = np.zeros(0, np.int64)
    if not len(predicted) or not len(detected):
        return Registration(expected, none, none, 0.0, 0.0)
    density = max(len(detected), 1) / area
    found: list[Registration] = []
    for start in _candidates(predicted, covariance, detected, expected):
        shift = start
        for _ in range(5):
            rows, columns, distance = assign(predicted + shift, covariance, detected)
            if not len(rows):
                break
            weight = np.linalg.inv(covariance[rows])
            apart = detected[columns] - predicted[rows]
            new = np.linalg.solve(weight.sum(axis=0), np.einsum("nij,nj->i", weight, apart))
            moved, shift = np.abs(new - shift).max(), new
            if moved < 1e-3:
                break
        if not len(rows):
            continue
        spread = np.sqrt(np.linalg.det(covariance[rows]))
        gain = -np.log(2 * np.pi * spread * density) - distance / 2
        # That some are found and others are not is as probable as it can be by their number.
        part = len(rows) / len(predicted)
        surprise = len(predicted) * float(entr(part) + entr(1 - part))
        # The prior of the shift is a density: what counts is how much of it the pairs leave.
        left = 1 / np.sqrt(np.linalg.det(weight.sum(axis=0)))
        off = float(np.sum((shift - expected) ** 2)) / drift**2
        prior = float(np.log(left / drift**2)) - 1.5 * np.log1p(off)
        evidence = float(np.maximum(gain, 0).sum()) - surprise + prior
        found.append(Registration(shift, rows, columns, evidence, 0.0))
    if not found:
        return Registration(expected, none, none, 0.0, 0.0)
    found.sort(key=lambda r: -r.evidence)
    best = found[0]
    width = 3 * np.sqrt(np.median(np.trace(covariance, axis1=1, axis2=2)))
    others = [r.evidence for r in found[1:] if np.linalg.norm(r.shift - best.shift) > width]
    margin = best.evidence - max([0.0, *others])
    return Registration(best.shift, best.landmark, best.detection, best.evidence, margin)


def _candidates(
    predicted: FloatArray, covariance: FloatArray, detected: FloatArray, expected: FloatArray
) -> FloatArray:
    """Return (k, 2) displacements that many pairs share, and the expected one."""
    displacement = (detected[None] - predicted[:, None]).reshape(-1, 2)
    bin_width = 2 * np.sqrt(np.median(np.trace(covariance, axis1=1, axis2=2)))
    low = displacement.min(axis=0) - bin_width
    cell = ((displacement - low) / bin_width).astype(np.int64)
    votes = np.zeros(cell.max(axis=0) + 2)
    np.add.at(votes, (cell[:, 0], cell[:, 1]), 1.0)
    # Sums over 2 x 2 cells, so that no shared displacement is split by an edge.
    votes = votes + np.roll(votes, -1, 0)
    votes = votes + np.roll(votes, -1, 1)
    best = np.argsort(-votes, axis=None, kind="stable")[:_CANDIDATES]
    corner = np.stack(np.unravel_index(best, votes.shape), axis=1)
    return np.concatenate([expected[None], low + (corner + 1) * bin_width])

"""The exhaustive search that a fit of a series begins with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import logsumexp

from tomodask.kernels.ctf.focus import FocusTransform, focus_transform
from tomodask.kernels.ctf.problem import JointFit, Problem

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["shared_start"]

#: Contrasts that a search begins with: exp(-fall k^2).
_FALLS = (40.0, 150.0, 500.0)
#: Half of the largest difference of defocus between directions that is looked for, and steps, A.
_ASTIGMATISM, _ASTIGMATISM_STEP = 1500.0, 250.0
#: Width of the distribution of such halves, A.
_USUAL = 500.0
#: Degrees.
_PHASE_STEP = 10.0


def shared_start(problem: Problem, handedness: int) -> JointFit:
    """Search defocus, shared astigmatism and phase shift exhaustively.

    The evidence of a view is the logarithm of the mean over the range of its likelihood ratio.
    """
    views = problem.handed(handedness)
    count = len(views)
    grid = problem.grid()
    best: tuple[float, FloatArray, FloatArray, float, FloatArray] | None = None
    for fall in _FALLS:
        contrast = np.exp(-fall * problem.rings.squared)
        transform = focus_transform(views, problem.rings, problem.smooth, contrast, grid)
        astigmatism, phase = np.zeros(2), float(np.mean(problem.phase_shift))
        phases = np.arange(problem.phase_shift[0], problem.phase_shift[1] + 1e-9, _PHASE_STEP)
        score, evidence = -np.inf, np.zeros(count)
        for _ in range(2 if problem.searches_phase else 1):
            for candidate in phases if problem.searches_phase else ():
                found = _shared_score(problem, transform, astigmatism, candidate)
                if found.sum() > score:
                    score, phase, evidence = float(found.sum()), float(candidate), found
            for vector in _astigmatisms(problem.astigmatism):
                found = _shared_score(problem, transform, vector, phase)
                prior = 0.5 * float(vector @ vector) / _USUAL**2
                if found.sum() - prior > score:
                    score, astigmatism, evidence = float(found.sum()) - prior, vector, found
        if best is None or score > best[0]:
            best = (score, contrast, astigmatism, phase, evidence)
    assert best is not None
    _, contrast, astigmatism, phase, evidence = best
    zeros = np.zeros(count)
    return JointFit(
        handedness,
        contrast,
        zeros.copy(),
        np.ones(count),
        zeros.copy(),
        np.full(count, np.inf),
        zeros.copy(),
        np.tile(astigmatism, (count, 1)),
        np.zeros((count, 2)),
        np.full(count, phase),
        zeros.copy(),
        zeros.copy(),
        np.full(count, np.inf),
        np.ones(count),
        evidence,
    )


def _astigmatisms(allowed: bool) -> list[FloatArray]:
    """Return vectors on a hexagonal grid, from none outwards."""
    if not allowed:
        return [np.zeros(2)]
    reach = int(_ASTIGMATISM / _ASTIGMATISM_STEP) + 2
    i, j = np.meshgrid(np.arange(-reach, reach + 1), np.arange(-reach, reach + 1))
    vectors = np.stack([i + j / 2, np.sqrt(0.75) * j], axis=-1).reshape(-1, 2) * _ASTIGMATISM_STEP
    length = np.hypot(*vectors.T)
    inside = np.argsort(length, kind="stable")[: int((length <= _ASTIGMATISM).sum())]
    return list(vectors[inside])


def _shared_score(
    problem: Problem,
    transform: FocusTransform,
    astigmatism: FloatArray,
    phase: float,
) -> FloatArray:
    count = len(transform.energy)
    shift = np.tile(astigmatism @ problem.rings.turns, (count, 1))
    matched = transform.matched(shift, np.full(count, phase))
    inside = problem.inside(transform.defocus)
    gain = np.maximum(matched[:, inside], 0) ** 2 / (2 * transform.energy[:, inside])
    found: FloatArray = logsumexp(gain, axis=1) - np.log(inside.sum())
    return found

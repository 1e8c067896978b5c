"""The exhaustive search that a fit of a series begins with."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
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
#: Half of the largest difference of defocus between directions that is looked for, A.
_ASTIGMATISM = 1500.0
#: Steps of it, A: the first for every contrast, the second around the best.
_COARSE, _FINE = 500.0, 250.0
#: Width of the distribution of such halves, A.
_USUAL = 500.0
#: Degrees.
_PHASE_STEP = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class _Shared:
    """What the views of a series share to begin with, and how well it fits.

    Parameters
    ----------
    contrast
        (ring,).
    transform
        With this contrast.
    astigmatism
        (2,) A.
    phase_shift
        Degrees.
    evidence
        (view,).
    """

    contrast: FloatArray
    transform: FocusTransform
    astigmatism: FloatArray
    phase_shift: float
    evidence: FloatArray

    @property
    def score(self) -> float:
        """Sum of the evidence, less what large astigmatism is unlikely."""
        return float(self.evidence.sum() - 0.5 * self.astigmatism @ self.astigmatism / _USUAL**2)


def shared_start(problem: Problem, handedness: int) -> JointFit:
    """Search defocus, shared astigmatism and phase shift exhaustively.

    The evidence of a view is the logarithm of the mean over the range of its likelihood ratio.
    """
    views = problem.handed(handedness)
    grid = problem.grid()
    vectors = _hexagons(_COARSE, _ASTIGMATISM) if problem.astigmatism else np.zeros((1, 2))
    phases = np.array([problem.phase_shift[0]])
    if problem.searches_phase:
        phases = np.arange(problem.phase_shift[0], problem.phase_shift[1] + 1e-9, _PHASE_STEP)
    found = []
    for fall in _FALLS:
        contrast = np.exp(-fall * problem.rings.squared)
        transform = focus_transform(views, problem.rings, problem.smooth, contrast, grid)
        begun = _best(problem, contrast, transform, np.zeros((1, 2)), phases)
        found.append(_best(problem, contrast, transform, vectors, np.array([begun.phase_shift])))
    best = max(found, key=lambda each: each.score)
    if problem.astigmatism:
        around = best.astigmatism + _hexagons(_FINE, 1.01 * _FINE)
        near = np.array([-1.0, 0.0, 1.0]) * (_PHASE_STEP if problem.searches_phase else 0.0)
        near = np.clip(best.phase_shift + np.unique(near), *problem.phase_shift)
        best = _best(problem, best.contrast, best.transform, around, near)
    count = len(views)
    return JointFit(
        handedness=handedness,
        contrast=best.contrast,
        amplitude=np.zeros(count),
        noise=np.ones(count),
        defocus=np.zeros(count),
        defocus_variance=np.full(count, np.inf),
        defocus_error=np.zeros(count),
        astigmatism=np.tile(best.astigmatism, (count, 1)),
        astigmatism_variance=np.zeros((count, 2)),
        phase_shift=np.full(count, best.phase_shift),
        phase_variance=np.zeros(count),
        ridge=np.zeros(count),
        others_mean=np.zeros(count),
        others_variance=np.full(count, np.inf),
        regular=np.ones(count),
        evidence=best.evidence,
    )


def _hexagons(step: float, reach: float) -> FloatArray:
    """Return the vectors of a hexagonal grid, from none outwards."""
    size = np.arange(-int(reach / step) - 2, int(reach / step) + 3)
    i, j = np.meshgrid(size, size)
    vectors = np.stack([i + j / 2, np.sqrt(0.75) * j], axis=-1).reshape(-1, 2) * step
    length = np.hypot(*vectors.T)
    inside: FloatArray = vectors[np.argsort(length, kind="stable")[: int((length <= reach).sum())]]
    return inside


def _best(
    problem: Problem,
    contrast: FloatArray,
    transform: FocusTransform,
    vectors: FloatArray,
    phases: FloatArray,
) -> _Shared:
    """Return the best of some vectors of astigmatism and phase shifts."""
    inside = problem.inside(transform.defocus)
    twice = 2 * transform.energy[:, inside]
    count = len(twice)
    found = []
    for vector, phase in product(vectors, phases):
        shift = np.tile(vector @ problem.rings.turns, (count, 1))
        matched = transform.matched(shift, np.full(count, phase))[:, inside]
        evidence = logsumexp(np.maximum(matched, 0) ** 2 / twice, axis=1) - np.log(inside.sum())
        found.append(_Shared(contrast, transform, vector, float(phase), evidence))
    return max(found, key=lambda each: each.score)

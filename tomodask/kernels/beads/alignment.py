"""What an alignment by gold beads consists of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tomodask.kernels.beads.choose import LandmarkScore
    from tomodask.kernels.bundle.solution import Solution
    from tomodask.kernels.bundle.variables import Variables

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

__all__ = ["FILLED", "TRACKED", "BeadAlignment"]

#: Where a position of a landmark is from: measured in the image, or filled in by the model.
TRACKED, FILLED = 1, 2


@dataclass(frozen=True, slots=True, eq=False)
class BeadAlignment:
    """An alignment by gold beads; positions and lengths in pixels.

    Parameters
    ----------
    position
        (landmark, tilt, 2) of all candidates, from the image centre; NaN outside the images and
        in views that are not aligned.
    error
        (landmark, tilt) standard errors of one coordinate; NaN where not measured.
    source
        (landmark, tilt) int8: ``TRACKED``, ``FILLED`` (where the model puts it: no measurement),
        or 0 where there is no position.
    chosen
        (n,) the candidates that the solution rests on, the most important first.
    solution
        Of the chosen landmarks, in their order.
    variables
        What the solution could vary.
    points
        (landmark, 3) of all candidates.
    residual
        (landmark, tilt, 2) prediction less measurement; NaN where not measured.
    surface
        (landmark,) 1 the lower and 2 the upper; all 1 where there is one surface only, or none.
    score
        How good the candidates are.
    diameter
        Of the beads.
    notes
        What was not used, and why: sentences for the user.
    """

    position: FloatArray
    error: FloatArray
    source: NDArray[np.int8]
    chosen: IntArray
    solution: Solution
    variables: Variables
    points: FloatArray
    residual: FloatArray
    surface: IntArray
    score: LandmarkScore
    diameter: float
    notes: tuple[str, ...]

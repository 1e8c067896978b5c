"""Where a bundle adjustment starts: one rotation, the shifts and the points, wrong tracks or not.

With the nominal tilt angles and one rotation the model is nearly linear, so that least squares
find it from afar. Wrong tracks would bend it: least absolute deviations first, and then weights
whose scale falls with the residuals, leave them out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tomodask.kernels.bundle.least_squares import minimise
from tomodask.kernels.bundle.normal import Problem, State
from tomodask.kernels.bundle.robust import annealed_weights
from tomodask.kernels.bundle.variables import PARAMETERS, Component

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomodask.kernels.bundle.table import Table

    FloatArray = NDArray[np.float64]

__all__ = ["initial_state"]

#: Rounds of soft and of hard weights.
_SOFT, _HARD = 5, 12
#: Largest residual in units of the median, median residual in units of the landmarks' spread, and
#: turn of the axis, at which least squares are believed at once.
_CLEAN, _CLOSE, _TURN = 8.0, 0.02, np.deg2rad(25.0)
#: Turns that are tried otherwise, and how far each may go for a residual like the whole spread
#: while wrong tracks still count.
_TRIALS, _REACH = np.deg2rad([0.0, -20.0, 20.0]), np.deg2rad(12.0)


def initial_state(table: Table, start: FloatArray, floor: float) -> tuple[float, State, FloatArray]:
    """Return a start.

    Parameters
    ----------
    table
        Observations.
    start
        (view, 7) nominal values.
    floor
        Length below which no residual is suspect.

    Returns
    -------
    turn : float
        Of the axis, to be added to the nominal one, radians.
    state : State
        Without unknowns.
    weight : (view, landmark)
        Robust weights times those given.
    """
    problem = _Turning(table, start)
    state, length = problem.fitted(problem.first(), table.weight, steps=15)
    typical = float(np.median(length[table.seen]))
    clean = length[table.seen].max() <= max(_CLEAN * typical, floor)
    if clean and typical < _CLOSE * table.spread and abs(state.unknowns[0]) < _TURN:
        return float(state.unknowns[0]), _without(state), table.weight
    ends = [_Turning(table, start, turn).annealed(floor) for turn in _TRIALS]
    scale = max(min(float(np.median(end.length[table.seen])) for end in ends), floor)
    best = min(ends, key=lambda e: float(np.log1p((e.length[table.seen] / scale) ** 2).sum()))
    return best.turn, _without(best.state), best.weight


@dataclass(frozen=True, slots=True, eq=False)
class _End:
    """Where a search ended: turn of the axis, state, lengths of residuals, weights."""

    turn: float
    state: State
    length: FloatArray
    weight: FloatArray


class _Turning:
    """The problem of one rotation, shifts and points, from an axis turned beforehand."""

    def __init__(self, table: Table, start: FloatArray, turn: float = 0.0) -> None:
        self.table = table
        self.turn = turn
        turned = start.copy()
        turned[:, PARAMETERS.index("rotation")] += turn
        turning = Component("rotation", np.ones((len(start), 1)))
        self.problem = Problem(table, turned, (turning,))

    def first(self) -> State:
        """Return the state with shifts at the medians of the positions."""
        masked = np.where(self.table.seen[:, :, None], self.table.position, np.nan)
        shift = np.nanmedian(masked, axis=1)
        return State(np.zeros(1), shift, np.zeros((masked.shape[1], 3)))

    def fitted(
        self, state: State, weight: FloatArray, steps: int, pull: float = 0.0
    ) -> tuple[State, FloatArray]:
        """Return the least-squares state and the lengths of all residuals."""
        penalty = np.array([pull])
        state = minimise(self.problem, state, weight, penalty, steps=steps, tolerance=1e-4)
        return state, np.linalg.norm(self.problem.residual(state), axis=2)

    def annealed(self, floor: float) -> _End:
        """Return the end of a search that leaves wrong tracks out bit by bit.

        While they still count they could turn the axis far away: until they do not, it is held.
        """
        table = self.table
        held = float(table.weight.sum()) * (table.spread / _REACH) ** 2
        weight = table.weight
        state, length = self.fitted(self.first(), weight, 5, held)
        for hard, rounds, pull in ((False, _SOFT, held), (True, _HARD, 0.0)):
            for _ in range(rounds):
                weight = table.weight * annealed_weights(length, table.seen, floor, hard=hard)
                state, length = self.fitted(state, weight, 2, pull)
        # What the free variables will explain is not wrong: only what is far off stays out.
        far = _CLEAN * max(float(np.median(length[table.seen])), floor)
        weight = np.where(length < far, table.weight, 0.0)
        return _End(self.turn + float(state.unknowns[0]), state, length, weight)


def _without(state: State) -> State:
    """Return the state without unknowns."""
    return State(np.zeros(0), state.shift, state.points)

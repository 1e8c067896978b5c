"""Bundle adjustment: the geometry of all views, and the landmarks, from where they were seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomodask.errors import DataError
from tomodask.kernels.bundle.automatic import automatic_variables
from tomodask.kernels.bundle.fit import FLOOR, fit
from tomodask.kernels.bundle.initial import initial_state
from tomodask.kernels.bundle.judgement import consistent, needed_landmarks
from tomodask.kernels.bundle.normal import Problem, State
from tomodask.kernels.bundle.report import report
from tomodask.kernels.bundle.table import Table
from tomodask.kernels.bundle.variables import PARAMETERS, Freedom

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from tomodask.kernels.bundle.observations import Observations
    from tomodask.kernels.bundle.solution import Solution
    from tomodask.kernels.bundle.variables import Variables

    FloatArray = NDArray[np.float64]

__all__ = ["solve"]

#: With fewer landmarks no wrong one can be told from the others.
_TELLABLE = 4


def solve(
    observations: Observations,
    tilt_angle: ArrayLike,
    *,
    tilt_axis_angle: float,
    variables: Variables | None = None,
    robust: bool = True,
    start: Solution | None = None,
) -> Solution:
    """Return the geometry of a tilt series that explains where landmarks were seen.

    The sum of squared distances between predictions and measurements is minimised over the
    shifts and the other variables of the views and over the landmarks' points, by
    Levenberg-Marquardt steps with the points eliminated. Wrong observations get no weight
    (:mod:`tomodask.kernels.bundle.robust`).

    The gauge is fixed so: the tilt axis is vertical in the aligned images; the view of lowest
    tilt keeps its nominal tilt angle, and its magnification, stretch, skew, compression and
    x-tilt, unless a mapping says otherwise or the values have priors, whose mean is then zero;
    the origin is the mean of the points. An axis turned by 180 degrees fits as well, with the
    specimen's mirror image: the one nearer to the given axis is returned.

    Parameters
    ----------
    observations
        Where landmarks were seen.
    tilt_angle
        (view,) nominal tilt angles, degrees.
    tilt_axis_angle
        Nominal direction of the tilt axis, degrees counter-clockwise from +y; it may be wrong by
        20 degrees.
    variables
        What may vary; by default those of
        :func:`~tomodask.kernels.bundle.automatic.automatic_variables`.
    robust
        Whether wrong observations lose their weight, where there are any.
    start
        An earlier solution of the same views, whose values stand for the nominal ones: what is
        fixed stays as it is there, and priors are about it. Its axis may still turn as a whole
        unless the rotation is fixed.

    Returns
    -------
    Solution

    Raises
    ------
    DataError
        If the observations cannot hold the solution: too few of them, in pieces that nothing
        connects, or such as no rigid specimen gives.
    ParameterError
        If variables cannot be told from a change of the specimen.
    """
    variables = automatic_variables(observations) if variables is None else variables
    nominal = np.atleast_1d(np.asarray(tilt_angle, np.float64))
    table = Table.create(observations, nominal)
    values = _starting_values(nominal, tilt_axis_angle, start)
    floor = FLOOR * table.spread
    turn, state, weight = initial_state(table, values, floor)
    if variables.rotation != Freedom("fixed"):
        values[:, PARAMETERS.index("rotation")] += turn
    own = table.enough(needed_landmarks(variables), len(nominal))
    components = variables.components(nominal, own)
    problem = Problem(table, values, components)
    state = State(np.zeros(problem.unknowns), state.shift, state.points)

    def solution(*, weighed: bool) -> Solution:
        return report(fit(problem, state, weight, robust=weighed), tilt_axis_angle)

    if not robust:
        return solution(weighed=False)
    # Weights that follow the residuals cost accuracy where nothing is wrong, and with few
    # landmarks they end in fitting some of them exactly: they are for where something is wrong.
    try:
        plain = solution(weighed=False)
    except DataError:
        return solution(weighed=True)
    few = len(table.landmarks) < _TELLABLE
    return plain if few or consistent(plain, observations.weight, floor) else solution(weighed=True)


def _starting_values(
    tilt_angle: FloatArray, tilt_axis_angle: float, start: Solution | None
) -> FloatArray:
    """Return the (view, 7) values, radians, that deviations are counted from."""
    if start is not None:
        columns = (
            np.deg2rad(start.rotation),
            np.deg2rad(start.tilt_angle),
            start.magnification,
            start.compression,
            start.stretch,
            np.deg2rad(start.skew),
            np.deg2rad(start.x_tilt),
        )
        return np.stack(columns, axis=1)
    values = np.zeros((len(tilt_angle), len(PARAMETERS)))
    values[:, PARAMETERS.index("rotation")] = np.deg2rad(tilt_axis_angle)
    values[:, PARAMETERS.index("tilt")] = np.deg2rad(tilt_angle)
    values[:, PARAMETERS.index("magnification")] = 1.0
    values[:, PARAMETERS.index("compression")] = 1.0
    return values

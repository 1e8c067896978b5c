"""A converged fit, put into the terms of the series."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tomodask.kernels.bundle.cameras import camera_matrices
from tomodask.kernels.bundle.fit import Fit, assessed
from tomodask.kernels.bundle.groups import interpolated
from tomodask.kernels.bundle.judgement import judge, judge_angles, warnings_of
from tomodask.kernels.bundle.solution import Solution
from tomodask.kernels.bundle.statistics import leverage
from tomodask.kernels.bundle.variables import PARAMETERS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["report"]

_ANGLES = ("rotation", "tilt", "skew", "x_tilt")
#: Total weights of a view's and of a landmark's observations below which they are not solved.
_VIEW, _LANDMARK = 1.5, 2.0


def report(fit: Fit, given_axis: float) -> Solution:
    """Return the solution of all views and landmarks.

    Parameters
    ----------
    fit
        What was found.
    given_axis
        Tilt-axis angle given, degrees.

    Raises
    ------
    DataError
        If the fit cannot be right.
    """
    problem, table = fit.problem, fit.problem.table
    judge(table, fit.robust_weight, fit.noise, fit.freedom)
    values = problem.values_everywhere(fit.state.unknowns)
    judge_angles(values, problem.start)
    matrix = camera_matrices(values)
    views = len(values)

    total = int(table.landmarks.max()) + 1
    points = np.full((total, 3), np.nan)
    good = fit.robust_weight.sum(axis=0) >= _LANDMARK
    points[table.landmarks[good]] = fit.state.points[good]
    origin = np.nanmean(points, axis=0)
    points -= origin

    solved = np.zeros(views, bool)
    solved[table.views] = fit.robust_weight.sum(axis=1) >= _VIEW
    tilt = values[:, PARAMETERS.index("tilt")]
    rows = np.flatnonzero(solved[table.views])
    known_shift = fit.state.shift[rows] + fit.equations.matrix[rows] @ origin
    shift = interpolated(tilt[table.views[rows]], tilt) @ known_shift
    shift[table.views[rows]] = known_shift

    hat = leverage(problem, fit.equations, fit.known, fit.weight)
    camera = np.where(fit.robust_weight > 0, hat.camera_variance, np.nan)
    camera[:, ~good] = np.nan
    error = np.full(views, np.nan)
    error[table.views[rows]] = fit.noise * np.sqrt(_nanmean(camera[rows]))
    degrees = {
        name: np.rad2deg(column) if name in _ANGLES else column
        for name, column in zip(PARAMETERS, values.T, strict=True)
    }
    residual = assessed(problem, fit.state, fit.robust_weight)
    robust_weight = table.per_observation(fit.robust_weight)
    found = Solution(
        matrix=matrix,
        shift=shift,
        rotation=degrees["rotation"],
        tilt_angle=degrees["tilt"],
        magnification=degrees["magnification"],
        compression=degrees["compression"],
        stretch=degrees["stretch"],
        skew=degrees["skew"],
        x_tilt=degrees["x_tilt"],
        points=points,
        residual=table.per_observation(residual),
        left_out=table.per_observation(np.where(good[:, None], hat.left_out, np.nan)),
        robust_weight=np.where(np.isfinite(robust_weight), robust_weight, 0.0),
        solved=solved,
        noise=fit.noise,
        freedom=fit.freedom,
        unknowns=float(fit.decided.sum()) + 2 * len(table.views) + 3 * len(table.landmarks),
        error=error,
        parameter_error=_parameter_errors(fit),
        prior_width=_prior_widths(fit),
        warnings=(),
    )
    return replace(found, warnings=warnings_of(found, table, given_axis))


def _parameter_errors(fit: Fit) -> dict[str, FloatArray]:
    """Return expected standard deviations of the parameters and the shift."""
    problem, table = fit.problem, fit.problem.table
    count, views = problem.unknowns, len(problem.start)
    found: dict[str, FloatArray] = {}
    for name in problem.parameters:
        effect = np.zeros((views, count))
        for one, columns in zip(problem.components, problem.columns, strict=True):
            if one.parameter == name:
                effect[:, columns] += one.basis
        variance = np.einsum("vi,vi->v", effect @ fit.known[:count, :count], effect)
        sigma = fit.noise * np.sqrt(np.maximum(variance, 0.0))
        found[name] = np.rad2deg(sigma) if name in _ANGLES else sigma
    variance = np.diag(fit.known)[count:].reshape(-1, 2).sum(axis=1)
    found["shift"] = np.full(views, np.nan)
    found["shift"][table.views] = fit.noise * np.sqrt(variance)
    return found


def _prior_widths(fit: Fit) -> dict[str, float]:
    """Return the standard deviations over the views that the priors ended with."""
    variance: dict[str, float] = {}
    for one, width in zip(fit.problem.components, fit.widths, strict=True):
        if one.estimated:
            unit = np.rad2deg(width) if one.parameter in _ANGLES else width
            each = float(np.mean(np.sum(one.basis**2, axis=1)))
            variance[one.parameter] = variance.get(one.parameter, 0.0) + unit**2 * each
    return {name: float(np.sqrt(value)) for name, value in variance.items()}


def _nanmean(values: FloatArray) -> FloatArray:
    """Return the mean over the second axis without NaN; NaN where there is nothing else."""
    finite = np.isfinite(values)
    count = finite.sum(axis=1)
    total = np.where(finite, values, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)

"""Whether a solution can be trusted: what is refused, and what is warned of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomodask.errors import DataError
from tomodask.kernels.bundle.variables import PARAMETERS, Freedom

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomodask.kernels.bundle.normal import Normal, Problem
    from tomodask.kernels.bundle.solution import Solution
    from tomodask.kernels.bundle.table import Table
    from tomodask.kernels.bundle.variables import Variables

    FloatArray = NDArray[np.float64]
    BoolArray = NDArray[np.bool_]

__all__ = [
    "check_determined",
    "consistent",
    "judge",
    "judge_angles",
    "needed_landmarks",
    "warnings_of",
]

#: Smallest eigenvalue of the reduced normal matrix, scaled to a unit diagonal, that is not zero.
_SINGULAR = 1e-11
#: Fraction of all weight that may be lost to wrong observations.
_MOST_LOST = 0.45
#: Fewest landmarks that keep most of their weight.
_AGREEING = 3
#: Noise, as a fraction of the landmarks' spread, that no rigid specimen gives, and that which is
#: suspicious.
_NOT_RIGID, _HARDLY_RIGID = 0.05, 0.015
#: Median length of two Gaussian coordinates of unit standard deviation.
_MEDIAN_LENGTH = 1.1774
#: Part of series without wrong observations that are searched for them all the same; what is wrong
#: by less does little harm.
_BY_CHANCE = 0.001
#: Mean weight below which a landmark or a view is named.
_DOUBTED = 0.5
#: Measured values per unknown below which the solution is said to follow the noise.
_RATIO = 3.0
#: Expected errors of parameters that are worse than not solving for them at all.
_USELESS = {
    "rotation": 1.0,
    "tilt": 1.0,
    "magnification": 0.01,
    "compression": 0.05,
    "stretch": 0.01,
    "skew": 0.6,
    "x_tilt": 1.0,
}
#: Deviation of a view's angles from the nominal ones that is refused, degrees.
_FAR = 10.0
#: Difference between the solved and the given axis that is pointed out, degrees.
_AXIS_OFF = 5.0


def needed_landmarks(variables: Variables) -> int:
    """Return how many landmarks a view needs to have values of its own.

    Two coordinates each, less the shift's two, must exceed the view's unknowns.
    """
    free = 0
    for name in PARAMETERS:
        freedom = getattr(variables, name)
        free += isinstance(freedom, Freedom) and freedom.kind == "free"
    return max(2, (free + 2) // 2 + 1)


def check_determined(problem: Problem, equations: Normal, penalty: FloatArray) -> None:
    """Refuse variables of which the observations leave a combination undetermined.

    Raises
    ------
    DataError
        Naming the parameters that take part.
    """
    system, _ = equations.reduced(penalty)
    scale = 1 / np.sqrt(np.maximum(np.diag(system), 1e-300))
    values, vectors = np.linalg.eigh(system * scale * scale[:, None])
    if values[0] >= _SINGULAR:
        return
    loose = vectors[:, values < _SINGULAR] ** 2
    share = {
        component.parameter: float(loose[columns].sum())
        for component, columns in zip(problem.components, problem.columns, strict=True)
    }
    names = [name for name, part in share.items() if part > 0.05 * sum(share.values())]
    raise DataError(
        f"the landmarks do not determine the {' and '.join(names) or 'shift'} of all views "
        f"together ({int((values < _SINGULAR).sum())} combinations are open): fix one of "
        "them, use larger groups or the kind 'estimated', or track landmarks at other heights"
    )


def consistent(solution: Solution, weight: FloatArray, floor: float) -> bool:
    """Return whether a fit without robust weights leaves no observation that looks wrong.

    Residuals are compared with what those of their leverage should be: a view that follows a
    wrong observation leaves it a small residual, but a large one had it been left out.

    Parameters
    ----------
    solution
        Made without robust weights.
    weight
        (n,) prior weights of the observations.
    floor
        Length below which nothing is an error.
    """
    inside = np.linalg.norm(solution.residual, axis=1)
    left_out = np.linalg.norm(solution.left_out, axis=1)
    size = np.sqrt(inside * left_out * weight)
    size = size[np.isfinite(size) & (weight > 0)]
    if not len(size):
        return False
    deviation = max(float(np.median(size)) / _MEDIAN_LENGTH, floor)
    # The largest of so many Gaussian ones, but for one series in a thousand.
    expected = np.sqrt(2 * np.log(len(size) / _BY_CHANCE))
    return bool(size.max() < expected * deviation)


def judge(table: Table, robust: FloatArray, noise: float, freedom: float) -> None:
    """Refuse what cannot be right.

    Raises
    ------
    DataError
        If too many observations were found wrong, if the rest does not look like a rigid
        specimen, or if there are more unknowns than measurements.
    """
    seen = table.seen
    lost = 1 - float(robust[seen].mean())
    if lost > _MOST_LOST:
        raise DataError(
            f"{100 * lost:.0f} % of the observations contradict the others: which are right "
            "cannot be told; check the tracks, the tilt angles and the tilt-axis angle"
        )
    agreeing = int((robust.sum(axis=0) > _DOUBTED * seen.sum(axis=0)).sum())
    if agreeing < _AGREEING:
        raise DataError(
            f"only {agreeing} of {seen.shape[1]} landmarks agree with each other: which are right "
            f"cannot be told with less than {_AGREEING}; track more landmarks"
        )
    if freedom < 1:
        raise DataError(
            f"{2 * int(seen.sum())} measured coordinates for more unknowns: fix more variables "
            "or track more landmarks"
        )
    if noise > _NOT_RIGID * table.spread:
        raise DataError(
            f"the landmarks miss their predicted places by {noise:.4g}, their spread being "
            f"{table.spread:.4g}: they do not move like one rigid specimen at these tilt angles; "
            "check the tracks, the order and signs of the tilt angles and the tilt-axis angle"
        )


def judge_angles(values: FloatArray, start: FloatArray) -> None:
    """Refuse angles that no stage is so far away from.

    Parameters
    ----------
    values, start
        (view, 7) solved and nominal values, radians.

    Raises
    ------
    DataError
        Naming the view that is worst.
    """
    for name in ("rotation", "tilt"):
        place = PARAMETERS.index(name)
        moved = np.rad2deg(values[:, place] - start[:, place])
        moved -= np.median(moved)
        worst = int(np.argmax(np.abs(moved)))
        if abs(moved[worst]) > _FAR:
            raise DataError(
                f"the {name} of view {worst} would have to be {moved[worst]:+.1f} degrees off, "
                "compared with the others: check the order and signs of the tilt angles, and the "
                "tracks there; if the landmarks are few, free less"
            )


def warnings_of(solution: Solution, table: Table, given_axis: float) -> tuple[str, ...]:
    """Return sentences about what a user should look at."""
    found = []
    weight = solution.robust_weight
    inside = table.rows >= 0
    outside = int((~inside).sum())
    if outside:
        found.append(
            f"{outside} observations were not used: their landmark is seen in too few views, or "
            "their weight is zero"
        )
    by_landmark = _means(weight[inside], table.columns[inside], len(table.landmarks))
    doubted = table.landmarks[by_landmark < _DOUBTED]
    if len(doubted):
        found.append(
            f"landmarks {_listed(doubted + 1)}: most of their observations contradict the others "
            "and count little; look at their tracks"
        )
    by_view = _means(weight[inside], table.rows[inside], len(table.views))
    doubted = np.sort(table.views[(by_view < _DOUBTED) & solution.solved[table.views]])
    if len(doubted):
        found.append(f"views {_listed(doubted)}: most of their observations count little")
    # Views without any observation are left out on purpose, or by what found the landmarks.
    unsolved = table.observed[~solution.solved[table.observed]]
    if len(unsolved):
        found.append(
            f"views {_listed(unsolved)}: too few good observations; their values lie between "
            "those of their neighbours, and their shifts are not to be trusted"
        )
    measured = 2 * float(np.nansum(weight))
    if measured < _RATIO * solution.unknowns:
        found.append(
            f"only {measured / max(solution.unknowns, 1):.1f} measured values per unknown: the "
            "residual is much smaller than the error; see leave_out_error"
        )
    for name, limit in _USELESS.items():
        error = solution.parameter_error.get(name)
        if error is not None and np.nanmax(error) > limit:
            views = np.flatnonzero(error > limit)
            found.append(
                f"the {name.replace('_', '-')} is hardly determined in views {_listed(views)} "
                f"(expected error up to {np.nanmax(error):.2g}); fix it, or group more views"
            )
    one_surface = flatness(solution.points)
    loose = [n for n in ("tilt", "stretch", "compression") if n in solution.parameter_error]
    if one_surface and len(loose) > 1:
        found.append(
            "the landmarks lie in one plane: "
            + " and ".join(loose)
            + " can hardly be told apart; track landmarks on both surfaces or fix one of them"
        )
    if solution.noise > _HARDLY_RIGID * table.spread:
        found.append(
            f"the landmarks miss their predicted places by {solution.noise:.3g}, which is much "
            f"for a spread of {table.spread:.3g}"
        )
    off = float(np.median(solution.rotation)) - given_axis
    if abs(off) > _AXIS_OFF:
        found.append(
            f"the tilt axis is {off:+.1f} degrees from the one given; an axis turned by 180 "
            "degrees fits as well, with the other hand, so check the given one"
        )
    return tuple(found)


def flatness(points: FloatArray) -> bool:
    """Return whether points lie in a plane, compared with how far they spread in it."""
    known = points[np.isfinite(points).all(axis=1)]
    if len(known) < 4:
        return True
    sizes = np.linalg.svd(known - known.mean(axis=0), compute_uv=False)
    return bool(sizes[2] < 0.05 * sizes[1])


def _means(values: FloatArray, groups: NDArray[np.int64], count: int) -> FloatArray:
    total = np.bincount(groups, values, count)
    found: FloatArray = total / np.maximum(np.bincount(groups, minlength=count), 1)
    return found


def _listed(indices: NDArray[np.int64], most: int = 12) -> str:
    shown = ", ".join(str(one) for one in indices[:most])
    return shown if len(indices) <= most else f"{shown} and {len(indices) - most} more"

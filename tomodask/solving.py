"""From landmarks to an alignment: the bundle adjustment of a series' landmarks."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tomodask.engine.threads import single_threaded
from tomodask.errors import ParameterError
from tomodask.geometry import Projection
from tomodask.kernels.bundle import (
    Freedom,
    Observations,
    Variables,
    automatic_variables,
    solve,
    triangulate,
    weights_of_errors,
)
from tomodask.local_solving import exposed, solve_local
from tomodask.model import (
    alignment_dataset,
    measured_observations,
    projection_of,
    provenance,
)

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from tomodask.kernels.bundle import Solution
    from tomodask.local_solving import LocalSolution

    FloatArray = NDArray[np.float64]

__all__ = ["describe_variables", "solution_tables", "solve_landmarks", "solved_together"]

#: Residuals of landmarks and of their alignment differ by less, A: rounding.
_ROUNDING = 1e-3


@single_threaded()
def solve_landmarks(
    landmarks: xr.Dataset,
    views: xr.Dataset,
    *,
    start: xr.Dataset | None = None,
    variables: Variables | None = None,
    tilt_axis_angle: float | None = None,
    local: bool | None = None,
) -> tuple[xr.Dataset, xr.Dataset]:
    """Solve the geometry of the views and the places of the landmarks.

    Parameters
    ----------
    landmarks
        A table of landmarks; what is filled, deleted, not chosen or of a view that is not included
        is not used.
    views
        The tilt series: "tilt_angle", "included", and the attributes "pixel_size" and
        "tilt_axis_angle".
    start
        An alignment whose tilt axis is used where `tilt_axis_angle` is not given.
    variables
        What may vary, and how freely; chosen from the data by default.
    tilt_axis_angle
        Degrees, counter-clockwise from +y; may be wrong by 20 degrees, modulo 180.
    local
        Whether the specimen may move locally; if None, where left-out landmarks say so.

    Returns
    -------
    landmarks, alignment
        The table with residuals, weights and specimen positions; and the alignment.

    Raises
    ------
    DataError
        If the landmarks do not determine a solution; the message says why.
    ParameterError
        If no tilt axis is known.
    """
    axis = tilt_axis_angle
    if axis is None and start is not None:
        axis = float(np.median(start["tilt_axis_angle"].values))
    if axis is None:
        axis = views.attrs.get("tilt_axis_angle")
    if axis is None:
        raise ParameterError("the tilt axis is unknown; give tilt_axis (--tilt-axis)")
    pixel = float(views.attrs["pixel_size"])
    used = measured_observations(landmarks, views["included"].values)
    index = landmarks["number"].values - 1  # as warnings call them
    observations = Observations.create(
        index[landmarks["landmark_of"].values[used]],
        landmarks["view"].values[used],
        np.stack([landmarks["x"].values[used], landmarks["y"].values[used]], axis=1) / pixel,
        weights_of_errors(landmarks["error"].values[used] / pixel),
    )
    angles = views["tilt_angle"].values
    if variables is None:
        variables = automatic_variables(observations)
    solution = solve(observations, angles, tilt_axis_angle=axis, variables=variables)
    moved = None
    if local is not False:
        moved = solve_local(
            observations, solution, angles, variables=variables, exposed=exposed(views)
        )
    if moved is not None:
        solution = moved.solution
    solution = replace(solution, points=solution.points_of(index))
    points = _all_points(landmarks, solution, pixel, moved)
    return solution_tables(landmarks, used, solution, pixel, variables, moved, points)


def _all_points(
    landmarks: xr.Dataset, solution: Solution, pixel_size: float, moved: LocalSolution | None
) -> FloatArray:
    """Return the (landmark, 3) places, pixels: those too of landmarks that are not chosen.

    So it can be seen how well they would fit.
    """
    points = solution.points.copy()
    of = landmarks["landmark_of"].values
    apart = ~landmarks["chosen"].values
    seen = apart[of] & np.isin(landmarks["source"].values, ("tracked", "edited"))
    observations = Observations.create(
        of[seen],
        landmarks["view"].values[seen],
        np.stack([landmarks[axis].values[seen] for axis in "xy"], axis=1) / pixel_size,
    )
    found = triangulate(solution.matrix, solution.shift, observations)
    if moved is not None:
        unmoved = moved.unmoved(observations, found)
        found = triangulate(solution.matrix, solution.shift, unmoved)
    apart = apart[: len(found)]
    points[: len(found)][apart] = found[apart]
    return points


def solution_tables(
    landmarks: xr.Dataset,
    used: NDArray[np.bool_],
    solution: Solution,
    pixel_size: float,
    variables: Variables,
    moved: LocalSolution | None = None,
    points: FloatArray | None = None,
) -> tuple[xr.Dataset, xr.Dataset]:
    """Return the landmarks with what a solution says of them, and the alignment that it is.

    The origin is put where the view of lowest tilt sees it at its centre, half-way between the
    lowest and the highest landmark.

    Parameters
    ----------
    landmarks
        A table of landmarks.
    used
        (observation,) those that the solution was made of, in their order.
    solution
        In pixels.
    pixel_size
        A.
    variables
        What was allowed to vary.
    moved
        The solution with what the specimen moved beside it, None if it is rigid.
    points
        (landmark, 3) places of all landmarks, pixels; those of the solution by default.
    """
    origin = _origin(solution)
    projection = Projection.from_cameras(
        solution.matrix,
        solution.shift * pixel_size,
        solution.tilt_angle,
        x_tilt=solution.x_tilt,
        local=None if moved is None else moved.field(pixel_size),
    ).moved_origin(origin * pixel_size)
    places = ((solution.points if points is None else points) - origin) * pixel_size
    result = _with_residuals(landmarks, used, solution, pixel_size, projection, places)
    of_view = [
        solution.residual_length[result["view"].values[used] == view]
        for view in range(len(projection))
    ]
    mean = [float(np.nanmean(one)) if np.isfinite(one).any() else np.nan for one in of_view]
    alignment = alignment_dataset(
        projection,
        method=str(landmarks.attrs.get("method", "landmarks")),
        attributes={
            "mean_residual": solution.mean_residual * pixel_size,
            "residual_deviation": solution.residual_deviation * pixel_size,
            "leave_out_error": solution.leave_out_error * pixel_size,
            "noise": solution.noise * pixel_size,
            "error": float(np.sqrt(np.nanmean(solution.error**2))) * pixel_size,
            "landmarks": int(np.isfinite(solution.points[:, 0]).sum()),
            "observations": int(np.count_nonzero(solution.robust_weight > 0)),
            "unknowns": float(solution.unknowns),
            "variables": describe_variables(variables),
            **_local_attributes(moved, pixel_size),
            "warnings": list(solution.warnings),
            "provenance": provenance("solve landmarks", variables=describe_variables(variables)),
        },
        found=solution.solved,
        error=solution.error * pixel_size,
        mean_residual=np.array(mean) * pixel_size,
    )
    return result, alignment


def _local_attributes(moved: LocalSolution | None, pixel_size: float) -> dict[str, Any]:
    """Return what is to be said of the local motion."""
    if moved is None:
        return {"local": False}
    motion = moved.motion
    return {
        "local": True,
        "local_pace": motion.prior.pace,
        "local_length": motion.prior.length * pixel_size,
        "local_left_out": motion.left_out * pixel_size,
        "local_left_out_rigid": motion.left_out_rigid * pixel_size,
    }


def solved_together(landmarks: xr.Dataset, alignment: xr.Dataset) -> bool:
    """Return whether an alignment is what the residuals of landmarks are from.

    It is not where one of the two was replaced, or a run was killed that stored both.
    """
    specimen = np.stack([landmarks[f"specimen_{axis}"].values for axis in "xyz"], axis=1)
    where = projection_of(alignment).project(np.nan_to_num(specimen))
    predicted = where[landmarks["view"].values, landmarks["landmark_of"].values]
    off = [
        predicted[:, column] - landmarks[axis].values - landmarks[f"residual_{axis}"].values
        for column, axis in enumerate("xy")
    ]
    known = np.isfinite(off)
    return bool(known.any() and np.abs(np.array(off)[known]).max() < _ROUNDING)


def describe_variables(variables: Variables) -> dict[str, str]:
    """Return how free each variable is, in words."""

    def words(freedom: Any) -> str:
        if not isinstance(freedom, Freedom):
            return "mapped"
        return f"grouped by {freedom.size}" if freedom.kind == "grouped" else freedom.kind

    return {field.name: words(getattr(variables, field.name)) for field in fields(variables)}


def _origin(solution: Solution) -> FloatArray:
    """Return the point that becomes the specimen's origin, pixels."""
    height = float((np.nanmin(solution.points[:, 2]) + np.nanmax(solution.points[:, 2])) / 2)
    solved = np.flatnonzero(solution.solved)
    lowest = solved[np.argmin(np.abs(solution.tilt_angle[solved]))]
    matrix, shift = solution.matrix[lowest], solution.shift[lowest]
    place = np.linalg.solve(matrix[:, :2], -(shift + matrix[:, 2] * height))
    return np.array([*place, height])


def _with_residuals(
    landmarks: xr.Dataset,
    used: NDArray[np.bool_],
    solution: Solution,
    pixel_size: float,
    projection: Projection,
    points: FloatArray,
) -> xr.Dataset:
    """Return landmarks with residuals, weights and specimen positions.

    Points that took no part have residuals too where their landmark is known: they show where
    the solution expects them.
    """
    count = landmarks.sizes["landmark"]
    specimen = np.full((count, 3), np.nan)
    specimen[: len(points)] = points
    where = projection.project(np.nan_to_num(specimen))
    predicted = where[landmarks["view"].values, landmarks["landmark_of"].values]
    known = np.isfinite(specimen).all(axis=1)[landmarks["landmark_of"].values]
    weight = np.where(known, 0.0, np.nan)
    weight[used] = solution.robust_weight
    columns = {"weight": weight}
    for column, axis in enumerate("xy"):
        residual = predicted[:, column] - landmarks[axis].values
        columns[f"residual_{axis}"] = np.where(known, residual, np.nan)
    result = landmarks.assign(
        {
            name: (("observation",), values, landmarks[name].attrs)
            for name, values in columns.items()
        }
    )
    return result.assign(
        {
            f"specimen_{axis}": (
                ("landmark",),
                specimen[:, column],
                landmarks[f"specimen_{axis}"].attrs,
            )
            for column, axis in enumerate("xyz")
        }
    )

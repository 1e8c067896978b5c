"""Solving a fiducial model from anywhere: no store, no images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tomodask.engine.files import explained
from tomodask.engine.threads import single_threaded
from tomodask.errors import DataError, ParameterError
from tomodask.geometry import Projection
from tomodask.io.fiducials import read_fiducials
from tomodask.io.imod import (
    FiducialPositions,
    Residuals,
    read_angles,
    write_angles,
    write_fiducial_xyz,
    write_residuals,
    write_transforms,
    write_zfactors,
)
from tomodask.io.tiltalign import read_tiltalign
from tomodask.io.tiltalign_log import TiltalignReport, write_tiltalign_log
from tomodask.kernels.bundle import Observations, automatic_variables, solve
from tomodask.tiltalign_variables import not_followed, tiltalign_variables

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomodask.io.fiducials import Fiducials
    from tomodask.io.tiltalign import TiltalignOptions
    from tomodask.kernels.bundle import Solution

    FloatArray = NDArray[np.float64]

__all__ = ["SolvedModel", "solve_model"]

#: Factors of z below this are rounding.
_NO_Z_FACTOR = 1e-7
#: Standard deviations above the mean beyond which a log lists residuals.
_CRITERION = 3.0


@dataclass(frozen=True, slots=True, eq=False)
class SolvedModel:
    """A solved fiducial model.

    Parameters
    ----------
    solution
        In pixels of the stack that the model was made on.
    projection
        What was written, A.
    files
        What was written, and where.
    lines
        What to say of it.
    """

    solution: Solution
    projection: Projection
    files: tuple[Path, ...]
    lines: tuple[str, ...]


def solve_model(
    model: str | Path,
    out: str | Path,
    *,
    tilt_angles: str | Path | None = None,
    com: str | Path | None = None,
    tilt_axis: float | None = None,
    pixel_size: float | None = None,
    robust: bool | None = None,
) -> SolvedModel:
    """Solve the alignment of a fiducial model, and write it as tiltalign does.

    Parameters
    ----------
    model
        Fiducial model (``.fid``).
    out
        Folder for ``NAME.tltxf``, ``.tlt``, ``.xtilt`` and ``.zfac`` (where there are any),
        ``.xyz``, ``.resid`` and ``.log``; made when absent.
    tilt_angles
        File of nominal angles; by default the one that `com` names.
    com
        Command file of tiltalign: its variables, axis and offsets are used. Without it what may
        vary is chosen from the data.
    tilt_axis
        Degrees, counter-clockwise from +y; by default that of `com`.
    pixel_size
        A; by default as the model says, else 1.
    robust
        Whether wrong points lose their weight; by default as `com` says, else true.

    Returns
    -------
    SolvedModel

    Raises
    ------
    ParameterError
        If angles or axis are given nowhere.
    DataError
        If the points do not determine a solution, or the numbers of views differ.
    FormatError
        If a file cannot be read.
    """
    options = None if com is None else read_tiltalign(com)
    fiducials = read_fiducials(model)
    nominal = _angles(fiducials, tilt_angles, options)
    axis = tilt_axis
    if axis is None and options is not None:
        axis = options.rotation_angle
    if axis is None:
        raise ParameterError(f"{model}: give the tilt axis (--tilt-axis), or --com")
    pixel = pixel_size or fiducials.pixel_size or 1.0
    used = np.ones(len(fiducials.view), bool)
    if options is not None:
        used = ~np.isin(fiducials.view, options.excluded)
    names = np.stack([fiducials.model_object, fiducials.contour], axis=1)
    contours, of = np.unique(names, axis=0, return_inverse=True)
    # Warnings call fiducials by their contours, where these are of one object.
    one_object = len(np.unique(contours[:, 0])) == 1
    index = contours[:, 1] - 1 if one_object else np.arange(len(contours))
    observations = Observations.create(
        index[of.reshape(-1)[used]], fiducials.view[used], fiducials.position[used]
    )
    if options is None:
        variables = automatic_variables(observations)
    else:
        variables = tiltalign_variables(options, nominal, fiducials.view[used])
    use_weights = robust if robust is not None else options is None or options.robust
    with single_threaded():
        solution = solve(
            observations, nominal, tilt_axis_angle=axis, variables=variables, robust=use_weights
        )
    solution = replace(solution, points=solution.points_of(index))
    z_shift = 0.0 if options is None else options.axis_z_shift / options.binning
    projection, points = _positioned(solution, z_shift)
    scaled = Projection.from_cameras(
        projection.image_matrix() @ projection.view_matrix()[:, :2],
        projection.shift * pixel,
        projection.tilt_angle,
        x_tilt=projection.x_tilt,
    )
    target = Path(out).expanduser().absolute()
    with explained(target):
        target.mkdir(parents=True, exist_ok=True)
    named = target / Path(model).stem
    listed = None if options is None else options.report_criterion
    files = _write(
        named,
        fiducials,
        contours,
        points,
        used,
        solution,
        projection,
        nominal,
        _CRITERION if listed is None else abs(listed),
    )
    lines = _lines(solution, axis)
    if options is not None:
        lines += [f"warning    {com}: {text}" for text in not_followed(options)]
    return SolvedModel(solution, scaled, tuple(files), tuple(lines))


def _angles(
    fiducials: Fiducials, given: str | Path | None, options: TiltalignOptions | None
) -> FloatArray:
    """Return the tilt angles of the model's views to start from, with the offset added."""
    if given is not None:
        angles = read_angles(given)
    elif options is not None and options.tilt_file is not None:
        angles = read_angles(options.path.parent / options.tilt_file)
    elif options is not None and options.first_tilt_angle is not None:
        steps = np.arange(fiducials.views)
        increment = options.tilt_increment or 0.0
        angles = np.asarray(options.first_tilt_angle + steps * increment, np.float64)
    else:
        raise ParameterError("the tilt angles are given nowhere: give --tilt-angles FILE")
    if len(angles) != fiducials.views:
        raise DataError(
            f"{given or 'the command file'} gives {len(angles)} tilt angles, the model has "
            f"{fiducials.views} views; give the angles of this series"
        )
    return angles if options is None else angles + options.angle_offset


def _positioned(solution: Solution, z_shift: float) -> tuple[Projection, FloatArray]:
    """Return the projection (pixels) and points about the origin that tiltalign would take.

    The view of lowest tilt sees it at its centre; it lies `z_shift` above the mean of the points.
    """
    solved = np.flatnonzero(solution.solved)
    lowest = solved[np.argmin(np.abs(solution.tilt_angle[solved]))]
    matrix, height = solution.matrix[lowest], float(np.nanmean(solution.points[:, 2]))
    seen = solution.shift[lowest] + matrix[:, 2] * height
    origin = np.array([*np.linalg.solve(matrix[:, :2], -seen), height + z_shift])
    projection = Projection.from_cameras(
        solution.matrix, solution.shift, solution.tilt_angle, x_tilt=solution.x_tilt
    )
    return projection.moved_origin(origin), solution.points - origin


def _write(
    named: Path,
    fiducials: Fiducials,
    contours: NDArray[np.int64],
    points: FloatArray,
    used: NDArray[np.bool_],
    solution: Solution,
    projection: Projection,
    nominal: FloatArray,
    criterion: float,
) -> list[Path]:
    """Write a solution under a name, as tiltalign does; return the files."""

    def file(suffix: str) -> Path:
        return named.with_name(f"{named.name}.{suffix}")

    size = np.array(fiducials.image_size)
    known = np.isfinite(points[:, 0])
    solved = np.isfinite(solution.residual[:, 0])
    position = (fiducials.position[used] + size / 2)[solved]
    of_view = fiducials.view[used][solved]
    names = np.stack([fiducials.model_object, fiducials.contour], axis=1)[used][solved]
    of = (names[:, None] == contours).all(axis=2).argmax(axis=1)
    residual = solution.residual[solved]
    written = [file("tltxf"), file("tlt"), file("xyz"), file("resid"), file("log")]
    write_transforms(written[0], projection.to_transforms(1.0))
    write_angles(written[1], projection.tilt_angle)
    write_fiducial_xyz(
        written[2],
        FiducialPositions(
            xyz=points[known] + [*size / 2, 0.0],
            model_object=contours[known, 0],
            contour=contours[known, 1],
            pixel_size=fiducials.pixel_size,
            image_size=fiducials.image_size,
        ),
    )
    write_residuals(written[3], Residuals(xy=position, view=of_view, residual=residual))
    write_tiltalign_log(
        written[4],
        _report(solution, contours, of_view, position, residual, nominal, criterion, of),
    )
    if projection.x_tilt.any():
        written.append(file("xtilt"))
        write_angles(written[-1], projection.x_tilt)
    if np.abs(projection.z_factor).max() > _NO_Z_FACTOR:
        written.append(file("zfac"))
        write_zfactors(written[-1], projection.z_factor)
    for suffix in ("xtilt", "zfac"):  # an earlier solution's would be read as this one's
        if file(suffix) not in written:
            file(suffix).unlink(missing_ok=True)
    return written


def _report(
    solution: Solution,
    contours: NDArray[np.int64],
    view: NDArray[np.int64],
    position: FloatArray,
    residual: FloatArray,
    nominal: FloatArray,
    criterion: float,
    landmark: NDArray[np.int64],
) -> TiltalignReport:
    """Return what the log says."""
    known = np.isfinite(solution.points[:, 0])
    place = np.cumsum(known) - 1
    seen = np.unique(view)
    length = np.hypot(*residual.T)
    shifts, of_points = 2 * len(seen), 3 * len(np.unique(landmark))
    unknowns = round(solution.unknowns)
    return TiltalignReport(
        view=seen,
        rotation=solution.rotation[seen],
        tilt=solution.tilt_angle[seen],
        tilt_change=(solution.tilt_angle - nominal)[seen],
        magnification=solution.magnification[seen],
        stretch=solution.stretch[seen],
        skew=solution.skew[seen],
        mean_residual=np.array([length[view == one].mean() for one in seen]),
        xyz=solution.points[known],
        point_object=contours[known, 0],
        point_contour=contours[known, 1],
        observed_point=place[landmark],
        observed_view=view,
        position=position,
        residual=residual,
        variables=unknowns - shifts - of_points,
        unknowns=unknowns - 3,  # the origin is anywhere
        weight=solution.robust_weight[np.isfinite(solution.residual[:, 0])],
        leave_out_error=solution.leave_out_error,
        report_criterion=criterion,
    )


def _lines(solution: Solution, axis: float) -> list[str]:
    """Return what to say of a solution."""
    length = solution.residual_length
    rotation = float(np.median(solution.rotation))
    found = int(np.isfinite(solution.points[:, 0]).sum())
    lines = [
        f"solved     {int(solution.solved.sum())} views, {found} landmarks, "
        f"{np.isfinite(length).sum()} points; {solution.unknowns:.0f} unknowns",
        f"residual   mean {np.nanmean(length):.3f} px, sd {np.nanstd(length, ddof=1):.3f} px; "
        f"weighted {solution.mean_residual:.3f} px",
        f"leave-out  {solution.leave_out_error:.3f} px, mean error of points left out",
        f"tilt axis  {rotation:.2f} deg (given {axis:g})",
    ]
    return lines + [f"warning    {text}" for text in solution.warnings]

"""A solved alignment told in the words and columns of tiltalign's log, which others' tools read.

Source: logs of tiltalign; 3dmod's bead fixer reads the list of large residuals from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tomodask.errors import ConversionError, DataError
from tomodask.io.imod_table import write_lines

if TYPE_CHECKING:
    from os import PathLike

    from numpy.typing import NDArray

__all__ = ["TiltalignReport", "write_tiltalign_log"]


@dataclass(frozen=True, slots=True, eq=False)
class TiltalignReport:
    """What a log says of a solution.

    Attributes
    ----------
    view : ndarray of int64, shape (v,)
        The solved views, from 0.
    rotation, tilt, tilt_change, skew : ndarray of float64, shape (v,)
        Degrees; the change is from the given to the solved angle.
    magnification, stretch : ndarray of float64, shape (v,)
        Solved, 1 and 0 where fixed.
    mean_residual : ndarray of float64, shape (v,)
        Pixels.
    xyz : ndarray of float64, shape (p, 3)
        Solved points, pixels, their mean 0.
    point_object, point_contour : ndarray of int64, shape (p,)
        Where each point is in the model, from 1.
    observed_point : ndarray of int64, shape (n,)
        Index of the point of every observation.
    observed_view : ndarray of int64, shape (n,)
        From 0.
    position : ndarray of float64, shape (n, 2)
        Of the observations, in model coordinates (index + 0.5), pixels.
    residual : ndarray of float64, shape (n, 2)
        Prediction minus measurement, pixels.
    variables : int
        Solved values of views, the shifts left out.
    unknowns : int
        All solved values: these, shifts and points.
    weight : ndarray of float64, shape (n,), optional
        Of a robust solution.
    leave_out_error : float, optional
        Mean error of predicted observations that were left out of the solution, pixels.
    report_criterion : float
        Standard deviations above the mean from which an observation is listed.
    """

    view: NDArray[np.int64]
    rotation: NDArray[np.float64]
    tilt: NDArray[np.float64]
    tilt_change: NDArray[np.float64]
    magnification: NDArray[np.float64]
    stretch: NDArray[np.float64]
    skew: NDArray[np.float64]
    mean_residual: NDArray[np.float64]
    xyz: NDArray[np.float64]
    point_object: NDArray[np.int64]
    point_contour: NDArray[np.int64]
    observed_point: NDArray[np.int64]
    observed_view: NDArray[np.int64]
    position: NDArray[np.float64]
    residual: NDArray[np.float64]
    variables: int
    unknowns: int
    weight: NDArray[np.float64] | None = None
    leave_out_error: float | None = None
    report_criterion: float = 3.0


def write_tiltalign_log(path: str | PathLike[str], report: TiltalignReport) -> None:
    """Write a log of a solved alignment.

    It has the table of views, the points, mean and standard deviation of the residual, the ratio of
    measured values to unknowns, and observations with large residuals, the largest first.

    Parameters
    ----------
    path : path-like
        The file; it appears only when complete.
    report : TiltalignReport
        The solution.

    Raises
    ------
    ConversionError
        A residual is not finite.
    DataError
        There are no observations, or fewer than two.
    StoreError, SpaceError
        The file cannot be written.
    """
    path = Path(path).absolute()
    if len(report.residual) < 2:
        raise DataError(f"{path}: the solution has {len(report.residual)} observations; give all")
    size = np.hypot(*report.residual.T)
    if not np.isfinite(size).all():
        raise ConversionError(f"{path}: a residual is no finite number; leave the point out")
    mean, deviation = size.mean(), size.std(ddof=1)
    measured = 2 * len(size)
    lines = [
        f"{len(report.view):4d} views, {report.variables:4d} geometric variables, "
        f"{len(report.xyz):4d} 3-D points, {len(size):5d} projection points",
        f"  Ratio of total measured values to all unknowns = {measured:5d}/{report.unknowns:4d} = "
        f"{measured / report.unknowns:6.2f}",
        "",
        " view   rotation    tilt    deltilt     mag      dmag      skew    mean resid",
    ]
    columns = (
        report.view + 1,
        report.rotation,
        report.tilt,
        report.tilt_change,
        report.magnification,
        report.stretch,
        report.skew,
        report.mean_residual,
    )
    lines += [
        f"{view:4d}  {rotation:z8.1f}  {tilt:z8.1f}  {change:z8.2f}  {mag:8.4f}  {dmag:z8.4f}  "
        f"{skew:z8.2f}  {residual:8.2f}"
        for view, rotation, tilt, change, mag, dmag, skew, residual in zip(*columns, strict=True)
    ]
    lines += [
        "",
        "",
        "                     3-D point coordinates (with centroid zero)",
        "   #       X         Y         Z      obj  cont   mean resid",
    ]
    count = np.bincount(report.observed_point, minlength=len(report.xyz))
    total = np.bincount(report.observed_point, size, minlength=len(report.xyz))
    lines += [
        f"{place + 1:4d}{x:z10.2f}{y:z10.2f}{z:z10.2f}{number:7d}{contour:5d}"
        + (f"{total[place] / count[place]:12.2f}" if count[place] else "")
        for place, ((x, y, z), number, contour) in enumerate(
            zip(report.xyz, report.point_object, report.point_contour, strict=True)
        )
    ]
    lines += ["", f" Residual error mean and sd: {mean:7.3f} {deviation:7.3f}"]
    if report.weight is not None:
        weighted = np.average(size, weights=report.weight)
        lines.append(f" Residual error weighted mean: {weighted:7.3f}")
    if report.leave_out_error is not None:
        lines.append(f" Residual error leave-out: {report.leave_out_error:7.3f}")
    lines += [
        "",
        "         Projection points with large residuals",
        " obj  cont  view   index coordinates      residuals        # of",
        "   #     #     #      X         Y        X        Y        S.D.",
    ]
    above = (size - mean) / deviation
    for row in np.argsort(-above, kind="stable"):
        if above[row] < report.report_criterion:
            break
        point = report.observed_point[row]
        lines.append(
            f"{report.point_object[point]:4d}{report.point_contour[point]:6d}"
            f"{report.observed_view[row] + 1:6d}{report.position[row, 0]:10.2f}"
            f"{report.position[row, 1]:10.2f}{report.residual[row, 0]:z9.2f}"
            f"{report.residual[row, 1]:z9.2f}{above[row]:9.2f}"
        )
    write_lines(path, [*lines, ""])

"""Alignment by gold beads: from detections of every view to the geometry of the series."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomodask.errors import DataError
from tomodask.kernels.beads.alignment import FILLED, TRACKED, BeadAlignment
from tomodask.kernels.beads.choose import choose, score_landmarks
from tomodask.kernels.beads.credible import REMEDY, checked
from tomodask.kernels.beads.local import shared_offsets
from tomodask.kernels.beads.remeasure import remeasure
from tomodask.kernels.beads.start import FEWEST, linked
from tomodask.kernels.beads.structure import project, triangulate
from tomodask.kernels.beads.surfaces import surfaces_of
from tomodask.kernels.beads.track import adjusted, assigned

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from tomodask.kernels.beads.detect import Detections
    from tomodask.kernels.beads.track import Tracks
    from tomodask.kernels.bundle.solution import Solution
    from tomodask.kernels.bundle.variables import Variables

    FloatArray = NDArray[np.float64]
    BoolArray = NDArray[np.bool_]

__all__ = ["align_beads"]

#: Times that landmarks are looked for in the images.
_ROUNDS = 2
#: Part of a bead's diameter that must lie in the image on all sides of the centre.
_INSIDE = 0.25
#: Points nearer than so many diameters are of one bead.
_SAME = 0.5
#: Part of the views that should show a landmark in which it must have been measured.
_MEASURED = 0.4
#: Mean residual, in units of the median one, of a landmark that is not chosen.
_POOR = 3.0


def align_beads(
    read: Callable[[int], NDArray[np.generic]],
    detections: Sequence[Detections | None],
    tilt_angle: ArrayLike,
    included: ArrayLike,
    *,
    shape: tuple[int, int],
    diameter: float,
    tilt_axis_angle: float | None = None,
    coarse_shift: ArrayLike | None = None,
    count: int = 25,
    variables: Variables | None = None,
) -> BeadAlignment:
    """Align a tilt series by its gold beads.

    The detections are matched by the geometry of a rigid specimen, in whatever way the views are
    displaced; what is missing is then measured in the images, where the solution says that it is.
    A tilt axis turned by 180 degrees, and tilt angles of the opposite sign, fit as well with the
    specimen's mirror image: landmarks cannot tell.

    Parameters
    ----------
    read
        Returns the (y, x) image of a view; called for views in which detections are missing, at
        most twice.
    detections
        Per view, from :func:`~tomodask.kernels.beads.detect.detect_beads`; None for views without.
    tilt_angle
        (tilt,) nominal, degrees.
    included
        (tilt,) which views to use.
    shape
        (y, x) of the images.
    diameter
        Of the beads, pixels.
    tilt_axis_angle
        Degrees counter-clockwise from +y; it may be 20 degrees wrong. None: it is searched.
    coarse_shift
        (tilt, 2) raw (x, y) of the views, pixels, where a coarse alignment is known.
    count
        Landmarks that the solution rests on, at most; the others remain candidates.
    variables
        What the solution may vary in the views, by default that of
        :func:`~tomodask.kernels.bundle.automatic.automatic_variables`.

    Raises
    ------
    DataError
        If the series cannot be aligned by beads; the message says what to do instead.
    """
    tilt = np.asarray(tilt_angle, np.float64)
    used = np.asarray(included, bool)
    coarse = None if coarse_shift is None else np.asarray(coarse_shift, np.float64)
    views = [d if u else None for d, u in zip(detections, used, strict=True)]
    detected = [np.zeros((0, 2)) if d is None else d.position for d in views]
    model = linked(detected, shape, tilt, tilt_axis_angle, coarse)
    tracks = assigned(model, views, variables)
    axis = model.tilt_axis_angle
    notes: list[str] = []

    for _ in range(_ROUNDS):
        state = adjusted(tracks, tilt, axis, variables)
        tracks.drop(state.wrong)
        predicted, visible = _predicted(state.solution, shape, used, _INSIDE * diameter)
        predicted += shared_offsets(
            predicted, np.where(state.wrong[..., None], np.nan, state.residual)
        )
        tracks.fill(
            *remeasure(
                read,
                predicted,
                visible & ~tracks.measured,
                visible,
                diameter=diameter,
                deviation=np.hypot(2 * state.solution.noise, np.nan_to_num(state.solution.error)),
                profiles=[None if d is None else d.profile for d in views],
            )
        )
        tracks = tracks.merge(state.solution.points, _SAME * diameter)
    state = adjusted(tracks, tilt, axis, variables)
    tracks.drop(state.wrong)
    predicted, visible = _predicted(state.solution, shape, used, _INSIDE * diameter)
    kept = _kept(tracks, visible, state.wrong, notes)
    if kept.sum() < FEWEST:
        raise DataError(f"{kept.sum()} beads could be followed through the series: {REMEDY}")
    tracks = tracks[kept]

    points = state.solution.points[kept]
    surface = surfaces_of(points)
    score = score_landmarks(
        state.residual[kept],
        predicted[kept],
        visible[kept],
        diameter=diameter,
        elongation=tracks.elongation,
    )
    fit = score.residual < _POOR
    chosen = choose(points, np.where(fit, score.total, np.inf), surface, count)
    final = adjusted(tracks[chosen], tilt, axis, variables)
    solution = final.solution
    notes += checked(solution, tilt, used, tracks, visible[kept], diameter)
    points, _ = triangulate(
        tracks.position, solution.matrix, solution.shift, deviation=1.0, depth=np.inf
    )
    predicted = project(solution.matrix, solution.shift, points)
    half = (np.array(shape[::-1]) - 1) / 2
    visible = (np.abs(predicted) <= half).all(axis=2) & used & solution.solved
    measured = tracks.measured
    there = np.where(measured[..., None], tracks.position, predicted)
    return BeadAlignment(
        position=np.where((measured | visible)[..., None], there, np.nan),
        error=tracks.error,
        source=np.where(measured, TRACKED, np.where(visible, FILLED, 0)).astype(np.int8),
        chosen=chosen,
        solution=solution,
        variables=final.variables,
        points=points,
        residual=predicted - tracks.position,
        surface=surface,
        score=score,
        diameter=diameter,
        notes=tuple(notes),
    )


def _predicted(
    solution: Solution, shape: tuple[int, int], used: BoolArray, margin: float
) -> tuple[FloatArray, BoolArray]:
    """Return where landmarks are in all views, and which of these places can be looked at."""
    predicted = project(solution.matrix, solution.shift, solution.points)
    half = (np.array(shape[::-1]) - 1) / 2 - margin
    return predicted, (np.abs(predicted) <= half).all(axis=2) & used & solution.solved


def _kept(tracks: Tracks, visible: BoolArray, wrong: BoolArray, notes: list[str]) -> BoolArray:
    """Return which landmarks were measured often enough, and note what was dropped."""
    count, shown = tracks.measured.sum(axis=1), visible.sum(axis=1)
    kept: BoolArray = (count >= FEWEST) & (count >= _MEASURED * shown)
    notes += [
        f"a candidate was dropped: measured in {count[landmark]} of {shown[landmark]} views"
        for landmark in np.flatnonzero(~kept)
    ]
    for rank, landmark in enumerate(np.flatnonzero(kept)):
        views = ", ".join(map(str, np.flatnonzero(wrong[landmark])))
        if views:
            notes.append(f"landmark {rank}, views {views}: contradicts the others, not used")
    return kept

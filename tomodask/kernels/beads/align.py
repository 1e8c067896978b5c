"""Alignment by gold beads: from detections of every view to the geometry of the series."""

from __future__ import annotations

from dataclasses import dataclass
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
    from tomodask.kernels.beads.profile import BeadProfile
    from tomodask.kernels.beads.track import Adjusted, Tracks
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

    def solved(tracks: Tracks) -> Adjusted:
        return adjusted(tracks, tilt, model.tilt_axis_angle, variables)

    tracks = assigned(model, views, variables)
    field = _Field(shape, used, _INSIDE * diameter)
    profiles = [None if d is None else d.profile for d in views]
    for _ in range(_ROUNDS):
        state = solved(tracks)
        tracks.drop(state.wrong)
        tracks = _mended(tracks, state, field, read, profiles, diameter)
    state = solved(tracks)
    tracks.drop(state.wrong)
    visible = field.visible(state.solution, state.solution.points)
    kept, notes = _kept(tracks, visible, state.wrong)
    tracks = tracks[kept]

    points = state.solution.points[kept]
    surface = surfaces_of(points)
    score = score_landmarks(
        state.residual[kept],
        project(state.solution.matrix, state.solution.shift, points),
        visible[kept],
        diameter=diameter,
        elongation=tracks.elongation,
    )
    fit = score.residual < _POOR
    chosen = choose(points, np.where(fit, score.total, np.inf), surface, count)
    final = solved(tracks[chosen])
    wrong = np.zeros(tracks.error.shape, bool)
    wrong[chosen] = final.wrong
    tracks.drop(wrong)
    notes += checked(final.solution, tilt, used, tracks, visible[kept], diameter)
    points, _ = triangulate(
        tracks.position, final.solution.matrix, final.solution.shift, deviation=1.0, depth=np.inf
    )
    predicted = project(final.solution.matrix, final.solution.shift, points)
    measured = tracks.measured
    shown = _Field(shape, used, 0.0).visible(final.solution, points)
    there = np.where(measured[..., None], tracks.position, predicted)
    return BeadAlignment(
        position=np.where((measured | shown)[..., None], there, np.nan),
        error=tracks.error,
        source=np.where(measured, TRACKED, np.where(shown, FILLED, 0)).astype(np.int8),
        chosen=chosen,
        solution=final.solution,
        variables=final.variables,
        points=points,
        residual=predicted - tracks.position,
        surface=surface,
        score=score,
        diameter=diameter,
        notes=tuple(notes),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Field:
    """What part of the images counts: (y, x), (tilt,) views that are used, and the margin."""

    shape: tuple[int, int]
    used: BoolArray
    margin: float

    def visible(self, solution: Solution, points: FloatArray) -> BoolArray:
        """Return in which views with a place of their own points are seen, (landmark, tilt)."""
        predicted = project(solution.matrix, solution.shift, points)
        half = (np.array(self.shape[::-1]) - 1) / 2 - self.margin
        return np.asarray((np.abs(predicted) <= half).all(axis=2) & self.used & solution.solved)


def _mended(
    tracks: Tracks,
    state: Adjusted,
    field: _Field,
    read: Callable[[int], NDArray[np.generic]],
    profiles: Sequence[BeadProfile | None],
    diameter: float,
) -> Tracks:
    """Return the tracks with what is missing measured in the images, and pieces joined."""
    solution = state.solution
    visible = field.visible(solution, solution.points)
    predicted = project(solution.matrix, solution.shift, solution.points)
    believed = np.where(state.wrong[..., None], np.nan, state.residual)
    tracks.fill(
        *remeasure(
            read,
            predicted + shared_offsets(predicted, believed),
            visible & ~tracks.measured,
            visible,
            diameter=diameter,
            deviation=np.hypot(2 * solution.noise, np.nan_to_num(solution.error)),
            profiles=profiles,
        )
    )
    return tracks.merge(solution.points, _SAME * diameter)


def _kept(tracks: Tracks, visible: BoolArray, wrong: BoolArray) -> tuple[BoolArray, list[str]]:
    """Return which landmarks were measured often enough, and notes on what was dropped.

    Raises
    ------
    DataError
        If too few are left.
    """
    count, shown = tracks.measured.sum(axis=1), visible.sum(axis=1)
    kept: BoolArray = (count >= FEWEST) & (count >= _MEASURED * shown)
    if kept.sum() < FEWEST:
        raise DataError(f"{kept.sum()} beads could be followed through the series: {REMEDY}")
    notes = [
        f"a candidate was dropped: measured in {count[landmark]} of {shown[landmark]} views"
        for landmark in np.flatnonzero(~kept)
    ]
    contradictions = np.argwhere(wrong[kept])
    if len(contradictions):
        places = ", ".join(f"{landmark} in view {view}" for landmark, view in contradictions)
        notes.append(f"measurements that contradict the others are not used: landmark {places}")
    return kept, notes

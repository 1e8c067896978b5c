"""Alignment by gold beads: found in every view, followed through the series, solved."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from tomodask.engine.gather import gathered
from tomodask.errors import DataError, TomodaskWarning
from tomodask.graph.inputs import view_source
from tomodask.kernels.beads import FILLED, align_beads, detect_beads, estimate_diameter
from tomodask.kernels.bundle import Observations, triangulate
from tomodask.kernels.correlate import without_hot_pixels
from tomodask.kernels.downsample import block_means
from tomodask.local_solving import exposed, solve_local
from tomodask.model import landmarks_dataset, measured_observations, provenance
from tomodask.solving import solution_tables

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from tomodask.engine.events import Listener
    from tomodask.engine.workers import Resources
    from tomodask.graph.aligned_views import ViewSource
    from tomodask.kernels.beads import BeadAlignment, BeadDiameter, Detections
    from tomodask.kernels.bundle import Variables

    FloatArray = NDArray[np.float64]

__all__ = ["beads_alignment"]

#: Arrays of an image's size that finding beads needs.
_COPIES = 8
#: Views of lowest tilt that the beads' diameter is estimated from.
_VIEWS_FOR_DIAMETER = 3
#: Beads, and relative error, with which one view is enough.
_ENOUGH_BEADS, _SURE = 6, 0.02
#: Standard deviations of an estimated diameter, as a part of it, beyond which it is not used.
_VAGUE = 0.15
#: Pixels are binned to this size at most to find it, A: no gold is too small for that.
_PIXEL_FOR_DIAMETER = 5.0
#: The largest gold that is looked for, A, and in pixels at least.
_LARGEST, _FEWEST_PIXELS = 300.0, 8.0
_NM = 10.0
#: Ratio of a given and the measured diameter that is told of.
_OTHER_SIZE = 1.3


def beads_alignment(
    views: xr.Dataset,
    *,
    diameter: float | None,
    tilt_axis_angle: float | None,
    count: int,
    variables: Variables | None,
    local: bool | None,
    resources: Resources,
    listen: Listener | None,
) -> tuple[xr.Dataset, xr.Dataset]:
    """Return the landmarks and the alignment that gold beads give.

    Parameters
    ----------
    views
        A stored tilt series.
    diameter
        Of the beads, nm; estimated from the images when None.
    tilt_axis_angle
        Degrees, counter-clockwise from +y; searched when None.
    count
        Beads that the alignment rests on, at most.
    variables
        What may vary; chosen from the data when None.
    local
        Whether the specimen may move locally; if None, where left-out landmarks say so.
    resources, listen
        Where views are searched, and who is told.

    Raises
    ------
    DataError
        If the series cannot be aligned by beads; the message says what to do instead.
    """
    source = view_source(views)
    pixel = source.pixel_size
    angles, included = views["tilt_angle"].values, views["included"].values.astype(bool)
    used = [int(view) for view in np.flatnonzero(included)]
    if len(used) < 3:
        raise DataError(f"{len(used)} views are included; an alignment by beads needs three: more")
    size = _diameter(source, angles, used) if diameter is None else diameter * _NM / pixel
    if diameter is not None:
        _compare(source, angles, used, size)
    task_bytes = 4 * _COPIES * int(np.prod(source.shape))
    found = gathered(
        "align beads",
        _detect,
        [(source, view, size) for view in used],
        stage="find beads",
        task_bytes=task_bytes,
        resources=resources,
        listen=listen,
    )
    detections: list[Detections | None] = [None] * len(angles)
    for view, of_view in zip(used, found, strict=True):
        detections[view] = of_view
    result = align_beads(
        source.read,
        detections,
        angles,
        included,
        shape=source.shape,
        diameter=size,
        tilt_axis_angle=tilt_axis_angle,
        count=count,
        variables=variables,
    )
    return _tables(result, views, estimated=diameter is None, local=local)


def _detect(source: ViewSource, view: int, diameter: float) -> Detections:
    return detect_beads(source.read(view), diameter)


def _diameter(source: ViewSource, angles: FloatArray, used: list[int]) -> float:
    """Return the beads' diameter as the views of lowest tilt show it, pixels."""
    lowest = sorted(used, key=lambda view: abs(angles[view]))[:_VIEWS_FOR_DIAMETER]
    binning = max(1, int(_PIXEL_FOR_DIAMETER / source.pixel_size))
    largest = max(_LARGEST / (binning * source.pixel_size), _FEWEST_PIXELS)

    def estimated(some: list[int]) -> BeadDiameter:
        images = [block_means(without_hot_pixels(source.read(view)), binning) for view in some]
        return estimate_diameter(np.stack(images), largest=largest)

    found = estimated(lowest[:1])
    if found.beads < _ENOUGH_BEADS or found.error > _SURE * found.diameter:
        found = estimated(lowest)
    if found.error > _VAGUE * found.diameter:
        raise DataError(
            f"the beads' diameter cannot be told from the images ({binning * found.diameter:.1f} "
            f"+- {binning * found.error:.1f} pixels from {found.beads}); give it (--bead-diameter "
            "NM), or align by patches"
        )
    return binning * found.diameter


def _compare(source: ViewSource, angles: FloatArray, used: list[int], given: float) -> None:
    """Say where the beads look to be of another diameter than the given one."""
    try:
        seen = _diameter(source, angles, used)
    except DataError:
        return
    if not 1 / _OTHER_SIZE < given / seen < _OTHER_SIZE:
        nm = source.pixel_size / _NM
        warnings.warn(
            f"the images show beads of {seen * nm:.1f} nm, {given * nm:.1f} nm is given: beads are "
            "centred badly, or missed, at a wrong diameter; leave it out (--bead-diameter) to have "
            "it measured",
            TomodaskWarning,
            stacklevel=4,
        )


def _tables(
    result: BeadAlignment, views: xr.Dataset, *, estimated: bool, local: bool | None
) -> tuple[xr.Dataset, xr.Dataset]:
    """Return the result as tables; the chosen landmarks come first, in their order."""
    pixel = float(views.attrs["pixel_size"])
    rest = np.setdiff1d(np.arange(len(result.points)), result.chosen)
    order = np.concatenate([result.chosen, rest]).astype(np.int64)
    source = result.source[order]
    landmark, view = np.nonzero(source)
    attributes: dict[str, Any] = {
        "method": "beads",
        "pixel_size": pixel,
        "bead_diameter": result.diameter * pixel,
        "bead_diameter_is": "estimated" if estimated else "given",
        "notes": list(result.notes),
        "provenance": provenance("align beads"),
    }
    landmarks = landmarks_dataset(
        landmark=landmark,
        view=view,
        position=result.position[order][landmark, view] * pixel,
        source=np.where(source[landmark, view] == FILLED, "filled", "tracked"),
        attributes=attributes,
        error=result.error[order][landmark, view] * pixel,
        chosen=np.arange(len(order)) < len(result.chosen),
        surface=result.surface[order],
        score=result.score.total[order],
    )
    used = measured_observations(landmarks)
    solution, points = result.solution, result.points[order]
    moved = None
    if local is not False:
        variance = result.error[order][landmark, view] ** 2
        tracked = np.isfinite(variance)
        observations = Observations.create(
            landmark[tracked],
            view[tracked],
            result.position[order][landmark, view][tracked],
            2 / (1 + variance[tracked] / np.median(variance[tracked])),
        )
        moved = solve_local(
            observations[used[tracked]],
            solution,
            views["tilt_angle"].values,
            variables=result.variables,
            exposed=exposed(views),
        )
        if moved is not None:
            solution = moved.solution
            unmoved = moved.unmoved(observations, points)
            points = triangulate(solution.matrix, solution.shift, unmoved)
    return solution_tables(landmarks, used, solution, pixel, result.variables, moved, points)

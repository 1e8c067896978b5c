"""How well tilt series are aligned, and what that costs: series whose exact geometry is known.

Run ``python -m benchmarks.alignment``; ``--part`` gives one of its tables: ``beads``, ``patches``,
``speed``, or ``model``, which needs the data that the environment variable TOMODASK_DATA names.
Errors are root mean squares over points and included views, pixels; see ``alignment_accuracy``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import tomodask as td
from benchmarks.alignment_accuracy import (
    AXIS,
    BEAD_RADIUS,
    PIXEL,
    Beads,
    Coarse,
    Kind,
    Patches,
    Truth,
    aligned,
    beads,
    coarse,
    patches,
    stored,
)
from benchmarks.inputs import temporary_folder, tilts
from benchmarks.measure import Cost, best_of, cost_of
from benchmarks.report import run, table
from tomodask.errors import ParameterError, TomodaskError
from tomodask.geometry import Projection
from tomodask.kernels.beads import align_beads, detect_beads, estimate_diameter
from tomodask.kernels.bundle import Observations, solve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tomodask.kernels.beads import Detections

__all__ = ["SIZES", "Size", "model", "report", "speed"]

#: Models of the data, and the command files that solve them.
_MODELS = {"BBa": "aligna", "BBb": "alignb"}
_RESIDUAL = re.compile(r"Residual error mean and sd:\s+(\S+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """(y, x) of the images of each kind, their views, the number of series, and repeats."""

    beads: tuple[int, int] = (960, 928)
    free: tuple[int, int] = (768, 768)
    large: tuple[int, int] = (1440, 1024)
    views: int = 41
    bead_series: int = 20
    free_series: int = 10
    repeats: int = 3

    @property
    def shapes(self) -> dict[Kind, tuple[int, int]]:
        """The (y, x) of each kind."""
        return {"beads": self.beads, "free": self.free}


SIZES = {
    "full": Size(),
    "small": Size(bead_series=2, free_series=1, repeats=1),
    "tiny": Size(
        beads=(400, 400),
        free=(320, 320),
        large=(400, 416),
        views=21,
        bead_series=1,
        free_series=1,
        repeats=1,
    ),
}


def each(kind: Kind, size: Size, folder: Path | None) -> Iterator[Truth]:
    """Give the series of a kind, of which there is one at a time."""
    shape = size.shapes[kind]
    for seed in range(size.bead_series if kind == "beads" else size.free_series):
        with temporary_folder(8 * size.views * shape[0] * shape[1], folder) as place:
            yield stored(kind, seed, shape, size.views, place)


def beads_part(size: Size, folder: Path | None) -> str:
    """Return the tables of alignment by gold."""
    found: list[tuple[Beads, Coarse]] = []
    rows: list[tuple[object, ...]] = []
    for number, truth in enumerate(each("beads", size, folder)):
        try:
            one, rough = beads(truth), coarse(truth)
        except TomodaskError as error:
            rows.append((number, f"failed: {error}"))
        else:
            tracks = one.tracks
            found.append((one, rough))
            rows.append(
                (
                    number,
                    *(f"{v:.3f}" for v in (one.error, one.expected, one.residual, one.leave_out)),
                    f"{tracks.found}/{tracks.visible}",
                    tracks.false,
                    f"{tracks.measured}/{tracks.seen}",
                    tracks.wrong,
                    "yes" if one.local else "no",
                    f"{one.cpu:.1f}",
                    f"{rough.error:.2f}",
                    f"{rough.worst:.2f}",
                )
            )
        print(*rows[-1], sep=" | ", flush=True)
    columns = {
        "error": [one.error for one, _ in found],
        "expected error / error": [one.expected / one.error for one, _ in found],
        "mean residual": [one.residual for one, _ in found],
        "leave-out": [one.leave_out for one, _ in found],
        **_coarse_columns([rough for _, rough in found]),
        "CPU s": [one.cpu for one, _ in found],
    }

    def total(name: str) -> int:
        return sum(getattr(one.tracks, name) for one, _ in found)

    sums = {
        "series aligned": f"{len(found)} of {size.bead_series}",
        "beads found": f"{total('found')} of {total('visible')}",
        "false tracks": total("false"),
        "places measured": f"{total('measured')} of {total('seen')}",
        "of these, wrong": total("wrong"),
        "series in which local motion was found, of which there is none": sum(
            one.local for one, _ in found
        ),
    }
    headers = ("series", "error", "expected", "residual", "leave-out", "found", "false")
    more = ("measured", "wrong", "local", "CPU s", "coarse", "its worst view")
    return (
        table("Each series with gold, pixels", headers + more, rows)
        + _summary(f"{size.bead_series} series with gold, pixels", columns)
        + table("Their tracks", ("what", "number"), list(sums.items()))
    )


def patches_part(size: Size, folder: Path | None) -> str:
    """Return the tables of alignment without gold."""
    found: list[tuple[Patches, Coarse]] = []
    rows: list[tuple[object, ...]] = []
    for number, truth in enumerate(each("free", size, folder)):
        try:
            one, rough = patches(truth), coarse(truth)
        except TomodaskError as error:
            rows.append((number, f"failed: {error}"))
        else:
            found.append((one, rough))
            rows.append(
                (
                    number,
                    *(f"{v:.2f}" for v in (one.error, one.expected, one.expected / one.error)),
                    f"{one.cpu:.1f}",
                    f"{rough.error:.2f}",
                    f"{rough.worst:.2f}",
                )
            )
        print(*rows[-1], sep=" | ", flush=True)
    columns = {
        "error": [one.error for one, _ in found],
        "expected error / error": [one.expected / one.error for one, _ in found],
        **_coarse_columns([rough for _, rough in found]),
        "CPU s": [one.cpu for one, _ in found],
    }
    headers = ("series", "error", "expected", "ratio", "CPU s", "coarse", "its worst view")
    return table("Each series without gold, pixels", headers, rows) + _summary(
        f"{size.free_series} series without gold, pixels ({len(found)} aligned)", columns
    )


def _coarse_columns(rough: list[Coarse]) -> dict[str, list[float]]:
    return {
        "coarse alignment: error": [one.error for one in rough],
        "coarse alignment: worst view": [one.worst for one in rough],
        "coarse alignment: CPU s": [one.cpu for one in rough],
    }


def _summary(title: str, columns: dict[str, list[float]]) -> str:
    rows = [
        (name, *(f"{f(values):.3f}" for f in (np.min, np.median, np.mean, np.max)))
        for name, values in columns.items()
        if values
    ]
    return table(title, ("over the series", "least", "median", "mean", "largest"), rows)


def speed(size: Size, folder: Path) -> dict[str, Cost]:
    """Return what aligning a large series by its gold costs, whole and by stages."""
    views = size.views
    small = stored("beads", 0, SIZES["tiny"].beads, SIZES["tiny"].views, folder)
    truth = stored("beads", 1, size.large, views, folder)
    environment = os.environ | {"NUMBA_CACHE_DIR": str(folder / "cache")}
    command = ["-m", "tomodask", "align", str(truth.store), "--method", "beads", "--quiet"]
    command += ["--workers", "1", "--overwrite"]
    costs = {
        name: cost_of(partial(_python, command, environment))
        for name in ("command, nothing compiled yet", "command, compiled")
    }
    aligned(small.store, "beads")
    costs["in a process that has aligned a small one"] = best_of(
        size.repeats, partial(aligned, truth.store, "beads")
    )
    images, tilt = truth.series.images, truth.series.tilt_angle
    diameter = 2 * BEAD_RADIUS / PIXEL
    lowest = [view for view in np.argsort(np.abs(tilt)) if truth.included[view]][:3]
    detections: list[Detections | None] = []

    def detect() -> None:
        detections[:] = [
            detect_beads(image, diameter) if used else None
            for image, used in zip(images, truth.included, strict=True)
        ]

    def track() -> None:
        align_beads(
            images.__getitem__,
            detections,
            tilt,
            truth.included,
            shape=size.large,
            diameter=diameter,
            tilt_axis_angle=AXIS,
        )

    stages: dict[str, Callable[[], object]] = {
        "diameter of the beads (3 views)": lambda: estimate_diameter(images[lowest]),
        f"detection ({truth.included.sum()} views)": detect,
        "tracking, with its solutions": track,
        "solution alone, 25 beads in 41 views": partial(_solved, *_tracks(25, 41)),
    }
    return costs | {name: best_of(size.repeats, stage) for name, stage in stages.items()}


def _python(arguments: list[str], environment: dict[str, str]) -> None:
    subprocess.run(
        [sys.executable, *arguments],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
    )


def _tracks(landmarks: int, views: int) -> tuple[Observations, np.ndarray]:
    """Return observations of a random specimen in all views, pixels, and the recorded tilts."""
    rng = np.random.default_rng(0)
    angles = tilts(views)
    truth = Projection.create(
        angles + rng.normal(0, 0.15, views),
        tilt_axis_angle=AXIS + rng.normal(0, 0.15, views),
        shift=rng.normal(0, 30, (views, 2)),
    )
    seen = truth.project(rng.uniform(-0.5, 0.5, (landmarks, 3)) * [1000, 1000, 150])
    view, landmark = (one.ravel() for one in np.indices(seen.shape[:2]))
    noisy = seen.reshape(-1, 2) + rng.normal(0, 0.15, (len(view), 2))
    return Observations.create(landmark, view, noisy), angles


def _solved(observations: Observations, angles: np.ndarray) -> None:
    solve(observations, angles, tilt_axis_angle=AXIS)


def speed_part(size: Size, folder: Path | None) -> str:
    """Return the table of the costs."""
    height, width = size.large
    with temporary_folder(12 * size.views * height * width, folder) as place:
        costs = speed(size, place)
    return table(
        f"Gold in {size.views} x {height} x {width} pixels, one core, best of {size.repeats} "
        "(commands: once)",
        ("alignment", "CPU s", "wall s"),
        [(name, f"{cost.cpu:.3f}", f"{cost.wall:.3f}") for name, cost in costs.items()],
    )


def model(data: Path, size: Size, folder: Path) -> list[tuple[object, ...]]:
    """Return, for each fiducial model of the data, what solving it as its command file says gives.

    The points, the unknowns, the mean residual (pixels), that in the log beside the command file,
    and the CPU time.
    """
    rows: list[tuple[object, ...]] = []
    for name, command in _MODELS.items():
        com = data / "imod_tutorial_bb" / f"{command}.com"
        solved = partial(td.solve_model, com.with_name(f"{name}.fid"), folder, com=com)
        solution = solved().solution
        length = solution.residual_length
        logged = _RESIDUAL.search(com.with_suffix(".log").read_text())
        rows.append(
            (
                name,
                int(np.isfinite(length).sum()),
                round(solution.unknowns),
                f"{np.nanmean(length):.3f}",
                logged[1] if logged else "",
                f"{best_of(size.repeats, solved).cpu:.3f}",
            )
        )
    return rows


def model_part(size: Size, folder: Path | None) -> str:
    """Return the table of the fiducial models, or why there is none."""
    data = os.environ.get("TOMODASK_DATA")
    if data is None:
        return "\nNo fiducial models: TOMODASK_DATA names no folder of data.\n"
    with temporary_folder(10**7, folder) as place:
        rows = model(Path(data), size, place)
    headers = ("model", "points", "unknowns", "mean residual", "in IMOD's log", "CPU s")
    return table("Fiducial models, pixels", headers, rows)


_PARTS: dict[str, Callable[[Size, Path | None], str]] = {
    "beads": beads_part,
    "patches": patches_part,
    "speed": speed_part,
    "model": model_part,
}


def report(size: Size, folder: Path | None = None, part: str | None = None) -> str:
    """Return the tables, or those of one part."""
    if part is not None and part not in _PARTS:
        raise ParameterError(f"part {part!r}: give one of {', '.join(_PARTS)}")
    return "".join(make(size, folder) for name, make in _PARTS.items() if part in (None, name))


if __name__ == "__main__":
    run(__doc__, SIZES, report, part=f"one of {', '.join(_PARTS)}; all by default")

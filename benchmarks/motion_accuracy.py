"""How well motion is found: errors on simulated movies against their bars.

Run ``python -m benchmarks.motion_accuracy``. Errors are root mean squares over frames, axes and
movies; a drift's mean over the frames is taken off. The bars are what widely used programs reach
on such movies, and never to be worse than no correction.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from time import process_time
from typing import TYPE_CHECKING

import numpy as np
import scipy.fft

from benchmarks.report import run, table
from tomodask.geometry import Projection
from tomodask.kernels.motion import estimate_motion
from tomodask.simulate import (
    LocalMotion,
    beads_and_vesicles,
    cryo_imaging,
    drift_path,
    simulate_movie,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from tomodask.simulate import SimulatedMovie

    FloatArray = NDArray[np.float64]

__all__ = ["Case", "measure"]

_KINDS = ("settling", "random walk", "linear", "jump")
_LENGTHS = (3.0, 6.0, 10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Movies of one kind, and the error that they must not exceed, pixels; None is that of none."""

    name: str
    size: int = 2048
    frames: int = 10
    pixel_size: float = 2.0
    exposure: float = 3.0
    beads: int = 0
    local: float = 0.0
    moving: bool = True
    movies: int = 10
    bar: float | None = None


_SMALL = {"size": 512, "frames": 6, "pixel_size": 8.0, "beads": 8}
_FULL = (
    Case(name="2048, 3 e/A2, no gold", bar=0.40),
    Case(name="2048, 3 e/A2, gold", beads=12, bar=0.40),
    Case(name="2048, 30 e/A2", exposure=30.0, beads=12, movies=4, bar=0.075),
    Case(name="512, 3 e/A2, 8 A", **_SMALL, bar=0.10),
    *(
        Case(name=f"512, {dose} e/A2", **_SMALL, exposure=dose, movies=24)
        for dose in (0.05, 0.2, 0.5, 1.0, 2.0)
    ),
    *(
        Case(name=f"512, {dose} e/A2, at rest", **_SMALL, exposure=dose, moving=False, bar=0.02)
        for dose in (0.05, 0.5, 3.0)
    ),
    Case(name="2048, 0.5 e/A2", exposure=0.5, movies=6),
    Case(name="2048, local 2 px, 30 e/A2", exposure=30.0, local=2.0, beads=12, movies=4, bar=0.2),
    Case(name="2048, local 2 px, 3 e/A2", local=2.0, beads=12, movies=4),
)
_TINY = (
    Case(name="tiny", size=256, frames=4, pixel_size=8.0, exposure=20.0, movies=2, bar=0.2),
    Case(name="tiny local", size=256, frames=4, pixel_size=8.0, exposure=20.0, local=2.0, movies=1),
)


@dataclass(slots=True)
class Result:
    """Squared errors of the movies of a case."""

    true: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    local: list[float] = field(default_factory=list)
    claimed: list[float] = field(default_factory=list)
    supported: int = 0
    seconds: float = 0.0
    transforms: float = 0.0


def movie(case: Case, seed: int) -> SimulatedMovie:
    """Return one movie of a case."""
    shape = (case.size, case.size)
    width = 0.9 * case.size * case.pixel_size
    rng = np.random.default_rng(seed)
    return simulate_movie(
        beads_and_vesicles(
            seed, (width, width, 1000.0), beads=case.beads, vesicles=2, particles=20
        ),
        Projection.create([0.0]),
        shape,
        pixel_size=case.pixel_size,
        frames=case.frames,
        imaging=cryo_imaging(
            case.pixel_size,
            float(rng.uniform(1e4, 4e4)),
            exposure=case.exposure,
            amplitude_contrast=0.3 if case.beads else 0.1,
        ),
        drift=drift_path(
            _KINDS[seed % len(_KINDS)] if case.moving else "none",
            case.frames,
            _LENGTHS[seed % len(_LENGTHS)],
            seed=seed,
        ),
        local=LocalMotion.random(shape, case.frames, case.local, seed=seed) if case.local else None,
        supersample=1,
        seed=seed,
    )


def measure(case: Case) -> Result:
    """Return the errors over all movies of a case."""
    result = Result()
    at = (np.arange(16) + 0.5) / 16 * case.size
    for seed in range(case.movies):
        made = movie(case, seed)
        start = process_time()
        found = estimate_motion(
            made.frames, pixel_size=case.pixel_size, patches=(5, 5) if case.local else None
        )
        result.seconds += process_time() - start
        start = process_time()
        for frame in made.frames:
            scipy.fft.rfft2(frame.astype(np.float32), workers=1)
        result.transforms += process_time() - start
        truth = np.array(
            [
                np.moveaxis(made.displacement(i, at[:, None], at[None, :]), 0, -1)
                for i in range(case.frames)
            ]
        )
        truth -= truth.mean(axis=0)
        left = truth - found.shift[:, None, None]
        result.true.append(float(np.mean(truth**2)))
        result.whole.append(float(np.mean(left**2)))
        if found.field is not None:
            left = left - np.array([found.field.on_grid(i, at, at) for i in range(case.frames)])
        result.local.append(float(np.mean(left**2)))
        result.claimed.append(float(np.mean(found.error**2)))
        result.supported += found.supported
    return result


def _report(cases: tuple[Case, ...], _: Path | None) -> str:
    rows = []
    for case in cases:
        result = measure(case)
        true, whole, local = (
            float(np.sqrt(np.mean(each))) for each in (result.true, result.whole, result.local)
        )
        # Without a bar of its own: no correction, or that of whole frames.
        bar = case.bar if case.bar is not None else (whole if case.local else true)
        claimed = float(np.sqrt(np.mean(result.claimed))) if result.supported else np.nan
        rows.append(
            (
                case.name,
                case.movies,
                f"{true:.3f}",
                f"{whole:.3f}",
                f"{local:.3f}" if case.local else "",
                f"{bar:.3f}",
                "reached" if local <= bar + 1e-9 else "missed",
                f"{claimed:.3f}",
                f"{np.sqrt(np.median(result.local)):.3f}",
                f"{result.supported}/{case.movies}",
                f"{result.seconds / result.transforms:.1f}",
            )
        )
        print(*rows[-1], sep=" | ", flush=True)
    return table(
        "Errors of motion, pixels",
        (
            "movies",
            "number",
            "true motion",
            "whole frames",
            "with field",
            "bar",
            "",
            "error bar",
            "median",
            "supported",
            "CPU / FFTs",
        ),
        rows,
    )


if __name__ == "__main__":
    run(__doc__, {"full": _FULL, "tiny": _TINY}, _report)

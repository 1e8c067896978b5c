"""Motion correction of one movie, from its file to the sums, and a peer's on the same frames.

The bound is what cannot be left out by a program that works with transforms: decoding, one forward
transform of every frame and one inverse for each of the three sums. Where an interpreter with
torch-motion-correction is named by --peer-python, that package does the same work.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import scipy.fft
from threadpoolctl import threadpool_limits

from benchmarks.inputs import temporary_folder
from benchmarks.measure import Cost, best_of
from benchmarks.report import run, table
from tomodask.geometry import Projection
from tomodask.io.movies import open_movie, read_frames
from tomodask.kernels.dose_weighting import sum_weighted_frames
from tomodask.kernels.frame_sums import sum_frames
from tomodask.kernels.motion import Motion, estimate_motion
from tomodask.simulate import (
    LocalMotion,
    SimulatedMovie,
    beads_and_vesicles,
    cryo_imaging,
    drift_path,
    simulate_movie,
    write_movie,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["Correction", "Size", "measure", "measure_peer", "simulated"]

#: Places along each axis, from edge to edge, at which displacements are compared.
_POINTS = 21
_PEER = Path(__file__).with_name("torch_motion.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Square frames; beads, and particles as many."""

    edge: int = 4096
    frames: int = 10
    beads: int = 60
    vesicles: int = 2
    pixel_size: float = 1.5
    patches: tuple[int, int] = (5, 5)
    repeats: int = 3

    @property
    def megapixels(self) -> float:
        """Of all frames."""
        return self.frames * self.edge**2 / 1e6


SIZES = {
    "full": Size(),
    "small": Size(edge=2048, beads=20, repeats=2),
    "tiny": Size(edge=256, frames=4, beads=2, vesicles=0, repeats=1),
}


@dataclass(frozen=True, slots=True)
class Correction:
    """What a program took, and how far its displacements are from the truth.

    Parameters
    ----------
    name
        Of the program and of what it does.
    cost
        From the file to the sums.
    error
        Root mean square over frames, places and axes, pixels.
    """

    name: str
    cost: Cost
    error: float


def simulated(size: Size) -> SimulatedMovie:
    """Return a movie of 3 e/A^2 that drifts by 12 pixels, its places by 2 more."""
    shape = (size.edge, size.edge)
    width = 0.9 * size.edge * size.pixel_size
    return simulate_movie(
        beads_and_vesicles(
            0,
            (width, width, 1500.0),
            beads=size.beads,
            vesicles=size.vesicles,
            particles=size.beads,
        ),
        Projection.create([0.0]),
        shape,
        pixel_size=size.pixel_size,
        frames=size.frames,
        imaging=cryo_imaging(size.pixel_size, 30000.0, amplitude_contrast=0.3),
        drift=drift_path("settling", size.frames, 12.0, seed=2),
        local=LocalMotion.random(shape, size.frames, 2.0, seed=1),
        seed=3,
    )


def measure(
    size: Size, movie: SimulatedMovie, folder: Path
) -> tuple[dict[str, Cost], list[Correction]]:
    """Return the costs of the parts by name, and the corrections.

    Parameters
    ----------
    size
        Of the movie.
    movie
        From :func:`simulated`.
    folder
        Where its files are made.
    """
    frames = movie.frames
    dose = np.linspace(0, 3.0, size.frames + 1)[1:]
    parts: dict[str, Cost] = {}
    corrections = []

    def time(name: str, function: Callable[[], object]) -> None:
        function()
        parts[name] = best_of(size.repeats, function)

    def estimate(patches: tuple[int, int] | None) -> Motion:
        return estimate_motion(frames, pixel_size=size.pixel_size, patches=patches)

    for name in ("EER", "TIFF"):
        path = folder / f"movie.{name.lower()}"
        write_movie(path, movie)
        info = open_movie(path)
        time(f"decode {name}", lambda info=info: read_frames(info))  # type: ignore[misc]
    time("forward transforms", lambda: [_transform(frame) for frame in frames])
    spectrum = _transform(frames[0])
    time(
        "inverse transforms of three sums",
        lambda: [scipy.fft.irfft2(spectrum, s=frames.shape[1:], workers=1) for _ in range(3)],
    )
    for patches in (None, size.patches):
        kind = "whole frames" if patches is None else f"{patches[0]} x {patches[1]} patches"

        def correct(patches: tuple[int, int] | None = patches) -> Motion:
            counts = read_frames(info)
            motion = estimate_motion(counts, pixel_size=size.pixel_size, patches=patches)
            _sum(counts, motion)
            return motion

        motion = correct()
        cost = best_of(size.repeats, correct)
        corrections.append(
            Correction(f"tomodask, {kind}", cost, _error(movie, _displacement(size, motion)))
        )
        time(f"estimate, {kind}", lambda patches=patches: estimate(patches))  # type: ignore[misc]
        time(f"sum, {kind}", lambda motion=motion: _sum(frames, motion))  # type: ignore[misc]
    time(
        "sum weighted by dose, whole frames",
        lambda: sum_weighted_frames(frames, motion.shift, dose=dose, pixel_size=size.pixel_size),
    )
    return parts, corrections


def measure_peer(
    size: Size, movie: SimulatedMovie, folder: Path, python: str, decode: Cost
) -> list[Correction]:
    """Return what torch-motion-correction takes, once each.

    Parameters
    ----------
    size, movie
        As for :func:`measure`.
    folder
        Where the frames are passed on.
    python
        Interpreter that has the package.
    decode
        Cost of decoding, added to that of the peer, which starts with frames in memory.
    """
    path = folder / "frames.npy"
    np.save(path, movie.frames)
    done = subprocess.run(
        [python, str(_PEER), str(path), str(size.pixel_size), str(_POINTS)],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    path.unlink()
    return [
        Correction(
            f"torch-motion-correction, {name}",
            Cost(decode.cpu + result["cpu"], decode.wall + result["wall"]),
            _error(movie, np.asarray(result["displacement"])),
        )
        for name, result in json.loads(done.stdout).items()
    ]


def _transform(frame: NDArray[np.generic]) -> NDArray[np.complex64]:
    spectrum: NDArray[np.complex64] = scipy.fft.rfft2(
        frame.astype(np.float32), workers=1, overwrite_x=True
    )
    return spectrum


def _sum(frames: NDArray[np.generic], motion: Motion) -> object:
    local = None if motion.field is None else motion.field.on_grid
    return sum_frames(frames, motion.shift, local)


def _places(size: Size) -> NDArray[np.float64]:
    return np.linspace(0, size.edge - 1, _POINTS)


def _displacement(size: Size, motion: Motion) -> NDArray[np.float64]:
    """Return the (frame, 2, y, x) displacements of an estimate."""
    at = _places(size)
    total = np.zeros((size.frames, _POINTS, _POINTS, 2)) + motion.shift[:, None, None]
    if motion.field is not None:
        for frame in range(size.frames):
            total[frame] += motion.field.on_grid(frame, at, at)
    return np.moveaxis(total, -1, 1)


def _error(movie: SimulatedMovie, displacement: NDArray[np.float64]) -> float:
    """Return the error of (frame, 2, y, x) displacements, but for where the sum lies."""
    at = np.linspace(0, movie.frames.shape[1] - 1, _POINTS)
    error = displacement - np.stack(
        [movie.displacement(frame, at[:, None], at[None, :]) for frame in range(len(movie.frames))]
    )
    return float(np.sqrt(((error - error.mean(axis=0)) ** 2).mean()))


def report(size: Size, folder: Path | None = None, peer_python: str | None = None) -> str:
    """Return the tables."""
    movie = simulated(size)
    with threadpool_limits(1), temporary_folder(4 * movie.frames.nbytes, folder) as place:
        parts, corrections = measure(size, movie, place)
        if peer_python is not None:
            corrections += measure_peer(size, movie, place, peer_python, parts["decode TIFF"])
    needed = ("decode TIFF", "forward transforms", "inverse transforms of three sums")
    bound = sum(parts[name].cpu for name in needed)
    still = _error(movie, np.zeros((size.frames, 2, _POINTS, _POINTS)))
    drift = _error(movie, np.zeros((_POINTS, _POINTS)) + movie.drift[:, :, None, None])
    rows = [("the bound", f"{bound:.2f}", "1.0", f"{1e3 * bound / size.megapixels:.1f}", "")]
    rows += [
        (
            done.name,
            f"{done.cost.cpu:.2f}",
            f"{done.cost.cpu / bound:.1f}",
            f"{1e3 * done.cost.cpu / size.megapixels:.1f}",
            f"{done.error:.2f}",
        )
        for done in corrections
    ]
    title = (
        f"{size.frames} frames of {size.edge} x {size.edge}, one core, best of {size.repeats} "
        "(the peer: once)"
    )
    headers = ("program", "CPU s", "times the bound", "CPU ms/frame megapixel", "error, pixels")
    text = table(title, headers, rows)
    text += (
        f"\nThe error of no correction is {still:.2f} pixels, that of the true drift without the "
        f"local motion {drift:.2f}.\n"
    )
    forward = parts["forward transforms"].cpu
    return text + table(
        "Parts",
        ("part", "CPU s", "ns/pixel of a frame", "times the forward transforms"),
        [
            (
                name,
                f"{cost.cpu:.3f}",
                f"{1e3 * cost.cpu / size.megapixels:.2f}",
                f"{cost.cpu / forward:.2f}",
            )
            for name, cost in parts.items()
        ],
    )


if __name__ == "__main__":
    run(__doc__, SIZES, report, peer_python="interpreter that has torch-motion-correction")

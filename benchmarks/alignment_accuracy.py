"""Simulated tilt series whose geometry is known, and how well they are aligned.

Series are aligned with ``tomodask.align`` as it comes, from a store. An error is the distance, in
pixels, between where a point is seen and where the solution puts it, once each point has been moved
in the specimen to where that is least: what the choice of an origin and of points cannot undo.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

import tomodask as td
from benchmarks.inputs import tilts
from benchmarks.measure import cost_of
from tomodask.errors import TomodaskWarning
from tomodask.io.mrc_writer import MrcWriter
from tomodask.io.series import read_landmarks
from tomodask.model import projection_of
from tomodask.simulate import (
    ContrastTransfer,
    Imaging,
    beads_and_vesicles,
    random_misalignment,
    simulate_tilt_series,
)

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr
    from numpy.typing import NDArray

    from tomodask.geometry import Projection
    from tomodask.simulate import SimulatedTiltSeries

    FloatArray = NDArray[np.float64]

__all__ = [
    "AXIS",
    "BEAD_RADIUS",
    "PIXEL",
    "Beads",
    "Coarse",
    "Kind",
    "Patches",
    "Tracks",
    "Truth",
    "aligned",
    "beads",
    "coarse",
    "compared",
    "patches",
    "stored",
]

Kind = Literal["beads", "free"]

#: Pixel size, A, and recorded tilt axis, degrees.
PIXEL, AXIS = 8.0, 85.0
BEAD_RADIUS = 50.0
#: Part of the views that are missing, and of the field that the specimen fills.
_MISSING, _FILLED = 0.05, 0.88
#: A track is a bead's if it lies this near to it, A.
_NEAR = BEAD_RADIUS / 2
#: Points of which the error of an alignment without gold is taken: number, part of the field, and
#: depth, A.
_POINTS, _FIELD, _DEPTH = 300, 0.8, 1000.0
#: Series of the simulator's two kinds have seeds of their own.
_KINDS: dict[Kind, int] = {"beads": 61, "free": 62}


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """A stored series and the truth about it."""

    store: Path
    series: SimulatedTiltSeries
    included: NDArray[np.bool_]

    def errors(self, projection: Projection, points: FloatArray) -> FloatArray:
        """Return the (view, point) errors of a solution at (point, 3) of the specimen, pixels."""
        views = np.flatnonzero(self.included)
        true, solved = self.series.projection[views].project(points), projection[views]
        design = (solved.image_matrix() @ solved.view_matrix()[:, :2]).reshape(-1, 3)
        moved = np.array(points)
        for _ in range(4):  # once is enough for a rigid specimen, of which the map is linear
            left = np.moveaxis(true - solved.project(moved), 1, 0).reshape(len(points), -1)
            moved += np.linalg.lstsq(design, left.T)[0].T
        distance: FloatArray = np.linalg.norm(solved.project(moved) - true, axis=2) / PIXEL
        return distance

    def points(self) -> FloatArray:
        """Return (point, 3) points all over the field and the depth of the specimen, A."""
        height, width = self.series.images.shape[1:]
        box = np.array([width * PIXEL * _FIELD, height * PIXEL * _FIELD, _DEPTH])
        points: FloatArray = np.random.default_rng(0).uniform(-0.5, 0.5, (_POINTS, 3)) * box
        return points

    def visible(self) -> NDArray[np.bool_]:
        """Return which (tilt, bead) are within the images of the included views."""
        half = np.array(self.series.images.shape[:0:-1]) / 2 * PIXEL
        inside = (np.abs(self.series.bead_positions) < half).all(axis=2)
        visible: NDArray[np.bool_] = inside & self.included[:, None]
        return visible


def simulated(kind: Kind, seed: int, shape: tuple[int, int], views: int) -> SimulatedTiltSeries:
    """Return a series: gold at 3 e/A^2, or vesicles and particles alone at 2.

    Views drift by tens of pixels; the tilt axis is up to a degree off the recorded 85, rotation and
    tilt 0.15 degrees in each view; every other series has a CTF; beads lie on both surfaces, in
    every third series throughout.
    """
    rng = np.random.default_rng([_KINDS[kind], seed])
    gold = kind == "beads"
    specimen, geometry, noise = (int(one) for one in rng.integers(2**31, size=3))
    # Smaller images hold fewer of everything, but enough to be aligned.
    area = np.prod(shape) / (960 * 928 if gold else 768 * 768)

    def count(least: int, low: int, high: int) -> int:
        return max(round(area * int(rng.integers(low, high + 1))), least)

    ice = float(rng.uniform(900, 1800) if gold else rng.uniform(1000, 1600))
    defocus = float(rng.uniform(25000, 45000))
    ctf = ContrastTransfer(defocus_u=defocus, defocus_v=defocus + 500, amplitude_contrast=0.3)
    angles = tilts(views)
    return simulate_tilt_series(
        beads_and_vesicles(
            specimen,
            (_FILLED * shape[1] * PIXEL, _FILLED * shape[0] * PIXEL, ice),
            beads=count(6, 12, 20) if gold else 0,
            bead_radius=BEAD_RADIUS,
            bead_layer="surfaces" if seed % 3 else "throughout",
            vesicles=count(1, 3, 6) if gold else count(2, 4, 7),
            particles=count(3, 12, 60) if gold else count(8, 20, 50),
        ),
        random_misalignment(
            angles,
            seed=geometry,
            shift_sd=float(rng.uniform(160, 320)),
            tilt_axis_angle=AXIS + float(rng.uniform(-1, 1)),
            axis_jitter=0.15,
            tilt_jitter=0.15,
        ),
        shape,
        pixel_size=PIXEL,
        imaging=Imaging(
            exposure=3.0 if gold else 2.0,
            ice_thickness=ice,
            ice_noise=0.03,
            ctf=() if seed % 2 else (ctf,) * views,
            hot_pixels=20,
        ),
        tilt_angle=angles,
        seed=noise,
    )


def stored(kind: Kind, seed: int, shape: tuple[int, int], views: int, folder: Path) -> Truth:
    """Import a simulated series of which some views are missing."""
    series = simulated(kind, seed, shape, views)
    missing = np.random.default_rng([_KINDS[kind], seed, 1]).choice(
        np.arange(1, views - 1), round(_MISSING * views), replace=False
    )
    included = np.ones(views, bool)
    included[missing] = False
    stack = folder / f"{kind}-{seed}.mrc"
    with MrcWriter(stack, shape=series.images.shape, voxel_size=PIXEL, kind="stack") as writer:
        for image in series.images:
            writer.write(image)
    store = td.import_stack(
        stack,
        folder / f"{kind}-{seed}.zarr",
        tilt_angles=list(series.tilt_angle),
        tilt_axis=AXIS,
        exclude=sorted(missing.tolist()),
        workers=1,
    )
    stack.unlink()
    return Truth(store, series, included)


def aligned(store: Path, method: Literal["beads", "patches", "coarse"]) -> xr.Dataset:
    """Align a stored series as it comes, on one core."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TomodaskWarning)
        return td.align(store, method=method, workers=1, overwrite=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Coarse:
    """The error of a coarse alignment, pixels: over the field, of its worst view; its CPU time."""

    error: float
    worst: float
    cpu: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracks:
    """How tracks compare with the beads.

    Parameters
    ----------
    found, visible
        Beads that have a track, and beads that are seen in half of the views or more.
    false
        Tracks of no bead, or of one that has a track.
    measured, seen, wrong
        Places measured on true tracks, how often their beads are in the images, and how many of
        the places are not the bead's.
    """

    found: int
    visible: int
    false: int
    measured: int
    seen: int
    wrong: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Beads:
    """What an alignment by gold came to; lengths in pixels.

    Parameters
    ----------
    error, expected
        At the beads; and what the alignment itself says that it is.
    residual, leave_out
        Mean lengths, as the solution reports them.
    tracks
        Of the landmarks, chosen or not.
    local
        Whether local motion was found, of which there is none.
    cpu
        Seconds.
    """

    error: float
    expected: float
    residual: float
    leave_out: float
    tracks: Tracks
    local: bool
    cpu: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Patches:
    """An alignment without gold: its error, what it says of it, pixels, and its CPU time."""

    error: float
    expected: float
    cpu: float


def coarse(truth: Truth) -> Coarse:
    """Align coarsely."""
    found: list[xr.Dataset] = []
    cost = cost_of(lambda: found.append(aligned(truth.store, "coarse")))
    errors = truth.errors(projection_of(found[0]), truth.points())
    of_view = np.sqrt((errors**2).mean(axis=1))
    return Coarse(error=_rms(errors), worst=float(of_view.max()), cpu=cost.cpu)


def patches(truth: Truth) -> Patches:
    """Align without gold."""
    found: list[xr.Dataset] = []
    cost = cost_of(lambda: found.append(aligned(truth.store, "patches")))
    errors = truth.errors(projection_of(found[0]), truth.points())
    return Patches(error=_rms(errors), expected=found[0].attrs["error"] / PIXEL, cpu=cost.cpu)


def beads(truth: Truth) -> Beads:
    """Align by gold, and compare the tracks with the beads."""
    found: list[xr.Dataset] = []
    cost = cost_of(lambda: found.append(aligned(truth.store, "beads")))
    attributes = found[0].attrs
    return Beads(
        error=_rms(truth.errors(projection_of(found[0]), truth.series.bead_centres)),
        expected=attributes["error"] / PIXEL,
        residual=attributes["mean_residual"] / PIXEL,
        leave_out=attributes["leave_out_error"] / PIXEL,
        tracks=compared(truth, read_landmarks(truth.store, "beads")),
        local=bool(attributes["local"]),
        cpu=cost.cpu,
    )


def compared(truth: Truth, landmarks: xr.Dataset) -> Tracks:
    """Compare what was tracked with the beads; what the solution filled in does not count."""
    of, view = landmarks["landmark_of"].values, landmarks["view"].values
    tracked = landmarks["source"].values == "tracked"
    place = np.stack([landmarks["x"].values, landmarks["y"].values], axis=1)
    true, visible = truth.series.bead_positions, truth.visible()
    half = visible.sum(axis=0) >= truth.included.sum() / 2
    owners: list[int] = []
    false = measured = wrong = 0
    for landmark in range(landmarks.sizes["landmark"]):
        mine = tracked & (of == landmark)
        apart = np.linalg.norm(place[mine, None] - true[view[mine]], axis=2)
        bead = int(np.argmin(np.median(apart, axis=0)))
        if np.median(apart[:, bead]) > _NEAR or bead in owners:
            false += 1
            continue
        owners.append(bead)
        measured += int(mine.sum())
        wrong += int((apart[:, bead] > _NEAR).sum())
    return Tracks(
        found=int(half[owners].sum()),
        visible=int(half.sum()),
        false=false,
        measured=measured,
        seen=int(visible[:, owners].sum()),
        wrong=wrong,
    )


def _rms(values: FloatArray) -> float:
    return float(np.sqrt(np.mean(values**2)))

"""Tilt series recorded as movies, one movie in memory at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from tomodask.errors import ParameterError
from tomodask.geometry import centred_coordinates
from tomodask.simulate.detector import Detector
from tomodask.simulate.imaging import Imaging, dose_symmetric_order
from tomodask.simulate.motion import LocalMotion, drift_path
from tomodask.simulate.movies import simulate_movie

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from tomodask.geometry import Projection
    from tomodask.simulate.motion import DriftKind
    from tomodask.simulate.movies import SimulatedMovie
    from tomodask.simulate.objects import Phantom

    FloatArray = NDArray[np.float64]

__all__ = ["Fault", "MovieSeries", "simulate_movie_series"]

Fault = Literal["dark", "blank", "blocked", "drifted"]
_FAULTS = ("dark", "blank", "blocked", "drifted")
# A grid bar before the beam still lets stray electrons through.
_BAR_TRANSMISSION = 0.02
# A bar that comes into the field covers this part of its width, with an edge this many pixels soft.
_BAR_COVER, _BAR_EDGE = 0.6, 6.0
# How much farther than the others a drifting view moves.
_DRIFTED = 12.0


@dataclass(frozen=True, eq=False, slots=True)
class MovieSeries:
    """A tilt series of movies and the truth about it, in the order of acquisition.

    Movies are simulated when they are asked for, and are the same each time.

    Parameters
    ----------
    phantom
        The true specimen.
    projection
        The true geometry of the views, which need not be in the order of acquisition.
    shape
        (y, x) pixels of a frame.
    pixel_size
        A.
    frames
        Of each movie.
    imaging
        Ice and transfer; its exposure is not used.
    detector
        The camera.
    view
        (movie,) int64: which view of `projection` a movie shows; twice where it was taken again.
    tilt_angle
        (movie,) as recorded, degrees.
    exposure
        (movie,) of each movie, e/A^2.
    drift
        (movie, frame, 2) (y, x) px.
    local
        Of each movie; None is nothing.
    fault
        What went wrong with each movie; None is nothing.
    x_rays
        Hits per movie.
    seed
        Of all that is random.
    """

    phantom: Phantom
    projection: Projection
    shape: tuple[int, int]
    pixel_size: float
    frames: int
    imaging: Imaging
    detector: Detector
    view: NDArray[np.int64]
    tilt_angle: FloatArray
    exposure: FloatArray
    drift: FloatArray
    local: tuple[LocalMotion | None, ...]
    fault: tuple[Fault | None, ...]
    x_rays: int
    seed: int

    @property
    def dose(self) -> FloatArray:
        """(movie,) accumulated before each movie, e/A^2."""
        dose: FloatArray = np.cumsum(self.exposure) - self.exposure
        return dose

    def __len__(self) -> int:
        return len(self.view)

    def __iter__(self) -> Iterator[SimulatedMovie]:
        return (self.movie(index) for index in range(len(self)))

    def movie(self, index: int) -> SimulatedMovie:
        """Simulate the movie acquired as number `index`, from 0."""
        view = int(self.view[index])
        ctf = (self.imaging.ctf[view],) if self.imaging.ctf else ()
        return simulate_movie(
            self.phantom,
            self.projection[[view]],
            self.shape,
            pixel_size=self.pixel_size,
            frames=self.frames,
            imaging=replace(self.imaging, exposure=float(self.exposure[index]), ctf=ctf),
            drift=self.drift[index],
            local=self.local[index],
            detector=self.detector,
            x_rays=self.x_rays,
            transmission=_transmission(self.fault[index], self.shape),
            seed=_seed(self.seed, index),
        )


def simulate_movie_series(
    phantom: Phantom,
    projection: Projection,
    shape: tuple[int, int],
    *,
    pixel_size: float,
    frames: int = 8,
    imaging: Imaging | None = None,
    tilt_angle: ArrayLike | None = None,
    order: ArrayLike | None = None,
    exposure: ArrayLike | None = None,
    drift: DriftKind = "settling",
    drift_length: float = 10.0,
    local_motion: float = 0.0,
    detector: Detector | None = None,
    x_rays: int = 3,
    faults: Mapping[int, Fault] | None = None,
    reacquired: Sequence[int] = (),
    seed: int = 0,
) -> MovieSeries:
    """Record a tilt series as movies.

    Parameters
    ----------
    phantom
        The specimen.
    projection
        The true geometry of the views.
    shape
        (y, x) pixels of a frame.
    pixel_size
        A.
    frames
        Of each movie.
    imaging
        Ice, and the transfer of each view.
    tilt_angle
        (view,) as recorded, degrees; the true ones when absent.
    order
        (view,) order of acquisition, from 0; dose-symmetric when absent.
    exposure
        (view,) e/A^2; that of `imaging` when absent.
    drift
        Kind of every movie's drift; each has its own path.
    drift_length
        Of the whole way, A.
    local_motion
        Root mean square of the local motion from the first to the last frame, A.
    detector
        The camera; a random one, with defects, when absent.
    x_rays
        Hits per movie.
    faults
        What goes wrong, by view: ``"dark"``, a grid bar hides all but 2 % of the beam; ``"blank"``,
        no electron arrives; ``"blocked"``, a bar hides a part of the field; ``"drifted"``, the
        stage drifts evenly, 12 times as far.
    reacquired
        Views that are taken twice in succession. A fault is then that of the first movie only.
    seed
        Equal seeds give equal series.

    Raises
    ------
    ParameterError
        If a value does not fit the number of views, or a view or a fault does not exist.
    """
    imaging = Imaging() if imaging is None else imaging
    faults = {} if faults is None else faults
    views = len(projection)
    recorded = np.asarray(projection.tilt_angle if tilt_angle is None else tilt_angle, np.float64)
    acquired = np.asarray(dose_symmetric_order(recorded) if order is None else order)
    doses = np.asarray(np.full(views, imaging.exposure) if exposure is None else exposure)
    for name, values in (("tilt_angle", recorded), ("order", acquired), ("exposure", doses)):
        if values.shape != (views,):
            raise ParameterError(f"{name} has shape {values.shape}; {views} views need ({views},)")
    if not np.array_equal(np.sort(acquired), np.arange(views)):
        raise ParameterError(f"order must hold each of 0 to {views - 1} once")
    if len(imaging.ctf) not in {0, views}:
        raise ParameterError(f"ctf has {len(imaging.ctf)} views, the projection {views}")
    for number in (*faults, *reacquired):
        if not 0 <= number < views:
            raise ParameterError(f"view {number} is not one of the views 0 to {views - 1}")
    for name in faults.values():
        if name not in _FAULTS:
            raise ParameterError(f"fault {name!r} is unknown; give one of {', '.join(_FAULTS)}")

    taken: list[int] = []
    wrong: list[Fault | None] = []
    for view in map(int, np.argsort(acquired)):
        taken.append(view)
        wrong.append(faults.get(view))
        if view in reacquired:
            taken.append(view)
            wrong.append(None)
    paths = []
    for index, fault in enumerate(wrong):
        length = drift_length / pixel_size
        kind: DriftKind = "linear" if fault == "drifted" else drift
        paths.append(
            drift_path(
                kind,
                frames,
                length * _DRIFTED if fault == "drifted" else length,
                seed=_seed(seed, index),
            )
        )
    return MovieSeries(
        phantom=phantom,
        projection=projection,
        shape=shape,
        pixel_size=float(pixel_size),
        frames=frames,
        imaging=imaging,
        detector=Detector.random(shape, seed=seed) if detector is None else detector,
        view=np.array(taken, np.int64),
        tilt_angle=recorded[taken],
        exposure=doses[taken].astype(np.float64),
        drift=np.stack(paths),
        local=tuple(
            LocalMotion.random(shape, frames, local_motion / pixel_size, seed=_seed(seed, index))
            if local_motion > 0
            else None
            for index in range(len(taken))
        ),
        fault=tuple(wrong),
        x_rays=x_rays,
        seed=seed,
    )


def _seed(seed: int, index: int) -> int:
    return int(np.random.SeedSequence([seed, index]).generate_state(1)[0])


def _transmission(fault: Fault | None, shape: tuple[int, int]) -> float | FloatArray:
    if fault == "dark":
        return _BAR_TRANSMISSION
    if fault == "blank":
        return 0.0
    if fault != "blocked":
        return 1.0
    edge = (_BAR_COVER - 0.5) * shape[1]
    x = np.broadcast_to(centred_coordinates(shape[1], 1.0), shape)
    clear = (1 + np.tanh((x - edge) / _BAR_EDGE)) / 2
    return _BAR_TRANSMISSION + (1 - _BAR_TRANSMISSION) * clear

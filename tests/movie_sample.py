"""A small tilt series of movies with its truth, shared by the tests of what is made of movies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tomodask.importing_movies import import_movies
from tomodask.simulate import Ball, Phantom
from tomodask.simulate.imaging import Imaging
from tomodask.simulate.movie_files import MovieFiles, write_movie_series
from tomodask.simulate.movie_series import MovieSeries, simulate_movie_series
from tomodask.simulate.specimens import random_misalignment

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr

PIXEL = 4.0
SHAPE = (160, 144)
ANGLES = np.array([-16.0, -8.0, 0.0, 8.0, 16.0])
VIEWS, FRAMES = len(ANGLES), 6


def scattered_balls(shape: tuple[int, int], pixel_size: float, seed: int = 0) -> Phantom:
    """Forty balls of 16 to 40 A all over the field."""
    rng = np.random.default_rng(seed)
    half = np.array([shape[1], shape[0], 60]) / 2 * pixel_size
    balls = [
        Ball(tuple(map(float, rng.uniform(-half, half))), float(rng.uniform(16, 40)), -0.004)
        for _ in range(40)
    ]
    return Phantom(tuple(balls))


def movie_series(
    shape: tuple[int, int] = SHAPE, angles: np.ndarray = ANGLES, **options: Any
) -> MovieSeries:
    """A series at a dose that leaves little doubt about its motion."""
    values: dict[str, Any] = {
        "pixel_size": PIXEL,
        "frames": FRAMES,
        "imaging": Imaging(exposure=12.0, ice_thickness=500.0),
        "tilt_angle": angles,
        "drift_length": 24.0,
        "x_rays": 0,
    }
    return simulate_movie_series(
        scattered_balls(shape, values["pixel_size"]),
        random_misalignment(angles, seed=1, shift_sd=4.0),
        shape,
        **(values | options),
    )


def write(folder: Path, series: MovieSeries | None = None, **options: Any) -> MovieFiles:
    """The series as files."""
    return write_movie_series(folder, movie_series() if series is None else series, **options)


def imported(files: MovieFiles, out: Path, **options: Any) -> Path:
    """The store of a series with its gain and defects."""
    given: dict[str, Any] = {"gain": files.gain, "defects": files.defects} | options
    return import_movies(files.mdocs, out, **given)


def true_shifts(series: MovieSeries, table: xr.Dataset) -> np.ndarray:
    """(tilt, frame, 2) of the views of a table of movies, (y, x) in pixels."""
    return series.drift[table["order"].values]


def found_shifts(motion: xr.Dataset) -> np.ndarray:
    """(tilt, frame, 2) in pixels of the frames."""
    both = [motion[name].values for name in ("shift_y", "shift_x")]
    return np.stack(both, axis=-1) / motion.attrs["pixel_size"]

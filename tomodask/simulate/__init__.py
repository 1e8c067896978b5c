"""Tilt series with exact truth, for the demo, the notebooks and the tests.

* ``objects``: what a specimen is made of, and its exact projections;
* ``specimens``: ready specimens and ready misalignments;
* ``deformation``: how a specimen deforms with the dose;
* ``imaging``: what the microscope and the camera make of the projections;
* ``transfer``, ``heights``, ``ice``: contrast transfer, also where the defocus follows the height,
  and the ice that is seen through it;
* ``motion``, ``detector``, ``movies``, ``movie_series``: how it moves while a camera counts;
* ``movie_files``, ``movie_demo``: movies as files of cameras, with mdoc and gain reference.
"""

from __future__ import annotations

from tomodask.simulate.deformation import random_deformation
from tomodask.simulate.detector import Detector
from tomodask.simulate.imaging import (
    Imaging,
    SimulatedTiltSeries,
    dose_symmetric_order,
    simulate_tilt_series,
)
from tomodask.simulate.motion import LocalMotion, drift_path
from tomodask.simulate.movie_demo import cryo_imaging, demo_movie_series, demo_movies
from tomodask.simulate.movie_files import (
    MovieFiles,
    oriented,
    write_gain,
    write_movie,
    write_movie_series,
)
from tomodask.simulate.movie_series import MovieSeries, simulate_movie_series
from tomodask.simulate.movies import SimulatedMovie, simulate_movie
from tomodask.simulate.objects import Ball, Ellipsoid, Gaussian, Phantom, Shell
from tomodask.simulate.specimens import beads_and_vesicles, random_misalignment
from tomodask.simulate.transfer import ContrastTransfer

__all__ = [
    "Ball",
    "ContrastTransfer",
    "Detector",
    "Ellipsoid",
    "Gaussian",
    "Imaging",
    "LocalMotion",
    "MovieFiles",
    "MovieSeries",
    "Phantom",
    "Shell",
    "SimulatedMovie",
    "SimulatedTiltSeries",
    "beads_and_vesicles",
    "cryo_imaging",
    "demo_movie_series",
    "demo_movies",
    "dose_symmetric_order",
    "drift_path",
    "oriented",
    "random_deformation",
    "random_misalignment",
    "simulate_movie",
    "simulate_movie_series",
    "simulate_tilt_series",
    "write_gain",
    "write_movie",
    "write_movie_series",
]

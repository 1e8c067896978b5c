"""Tilt series with exact truth, for the demo, the notebooks and the tests.

* ``objects``: what a specimen is made of, and its exact projections;
* ``specimens``: ready specimens and ready misalignments;
* ``imaging``: what the microscope and the camera make of the projections.
"""

from __future__ import annotations

from tomodask.simulate.imaging import (
    ContrastTransfer,
    Imaging,
    SimulatedTiltSeries,
    dose_symmetric_order,
    simulate_tilt_series,
)
from tomodask.simulate.objects import Ball, Ellipsoid, Gaussian, Phantom, Shell
from tomodask.simulate.specimens import beads_and_vesicles, random_misalignment

__all__ = [
    "Ball",
    "ContrastTransfer",
    "Ellipsoid",
    "Gaussian",
    "Imaging",
    "Phantom",
    "Shell",
    "SimulatedTiltSeries",
    "beads_and_vesicles",
    "dose_symmetric_order",
    "random_misalignment",
    "simulate_tilt_series",
]

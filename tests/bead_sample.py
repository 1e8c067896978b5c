"""A stored series with gold beads whose places are known, shared by tests of landmarks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

import tomodask as td
from tomodask.io.imod import write_angles
from tomodask.io.mrc_writer import MrcWriter
from tomodask.simulate import (
    Imaging,
    beads_and_vesicles,
    random_misalignment,
    simulate_tilt_series,
)

if TYPE_CHECKING:
    from pathlib import Path

TILTS = np.arange(-60.0, 61.0, 6.0)
PIXEL = 12.0
SHAPE = (300, 320)
AXIS = 85.0
EXCLUDED = (4, 11)


def bead_series(folder: Path) -> tuple[Path, np.ndarray]:
    """Store a series; return it, and the (tilt, bead, 2) true raw (x, y), A from the centre."""
    projection = random_misalignment(
        TILTS, seed=3, shift_sd=120, tilt_axis_angle=AXIS - 0.6, axis_jitter=0.1, tilt_jitter=0.1
    )
    height, width = (0.8 * n * PIXEL for n in SHAPE)
    phantom = beads_and_vesicles(3, (width, height, 900.0), beads=10, vesicles=2, particles=5)
    simulated = simulate_tilt_series(
        phantom,
        projection,
        SHAPE,
        pixel_size=PIXEL,
        imaging=Imaging(exposure=3.0, ice_thickness=900.0, ice_noise=0.03),
        tilt_angle=TILTS,
        seed=3,
    )
    stack = folder / "a.st"
    with MrcWriter(stack, shape=simulated.images.shape, voxel_size=PIXEL, kind="stack") as writer:
        for image in simulated.images:
            writer.write(image)
    write_angles(folder / "a.rawtlt", TILTS)
    path = td.import_stack(
        stack,
        folder / "a.zarr",
        tilt_angles=folder / "a.rawtlt",
        tilt_axis=AXIS,
        exclude=EXCLUDED,
    )
    return path, simulated.bead_positions

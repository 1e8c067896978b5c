"""Simulated series of amorphous ice whose contrast transfer is known.

The defocus follows the height exactly (`tomodask.simulate`), and is recorded nowhere.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

import tomodask as td
from benchmarks.inputs import tilts
from tomodask.errors import TomodaskWarning
from tomodask.geometry import Projection
from tomodask.io.mrc_writer import MrcWriter
from tomodask.simulate import (
    ContrastTransfer,
    Imaging,
    Phantom,
    dose_symmetric_order,
    simulate_tilt_series,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["PIXEL", "Kind", "Truth", "simulated", "truth_of"]

Kind = Literal["clear", "weak"]

#: Pixel size, A; exposure of a view, e/A^2; B of the ice, A^2.
PIXEL, EXPOSURE, B_FACTOR = 2.0, 3.0, 300.0
#: Scattering at low frequency, relative to the power of the counting noise.
SIGNAL: dict[Kind, float] = {"clear": 0.3, "weak": 0.05}
#: First words of the seeds.
_SEEDS: dict[Kind, int] = {"clear": 71, "weak": 72}
_AXES = (85.0, -88.0, 3.0, 95.0, 178.0, -20.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What a simulated series is.

    Parameters
    ----------
    projection
        True geometry.
    ctf
        At the specimen's origin, of each view.
    handedness
        +1 or -1.
    order
        (tilt,) of acquisition.
    thickness
        Of the ice, A.
    """

    projection: Projection
    ctf: tuple[ContrastTransfer, ...]
    handedness: Literal[-1, 1]
    order: NDArray[np.int64]
    thickness: float


def truth_of(kind: Kind, seed: int, views: int) -> Truth:
    """Return what a series is made of, anew for every kind and seed.

    The defocus is 1.5 to 5 um, drifts with the order of acquisition and is refocused with an error
    of 250 A; astigmatism is up to 1000 A and hardly changes. Every other series has ice of up to
    2000 A, the others scatter in their middle plane.
    """
    rng = np.random.default_rng([_SEEDS[kind], seed])
    angles = tilts(views)
    order = dose_symmetric_order(angles)
    base = rng.uniform(1.5e4, 5e4)
    drift = 100 * np.cumsum(rng.standard_normal(views))[order]
    defocus = np.clip(base + drift + rng.normal(0, 250, views), 1.2e4, 5.5e4)
    astigmatism = rng.uniform(0, 1000) * (1 + 0.05 * rng.standard_normal(views))
    direction = rng.uniform(-90, 90) + 0.2 * order
    hand: Literal[-1, 1] = 1 if rng.random() < 0.5 else -1
    return Truth(
        projection=Projection.create(
            angles,
            tilt_axis_angle=float(rng.choice(_AXES)) + rng.uniform(-2, 2),
            shift=rng.normal(0, 100, (views, 2)),
        ),
        ctf=tuple(
            ContrastTransfer(float(mean + half), float(mean - half), float(angle))
            for mean, half, angle in zip(defocus, astigmatism / 2, direction, strict=True)
        ),
        handedness=hand,
        order=order,
        thickness=float(rng.uniform(300, 2000)) if seed % 2 else 0.0,
    )


def simulated(kind: Kind, seed: int, edge: int, views: int, folder: Path) -> Path:
    """Return the store of a series; one that is in the folder already is not made again."""
    store = folder / f"ctf-{kind}-{seed}-{edge}-{views}.zarr"
    if store.exists():
        return store
    truth = truth_of(kind, seed, views)
    stack = store.with_suffix(".mrc")
    shape = (views, edge, edge)
    with MrcWriter(stack, shape=shape, voxel_size=PIXEL, kind="stack") as writer:
        # One view at a time: a whole series of large images takes gigabytes.
        for view in range(views):
            series = simulate_tilt_series(
                Phantom(()),
                truth.projection[[view]],
                shape[1:],
                pixel_size=PIXEL,
                imaging=Imaging(
                    exposure=EXPOSURE,
                    ice_thickness=truth.thickness,
                    ice_signal=SIGNAL[kind],
                    ice_b_factor=B_FACTOR,
                    ctf=truth.ctf[view : view + 1],
                    handedness=truth.handedness,
                ),
                seed=int(np.random.default_rng([_SEEDS[kind], seed, view]).integers(2**31)),
            )
            writer.write(series.images[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TomodaskWarning)
        td.import_stack(
            stack,
            store,
            tilt_angles=list(truth.projection.tilt_angle),
            tilt_axis=float(truth.projection.tilt_axis_angle[0]),
            voltage=300.0,
            workers=1,
        )
    stack.unlink()
    return store

"""The benchmarks run, and their programs do the same work. Nothing here asserts a time."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("astra", reason="a peer of the benchmarks is not installed")
pytest.importorskip("skimage", reason="a peer of the benchmarks is not installed")

from benchmarks import kernel, measure, memory, overhead, peak, scaling, wbp
from benchmarks.inputs import noise_series, temporary_folder, tilts
from benchmarks.peers import AstraSlice, gather_loop, scikit_image_slice
from tomodask.errors import SpaceError
from tomodask.kernels.backproject import PAD_ROWS, backproject, pad_projections

if TYPE_CHECKING:
    from pathlib import Path

WIDTH, HEIGHTS, ANGLES = 96, 40, tilts(9)


def sinogram() -> np.ndarray:
    """(tilt, u) of two Gaussians, off the axis and away from the edges."""
    u = np.arange(WIDTH) - (WIDTH - 1) / 2
    rows = np.zeros((len(ANGLES), WIDTH))
    for x, z, height in ((15.0, 8.0, 1.0), (-20.0, -5.0, 0.6)):
        t = np.deg2rad(ANGLES)[:, None]
        rows += height * np.exp(-((u - x * np.cos(t) - z * np.sin(t)) ** 2) / (2 * 3.0**2))
    return rows.astype(np.float32)


def back_projected(rows: np.ndarray) -> np.ndarray:
    """(z, x) by definition, in float64."""
    x = np.arange(WIDTH) - (WIDTH - 1) / 2
    z = np.arange(HEIGHTS) - (HEIGHTS - 1) / 2
    out = np.zeros((HEIGHTS, WIDTH))
    for row, angle in zip(rows, np.deg2rad(ANGLES), strict=True):
        u = x[None, :] * np.cos(angle) + z[:, None] * np.sin(angle)
        out += np.interp(u, x, row, left=0, right=0)
    return out


def ours(rows: np.ndarray) -> np.ndarray:
    projections = pad_projections(len(ANGLES), WIDTH, 16)
    projections[:, PAD_ROWS[0] : PAD_ROWS[0] + WIDTH] = rows[:, :, None]
    blocks = backproject(
        projections,
        np.cos(np.deg2rad(ANGLES)),
        np.sin(np.deg2rad(ANGLES)),
        origin=(WIDTH - 1) / 2,
        x=(-(WIDTH - 1) / 2, WIDTH),
        z=(-(HEIGHTS - 1) / 2, HEIGHTS),
    )
    return blocks[:, :, 3].transpose(1, 0, 2).reshape(HEIGHTS, -1)[:, :WIDTH]


def by_gather_loop(rows: np.ndarray) -> np.ndarray:
    out = np.empty((1, HEIGHTS, WIDTH), np.float32)
    cosines, sines = (f(np.deg2rad(ANGLES)).astype(np.float32) for f in (np.cos, np.sin))
    gather_loop(rows[None], cosines, sines, out)
    return out[0]


def by_astra(rows: np.ndarray) -> np.ndarray:
    with AstraSlice(ANGLES, width=WIDTH, heights=HEIGHTS, algorithm="BP") as peer:
        peer.load(np.zeros_like(rows))
        peer.run()
        peer.load(rows)  # a second slice through the same algorithm, as in the benchmark
        peer.run()
        return peer.slice()


def by_scikit_image(rows: np.ndarray) -> np.ndarray:
    low = (WIDTH - HEIGHTS) // 2
    # Its z points down, and its sum has the weight of an integral over angles.
    square = scikit_image_slice(rows, ANGLES)[::-1] * (2 * len(ANGLES) / np.pi)
    return square[low : low + HEIGHTS]


@pytest.mark.parametrize("program", [ours, by_gather_loop])
def test_linear_interpolation_is_what_is_timed(program: object) -> None:
    assert callable(program)
    np.testing.assert_allclose(program(sinogram()), back_projected(sinogram()), atol=1e-4)


@pytest.mark.parametrize(("program", "alike"), [(by_astra, 0.99), (by_scikit_image, 0.97)])
def test_peers_do_the_same_work(program: object, alike: float) -> None:
    """Other interpolations and centres by half a pixel, but the same back-projection."""
    assert callable(program)
    found, truth = program(sinogram()), back_projected(sinogram())
    assert found.shape == truth.shape
    assert np.corrcoef(found.ravel(), truth.ravel())[0, 1] > alike
    print(program, np.corrcoef(found.ravel(), truth.ravel())[0, 1], (found * truth).sum() / (truth * truth).sum())

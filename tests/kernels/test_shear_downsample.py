"""Shifts along lanes, and means for coarser levels."""

from __future__ import annotations

import numpy as np

from tomodask.kernels.downsample import halve
from tomodask.kernels.shear import REACH, shift_lanes, shift_rows, shift_weights


def wave(at: np.ndarray) -> np.ndarray:
    return np.cos(0.9 * at) * np.exp(-(((at - 40) / 15) ** 2)) + 1


def test_lanes_are_shifted_by_fractions() -> None:
    shifts = np.array([0.0, 0.5, -2.25, 3.7])
    whole, weights = shift_weights(shifts)
    margin = 8
    source = np.tile(wave(np.arange(80.0))[None, :, None], (4, 1, 5)).astype(np.float32)
    out = np.empty((4, 80 - 2 * margin, 5), np.float32)
    shift_lanes(source, whole, weights, margin, out)
    lanes = margin + np.arange(out.shape[1])
    for plane, shift in enumerate(shifts):
        np.testing.assert_allclose(out[plane, :, 2], wave(lanes + shift), atol=0.01)


def test_rows_are_shifted_per_view() -> None:
    shifts = np.array([1.5, -3.25])
    source = np.tile(wave(np.arange(80.0))[None, None, :], (2, 3, 1)).astype(np.float32)
    out = shift_rows(source, shifts)
    lanes = np.arange(80)
    for view, shift in enumerate(shifts):
        good = (lanes + shift > REACH) & (lanes + shift < 79 - REACH)
        np.testing.assert_allclose(out[view, 1, good], wave(lanes[good] + shift), atol=0.01)


def test_whole_shifts_are_exact() -> None:
    source = np.random.default_rng(0).normal(size=(1, 4, 48)).astype(np.float32)
    np.testing.assert_allclose(
        shift_rows(source, np.array([5.0]))[0, :, 4:36], source[0, :, 9:41], atol=1e-6
    )


def test_halves_are_means() -> None:
    rng = np.random.default_rng(0)
    volume = rng.normal(size=(6, 8, 128)).astype(np.float32)
    blocks = np.ascontiguousarray(volume.reshape(6, 8, 2, 64).transpose(2, 0, 1, 3))
    out = np.empty((1, 3, 4, 64), np.float32)
    halve(blocks, out, (6, 8, 128))
    expected = volume.reshape(3, 2, 4, 2, 64, 2).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(out[0], expected, atol=1e-6)


def test_odd_ends_stand_alone() -> None:
    volume = np.arange(4 * 4 * 4, dtype=np.float32).reshape(1, 4, 4, 4)
    out = np.full((1, 2, 2, 2), np.nan, np.float32)
    halve(volume, out, (3, 3, 3))
    kept = volume[0, :3, :3, :3]
    np.testing.assert_allclose(out[0, 0, 0, 0], kept[:2, :2, :2].mean())
    np.testing.assert_allclose(out[0, 1, 1, 1], kept[2, 2, 2])
    np.testing.assert_allclose(out[0, 0, 1, 0], kept[:2, 2, :2].mean())

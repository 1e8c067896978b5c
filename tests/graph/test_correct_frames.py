"""One movie's frames aligned and summed, with motion that is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tomodask.graph import correct_frames as module
from tomodask.graph.correct_frames import FrameCorrection, correct_frames
from tomodask.kernels.dose_weighting import sum_weighted_frames
from tomodask.kernels.motion import Motion
from tomodask.kernels.motion_field import MotionField

if TYPE_CHECKING:
    from collections.abc import Sequence

SHAPE = (48, 40)
INSIDE = (slice(8, -8), slice(8, -8))


def counts(frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(20, (frames, *SHAPE)).astype(np.float32)


def known_motion(
    monkeypatch: pytest.MonkeyPatch,
    shift: Sequence[Sequence[float]],
    field: MotionField | None = None,
) -> None:
    """Let every movie have moved so."""

    def estimate(frames: Sequence[np.ndarray], **_: object) -> Motion:
        assert len(frames) == len(shift)
        values = np.array(shift, np.float64)
        return Motion(values, 9.0, 0.1, True, np.full(values.shape, 0.1), (0.01, 0.5), 1, field)

    monkeypatch.setattr(module, "estimate_motion", estimate)


def moving_along() -> MotionField:
    """(-2, 0, 2) pixels along y and (-1, 0, 1) along x over three frames, at every place."""
    # Coefficients on a line are a line.
    along = np.array([-6.0, -2.0, 2.0, 6.0])[:, None, None, None]
    return MotionField(along * np.ones((4, 4, 4, 2)) * [1.0, 0.5], 3, SHAPE)


@pytest.mark.parametrize("voltage", [None, 300.0])
def test_sums_are_of_the_locally_aligned_frames(
    monkeypatch: pytest.MonkeyPatch, voltage: float | None
) -> None:
    known_motion(monkeypatch, [[1, -3], [0, 1], [-1, 2]], moving_along())
    still = counts(1)[0]
    total = [(-1, -4), (0, 1), (1, 3)]
    frames = np.array([np.roll(still, shift, (0, 1)) for shift in total])
    correction = FrameCorrection(pixel_size=1.0, patches=(1, 1), voltage=voltage)
    found = correct_frames(frames, correction, (0.0, 1e-6)).images
    # A dose of next to nothing weighs all frames alike.
    for name, count in (("images", 3), ("even", 2), ("odd", 1)):
        np.testing.assert_allclose(found[name][INSIDE], count * still[INSIDE], atol=0.5)


def test_dose_before_the_movie_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    known_motion(monkeypatch, np.zeros((4, 2)).tolist())
    frames = counts(5)
    correction = FrameCorrection(pixel_size=2.0, voltage=300.0, skip=(1, 0))
    found = {
        before: correct_frames(frames, correction, (before, 20.0)).images["images"]
        for before in (0.0, 40.0)
    }
    for before, image in found.items():
        expected, _, _ = sum_weighted_frames(
            frames[1:],
            np.zeros((4, 2)),
            dose=[before + 8, before + 12, before + 16, before + 20],
            pixel_size=2.0,
            voltage=300.0,
        )
        np.testing.assert_allclose(image, expected, rtol=1e-5)
    # It tells how the frames compare with each other.
    assert np.abs(found[0.0] - found[40.0]).max() > 1


def test_frames_of_groups_are_about_their_own_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    # The last of the groups has one frame, so that the mean over groups is not that over frames.
    velocity = np.array([1.5, -1.0])
    middle = np.array([0.5, 2.5, 4.0])
    known_motion(monkeypatch, ((middle - middle.mean())[:, None] * velocity).tolist())
    found = correct_frames(counts(5), FrameCorrection(pixel_size=1.0, group=2)).motion.shift
    np.testing.assert_allclose(found, (np.arange(5.0) - 2)[:, None] * velocity, atol=1e-12)

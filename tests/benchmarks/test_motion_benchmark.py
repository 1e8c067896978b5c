"""The benchmark of motion correction runs, and measures errors as it says."""

from __future__ import annotations

import json
import stat
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks import motion
from benchmarks.measure import Cost

if TYPE_CHECKING:
    from pathlib import Path

SIZE = motion.SIZES["tiny"]
POINTS = 21


def displacement(movie: motion.SimulatedMovie) -> np.ndarray:
    at = np.linspace(0, SIZE.edge - 1, POINTS)
    return np.stack(
        [movie.displacement(frame, at[:, None], at[None, :]) for frame in range(SIZE.frames)]
    )


@pytest.fixture(scope="module")
def movie() -> motion.SimulatedMovie:
    return motion.simulated(SIZE)


def test_parts_and_corrections(movie: motion.SimulatedMovie, tmp_path: Path) -> None:
    parts, corrections = motion.measure(SIZE, movie, tmp_path)
    assert {"decode TIFF", "forward transforms", "inverse transforms of three sums"} <= set(parts)
    assert [done.name for done in corrections] == [
        "tomodask, whole frames",
        "tomodask, 5 x 5 patches",
    ]
    still = np.sqrt(((displacement(movie) - displacement(movie).mean(axis=0)) ** 2).mean())
    assert all(done.error < 1.1 * still for done in corrections)


def test_a_peer_is_compared_with_the_truth(movie: motion.SimulatedMovie, tmp_path: Path) -> None:
    """Any program that prints what is asked for: here the truth, with another origin, and a shift
    of one pixel in one frame."""
    wrong = np.add(displacement(movie), [[[0.75]], [[-2.0]]])
    wrong[0, 0] += 1
    answer = {"a way": {"cpu": 2.0, "wall": 3.0, "displacement": wrong.tolist()}}
    script = tmp_path / "python"
    script.write_text(f"#!{sys.executable}\nprint({json.dumps(json.dumps(answer))})\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    (done,) = motion.measure_peer(SIZE, movie, tmp_path, str(script), Cost(0.5, 0.25))
    assert done.cost == Cost(2.5, 3.25)
    # of 4 frames and 2 axes one is off by 1 - 1/4, the others of that axis by 1/4
    assert done.error == pytest.approx(np.sqrt((0.75**2 + 3 * 0.25**2) / 8))
    assert done.name == "torch-motion-correction, a way"
    assert list(tmp_path.iterdir()) == [script]


def test_reports_and_leaves_nothing(tmp_path: Path) -> None:
    text = motion.report(SIZE, tmp_path)
    assert "| tomodask, 5 x 5 patches |" in text
    assert "torch" not in text
    assert list(tmp_path.iterdir()) == []

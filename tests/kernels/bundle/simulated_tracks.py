"""Tracks with exact truth, by a projection written out step by step, apart from the solver's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tomodask.kernels.bundle import Observations

NAMES = ("rotation", "tilt", "magnification", "compression", "stretch", "skew", "x_tilt")


def camera(rotation, tilt, magnification, compression, stretch, skew, x_tilt):
    """Return the (2, 3) camera of one view; angles in degrees."""
    r, t, k, a = np.deg2rad([rotation, tilt, skew, x_tilt])
    distortion = np.array(
        [
            [(1 + stretch) * np.cos(k), 0, 0],
            [(1 + stretch) * np.sin(k), 1, 0],
            [0, 0, compression],
        ]
    )
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(t), 0, np.sin(t)], [0, 1, 0], [-np.sin(t), 0, np.cos(t)]])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return magnification * (about_z @ about_y @ about_x @ distortion)[:2]


@dataclass(eq=False)
class Tracks:
    tilt: np.ndarray
    observations: Observations
    values: dict[str, np.ndarray]
    matrix: np.ndarray
    shift: np.ndarray
    points: np.ndarray
    everywhere: np.ndarray

    def seen_at(self, points):
        return np.einsum("vij,pj->vpi", self.matrix, points) + self.shift[:, None]

    def error(self, solution, views=slice(None)):
        """RMS distance between where true points are and where the solution can put them."""
        true = self.seen_at(self.everywhere)[views]
        matrix = solution.matrix[views].reshape(-1, 3)
        target = (true - solution.shift[views][:, None]).transpose(0, 2, 1)
        target = target.reshape(len(matrix), -1)
        best = np.linalg.lstsq(matrix, target, rcond=None)[0]
        return float(np.sqrt(2 * np.mean((matrix @ best - target) ** 2)))


def tracks(
    seed,
    *,
    landmarks=15,
    views=41,
    noise=0.0,
    axis=85.0,
    jitter=None,
    missing=0.0,
    size=900.0,
    thickness=200.0,
    surfaces=2,
):
    """Return tracks; `jitter` holds standard deviations by parameter, none at the lowest tilt."""
    rng = np.random.default_rng(seed)
    tilt = np.linspace(-60.0, 60.0, views)
    values = {name: np.zeros(views) for name in NAMES}
    values["rotation"] += axis
    values["tilt"] += tilt
    values["magnification"] += 1.0
    values["compression"] += 1.0
    for name, deviation in (jitter or {}).items():
        moved = rng.normal(0, deviation, views)
        if name != "rotation":
            moved[views // 2] = 0
        values[name] += moved
    matrix = np.array([camera(*(values[name][v] for name in NAMES)) for v in range(views)])
    shift = rng.normal(0, 40, (views, 2))

    def scattered(count):
        height = rng.normal(0, 3, count) + thickness / 2 * (
            rng.choice([-1, 1], count) if surfaces == 2 else 1
        )
        return np.column_stack([rng.uniform(-size / 2, size / 2, (count, 2)), height])

    points = scattered(landmarks)
    everywhere = scattered(200)
    seen = rng.random((views, landmarks)) >= missing
    view, landmark = np.nonzero(seen)
    position = np.einsum("vij,pj->vpi", matrix, points) + shift[:, None]
    position += rng.normal(0, noise, position.shape) if noise else 0.0
    observations = Observations.create(landmark, view, position[view, landmark])
    return Tracks(tilt, observations, values, matrix, shift, points, everywhere)

"""Point sets as detections of a simulated tilt series; the geometry is written out once more."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TILTS = np.arange(-60.0, 61.0, 5.0)


@dataclass
class PointSeries:
    """(point, tilt, 2) where points are seen, and per view detections and whose they are."""

    seen: np.ndarray
    detected: list[np.ndarray]
    owner: list[np.ndarray]
    points: np.ndarray
    size: int


def point_series(
    seed=0,
    *,
    count=14,
    size=1000,
    axis=85.0,
    tilts=TILTS,
    noise=0.3,
    missing=0.2,
    false=0.2,
    drift=20.0,
    jump=None,
    dark=(),
    flat=False,
    sway=0.0,
):
    """Return a series; `jump` is a view displaced by 200 pixels, `sway` motion that varies."""
    rng = np.random.default_rng(seed)
    height = 0.0 if flat else size / 10
    points = rng.uniform(-0.5, 0.5, (count, 3)) * [0.85 * size, 0.85 * size, 2 * height]
    shift = np.cumsum(rng.normal(0, drift, (len(tilts), 2)), axis=0)
    if jump is not None:
        shift[jump] += [140.0, -143.0]
    tilt = np.radians(tilts + rng.normal(0, 0.15, len(tilts)))
    turn = np.radians(axis + rng.normal(0, 0.15, len(tilts)))
    x, y, z = points.T[:, :, None]
    u, v = x * np.cos(tilt) + z * np.sin(tilt), y
    seen = np.stack([u * np.cos(turn) - v * np.sin(turn), u * np.sin(turn) + v * np.cos(turn)], -1)
    seen = seen + shift - shift[len(tilts) // 2]
    phase = rng.uniform(0, 6, len(tilts))
    seen[..., 0] += sway * np.sin(2 * np.pi * x / size + phase)
    detected, owner = [], []
    for view in range(len(tilts)):
        inside = (np.abs(seen[:, view]) < size / 2).all(axis=1)
        own = np.flatnonzero(inside & (rng.random(count) >= missing) & (view not in dark))
        extra = rng.poisson(false * count)
        detected.append(
            np.concatenate(
                [
                    seen[own, view] + rng.normal(0, noise, (len(own), 2)),
                    rng.uniform(-size / 2, size / 2, (extra, 2)),
                ]
            )
        )
        owner.append(np.concatenate([own, np.full(extra, -1)]))
    return PointSeries(seen, detected, owner, points, size)


def owners(series, index):
    """Return whose the (landmark, tilt) detections are: -1 a false one, -2 none."""
    found = np.full(index.shape, -2)
    for view, owner in enumerate(series.owner):
        there = index[:, view] >= 0
        found[there, view] = owner[index[there, view]]
    return found

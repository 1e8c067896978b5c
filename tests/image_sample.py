"""A stored series of images with halves, made without movies, shared by tests of what reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import google_crc32c
import numpy as np
from scipy.ndimage import gaussian_filter

from tomodask.engine.ledger import Ledger
from tomodask.engine.shards import write_shard
from tomodask.io.series import create_series, images_folder, images_grid
from tomodask.model import CHECKSUMS

if TYPE_CHECKING:
    from pathlib import Path

PIXEL = 10.0


def scene(
    angles: np.ndarray, shape: tuple[int, int], level: float = 100.0, contrast: float = 0.15
) -> np.ndarray:
    """(tilt, y, x) expected counts: one structure seen in all views, darker at high tilt."""
    rng = np.random.default_rng(5)
    structure = gaussian_filter(rng.normal(size=shape), 3)
    image = 1 + contrast * structure / structure.std()
    attenuation = np.exp(-0.4 / np.cos(np.radians(angles)))
    expected: np.ndarray = level * attenuation[:, None, None] * np.clip(image, 0.2, None)
    return expected


def counted(expected: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(tilt, y, x) float32 counts of the even and of the odd frames."""
    rng = np.random.default_rng(seed)
    even, odd = (rng.poisson(expected / 2).astype(np.float32) for _ in range(2))
    return even, odd


def stored(path: Path, angles: np.ndarray, even: np.ndarray, odd: np.ndarray | None = None) -> Path:
    """Store a series; a view that is all NaN has no image. Without `odd` there are no halves."""
    images = even if odd is None else even + odd
    parts = {"images": images} if odd is None else {"images": images, "even": even, "odd": odd}
    there = np.isfinite(images).all(axis=(1, 2))
    coordinates: dict[str, np.ndarray] = {
        CHECKSUMS[name]: np.array(
            [google_crc32c.value(np.ascontiguousarray(image)) for image in values], np.uint32
        )
        for name, values in parts.items()
    }
    coordinates |= {
        "tilt_angle": angles,
        "exposure": np.full(len(angles), 3.0),
        "section": np.arange(len(angles)),
        "included": there,
        "has_image": there,
        "reason": np.where(there, "", "its movie is truncated"),
    }
    folder, grid = images_folder(path), images_grid(images.shape)
    attributes = {"pixel_size": PIXEL, "tilt_axis_angle": 3.0}
    with Ledger(folder, path / "tilt_series") as ledger:
        create_series(path, images.shape, coordinates, attributes, halves=odd is not None)
        ledger.begin({"step": "stored by a test"})
        for name, values in parts.items():
            for view, image in enumerate(values):
                write_shard(images_folder(path, name), grid, (view, 0, 0), image[None])
        ledger.finish([])
    return path


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """When each file was written, and what it holds."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }

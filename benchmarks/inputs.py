"""Tilt series of noise in a store, and a folder for them that does not stay."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import tomodask as td
from tomodask.engine.files import check_space
from tomodask.io.mrc_writer import MrcWriter

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["noise_series", "temporary_folder", "tilts"]


@contextmanager
def temporary_folder(needed: int, parent: Path | None = None) -> Iterator[Path]:
    """Give a folder on a disk with `needed` bytes free; it is removed with all it holds.

    Raises
    ------
    SpaceError
        With both numbers.
    """
    with tempfile.TemporaryDirectory(prefix="tomodask-benchmark-", dir=parent) as name:
        check_space(Path(name), needed)
        yield Path(name)


def tilts(views: int) -> np.ndarray:
    """(tilt,) degrees, from -60 to 60."""
    return np.linspace(-60, 60, views)


def noise_series(folder: Path, shape: tuple[int, int, int], *, tilt_axis: float) -> Path:
    """Import a stack of white noise, which no compression makes smaller than real images.

    Parameters
    ----------
    folder
        Where the store is made.
    shape
        (tilt, y, x).
    tilt_axis
        Degrees.
    """
    noise = np.random.default_rng(0).normal(size=shape[1:]).astype(np.float32)
    stack = folder / "stack.mrc"
    with MrcWriter(stack, shape=shape, voxel_size=4.0, kind="stack") as writer:
        for view in range(shape[0]):
            writer.write(np.roll(noise, 37 * view, axis=1))
    store = td.import_stack(
        stack, folder / "series.zarr", tilt_angles=list(tilts(shape[0])), tilt_axis=tilt_axis
    )
    stack.unlink()
    return store

"""Stored arrays as lazy ones, named for what they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
from dask.base import tokenize

from tomodask.engine.shards import StoredArray

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["lazy_array"]


def lazy_array(path: Path, *identity: Any) -> da.Array:
    """Return a stored array as a dask array of one chunk per shard.

    Parameters
    ----------
    path
        Folder of the array.
    *identity
        What determines its values. The name of the dask array follows from it, so that whatever
        is derived from the array has the same name in another process.
    """
    array, shards = StoredArray.open(path)
    lazy: da.Array = da.from_array(
        array,
        chunks=tuple(min(n, s) for n, s in zip(array.shape, shards, strict=True)),
        name=f"{path.name}-{tokenize(*identity)}",
        asarray=False,
        meta=np.empty((0,) * array.ndim, array.dtype),
    )
    return lazy

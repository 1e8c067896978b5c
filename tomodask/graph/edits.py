"""Edits: pixels that are mended whenever a stored image is read, never in the store.

The images, and their even and odd halves, share the same edits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import zarr

from tomodask.engine.shards import read_region, reading
from tomodask.errors import DataError
from tomodask.kernels.fill_pixels import fill_pixels

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Edits"]


@dataclass(frozen=True, slots=True)
class Edits:
    """The edits of a series; small and picklable, read by whoever applies them.

    Parameters
    ----------
    table
        Folder of the table of edits.
    digest
        What they are: a table changed since is refused.
    """

    table: Path
    digest: str

    def apply(self, view: int, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return an image (y, x) with its edits.

        Raises
        ------
        DataError
            If the table is not the one that was there when the work was planned.
        """
        with reading(self.table):
            digest = zarr.open_group(self.table, mode="r").attrs.get("digest")
        if digest != self.digest:
            raise DataError(
                f"{self.table} was changed since this was begun: open the series again, or give "
                "the same command again"
            )
        start, stop = (int(n) for n in read_region(self.table / "start", (slice(view, view + 2),)))
        if start == stop:
            return image
        y, x = (read_region(self.table / axis, (slice(start, stop),)) for axis in "yx")
        return fill_pixels(image, y, x, seed=view)

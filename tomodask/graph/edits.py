"""Edits: pixels that are mended whenever a stored image is read, never in the store.

The images, and their even and odd halves, share the same edits. What the camera spoilt is mended
first, gold is erased then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import zarr

from tomodask.engine.shards import read_region, reading
from tomodask.errors import DataError
from tomodask.kernels.erase_discs import erase_discs
from tomodask.kernels.fill_pixels import fill_pixels

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["EditTable", "Edits"]


@dataclass(frozen=True, slots=True)
class EditTable:
    """A stored table of edits, view after view; small and picklable.

    Parameters
    ----------
    table
        Its folder.
    digest
        What it holds: a table changed since is refused.
    """

    table: Path
    digest: str

    def read(self, view: int, *columns: str) -> list[NDArray[Any]]:
        """Return columns of the edits of one view.

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
            return []
        return [read_region(self.table / name, (slice(start, stop),)) for name in columns]


@dataclass(frozen=True, slots=True)
class Edits:
    """The edits of a series, read by whoever applies them.

    Parameters
    ----------
    cleaning
        Pixels that the camera spoilt.
    gold
        Discs to be erased.
    """

    cleaning: EditTable | None = None
    gold: EditTable | None = None

    @property
    def digest(self) -> str:
        """What they are, for the plan of what is made with them."""
        cleaning = "" if self.cleaning is None else self.cleaning.digest
        return cleaning if self.gold is None else f"{cleaning}+gold {self.gold.digest}"

    @property
    def applied(self) -> list[str]:
        """Names of what is done to an image."""
        steps = {"cleaning": self.cleaning, "gold erasing": self.gold}
        return [name for name, table in steps.items() if table is not None]

    def apply(self, view: int, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return an image (y, x) with its edits.

        Raises
        ------
        DataError
            If a table is not the one that was there when the work was planned.
        """
        if self.cleaning is not None:
            pixels = self.cleaning.read(view, "y", "x")
            image = fill_pixels(image, *pixels, seed=view) if pixels else image
        if self.gold is not None:
            discs = self.gold.read(view, "y", "x", "radius")
            image = erase_discs(image, *discs, seed=view) if discs else image
        return image

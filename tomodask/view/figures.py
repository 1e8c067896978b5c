"""Figures that are no business of pyplot: any thread may draw them, and notebooks show them."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure

from tomodask.engine.files import write_whole

__all__ = ["ShownFigure", "write_png"]


class ShownFigure(Figure):
    """A figure that a notebook shows, even one that has not used pyplot yet."""

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


def write_png(figure: Figure, path: str | Path) -> Path:
    """Write a figure as a PNG file, whole or not at all, and return the file."""
    target = Path(path).expanduser().absolute()
    with write_whole(target) as temporary:
        # Without the name of the software equal pictures are equal files.
        figure.savefig(temporary, format="png", metadata={"Software": None})
    return target

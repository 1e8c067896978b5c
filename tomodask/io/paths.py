"""The paths that users give: errors of reading and of missing folders, with a remedy.

Errors of writing are `tomodask.engine.files`'s.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from tomodask.errors import StoreError, TomodaskError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["check_folder", "readable"]


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn the system's errors of reading a file into one that names it and the remedy.

    Parameters
    ----------
    path : Path
        The file that the block reads.

    Raises
    ------
    StoreError
        With the `errno` of the system's error.
    """
    try:
        yield
    except TomodaskError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreError(
            error.errno, f"{path}: cannot be read ({reason}); check the path and its permissions"
        ) from error


def check_folder(path: Path) -> None:
    """Check, before any work is done, that the folder of a file to be written exists.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    StoreError
        There is no such folder.
    """
    if not path.parent.is_dir():
        raise StoreError(f"{path}: its folder does not exist; create it first")

"""Small files that are whole or absent, and errors of the disk in words."""

from __future__ import annotations

import errno
import shutil
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tomodask.engine.memory import format_bytes
from tomodask.errors import SpaceError, StoreError, TomodaskError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = [
    "PARTIAL_SUFFIX",
    "check_space",
    "explained",
    "partial_path",
    "remove_partials",
    "write_whole",
]

#: Ending of files that are being written; never read, swept when a run resumes.
PARTIAL_SUFFIX = ".partial"

_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def partial_path(path: Path) -> Path:
    """Return a new name beside `path` under which it is written before it is renamed."""
    return path.with_name(f"{path.name}.{uuid.uuid4().hex[:12]}{PARTIAL_SUFFIX}")


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an OSError of the disk into an error that names the file and the remedy."""
    try:
        yield
    except TomodaskError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in _SPACE:
            raise SpaceError(
                error.errno,
                f"cannot write {path}: {reason}; free space, or raise the quota, then run the same "
                "command again: what is finished is kept",
            ) from error
        raise StoreError(
            error.errno,
            f"cannot write {path}: {reason}; check that its folder is one where you may write, or "
            "give another place",
        ) from error


@contextmanager
def write_whole(path: Path) -> Iterator[Path]:
    """Give a temporary name; on success it becomes `path`, on failure it is removed.

    Its folder is made where there is none.
    """
    temporary = partial_path(path)
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def remove_partials(folder: Path) -> int:
    """Remove what killed writers left below `folder`; return how many files."""
    found = list(folder.rglob(f"*{PARTIAL_SUFFIX}"))
    for path in found:
        path.unlink(missing_ok=True)
    return len(found)


def check_space(folder: Path, needed: int) -> None:
    """Raise unless the disk holds a product of `needed` bytes in `folder`, which exists.

    What the folder holds already counts as room: it is part of the product, or to be replaced.

    Raises
    ------
    SpaceError
        With both numbers.
    """
    there = sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
    free = shutil.disk_usage(folder).free
    if needed > free + there:
        raise SpaceError(
            f"{folder} needs {format_bytes(needed - there)} more, the disk has "
            f"{format_bytes(free)} free; free space, bin more, or write to another disk"
        )

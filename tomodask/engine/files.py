"""Small files that are whole or absent, and errors of the disk in words."""

from __future__ import annotations

import errno
import os
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tomodask.errors import SpaceError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PARTIAL_SUFFIX", "explained", "partial_path", "remove_partials", "write_whole"]

#: Ending of files that are being written; never read, swept when a run resumes.
PARTIAL_SUFFIX = ".partial"

_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


def partial_path(path: Path) -> Path:
    """Return a new name beside `path` under which it is written before it is renamed."""
    return path.with_name(f"{path.name}.{uuid.uuid4().hex[:12]}{PARTIAL_SUFFIX}")


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an OSError of the disk into an error that names the file and the remedy."""
    try:
        yield
    except (SpaceError, StoreError):
        raise
    except OSError as error:
        if error.errno in _SPACE:
            raise SpaceError(
                error.errno,
                f"no space left while writing {path}; free space or write elsewhere, then run "
                "the same command again: what is finished is kept",
            ) from error
        if error.errno in _DENIED:
            raise StoreError(
                error.errno,
                f"cannot write {path}: {os.strerror(error.errno)}; give a place where you may "
                "write, or change its permissions",
            ) from error
        raise


@contextmanager
def write_whole(path: Path) -> Iterator[Path]:
    """Give a temporary name; on success it becomes `path`, on failure it is removed."""
    temporary = partial_path(path)
    with explained(path):
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

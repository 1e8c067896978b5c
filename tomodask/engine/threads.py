"""One thread for BLAS and FFT, where Dask's tasks and tomodask's own pools are the parallelism.

A sum taken in another order differs in its last digit, and BLAS orders by the number of its
threads: so results are the same on any scheduler only where the same number is used everywhere.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["single_threaded"]

_guard = threading.Lock()
_held: list[threadpool_limits] = []
_inside = 0


@contextmanager
def single_threaded() -> Iterator[None]:
    """Hold the libraries' own thread pools at one thread; also a decorator.

    The limit is the process's, not the thread's. Contexts of several threads overlap in any
    order, so the first to enter sets it and the last to leave restores what was before: were each
    to restore what it found, the limit of another would stay for good.
    """
    global _inside  # noqa: PLW0603
    with _guard:
        if _inside == 0:
            _held.append(threadpool_limits(1))
        _inside += 1
    try:
        yield
    finally:
        with _guard:
            _inside -= 1
            if _inside == 0:
                _held.pop().restore_original_limits()

"""The one place where numba is configured.

Kernels are single-threaded and release the GIL: threads belong to Dask. Floating-point results
must not depend on how a compiler reorders sums, so ``fastmath`` stays off; fused multiply-adds are
asked for explicitly where they matter.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import numba

__all__ = ["njit"]

F = TypeVar("F", bound=Callable[..., Any])

#: Compiled code is kept beside the module, or in NUMBA_CACHE_DIR, unless this is "0": on shared
#: file systems concurrent cache writes have been seen to fail.
CACHE = os.environ.get("TOMODASK_NUMBA_CACHE", "1") != "0"


def njit(function: F) -> F:
    """Compile `function` without the GIL, on first call for each combination of types."""
    compiled: F = numba.njit(nogil=True, cache=CACHE, error_model="numpy")(function)
    return compiled

"""Memory as a number that is known before a run."""

from __future__ import annotations

import re

import psutil

from tomodask.errors import MemoryLimitError, ParameterError

__all__ = ["available_memory", "format_bytes", "parse_bytes", "worker_bytes", "workers_that_fit"]

_UNITS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
_AMOUNT = re.compile(r"\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*([kmgt]?i?)b?\s*", re.IGNORECASE)
_UNITS |= {f"{unit}i": 1024**power for power, unit in enumerate("kmgt", start=1)}

#: What a process holds besides its tasks' arrays once all code is loaded: interpreter, compiled
#: kernels, allocator and thread stacks; measured 290 MiB.
PROCESS_BYTES = 320 * 1024**2
#: A task's arrays are counted exactly; the allocator keeps some freed blocks of small ones.
_OVERHEAD = 1.15


def parse_bytes(text: str | float) -> int:
    """Return the number of bytes of "4GiB", "500 MB" or a number.

    Raises
    ------
    ParameterError
        If it is no such amount.
    """
    match = _AMOUNT.fullmatch(str(text))
    if match is None or match[2].lower() not in _UNITS:
        raise ParameterError(f"memory {text!r}: give an amount such as 4GiB or 500MB")
    try:
        size = int(float(match[1]) * _UNITS[match[2].lower()])
    except (OverflowError, ValueError):
        size = 0
    if size <= 0:
        raise ParameterError(f"memory {text!r}: give a positive amount such as 4GiB")
    return size


def format_bytes(size: float) -> str:
    """Return a size for people, e.g. "1.5 GiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def available_memory() -> int:
    """Return the memory that this process may use by default, bytes: 60 % of what is free."""
    return int(psutil.virtual_memory().available * 0.6)


def worker_bytes(task_bytes: int, threads: int) -> int:
    """Return the memory that a worker process with so many threads of tasks takes, bytes."""
    return int(task_bytes * _OVERHEAD) * threads + PROCESS_BYTES


def workers_that_fit(
    task_bytes: int, limit: int, *, wanted: int, processes: bool, what: str
) -> int:
    """Return how many tasks may run at once within a memory limit.

    Parameters
    ----------
    task_bytes
        Arrays of the largest task.
    limit
        Bytes for all processes together.
    wanted
        The most that are asked for.
    processes
        Whether every worker is a process of its own beside this one.
    what
        Name of the step, for the error.

    Raises
    ------
    MemoryLimitError
        If not even one fits, with both numbers.
    """
    each = worker_bytes(task_bytes, 1) - (0 if processes else PROCESS_BYTES)
    base = max(PROCESS_BYTES, psutil.Process().memory_info().rss)
    fit = (limit - base) // each
    if fit < 1:
        rest = "two processes take" if processes else "this process takes"
        raise MemoryLimitError(
            f"{what} needs {format_bytes(base + each)} for one task ({format_bytes(task_bytes)} of "
            f"arrays, the rest is what {rest} beside them), the limit is {format_bytes(limit)}; "
            "give more memory, a larger binning, or a smaller region"
        )
    return int(min(fit, wanted))

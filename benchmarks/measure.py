"""Timing: CPU time of all that a call costs, and wall time beside it."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Cost", "best_of", "cost_of", "least"]


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of CPU time (all threads, and child processes that ended) and of wall time."""

    cpu: float
    wall: float

    def rate(self, updates: float) -> float:
        """Return giga-updates per second of CPU time."""
        return updates / self.cpu / 1e9


def cost_of(function: Callable[[], object]) -> Cost:
    """Run a function once."""
    cpu, wall = _cpu_seconds(), time.perf_counter()
    function()
    return Cost(_cpu_seconds() - cpu, time.perf_counter() - wall)


def best_of(
    repeats: int, function: Callable[[], object], before: Callable[[], object] | None = None
) -> Cost:
    """Return the least CPU and the least wall time of several runs.

    On a shared machine other programs only ever add time, so the least is the nearest to what
    the work costs.

    Parameters
    ----------
    repeats
        Runs that are timed.
    function
        What to time. It has run before, where its first call compiles something.
    before
        Called before each run, and not timed.
    """
    costs = []
    for _ in range(repeats):
        if before is not None:
            before()
        costs.append(cost_of(function))
    return least(costs)


def least(costs: Sequence[Cost]) -> Cost:
    """Return the least CPU and the least wall time."""
    return Cost(min(cost.cpu for cost in costs), min(cost.wall for cost in costs))


def _cpu_seconds() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)

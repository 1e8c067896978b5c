"""Calling a function many times where the user wants it run; small results come back in memory."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from tomodask.engine.events import Event
from tomodask.engine.threads import single_threaded
from tomodask.engine.workers import workers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from tomodask.engine.events import Listener
    from tomodask.engine.workers import Resources

__all__ = ["gathered"]


def gathered(
    step: str,
    function: Callable[..., Any],
    arguments: Sequence[tuple[Any, ...]],
    *,
    stage: str,
    task_bytes: int,
    resources: Resources,
    listen: Listener | None = None,
) -> list[Any]:
    """Return the results of a function for many arguments, in their order.

    For what takes seconds in all; what takes long is measured so that it can go on after a kill
    (:func:`tomodask.engine.measure.measured`).

    Parameters
    ----------
    step, stage
        Names of the run and of what it does, for events and errors.
    function
        Called with each of `arguments`; both must be picklable for clusters.
    arguments
        Of each call.
    task_bytes
        Memory that the arrays of one call take.
    resources
        Where to run.
    listen
        Called with every event.

    Raises
    ------
    MemoryLimitError
        If not even one call fits the memory.
    """
    tell = listen if listen is not None else _ignore
    total = len(arguments)
    most = resources.at_once(task_bytes, f"{step}: {stage}") or total
    results: list[Any] = []
    tell(Event(kind="start", step=step, stage=stage, done=0, total=total))
    with workers(resources, task_bytes, step) as submit:
        running: deque[Future[Any]] = deque()
        for number, values in enumerate(arguments):
            running.append(submit(f"{stage}-{number}", _call, function, values))
            room = 0 if number == total - 1 else most - 1
            while len(running) > room:
                results.append(running.popleft().result())
                done = len(results)
                tell(Event(kind="task", step=step, stage=stage, done=done, total=total))
    tell(Event(kind="end", step=step, stage=stage, done=total, total=total))
    return results


def _call(function: Callable[..., Any], values: tuple[Any, ...]) -> Any:
    with single_threaded():
        return function(*values)


def _ignore(event: Event) -> None:
    del event

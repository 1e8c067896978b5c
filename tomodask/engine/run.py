"""Running tasks: what is not finished yet, stage after stage.

A task is a function with its arguments that writes one region of a product and returns a
:class:`~tomodask.engine.events.Receipt`. It may run twice without harm. No array travels between
tasks.
"""

from __future__ import annotations

import errno
import time
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from tomodask.engine.events import Event, Listener, Receipt
from tomodask.engine.memory import format_bytes
from tomodask.engine.shards import configure_zarr
from tomodask.engine.workers import Resources, workers
from tomodask.errors import ClusterError, StoreError, TaskError, TomodaskError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tomodask.engine.ledger import Ledger

__all__ = ["Stage", "Task", "at_once", "run_stages"]

#: Faults of the system that may pass; the disk being full or forbidden does not.
_PASSING = {errno.EIO, errno.EAGAIN, errno.ESTALE, errno.ETIMEDOUT, errno.EINTR}
_RETRIES = 2
#: Seconds before a passing fault is tried again.
_PAUSE = 1.0


@dataclass(frozen=True, slots=True)
class Task:
    """One call of a function that writes one region.

    Parameters
    ----------
    key
        Its name in the ledger.
    function
        Called with `arguments`; returns the bytes it read and wrote.
    arguments
        Small and picklable.
    scratch
        The file it leaves for later stages, if any. Where it is gone the task runs again.
    """

    key: str
    function: Callable[..., tuple[int, int]]
    arguments: tuple[Any, ...]
    scratch: Path | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """Tasks that need nothing of each other, and all of the stage before.

    Parameters
    ----------
    name
        For people.
    tasks
        What to do.
    task_bytes
        Memory that the arrays of one task take.
    """

    name: str
    tasks: Sequence[Task]
    task_bytes: int


def at_once(step: str, stages: Sequence[Stage], resources: Resources) -> list[int | None]:
    """Return how many tasks of each stage run at once; None where it has none or a cluster decides.

    Raises
    ------
    MemoryLimitError
        If not even one task fits the memory, with both numbers.
    """
    return [
        resources.at_once(stage.task_bytes, f"{step}: {stage.name}") if stage.tasks else None
        for stage in stages
    ]


def run_stages(
    step: str,
    stages: Sequence[Stage],
    ledger: Ledger,
    resources: Resources,
    listen: Listener | None = None,
) -> list[Receipt]:
    """Run what the ledger does not hold yet, stage after stage, and mark it.

    Parameters
    ----------
    step
        Name of the run, for events and errors.
    stages
        In order.
    ledger
        Of the product; its lock is held by the caller.
    resources
        Where to run.
    listen
        Called with every event, in this thread.

    Returns
    -------
    Receipts of the tasks that ran.

    Raises
    ------
    MemoryLimitError
        Before anything starts, if a task does not fit the memory.
    ClusterError
        If the cluster cannot be reached, or is lost.
    TomodaskError
        Of the first task that failed; what was finished is kept.
    """
    tell = listen if listen is not None else _ignore
    done = ledger.done()
    left = [
        replace(stage, tasks=[task for task in stage.tasks if not _finished(task, done)])
        for stage in stages
    ]
    slots = at_once(step, left, resources)
    largest = max((stage.task_bytes for stage in left if stage.tasks), default=0)
    receipts: list[Receipt] = []
    with workers(resources, largest, step) as submit:
        for stage, rest, most in zip(stages, left, slots, strict=True):
            total, before = len(stage.tasks), len(stage.tasks) - len(rest.tasks)

            def event(kind: Literal["start", "task", "retry", "end"], **more: Any) -> Event:
                values: dict[str, Any] = {"step": step, "stage": stage.name, "total": total}  # noqa: B023
                return Event(kind=kind, **({"done": before} | values | more))  # noqa: B023

            def start(task: Task) -> Future[Receipt]:
                return submit(task.key, execute, task, ledger.folder)

            number = "as many as the cluster takes" if most is None else str(most)
            message = f"{number} at once, {format_bytes(stage.task_bytes)} each"
            tell(event("start", message=message if rest.tasks else ""))
            for finished in _run_stage(start, rest.tasks, most or total, event, tell):
                ledger.mark(finished.key)
                receipts.append(finished)
                before += 1
                tell(event("task", done=before, receipt=finished))
            tell(event("end", done=before))
    return receipts


def _ignore(event: Event) -> None:
    pass


def _finished(task: Task, done: set[str]) -> bool:
    return task.key in done and (task.scratch is None or task.scratch.exists())


def execute(task: Task, ledger: Path) -> Receipt:
    """Run one task in the calling thread, which must see the folder of the ledger."""
    if not ledger.is_dir():
        raise StoreError(
            f"{ledger} is not there for a worker: all workers must see the same files, and nobody "
            "may remove them during a run"
        )
    configure_zarr()
    begun = time.thread_time()
    read, written = task.function(*task.arguments)
    return Receipt(
        key=task.key,
        bytes_read=read,
        bytes_written=written,
        cpu_seconds=time.thread_time() - begun,
    )


def _run_stage(
    start: Callable[[Task], Future[Receipt]],
    tasks: Sequence[Task],
    most: int,
    event: Callable[..., Event],
    tell: Listener,
) -> Iterator[Receipt]:
    """Yield receipts as tasks finish, with at most `most` under way."""
    waiting = list(reversed(tasks))
    running: dict[Future[Receipt], tuple[Task, int]] = {}
    failures: list[tuple[Task, BaseException]] = []
    while running or (waiting and not failures):
        while waiting and len(running) < most and not failures:
            task = waiting.pop()
            running[start(task)] = task, 0
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            task, attempt = running.pop(future)
            error = _error(future)
            if error is None:
                yield future.result()
            elif isinstance(error, OSError) and error.errno in _PASSING and attempt < _RETRIES:
                tell(event("retry", message=f"{task.key}: {error}"))
                time.sleep(_PAUSE)
                running[start(task)] = task, attempt + 1
            else:
                failures.append((task, error))
        if failures:  # what has begun in a thread ends, the rest does not begin
            running = {future: of for future, of in running.items() if not future.cancel()}
    if failures:
        raise _failure(failures)


def _error(future: Future[Receipt]) -> BaseException | None:
    try:
        return future.exception()
    except CancelledError:
        return ClusterError(
            "the connection to the Dask scheduler is lost, or the run was cancelled there; what is "
            "finished is kept, run the same command again once the scheduler is back"
        )


def _failure(failures: Sequence[tuple[Task, BaseException]]) -> BaseException:
    """Return the error to raise for the tasks that failed."""
    task, error = failures[0]
    if isinstance(error, TomodaskError):
        return error
    rest = f" ({len(failures)} tasks failed)" if len(failures) > 1 else ""
    failure = TaskError(
        f"task {task.key} failed{rest}: {type(error).__name__}: {error}; what is finished is kept, "
        "run the same command again once the cause is mended"
    )
    failure.__cause__ = error
    return failure

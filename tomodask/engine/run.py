"""Running tasks: threads by default, a Dask cluster when one is given.

A task is a function with its arguments that writes one region of a product and returns a
:class:`~tomodask.engine.events.Receipt`. It may run twice without harm. No array travels between
tasks.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from threadpoolctl import threadpool_limits

from tomodask.engine.events import Event, Listener, Receipt
from tomodask.engine.memory import available_memory, format_bytes, parse_bytes, workers_that_fit
from tomodask.engine.shards import configure_zarr
from tomodask.errors import MemoryLimitError, ParameterError, TaskError, TomodaskError

if TYPE_CHECKING:
    from distributed import Client

    from tomodask.engine.ledger import Ledger

__all__ = ["Resources", "Stage", "Task", "run_stages"]

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
    """

    key: str
    function: Callable[..., tuple[int, int]]
    arguments: tuple[Any, ...]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Where tasks run and what they may use. Nothing here changes a result.

    Parameters
    ----------
    workers
        Most tasks at once; all cores by default.
    memory_limit
        For all processes of this machine together, e.g. "4GiB"; 60 % of the free memory by
        default. With a scheduler address each worker's own limit holds.
    scheduler
        "threads", "processes" (a cluster on this machine), the address of a Dask scheduler, or a
        ``distributed.Client``.
    """

    workers: int | None = None
    memory_limit: str | float | None = None
    scheduler: str | Client = "threads"

    @property
    def limit(self) -> int:
        """The memory limit in bytes."""
        if self.memory_limit is None:
            return available_memory()
        return parse_bytes(self.memory_limit)

    @property
    def wanted(self) -> int:
        """The most tasks at once."""
        if self.workers is None:
            return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        if self.workers < 1:
            raise ParameterError(f"{self.workers} workers: give a number >= 1")
        return self.workers


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
    TomodaskError
        Of the first task that failed; what was finished is kept.
    """
    tell = listen if listen is not None else _ignore
    processes = resources.scheduler != "threads"
    done = ledger.done()
    todo = [
        replace(stage, tasks=[task for task in stage.tasks if task.key not in done])
        for stage in stages
    ]
    largest = max((stage.task_bytes for stage in todo if stage.tasks), default=0)
    receipts: list[Receipt] = []
    with _executor(resources, largest, step) as submit:
        for stage, rest in zip(stages, todo, strict=True):
            total, before = len(stage.tasks), len(stage.tasks) - len(rest.tasks)
            if not total:
                continue
            at_once = _at_once(resources, rest, processes, step)
            message = f"{at_once} at once, {format_bytes(rest.task_bytes)} each"

            def event(kind: Literal["start", "task", "retry", "end"], **more: Any) -> Event:
                values = {"step": step, "stage": stage.name, "done": before, "total": total}  # noqa: B023
                return Event(kind=kind, **(values | more))

            tell(event("start", message=message))
            for finished in _run_stage(submit, rest.tasks, at_once, event, tell):
                ledger.mark(finished.key)
                receipts.append(finished)
                before += 1
                tell(event("task", done=before, receipt=finished))
            tell(event("end", done=before))
    return receipts


def _ignore(event: Event) -> None:
    pass


def _at_once(resources: Resources, stage: Stage, processes: bool, step: str) -> int:
    if not isinstance(resources.scheduler, str) or "://" in resources.scheduler:
        return len(stage.tasks)  # the cluster's own slots decide
    return workers_that_fit(
        stage.task_bytes,
        resources.limit,
        wanted=resources.wanted,
        processes=processes,
        what=f"{step}: {stage.name}",
    )


Submit = Callable[[Task], Future[Receipt]]


@contextmanager
def _executor(resources: Resources, task_bytes: int, step: str) -> Iterator[Submit]:
    """Give a function that starts a task and returns its future."""
    scheduler = resources.scheduler
    if scheduler == "threads":
        pool = ThreadPoolExecutor(resources.wanted, thread_name_prefix="tomodask")
        try:
            with threadpool_limits(1):
                yield lambda task: pool.submit(execute, task)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        return
    from distributed import Client, LocalCluster

    if not isinstance(scheduler, str):
        _check_workers(scheduler, task_bytes, step)
        yield _cluster_submit(scheduler)
    elif "://" in scheduler:
        with Client(scheduler, timeout="30s", set_as_default=False) as client:
            _check_workers(client, task_bytes, step)
            yield _cluster_submit(client)
    elif scheduler == "processes":
        count = workers_that_fit(
            task_bytes, resources.limit, wanted=resources.wanted, processes=True, what=step
        )
        with (
            LocalCluster(
                n_workers=count,
                threads_per_worker=1,
                memory_limit=0,
                dashboard_address=None,
                host="127.0.0.1",
            ) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            yield _cluster_submit(client)
    else:
        raise ParameterError(
            f"scheduler {scheduler!r}: give 'threads', 'processes', an address such as "
            "tcp://host:8786, or a distributed.Client"
        )


def _check_workers(client: Client, task_bytes: int, step: str) -> None:
    """Refuse tasks that no worker of a running cluster can hold."""
    workers = client.scheduler_info(n_workers=-1)["workers"]
    if not workers:
        client.wait_for_workers(1, timeout=60)
        workers = client.scheduler_info(n_workers=-1)["workers"]
    for name, worker in workers.items():
        limit = worker["memory_limit"]
        needed = task_bytes * worker["nthreads"]
        if limit and needed > limit:
            raise MemoryLimitError(
                f"{step} needs {format_bytes(needed)} on worker {name} ({worker['nthreads']} "
                f"threads of {format_bytes(task_bytes)}), its limit is {format_bytes(limit)}; start "
                "workers with more memory or fewer threads"
            )


def _cluster_submit(client: Client) -> Submit:
    def submit(task: Task) -> Future[Receipt]:
        # pure=False: the ledger, not a hash of the arguments, says what is finished.
        future: Future[Receipt] = client.submit(
            execute, task, key=f"{task.key}-{os.urandom(6).hex()}", pure=False, retries=_RETRIES
        )
        return future

    return submit


def execute(task: Task) -> Receipt:
    """Run one task in the calling thread."""
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
    submit: Submit,
    tasks: Sequence[Task],
    at_once: int,
    event: Callable[..., Event],
    tell: Listener,
) -> Iterator[Receipt]:
    """Yield receipts as tasks finish, with at most `at_once` under way."""
    waiting = list(reversed(tasks))
    running: dict[Any, tuple[Task, int]] = {}
    failures: list[tuple[Task, BaseException]] = []

    def start(task: Task, attempt: int) -> None:
        running[submit(task)] = (task, attempt)

    while waiting or running:
        while waiting and len(running) < at_once and not failures:
            start(waiting.pop(), 0)
        if not running:
            break
        for future in _first_done(running):
            task, attempt = running.pop(future)
            error = future.exception()
            if error is None:
                yield future.result()
            elif isinstance(error, OSError) and error.errno in _PASSING and attempt < _RETRIES:
                tell(event("retry", message=f"{task.key}: {error}"))
                time.sleep(_PAUSE)
                start(task, attempt + 1)
            else:
                failures.append((task, error))
    if failures:
        task, error = failures[0]
        rest = f" ({len(failures)} tasks failed)" if len(failures) > 1 else ""
        if isinstance(error, TomodaskError):
            raise error
        raise TaskError(
            f"task {task.key} failed{rest}: {type(error).__name__}: {error}; what is finished is "
            "kept, run the same command again once the cause is mended"
        ) from error


def _first_done(running: dict[Any, tuple[Task, int]]) -> list[Any]:
    first = next(iter(running))
    if isinstance(first, Future):
        return list(wait(running, return_when=FIRST_COMPLETED).done)
    from distributed import wait as wait_cluster

    return list(wait_cluster(list(running), return_when="FIRST_COMPLETED").done)

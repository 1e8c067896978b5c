"""Where tasks run: threads of this process, processes of this machine, or a Dask cluster."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any

from tomodask.engine.memory import (
    available_memory,
    format_bytes,
    parse_bytes,
    worker_bytes,
    workers_that_fit,
)
from tomodask.engine.threads import single_threaded
from tomodask.errors import ClusterError, MemoryLimitError, ParameterError

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Resources", "Submit", "workers"]

#: Starts a function under a name, and gives the future of what it returns.
Submit = Callable[..., Future[Any]]


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

    Raises
    ------
    ParameterError
        If a value makes no sense.
    """

    workers: int | None = None
    memory_limit: str | float | None = None
    scheduler: str | Client = "threads"

    def __post_init__(self) -> None:
        if self.workers is not None and not (isinstance(self.workers, int) and self.workers >= 1):
            raise ParameterError(f"{self.workers!r} workers: give a whole number >= 1")
        if self.memory_limit is not None:
            parse_bytes(self.memory_limit)
        if isinstance(self.scheduler, str) and not (
            self.scheduler in ("threads", "processes") or "://" in self.scheduler
        ):
            raise ParameterError(
                f"scheduler {self.scheduler!r}: give 'threads', 'processes', an address such as "
                "tcp://host:8786, or a distributed.Client"
            )
        if self.scheduler == "processes" and "__mp_main__" in sys.modules and _is_child():
            raise ClusterError(_GUARD)

    @property
    def limit(self) -> int:
        """The memory limit in bytes."""
        if self.memory_limit is None:
            return available_memory()
        return parse_bytes(self.memory_limit)

    @property
    def wanted(self) -> int:
        """The most tasks at once."""
        if self.workers is not None:
            return self.workers
        if hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1

    def at_once(self, task_bytes: int, what: str) -> int | None:
        """Return how many tasks run at once, None where the slots of a cluster decide.

        Raises
        ------
        MemoryLimitError
            If not even one task fits the limit.
        """
        if self.scheduler not in ("threads", "processes"):
            return None
        return workers_that_fit(
            task_bytes,
            self.limit,
            wanted=self.wanted,
            processes=self.scheduler == "processes",
            what=what,
        )


@contextmanager
def workers(resources: Resources, task_bytes: int, step: str) -> Iterator[Submit]:
    """Give ``submit(name, function, *arguments)``, which returns a future.

    Parameters
    ----------
    resources
        Where to run.
    task_bytes
        Arrays of the largest task.
    step
        Name of the run, for errors.

    Raises
    ------
    ClusterError
        If a cluster cannot be reached or does not start.
    MemoryLimitError
        If a task does not fit the memory.
    """
    if resources.scheduler == "threads":
        pool = ThreadPoolExecutor(resources.wanted, thread_name_prefix="tomodask")
        try:
            with single_threaded():
                yield lambda name, *call: pool.submit(*call)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        return
    with ExitStack() as stack:
        stack.callback(logging.disable, logging.root.manager.disable)
        client = _client(resources, task_bytes, step, stack)
        if resources.scheduler != "processes":
            _check_memory(client, task_bytes, step)
        # The ledger, not a hash of the arguments, says what is finished; run_stages tries again.
        executor = client.get_executor(pure=False, retries=0)
        try:
            yield lambda name, *call: executor.submit(*call, key=f"{name}-{os.urandom(6).hex()}")
        except BaseException:
            # What Dask says of a cluster that is closed under its tasks would hide the reason.
            logging.disable(logging.CRITICAL)
            raise


def _client(resources: Resources, task_bytes: int, step: str, stack: ExitStack) -> Client:
    """Return the client of the cluster asked for; `stack` closes what is opened for it."""
    from distributed import Client, LocalCluster

    scheduler = resources.scheduler
    if not isinstance(scheduler, str):
        return scheduler
    client: Client
    if scheduler != "processes":
        try:
            _probe(scheduler)
            client = stack.enter_context(Client(scheduler, set_as_default=False))
        except (OSError, ValueError) as error:
            raise ClusterError(
                f"no Dask scheduler answers at {scheduler}: {error}; check the address, and that "
                "the scheduler runs"
            ) from error
        return client
    count = resources.at_once(task_bytes, step)
    try:
        with _interrupts_held():
            cluster = stack.enter_context(
                LocalCluster(
                    n_workers=count,
                    threads_per_worker=1,
                    memory_limit=0,
                    dashboard_address=None,
                    host="127.0.0.1",
                    # Any port for what it serves all the same: several runs share a machine.
                    scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
                )
            )
    except RuntimeError as error:
        raise ClusterError(f"the worker processes did not start ({error}). {_GUARD}") from error
    client = stack.enter_context(Client(cluster, set_as_default=False))
    return client


def _probe(address: str) -> None:
    """Raise OSError or ValueError unless something listens at an address.

    A Client that cannot connect would leave its thread behind.
    """
    from distributed.comm.core import connect
    from distributed.security import Security

    async def greet() -> None:
        comm = await connect(address, **Security().get_connection_args("client"))
        await comm.close()

    # In a thread of its own: a notebook's has an event loop that runs.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, greet()).result()


_GUARD = (
    "A script that gives scheduler='processes' is run again by every worker process, so that its "
    "calls must stand under  if __name__ == '__main__'"
)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Start threads and processes that leave Ctrl-C to this thread.

    A terminal sends it to the worker processes too; they end when the cluster is closed. What is
    started here inherits the mask, and so does what it starts later.
    """
    resource_tracker.ensure_running()  # which would undo the mask, were it started in between
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _is_child() -> bool:
    """Whether this process was started by multiprocessing and is still reading the script."""
    return bool(getattr(multiprocessing.current_process(), "_inheriting", False))


def _check_memory(client: Client, task_bytes: int, step: str) -> None:
    """Refuse tasks that a worker of a running cluster cannot hold."""
    for name, worker in client.scheduler_info(n_workers=-1)["workers"].items():
        limit = worker["memory_limit"]
        needed = worker_bytes(task_bytes, worker["nthreads"])
        if limit and needed > limit:
            raise MemoryLimitError(
                f"{step} needs {format_bytes(needed)} on worker {name} ({worker['nthreads']} "
                f"threads of {format_bytes(task_bytes)}), its limit is {format_bytes(limit)}; "
                "start workers with more memory or fewer threads"
            )

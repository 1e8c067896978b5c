"""Measuring many things: one task each, small results, resumable like any product."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from tomodask.engine.files import write_whole
from tomodask.engine.ledger import Ledger
from tomodask.engine.run import Stage, Task, run_stages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from tomodask.engine.events import Listener
    from tomodask.engine.workers import Resources

__all__ = ["measured"]


@contextmanager
def measured(
    step: str,
    folder: Path,
    identity: Mapping[str, Any],
    function: Callable[..., Any],
    arguments: Sequence[tuple[Any, ...]],
    *,
    stage: str,
    task_bytes: int,
    resources: Resources,
    listen: Listener | None = None,
) -> Iterator[list[Any]]:
    """Give the results of a function for many arguments; what a killed run had is kept.

    Parameters
    ----------
    step, stage
        Names of the run and of what it does, for events and errors.
    folder
        Where results are kept until they are used: when the context ends without an error, the
        folder is removed.
    identity
        What determines the results; results kept by a run with another identity are dropped.
    function
        Called with each of `arguments`; returns what JSON can hold.
    arguments
        Small and picklable.
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
    LockedError
        If another run is at it.
    """
    with Ledger(folder) as ledger:
        if not ledger.matches(identity):
            ledger.clear()
        ledger.begin(identity)
        files = [ledger.records / f"{number}.json" for number in range(len(arguments))]
        tasks = [
            Task(str(number), _measure, (function, values, file), file)
            for number, (values, file) in enumerate(zip(arguments, files, strict=True))
        ]
        run_stages(step, [Stage(stage, tasks, task_bytes)], ledger, resources, listen)
        yield [json.loads(file.read_text()) for file in files]
        # With the lock still held: a run that begins now must not lose its folder.
        shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # another command's results may still be there
        folder.parent.rmdir()


def _measure(
    function: Callable[..., Any], arguments: tuple[Any, ...], file: Path
) -> tuple[int, int]:
    text = json.dumps(function(*arguments))
    with write_whole(file) as temporary:
        temporary.write_text(text)
    return 0, len(text)

"""What a run tells while it runs: one kind of value for the terminal, notebooks and logs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

__all__ = ["Event", "Listener", "Receipt"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a finished task reports: a few bytes, never an array.

    Parameters
    ----------
    key
        The task's key in the ledger.
    bytes_read, bytes_written
        Bytes through the file system.
    cpu_seconds
        CPU time of the thread that ran it.
    """

    key: str
    bytes_read: int = 0
    bytes_written: int = 0
    cpu_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One step of a run.

    Parameters
    ----------
    kind
        "start" of a stage (`done` counts what an earlier run finished), "task" finished, "retry"
        after a passing fault, "end" of a stage.
    step
        Name of the run, e.g. "reconstruct wbp".
    stage
        Name of the stage, e.g. "align views".
    done, total
        Tasks of the stage.
    message
        For people: the fault behind a retry, the plan of a start.
    receipt
        Of the task that finished.
    """

    kind: Literal["start", "task", "retry", "end"]
    step: str
    stage: str
    done: int
    total: int
    message: str = ""
    receipt: Receipt | None = None


Listener = Callable[[Event], None]

"""Run the command line in a process in which something goes wrong: ``driver.py FAULT ARGS...``.

``mark:N``
    Killed when the ledger is to mark the N-th task of this run.
``chunk:N``
    Killed when the N-th chunk of a shard is to be written.
``begin``
    Killed between the creation of the product and the record of its plan.
``unlink:N``
    Killed at the N-th removal while an old product is cleared.
``finish``
    Killed between COMPLETE and the removal of the scratch.
``slow:SECONDS``
    Each mark takes so long.
``limit:BYTES``
    No file may grow beyond this size.
``none``
    Nothing goes wrong.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

from tomodask.engine.ledger import Ledger
from tomodask.engine.shards import ShardWriter


def killed_at(owner: Any, name: str, count: int) -> None:
    """Let the process be killed at the `count`-th call of a method."""
    original, calls = getattr(owner, name), 0

    def call(*arguments: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **more)

    setattr(owner, name, call)


def main(fault: str, arguments: list[str]) -> int:
    kind, _, number = fault.partition(":")
    if kind == "mark":
        killed_at(Ledger, "mark", int(number))
    elif kind == "chunk":
        killed_at(ShardWriter, "write", int(number))
    elif kind == "begin":
        killed_at(Ledger, "begin", 1)
    elif kind == "finish":
        killed_at(shutil, "rmtree", 1)
    elif kind == "unlink":
        clear = Ledger.clear

        def clearing(ledger: Ledger) -> None:
            killed_at(Path, "unlink", int(number))
            clear(ledger)

        Ledger.clear = clearing  # type: ignore[method-assign]
    elif kind == "slow":
        mark = Ledger.mark

        def slow(ledger: Ledger, key: str) -> None:
            time.sleep(float(number))
            mark(ledger, key)

        Ledger.mark = slow  # type: ignore[method-assign]
    elif kind == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(number), int(number)))
    from tomodask.cli import main as run

    return run(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))

"""What a run costs whatever its size: starting, compiling, and each task."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.inputs import noise_series, temporary_folder
from benchmarks.measure import Cost, best_of, cost_of
from benchmarks.report import run, table
from tomodask.engine.ledger import Ledger
from tomodask.engine.run import Stage, Task, run_stages
from tomodask.engine.workers import Resources

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Size", "compiling", "per_task", "starting"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Tasks on threads and on a cluster, and how often each command starts."""

    tasks: int = 2000
    cluster_tasks: int = 500
    repeats: int = 5


SIZES = {
    "full": Size(),
    "small": Size(tasks=500, cluster_tasks=100, repeats=2),
    "tiny": Size(tasks=20, cluster_tasks=0, repeats=1),
}

_COMMANDS = {
    "python alone": ["-c", "pass"],
    "import tomodask": ["-c", "import tomodask"],
    "tomodask --help": ["-m", "tomodask", "--help"],
    "tomodask reconstruct --help": ["-m", "tomodask", "reconstruct", "--help"],
}


def starting(size: Size) -> dict[str, Cost]:
    """Return what it costs to start Python, and the commands that do nothing else."""
    return {
        name: best_of(size.repeats, partial(_python, arguments))
        for name, arguments in _COMMANDS.items()
    }


def compiling(folder: Path) -> tuple[Cost, Cost]:
    """Return the costs of the first reconstruction of all, which compiles, and of the next.

    The tomogram is small, so that the second is what it takes to load the code.
    """
    store = noise_series(folder, (5, 64, 64), tilt_axis=0.0)
    environment = os.environ | {"NUMBA_CACHE_DIR": str(folder / "cache")}
    options = ["--thickness", "16", "--alignment", "none", "--quiet", "--name"]
    first, second = (
        cost_of(
            partial(
                _python, ["-m", "tomodask", "reconstruct", str(store), *options, name], environment
            )
        )
        for name in ("first", "second")
    )
    return first, second


def per_task(tasks: int, folder: Path, scheduler: str = "threads") -> Cost:
    """Return what the engine costs for one task that does nothing, marked in the ledger.

    The slope between a run of `tasks` and of a tenth of them: what a run costs once drops out.
    """
    few = tasks // 10
    less, more = (
        cost_of(partial(_empty_tasks, count, folder / f"{scheduler}-{count}", scheduler))
        for count in (few, tasks)
    )
    return Cost(
        (more.cpu - less.cpu) / (tasks - few),
        (more.wall - less.wall) / (tasks - few),
    )


def _empty_tasks(count: int, folder: Path, scheduler: str) -> None:
    folder.mkdir()
    with Ledger(folder) as ledger:
        ledger.begin({"tasks": count})
        stage = Stage("nothing", [Task(f"task/{i}", _nothing, ()) for i in range(count)], 1)
        resources = Resources(workers=1, scheduler=scheduler)
        run_stages("overhead", [stage], ledger, resources)
        ledger.finish(task.key for task in stage.tasks)


def _nothing() -> tuple[int, int]:
    return 0, 0


def _python(arguments: list[str], environment: dict[str, str] | None = None) -> None:
    subprocess.run(
        [sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, env=environment
    )


def report(size: Size, folder: Path | None = None) -> str:
    """Return the tables."""
    with temporary_folder(10**8, folder) as place:
        first, second = compiling(place)
        tasks = [("threads", per_task(size.tasks, place))]
        if size.cluster_tasks:
            tasks.append(("processes", per_task(size.cluster_tasks, place, "processes")))
    lines = starting(size) | {
        "small reconstruction, nothing compiled yet": first,
        "the same, compiled": second,
    }
    rows = [(name, f"{cost.cpu:.2f}", f"{cost.wall:.2f}") for name, cost in lines.items()]
    per = [(name, f"{1e3 * cost.cpu:.2f}", f"{1e3 * cost.wall:.2f}") for name, cost in tasks]
    title = f"Starting, best of {size.repeats} (reconstructions: once)"
    return table(title, ("command", "CPU s", "wall s"), rows) + table(
        f"An empty task ({size.tasks} on threads, {size.cluster_tasks} on processes)",
        ("scheduler", "CPU ms", "wall ms"),
        per,
    )


if __name__ == "__main__":
    run(__doc__, SIZES, report)

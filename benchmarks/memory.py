"""Memory, disk traffic and time of a tomogram larger than the memory it is given.

The command line runs in a process of its own, which is watched from outside together with its
children.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

import tomodask as td
from benchmarks.inputs import noise_series, temporary_folder
from benchmarks.measure import Cost, best_of, cost_of
from benchmarks.report import run, table
from tomodask.engine.memory import PROCESS_BYTES, format_bytes, parse_bytes, worker_bytes
from tomodask.engine.workers import Resources
from tomodask.graph.reconstruct import plan_of

__all__ = ["Observed", "Size", "observe", "planned_bytes", "reconstruct"]

#: Seconds between looks at the processes.
_INTERVAL = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Views, edge of the square images, thickness, and the memory given."""

    views: int = 41
    edge: int = 4096
    heights: int = 400
    memory_limit: str = "4GiB"
    tilt_axis: float = -85.0

    @property
    def images_bytes(self) -> int:
        return 4 * self.views * self.edge**2

    @property
    def tomogram_bytes(self) -> int:
        """All levels: an eighth of the finest, and an eighth of that, and so on."""
        return 4 * self.edge**2 * self.heights * 8 // 7


SIZES = {
    "full": Size(),
    "small": Size(edge=1024, heights=200, memory_limit="1GiB"),
    "tiny": Size(views=5, edge=128, heights=16, memory_limit="1GiB"),
}


@dataclass(slots=True)
class Observed:
    """What a command and its children took.

    ``sampled`` is the largest sum of resident memory seen at once, ``high_water`` the sum of what
    the kernel recorded as each process's largest, which no sampling misses.
    """

    sampled: int = 0
    marks: dict[int, int] = field(default_factory=dict)
    traffic: dict[int, tuple[int, int]] = field(default_factory=dict)

    @property
    def high_water(self) -> int:
        return sum(self.marks.values())

    @property
    def bytes_read(self) -> int:
        return sum(read for read, _ in self.traffic.values())

    @property
    def bytes_written(self) -> int:
        return sum(written for _, written in self.traffic.values())

    def look(self, process: psutil.Process) -> None:
        """Take a sample."""
        total = 0
        for one in (process, *process.children(recursive=True)):
            try:
                counters = one.io_counters()
                total += one.memory_info().rss
                self.marks[one.pid] = _high_water(one.pid)
                self.traffic[one.pid] = (counters.read_chars, counters.write_chars)
            except (psutil.Error, OSError, LookupError):
                continue  # it has just ended; the last sample stands
        self.sampled = max(self.sampled, total)


def observe(command: list[str]) -> tuple[Observed, Cost]:
    """Run a command and watch it.

    Raises
    ------
    subprocess.CalledProcessError
        If it fails.
    """
    observed = Observed()

    def once() -> None:
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as running:
            process = psutil.Process(running.pid)
            while running.poll() is None:
                try:
                    observed.look(process)
                except psutil.NoSuchProcess:
                    break
                time.sleep(_INTERVAL)
        if running.returncode:
            raise subprocess.CalledProcessError(running.returncode, command)

    return observed, cost_of(once)


def reconstruct(size: Size, store: Path) -> tuple[Observed, Cost]:
    """Run ``tomodask reconstruct`` on a series and watch it; the tomogram stays."""
    return observe(
        [
            *(sys.executable, "-m", "tomodask", "reconstruct", str(store), "--quiet"),
            *("--thickness", str(size.heights), "--alignment", "none"),
            *("--memory-limit", size.memory_limit),
        ]
    )


def planned_bytes(size: Size, store: Path) -> tuple[int, int]:
    """Return the memory that the planner foresees, and the bytes of the scratch."""
    volume = td.reconstruct(td.open(store), thickness=size.heights, alignment="none")
    plan = plan_of(volume)
    if plan is None:
        raise LookupError(f"no plan behind the reconstruction of {store}")
    resources = Resources(memory_limit=size.memory_limit)
    tasks = [*(stage.task_bytes for stage in plan.prepare(store)), volume.attrs["task_bytes"]]
    each = [
        (resources.at_once(needed, "benchmark") or 0) * (worker_bytes(needed, 1) - PROCESS_BYTES)
        for needed in tasks
    ]
    return PROCESS_BYTES + max(each), plan.scratch_bytes


def building(size: Size, store: Path, repeats: int = 3) -> Cost:
    """Return what it costs to open the series and build the lazy volume."""
    return best_of(
        repeats,
        lambda: td.reconstruct(td.open(store), thickness=size.heights, alignment="none"),
    )


def _high_water(pid: int) -> int:
    """Return the largest resident memory that a process has had, bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    raise LookupError(f"process {pid} has ended")


def report(size: Size, folder: Path | None = None) -> str:
    """Return the tables."""
    # The stack while it is imported, the series, the scratch, the tomogram, and a tenth to spare.
    needed = int(1.1 * (3 * size.images_bytes + size.tomogram_bytes))
    with temporary_folder(needed, folder) as place:
        store = noise_series(place, (size.views, size.edge, size.edge), tilt_axis=size.tilt_axis)
        lazily = building(size, store)
        planned, scratch = planned_bytes(size, store)
        observed, cost = reconstruct(size, store)
        images = _stored(store / "tilt_series")
        tomogram = _stored(store / "tomograms")
        shutil.rmtree(store)
    updates = size.views * size.edge**2 * size.heights
    limit = parse_bytes(size.memory_limit)
    read, written = images + scratch, scratch + tomogram
    rows: list[tuple[str, str]] = [
        ("memory limit", format_bytes(limit)),
        ("planned", format_bytes(planned)),
        ("peak, sum of all processes, 20 samples/s", format_bytes(observed.sampled)),
        ("peak, as recorded by the kernel", format_bytes(observed.high_water)),
        ("input / scratch / output", " / ".join(map(format_bytes, (images, scratch, tomogram)))),
        ("read", f"{format_bytes(observed.bytes_read)}, {observed.bytes_read / read:.2f} x input "
         "and scratch"),
        ("written", f"{format_bytes(observed.bytes_written)}, "
         f"{observed.bytes_written / written:.2f} x scratch and output"),
        ("wall s", f"{cost.wall:.0f}"),
        ("CPU s", f"{cost.cpu:.0f}"),
        ("G updates/CPU s", f"{cost.rate(updates):.2f}"),
        ("building the lazy volume, CPU s", f"{lazily.cpu:.3f}"),
    ]  # fmt: skip
    title = (
        f"{size.views} views of {size.edge} x {size.edge} to {size.heights} thick, tilt axis "
        f"{size.tilt_axis:g}, all levels, default workers, one run"
    )
    return table(title, ("quantity", "value"), rows)


def _stored(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    run(__doc__, SIZES, report)

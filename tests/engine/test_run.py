from __future__ import annotations

import errno
import os
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tomodask.engine import run as module
from tomodask.engine.ledger import Ledger
from tomodask.engine.run import Stage, Task, run_stages
from tomodask.engine.workers import Resources
from tomodask.errors import DataError, MemoryLimitError, ParameterError, StoreError, TaskError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from distributed import LocalCluster

    from tomodask.engine.events import Event


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "product") as found:
        found.begin({"a": 1})
        yield found


@pytest.fixture(params=["threads", "address", "client"])
def resources(request: pytest.FixtureRequest) -> Iterator[Resources]:
    if request.param == "threads":
        yield Resources(workers=2)
        return
    cluster: LocalCluster = request.getfixturevalue("cluster")
    if request.param == "address":
        yield Resources(scheduler=cluster.scheduler_address)
        return
    from distributed import Client

    with Client(cluster, set_as_default=False) as client:
        yield Resources(scheduler=client)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE", 0.0)


def touch(path: Path) -> tuple[int, int]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        stream.write("x")
    return 3, 5


def faulty(path: Path, times: int, number: int) -> tuple[int, int]:
    """Fail so many times, then work."""
    touch(path)
    if path.stat().st_size <= times:
        raise OSError(number, os.strerror(number))
    return 0, 0


def wrong(error: Exception) -> tuple[int, int]:
    raise error


def touched(tmp_path: Path) -> dict[str, int]:
    """How many times each file was touched."""
    return {path.name: path.stat().st_size for path in sorted((tmp_path / "out").glob("*"))}


def stages_of(tmp_path: Path, *sizes: int) -> list[Stage]:
    return [
        Stage(
            f"stage {number}",
            [Task(f"{number}/{i}", touch, (tmp_path / "out" / f"{number}_{i}",)) for i in range(n)],
            1000,
        )
        for number, n in enumerate(sizes)
    ]


def told(events: list[Event]) -> list[tuple[str, str, int, int]]:
    return [(event.kind, event.stage, event.done, event.total) for event in events]


def test_events_in_order(ledger: Ledger, tmp_path: Path, resources: Resources) -> None:
    events: list[Event] = []
    receipts = run_stages("it", stages_of(tmp_path, 3, 2), ledger, resources, events.append)
    assert told(events) == [
        ("start", "stage 0", 0, 3),
        ("task", "stage 0", 1, 3), ("task", "stage 0", 2, 3), ("task", "stage 0", 3, 3),
        ("end", "stage 0", 3, 3),
        ("start", "stage 1", 0, 2),
        ("task", "stage 1", 1, 2), ("task", "stage 1", 2, 2),
        ("end", "stage 1", 2, 2),
    ]  # fmt: skip
    assert {event.step for event in events} == {"it"}
    assert [event.receipt for event in events if event.kind == "task"] == receipts
    assert {receipt.key for receipt in receipts} == ledger.done()
    assert {(receipt.bytes_read, receipt.bytes_written) for receipt in receipts} == {(3, 5)}
    assert "1000 B each" in events[0].message


def test_resumed_run_tells_what_was_done(ledger: Ledger, tmp_path: Path) -> None:
    for key in ("0/0", "0/1", "0/2", "1/1", "1/3"):
        ledger.mark(key)
    events: list[Event] = []
    run_stages("it", stages_of(tmp_path, 3, 4), ledger, Resources(workers=1), events.append)
    assert told(events) == [
        ("start", "stage 0", 3, 3), ("end", "stage 0", 3, 3),
        ("start", "stage 1", 2, 4),
        ("task", "stage 1", 3, 4), ("task", "stage 1", 4, 4),
        ("end", "stage 1", 4, 4),
    ]  # fmt: skip
    assert touched(tmp_path) == {"1_0": 1, "1_2": 1}


def test_task_whose_scratch_is_gone_runs_again(ledger: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "out" / "a"
    stage = Stage("s", [Task("a", touch, (path,), path)], 1)
    for expected in (1, 1):
        run_stages("it", [stage], ledger, Resources())
        assert touched(tmp_path) == {"a": expected}
    path.unlink()
    events: list[Event] = []
    run_stages("it", [stage], ledger, Resources(), events.append)
    assert touched(tmp_path) == {"a": 1}
    assert told(events)[0] == ("start", "s", 0, 1)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_passing_fault_is_tried_again(
    ledger: Ledger, tmp_path: Path, resources: Resources, number: int
) -> None:
    stage = Stage("s", [Task("view/7", faulty, (tmp_path / "out" / "a", 2, number))], 1)
    events: list[Event] = []
    run_stages("it", [stage], ledger, resources, events.append)
    retries = [event for event in events if event.kind == "retry"]
    assert len(retries) == 2
    assert all(os.strerror(number) in e.message and "view/7" in e.message for e in retries)
    assert [event.done for event in events] == [0, 0, 0, 1, 1]
    assert touched(tmp_path) == {"a": 3}
    assert ledger.done() == {"view/7"}


def test_fault_that_stays(ledger: Ledger, tmp_path: Path, resources: Resources) -> None:
    stage = Stage("s", [Task("view/7", faulty, (tmp_path / "out" / "a", 9, errno.EIO))], 1)
    with pytest.raises(TaskError, match=r"task view/7 failed: OSError: .*what is finished is kept"):
        run_stages("it", [stage], ledger, resources)
    assert touched(tmp_path) == {"a": 3}


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENOSPC])
def test_fault_that_cannot_pass_is_not_tried_again(
    ledger: Ledger, tmp_path: Path, resources: Resources, number: int
) -> None:
    stage = Stage("s", [Task("view/7", faulty, (tmp_path / "out" / "a", 9, number))], 1)
    with pytest.raises(TaskError, match="view/7"):
        run_stages("it", [stage], ledger, resources)
    assert touched(tmp_path) == {"a": 1}


def test_failure_names_the_task_and_keeps_the_rest(
    ledger: Ledger, tmp_path: Path, resources: Resources
) -> None:
    good = [Task(f"a/{i}", touch, (tmp_path / "out" / str(i),)) for i in range(4)]
    bad = Task("b/0", wrong, (ZeroDivisionError("by nothing"),))
    unborn = [Task(f"c/{i}", touch, (tmp_path / "out" / f"c{i}",)) for i in range(50)]
    stages = [Stage("first", good, 1), Stage("second", [bad], 1), Stage("third", unborn, 1)]
    with pytest.raises(TaskError) as caught:
        run_stages("it", stages, ledger, resources)
    assert "task b/0 failed: ZeroDivisionError: by nothing; what is finished is kept" in str(
        caught.value
    )
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert ledger.done() == {f"a/{i}" for i in range(4)}
    assert set(touched(tmp_path)) == {str(i) for i in range(4)}


def touch_slowly(path: Path) -> tuple[int, int]:
    time.sleep(0.02)
    return touch(path)


def test_failure_stops_what_has_not_begun(
    ledger: Ledger, tmp_path: Path, resources: Resources
) -> None:
    tasks = [Task("bad", wrong, (ValueError("no"),))]
    tasks += [Task(f"c/{i}", touch_slowly, (tmp_path / "out" / f"c{i}",)) for i in range(200)]
    with pytest.raises(TaskError, match="bad"):
        run_stages("it", [Stage("s", tasks, 1)], ledger, resources)
    time.sleep(0.2)  # a cluster may still be at work on what it had begun
    assert len(touched(tmp_path)) < 100
    assert ledger.done() <= {f"c/{name[1:]}" for name in touched(tmp_path)}


def test_error_with_a_remedy_passes_as_it_is(
    ledger: Ledger, tmp_path: Path, resources: Resources
) -> None:
    error = DataError("section 3 of s.st holds NaN; exclude it")
    with pytest.raises(DataError, match=r"section 3 of s\.st holds NaN"):
        run_stages("it", [Stage("s", [Task("a", wrong, (error,))], 1)], ledger, resources)


def test_at_most_so_many_at_once(ledger: Ledger) -> None:
    lock, now, most = threading.Lock(), 0, 0

    def busy() -> tuple[int, int]:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.005)
        with lock:
            now -= 1
        return 0, 0

    stage = Stage("s", [Task(str(i), busy, ()) for i in range(30)], 1)
    events: list[Event] = []
    run_stages("it", [stage], ledger, Resources(workers=3), events.append)
    assert most == 3
    assert events[0].message == "3 at once, 1 B each"


def test_memory_is_checked_before_anything_starts(ledger: Ledger, tmp_path: Path) -> None:
    """Also that of the last stage, which may begin hours later."""
    first, last = stages_of(tmp_path, 2, 2)
    stages = [first, Stage("large", last.tasks, 2**50)]
    with pytest.raises(MemoryLimitError, match=r"it: large needs 1177\.\d TiB"):
        run_stages("it", stages, ledger, Resources(workers=1, memory_limit="8GiB"))
    assert not (tmp_path / "out").exists()
    # What is finished needs no memory.
    for task in last.tasks:
        ledger.mark(task.key)
    run_stages("it", stages, ledger, Resources(workers=1, memory_limit="8GiB"))


def test_folder_that_a_worker_does_not_see(
    ledger: Ledger, tmp_path: Path, resources: Resources
) -> None:
    """As on a cluster without a common file system: nothing must be written elsewhere."""
    hidden = Ledger(tmp_path / "hidden")
    stages = stages_of(tmp_path, 2)
    with pytest.raises(StoreError, match=r"hidden.*is not there for a worker.*same files"):
        run_stages("it", stages, hidden, resources)
    assert not (tmp_path / "out").exists()


def test_interrupt_keeps_what_is_finished(
    ledger: Ledger, tmp_path: Path, resources: Resources
) -> None:
    def listen(event: Event) -> None:
        if event.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_stages("it", stages_of(tmp_path, 40), ledger, resources, listen)
    assert len(ledger.done()) == 3
    events: list[Event] = []
    run_stages("it", stages_of(tmp_path, 40), ledger, resources, events.append)
    assert told(events)[0] == ("start", "stage 0", 3, 40)
    assert len(events) == 37 + 2
    assert len(ledger.done()) == 40


@pytest.mark.parametrize(
    "values",
    [
        {"workers": 0}, {"workers": -1}, {"workers": 1.5}, {"memory_limit": "much"},
        {"memory_limit": 0}, {"scheduler": "bogus"}, {"scheduler": "localhost:8786"},
    ],
)  # fmt: skip
def test_resources_that_make_no_sense(values: dict[str, object]) -> None:
    with pytest.raises(ParameterError, match="give"):
        Resources(**values)  # type: ignore[arg-type]

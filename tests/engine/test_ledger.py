from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from tomodask.engine import ledger as module
from tomodask.engine.files import partial_path
from tomodask.engine.ledger import Ledger, plan_difference
from tomodask.errors import IncompleteError, LockedError, PlanMismatchError, StoreError


def product(tmp_path: Path) -> Ledger:
    """A product whose array lies two folders below it, as a tomogram's does."""
    return Ledger(tmp_path / "full" / "0" / "tomogram", tmp_path / "full")


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def lock_of(ledger: Ledger, **holder: object) -> Path:
    ledger.folder.mkdir(parents=True, exist_ok=True)
    path = ledger.folder / "lock"
    path.write_text(json.dumps(holder) if holder else "")
    return path


def test_life_of_a_product(tmp_path: Path) -> None:
    with product(tmp_path) as ledger:
        assert ledger.plan() is None
        ledger.begin({"a": 1, "b": (1, 2)})
        assert ledger.plan() == {"a": 1, "b": [1, 2]}
        assert ledger.matches({"a": 1, "b": (1, 2)})
        for key in ("view/1", "slab/0"):
            ledger.mark(key)
            ledger.mark(key)  # a task may run twice
        assert ledger.done() == {"view/1", "slab/0"}
        ledger.scratch.mkdir()
        (ledger.scratch / "x").touch()
        with pytest.raises(IncompleteError, match=r"1 parts are missing \(slab/1\).*again"):
            ledger.finish(["slab/0", "slab/1"])
        assert not ledger.complete
        ledger.mark("slab/1")
        left = partial_path(ledger.product / "1")  # by a worker that was killed
        left.touch()
        ledger.finish(["slab/0", "slab/1"])
        assert ledger.complete
        assert not left.exists()
        assert not ledger.scratch.exists()
    assert not (ledger.folder / "lock").exists()


def test_other_plan_is_refused_with_the_difference(tmp_path: Path) -> None:
    with product(tmp_path) as ledger:
        ledger.begin({"thickness": 40, "filter": {"kind": "ramp", "cutoff": 0.35}})
        ledger.begin({"thickness": 40, "filter": {"kind": "ramp", "cutoff": 0.35}})
        with pytest.raises(PlanMismatchError) as caught:
            ledger.begin({"thickness": 41, "filter": {"kind": "ramp", "cutoff": 0.4}, "new": 1})
    lines = str(caught.value).splitlines()
    assert lines[1:-1] == [
        "  filter.cutoff: 0.35 before, 0.4 now",
        "  new: None before, 1 now",
        "  thickness: 40 before, 41 now",
    ]
    assert "overwrite" in lines[-1]
    assert plan_difference({"a": {"b": 1}}, {"a": 2}) == ["a: {'b': 1} before, 2 now"]


def test_damaged_plan(tmp_path: Path) -> None:
    with product(tmp_path) as ledger:
        ledger.begin({"a": 1})
        (ledger.folder / "plan.json").write_text("")
        with pytest.raises(StoreError, match=r"plan\.json is damaged.*remove"):
            ledger.begin({"a": 1})


def test_leftovers_of_a_killed_run_are_swept(tmp_path: Path) -> None:
    """Partial shards lie anywhere in the product, on levels beside the ledger's too."""
    with product(tmp_path) as ledger:
        ledger.begin({"a": 1})
    shard = ledger.product / "1" / "tomogram" / "c" / "0" / "3" / "0"
    shard.parent.mkdir(parents=True)
    shard.touch()
    partial_path(shard).touch()
    partial_path(ledger.scratch / "view").parent.mkdir()
    partial_path(ledger.scratch / "view").touch()
    with product(tmp_path) as ledger:
        ledger.begin({"a": 1})
        assert files(tmp_path / "full") == [
            "0/tomogram/.ledger/lock", "0/tomogram/.ledger/plan.json", "1/tomogram/c/0/3/0",
        ]  # fmt: skip


def test_scratch_that_outlived_its_product_is_swept(tmp_path: Path) -> None:
    """Killed between COMPLETE and the removal of the scratch."""
    with product(tmp_path) as ledger:
        ledger.begin({"a": 1})
        ledger.finish([])
        ledger.scratch.mkdir()
        (ledger.scratch / "big").touch()
    with product(tmp_path) as ledger:
        ledger.begin({"a": 1})
        assert not ledger.scratch.exists()


def test_clear_leaves_the_lock(tmp_path: Path) -> None:
    with product(tmp_path) as ledger:
        ledger.begin({"a": 1})
        ledger.finish([])
        (ledger.product / "1").mkdir()
        (ledger.product / "1" / "zarr.json").touch()
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "precious").touch()
        (ledger.product / "link").symlink_to(elsewhere)
        ledger.clear()
        assert files(ledger.product) == ["0/tomogram/.ledger/lock"]
        assert not (ledger.product / "link").is_symlink()
        assert (elsewhere / "precious").exists()


@pytest.mark.parametrize("stop", range(1, 5))
def test_clearing_begins_with_what_says_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    """However early it is killed, what is left neither looks complete nor can be continued."""
    with product(tmp_path) as ledger:
        ledger.begin({"a": 1})
        ledger.mark("slab/0")
        ledger.finish(["slab/0"])
        for level in "12":
            shard = ledger.product / level / "tomogram" / "c" / "0"
            shard.parent.mkdir(parents=True)
            shard.touch()
        unlink, count = Path.unlink, 0

        def killed(self: Path, missing_ok: bool = False) -> None:
            nonlocal count
            count += 1
            if count > stop:
                raise KeyboardInterrupt
            unlink(self, missing_ok)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", killed)
            with pytest.raises(KeyboardInterrupt):
                ledger.clear()
        assert not ledger.complete
        assert ledger.plan() is None or stop < 2  # then all is there but COMPLETE


def test_nothing_of_others_is_overwritten(tmp_path: Path) -> None:
    """A folder that is not ours is refused before anything in it is touched."""
    (tmp_path / "full" / "0").mkdir(parents=True)
    (tmp_path / "full" / "thesis.tex").write_text("precious")
    with pytest.raises(StoreError, match=r"full holds files .*(thesis\.tex|0).*another place"):
        product(tmp_path).__enter__()
    assert files(tmp_path) == ["full/thesis.tex"]


def test_refused_before_it_began_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no memory"), product(tmp_path):
        raise RuntimeError("no memory")
    assert list(tmp_path.iterdir()) == []


def test_place_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "full").write_text("precious")
    with pytest.raises(StoreError, match=r"cannot write .*full.*Not a directory"):
        product(tmp_path).__enter__()


def test_second_run_is_refused(tmp_path: Path) -> None:
    with product(tmp_path) as first:
        first.begin({"a": 1})
        with pytest.raises(LockedError) as caught, product(tmp_path):
            pass
        message = str(caught.value)
        assert f"process {os.getpid()} on {socket.gethostname()}" in message
        assert str(first.folder / "lock") in message
        assert "wait" in message
        assert (first.folder / "lock").exists()
    with product(tmp_path):
        pass


def test_of_many_runs_one_gets_the_lock(tmp_path: Path) -> None:
    """Also where each finds the lock of a dead process first."""
    ledger = product(tmp_path)
    for _ in range(20):
        lock_of(ledger, host=socket.gethostname(), pid=2**22 + 1, started=0.0)
        start, outcomes = threading.Barrier(8), []

        def run() -> None:
            start.wait()  # noqa: B023
            try:
                outcomes.append(product(tmp_path).__enter__())  # noqa: B023
            except LockedError:
                outcomes.append(None)  # noqa: B023

        threads = [threading.Thread(target=run) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        held = [outcome for outcome in outcomes if outcome is not None]
        assert len(held) == 1
        held[0].__exit__(None, None, None)
        assert not (ledger.folder / "lock").exists()


def test_lock_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = psutil.Process(process.pid).create_time()
    ledger = product(tmp_path)
    lock = lock_of(ledger, host=socket.gethostname(), pid=process.pid, started=started)
    with pytest.raises(LockedError, match=f"process {process.pid} "):
        ledger.__enter__()
    process.kill()
    # Not waited for: where nobody reaps it, a killed process stays in the table.
    deadline = time.monotonic() + 10
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with ledger:
        assert json.loads(lock.read_text())["pid"] == os.getpid()
    process.communicate()


def test_another_process_of_the_same_number_holds_nothing(tmp_path: Path) -> None:
    started = psutil.Process().create_time() - 1000
    ledger = product(tmp_path)
    lock_of(ledger, host=socket.gethostname(), pid=os.getpid(), started=started)
    with ledger:
        pass


@pytest.mark.parametrize("holder", [{"host": "elsewhere", "pid": 1, "started": 0.0}, {}])
def test_lock_of_another_host_holds_until_it_is_stale(
    tmp_path: Path, holder: dict[str, object]
) -> None:
    """Nobody can ask another host whether a process lives; a lock without a name is young."""
    ledger = product(tmp_path)
    lock = lock_of(ledger, **holder)
    os.utime(lock, (time.time() - 200,) * 2)
    with pytest.raises(LockedError, match=r"on (elsewhere|\?).*remove .*lock"):
        ledger.__enter__()
    os.utime(lock, (time.time() - 400,) * 2)
    with ledger:
        assert json.loads(lock.read_text())["pid"] == os.getpid()


def test_holder_shows_that_it_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_HEARTBEAT", 0.02)
    with product(tmp_path) as ledger:
        lock = ledger.folder / "lock"
        os.utime(lock, (0, 0))
        deadline = time.monotonic() + 10
        while lock.stat().st_mtime < time.time() - 60:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    names = {thread.name for thread in threading.enumerate()}
    deadline = time.monotonic() + 10
    while "tomodask-lock" in names:
        assert time.monotonic() < deadline
        names = {thread.name for thread in threading.enumerate()}


def test_clear_respects_a_run_inside(tmp_path: Path) -> None:
    """Replacing a series is refused while one of its tomograms is being made."""
    series = Ledger(tmp_path / "s" / "images", tmp_path / "s")
    with series:
        series.begin({"a": 1})
        with Ledger(tmp_path / "s" / "tomograms" / "wbp") as inside:
            inside.begin({"b": 1})
            with pytest.raises(LockedError, match="wbp is being written"):
                series.clear()
            assert series.plan() == {"a": 1}
            assert inside.plan() == {"b": 1}
        series.clear()
        assert series.plan() is None
        assert inside.plan() is None

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import dask
import psutil
import pytest

from tomodask.engine.ledger import Ledger
from tomodask.engine.run import Stage, Task, run_stages
from tomodask.engine.workers import Resources
from tomodask.errors import ClusterError, MemoryLimitError


def process_number(folder: Path) -> tuple[int, int]:
    """Leave the number of the process; take long enough that each worker gets some."""
    (folder / str(os.getpid())).touch()
    time.sleep(0.1)
    return 0, 0


def slow(path: Path) -> tuple[int, int]:
    path.touch()
    time.sleep(60)
    return 0, 0


def run(tmp_path: Path, resources: Resources, tasks: list[Task], task_bytes: int = 1) -> None:
    with Ledger(tmp_path / "product") as ledger:
        ledger.begin({"a": 1})
        run_stages("it", [Stage("s", tasks, task_bytes)], ledger, resources)


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


def threads() -> list[str]:
    """Threads that runs start."""
    return [t.name for t in threading.enumerate() if t.name.startswith(("tomodask", "IO loop"))]


def gone(find: object, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while left := find():  # type: ignore[operator]
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


@pytest.mark.slow
def test_processes_are_used_and_end(tmp_path: Path) -> None:
    before = children()
    tasks = [Task(str(i), process_number, (tmp_path,)) for i in range(8)]
    resources = Resources(scheduler="processes", workers=2)
    run(tmp_path, resources, tasks)
    numbers = {int(path.name) for path in tmp_path.iterdir() if path.name.isdigit()}
    assert len(numbers) == 2
    assert os.getpid() not in numbers
    gone(lambda: numbers & set(psutil.pids()))
    # The tracker of shared memory stays with the process that first needed it.
    gone(lambda: [
        pid for pid in children() - before
        if psutil.pid_exists(pid) and "resource_tracker" not in " ".join(
            psutil.Process(pid).cmdline()
        )
    ])  # fmt: skip
    gone(threads)


def test_threads_end(tmp_path: Path) -> None:
    run(tmp_path, Resources(workers=2), [Task(str(i), process_number, (tmp_path,)) for i in "12"])
    gone(threads)


def test_given_client_stays_open(tmp_path: Path, cluster: object) -> None:
    from distributed import Client

    with Client(cluster, set_as_default=False) as client:
        for folder in ("a", "b"):
            (tmp_path / folder).mkdir()
            tasks = [Task("t", process_number, (tmp_path / folder,))]
            run(tmp_path / folder, Resources(scheduler=client), tasks)
        assert client.status == "running"


def test_default_client_of_the_user_is_left_alone(tmp_path: Path, cluster: object) -> None:
    from distributed import Client, default_client

    address = cluster.scheduler_address  # type: ignore[attr-defined]
    with Client(cluster) as client:
        run(tmp_path, Resources(scheduler=address), [Task("t", process_number, (tmp_path,))])
        assert default_client() is client


def test_no_scheduler_at_the_address(tmp_path: Path) -> None:
    before = len(threads())
    tasks = [Task("t", process_number, (tmp_path,))]
    with dask.config.set({"distributed.comm.timeouts.connect": "300ms"}):
        with pytest.raises(
            ClusterError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9: Timed out"
        ):
            run(tmp_path, Resources(scheduler="tcp://127.0.0.1:9"), tasks)
        with pytest.raises(ClusterError, match=r"answers at nonsense://here"):
            run(tmp_path, Resources(scheduler="nonsense://here"), tasks)
    gone(lambda: threads()[before:])


def test_task_that_no_worker_holds(tmp_path: Path, cluster: object) -> None:
    address = cluster.scheduler_address  # type: ignore[attr-defined]
    tasks = [Task("t", process_number, (tmp_path,))]
    with pytest.raises(MemoryLimitError) as caught:
        run(tmp_path, Resources(scheduler=address), tasks, task_bytes=8 * 2**30)
    message = str(caught.value)
    assert "it needs 9.5 GiB on worker" in message
    assert "its limit is 4.0 GiB" in message
    assert not [path for path in tmp_path.iterdir() if path.name.isdigit()]


@pytest.mark.slow
def test_scheduler_that_is_lost(tmp_path: Path) -> None:
    """Killed in the middle: an error soon, not a wait for ever."""
    address = tmp_path / "address"
    code = (
        "import sys, time; from distributed import LocalCluster; from pathlib import Path\n"
        "cluster = LocalCluster(n_workers=1, processes=False, dashboard_address=None,"
        " scheduler_kwargs={'dashboard_address': '127.0.0.1:0'},"
        " protocol='tcp', host='127.0.0.1')\n"
        f"Path({str(tmp_path / 'new')!r}).write_text(cluster.scheduler_address)\n"
        f"Path({str(tmp_path / 'new')!r}).rename({str(address)!r})\n"
        "time.sleep(120)\n"
    )
    server = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not address.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        started = tmp_path / "started"

        def kill() -> None:
            while not started.exists():
                time.sleep(0.05)
            server.kill()

        killer = threading.Thread(target=kill)
        killer.start()
        with (
            dask.config.set({"distributed.comm.timeouts.connect": "2s"}),
            pytest.raises(ClusterError, match="connection to the Dask scheduler is lost"),
        ):
            run(tmp_path, Resources(scheduler=address.read_text()), [Task("t", slow, (started,))])
        killer.join()
    finally:
        server.kill()
        server.wait()


@pytest.mark.slow
def test_script_without_a_main_guard_is_explained(tmp_path: Path) -> None:
    """Every worker would run the script again; it ends, soon, and says what to do."""
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "from tomodask.engine.workers import Resources, workers\n"
        "with workers(Resources(scheduler='processes', workers=1), 1, 'it'):\n"
        "    pass\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    found = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert found.returncode == 1
    last = found.stderr.strip().splitlines()[-1]
    assert last.startswith("tomodask.errors.ClusterError: the worker processes did not start (")
    assert last.endswith("calls must stand under  if __name__ == '__main__'")

"""Killed with kill -9, at any moment: what is finished is kept, the result has the same bits."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.faults.conftest import (
    RECONSTRUCT,
    VIEWS,
    assert_same,
    contents,
    driver,
    environment,
    images_ledger,
    make,
    marks,
    tomogram,
    tomogram_ledger,
)
from tomodask.errors import StoreError
from tomodask.io.series import open_series, tomogram_names

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.faults.conftest import Inputs
    from tomodask.engine.events import Event

    Command = Callable[..., subprocess.CompletedProcess[str]]

KILLED = -signal.SIGKILL
SLABS = 9  # of 64 rows
DEEPER = 2  # shards of the level that the slabs do not own
TASKS = VIEWS + SLABS + DEEPER


def partials(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*.partial")]


@pytest.mark.parametrize("fault", ["mark:5", "chunk:4", "begin", "finish"])
def test_import(
    fault: str, inputs: Inputs, undisturbed: Path, tmp_path: Path, command: Command
) -> None:
    out = tmp_path / "s.zarr"
    arguments = inputs.import_arguments(out)
    assert command(*arguments, "--workers", "2", fault=fault).returncode == KILLED
    if fault != "finish":
        with pytest.raises(StoreError, match=r"not complete|no tilt series"):
            open_series(out)
    before = marks(images_ledger(out))
    inputs.import_to(out, workers=1)
    after = marks(images_ledger(out))
    assert len(after) == VIEWS
    assert {key: after[key] for key in before} == before  # these did not run again
    assert_same(out / "tilt_series", undisturbed / "tilt_series")
    assert images_ledger(out).complete
    assert not images_ledger(out).scratch.exists()
    assert partials(out) == []


@pytest.mark.parametrize(
    ("fault", "options"),
    [
        ("mark:4", {}),  # aligning views
        ("mark:14", {"workers": 1, "memory_limit": "2GiB"}),  # back-projecting
        ("chunk:5", {}),  # in the middle of a shard
        ("chunk:20", {"workers": 3}),
        ("mark:20", {}),  # the last, of the coarsest level
        ("begin", {}),
        ("finish", {}),
    ],
)
def test_reconstruct(
    fault: str, options: dict[str, object], series: Path, undisturbed: Path, command: Command
) -> None:
    assert command("reconstruct", series, *RECONSTRUCT, fault=fault).returncode == KILLED
    ledger = tomogram_ledger(series)
    if fault == "finish":
        assert ledger.scratch.exists()
    else:
        assert tomogram_names(series) == []
    if fault.startswith("mark"):
        assert len(ledger.done()) == int(fault[5:]) - 1
    before = marks(ledger)
    ran: list[Event] = []
    make(series, progress=ran.append, **options)
    after = marks(ledger)
    assert len(after) == TASKS
    assert {key: after[key] for key in before} == before  # these did not run again
    assert sum(event.kind == "task" for event in ran) == TASKS - len(before)
    assert_same(tomogram(series), tomogram(undisturbed))
    assert ledger.complete
    assert not ledger.scratch.exists()
    assert partials(series) == []


@pytest.mark.slow
def test_killed_again_and_again(series: Path, undisturbed: Path, command: Command) -> None:
    arguments = ["reconstruct", series, *RECONSTRUCT, "--quiet"]
    for kill in range(2):
        assert command(*arguments, fault="mark:5").returncode == KILLED
        assert len(tomogram_ledger(series).done()) == 4 * (kill + 1)
    assert command(*arguments).returncode == 0
    assert_same(tomogram(series), tomogram(undisturbed))


@pytest.mark.slow
def test_killed_from_outside(series: Path, undisturbed: Path, command: Command) -> None:
    """By another process, whatever the run is doing, with a cluster of its own under way."""
    arguments = [
        "reconstruct", series, *RECONSTRUCT, "--scheduler", "processes", "--workers", "2",
        "--memory-limit", "8GiB",
    ]  # fmt: skip
    process = subprocess.Popen(
        driver(*arguments, fault="slow:0.05"), env=environment(), stderr=subprocess.DEVNULL
    )
    ledger = tomogram_ledger(series)
    deadline = time.monotonic() + 60
    while len(ledger.done()) < VIEWS + 2:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    before = marks(ledger)
    assert VIEWS + 2 <= len(before) < VIEWS + SLABS
    again = command(*arguments, "--quiet")
    assert again.returncode == 0, again.stderr
    assert {key: time for key, time in marks(ledger).items() if key in before} == before
    assert_same(tomogram(series), tomogram(undisturbed))


@pytest.mark.slow
def test_worker_of_a_cluster(
    series: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker is killed: its tasks run again elsewhere, the run goes on by itself."""
    from distributed import Client, LocalCluster

    events: list[Event] = []
    victims: list[int] = []
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None,
            scheduler_kwargs={'dashboard_address': '127.0.0.1:0'}, host="127.0.0.1",
            memory_limit=0,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):  # fmt: skip

        def listen(event: Event) -> None:
            events.append(event)
            if event.kind == "task" and event.stage == "back-project" and not victims:
                info = client.scheduler_info(n_workers=-1)["workers"]
                worker = next(iter(info))
                victims.append(client.run(os.getpid, workers=[worker])[worker])
                os.kill(victims[0], signal.SIGKILL)

        make(series, scheduler=client, progress=listen)
        client.wait_for_workers(2, timeout=60)  # the cluster is closed when it is whole
    assert len(victims) == 1
    assert [e.done for e in events if e.kind == "end"] == [VIEWS, SLABS, DEEPER]
    assert_same(tomogram(series), tomogram(undisturbed))


OTHER = ["--thickness", "30", "--alignment", "none", "--quiet"]


def test_other_plan_is_refused(finished: Path, undisturbed: Path, command: Command) -> None:
    refused = command("reconstruct", finished, *OTHER)
    assert refused.returncode == 1
    assert "full_thickness: 333.0 before, 270.0 now" in refused.stderr
    assert "shape: [37, 530, 75] before, [30, 530, 75] now" in refused.stderr
    assert "--overwrite" in refused.stderr
    assert_same(tomogram(finished), tomogram(undisturbed))


@pytest.mark.parametrize("removals", [1, 2, 3, 20])
def test_overwrite(removals: int, finished: Path, series: Path, command: Command) -> None:
    """Killed while the old product goes: never a mixture that looks whole."""
    killed = command("reconstruct", finished, *OTHER, "--overwrite", fault=f"unlink:{removals}")
    assert killed.returncode == KILLED
    if removals == 1:  # before anything was removed
        assert tomogram_names(finished) == ["wbp"]
    else:
        assert tomogram_names(finished) == []
    make(finished, thickness=30, overwrite=True)
    make(series, thickness=30)
    assert_same(tomogram(finished), tomogram(series))


@pytest.mark.parametrize("removals", [2, 3])
def test_overwrite_killed_then_the_old_plan_again(
    removals: int, finished: Path, undisturbed: Path, command: Command
) -> None:
    """What an overwrite left must not count as finished for the plan of before."""
    killed = command("reconstruct", finished, *OTHER, "--overwrite", fault=f"unlink:{removals}")
    assert killed.returncode == KILLED
    make(finished)
    assert_same(tomogram(finished), tomogram(undisturbed))


def test_import_of_a_changed_stack(
    finished: Path, inputs: Inputs, tmp_path: Path, command: Command
) -> None:
    arguments = [*inputs.import_arguments(finished), "--exclude", "3"]
    before = contents(finished)
    refused = command(*arguments)
    assert refused.returncode == 1
    assert "included: [True, True, True, True, True" in refused.stderr
    assert contents(finished) == before
    inputs.import_to(finished, exclude=[3], overwrite=True)
    assert not (finished / "tomograms").exists()
    included = open_series(finished)["tilt_series"]["included"].values
    assert included.tolist() == [view != 3 for view in range(VIEWS)]


def test_stage_is_what_the_design_says(series: Path) -> None:
    """The number of tasks that the tests above rely on."""
    totals: list[tuple[str, int]] = []
    make(series, progress=lambda e: totals.append((e.stage, e.total)))
    assert dict(totals) == {"align views": VIEWS, "back-project": SLABS, "level 3": DEEPER}

"""The result depends on no resource: threads, processes, clusters, memory."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

from tests.faults.conftest import (
    THICKNESS,
    assert_same,
    contents,
    make,
    tomogram,
    tomogram_ledger,
)
from tomodask.engine.memory import PROCESS_BYTES
from tomodask.errors import MemoryLimitError, ParameterError, PlanMismatchError
from tomodask.graph.reconstruct import reconstruct
from tomodask.io.series import open_series, tomogram_names

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.conftest import Inputs
    from tomodask.engine.events import Event


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_threads(workers: int, series: Path, undisturbed: Path) -> None:
    make(series, workers=workers)
    assert_same(tomogram(series), tomogram(undisturbed))


@pytest.mark.slow
def test_processes(series: Path, undisturbed: Path) -> None:
    make(series, scheduler="processes", workers=2, memory_limit="16GiB")
    assert_same(tomogram(series), tomogram(undisturbed))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["address", "client"])
def test_cluster(kind: str, series: Path, undisturbed: Path) -> None:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, dashboard_address=None,
            scheduler_kwargs={'dashboard_address': '127.0.0.1:0'}, host="127.0.0.1",
            memory_limit="4GiB",
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):  # fmt: skip
        make(series, scheduler=cluster.scheduler_address if kind == "address" else client)
    assert_same(tomogram(series), tomogram(undisturbed))


def test_little_memory(series: Path, undisturbed: Path) -> None:
    """Room for one task: fewer threads, the same bits; for none: refused with both numbers."""
    base = max(PROCESS_BYTES, psutil.Process().memory_info().rss)
    with pytest.raises(MemoryLimitError) as caught:
        make(series, memory_limit=base // 2)
    message = str(caught.value)
    assert "store wbp: " in message
    assert message.count("iB") == 3  # needed, of arrays, limit
    assert not tomogram(series).exists()

    events: list[Event] = []
    gc.collect()  # what earlier tests left and is freed only now would make room for more
    limit = max(PROCESS_BYTES, psutil.Process().memory_info().rss) + 30 * 2**20
    make(series, workers=64, memory_limit=limit, progress=events.append)
    starts = {event.stage: event.message for event in events if event.kind == "start"}
    assert 1 <= int(starts["back-project"].split(" at once")[0]) < 20
    assert_same(tomogram(series), tomogram(undisturbed))


def test_refusal_costs_nothing_that_there_is(finished: Path, undisturbed: Path) -> None:
    """Replacing a tomogram by one that does not fit leaves the old one."""
    for options in ({"memory_limit": "1MiB"}, {"workers": 0}, {"scheduler": "bogus"}):
        with pytest.raises((MemoryLimitError, ParameterError)):
            make(finished, thickness=30, overwrite=True, **options)
        assert_same(tomogram(finished), tomogram(undisturbed))
        assert tomogram_names(finished) == ["wbp"]


def test_levels(series: Path, undisturbed: Path) -> None:
    """Fewer levels are the first of all levels."""
    expected = contents(tomogram(undisturbed))
    for levels in (1, 2, 4):
        make(series, name=f"l{levels}", levels=levels)
        found = contents(tomogram(series, f"l{levels}"))
        del found["zarr.json"]
        assert {name.split("/")[0] for name in found} == set("0123"[:levels])
        assert found == {name: expected[name] for name in found}
    with pytest.raises(PlanMismatchError, match="levels: 4 before, 1 now"):
        make(series, name="l4", levels=1)


@pytest.mark.parametrize("levels", [0, -1, 12, 10**6])
def test_levels_that_make_no_sense(levels: int, series: Path) -> None:
    with pytest.raises(ParameterError, match=rf"{levels} levels: .* 1 to 11"):
        make(series, levels=levels)
    assert not tomogram(series).exists()


def test_lazy_result_is_the_stored_one(series: Path, undisturbed: Path) -> None:
    volume = reconstruct(open_series(series), thickness=THICKNESS, alignment="none")
    stored = open_series(undisturbed)["tomograms/wbp/full/0"]["tomogram"]
    np.testing.assert_array_equal(
        volume[:, 100:300].values.view(np.uint32), stored[:, 100:300].values.view(np.uint32)
    )


def test_import(inputs: Inputs, undisturbed: Path, tmp_path: Path) -> None:
    for workers in (1, 3):
        path = inputs.import_to(tmp_path / str(workers) / "s.zarr", workers=workers)
        assert_same(path / "tilt_series", undisturbed / "tilt_series")


def test_finished_product_is_left_alone(finished: Path) -> None:
    """The same call again: nothing runs, nothing changes."""
    before = {path: path.stat().st_mtime_ns for path in tomogram(finished).rglob("c/**/*")}
    events: list[Event] = []
    make(finished, progress=events.append)
    make(finished, progress=events.append, overwrite=True)
    assert events == []
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert tomogram_ledger(finished).complete

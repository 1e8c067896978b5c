from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest

from tomodask.engine.ledger import Ledger
from tomodask.engine.measure import measured
from tomodask.engine.workers import Resources
from tomodask.errors import LockedError, MemoryLimitError, TaskError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from distributed import LocalCluster

NUMBERS = [(n,) for n in range(12)]


def square(number: int) -> dict[str, Any]:
    return {"square": number**2, "parts": [number, "é"]}


def run(
    folder: Path,
    function: Any = square,
    identity: dict[str, Any] | None = None,
    **resources: Any,
) -> AbstractContextManager[list[Any]]:
    return measured(
        "measure a",
        folder,
        {"step": "a"} if identity is None else identity,
        function,
        NUMBERS,
        stage="square",
        task_bytes=1000,
        resources=Resources(**resources),
    )


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_come_in_the_order_of_the_arguments(workers: int, tmp_path: Path) -> None:
    with run(tmp_path / "w" / "a", workers=workers) as found:
        assert found == [square(n) for (n,) in NUMBERS]
    assert not (tmp_path / "w").exists()


def test_on_a_cluster(tmp_path: Path, cluster: LocalCluster) -> None:
    with run(tmp_path / "a", scheduler=cluster.scheduler_address) as found:
        assert found == [square(n) for (n,) in NUMBERS]


def test_another_folder_beside_stays(tmp_path: Path) -> None:
    other = tmp_path / "w" / "b" / "something"
    other.mkdir(parents=True)
    with run(tmp_path / "w" / "a"):
        pass
    assert other.is_dir()
    assert not (tmp_path / "w" / "a").exists()


def test_not_a_number_is_kept(tmp_path: Path) -> None:
    with run(tmp_path / "a", lambda n: [math.nan, math.inf, n]) as found:
        assert math.isnan(found[3][0])
        assert found[3][1:] == [math.inf, 3]


class Counted:
    """Counts its calls; fails at one argument as long as it is told to."""

    def __init__(self, bad: int | None) -> None:
        self.bad = bad
        self.calls: list[int] = []

    def __call__(self, number: int) -> int:
        self.calls.append(number)
        if number == self.bad:
            raise ZeroDivisionError("no")
        return number + 100


def test_what_was_measured_is_kept(tmp_path: Path) -> None:
    """Of a run that failed, and of one whose results could not be stored."""
    folder = tmp_path / "w" / "a"
    function = Counted(bad=7)
    with (
        pytest.raises(TaskError, match=r"task 7 failed: ZeroDivisionError"),
        run(folder, function, workers=1),
    ):
        pytest.fail("there are no results")
    assert function.calls == list(range(8))
    function.bad = None
    with pytest.raises(OSError, match="no space"), run(folder, function, workers=1):
        raise OSError("no space")
    assert function.calls == [*range(8), *range(7, 12)]
    with run(folder, function) as found:
        assert found == [n + 100 for (n,) in NUMBERS]
    assert len(function.calls) == 13
    assert list(tmp_path.iterdir()) == []


def test_results_of_another_identity_are_dropped(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="stop"),
        run(tmp_path / "a", lambda n: -n, {"threshold": 1}),
    ):
        raise RuntimeError("stop")
    with run(tmp_path / "a", identity={"threshold": 2}) as found:
        assert found == [square(n) for (n,) in NUMBERS]


def test_half_a_record_is_none(tmp_path: Path) -> None:
    """What a killed run had begun to write is not read."""
    with pytest.raises(TaskError), run(tmp_path / "a", Counted(bad=3), workers=1):
        pass
    records = Ledger(tmp_path / "a").records
    (records / "5.json.0123456789ab.partial").write_text('{"square": 2')
    (records / "1.json").unlink()  # removed by whoever cleans up
    with run(tmp_path / "a") as found:
        assert found[5] == square(5)
        assert found[1] == square(1)
        assert found[0] == 100  # of the first run


def test_two_at_once(tmp_path: Path) -> None:
    with run(tmp_path / "a") as found:
        with (
            pytest.raises(LockedError, match="is being written by process"),
            run(tmp_path / "a"),
        ):
            pytest.fail("two at once")
        assert found == [square(n) for (n,) in NUMBERS]
        assert json.loads((Ledger(tmp_path / "a").records / "2.json").read_text()) == square(2)


def test_too_little_memory(tmp_path: Path) -> None:
    with (
        pytest.raises(MemoryLimitError, match="measure a: square needs"),
        run(tmp_path / "a", memory_limit="1MiB"),
    ):
        pytest.fail("it does not fit")
    assert not (tmp_path / "a").exists() or not Ledger(tmp_path / "a").done()


def test_nothing_to_measure(tmp_path: Path) -> None:
    with measured(
        "none", tmp_path / "a", {}, square, [], stage="s", task_bytes=1, resources=Resources()
    ) as found:
        assert found == []

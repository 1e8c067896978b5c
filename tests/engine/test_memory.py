from __future__ import annotations

import psutil
import pytest

from tomodask.engine import memory
from tomodask.engine.memory import format_bytes, parse_bytes, worker_bytes, workers_that_fit
from tomodask.errors import MemoryLimitError, ParameterError

GIB = 1024**3


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GiB", 4 * GIB), ("4 gib", 4 * GIB), ("4GB", 4 * 10**9), ("4G", 4 * 10**9),
        ("1.5MiB", 3 * 2**19), ("2e3", 2000), ("1e+22", 10**22), (4e9, 4 * 10**9), (7, 7),
        ("500 kB", 500_000), ("3TiB", 3 * 1024**4),
    ],
)  # fmt: skip
def test_amounts(text: str | float, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "GiB", "4 elephants", "-4GiB", "0", "nan", "inf", "1.2.3", "5i", "1e400", float("nan"),
     float("inf"), -1, 0, "4GiB4GiB"],
)  # fmt: skip
def test_what_is_no_amount(text: str | float) -> None:
    with pytest.raises(ParameterError, match="memory"):
        parse_bytes(text)


def test_sizes_for_people() -> None:
    assert [format_bytes(n) for n in (0, 1023, 1024, 3 * GIB // 2, 5000 * GIB)] == [
        "0 B", "1023 B", "1.0 KiB", "1.5 GiB", "4.9 TiB",
    ]  # fmt: skip


def test_threads_are_reduced_to_what_fits() -> None:
    base = max(memory.PROCESS_BYTES, psutil.Process().memory_info().rss)
    task = 100 * 2**20
    counts = [
        workers_that_fit(task, base + share * task, wanted=8, processes=False, what="it")
        for share in (2, 4, 100)
    ]
    assert counts == [1, 3, 8]


def test_worker_processes_count_too() -> None:
    base = max(memory.PROCESS_BYTES, psutil.Process().memory_info().rss)
    task = 100 * 2**20
    limit = base + 3 * worker_bytes(task, 1)
    assert workers_that_fit(task, limit, wanted=8, processes=True, what="it") == 3
    assert worker_bytes(task, 4) - worker_bytes(task, 3) < worker_bytes(task, 1)


def test_refusal_has_both_numbers() -> None:
    with pytest.raises(MemoryLimitError) as caught:
        workers_that_fit(10 * GIB, GIB, wanted=1, processes=False, what="reconstruct: back-project")
    message = str(caught.value)
    for part in ("reconstruct: back-project", "10.0 GiB of arrays", "limit is 1.0 GiB", "give"):
        assert part in message
    needed = float(message.partition("needs ")[2].partition(" GiB")[0])
    assert 10.3 < needed < 14
    assert isinstance(caught.value, MemoryError)

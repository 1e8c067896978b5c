"""Ctrl-C: prompt, quiet, and what is finished is kept."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.faults.conftest import (
    RECONSTRUCT,
    VIEWS,
    assert_same,
    driver,
    environment,
    images_ledger,
    make,
    marks,
    tomogram,
    tomogram_ledger,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.conftest import Inputs
    from tomodask.engine.ledger import Ledger


def interrupted(
    arguments: list[str | Path], ledger: Ledger, count: int, number: int = signal.SIGINT
) -> tuple[int, str, float]:
    """Give Ctrl-C, as a terminal does to all its processes, once `count` tasks are finished."""
    process = subprocess.Popen(
        driver(*arguments, fault="slow:0.05"), env=environment(), text=True,
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while len(ledger.done()) < count:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.005)
    os.killpg(process.pid, number)
    begun = time.monotonic()
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors, time.monotonic() - begun


def check(outcome: tuple[int, str, float], ledger: Ledger, count: int) -> None:
    code, errors, seconds = outcome
    assert code == 3, errors
    lines = errors.splitlines()
    assert lines[-1] == (
        "tomodask: interrupted; what is finished is kept, give the same command again"
    )
    assert "Traceback" not in errors
    assert seconds < 30  # not the time that the rest would take
    assert count <= len(ledger.done()) < count + 5
    assert not ledger.complete
    assert not (ledger.folder / "lock").exists()


def test_import(inputs: Inputs, tmp_path: Path, undisturbed: Path) -> None:
    out = tmp_path / "s.zarr"
    ledger = images_ledger(out)
    check(interrupted([*inputs.import_arguments(out)], ledger, 3), ledger, 3)
    inputs.import_to(out)
    assert_same(out / "tilt_series", undisturbed / "tilt_series")


@pytest.mark.parametrize(
    ("count", "number"), [(2, signal.SIGINT), (VIEWS + 3, signal.SIGINT), (4, signal.SIGTERM)]
)
def test_reconstruct(count: int, number: int, series: Path, undisturbed: Path) -> None:
    """The second signal is how a batch system ends a job; its lock must go as well."""
    ledger = tomogram_ledger(series)
    outcome = interrupted(["reconstruct", series, *RECONSTRUCT], ledger, count, number)
    check(outcome, ledger, count)
    before = marks(ledger)
    make(series)
    assert {key: time for key, time in marks(ledger).items() if key in before} == before
    assert_same(tomogram(series), tomogram(undisturbed))


@pytest.mark.slow
def test_reconstruct_with_processes(series: Path, undisturbed: Path) -> None:
    """The worker processes get the signal too: neither noise nor orphans."""
    ledger = tomogram_ledger(series)
    arguments = [
        "reconstruct", series, *RECONSTRUCT, "--scheduler", "processes", "--workers", "2",
        "--memory-limit", "8GiB",
    ]  # fmt: skip
    code, errors, _ = interrupted(arguments, ledger, VIEWS + 2)
    assert code == 3, errors
    assert "tomodask: interrupted; what is finished is kept" in errors
    assert "Traceback" not in errors
    assert not re.search(r"ERROR|CRITICAL", errors)
    assert not (ledger.folder / "lock").exists()
    make(series)
    assert_same(tomogram(series), tomogram(undisturbed))

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

# The first example may compile a kernel, so that its time says nothing.
settings.register_profile("tomodask", deadline=None)
settings.load_profile("tomodask")

# No windows, in processes that tests start neither.
os.environ.setdefault("MPLBACKEND", "Agg")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data; tests that use it are skipped where it is absent."""
    folder = os.environ.get("TOMODASK_DATA")
    if folder is None or not Path(folder).is_dir():
        pytest.skip("the real data are absent: set TOMODASK_DATA to their folder")
    return Path(folder)


@pytest.fixture
def no_compute() -> Iterator[None]:
    """Fail the test where Dask is asked to compute, as no builder of a graph may."""

    def refuse(graph: Any, keys: Any, **kwargs: Any) -> None:
        pytest.fail(f"{keys!r} was computed where a graph should only be built")

    with dask.config.set(scheduler=refuse):
        yield

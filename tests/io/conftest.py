from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data; tests that use it are skipped where it is absent."""
    folder = os.environ.get("TOMODASK_DATA")
    if folder is None or not Path(folder).is_dir():
        pytest.skip("the real data are absent: set TOMODASK_DATA to their folder")
    return Path(folder)

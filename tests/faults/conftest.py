from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import mrcfile
import numpy as np
import pytest

from tomodask.engine.ledger import Ledger
from tomodask.graph.reconstruct import reconstruct
from tomodask.importing import import_stack
from tomodask.io.imod import write_angles
from tomodask.io.series import images_folder, open_series
from tomodask.storing import store

if TYPE_CHECKING:
    from collections.abc import Callable

VIEWS, HEIGHT, WIDTH, THICKNESS = 9, 530, 75, 37
#: Of the command line, for the reconstruction of the fixtures.
RECONSTRUCT = ["--thickness", str(THICKNESS), "--alignment", "none"]
ANGLES = np.linspace(-56.0, 56.0, VIEWS)


def write_stack(path: Path, values: np.ndarray) -> Path:
    """Write a stack with mrcfile, which asks no questions about the values."""
    with warnings.catch_warnings(), mrcfile.new(path) as to:
        warnings.simplefilter("ignore", RuntimeWarning)
        to.set_data(values.astype(np.float32))
        to.set_image_stack()
        to.voxel_size = 9.0
    return path


@dataclass(frozen=True)
class Inputs:
    """A stack and its angles."""

    stack: Path
    angles: Path
    values: np.ndarray

    def import_arguments(self, out: Path) -> list[str]:
        return [
            "import", str(self.stack), "--out", str(out), "--tilt-angles", str(self.angles),
            "--tilt-axis", "4",
        ]  # fmt: skip

    def import_to(self, out: Path, **options: object) -> Path:
        return import_stack(self.stack, out, tilt_angles=self.angles, tilt_axis=4.0, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    folder = tmp_path_factory.mktemp("inputs")
    values = np.random.default_rng(1).normal(100, 20, (VIEWS, HEIGHT, WIDTH)).astype(np.float32)
    angles = folder / "s.tlt"
    write_angles(angles, ANGLES)
    return Inputs(write_stack(folder / "s.st", values), angles, values)


@pytest.fixture(scope="session")
def undisturbed(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A series with a tomogram, made in one go."""
    path = inputs.import_to(tmp_path_factory.mktemp("undisturbed") / "s.zarr")
    make(path, workers=1)
    return path


@pytest.fixture
def series(undisturbed: Path, tmp_path: Path) -> Path:
    """The same series without the tomogram, to make it in."""
    path = tmp_path / "new" / "s.zarr"  # the name goes into the provenance
    shutil.copytree(undisturbed, path, ignore=lambda _, names: {"tomograms"} & set(names))
    return path


@pytest.fixture
def finished(undisturbed: Path, tmp_path: Path) -> Path:
    """The same series with the tomogram, to spoil."""
    return Path(shutil.copytree(undisturbed, tmp_path / "finished" / "s.zarr"))


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line with a fault (see driver.py)."""

    def run(
        *arguments: str | Path, fault: str = "none", timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            driver(*arguments, fault=fault), env=environment(), cwd=tmp_path, text=True,
            capture_output=True, timeout=timeout, check=False,
        )  # fmt: skip

    return run


def make(series: Path, *, thickness: int = THICKNESS, name: str = "wbp", **options: object) -> Path:
    """Make the tomogram of the fixtures in this process, as RECONSTRUCT does."""
    volume = reconstruct(open_series(series), thickness=thickness, alignment="none")
    return store(volume, name=name, **options)  # type: ignore[arg-type]


def driver(*arguments: str | Path, fault: str) -> list[str]:
    script = Path(__file__).with_name("driver.py")
    return [sys.executable, str(script), fault, *map(str, arguments)]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}


def tomogram(path: Path, name: str = "wbp") -> Path:
    return path / "tomograms" / name / "full"


def tomogram_ledger(path: Path, name: str = "wbp") -> Ledger:
    return Ledger(tomogram(path, name) / "0" / "tomogram")


def images_ledger(path: Path) -> Ledger:
    return Ledger(images_folder(path))


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder but those of ledgers."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".ledger" not in path.parts
    }


def marks(ledger: Ledger) -> dict[str, int]:
    """When each finished task was marked."""
    return {
        path.name.replace("%2F", "/"): path.stat().st_mtime_ns
        for path in (ledger.folder / "done").glob("*")
    }


def assert_same(found: Path, expected: Path) -> None:
    """All files, bit for bit."""
    one, other = contents(found), contents(expected)
    assert one.keys() == other.keys()
    assert [name for name in one if one[name] != other[name]] == []

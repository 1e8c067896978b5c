"""Parameters that make no sense: refused, in words, with exit code 2, and nothing is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.conftest import contents, make, tomogram
from tomodask.errors import ParameterError
from tomodask.graph.reconstruct import reconstruct
from tomodask.io.series import open_series

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from tests.faults.conftest import Inputs

    Command = Callable[..., subprocess.CompletedProcess[str]]

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "values",
    [
        {"thickness": 0}, {"thickness": -5}, {"thickness": 2.5},
        {"thickness": NAN}, {"thickness": INF}, {"thickness": 10**12},
        {"binning": 0}, {"binning": -1}, {"binning": 0.5}, {"binning": NAN}, {"binning": INF},
        {"binning": 1000},
        {"x_range": (0, 10**6)}, {"y_range": (-5, 5)}, {"z_range": (5, 5)}, {"x_range": (9, 3)},
        {"radial": (NAN, 0.1)}, {"radial": (-1, 0.1)}, {"radial": (0.35, -1)},
        {"weighting": "bogus"}, {"sirt_like": -1},
        {"view_weights": [1.0]}, {"view_weights": [NAN] * 9},
    ],
    ids=str,
)  # fmt: skip
def test_reconstruct(values: dict[str, object], series: Path) -> None:
    tree = open_series(series)
    with pytest.raises(ParameterError) as caught:
        reconstruct(tree, **({"thickness": 20, "alignment": "none"} | values))  # type: ignore[arg-type]
    name, value = next(iter(values.items()))
    assert len(str(caught.value)) > 20
    assert "give" in str(caught.value) or "does not lie" in str(caught.value), (name, value)


@pytest.mark.parametrize(
    "name", ["", "a/b", "../up", "/abs", ".hidden", "a b", "n\n", "é", "-dash", ".."]
)
def test_names(name: str, series: Path) -> None:
    before = contents(series)
    with pytest.raises(ParameterError, match="name"):
        make(series, name=name)
    assert contents(series) == before


@pytest.mark.parametrize(
    "values",
    [
        {"pixel_size": 0.0}, {"pixel_size": -1.0}, {"pixel_size": NAN}, {"tilt_axis": INF},
        {"exclude": [99]}, {"exclude": [-1]}, {"exclude": range(8)}, {"tlt": "x.tlt"},
    ],
    ids=str,
)  # fmt: skip
def test_import(values: dict[str, object], inputs: Inputs, tmp_path: Path) -> None:
    from tomodask.importing import import_stack

    given = {"tilt_angles": inputs.angles} | values
    with pytest.raises(ParameterError, match=r"give|has sections|leaves fewer"):
        import_stack(inputs.stack, tmp_path / "s.zarr", **given)  # type: ignore[arg-type]
    assert not (tmp_path / "s.zarr").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--thickness", "0"],
        ["--thickness", "20", "--bin", "nan"],
        ["--thickness", "20", "--name", "a/b"],
        ["--thickness", "20", "--x-range", "5"],
        ["--thickness", "20", "--workers", "0"],
        ["--thickness", "20", "--memory-limit", "much"],
        ["--thickness", "20", "--scheduler", "bogus"],
        ["--thickness", "20", "--levels", "0"],
        ["--thickness", "many"],
    ],
    ids=" ".join,
)
def test_exit_code(arguments: list[str], series: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In this process: no traceback can hide."""
    from tomodask.cli import main

    assert main(["reconstruct", str(series), "--alignment", "none", "--quiet", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err or captured.out
    assert not tomogram(series).exists()


def test_two_runs_of_one_product(series: Path, command: Command) -> None:
    """The second is refused, and the first goes on."""
    refusals: list[subprocess.CompletedProcess[str]] = []

    def second(event: object) -> None:
        del event
        if not refusals:
            refusals.append(
                command("reconstruct", series, "--thickness", "20", "--alignment", "none")
            )

    make(series, thickness=20, progress=second)
    assert refusals[0].returncode == 3
    message = refusals[0].stderr
    assert "is being written by process" in message
    assert f"remove {tomogram(series)}/0/tomogram/.ledger/lock" in message
    assert tomogram(series).is_dir()

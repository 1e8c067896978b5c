"""Tables of tilt angles, as other programs write them and as users do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tomodask.errors import FormatError, StoreError
from tomodask.io.tilt_table import TiltTable, read_tilt_table

if TYPE_CHECKING:
    from pathlib import Path


def read(tmp_path: Path, text: str) -> TiltTable:
    path = tmp_path / "a_TLT.txt"
    path.write_text(text)
    return read_tilt_table(path)


def test_angles_alone(tmp_path: Path) -> None:
    table = read(tmp_path, "\ufeff# angles\r\n -3.00\r\n\r\n0\r\n+3.0e0\r\n\r\n")
    assert table.tilt_angle.tolist() == [-3, 0, 3]
    assert table.order is table.dose is table.exposure is None


@pytest.mark.parametrize("first", [0, 1])
def test_aretomos_columns(tmp_path: Path, first: int) -> None:
    """As AreTomo3 prints them: %8.2f  %4d  %8.2f; its number of acquisition was once from 0."""
    rows = [(-3.0, 2, 2.5), (0.01, 0, 5.0), (3.0, 1, 2.5)]
    lines = [f"{tilt:8.2f}  {order + first:4d}  {dose:8.2f}\n" for tilt, order, dose in rows]
    table = read(tmp_path, "".join(lines))
    assert table.tilt_angle.tolist() == [-3, 0.01, 3]
    assert table.order is not None
    assert table.order.tolist() == [2, 0, 1]
    assert table.exposure is not None
    assert table.exposure.tolist() == [2.5, 5.0, 2.5]
    assert table.dose is None
    two = read(tmp_path, "".join(line[:16].rstrip() + "\n" for line in lines))
    assert two.order is not None
    assert two.order.tolist() == [2, 0, 1]
    assert two.exposure is None


@pytest.mark.parametrize("comma", [", ", ",", " ", "\t"])
def test_columns_that_are_named(tmp_path: Path, comma: str) -> None:
    lines = ["Dose order tilt_angle", "5.0 2 -3.0", "0.0 1 0.0", "2.5 3 3.0"]
    table = read(tmp_path, "# " * (comma == "\t") + "\n".join(lines).replace(" ", comma))
    assert table.tilt_angle.tolist() == [-3, 0, 3]
    assert table.order is not None
    assert table.order.tolist() == [1, 0, 2]
    assert table.dose is not None
    assert table.dose.tolist() == [5, 0, 2.5]
    assert table.exposure is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("# only this\n", "is empty"),
        ("tilt_angle order\n", "no tilt angle"),
        ("0\nzero\n", "line 2: 'zero'"),
        ("0\nnan\n", "line 2: 'nan'"),
        ("0\n\n1 2\n", "line 3: '1 2' is not 'tilt_angle'"),
        ("0 1\n3\n", "line 2"),
        ("0\n200\n", "line 2: tilt_angle 200 is outside"),
        ("0 1 2 3\n", "line 1: has 4 columns; name them"),
        ("-60,5\n-57,5\n", "line 1: .*a comma may part decimals or columns"),
        ("-60,5 1 2,5\n", "line 1: .*a comma may part decimals or columns"),
        ("0 1\n3 1\n", r"line 2: second column .*: 1 is on line 1, too; .*name the columns"),
        ("0 1\n3 3\n", "line 2: second column .*: 3 is not a number from 0 or 1"),
        ("0 1.5\n3 2\n", "line 1: .*1.5 is not"),
        ("0 0\n3 3.0\n6 6\n", "line 2: .*3 is not a number"),
        ("tilt_angle order\n0 5\n3 6\n", "line 2: order: 5 is not"),
        ("tilt_angle angle\n0 5\n", "line 1: .*does not name the columns"),
        ("order dose\n1 5\n", "the first of which is needed"),
        ("tilt_angle exposure\n0 0\n", "line 2: exposure 0 is outside"),
        ("tilt_angle dose\n0 -1\n", "line 2: dose -1 is outside"),
        # Exposures that grow with the angle, and the dose accumulated.
        ("-3 2 2.5\n0 1 2\n3 3 3\n", None),
        ("-3 2 5\n0 3 7.5\n3 1 2.5\n6 4 10\n", "as the dose accumulated does; .*tilt_angle order"),
        ("-3 2 3\n0 1 0\n3 3 6\n", "grows from 0 to 6 in the order of acquisition"),
    ],
)
def test_what_cannot_be_is_named(tmp_path: Path, text: str, message: str | None) -> None:
    if message is None:
        assert read(tmp_path, text).exposure is not None
        return
    with pytest.raises(FormatError, match=message) as caught:
        read(tmp_path, text)
    assert "a_TLT.txt" in str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        read_tilt_table(tmp_path / "nothing.txt")
    (tmp_path / "b").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(FormatError, match="not a text file"):
        read_tilt_table(tmp_path / "b")


def test_real_tables(data_dir: Path) -> None:
    checked = 0
    for path in data_dir.rglob("*.*tlt"):
        try:
            expected = np.loadtxt(path, ndmin=1)
        except ValueError:
            continue
        if expected.ndim == 1:
            np.testing.assert_array_equal(read_tilt_table(path).tilt_angle, expected)
            checked += 1
    assert checked > 3

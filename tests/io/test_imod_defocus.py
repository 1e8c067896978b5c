"""IMOD's .defocus: real files of all kinds, the flags of its manual page, and round trips."""

from __future__ import annotations

from typing import TYPE_CHECKING

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from tomodask.errors import ConversionError, DataError, FormatError, StoreError
from tomodask.io.imod_defocus import DefocusFile, read_defocus, write_defocus

if TYPE_CHECKING:
    from pathlib import Path

#: Each real file: its version, and its first and last row as they stand in it.
REAL = {
    "plain_estimation": (2, [1, 1, -57, -57, 1360], [40, 40, 60, 60, 1439]),
    "only_astigmatism": (
        3,
        [1, 1, -57, -57, 1651.6, 1206.7, 31.76],
        [40, 40, 60, 60, 1460.9, 1417.1, 48.40],
    ),
    "only_phase_shift": (3, [1, 1, -57, -57, 1323.6, 10.19], [40, 40, 60, 60, 1463.0, -5.05]),
    "astigmatism_and_phase_shift": (
        3,
        [1, 1, -57, -57, 1483.9, 1068.7, 32.44, 26.49],
        [40, 40, 60, 60, 1485.3, 1444.8, 51.87, -5.69],
    ),
    "astigmatism_phase_shift_and_cutoff_freq": (
        3,
        [1, 1, -57, -57, 1331.4, 917.5, 32.43, 29.08, 0.4912],
        [40, 40, 60, 60, 1485.3, 1444.8, 51.87, -5.69, 0.0],
    ),
}


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def raw_rows(table: DefocusFile) -> np.ndarray:
    """What the rows of a file say, in the file's own units and order."""
    columns = [table.first + 1, table.last + 1, table.low_angle, table.high_angle]
    columns.append(table.defocus[:, 0] / 10)
    if table.astigmatism_angle is not None:
        columns += [table.defocus[:, 1] / 10, table.astigmatism_angle]
    else:
        np.testing.assert_array_equal(table.defocus[:, 0], table.defocus[:, 1])
    for values, scale in ((table.phase_shift, 1), (table.cut_on_frequency, 10)):
        if values is not None:
            columns.append(values * scale)
    rows: np.ndarray = np.stack(columns, axis=1)
    return rows


def numbers(path: Path, skip: int) -> np.ndarray:
    """The rows of a file as NumPy reads them; the version at the end of the first is dropped."""
    lines = [line.split() for line in path.read_text().splitlines()[skip:]]
    return np.array([line[: len(lines[-1])] for line in lines], float)


@pytest.mark.parametrize("name", REAL)
def test_real_files_are_read_and_written_back(data_dir: Path, tmp_path: Path, name: str) -> None:
    path = data_dir / f"metadata/imod_defocus/TS_03_{name}.defocus"
    version, first, last = REAL[name]
    table = read_defocus(path)
    assert table.version == version
    assert not table.inverted
    found = raw_rows(table)
    assert len(found) == 40
    np.testing.assert_allclose(found[0], first, rtol=1e-12)
    np.testing.assert_allclose(found[-1], last, rtol=1e-12)
    write_defocus(tmp_path / "again.defocus", table)
    skip = version - 2
    expected = numbers(path, skip)
    np.testing.assert_array_equal(numbers(tmp_path / "again.defocus", skip), expected)
    head = (tmp_path / "again.defocus").read_text().splitlines()[0].split()
    assert [float(word) for word in head][-1] == version
    if version == 3:
        assert head == path.read_text().splitlines()[0].split()


def test_angles_are_those_of_the_stack_beside_it(data_dir: Path) -> None:
    folder = data_dir / "metadata/imod_defocus"
    table = read_defocus(folder / "TS_03_only_astigmatism.defocus")
    tilt = np.array(
        [line.split()[0] for line in (folder / "TS_03.tlt").read_text().splitlines()], float
    )
    np.testing.assert_allclose(table.low_angle, tilt[table.first], atol=0.005)


def test_every_flag_has_the_meaning_of_the_manual_page(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.defocus",
        f"{1 + 2 + 4 + 8 + 16 + 32}\t0\t0.0\t0.0\t0.0\t3\n"
        f"3 7 -30.5 -18.25 2100.5 1999 {np.pi / 6} {np.pi / 2} 0.25\n",
    )
    table = read_defocus(path)
    assert (table.first[0], table.last[0]) == (2, 6)
    assert (table.low_angle[0], table.high_angle[0]) == (-30.5, -18.25)
    np.testing.assert_allclose(table.defocus, [[21005.0, 19990.0]])  # nm -> A
    assert table.astigmatism_angle is not None
    assert table.phase_shift is not None
    assert table.cut_on_frequency is not None
    np.testing.assert_allclose(table.astigmatism_angle, 30.0)
    np.testing.assert_allclose(table.phase_shift, 90.0)
    np.testing.assert_allclose(table.cut_on_frequency, 0.025)  # 1/nm -> 1/A
    assert table.inverted
    write_defocus(path, table)
    assert path.read_text().split()[0] == str(1 + 4 + 16 + 32), "degrees are written"
    again = read_defocus(path)
    np.testing.assert_allclose(again.astigmatism_angle, 30.0)  # type: ignore[arg-type]
    np.testing.assert_allclose(again.phase_shift, 90.0)  # type: ignore[arg-type]


def test_phase_in_radians_leaves_the_angle_in_degrees(tmp_path: Path) -> None:
    text = "13 0 0.0 0.0 0.0 3\n1 1 0 0 2000 1900 40 0.5\n"
    table = read_defocus(write(tmp_path / "a.defocus", text))
    assert table.astigmatism_angle is not None
    assert table.phase_shift is not None
    assert table.astigmatism_angle[0] == 40
    np.testing.assert_allclose(table.phase_shift, 0.5 * 180 / np.pi)


def test_inverted_angles_need_no_further_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "a.defocus", "16 0 0.0 0.0 0.0 3\n1 1 -60 -60 2000\n2 2 0 0 1900\n")
    table = read_defocus(path)
    assert table.inverted
    assert table.astigmatism_angle is None
    write_defocus(path, table)
    assert read_defocus(path).inverted
    np.testing.assert_array_equal(read_defocus(path).defocus, table.defocus)


@pytest.mark.parametrize("start", [0, 1])
def test_version_1_may_count_from_0(tmp_path: Path, start: int) -> None:
    text = "".join(f"{view + start}\t{view + start}\t-1.0\t1.0\t 1500\n" for view in range(3))
    table = read_defocus(write(tmp_path / "a.defocus", text))
    assert table.version == 1
    np.testing.assert_array_equal(table.first, [0, 1, 2])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("1 1 0 0 2000 2\n2 2 3 3\n", "line 2: '2 2 3 3'"),
        ("1 1 0 0 2000 2\n\n2 2 3 3 2000\n", "line 2.*blank"),
        ("1 1 0 0 2000 2\n2 2 3 3 nan\n", "line 2"),
        ("1 1 0 0 2000 2\n2 2 3 3 1999,5\n", "decimal comma"),
        ("1 1 0 0 2000 2\n2 1 3 3 2000\n", "line 2.*last not before"),
        ("0 0 0 0 2000 2\n", "line 1.*views from 1"),
        ("1.5 2 0 0 2000 2\n", "line 1"),
        ("1 1 0 0 2000 4\n", "line 1.*version"),
        ("1 1 0 0\n", "line 1"),
        ("64 0 0.0 0.0 0.0 3\n1 1 0 0 2000\n", "flags '64'.*32"),
        ("x 0 0.0 0.0 0.0 3\n1 1 0 0 2000\n", "flags 'x'"),
        ("33 0 0.0 0.0 0.0 3\n1 1 0 0 2000 1900 5 0.1\n", "flags 33.*without phase"),
        ("1 0 0.0 0.0 0.0 3\n", "no views"),
        ("1 0 0.0 0.0 0.0 3\n1 1 0 0 2000\n", "line 2.*defocus2 angle"),
        ("4 0 0.0 0.0 0.0 3\n1 1 0 0 2000 1900 5\n", "line 2.*phase"),
    ],
)
def test_a_malformed_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "a.defocus", text)
    with pytest.raises(FormatError, match=message) as error:
        read_defocus(path)
    assert str(path) in str(error.value)


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.defocus"
    one, zero = np.zeros(1, np.int64), np.zeros(1)
    for defocus in (np.full((1, 2), np.nan), np.full((1, 2), 1e14)):
        with pytest.raises(ConversionError, match="does not fit"):
            write_defocus(path, DefocusFile(one, one, zero, zero, defocus))
    with pytest.raises(ConversionError, match="cut-on"):
        write_defocus(
            path, DefocusFile(one, one, zero, zero, np.ones((1, 2)), cut_on_frequency=zero)
        )
    none = np.zeros(0)
    with pytest.raises(DataError, match="shape"):
        write_defocus(path, DefocusFile(one[:0], one[:0], none, none, np.zeros((0, 2))))
    assert not path.exists()
    with pytest.raises(StoreError):
        read_defocus(path)


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("defocus")


@given(data=st.data(), astigmatism=st.booleans(), phase=st.booleans(), cut_on=st.booleans())
def test_values_come_back_to_half_the_last_digit(
    scratch: Path, data: st.DataObject, astigmatism: bool, phase: bool, cut_on: bool
) -> None:
    count = data.draw(st.integers(1, 4))

    def values(limit: float, low: float | None = None) -> np.ndarray:
        numbers = st.floats(-limit if low is None else low, limit)
        return np.array(data.draw(st.lists(numbers, min_size=count, max_size=count)))

    first = np.array(data.draw(st.lists(st.integers(0, 200), min_size=count, max_size=count)))
    mean, difference = values(150000), values(20000, 0) * astigmatism
    table = DefocusFile(
        first=first,
        last=first + 3,
        low_angle=values(90),
        high_angle=values(90),
        defocus=np.stack([mean + difference, mean], axis=1),
        astigmatism_angle=values(180) if astigmatism else None,
        phase_shift=values(360) if phase else None,
        cut_on_frequency=values(1, 0) if phase and cut_on else None,
        inverted=data.draw(st.booleans()),
    )
    write_defocus(scratch / "a.defocus", table)
    again = read_defocus(scratch / "a.defocus")
    np.testing.assert_array_equal(again.first, table.first)
    np.testing.assert_array_equal(again.last, table.last)
    assert again.inverted == table.inverted
    for name, digit in (
        ("low_angle", 0.01),
        ("high_angle", 0.01),
        ("defocus", 0.1),
        ("astigmatism_angle", 0.001),
        ("phase_shift", 0.001),
        ("cut_on_frequency", 1e-5),
    ):
        expected, found = getattr(table, name), getattr(again, name)
        assert (expected is None) == (found is None)
        if expected is not None:
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=digit / 2 + 1e-12)

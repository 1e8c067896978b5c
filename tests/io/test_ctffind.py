"""Tables of CTFFIND and AreTomo: real files, every number of columns, and round trips."""

from __future__ import annotations

from typing import TYPE_CHECKING

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from tomodask.errors import ConversionError, FormatError
from tomodask.io.ctffind import CtffindTable, read_ctffind, write_ctffind

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Literal

CTFFIND = "metadata/ctffind/017_ctffind4.txt"
ARETOMO_8 = "metadata/conversions/test_8col_CTF.txt"
ARETOMO_7 = "metadata/conversions/test_CTF.txt"
#: As CTFFIND 5 prints it.
CTFFIND_5 = """\
# Output from CTFFind version 5.0.2, run on 2025-02-13 21:14:21
# Input file: a.mrc ; Number of micrographs: 1
# Pixel size: 0.930 Angstroms ; acceleration voltage: 200.0 keV ; spherical aberration: 2.20 mm ; \
amplitude contrast: 0.10
# Box size: 512 pixels ; min. res.: 30.0 Angstroms ; max. res.: 3.5 Angstroms ; min. def.: 0.0 um
# Columns: #1 - micrograph number; #2 - defocus 1 [Angstroms]; #3 - defocus 2; ...
1.000000 8984.742188 8709.236328 45.948771 0.500000 0.446317 3.720000 221.912292 12.251187 \
1619.773438
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def numbers(path: Path) -> np.ndarray:
    """The rows of a file as NumPy reads them."""
    return np.loadtxt(path, comments="#", ndmin=2)


def test_real_table_of_ctffind(data_dir: Path) -> None:
    table = read_ctffind(data_dir / CTFFIND)
    assert table.program == "ctffind"
    assert table.images == 60, "as many as there are rows, though the header says 41"
    assert (table.pixel_size, table.voltage) == (1.327, 300.0)
    assert (table.spherical_aberration, table.amplitude_contrast) == (2.7, 0.07)
    np.testing.assert_array_equal(table.image, np.arange(60))
    np.testing.assert_array_equal(table.defocus[1], [18332.730469, 17896.296875])
    assert table.astigmatism_angle[1] == -84.116628
    assert (table.score[0], table.fit_resolution[0]) == (0.001071, 12.144508)
    assert table.handedness == 0
    assert table.tilt_angle is None


def test_real_tables_of_aretomo(data_dir: Path) -> None:
    table = read_ctffind(data_dir / ARETOMO_8)
    assert (table.program, table.images, table.handedness) == ("aretomo", 31, -1)
    assert table.voltage is None
    np.testing.assert_array_equal(table.defocus[7], [22386.33, 21811.76])
    assert (table.astigmatism_angle[7], table.fit_resolution[7]) == (-28.0, 7.5815)
    old = read_ctffind(data_dir / ARETOMO_7)
    assert (old.program, old.images, old.handedness) == ("aretomo", 3, 0)
    assert old.score[0] == -0.0105, "a negative score stays one"


@pytest.mark.parametrize("name", [CTFFIND, ARETOMO_8, ARETOMO_7])
def test_real_files_are_written_back(data_dir: Path, tmp_path: Path, name: str) -> None:
    again = tmp_path / "again.txt"
    table = read_ctffind(data_dir / name)
    write_ctffind(again, table)
    np.testing.assert_array_equal(numbers(again), numbers(data_dir / name))
    for what in ("program", "images", "handedness", "pixel_size", "voltage", "amplitude_contrast"):
        assert getattr(read_ctffind(again), what) == getattr(table, what)


def test_aretomo_is_written_as_aretomo_writes_it(data_dir: Path, tmp_path: Path) -> None:
    write_ctffind(tmp_path / "again.txt", read_ctffind(data_dir / ARETOMO_8))
    assert (tmp_path / "again.txt").read_text() == (data_dir / ARETOMO_8).read_text()


def test_ctffind_5_has_tilt_and_thickness(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", CTFFIND_5)
    table = read_ctffind(path)
    assert table.program == "ctffind"
    assert (table.voltage, table.spherical_aberration, table.amplitude_contrast) == (200, 2.2, 0.1)
    np.testing.assert_allclose(table.phase_shift, 0.5 * 180 / np.pi)
    assert table.tilt_axis_angle is not None
    assert table.tilt_angle is not None
    assert table.thickness is not None
    found = (table.tilt_axis_angle[0], table.tilt_angle[0], table.thickness[0])
    assert found == (221.912292, 12.251187, 1619.773438)
    expected = numbers(path)
    write_ctffind(path, table)
    np.testing.assert_array_equal(numbers(path), expected)


@pytest.mark.parametrize("start", [0, 1])
def test_aretomo_may_count_from_0(tmp_path: Path, start: int) -> None:
    rows = "".join(f" {n + start} 20000 19000 5 0 0.1 9 1\n" for n in (1, 0, 2))
    table = read_ctffind(write(tmp_path / "a_CTF.txt", rows))
    np.testing.assert_array_equal(table.image, [1, 0, 2])
    assert table.images == 3


def test_header_tells_how_many_images_there_are(tmp_path: Path) -> None:
    text = "# Input file: a.mrc ; Number of micrographs: 5\n1 20000 19000 5 0 0.1 9\n"
    assert read_ctffind(write(tmp_path / "a.txt", text)).images == 5


@pytest.mark.parametrize("word", ["inf", "-nan", "nan", "Infinity", "-1.5", "999.99"])
def test_a_fit_that_found_no_rings_is_kept_as_it_is(tmp_path: Path, word: str) -> None:
    path = write(tmp_path / "a.txt", f"1.0 20000 19000 5 0 {word} {word}\n")
    for _ in range(2):
        table = read_ctffind(path)
        np.testing.assert_equal(table.score[0], float(word))
        np.testing.assert_equal(table.fit_resolution[0], float(word))
        write_ctffind(path, table)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("# Columns\n", "no rows"),
        ("1 20000 19000 5 0 0.1\n", "line 1.*number defocus1"),
        ("1 20000 19000 5 0 0.1 9 1 2\n", "line 1.*number defocus1"),
        ("# a\n1 20000 19000 5 0 0.1 9\n2 20000 19000 5 0 0.1\n", "line 3"),
        ("1 nan 19000 5 0 0.1 9\n", "line 1"),
        ("1 20000 19000 5 0 0.1 x\n", "line 1"),
        ("1.5 20000 19000 5 0 0.1 9\n", "line 1"),
        ("-1 20000 19000 5 0 0.1 9\n", "line 1"),
        ("0 20000 19000 5 0 0.1 9\n", "counts from 1"),
        ("2 20000 19000 5 0 0.1 9\n2 20000 19000 5 0 0.1 9\n", "image 2 has several"),
        ("1 2 2 5 0 0.1 9 1\n2 2 2 5 0 0.1 9 -1\n", "line 2.*dfHand"),
        ("1 2 2 5 0 0.1 9 2\n", "line 1.*dfHand"),
        ("# acceleration voltage: high keV\n1 2 2 5 0 0.1 9\n", "voltage.*'high'"),
    ],
)
def test_a_malformed_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "a.txt", text)
    with pytest.raises(FormatError, match=message) as error:
        read_ctffind(path)
    assert str(path) in str(error.value)


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ctffind")


@given(data=st.data(), program=st.sampled_from(["ctffind", "aretomo"]))
def test_values_come_back_to_half_the_last_digit(
    scratch: Path, data: st.DataObject, program: Literal["ctffind", "aretomo"]
) -> None:
    count = data.draw(st.integers(1, 4))

    def values(low: float, high: float) -> np.ndarray:
        return np.array(data.draw(st.lists(st.floats(low, high), min_size=count, max_size=count)))

    hand = data.draw(st.sampled_from([-1, 0, 1])) if program == "aretomo" else 0
    table = CtffindTable(
        image=np.arange(count),
        defocus=np.stack([values(-5e4, 2e5), values(-5e4, 2e5)], axis=1),
        astigmatism_angle=values(-180, 180),
        phase_shift=values(0, 180),
        score=values(-1, 1),
        fit_resolution=values(0, 500),
        program=program,
        images=count,
        handedness=hand,
        voltage=300.0,
    )
    write_ctffind(scratch / "a.txt", table)
    again = read_ctffind(scratch / "a.txt")
    assert (again.program, again.handedness, again.images) == (program, hand, count)
    digits = {"ctffind": (1e-6, 1e-6, 1e-6), "aretomo": (1e-2, 1e-4, 1e-4)}[program]
    for name, digit in (
        ("defocus", digits[0]),
        ("astigmatism_angle", digits[0]),
        ("phase_shift", digits[1] * 180 / np.pi),
        ("score", digits[2]),
        ("fit_resolution", digits[2]),
    ):
        np.testing.assert_allclose(
            getattr(again, name), getattr(table, name), rtol=1e-12, atol=digit / 2 + 1e-12
        )


def test_a_view_without_defocus_cannot_be_written(tmp_path: Path) -> None:
    one = np.ones(1)
    table = CtffindTable(np.array([4]), np.array([[np.nan, 1.0]]), one, one, one, one, "ctffind", 5)
    with pytest.raises(ConversionError, match="image 4"):
        write_ctffind(tmp_path / "a.txt", table)
    assert not (tmp_path / "a.txt").exists()

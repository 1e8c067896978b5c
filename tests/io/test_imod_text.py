"""IMOD's text tables: a solved alignment of IMOD's tutorial, and round trips."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from tomodask.errors import ConversionError, DataError, FormatError, StoreError
from tomodask.io import imod

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("imod")


def finite(limit: float) -> st.SearchStrategy[float]:
    return st.floats(-limit, limit)


# A value comes back to half the last printed digit, and to the rounding of its own float64.


@given(arrays(np.float64, st.integers(1, 6), elements=finite(360)))
def test_angles_round_trip(scratch: Path, angles: np.ndarray) -> None:
    imod.write_angles(scratch / "a.tlt", angles)
    np.testing.assert_allclose(
        imod.read_angles(scratch / "a.tlt"), angles, rtol=0, atol=0.5e-4 + 1e-12
    )


@given(
    matrices=arrays(np.float64, (3, 2, 2), elements=finite(99)),
    shifts=arrays(np.float64, (3, 2, 1), elements=finite(1e6)),
)
def test_transforms_round_trip(scratch: Path, matrices: np.ndarray, shifts: np.ndarray) -> None:
    imod.write_transforms(scratch / "a.xf", np.concatenate((matrices, shifts), axis=2))
    read = imod.read_transforms(scratch / "a.xf")
    np.testing.assert_allclose(read[:, :, :2], matrices, rtol=0, atol=0.5e-9 + 1e-12)
    np.testing.assert_allclose(read[:, :, 2:], shifts, rtol=0, atol=0.5e-4 + 1e-9)


@given(arrays(np.float64, st.tuples(st.integers(1, 6), st.just(2)), elements=finite(10)))
def test_zfactors_round_trip(scratch: Path, factors: np.ndarray) -> None:
    imod.write_zfactors(scratch / "a.zfac", factors)
    np.testing.assert_allclose(
        imod.read_zfactors(scratch / "a.zfac"), factors, rtol=0, atol=0.5e-9 + 1e-14
    )


def test_columns_are_those_of_the_format(tmp_path: Path) -> None:
    path = tmp_path / "a.xf"
    imod.write_transforms(path, [[[1, 2, 5], [3, 4, -6]]])
    words = path.read_text().split()
    assert [float(word) for word in words] == [1, 2, 3, 4, 5, -6]
    assert words[0] == "1.000000000"
    assert words[4] == "5.0000"
    imod.write_angles(tmp_path / "a.tlt", [-0.00001, -65])
    assert (tmp_path / "a.tlt").read_text() == "    0.0000\n  -65.0000\n"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e12])
def test_value_that_no_column_holds_is_refused_and_the_old_file_kept(
    tmp_path: Path, bad: float
) -> None:
    path = write(tmp_path / "old", "1.00\n")
    transform = np.eye(2, 3)[np.newaxis] * [[[1]], [[1]]]
    for position in [(1, 0, 1), (1, 1, 2)]:
        wrong = transform.copy()
        wrong[position] = bad
        with pytest.raises(ConversionError, match="line 2"):
            imod.write_transforms(path, wrong)
    with pytest.raises(ConversionError, match="line 2"):
        imod.write_angles(path, [1, bad])
    with pytest.raises(ConversionError, match="line 1"):
        imod.write_zfactors(path, [[1, bad]])
    assert path.read_text() == "1.00\n"
    assert list(tmp_path.iterdir()) == [path]


def test_arrays_of_another_shape_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for function, shape in [
        (imod.write_angles, (3, 1)),
        (imod.write_angles, (0,)),
        (imod.write_transforms, (3, 6)),
        (imod.write_transforms, (3, 3, 2)),
        (imod.write_zfactors, (3,)),
    ]:
        with pytest.raises(DataError, match="give"):
            function(path, np.zeros(shape))
    with pytest.raises(DataError, match="multiplied"):
        imod.compose_transforms(np.zeros((2, 2, 3)), np.zeros((3, 2, 3)))
    with pytest.raises(StoreError):
        imod.write_angles(tmp_path / "no" / "a", [1.0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("\n \n", "empty"),
        ("1.0\n2,5\n", r"line 2: '2,5'.*decimal comma"),
        ("1.0\n\n2.5\n", "line 2.*blank"),
        ("1.0\n******\n", r"line 2: '\*{6}'.*did not fit"),
        ("1.0\nnan\n", "line 2: 'nan'"),
        ("inf\n", "line 1: 'inf'"),
        ("1_0\n", "line 1"),
        ("1.0 2.0\n", "line 1: '1.0 2.0' is not 'angle'"),
        ("1.0\ntwo\n", "line 2: 'two'"),
    ],
)
def test_what_is_not_an_angle_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "a.tlt", text)
    with pytest.raises(FormatError, match=message) as caught:
        imod.read_angles(path)
    assert str(path) in str(caught.value)


def test_forms_of_numbers_that_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tlt"
    path.write_bytes(b"\xef\xbb\xbf-1.\r\n +.5 \r\n1.5D+01\r\n2e0\r\n\r\n  \r\n")
    np.testing.assert_array_equal(imod.read_angles(path), [-1, 0.5, 15, 2])


def test_tables_that_are_cut_or_binary(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"line 2.*A11 A12"):
        imod.read_transforms(write(tmp_path / "a.xf", "1 0 0 1 0 0\n1 0 0 1 0\n"))
    with pytest.raises(FormatError, match="line 1"):
        imod.read_zfactors(write(tmp_path / "a.zfac", "0.1\n"))
    with pytest.raises(FormatError, match="announces 2 residuals and has 1"):
        imod.read_residuals(write(tmp_path / "a.resid", "2 residuals\n1 2 0 .1 .2\n"))
    with pytest.raises(FormatError, match="line 3"):
        imod.read_residuals(write(tmp_path / "a.resid", "2 residuals\n1 2 0 .1 .2\n1 2 0 .1\n"))
    with pytest.raises(FormatError, match=r"line 1.*n residuals"):
        imod.read_residuals(write(tmp_path / "a.resid", "1 2 0 .1 .2\n"))
    with pytest.raises(FormatError, match="Pix"):
        imod.read_fiducial_xyz(write(tmp_path / "a.xyz", "1 2 3 4 1 1 Pix: x Dim: 5 5\n"))
    (tmp_path / "b.xf").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FormatError, match="not a text"):
        imod.read_transforms(tmp_path / "b.xf")


def test_first_transform_is_applied_first() -> None:
    # Turn a point about the centre, then shift it: unlike shifting and then turning.
    turn = np.array([[[0.0, -1, 0], [1, 0, 0]]])
    shift = np.array([[[1.0, 0, 10], [0, 1, 0]]])
    point = np.array([1.0, 0])
    matrix = imod.compose_transforms(turn, shift)[0]
    np.testing.assert_array_equal(matrix[:, :2] @ point + matrix[:, 2], [10, 1])
    matrix = imod.compose_transforms(shift, turn)[0]
    np.testing.assert_array_equal(matrix[:, :2] @ point + matrix[:, 2], [0, 11])


# The solved alignment of IMOD's tutorial series.


@pytest.mark.parametrize("axis", "ab")
def test_alignment_is_the_product_of_its_parts(data_dir: Path, axis: str) -> None:
    folder = data_dir / "imod_tutorial_bb"
    first = imod.read_transforms(folder / f"BB{axis}.prexg")
    second = imod.read_transforms(folder / f"BB{axis}.tltxf")
    expected = imod.read_transforms(folder / f"BB{axis}.xf")
    assert expected.shape == (61, 2, 3)
    product = imod.compose_transforms(first, second)
    # Factors and product are printed to 7 and 3 decimals; the shift's error is that of the
    # factors' shifts, and of a matrix rounded at 0.5e-7 times shifts of tens of pixels.
    np.testing.assert_allclose(product[:, :, :2], expected[:, :, :2], rtol=0, atol=1.6e-7)
    np.testing.assert_allclose(product[:, :, 2], expected[:, :, 2], rtol=0, atol=1.8e-3)


@pytest.mark.parametrize("axis", "ab")
def test_residuals_have_the_mean_of_the_log(data_dir: Path, axis: str) -> None:
    folder = data_dir / "imod_tutorial_bb"
    residuals = imod.read_residuals(folder / f"BB{axis}.resid")
    log = (folder / f"align{axis}.log").read_text()
    mean, deviation = map(
        float, re.search(r"Residual error mean and sd:\s+(\S+)\s+(\S+)", log).groups()
    )
    lengths = np.hypot(*residuals.residual.T)
    assert lengths.mean() == pytest.approx(mean, abs=1e-3)
    assert lengths.std(ddof=1) == pytest.approx(deviation, abs=1e-3)
    np.testing.assert_array_equal(np.unique(residuals.view), np.arange(61))
    assert residuals.xy.min() > 0
    assert residuals.xy.max() < 512


@pytest.mark.parametrize("axis", "ab")
def test_fiducial_positions(data_dir: Path, axis: str) -> None:
    path = data_dir / "imod_tutorial_bb" / f"BB{axis}fid.xyz"
    fiducials = imod.read_fiducial_xyz(path)
    assert (fiducials.pixel_size, fiducials.image_size) == (20.2, (512, 512))
    lines = path.read_text().splitlines()
    np.testing.assert_array_equal(
        fiducials.xyz, [[float(word) for word in line.split()[1:4]] for line in lines]
    )
    assert set(fiducials.model_object) == {1}
    assert len(set(fiducials.contour)) == len(lines)


def test_every_real_table(data_dir: Path, tmp_path: Path) -> None:
    refused = []
    for path in sorted(data_dir.rglob("*")):
        copy = tmp_path / "copy"
        try:
            if path.suffix in {".tlt", ".rawtlt", ".xtilt"}:
                values = imod.read_angles(path)
                imod.write_angles(copy, values)
                np.testing.assert_array_equal(imod.read_angles(copy), values)
            elif path.suffix in {".xf", ".prexf", ".prexg", ".tltxf"}:
                values = imod.read_transforms(path)
                imod.write_transforms(copy, values)
                np.testing.assert_array_equal(imod.read_transforms(copy), values)
            elif path.suffix == ".zfac":
                values = imod.read_zfactors(path)
                imod.write_zfactors(copy, values)
                np.testing.assert_array_equal(imod.read_zfactors(copy), values)
        except FormatError as error:
            refused.append((path.name, str(error)))
    # This one has the order of acquisition in a second column.
    assert [name for name, _ in refused] == ["TS_03.tlt"]
    assert "'-57.00 117' is not 'angle'" in refused[0][1]

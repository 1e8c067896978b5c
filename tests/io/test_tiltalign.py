"""tiltalign's command files and logs: the tutorial's, and what is refused."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tomodask.errors import ConversionError, DataError, FormatError
from tomodask.io.imod import (
    FiducialPositions,
    Residuals,
    read_fiducial_xyz,
    read_residuals,
    write_fiducial_xyz,
    write_residuals,
)
from tomodask.io.imod_commands import read_commands
from tomodask.io.tiltalign import read_tiltalign
from tomodask.io.tiltalign_log import TiltalignReport, write_tiltalign_log

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_command_file_of_the_tutorial(data_dir: Path) -> None:
    options = read_tiltalign(data_dir / "imod_tutorial_bb" / "aligna.com")
    assert (options.model_file, options.image_file, options.binning) == ("BBa.fid", "BBa.preali", 1)
    assert (options.rotation_angle, options.tilt_file, options.angle_offset) == (
        -12.5,
        "BBa.rawtlt",
        -0.5,
    )
    assert (options.axis_z_shift, options.surfaces, options.report_criterion) == (17.2, 2, 3.0)
    assert options.outputs["OutputZFactorFile"] == "BBa.zfac"
    assert options.image_size is None  # the line is commented out
    assert (options.excluded, options.separate_groups, options.robust) == ((), (), False)
    freedom = {
        name: (variable.freedom, variable.grouping)
        for name, variable in options.variables.items()
        if variable.option is not None
    }
    assert freedom == {
        "rotation": ("free", 5),
        "tilt": ("linear", 5),
        "magnification": ("free", 4),
        "stretch": ("same", 7),
        "skew": ("linear", 11),
    }
    assert options.variables["magnification"].reference_view == 0
    local = options.local
    assert (local.enabled, local.patches, local.size_or_overlap) == (False, (5, 5), (0.5, 0.5))
    assert (local.fiducials, local.fix_xyz) == ((8, 3), True)
    assert local.variables["tilt"].grouping == 6
    assert [option.name for option in options.unknown] == [
        "MetroFactor",
        "MaximumCycles",
        "LocalOutputOptions",
    ]
    assert [command.program for command in options.commands] == [
        *("tiltalign", "xfproduct", "cp", "cp", "if", "if")
    ]


def test_freedom_is_what_the_log_tells(data_dir: Path) -> None:
    """The log's mapping names a variable for every view, with '+' between two of them."""
    folder = data_dir / "imod_tutorial_bb"
    lines = (folder / "aligna.log").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if "Variable mappings" in line) + 2
    rows = lines[start : start + 61]
    freedom = {k: v.freedom for k, v in read_tiltalign(folder / "aligna.com").variables.items()}
    word = r"(fixed|\w+ +\d+(?:\+ *\w+)?)"
    cells = [re.fullmatch(r"\s*\d+" + rf"\s+{word}" * 6 + r"\s*", row).groups() for row in rows]
    names = ("rotation", "tilt", "magnification", "compression", "stretch", "skew")
    for name, column in zip(names, zip(*cells, strict=True), strict=True):
        varied = set(column) - {"fixed"}
        if freedom[name] is None:
            assert not varied
        elif freedom[name] == "free":
            assert len(varied) >= 60, name
        elif freedom[name] == "linear":
            assert any("+" in word for word in varied), name
        else:
            assert freedom[name] == "same"
            assert 1 < len(varied) < 20
            assert not any("+" in word for word in varied), name


def test_every_kind_of_line(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.com",
        "# text\n"
        "$setenv IMOD_OUTPUT_FORMAT MRC\n"
        "$ /usr/local/bin/tiltalign -StandardInput\r\n"
        "ModelFile\tmy beads.fid\n"
        "  ImageSizeXandY 1024, 960\n"
        "ImagesAreBinned 4\n"
        "ExcludeList 1-3,7\n"
        "ExcludeList 11\n"
        "SeparateGroup 1-2\n"
        "SeparateGroup 5,9-10\n"
        "RotOption -1\n"
        "TiltOption 3\nTiltFixedView 4\nTiltSecondFixedView 9\n"
        "TiltNondefaultGroup 1,5,3\nTiltNondefaultGroup 6 9 2\n"
        "XTiltOption 4\nBeamTiltOption 2\nFixedOrInitialBeamTilt -.5\n"
        "RobustFitting\n"
        "FirstTiltAngle -60\nTiltIncrement 1.5D0\n"
        "FutureOption 3 of 4\n"
        "$b3dcopy a b\n"
        "ModelFile not tiltalign's\n",
    )
    options = read_tiltalign(path)
    assert (options.model_file, options.image_size) == ("my beads.fid", (1024, 960))
    assert options.binning == 4
    assert options.excluded == (0, 1, 2, 6, 10)
    assert options.separate_groups == ((0, 1), (4, 8, 9))
    assert options.variables["rotation"].freedom == "single"
    tilt = options.variables["tilt"]
    assert (tilt.freedom, tilt.reference_view, tilt.second_reference_view) == ("free", 3, 8)
    assert tilt.other_groups == ((0, 4, 3), (5, 8, 2))
    assert options.variables["x_tilt"].freedom == "same"
    assert options.variables["skew"].freedom is None
    assert (options.beam_tilt_option, options.beam_tilt, options.robust) == (2, -0.5, True)
    assert (options.first_tilt_angle, options.tilt_increment) == (-60, 1.5)
    (unknown,) = options.unknown
    assert (unknown.name, unknown.value, unknown.line) == ("FutureOption", "3 of 4", 23)
    assert read_commands(path)[0].arguments == "IMOD_OUTPUT_FORMAT MRC"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("RotationAngle north", "line 2: RotationAngle 'north' is not a number"),
        ("RotationAngle", "line 2.*not a number"),
        ("ImagesAreBinned 1.5", "not a whole number"),
        ("ImageSizeXandY 512", "not 2 numbers"),
        ("ExcludeList 3-1", "views from 1"),
        ("ExcludeList 0", "views from 1"),
        ("LocalAlignments yes", "not 0 or 1"),
        ("ModelFile", "not a name"),
        ("SkewOption 9", "SkewOption 9 is none of"),
        ("SkewOption 1\nSkewOption 2", "line 3: SkewOption is given again.*line 2"),
    ],
)
def test_wrong_values_name_the_line(tmp_path: Path, line: str, words: str) -> None:
    path = write(tmp_path / "a.com", f"$tiltalign -StandardInput\n{line}\n")
    with pytest.raises(FormatError, match=words) as caught:
        read_tiltalign(path)
    assert str(path) in str(caught.value)


def test_files_that_run_no_tiltalign(data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="0 times"):
        read_tiltalign(data_dir / "imod_tutorial_bb" / "tracka.com")
    with pytest.raises(FormatError, match="belongs to no program"):
        read_tiltalign(write(tmp_path / "a.com", "ModelFile a.fid\n"))
    with pytest.raises(FormatError, match="starts no program"):
        read_tiltalign(write(tmp_path / "a.com", "$\n"))


def test_every_real_command_file(data_dir: Path) -> None:
    for path in data_dir.rglob("*.com"):
        assert read_commands(path), path


@pytest.mark.parametrize("axis", "ab")
def test_tables_of_the_tutorial_are_written_and_read(
    data_dir: Path, tmp_path: Path, axis: str
) -> None:
    folder = data_dir / "imod_tutorial_bb"
    residuals = read_residuals(folder / f"BB{axis}.resid")
    write_residuals(tmp_path / "a.resid", residuals)
    found = read_residuals(tmp_path / "a.resid")
    for name in ("xy", "view", "residual"):
        np.testing.assert_array_equal(getattr(found, name), getattr(residuals, name))
    positions = read_fiducial_xyz(folder / f"BB{axis}fid.xyz")
    write_fiducial_xyz(tmp_path / "a.xyz", positions)
    again = read_fiducial_xyz(tmp_path / "a.xyz")
    for name in ("xyz", "model_object", "contour"):
        np.testing.assert_array_equal(getattr(again, name), getattr(positions, name))
    assert (again.pixel_size, again.image_size) == (20.2, (512, 512))
    # tiltalign counts the points in the first column.
    numbers = [int(line.split()[0]) for line in (tmp_path / "a.xyz").read_text().splitlines()]
    assert numbers == list(range(1, 26))


def test_tables_that_cannot_be_written(tmp_path: Path) -> None:
    none = np.empty(0, np.int64)
    with pytest.raises(DataError, match="shape"):
        write_residuals(tmp_path / "a", Residuals(np.empty((0, 2)), none, np.empty((0, 2))))
    one = np.ones(1, np.int64)
    with pytest.raises(ConversionError, match="line 2"):
        write_residuals(tmp_path / "a", Residuals(np.ones((1, 2)), one, np.full((1, 2), np.nan)))
    write_fiducial_xyz(tmp_path / "a", FiducialPositions(np.ones((1, 3)), one, one, None, None))
    assert "Pix" not in (tmp_path / "a").read_text()


def report(**changes: object) -> TiltalignReport:
    """Two points in three views; one residual is large."""
    residual = np.array([[0.1, 0], [0, 0.12], [-0.1, 0], [0, 0.09], [0.11, 0], [3.0, -4.0]])
    values: dict[str, object] = {
        "view": np.array([0, 1, 3]),
        "rotation": np.array([-11.1, -11.14, 85.26]),
        "tilt": np.array([64.36, 0.0, -60.0]),
        "tilt_change": np.array([-0.13, 0, 0.2]),
        "magnification": np.array([1, 0.9987, 1.01]),
        "stretch": np.array([-0.0028, 0, 0.001]),
        "skew": np.array([0.12, 0, -0.2]),
        "mean_residual": np.array([0.42, 0.1, 2.5]),
        "xyz": np.array([[-21.64, 25.19, 45.83], [31, 1.01, -35.58]]),
        "point_object": np.array([1, 2]),
        "point_contour": np.array([1, 14]),
        "observed_point": np.array([0, 0, 0, 1, 1, 1]),
        "observed_view": np.array([0, 1, 3, 0, 1, 3]),
        "position": np.array([[281.29, 236.95]] * 5 + [[100.5, 200.25]]),
        "residual": residual,
        "variables": 9,
        "unknowns": 10,
        "report_criterion": 2.0,
        **changes,
    }
    return TiltalignReport(**values)  # type: ignore[arg-type]


def test_log_has_the_columns_of_a_real_one(data_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    write_tiltalign_log(path, report())
    lines = path.read_text().splitlines()
    real = (data_dir / "imod_tutorial_bb" / "aligna.log").read_text().splitlines()

    def at(text: list[str], words: str) -> int:
        return next(i for i, line in enumerate(text) if words in line)

    head = " view   rotation    tilt    deltilt     mag      dmag      skew    mean resid"
    assert head in lines
    assert head in real
    # The first row has the values of the tutorial's first view.
    assert lines[at(lines, " view   rot") + 1] == real[at(real, " view   rot") + 1]
    for words in ("Projection points with large residuals", "obj  cont  view   index"):
        assert lines[at(lines, words)] == real[at(real, words)]
    assert lines[at(lines, "centroid zero")] == real[at(real, "centroid zero")]
    row = lines[at(lines, "centroid zero") + 2].split()
    assert row[:6] == real[at(real, "centroid zero") + 2].split()


def test_log_tells_what_was_solved(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    weights = np.array([1, 1, 1, 1, 1, 0.0])
    write_tiltalign_log(path, report(weight=weights, leave_out_error=0.5))
    text = path.read_text()
    sizes = np.array([0.1, 0.12, 0.1, 0.09, 0.11, 5.0])
    mean, deviation = map(float, re.search(r"mean and sd:\s+(\S+)\s+(\S+)", text).groups())
    assert mean == pytest.approx(sizes.mean(), abs=5e-4)
    assert deviation == pytest.approx(sizes.std(ddof=1), abs=5e-4)
    assert re.search(r"unknowns =\s+12/\s+10 =\s+1.20", text)
    assert re.search(r"weighted mean:\s+0.104", text)
    assert re.search(r"leave-out:\s+0.500", text)
    large = text[text.index("# of") :].splitlines()[2:]
    assert [line.split() for line in large if line] == [
        ["2", "14", "4", "100.50", "200.25", "3.00", "-4.00", f"{(5 - mean) / deviation:.2f}"]
    ]
    assert text.count(" 14") == 2  # the point and its observation


def test_log_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 observations"):
        write_tiltalign_log(tmp_path / "a.log", report(residual=np.ones((1, 2))))
    with pytest.raises(ConversionError, match="finite"):
        write_tiltalign_log(tmp_path / "a.log", report(residual=np.full((6, 2), np.nan)))

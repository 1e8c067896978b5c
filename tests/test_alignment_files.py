"""Alignments from and to the files of IMOD and AreTomo, in the store of a series."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import tomodask as td
from tests.image_sample import PIXEL, contents, stored
from tomodask.cli import main
from tomodask.errors import ConversionError, DataError, ParameterError, TomodaskWarning
from tomodask.geometry import LocalField, Projection
from tomodask.io.imod import read_angles, read_transforms
from tomodask.io.series import write_coordinates
from tomodask.model import alignment_dataset, projection_of

if TYPE_CHECKING:
    from pathlib import Path

#: Recorded angles, not in their order, as of a stack that was never sorted.
ANGLES = np.array([0.0, 12.0, -12.0, -24.0, 24.0, 36.0, -36.0])
#: The section of each view.
SECTION = np.array([3, 1, 0, 2, 4, 6, 5])
VIEWS = len(ANGLES)
SHAPE = (90, 121)
EXCLUDED = [1, 5]
POINTS = np.array([[300.0, -400.0, 100.0], [-100.0, 200.0, -80.0], [450.0, 300.0, 0.0]])
#: Shifts have 4 decimals of a pixel, matrices 9, angles 4: 5e-5 px x 10 A, 5e-5 deg x 600 A.
IMOD_DIGITS = 2e-3
#: Rotations have 4 decimals, shifts 3 of a pixel, angles 2 of a degree, and 600 A from the axis.
ARETOMO_DIGITS = 0.1


def series(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    path = stored(folder / "a.zarr", ANGLES, np.ones((VIEWS, *SHAPE), np.float32))
    included = ~np.isin(np.arange(VIEWS), EXCLUDED)
    write_coordinates(path, {"section": SECTION, "included": included})
    return path


def plain(**more: Any) -> Projection:
    """Rotation, tilt and shift alone, all that AreTomo knows."""
    rng = np.random.default_rng(1)
    return Projection.create(
        ANGLES + rng.normal(0, 0.2, VIEWS),
        tilt_axis_angle=85.0 + rng.normal(0, 0.2, VIEWS),
        shift=rng.normal(0, 40, (VIEWS, 2)),
        **more,
    )


def full(**more: Any) -> Projection:
    """All that IMOD's files hold."""
    rng = np.random.default_rng(2)
    return plain(
        magnification=1 + rng.normal(0, 0.003, VIEWS),
        stretch=rng.normal(0, 0.002, VIEWS),
        skew=rng.normal(0, 0.002, VIEWS),
        x_tilt=1.5,
        z_factor=rng.normal(0, 0.003, (VIEWS, 2)),
        **more,
    )


def field() -> LocalField:
    rng = np.random.default_rng(3)
    knots = np.array([-300.0, 0.0, 300.0])
    return LocalField.create(
        knots,
        1.5 * knots,
        rng.normal(0, 8, (VIEWS, 3, 3, 2)),
        rng.normal(0, 0.01, (VIEWS, 3, 3, 2)),
    )


def with_alignment(folder: Path, projection: Projection, name: str = "mine") -> Path:
    path = series(folder)
    td.store_alignment(path, alignment_dataset(projection, method="by hand"), name=name)
    return path


def stored_projection(path: Path, name: str) -> Projection:
    return projection_of(td.open(path)["alignments"][name].to_dataset())


def test_imod_round_trip(tmp_path: Path) -> None:
    path = with_alignment(tmp_path, full())
    written = td.export_alignment(td.open(path), tmp_path / "o", alignment="mine")
    kinds = ["xf", "tlt", "xtilt", "zfac", "excluded"]
    assert [file.name for file in written] == [f"mine.{kind}" for kind in kinds]
    xf, tlt, xtilt, zfac, _ = written
    found = td.import_alignment(path, xf=xf, tlt=tlt, xtilt=xtilt, zfac=zfac)
    again = stored_projection(path, "imported")
    np.testing.assert_allclose(again.project(POINTS), full().project(POINTS), atol=IMOD_DIGITS)
    assert found.attrs["method"] == "imported"
    assert found.attrs["provenance"]["xf"] == "mine.xf"


def test_lines_are_sections(tmp_path: Path) -> None:
    path = with_alignment(tmp_path, full())
    td.export_alignment(td.open(path), tmp_path / "o", alignment="mine")
    angles = read_angles(tmp_path / "o" / "mine.tlt")
    np.testing.assert_allclose(angles[SECTION], full().tilt_angle, atol=6e-5)
    transforms = read_transforms(tmp_path / "o" / "mine.xf")
    np.testing.assert_allclose(transforms[SECTION], full().to_transforms(PIXEL), atol=6e-5)
    # Excluded views have their lines; their sections are listed, from 1.
    listed = (tmp_path / "o" / "mine.excluded").read_text().split()
    assert listed == [str(n) for n in sorted(SECTION[EXCLUDED] + 1)]


def test_local_alignments(tmp_path: Path) -> None:
    path = with_alignment(tmp_path, full(local=field()))
    written = td.export_alignment(td.open(path), tmp_path / "o", alignment="mine")
    files = {file.name.removeprefix("mine.").replace(".", "_"): file for file in written}
    del files["excluded"]
    assert set(files) == {"xf", "tlt", "xtilt", "zfac", "local_xf"}
    td.import_alignment(path, **files)
    again, expected = stored_projection(path, "imported"), full(local=field())
    assert again.local is not None
    # The field is written as areas, which lie close enough for 0.05 pixel where z is 0.
    apart = again.project(POINTS) - expected.project(POINTS)
    moved = full().project(POINTS) - expected.project(POINTS)
    assert np.abs(moved).max() > 5
    assert np.abs(apart[:, 2]).max() < 0.06 * PIXEL
    assert np.abs(apart).max() < 0.1 * PIXEL
    # without the file the same views see a rigid specimen
    del files["local_xf"]
    td.import_alignment(path, name="rigid", **files)
    assert stored_projection(path, "rigid").local is None


def test_what_is_not_there_any_more_does_not_stay(tmp_path: Path) -> None:
    first = with_alignment(tmp_path / "1", full(local=field()))
    td.export_alignment(td.open(first), tmp_path / "o", alignment="mine")
    second = with_alignment(tmp_path / "2", plain())
    write_coordinates(second, {"included": np.ones(VIEWS, bool)})
    (tmp_path / "o" / "other.zfac").write_text("not ours")
    td.export_alignment(td.open(second), tmp_path / "o", alignment="mine")
    assert {file.name for file in (tmp_path / "o").iterdir()} == {
        "mine.xf",
        "mine.tlt",
        "other.zfac",
    }


def test_without_solved_angles_the_nominal_ones_hold(tmp_path: Path) -> None:
    path = with_alignment(tmp_path, plain())
    td.export_alignment(td.open(path), tmp_path / "o", alignment="mine")
    found = td.import_alignment(path, xf=tmp_path / "o" / "mine.xf")
    np.testing.assert_array_equal(found["tilt_angle"], ANGLES)


def test_offset_and_height_are_applied(tmp_path: Path) -> None:
    """What positioning adds is part of what other programs get."""
    placed = alignment_dataset(plain(), method="by hand", tilt_offset=4.0, z_shift=120.0)
    path = series(tmp_path)
    td.store_alignment(path, placed, name="placed")
    td.export_alignment(td.open(path), tmp_path / "o", alignment="placed")
    angles = read_angles(tmp_path / "o" / "placed.tlt")
    np.testing.assert_allclose(angles[SECTION], plain().tilt_angle + 4, atol=6e-5)
    td.import_alignment(path, xf=tmp_path / "o" / "placed.xf", tlt=tmp_path / "o" / "placed.tlt")
    tilt, axis = np.deg2rad(plain().tilt_angle + 4), np.deg2rad(plain().tilt_axis_angle)
    x, y, z = POINTS[0] + [0, 0, 120.0]
    u, v = x * np.cos(tilt) + z * np.sin(tilt), y
    raw = np.stack([u * np.cos(axis) - v * np.sin(axis), u * np.sin(axis) + v * np.cos(axis)], 1)
    found = stored_projection(path, "imported").project(POINTS[:1])[:, 0]
    np.testing.assert_allclose(found, raw + plain().shift, atol=IMOD_DIGITS)


def test_aretomo_round_trip(tmp_path: Path) -> None:
    """Excluded views become dark images, which have no alignment when they come back."""
    path = with_alignment(tmp_path, plain())
    (written,) = td.export_alignment(
        td.open(path), tmp_path / "o", alignment="mine", format="aretomo"
    )
    assert written.name == "mine.aln"
    lines = written.read_text().splitlines()
    assert sum("DarkFrame" in line for line in lines) == len(EXCLUDED)
    rows = np.array([line.split() for line in lines if not line.startswith("#")], float)
    kept = np.setdiff1d(np.arange(VIEWS), EXCLUDED)
    kept = kept[np.argsort(ANGLES[kept])]
    np.testing.assert_allclose(rows[:, -1], plain().tilt_angle[kept], atol=0.006)
    found = td.import_alignment(path, aln=written)
    again = stored_projection(path, "imported")
    apart = again.project(POINTS) - plain().project(POINTS)
    assert np.abs(apart[kept]).max() < ARETOMO_DIGITS
    np.testing.assert_array_equal(np.flatnonzero(~found["found"]), EXCLUDED)
    np.testing.assert_array_equal(again.tilt_angle[EXCLUDED], ANGLES[EXCLUDED])


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"magnification": 1.01}, "magnification"),
        ({"stretch": 0.01}, "stretch"),
        ({"skew": 0.01}, "skew"),
        ({"x_tilt": 1.0}, "x-tilt"),
        ({"z_factor": (0.01, 0.0)}, "z factor"),
        ({"local": field()}, "local field"),
    ],
)
def test_what_aretomo_cannot_hold_is_refused(
    tmp_path: Path, more: dict[str, Any], words: str
) -> None:
    path = with_alignment(tmp_path, plain(**more))
    with pytest.raises(ConversionError, match=words):
        td.export_alignment(td.open(path), tmp_path / "o", alignment="mine", format="aretomo")
    assert not list((tmp_path / "o").iterdir())


def test_local_shifts_of_aretomo_are_left_out_and_said(data_dir: Path, tmp_path: Path) -> None:
    from tomodask.io.aretomo import read_aln

    files = sorted((data_dir / "metadata" / "aretomo").rglob("*.aln"))
    local = [file for file in files if read_aln(file).local is not None]
    assert local
    read = read_aln(local[0])
    angles = np.empty(len(read.view) + len(read.dark))
    angles[read.view] = read.tilt_angle
    for dark in read.dark:
        angles[dark.view] = dark.tilt_angle
    path = stored(tmp_path / "a.zarr", angles, np.ones((len(angles), 8, 8), np.float32))
    with pytest.warns(TomodaskWarning, match="local alignment is left out"):
        found = td.import_alignment(path, aln=local[0])
    np.testing.assert_allclose(found["tilt_angle"].values[read.view], read.tilt_angle)
    np.testing.assert_allclose(found["shift_x"].values[read.view], read.shift[:, 0] * PIXEL)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = with_alignment(tmp_path, full())
    out = tmp_path / "o"
    td.export_alignment(td.open(path), out, alignment="mine")
    before = contents(path / "alignments")

    def refused(error: type[Exception], words: str, **files: Any) -> None:
        with pytest.raises(error, match=words):
            td.import_alignment(path, **files)
        assert contents(path / "alignments") == before

    xf, tlt, zfac = (out / f"mine.{kind}" for kind in ("xf", "tlt", "zfac"))
    refused(ParameterError, "--xf.*--aln")
    refused(ParameterError, "--xf.*--aln", xf=xf, aln=xf)
    refused(ParameterError, "belong to xf", aln=out / "mine.aln", tlt=tlt)
    refused(ConversionError, "--zfac", xf=xf, tlt=tlt)
    refused(ParameterError, "'mine'.*already|already.*'mine'", xf=xf, zfac=zfac, name="mine")
    refused(ParameterError, "letters, digits", xf=xf, zfac=zfac, name="a/b")
    for kind in ("xf", "tlt", "zfac"):
        short = tmp_path / f"short.{kind}"
        short.write_text("".join((out / f"mine.{kind}").read_text().splitlines(True)[:-1]))
        refused(DataError, f"short.{kind} has 6 lines, the series has 7", **{
            "xf": xf, "tlt": tlt, "zfac": zfac, kind: short
        })  # fmt: skip
    plain_path = with_alignment(tmp_path / "p", plain())
    (aln,) = td.export_alignment(td.open(plain_path), out, alignment="mine", format="aretomo")
    other = stored(tmp_path / "q.zarr", ANGLES[:6], np.ones((6, *SHAPE), np.float32))
    with pytest.raises(DataError, match="is of 7 views, the series has 6"):
        td.import_alignment(other, aln=aln)
    assert "alignments" not in td.open(other).children
    with pytest.raises(ParameterError, match="format 'relion'"):
        td.export_alignment(td.open(path), out, alignment="mine", format="relion")  # type: ignore[arg-type]


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = with_alignment(tmp_path, plain())
    export = ["export", str(path), "--alignment", "mine", "--out", str(tmp_path / "o")]
    assert main([*export, "--format", "aretomo"]) == 0
    assert capsys.readouterr().out == f"wrote      {tmp_path}/o/mine.aln\n"
    assert main(export) == 0
    names = [line.split("/")[-1] for line in capsys.readouterr().out.splitlines()]
    assert names == ["mine.xf", "mine.tlt", "mine.excluded"]
    imported = ["import-alignment", str(path), "--name", "again"]
    files = [f"--xf={tmp_path}/o/mine.xf", f"--tlt={tmp_path}/o/mine.tlt"]
    assert main([*imported, *files]) == 0
    axis = np.median(plain().tilt_axis_angle)
    assert capsys.readouterr().out == f"alignment  again: 7 views, tilt axis {axis:.2f} deg\n"
    assert main([*imported, *files]) == 2
    assert main([*imported, *files, "--overwrite"]) == 0
    assert main([*imported, f"--aln={tmp_path}/o/mine.aln", "--overwrite"]) == 0
    assert main(imported) == 2
    assert main([*imported, f"--xf={tmp_path}/none.xf", "--overwrite"]) == 1
    stack = ["export", str(path), "--stack", str(tmp_path / "a.st"), "--format", "aretomo"]
    assert main(stack) == 2
    assert main([*export, "--format", "mrc"]) == 2
    skewed = with_alignment(tmp_path / "s", plain(skew=0.01))
    command = ["export", str(skewed), "--alignment", "mine", "--out", str(tmp_path / "o")]
    capsys.readouterr()
    assert main([*command, "--format", "aretomo"]) == 1
    assert "skew" in capsys.readouterr().err

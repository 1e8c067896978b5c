"""Fiducial models solved from anywhere: the tutorial series of IMOD, as its tiltalign solves it."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import tomodask as td
from tomodask.cli import main
from tomodask.errors import DataError, ParameterError
from tomodask.io.fiducials import read_fiducials, write_fiducials
from tomodask.io.imod import (
    read_angles,
    read_fiducial_xyz,
    read_residuals,
    read_transforms,
    read_zfactors,
    write_angles,
)
from tomodask.io.tiltalign import read_tiltalign
from tomodask.tiltalign_variables import not_followed, tiltalign_variables

if TYPE_CHECKING:
    from pathlib import Path

    from tomodask.model_solving import SolvedModel

#: Mean and standard deviation of the residual, and angle offset, as in IMOD's log.
LOGGED = {"a": (0.315, 0.176, -0.5), "b": (0.336, 0.186, -2.11)}
VIEWS = 61


@pytest.fixture(scope="module")
def tutorial(data_dir: Path) -> Path:
    return data_dir / "imod_tutorial_bb"


@pytest.fixture(scope="module", params=LOGGED)
def solved(
    request: pytest.FixtureRequest, tutorial: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, SolvedModel]:
    """Axis, folder of the results, result: with the variables of the command file."""
    axis, out = request.param, tmp_path_factory.mktemp(request.param)
    return (
        axis,
        out,
        td.solve_model(tutorial / f"BB{axis}.fid", out, com=tutorial / f"align{axis}.com"),
    )


class Files:
    """What tiltalign's files say of the views, in the terms of its manual."""

    def __init__(self, stem: Path) -> None:
        transforms = read_transforms(stem.with_suffix(".tltxf"))
        self.tilt = read_angles(stem.with_suffix(".tlt"))
        self.factor = read_zfactors(stem.with_suffix(".zfac"))
        self.inverse = np.linalg.inv(transforms[:, :, :2])
        self.shift = -np.einsum("vij,vj->vi", self.inverse, transforms[:, :, 2])
        # What follows is a polar decomposition: rotation of the axis, scale, stretch and skew.
        u, s, vh = np.linalg.svd(self.inverse)
        turn = u @ vh
        self.rotation = np.rad2deg(np.arctan2(turn[:, 1, 0], turn[:, 0, 0]))
        self.magnification = s.mean(axis=1)
        self.strain = (
            vh.transpose(0, 2, 1) @ (s[:, :, None] * vh) / self.magnification[:, None, None]
        )

    def project(self, xyz: np.ndarray) -> np.ndarray:
        """(view, point, 2) places in the prealigned stack from its centre, pixels."""
        t = np.deg2rad(self.tilt)[:, None]
        x, y, z = xyz.T
        u = x * np.cos(t) + z * (np.sin(t) + self.factor[:, :1])
        v = y + z * self.factor[:, 1:]
        found: np.ndarray = np.einsum("vij,vpj->vpi", self.inverse, np.stack([u, v], axis=-1))
        found += self.shift[:, None]
        return found


def test_the_residual_is_that_of_tiltalign(solved: tuple[str, Path, SolvedModel]) -> None:
    axis, out, result = solved
    mean, deviation, _ = LOGGED[axis]
    length = np.hypot(*read_residuals(out / f"BB{axis}.resid").residual.T)
    assert len(length) == VIEWS * 25
    assert length.mean() <= mean + 0.0005  # as the log rounds it
    assert length.std(ddof=1) <= deviation + 0.0005
    log = (out / f"BB{axis}.log").read_text()
    assert f"{VIEWS} views,  149 geometric variables,   25 3-D points,  1525 projection" in log
    # Two shifts a view and three coordinates a point beside them, less the origin's three.
    assert f"= {2 * VIEWS * 25:5d}/{149 + 2 * VIEWS + 3 * 25 - 3:4d} =" in log
    assert f"mean {mean:.3f} px, sd {deviation:.3f} px" in "\n".join(result.lines)
    assert not [line for line in result.lines if line.startswith("warning")]


def test_the_files_are_those_of_tiltalign(
    solved: tuple[str, Path, SolvedModel], tutorial: Path
) -> None:
    axis, out, _ = solved
    found, expected = Files(out / f"BB{axis}"), Files(tutorial / f"BB{axis}")
    np.testing.assert_allclose(found.tilt, expected.tilt, atol=0.05)
    np.testing.assert_allclose(found.rotation, expected.rotation, atol=0.05)
    # 0.05 pixels at the edge of the images, 256 pixels from their centre
    np.testing.assert_allclose(found.magnification, expected.magnification, atol=2e-4)
    np.testing.assert_allclose(found.strain, expected.strain, atol=5e-4)
    np.testing.assert_allclose(found.factor, expected.factor, atol=5e-4)
    xyz = read_fiducial_xyz(out / f"BB{axis}.xyz").xyz - [256, 256, 0]
    theirs = read_fiducial_xyz(tutorial / f"BB{axis}fid.xyz").xyz - [256, 256, 0]
    # The origin in the plane of the specimen is anywhere; its height is what AxisZShift says.
    origin = (xyz - theirs).mean(axis=0)
    assert abs(origin[2]) < 0.01
    assert np.hypot(*origin[:2]) < 0.5
    np.testing.assert_allclose(xyz - theirs, np.tile(origin, (25, 1)), atol=0.05)
    # tiltalign's shifts leave out the z factors of the height that AxisZShift adds, so that its
    # files disagree with its own residuals by as much.
    lift = read_tiltalign(tutorial / f"align{axis}.com").axis_z_shift
    left_out = np.einsum("vij,vj->vi", expected.inverse, expected.factor * lift)[:, None]
    apart = found.project(xyz) - expected.project(theirs) - left_out
    assert np.abs(apart).max() < 0.05


def test_the_files_tell_the_residuals(
    solved: tuple[str, Path, SolvedModel], tutorial: Path
) -> None:
    """.tltxf, .tlt, .zfac and .xyz, by hand, predict what .resid says."""
    axis, out, _ = solved
    listed = read_residuals(out / f"BB{axis}.resid")
    points = read_fiducial_xyz(out / f"BB{axis}.xyz")
    model = read_fiducials(tutorial / f"BB{axis}.fid")
    predicted = Files(out / f"BB{axis}").project(points.xyz - [256, 256, 0])
    contours = points.contour.tolist()
    of = np.array([contours.index(number) for number in model.contour])
    residual = predicted[model.view, of] - model.position
    order = np.lexsort((*model.position.T, model.view))
    same = np.lexsort((*(listed.xy - 256).T, listed.view))
    # Files: 4 decimals of a pixel and of a degree (0.0005 px at 300 px); residuals: 2 decimals
    np.testing.assert_allclose(residual[order], listed.residual[same], atol=0.008)


def test_the_projection_is_that_of_the_files(solved: tuple[str, Path, SolvedModel]) -> None:
    axis, out, result = solved
    xyz = read_fiducial_xyz(out / f"BB{axis}.xyz").xyz - [256, 256, 0]
    expected = Files(out / f"BB{axis}").project(xyz)
    np.testing.assert_allclose(result.projection.project(xyz * 20.2) / 20.2, expected, atol=3e-3)


def test_variables_are_those_that_tiltalign_prints(tutorial: Path) -> None:
    """The log has, for each view, the variables by name and what it lies between."""
    for axis, (_, _, offset) in LOGGED.items():
        lines = (tutorial / f"align{axis}.log").read_text().splitlines()
        start = next(i for i, line in enumerate(lines) if "Variable mappings" in line) + 2
        word = r"(fixed|\w+ +\d+(?:\+ *\w+)?)"
        cells = [
            re.fullmatch(r"\s*\d+" + rf"\s+{word}" * 6 + r"\s*", line)
            for line in lines[start : start + VIEWS]
        ]
        columns = zip(*(cell.groups() for cell in cells if cell is not None), strict=True)
        names = ("rotation", "tilt", "magnification", "compression", "stretch", "skew")
        logged = dict(zip(names, columns, strict=True))
        angles = read_angles(tutorial / f"BB{axis}.rawtlt") + offset
        model = read_fiducials(tutorial / f"BB{axis}.fid")
        options = read_tiltalign(tutorial / f"align{axis}.com")
        variables = tiltalign_variables(options, angles, model.view)
        components = variables.components(angles, np.ones(VIEWS, bool))
        basis = {one.parameter: one.basis for one in components}
        assert set(basis) == set(names) - {"compression"}
        assert sum(one.shape[1] for one in basis.values()) == 149
        for name, matrix in basis.items():
            fixed = [view for view, text in enumerate(logged[name]) if text == "fixed"]
            np.testing.assert_array_equal(np.flatnonzero(~matrix.any(axis=1)), fixed, name)
            alone = [view for view, text in enumerate(logged[name]) if "+" not in text]
            np.testing.assert_array_equal(
                np.flatnonzero(matrix.max(axis=1) == 1), np.setdiff1d(alone, fixed)
            )
            first = [
                view for view, text in enumerate(logged[name]) if text.split()[-1] == str(view + 1)
            ]
            owners = [int(np.flatnonzero(column == 1)[0]) for column in matrix.T]
            assert sorted(owners) == [view for view in first if "+" not in logged[name][view]], name


def test_without_a_command_file(tutorial: Path, tmp_path: Path) -> None:
    result = td.solve_model(
        tutorial / "BBa.fid", tmp_path, tilt_angles=tutorial / "BBa.rawtlt", tilt_axis=-12.5
    )
    assert result.solution.solved.all()
    length = np.hypot(*read_residuals(tmp_path / "BBa.resid").residual.T)
    assert length.mean() < 0.34  # with a third of the unknowns less than tiltalign's
    assert result.solution.unknowns < 250
    # The axis that IMOD found, in its own file, and ours: a mean over views
    axis = Files(tutorial / "BBa").rotation.mean()
    assert np.median(result.solution.rotation) == pytest.approx(axis, abs=0.1)


def test_the_command(tutorial: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    com = ["--com", str(tutorial / "aligna.com"), "--out", str(tmp_path / "o")]
    assert main(["solve", str(tutorial / "BBa.fid"), *com]) == 0
    printed = capsys.readouterr().out
    assert "residual   mean 0.315 px, sd 0.176 px" in printed
    written = {line.split("/")[-1] for line in printed.splitlines() if line.startswith("wrote")}
    suffixes = ("tltxf", "tlt", "zfac", "xyz", "resid", "log")
    assert written == {f"BBa.{suffix}" for suffix in suffixes}
    assert {path.name for path in (tmp_path / "o").iterdir()} == written
    model = ["solve", str(tutorial / "BBa.fid"), "--out", str(tmp_path / "p")]
    assert main(model) == 2
    assert "--tilt-angles" in capsys.readouterr().err
    angles = ["--tilt-angles", str(tutorial / "BBa.rawtlt")]
    assert main([*model, *angles]) == 2
    assert "--tilt-axis" in capsys.readouterr().err
    assert main([*model, *angles, "--tilt-axis", "-12.5"]) == 0
    assert main(["solve", str(tmp_path / "none.fid"), *com]) == 1


def edited(tutorial: Path, folder: Path, *lines: str) -> Path:
    """A command file beside its angles, with lines added to it."""
    shutil.copy(tutorial / "BBa.rawtlt", folder)
    text = (tutorial / "aligna.com").read_text()
    path = folder / "align.com"
    path.write_text(text.replace("AxisZShift\t17.2\n", "\n".join([*lines, ""])))
    return path


def test_excluded_views_take_no_part(tutorial: Path, tmp_path: Path) -> None:
    com = edited(tutorial, tmp_path, "ExcludeList 1,30-31")
    result = td.solve_model(tutorial / "BBa.fid", tmp_path, com=com)
    listed = read_residuals(tmp_path / "BBa.resid")
    assert not np.isin(listed.view, (0, 29, 30)).any()
    assert len(listed.view) == 25 * 58
    assert np.flatnonzero(~result.solution.solved).tolist() == [0, 29, 30]
    assert len(read_transforms(tmp_path / "BBa.tltxf")) == VIEWS
    assert not [line for line in result.lines if line.startswith("warning")]


def test_the_offset_turns_the_specimen_and_the_shift_lifts_it(
    tutorial: Path, tmp_path: Path
) -> None:
    """Turned by 3 degrees about y it fits as well where all tilts are free to follow."""

    def solve(folder: str, *lines: str) -> tuple[np.ndarray, np.ndarray]:
        (tmp_path / folder).mkdir()
        com = edited(tutorial, tmp_path / folder, *lines)
        com.write_text(
            re.sub(r"(Tilt|Mag|XStretch|Skew)Option\t\d", r"\1Option\t0", com.read_text())
        )
        td.solve_model(tutorial / "BBa.fid", tmp_path / folder, com=com)
        points = read_fiducial_xyz(tmp_path / folder / "BBa.xyz").xyz
        return points - [256, 256, 0], read_angles(tmp_path / folder / "BBa.tlt")

    flat, tilt = solve("flat", "AxisZShift 0")
    high, _ = solve("high", "AxisZShift 10")
    np.testing.assert_allclose((high - flat)[:, 2], -10, atol=2e-3)
    (tmp_path / "turned").mkdir()
    com = edited(tutorial, tmp_path / "turned", "AxisZShift 0")
    text = re.sub(r"(Tilt|Mag|XStretch|Skew)Option\t\d", r"\1Option\t0", com.read_text())
    com.write_text(text.replace("AngleOffset\t-0.5", "AngleOffset\t2.5"))
    td.solve_model(tutorial / "BBa.fid", tmp_path / "turned", com=com)
    turned = read_fiducial_xyz(tmp_path / "turned" / "BBa.xyz").xyz - [256, 256, 0]
    np.testing.assert_allclose(read_angles(tmp_path / "turned" / "BBa.tlt"), tilt + 3, atol=1e-3)
    angle = np.deg2rad(3)
    x, _, z = (flat - flat.mean(axis=0)).T
    # u = x cos t + z sin t is the same at t + 3 degrees for the point turned by as much
    expected = np.stack(
        [x * np.cos(angle) - z * np.sin(angle), x * np.sin(angle) + z * np.cos(angle)]
    )
    np.testing.assert_allclose((turned - turned.mean(axis=0)).T[[0, 2]], expected, atol=0.02)


def test_a_fiducial_that_is_seen_too_seldom_has_no_point(tutorial: Path, tmp_path: Path) -> None:
    """The last contour, in two views only: it is no part of the solution, and not of its files."""
    model = read_fiducials(tutorial / "BBa.fid")
    keep = (model.contour < model.contour.max()) | (model.view < 2)
    fields = ("position", "view", "model_object", "contour", "surface")
    short = replace(model, **{name: getattr(model, name)[keep] for name in fields})
    write_fiducials(tmp_path / "BBa.fid", short)
    com = edited(tutorial, tmp_path)
    result = td.solve_model(tmp_path / "BBa.fid", tmp_path / "o", com=com)
    assert np.isnan(result.solution.points[-1]).all()
    assert read_fiducial_xyz(tmp_path / "o" / "BBa.xyz").contour.max() == model.contour.max() - 1
    assert len(read_residuals(tmp_path / "o" / "BBa.resid").view) == 24 * VIEWS


def test_a_wrong_fiducial_is_called_by_its_contour(tutorial: Path, tmp_path: Path) -> None:
    model = read_fiducials(tutorial / "BBa.fid")
    position = model.position.copy()
    own = model.contour == 7
    position[own] += np.random.default_rng(0).uniform(-80, 80, (own.sum(), 2))
    write_fiducials(tmp_path / "BBa.fid", replace(model, position=position))
    com = edited(tutorial, tmp_path)
    result = td.solve_model(tmp_path / "BBa.fid", tmp_path / "o", com=com, robust=True)
    assert any(line.startswith("warning    landmarks 7: most") for line in result.lines)


def test_what_is_not_followed_is_said(tutorial: Path, tmp_path: Path) -> None:
    assert not_followed(read_tiltalign(tutorial / "aligna.com")) == []
    com = edited(tutorial, tmp_path, "AxisXShift 5", "SeparateGroup 1-5")
    result = td.solve_model(tutorial / "BBa.fid", tmp_path, com=com)
    said = [line for line in result.lines if "not followed" in line]
    assert [line.split(": ")[-1].split()[0] for line in said] == ["AxisXShift", "SeparateGroup"]


def test_files_of_an_earlier_solution_do_not_stay(tutorial: Path, tmp_path: Path) -> None:
    for suffix in ("xtilt", "zfac"):
        (tmp_path / f"BBa.{suffix}").write_text("1 1\n" * VIEWS)
    com = edited(tutorial, tmp_path)
    com.write_text(re.sub(r"(XStretch|Skew)Option\t\d", r"\1Option\t0", com.read_text()))
    td.solve_model(tutorial / "BBa.fid", tmp_path, com=com)
    assert not (tmp_path / "BBa.xtilt").exists()
    assert not (tmp_path / "BBa.zfac").exists()


def test_what_cannot_be_solved(tutorial: Path, tmp_path: Path) -> None:
    def solve(**options: Any) -> SolvedModel:
        return td.solve_model(tutorial / "BBa.fid", tmp_path / "o", **options)

    write_angles(tmp_path / "short.tlt", np.arange(60.0))
    with pytest.raises(DataError, match="gives 60 tilt angles, the model has 61"):
        solve(tilt_angles=tmp_path / "short.tlt", tilt_axis=-12.5)
    shuffled = np.random.default_rng(0).permutation(read_angles(tutorial / "BBa.rawtlt"))
    write_angles(tmp_path / "shuffled.tlt", shuffled)
    with pytest.raises(DataError, match="tilt"):
        solve(tilt_angles=tmp_path / "shuffled.tlt", tilt_axis=-12.5)
    com = edited(tutorial, tmp_path)
    com.write_text(com.read_text().replace("RotOption\t1", "RotOption\t2"))
    with pytest.raises(ParameterError, match="rotation is mapped by a list"):
        solve(com=com)
    assert not (tmp_path / "o").exists()

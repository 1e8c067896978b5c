"""The tutorial series of IMOD, solved with the variables of its log."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest

from tomodask.io.imod import read_angles, read_residuals, read_transforms, read_zfactors
from tomodask.io.imod_model_file import read_model
from tomodask.kernels.bundle import (
    Freedom,
    Mapping,
    Observations,
    Variables,
    automatic_variables,
    project,
    solve,
    triangulate,
)
from tomodask.kernels.bundle.groups import group_nodes

DATA = os.environ.get("TOMODASK_DATA")
SERIES = {"a": (-0.5, 0.315, 0.176), "b": (-2.11, 0.336, 0.186)}
pytestmark = pytest.mark.skipif(
    DATA is None or not (Path(DATA) / "imod_tutorial_bb").is_dir(),
    reason="needs imod_tutorial_bb in TOMODASK_DATA",
)


@pytest.fixture(params=SERIES)
def series(request):
    return request.param, Path(DATA) / "imod_tutorial_bb"


def observations_of(axis, folder):
    contours = read_model(folder / f"BB{axis}.fid").objects[0].contours
    landmark = np.repeat(np.arange(len(contours)), [len(c.points) for c in contours])
    points = np.concatenate([c.points for c in contours]).astype(np.float64)
    # Index + 0.5 from the lower left, of 512 x 512 pixels.
    return Observations.create(landmark, np.rint(points[:, 2]).astype(int), points[:, :2] - 256)


def logged_variables(axis, folder):
    """Return the mappings that tiltalign printed."""
    lines = (folder / f"align{axis}.log").read_text().splitlines()
    rows = [line for line in lines if re.match(r" +\d+   rot +\d+ ", line)]
    assert len(rows) == 61
    form = re.compile(r" +\d+ +rot +\d+ +(fixed|t.*?) +(?:fixed|mag +(\d+)) +fixed +(.*)")
    tilt, magnification, rest = zip(*(form.match(row).groups() for row in rows), strict=True)
    form = re.compile(r"(?:fixed|dmag +(\d+)) +(.*)")
    stretch, skew = zip(*(form.match(text).groups() for text in rest), strict=True)

    def blocks(labels):
        return Mapping.blocks([-1 if label is None else int(label) for label in labels])

    def linear(texts):
        nodes = [view for view, text in enumerate(texts) if "+" not in text]
        fixed = [view for view in nodes if "fixed" in texts[view]]
        assert len(fixed) == 1
        return Mapping.linear(nodes, len(texts), fixed[0])

    return Variables(
        rotation=Freedom("free"),
        tilt=linear(tilt),
        magnification=blocks(magnification),
        stretch=blocks(stretch),
        skew=linear(skew),
    )


def test_the_solution_is_that_of_tiltalign(series):
    axis, folder = series
    offset, mean, deviation = SERIES[axis]
    seen = observations_of(axis, folder)
    angles = read_angles(folder / f"BB{axis}.rawtlt") + offset
    solution = solve(
        seen,
        angles,
        tilt_axis_angle=-12.5,
        variables=logged_variables(axis, folder),
        robust=False,
    )
    assert solution.mean_residual <= mean + 0.0005
    assert solution.residual_deviation <= deviation + 0.0005
    # 149 variables, two of 61 shifts each and 25 points, but for their common origin.
    assert round(solution.unknowns) - 3 == 341 + 2
    assert not solution.warnings

    listed = read_residuals(folder / f"BB{axis}.resid")
    order = np.lexsort((seen.view, seen.landmark))
    assert np.abs(solution.residual[order] - listed.residual).max() < 0.012  # printed to 0.01

    np.testing.assert_allclose(
        solution.tilt_angle, read_angles(folder / f"BB{axis}.tlt"), atol=0.05
    )
    transforms = read_transforms(folder / f"BB{axis}.tltxf")
    inverse = np.linalg.inv(transforms[:, :, :2])
    tilt = np.deg2rad(read_angles(folder / f"BB{axis}.tlt"))
    factors = read_zfactors(folder / f"BB{axis}.zfac")
    depth = np.column_stack([np.sin(tilt) + factors[:, 0], factors[:, 1]])
    plane = inverse * np.stack([np.cos(tilt), np.ones(61)], axis=1)[:, None]
    matrix = np.concatenate([plane, inverse @ depth[:, :, None]], axis=2)
    shift = -np.einsum("vij,vj->vi", inverse, transforms[:, :, 2])
    place = project(matrix, shift, triangulate(matrix, shift, seen))
    found = project(solution.matrix, solution.shift, solution.points)
    # The files say a little less than the solution did: their own residual is larger by 1 %.
    assert np.sqrt(np.mean(np.sum((place - found) ** 2, axis=2))) < 0.07
    axes = np.rad2deg(np.arctan2(*(inverse @ depth[:, :, None])[:, ::-1, 0].T))
    turned = (solution.rotation - axes + 90) % 180 - 90
    assert np.abs(turned[np.abs(np.sin(tilt)) > 0.05]).max() < 0.05


def test_automatic_variables_predict_better_with_fewer_unknowns(series):
    axis, folder = series
    seen = observations_of(axis, folder)
    angles = read_angles(folder / f"BB{axis}.rawtlt") + SERIES[axis][0]
    theirs = solve(seen, angles, tilt_axis_angle=-12.5, variables=logged_variables(axis, folder))
    ours = solve(seen, angles, tilt_axis_angle=-12.5, variables=automatic_variables(seen))
    assert ours.leave_out_error < theirs.leave_out_error
    assert ours.unknowns < 0.75 * theirs.unknowns
    assert np.mean(ours.error) < 0.8 * np.mean(theirs.error)


def test_groups_are_those_of_tiltalign(series):
    axis, folder = series
    logged = logged_variables(axis, folder)
    angles = -(read_angles(folder / f"BB{axis}.rawtlt") + SERIES[axis][0])  # increasing
    mappings = {"tilt": Freedom("grouped", 5), "stretch": Freedom("grouped", 7)}
    seen = np.ones(61, bool)
    components = Variables(Freedom("fixed"), **mappings).components(angles, seen)
    found = {one.parameter: one.basis for one in components}
    np.testing.assert_allclose(found["tilt"], logged.tilt.basis)
    # The reference of the stretch is another group there.
    edges = np.flatnonzero(np.any(np.diff(found["stretch"], axis=0), axis=1))
    theirs = np.flatnonzero(np.any(np.diff(logged.stretch.basis, axis=0), axis=1))
    np.testing.assert_array_equal(edges, theirs)
    assert group_nodes(angles, 11, 0.0).tolist() == [0, 10, 20, 30, 40, 50, 60]

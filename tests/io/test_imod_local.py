"""Local alignments of tiltalign: the layout by hand, and points followed through them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tomodask.errors import ConversionError, DataError, FormatError
from tomodask.geometry import LocalField, Projection
from tomodask.io.imod_local import (
    LocalAlignments,
    areas_of_field,
    field_of_areas,
    read_local_alignments,
    write_local_alignments,
)

if TYPE_CHECKING:
    from pathlib import Path

PIXEL = 13.5
SIZE = (641, 480)

# 2 areas in x, 1 in y, 3 views; tilts break after the second as IMOD's lines break after ten.
FILE = """\
     2     1   200   171   149   133     0    20.20000   1
   0.07   0.05
  -0.02
   -0.004845   -0.007247   -0.004765   -0.005948   -0.000852   -0.004845
   1.0022262   0.0019808  -0.0025637   0.9999811       0.063      -0.054
   1.0021753   0.0021219  -0.0026202   0.9999322       0.228      -0.050
   1.0020440   0.0022728  -0.0026744   0.9998833       0.198      -0.005
   0.16   0.10   0.05
   -0.009104   -0.013167   -0.008952   -0.010789   -0.000183   -0.008776
   1.0069569  -0.0000417   0.0060544   1.0000004      -0.197      -0.344
   1.0070350  -0.0002850   0.0052869   1.0000762      -0.312      -0.482
   1.0015116  -0.0005306   0.0046228   1.0001514       0.076      -0.411
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def random_areas(ny: int = 3, nx: int = 2, views: int = 5, seed: int = 2) -> LocalAlignments:
    rng = np.random.default_rng(seed)
    shape = (ny, nx, views)
    matrix = np.eye(2) + rng.normal(0, 3e-3, (*shape, 2, 2))
    return LocalAlignments(
        first=(150, 90),
        interval=(300, 140),
        tilt_change=rng.normal(0, 0.3, shape),
        z_factor=rng.normal(0, 0.01, (*shape, 2)),
        transforms=np.concatenate((matrix, rng.normal(0, 2, (*shape, 2, 1))), axis=-1),
        pixel_size=PIXEL,
    )


def a_projection(views: int = 5, x_tilt: float = 0.0) -> Projection:
    rng = np.random.default_rng(7)
    return Projection.create(
        np.linspace(-60, 52, views),
        tilt_axis_angle=84.0,
        shift=rng.normal(0, 100, (views, 2)),
        stretch=0.002,
        x_tilt=x_tilt,
        z_factor=rng.normal(0, 0.005, (views, 2)),
    )


def test_layout(tmp_path: Path) -> None:
    local = read_local_alignments(write(tmp_path / "a.xf", FILE))
    assert (local.first, local.interval, local.pixel_size) == ((200, 171), (149, 133), 20.2)
    y, x = local.centres()
    np.testing.assert_array_equal(x, [200, 349])
    np.testing.assert_array_equal(y, [171])
    np.testing.assert_array_equal(local.tilt_change, [[[0.07, 0.05, -0.02], [0.16, 0.10, 0.05]]])
    assert local.z_factor is not None
    np.testing.assert_array_equal(local.z_factor[0, 1, 0], [-0.009104, -0.013167])
    np.testing.assert_array_equal(
        local.transforms[0, 0, 2], [[1.0020440, 0.0022728, 0.198], [-0.0026744, 0.9998833, -0.005]]
    )


def test_without_z_factors_and_pixel_size(tmp_path: Path) -> None:
    lines = [line for line in FILE.splitlines() if line.count(" -0.0") < 4]
    lines = [line for line in lines if len(line.split()) != 6 or "1.00" in line]
    lines[0] = lines[0].replace("    20.20000   1", "")
    local = read_local_alignments(write(tmp_path / "a.xf", "\n".join(lines)))
    assert (local.z_factor, local.pixel_size) == (None, None)
    assert local.transforms.shape == (1, 2, 3, 2, 3)


@pytest.mark.parametrize("factors", [True, False])
def test_round_trip(tmp_path: Path, factors: bool) -> None:
    local = random_areas(views=13)
    if not factors:
        local = LocalAlignments(
            local.first, local.interval, local.tilt_change, None, local.transforms, PIXEL
        )
    write_local_alignments(tmp_path / "a.xf", local)
    found = read_local_alignments(tmp_path / "a.xf")
    assert (found.first, found.interval, found.pixel_size) == (local.first, local.interval, PIXEL)
    np.testing.assert_allclose(found.tilt_change, local.tilt_change, rtol=0, atol=5.1e-5)
    np.testing.assert_allclose(found.transforms[..., 2], local.transforms[..., 2], atol=5.1e-5)
    np.testing.assert_allclose(
        found.transforms[..., :2], local.transforms[..., :2], rtol=0, atol=5.1e-10
    )
    if factors:
        np.testing.assert_allclose(found.z_factor, local.z_factor, rtol=0, atol=5.1e-10)
    else:
        assert found.z_factor is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("     2     1", "     2      "), "line 1"),
        (("     2     1", "     0     1"), "line 1"),
        (("   235", "   2.5"), "line 1"),
        (("   133     0", "   133     1"), "local x-tilts"),
        (("   0.16", "   ****"), "line 8.*did not fit"),
        (("      -0.411", ""), "no multiple"),
    ],
)
def test_damaged_files(tmp_path: Path, change: tuple[str, str], words: str) -> None:
    text = FILE.replace("   200", "   235").replace(*change)
    with pytest.raises(FormatError, match=words):
        read_local_alignments(write(tmp_path / "a.xf", text))


@pytest.mark.parametrize("x_tilt", [0.0, 6.0])
def test_points_at_the_centres_of_areas(x_tilt: float) -> None:
    """By hand: rotate the point with the changed tilt, add the factors, transform the image."""
    local, projection = random_areas(), a_projection(x_tilt=x_tilt)
    field = field_of_areas(local, projection, PIXEL, SIZE)
    along_y, along_x = local.centres()
    a = np.deg2rad(x_tilt)
    for (i, j), z in zip(np.ndindex(3, 2), (-300.0, 250.0, 0.0, 90.0, -120.0, 500.0), strict=True):
        x, y = (along_x[j] - SIZE[0] / 2) * PIXEL, (along_y[i] - SIZE[1] / 2) * PIXEL
        shift, slope = field.at([x], [y])
        for t in range(5):
            tilt = np.deg2rad(projection.tilt_angle[t])
            depth = z * np.cos(a) + y * np.sin(a)
            flat = y * np.cos(a) - z * np.sin(a)
            f = projection.z_factor[t]
            seen = np.array([x * np.cos(tilt) + depth * (np.sin(tilt) + f[0]), flat + depth * f[1]])
            tilt += np.deg2rad(local.tilt_change[i, j, t])
            f = local.z_factor[i, j, t]
            ideal = [x * np.cos(tilt) + depth * (np.sin(tilt) + f[0]), flat + depth * f[1]]
            matrix = local.transforms[i, j, t]
            expected = matrix[:, :2] @ ideal + matrix[:, 2] * PIXEL
            found = seen + shift[t, 0] + z * slope[t, 0]
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_areas_turn_what_lies_outside_their_centres() -> None:
    """One area that enlarges by 1 %: a point at the edge of the image moves by 1 % of its place."""
    transforms = np.zeros((1, 1, 1, 2, 3))
    transforms[..., :2] = 1.01 * np.eye(2)
    local = LocalAlignments((320, 240), (1, 1), np.zeros((1, 1, 1)), None, transforms, 1.0)
    field = field_of_areas(local, Projection.create([0.0]), PIXEL, SIZE)
    shift, _ = field.at([320.5 * PIXEL], [-240 * PIXEL])
    np.testing.assert_allclose(shift[0, 0], [3.205 * PIXEL, -2.4 * PIXEL], atol=1e-6)


@pytest.mark.parametrize("x_tilt", [0.0, -4.0])
def test_field_through_a_file_and_back(tmp_path: Path, x_tilt: float) -> None:
    """Points are seen in the same places, to what areas are allowed to be wrong."""
    rng = np.random.default_rng(4)
    field = LocalField.create(
        np.array([-2500.0, -200.0, 1900.0]),
        np.array([-3000.0, -900.0, 800.0, 3100.0]),
        rng.normal(0, 12, (5, 3, 4, 2)),
        rng.normal(0, 2e-3, (5, 3, 4, 2)),
    )
    projection = a_projection(x_tilt=x_tilt)
    areas = areas_of_field(field, projection, PIXEL, SIZE)
    assert not areas.tilt_change.any()
    write_local_alignments(tmp_path / "a.xf", areas)
    back = field_of_areas(read_local_alignments(tmp_path / "a.xf"), projection, PIXEL, SIZE)
    points = rng.uniform((-4000, -3000, -500), (4000, 3000, 500), (200, 3))
    (shift, slope), (shift_back, slope_back) = (
        f.at(points[:, 0], points[:, 1]) for f in (field, back)
    )
    height = points[:, 2, None]
    wrong = np.abs(shift + height * slope - shift_back - height * slope_back)
    assert np.abs(shift + height * slope).max() > PIXEL
    assert wrong.max() < 0.05 * PIXEL


def test_what_does_not_belong_together() -> None:
    local, projection = random_areas(), a_projection()
    with pytest.raises(DataError, match="5 views, the projection 4"):
        field_of_areas(local, projection[:4], PIXEL, SIZE)
    with pytest.raises(ConversionError, match=r"13\.5 A, not 27 A"):
        field_of_areas(local, projection, 27.0, SIZE)
    field = LocalField.create([0.0], [0.0], np.zeros((4, 1, 1, 2)))
    with pytest.raises(DataError, match="4 views"):
        areas_of_field(field, projection, PIXEL, SIZE)
    steep = LocalField.create(
        [0.0], [0.0, 100.0, 200.0], np.array([0, 1e5, 0.0])[:, None] * np.ones((5, 1, 3, 2))
    )
    with pytest.raises(ConversionError, match="smoother"):
        areas_of_field(steep, projection, PIXEL, SIZE)


def test_values_that_are_no_numbers_are_not_written(tmp_path: Path) -> None:
    local = random_areas()
    local.tilt_change[0, 0, 0] = np.nan
    with pytest.raises(ConversionError, match="finite"):
        write_local_alignments(tmp_path / "a.xf", local)
    assert not (tmp_path / "a.xf").exists()

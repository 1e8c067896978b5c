"""AreTomo's alignments: real files of versions 1.2 to 3, geometry by hand, IMOD's transforms."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tomodask.errors import ConversionError, DataError, FormatError
from tomodask.geometry import LocalField, Projection
from tomodask.io.aretomo import AreTomoAlignment, LocalShifts, read_aln, write_aln
from tomodask.io.aretomo_projection import alignment_of_projection, global_projection
from tomodask.io.imod import read_angles

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("name", "views", "first", "size", "dark", "alpha", "thickness", "local"),
    [
        ("example_v1_2_0", 41, 0, None, 0, None, None, 0),
        ("example_v1_3_0", 41, 0, (5760, 4092), 0, None, None, 0),
        ("global_and_local", 37, 0, (4096, 4096), 14, 12.3, 1910, 37 * 16),
        ("global_no_local", 61, 1, (4096, 4096), 0, -7.0, 2050, 0),
    ],
)
def test_real_files(
    data_dir: Path,
    tmp_path: Path,
    name: str,
    views: int,
    first: int,
    size: tuple[int, int] | None,
    dark: int,
    alpha: float | None,
    thickness: int | None,
    local: int,
) -> None:
    path = data_dir / "metadata" / "aretomo" / f"{name}.aln"
    alignment = read_aln(path)
    assert (len(alignment.view), alignment.first_section, alignment.image_size) == (
        views,
        first,
        size,
    )
    assert (len(alignment.dark), alignment.alpha_offset, alignment.thickness) == (
        dark,
        alpha,
        thickness,
    )
    assert (0 if alignment.local is None else len(alignment.local.row)) == local
    if size is None:
        with pytest.raises(ConversionError, match="size of the images"):
            write_aln(tmp_path / "a.aln", alignment)
        return
    write_aln(tmp_path / "a.aln", alignment)
    written = [line.rstrip() for line in (tmp_path / "a.aln").read_text().splitlines()]
    assert written == [line.rstrip() for line in path.read_text().splitlines()]


def test_views_after_dark_ones(data_dir: Path) -> None:
    """SEC 0 of this file is view 14: the dark ones are -68 to -42 degrees in steps of 2."""
    alignment = read_aln(data_dir / "metadata" / "aretomo" / "global_and_local.aln")
    np.testing.assert_array_equal(alignment.view, np.arange(14, 51))
    nominal = alignment.tilt_angle - alignment.alpha_offset
    np.testing.assert_allclose(nominal, -68 + 2 * alignment.view, atol=0.02)
    for frame in alignment.dark:
        assert frame.tilt_angle == pytest.approx(-68 + 2 * frame.view, abs=0.02)
    local = alignment.local
    assert local is not None
    last = (local.row == 36) & (local.patch == 12)
    np.testing.assert_array_equal(local.centre[last], [[-1527.45, 1047.83]])
    np.testing.assert_array_equal(local.shift[last], [[41.59, 544.93]])
    assert not local.good[last]


def test_angles_are_those_of_the_tilt_file(data_dir: Path) -> None:
    folder = data_dir / "metadata" / "aretomo"
    alignment = read_aln(folder / "global_no_local.aln")
    np.testing.assert_array_equal(alignment.tilt_angle, read_angles(folder / "global_no_local.tlt"))


def test_a_point_by_hand() -> None:
    """ROT 90: +v of the aligned image is -x of the raw one; then (TX, TY) is added."""
    alignment = AreTomoAlignment(
        view=np.array([0, 1]),
        tilt_angle=np.array([0.0, 30.0]),
        rotation=np.array([90.0, 90.0]),
        magnification=np.ones(2),
        shift=np.array([[5.0, -3.0], [0.0, 7.0]]),
    )
    seen = global_projection(alignment, 2.0).project([[0.0, 20.0, 0.0], [0.0, 0.0, 40.0]]) / 2.0
    np.testing.assert_allclose(seen[0], [[5 - 10, -3], [5, -3]], atol=1e-12)
    # At 30 degrees a height of 20 pixels moves by 10 along +u, which is +y of the raw image.
    np.testing.assert_allclose(seen[1], [[-10, 7], [0, 7 + 10]], atol=1e-12)


def test_transforms_are_what_aretomo_computes(data_dir: Path) -> None:
    """AreTomo3 writes A = [[cos, sin], [-sin, cos]] of ROT and -A (TX, TY) for IMOD."""
    alignment = read_aln(data_dir / "metadata" / "aretomo" / "example_v1_3_0.aln")
    lines = global_projection(alignment, 1.7).to_transforms(1.7)
    for line, rotation, (x, y) in zip(lines, alignment.rotation, alignment.shift, strict=True):
        cos, sin = np.cos(np.deg2rad(rotation)), np.sin(np.deg2rad(rotation))
        expected = [[cos, sin, -cos * x - sin * y], [-sin, cos, sin * x - cos * y]]
        np.testing.assert_allclose(line, expected, atol=1e-9)


@pytest.mark.parametrize("included", [None, [0, 1, 1, 0, 1, 1, 0]])
def test_projection_round_trip(tmp_path: Path, included: list[int] | None) -> None:
    rng = np.random.default_rng(1)
    nominal = np.array([-54.0, -30.5, -9, 0, 0, 21, 57])
    projection = Projection.create(
        nominal + 3.25,
        tilt_axis_angle=-95.4 + rng.normal(0, 0.1, 7),
        shift=rng.normal(0, 300, (7, 2)),
    )
    keep = np.ones(7, bool) if included is None else np.array(included, bool)
    alignment = alignment_of_projection(
        projection, 1.35, (4096, 4095), included=keep, nominal_tilt=nominal, thickness=900
    )
    assert alignment.alpha_offset == pytest.approx(3.25)
    write_aln(tmp_path / "a.aln", alignment)
    found = read_aln(tmp_path / "a.aln")
    np.testing.assert_array_equal(found.view, np.flatnonzero(keep))
    assert (found.image_size, found.thickness, found.first_section) == ((4096, 4095), 900, 1)
    assert [(d.view, d.tilt_angle) for d in found.dark] == [
        (v, nominal[v]) for v in np.flatnonzero(~keep)
    ]
    back, expected = global_projection(found, 1.35), projection[np.flatnonzero(keep)]
    np.testing.assert_allclose(back.tilt_angle, expected.tilt_angle, rtol=0, atol=0.00501)
    np.testing.assert_allclose(back.tilt_axis_angle, expected.tilt_axis_angle, rtol=0, atol=5.1e-5)
    np.testing.assert_allclose(back.shift, expected.shift, rtol=0, atol=1.35 * 5.1e-4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"magnification": [1, 1, 1.002]}, "view 2 has magnification 1.002"),
        ({"stretch": [0, 1e-3, 0]}, "view 1 has stretch"),
        ({"skew": -1e-3}, "view 0 has skew"),
        ({"x_tilt": [0, 0, 0.5]}, "view 2 has x-tilt 0.5"),
        ({"z_factor": [[0, 0], [0, -1e-3], [0, 0]]}, "view 1 has z factor in y"),
        ({"local": LocalField.create([0], [0], np.zeros((3, 1, 1, 2)))}, "local field"),
    ],
)
def test_what_the_format_cannot_hold(change: dict[str, object], words: str) -> None:
    projection = Projection.create([-10, 0, 10], **change)
    with pytest.raises(ConversionError, match=words):
        alignment_of_projection(projection, 1.0, (64, 64))


def test_what_an_excluded_view_has_does_not_matter() -> None:
    projection = Projection.create([-10, 0, 10], magnification=[1, 1, 1.1])
    found = alignment_of_projection(projection, 1.0, (64, 64), included=[True, True, False])
    np.testing.assert_array_equal(found.view, [0, 1])


def test_what_cannot_be_converted(data_dir: Path) -> None:
    alignment = read_aln(data_dir / "metadata" / "aretomo" / "global_no_local.aln")
    with pytest.raises(ConversionError, match="GMAG"):
        global_projection(replace(alignment, magnification=np.full(61, 1.01)), 1.0)
    with pytest.raises(ConversionError, match="BetaOffset"):
        global_projection(replace(alignment, beta_offset=2.0), 1.0)
    projection = Projection.create([10, 0])
    with pytest.raises(ConversionError, match="rising tilt"):
        alignment_of_projection(projection, 1.0, (64, 64))
    with pytest.raises(DataError, match="one included"):
        alignment_of_projection(projection, 1.0, (64, 64), included=[False, False])


HEADER = "# AreTomo Alignment / Priims bprmMn\n# RawSize = 64 48 3\n# NumPatches = 1\n"
ROWS = "".join(f"{i} 85.0 1.0 {i} -2.0 1 1 1 0 {i}.0\n" for i in range(1, 4))
LOCAL = "# Local Alignment\n" + "".join(f"{t} 0 1.0 2.0 3.0 4.0 1.0\n" for t in range(3))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hello\n", "line 1.*AreTomo Alignment"),
        (HEADER, "has no views"),
        (HEADER + ROWS, "has no local alignment"),
        (HEADER + ROWS[:-40] + LOCAL, "line"),
        (HEADER + ROWS + LOCAL[:-27], "2 rows of local alignment"),
        (HEADER + ROWS.replace("2 85.0", "4 85.0") + LOCAL, "SEC runs 1 to 3"),
        (HEADER.replace("48 3", "48 5") + ROWS + LOCAL, "announces 5 images and has 3 rows"),
        (HEADER + "# DarkFrame = 1 2\n" + ROWS + LOCAL, "line 4.*DarkFrame"),
        (HEADER + "# Thickness = thin\n" + ROWS + LOCAL, "line 4.*Thickness"),
        (HEADER + ROWS.replace("85.0", "85,0") + LOCAL, "line 4.*decimal comma"),
    ],
)
def test_damaged_files(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a.aln").write_text(text)
    with pytest.raises(FormatError, match=words):
        read_aln(tmp_path / "a.aln")


def test_small_file_by_hand(tmp_path: Path) -> None:
    dark = HEADER.replace("48 3", "48 4") + "# DarkFrame = 1 2 -1.5\n# AlphaOffset = 0.50\n"
    (tmp_path / "a.aln").write_text(dark + ROWS + LOCAL)
    found = read_aln(tmp_path / "a.aln")
    np.testing.assert_array_equal(found.view, [0, 2, 3])
    np.testing.assert_array_equal(found.shift, [[1, -2], [2, -2], [3, -2]])
    assert (found.dark[0].section, found.alpha_offset, found.beta_offset) == (2, 0.5, None)
    assert isinstance(found.local, LocalShifts)
    np.testing.assert_array_equal(found.local.centre, [[1, 2]] * 3)


def test_value_too_long_for_its_column(tmp_path: Path) -> None:
    alignment = alignment_of_projection(Projection.create([0], shift=[[2e5, 0]]), 1.0, (9, 9))
    with pytest.raises(ConversionError, match="does not fit"):
        write_aln(tmp_path / "a.aln", alignment)
    assert not (tmp_path / "a.aln").exists()

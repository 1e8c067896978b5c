"""Tables of contrast transfer that are of the aligned stack: whose centre, whose angles."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.image_sample import stored
from tomodask.ctf_files import export_ctf, import_ctf
from tomodask.errors import ConversionError, ParameterError, TomodaskWarning
from tomodask.geometry import Projection
from tomodask.io.series import open_series, write_alignment, write_coordinates, write_ctf
from tomodask.kernels.ctf import Optics
from tomodask.model import alignment_dataset, ctf_dataset, handedness_of, transfers_at_origin

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore::tomodask.errors.TomodaskWarning")

TILT = np.array([-60.0, -30.0, -10.0, 0.0, 20.0, 45.0, 60.0])
AXIS = 85.0
#: Raw (x, y) of the specimen's origin, A.
SHIFT = np.array([
    [420.0, -310.0], [-250.0, 560.0], [130.0, 80.0], [700.0, -640.0],
    [-90.0, -330.0], [510.0, 240.0], [-380.0, -470.0],
])  # fmt: skip
DEFOCUS = 30000.0 + 100.0 * np.arange(len(TILT))
NAMES = ("a.defocus", "a.txt", "a_CTF.txt")


def centre_heights() -> np.ndarray:
    """How high the plane of the untilted specimen is at the raw image centre, worked out by hand.

    There the aligned image shows u = -(x cos axis + y sin axis) of the shift; the plane is seen at
    u = x cos tilt and lies at w = -x sin tilt.
    """
    axis = np.deg2rad(AXIS)
    u = -(SHIFT[:, 0] * np.cos(axis) + SHIFT[:, 1] * np.sin(axis))
    return -u * np.tan(np.deg2rad(TILT))


def series(folder: Path, tilt: np.ndarray = TILT) -> Path:
    """A series with its alignment "mine", and "centred", which has no shifts."""
    path = stored(folder / "a.zarr", tilt, np.ones((len(tilt), 8, 8), np.float32))
    write_coordinates(path, {"section": np.arange(len(tilt))}, {"voltage": 300.0})
    for name, shift in (("mine", SHIFT), ("centred", (0.0, 0.0))):
        align(path, name, tilt, shift)
    return path


def align(path: Path, name: str, tilt: np.ndarray, shift: object) -> None:
    projection = Projection.create(tilt, tilt_axis_angle=AXIS, shift=shift)
    write_alignment(path, name, alignment_dataset(projection, method="imported"), overwrite=True)


def text_of(name: str, hand: int, tilt: np.ndarray = TILT, defocus: np.ndarray = DEFOCUS) -> str:
    """A file of sections by tilt, where known: 200 A more along 15 degrees, 200 less across."""
    rows = []
    for place, (angle, mean) in enumerate(zip(tilt, defocus, strict=True), 1):
        if not np.isfinite(mean):
            continue
        u, v = mean + 200, mean - 200
        if name == "a.defocus":
            rows.append(f"{place} {place} {angle} {angle} {u / 10} {v / 10} 15")
        else:
            rows.append(f"{place} {u} {v} 15 0 0.5 6" + f" {hand}" * (name == "a_CTF.txt"))
    head = {"a.defocus": f"{17 if hand == 1 else 1} 0 0 0 0 3", "a.txt": "# of CTFFIND"}
    return "\n".join([head.get(name, "# Columns: #1 micrograph number"), *rows]) + "\n"


def numbers_of(file: Path) -> np.ndarray:
    """(row, 3) defoci, A, and direction, read without the package."""
    lines = [line.split() for line in file.read_text().splitlines() if line[0] != "#"]
    if file.suffix == ".defocus":
        return np.array([row[4:7] for row in lines[1:]], float) * [10, 10, 1]
    return np.array([row[1:4] for row in lines], float)


def table_of(hand: int, **more: np.ndarray) -> object:
    values = {"defocus_u": DEFOCUS + 200, "defocus_v": DEFOCUS - 200}
    values |= {"astigmatism_angle": np.full(len(TILT), 15.0), "phase_shift": np.zeros(len(TILT))}
    return ctf_dataset(
        Optics(300.0, 2.7, 0.07), method="estimated", handedness=hand, **(values | more)
    )


def origin_defocus(path: Path, alignment: str) -> np.ndarray:
    tree = open_series(path)
    tilt = tree[f"alignments/{alignment}"]["tilt_angle"].values
    shift = SHIFT if alignment == "mine" else (0.0, 0.0)
    seen = Projection.create(tilt, tilt_axis_angle=AXIS, shift=shift)
    views = transfers_at_origin(tree["ctf"].to_dataset(), seen)
    return np.array([(view.defocus_u + view.defocus_v) / 2 for view in views])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("hand", [1, -1])
def test_the_defocus_of_an_aligned_stack_is_that_of_its_centre(
    tmp_path: Path, name: str, hand: int
) -> None:
    path, file = series(tmp_path), tmp_path / name
    file.write_text(text_of(name, hand))
    table = import_ctf(path, file, alignment="mine", handedness=hand)
    np.testing.assert_array_equal(table["reference_x"], SHIFT[:, 0])
    np.testing.assert_array_equal(table["reference_y"], SHIFT[:, 1])
    heights = centre_heights()
    assert np.abs(heights).max() > 500
    np.testing.assert_allclose(origin_defocus(path, "mine"), DEFOCUS, atol=1e-6)
    # Where there are no shifts the origin is seen at the raw centre.
    np.testing.assert_allclose(origin_defocus(path, "centred"), DEFOCUS + hand * heights, atol=1e-6)


@pytest.mark.parametrize("hand", [1, -1])
def test_the_defocus_of_the_raw_stack_is_that_of_the_raw_centre(tmp_path: Path, hand: int) -> None:
    path, file = series(tmp_path), tmp_path / "a.txt"
    file.write_text(text_of("a.txt", hand))
    table = import_ctf(path, file, handedness=hand)
    assert not table["reference_x"].values.any()
    assert not table["reference_y"].values.any()
    np.testing.assert_allclose(
        origin_defocus(path, "mine"), DEFOCUS - hand * centre_heights(), atol=1e-6
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("hand", [1, -1])
def test_a_file_for_an_aligned_stack_is_of_its_centre(tmp_path: Path, name: str, hand: int) -> None:
    path = series(tmp_path)
    write_ctf(path, table_of(hand))
    numbers = numbers_of(export_ctf(path, tmp_path / name, alignment="mine"))
    expected = DEFOCUS - hand * centre_heights()
    np.testing.assert_allclose(numbers[:, :2].mean(axis=1), expected, atol=0.5)
    np.testing.assert_allclose(numbers[:, 0] - numbers[:, 1], 400, atol=0.5)
    np.testing.assert_allclose(numbers[:, 2], 15 - AXIS, atol=0.01)
    raw = numbers_of(export_ctf(path, tmp_path / name, overwrite=True))
    np.testing.assert_allclose(raw[:, :2].mean(axis=1), DEFOCUS, atol=0.5)
    np.testing.assert_allclose(raw[:, 2], 15, atol=0.01)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("hand", [1, -1])
def test_the_file_of_an_aligned_stack_comes_back(tmp_path: Path, name: str, hand: int) -> None:
    """CTFFIND's says no handedness, and none is needed: the centre stays where it is."""
    path, file = series(tmp_path), tmp_path / name
    file.write_text(text_of(name, hand))
    import_ctf(path, file, alignment="mine")
    written = export_ctf(path, tmp_path / "new" / name, alignment="mine")
    np.testing.assert_allclose(numbers_of(written), numbers_of(file), atol=1e-3)
    again = import_ctf(path, written, alignment="mine", overwrite=True)
    assert handedness_of(again) == (0 if name == "a.txt" else hand)


def test_what_cannot_be_moved_to_another_centre_is_refused(tmp_path: Path) -> None:
    path, file = series(tmp_path), tmp_path / "a.txt"
    write_ctf(path, table_of(0))
    with pytest.raises(ParameterError, match=r"view 0.*'mine'.*--handedness"):
        export_ctf(path, file, alignment="mine")
    assert not file.exists()
    export_ctf(path, file, alignment="centred")
    write_ctf(path, table_of(-1, reference_x=SHIFT[:, 0], reference_y=SHIFT[:, 1]))
    with pytest.raises(ConversionError, match=r"raw images; .*--alignment"):
        export_ctf(path, file, overwrite=True)
    moved = numbers_of(export_ctf(path, file, alignment="centred", overwrite=True))
    np.testing.assert_allclose(moved[:, :2].mean(axis=1), DEFOCUS - centre_heights(), atol=0.5)


def test_an_untilted_view_needs_no_hand(tmp_path: Path) -> None:
    path = series(tmp_path, np.zeros(len(TILT)))
    write_ctf(path, table_of(0))
    numbers = numbers_of(export_ctf(path, tmp_path / "a.txt", alignment="mine"))
    np.testing.assert_allclose(numbers[:, :2].mean(axis=1), DEFOCUS, atol=1e-6)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_hand_goes_with_the_angles_of_the_alignment(tmp_path: Path, sign: int) -> None:
    """IMOD's hand is told by the angles that are used with the file, not by those recorded."""
    path, file = series(tmp_path), tmp_path / "a.defocus"
    solved = sign * TILT + 8.0
    align(path, "mine", solved, SHIFT)
    file.write_text(text_of("a.defocus", -1, solved))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", TomodaskWarning)
        table = import_ctf(path, file, alignment="mine")
    assert handedness_of(table) == -1
    assert not any("degrees off" in str(warning.message) for warning in caught)
    written = export_ctf(path, tmp_path / "b.defocus", alignment="mine")
    np.testing.assert_allclose(numbers_of(written), numbers_of(file), atol=1e-3)


def test_aretomo_counts_by_the_recorded_angles(tmp_path: Path) -> None:
    path = series(tmp_path)
    solved = TILT.copy()
    solved[[2, 3]] = 0.5, -0.5  # solving changed their order
    align(path, "mine", solved, SHIFT)
    file = tmp_path / "a_CTF.txt"
    file.write_text(text_of("a_CTF.txt", 1))
    import_ctf(path, file, alignment="mine")
    written = export_ctf(path, tmp_path / "b_CTF.txt", alignment="mine")
    np.testing.assert_allclose(numbers_of(written), numbers_of(file), atol=1e-3)


def test_excluded_views_tell_nothing_of_their_neighbours(tmp_path: Path) -> None:
    path, file = series(tmp_path), tmp_path / "a.defocus"
    defocus = DEFOCUS.copy()
    defocus[[2, 3]] = 90200, np.nan
    file.write_text(text_of("a.defocus", -1, defocus=defocus))
    write_coordinates(path, {"included": np.arange(len(TILT)) != 2})
    table = import_ctf(path, file, alignment="mine")
    mean = (table["defocus_u"] + table["defocus_v"]).values / 2
    np.testing.assert_array_equal(table["fitted"], np.arange(len(TILT)) != 3)
    np.testing.assert_allclose(mean[2], 90200)
    # Between the views at -30 and 20 degrees.
    np.testing.assert_allclose(mean[3], np.interp(0, [-30, 20], DEFOCUS[[1, 4]]))
    # Its place is known as any other's.
    assert table["reference_x"].values[3] == SHIFT[3, 0]

"""The contrast transfer of a series, from its store, against what it was simulated with."""

from __future__ import annotations

import json
import warnings
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import mrcfile
import numpy as np
import pytest
import xarray as xr

import tomodask as td
from tomodask.cli import main
from tomodask.errors import (
    DataError,
    DoubleApplicationError,
    MemoryLimitError,
    ParameterError,
    SchemaError,
    TomodaskWarning,
)
from tomodask.geometry import Projection
from tomodask.simulate import ContrastTransfer, Imaging, Phantom, simulate_tilt_series

if TYPE_CHECKING:
    from pathlib import Path

PIXEL, SHAPE = 3.0, (640, 608)
ANGLES = np.array([-50.0, -25.0, 0.0, 25.0, 50.0])
AXIS, HAND = 84.0, -1
DEFOCUS = np.array([25200.0, 24800.0, 25100.0, 24700.0, 25000.0])
STRETCH, DIRECTION = 800.0, 35.0


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Ice alone, with strong rings, its defocus falling with height."""
    ctf = tuple(ContrastTransfer(d + STRETCH / 2, d - STRETCH / 2, DIRECTION) for d in DEFOCUS)
    imaging = Imaging(exposure=3.0, ctf=ctf, handedness=HAND, ice_signal=1.0, ice_b_factor=150.0)
    projection = Projection.create(ANGLES, tilt_axis_angle=AXIS)
    return simulate_tilt_series(
        Phantom(()), projection, SHAPE, pixel_size=PIXEL, imaging=imaging, seed=4
    ).images


def imported(folder: Path, images: np.ndarray, **options: Any) -> Path:
    stack = folder / "s.mrc"
    with mrcfile.new(stack, overwrite=True) as file:
        file.set_data(images)
        file.voxel_size = PIXEL
    angles = folder / "s.rawtlt"
    np.savetxt(angles, ANGLES)
    values = {"tilt_axis": AXIS, "voltage": 300.0} | options
    return td.import_stack(stack, folder / "s.zarr", tilt_angles=angles, **values)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, images: np.ndarray) -> SimpleNamespace:
    path = imported(tmp_path_factory.mktemp("ctf"), images)
    events: list[Any] = []
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        table = td.estimate_ctf(path, progress=events.append)
    return SimpleNamespace(
        path=path, table=table, events=events, warnings=[str(w.message) for w in seen]
    )


def test_defocus_and_astigmatism_are_found(made: SimpleNamespace) -> None:
    table = made.table
    mean = (table["defocus_u"] + table["defocus_v"]).values / 2
    assert np.abs(mean - DEFOCUS).max() < 250
    length = (table["defocus_u"] - table["defocus_v"]).values
    vector = length * np.exp(2j * np.deg2rad(table["astigmatism_angle"].values))
    assert np.abs(vector - STRETCH * np.exp(2j * np.deg2rad(DIRECTION))).max() < 300
    assert (table["defocus_u"] >= table["defocus_v"]).all()
    assert np.all(np.abs(mean - DEFOCUS) < 2 * table["defocus_error"].values)
    assert table["fitted"].all()
    assert (table["confidence"] > 0.99).all()
    assert (table["fit_resolution"] < 15).all()


def test_the_sign_of_the_gradient_is_found(made: SimpleNamespace) -> None:
    assert made.table.attrs["defocus_handedness"] == HAND
    assert made.table.attrs["handedness_confidence"] > 0.99


def test_the_table_is_stored_as_returned(made: SimpleNamespace) -> None:
    stored = td.open(made.path)["ctf"].to_dataset()
    xr.testing.assert_equal(stored, made.table)
    assert stored.attrs["alignment"] == "none"
    assert made.warnings == []
    kinds = [event.kind for event in made.events]
    assert kinds == ["start", *["task"] * len(ANGLES), "end"]


def test_rings_lie_where_the_picture_shows_them(made: SimpleNamespace) -> None:
    """The picture is that of one defocus, whatever the tilt, in the directions of the raw image."""
    view = 4
    image = made.table["spectrum"].values[view]
    y, x = np.meshgrid(made.table["frequency_y"], made.table["frequency_x"], indexing="ij")
    radius = np.hypot(x, y)
    direction = np.arctan2(y, x) - np.deg2rad(DIRECTION)
    defocus = DEFOCUS[view] + STRETCH / 2 * np.cos(2 * direction)
    truth = np.sin(
        np.pi * 0.0196875 * radius**2 * defocus
        - np.pi / 2 * 2.7e7 * 0.0196875**3 * radius**4
        + np.arcsin(0.07)
    )
    ring = (radius > 1 / 25) & (radius < 1 / 11)
    assert np.corrcoef(image[ring], truth[ring] ** 2)[0, 1] > 0.4
    np.testing.assert_allclose(image[1:, 1:], image[1:, 1:][::-1, ::-1], atol=1e-5)


def test_an_alignment_moves_nothing_but_the_origin(made: SimpleNamespace, tmp_path: Path) -> None:
    """The defocus is that of the image centre; elsewhere the alignment says how high it is."""
    from tomodask.model import alignment_dataset, transfers_at_origin

    shift = np.array([[150.0, -80.0]] * len(ANGLES))
    projection = Projection.create(ANGLES, tilt_axis_angle=AXIS, shift=shift)
    td.store_alignment(made.path, alignment_dataset(projection, method="test"), name="moved")
    again = td.estimate_ctf(made.path, alignment="moved", overwrite=True)
    np.testing.assert_array_equal(again["defocus_u"], made.table["defocus_u"])
    at_origin = transfers_at_origin(again, projection)
    u = shift @ [np.cos(np.deg2rad(AXIS)), np.sin(np.deg2rad(AXIS))]
    height = -u * np.tan(np.deg2rad(ANGLES))  # of the plane at the origin, over the image centre
    found = [transfer.defocus_u for transfer in at_origin]
    np.testing.assert_allclose(found, again["defocus_u"].values + HAND * height, atol=1e-6)


def test_a_view_left_out_changes_the_others_within_their_errors(
    made: SimpleNamespace, tmp_path: Path, images: np.ndarray
) -> None:
    path = imported(tmp_path, images)
    td.curate(path, exclude=[2], automatic=False)
    table = td.estimate_ctf(path)
    assert table["fitted"].values.tolist() == [True, True, False, True, True]
    others = [0, 1, 3, 4]
    change = (table["defocus_u"] - made.table["defocus_u"]).values[others]
    assert np.all(np.abs(change) < made.table["defocus_error"].values[others])
    # What is not looked at is what the others say, with an error that says so.
    assert np.isfinite(table["defocus_u"].values[2])
    assert table["defocus_error"].values[2] > made.table["defocus_error"].values[2]


def test_a_view_of_noise_is_told(tmp_path: Path, images: np.ndarray) -> None:
    spoilt = images.copy()
    spoilt[1] = np.random.default_rng(0).poisson(27.0, SHAPE)
    path = imported(tmp_path, spoilt)
    with pytest.warns(TomodaskWarning, match=r"s\.zarr: .*view 1"):
        table = td.estimate_ctf(path)
    assert table["confidence"].values[1] < 0.5
    assert (np.delete(table["confidence"].values, 1) > 0.9).all()


def test_correction_for_a_doubtful_defocus_is_told_or_refused(
    tmp_path: Path, images: np.ndarray
) -> None:
    path = imported(tmp_path, images)
    table = td.estimate_ctf(path)
    options = {"thickness": 8, "binning": 4, "alignment": "none", "ctf": "2d"}
    td.reconstruct(td.open(path), **options)  # says nothing
    doubtful = table.copy()
    doubtful["confidence"] = ("tilt", [1.0, 0.1, 1.0, 1.0, 1.0])
    with pytest.warns(TomodaskWarning, match=r"views 1 are corrected"):
        td.reconstruct(td.open(path), ctf_table=doubtful, **options)
    with pytest.warns(TomodaskWarning, match=r"views 1 are corrected"):
        td.align_stack(td.open(path), alignment="none", ctf="2d", ctf_table=doubtful)
    doubtful["confidence"][:] = 0.0
    with pytest.raises(DataError, match="no view is to be trusted"):
        td.reconstruct(td.open(path), ctf_table=doubtful, **options)
    with pytest.raises(SchemaError, match="phase_shift"):
        td.reconstruct(td.open(path), ctf_table=table.drop_vars("phase_shift"), **options)


def test_an_edge_on_view_is_refused_unless_excluded(tmp_path: Path, images: np.ndarray) -> None:
    path = imported(tmp_path, images)
    from tomodask.model import alignment_dataset

    edge = Projection.create([-50.0, -25.0, 0.0, 25.0, 90.0], tilt_axis_angle=AXIS)
    td.store_alignment(path, alignment_dataset(edge, method="test"), name="edge")
    with pytest.raises(DataError, match="view 4 sees the specimen's plane edge-on"):
        td.estimate_ctf(path)
    td.curate(path, exclude=[4], automatic=False)
    td.estimate_ctf(path)
    td.reconstruct(td.open(path), thickness=8, binning=4, ctf="2d")


def test_a_defocus_outside_the_range_is_told(tmp_path: Path, images: np.ndarray) -> None:
    path = imported(tmp_path, images)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        table = td.estimate_ctf(path, defocus_range=(30000.0, 60000.0))
    told = " ".join(str(warning.message) for warning in seen)
    assert "range" in told, told
    assert (table["confidence"] < 0.5).all()


@pytest.mark.slow
def test_result_depends_on_no_resource(tmp_path: Path, images: np.ndarray) -> None:
    path = imported(tmp_path, images)
    one = td.estimate_ctf(path, workers=1)
    other = td.estimate_ctf(path, overwrite=True, scheduler="processes", workers=2)
    xr.testing.assert_identical(one, other)


def test_what_is_not_known_is_asked_for(tmp_path: Path, images: np.ndarray) -> None:
    path = imported(tmp_path, images, voltage=None)
    with pytest.raises(ParameterError, match=r"no voltage.*--voltage"):
        td.estimate_ctf(path)
    with pytest.raises(MemoryLimitError, match="estimate CTF"):
        td.estimate_ctf(path, voltage=300, memory_limit="1MB")
    with pytest.raises(ParameterError, match="two rising numbers"):
        td.estimate_ctf(path, voltage=300, defocus_range=(5.0, 1.0))
    for wrong, value in (
        ("resolution", (0.0, 5.0)),
        ("resolution", (30.0, float("nan"))),
        ("phase_shift", float("nan")),
        ("phase_shift", (0.0, float("inf"))),
        ("defocus_range", (1e4, float("inf"))),
        ("handedness", 2),
    ):
        with pytest.raises(ParameterError, match=wrong.replace("_", " ")):
            td.estimate_ctf(path, voltage=300, **{wrong: value})
    with pytest.raises(ParameterError, match="spherical aberration"):
        td.estimate_ctf(path, voltage=300, spherical_aberration=-1)
    td.estimate_ctf(path, voltage=300)
    with pytest.raises(ParameterError, match="CTF already"):
        td.estimate_ctf(path, voltage=300)


def test_micrograph(tmp_path: Path, images: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "m.mrc"
    with mrcfile.new(file) as made:
        made.set_data(images[2])
    command = ["ctf", "estimate", str(file), "--voltage", "300", "--json"]
    assert main(command) == 2
    assert "no pixel size" in capsys.readouterr().err
    assert main([*command, "--pixel-size", "3"]) == 0
    found = json.loads(capsys.readouterr().out)
    (view,) = found["views"]
    assert abs((view["defocus_u"] + view["defocus_v"]) / 2 - DEFOCUS[2]) < 300
    assert view["confidence"] > 0.9
    assert found["voltage"] == 300


def test_a_volume_is_no_micrograph(tmp_path: Path, images: np.ndarray) -> None:
    file = tmp_path / "v.mrc"
    with mrcfile.new(file) as made:
        made.set_data(images)
        made.voxel_size = PIXEL
    with pytest.raises(ParameterError, match=r"v\.mrc has 5 sections.*--section"):
        td.estimate_micrograph(file, voltage=300)
    found = td.estimate_micrograph(file, voltage=300, section=2)
    assert abs(float(found["defocus_u"][0] + found["defocus_v"][0]) / 2 - DEFOCUS[2]) < 300


def test_noise_says_that_it_may_be_anything(tmp_path: Path) -> None:
    file = tmp_path / "n.mrc"
    with mrcfile.new(file) as made:
        made.set_data(np.random.default_rng(3).poisson(20.0, (640, 640)).astype(np.float32))
        made.voxel_size = PIXEL
    with pytest.warns(TomodaskWarning, match="follows from noise"):
        table = td.estimate_micrograph(file, voltage=300, defocus_range=(10000.0, 50000.0))
    assert float(table["confidence"][0]) < 0.5
    assert float(table["defocus_error"][0]) >= 0.45 * 40000


def test_a_blank_micrograph_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "blank.mrc"
    with mrcfile.new(file) as made:
        made.set_data(np.full((600, 600), 5, np.float32))
        made.voxel_size = 2.0
    with pytest.raises(DataError, match=r"blank\.mrc"):
        td.estimate_micrograph(file, voltage=300)


def test_series_from_the_command_line(
    made: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["ctf", "estimate", str(made.path), "--alignment", "none", "--quiet"]
    assert main(command) == 2
    assert "--overwrite" in capsys.readouterr().err
    folder = tmp_path / "pictures"
    assert main([*command, "--overwrite", "--pictures", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "handedness -1" in out
    assert len(list(folder.glob("*.png"))) == len(ANGLES) + 2
    assert main([*command, "--overwrite", "--handedness", "-1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["defocus_handedness"] == -1


def test_tomograms_and_stacks_from_the_command_line(
    made: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = [str(made.path), "--alignment", "none", "--bin", "4", "--quiet"]
    thin = ["--thickness", "24", "--name"]
    assert main(["reconstruct", *common, *thin, "flip", "--ctf", "3d"]) == 0
    assert main(["reconstruct", *common, *thin, "plain"]) == 0
    # The same name made otherwise is refused, and the message says what differs.
    assert main(["reconstruct", *common, *thin, "plain", "--ctf", "2d"]) == 1
    assert "ctf" in capsys.readouterr().err
    assert main(["deconvolve", str(made.path), "--tomogram", "flip", "--quiet"]) == 0
    assert main(["deconvolve", str(made.path), "--tomogram", "gone", "--quiet"]) == 1
    stack = tmp_path / "corrected.mrc"
    assert main(["ctf", "correct", *common, "--out", str(stack)]) == 0
    with mrcfile.open(stack) as file:
        corrected = file.data.copy()
    plain = td.align_stack(td.open(made.path), binning=4, alignment="none").values
    assert corrected.shape == plain.shape
    assert not np.allclose(corrected, plain)
    tree = td.open(made.path)
    names = ["flip", "plain", "flip-deconvolved"]
    flip, bare, eye = (tree[f"tomograms/{name}/full/0"].to_dataset()["tomogram"] for name in names)
    assert flip.attrs["provenance"]["ctf"] == "3d"
    assert eye.attrs["provenance"]["step"] == "deconvolve"
    assert eye.attrs["voxel_size"] == pytest.approx(4 * PIXEL)
    assert float(abs(flip - bare).max()) > 0
    with pytest.raises(DoubleApplicationError):
        td.deconvolve(eye, series=tree)


@pytest.mark.slow
def test_real_micrograph(data_dir: Path) -> None:
    """Independent fits give 1.056 to 1.060 um."""
    table = td.estimate_micrograph(
        data_dir / "micrographs" / "fei-extended.mrc", voltage=300, amplitude_contrast=0.07
    )
    mean = float(table["defocus_u"][0] + table["defocus_v"][0]) / 2
    assert abs(mean - 10580) < 150
    assert float(table["fit_resolution"][0]) < 6

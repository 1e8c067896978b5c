"""The whole path, as a user goes it: one command a step, and what other programs then open."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import mrcfile
import numpy as np
import pytest
import xarray as xr
import zarr
from PIL import Image

import tomodask as td
from tomodask.cli import main
from tomodask.errors import (
    DataError,
    GeometryError,
    ParameterError,
    SchemaError,
    TomodaskWarning,
)
from tomodask.geometry import Projection
from tomodask.io.imod import (
    read_angles,
    read_transforms,
    write_angles,
    write_transforms,
    write_zfactors,
)
from tomodask.io.mrc_writer import MrcWriter
from tomodask.simulate import beads_and_vesicles

if TYPE_CHECKING:
    from pathlib import Path

TILTS = np.arange(-60, 61, 6.0)


def truth() -> Projection:
    """A projection with all that IMOD's files can hold."""
    rng = np.random.default_rng(4)
    return Projection.create(
        TILTS,
        tilt_axis_angle=84.0 + rng.normal(0, 0.2, 21),
        shift=rng.normal(0, 30, (21, 2)),
        magnification=1 + rng.normal(0, 0.003, 21),
        stretch=rng.normal(0, 0.002, 21),
        x_tilt=1.5,
        z_factor=rng.normal(0, 0.001, (21, 2)),
    )


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stack on disk with its angles and IMOD transforms beside it."""
    folder = tmp_path_factory.mktemp("stack")
    projection = truth()
    phantom = beads_and_vesicles(1, extent=(900, 900, 300), beads=8, vesicles=1, particles=4)
    images = 500 + phantom.project(projection, (150, 161), pixel_size=8.0)
    with MrcWriter(folder / "a.st", shape=images.shape, voxel_size=8.0, kind="stack") as writer:
        for image in images:
            writer.write(image)
    write_angles(folder / "a.tlt", TILTS)
    write_angles(folder / "a.xtilt", projection.x_tilt)
    write_transforms(folder / "a.xf", projection.to_transforms(8.0))
    write_zfactors(folder / "a.zfac", projection.z_factor)
    return folder


@pytest.fixture(scope="module")
def series(stack: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The imported series with a tomogram, made with the command line."""
    path = tmp_path_factory.mktemp("series") / "a.zarr"
    imod = " ".join(f"--{kind} {stack}/a.{kind}" for kind in ("xf", "xtilt", "zfac"))
    files = f"--tilt-angles {stack}/a.tlt {imod}"
    steps = (
        f"import {stack}/a.st {files} --tilt-axis 84 --exclude 3,7-8 --out {path} --quiet",
        f"align {path} --method coarse --quiet",
        f"reconstruct {path} --thickness 60 --alignment imported --quiet",
    )
    for step in steps:
        assert main(step.split()) == 0
    return path


def test_store_opens_as_a_lazy_tree(series: Path, no_compute: None) -> None:
    tree = td.open(series)
    images = tree["tilt_series"]["images"]
    assert images.dims == ("tilt", "y", "x")
    assert images.chunksizes["tilt"] == (1,) * 21
    assert tree["tilt_series"]["included"].values.tolist().count(False) == 3
    assert set(tree["alignments"].children) == {"imported", "coarse"}
    assert "wbp" in repr(tree)
    assert "a" in tree.tomo.summary()._repr_html_()


def test_info_is_json(series: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(series), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["views"] == 21
    assert values["excluded_views"] == [3, 7, 8]
    assert values["pixel_size_angstrom"] == 8.0
    # the axis lies near x, so that the aligned images are turned: 161 x 150 becomes 150 x 161
    assert values["tomograms"]["wbp"]["shape_xyz"] == [150, 161, 60]
    assert main(["info", str(series)]) == 0
    assert "excluded   3, 7, 8" in capsys.readouterr().out


def test_imported_alignment_is_the_one_of_the_files(series: Path) -> None:
    """Through IMOD's text and back: to half the last digit of the file."""
    from tomodask.model import projection_of

    found = projection_of(td.open(series)["alignments/imported"].to_dataset())
    points = np.array([[300.0, -400.0, 100.0], [-100.0, 200.0, -80.0]])
    # shifts have 4 decimals of a pixel, matrices 9, angles 4: 5e-5 px x 8 A and 5e-5 deg x 500 A
    np.testing.assert_allclose(found.project(points), truth().project(points), atol=2e-3)


def test_alignment_is_exported_for_every_section(series: Path, tmp_path: Path) -> None:
    command = ["export", str(series), "--alignment", "imported", "--format", "imod"]
    assert main([*command, "--out", str(tmp_path)]) == 0
    assert len(read_angles(tmp_path / "imported.tlt")) == 21
    np.testing.assert_allclose(read_angles(tmp_path / "imported.xtilt"), 1.5)
    np.testing.assert_allclose(
        read_transforms(tmp_path / "imported.xf"), truth().to_transforms(8.0), atol=6e-5
    )
    assert (tmp_path / "imported.excluded").read_text().split() == ["4", "8", "9"]
    assert main(["export", str(series), "--alignment", "coarse", "--out", str(tmp_path)]) == 0
    assert not (tmp_path / "coarse.xtilt").exists()


NAPARI = """
import sys, numpy as np
from napari_ome_zarr import napari_get_reader
path = sys.argv[1]
levels, options, kind = napari_get_reader(path)(path)[0]
assert kind == "image" and options["scale"] == [8.0, 8.0, 8.0], options
np.save(sys.argv[2], np.asarray(levels[0]))
"""


def test_tomogram_opens_in_napari(series: Path, tmp_path: Path) -> None:
    """In a process of its own: napari's imports warn."""
    if importlib.util.find_spec("napari_ome_zarr") is None:
        pytest.skip("napari-ome-zarr is not installed")
    folder = series / "tomograms" / "wbp" / "full"
    out = tmp_path / "napari.npy"
    command = [sys.executable, "-W", "ignore", "-c", NAPARI, str(folder), str(out)]
    subprocess.run(command, check=True, capture_output=True)
    values = zarr.open_array(folder / "0" / "tomogram", mode="r")[:]
    np.testing.assert_array_equal(np.load(out), values)


def test_tomogram_opens_in_xarray_and_follows_the_standard(series: Path) -> None:
    models = pytest.importorskip("ome_zarr_models")
    folder = series / "tomograms" / "wbp" / "full"
    image = models.open_ome_zarr(zarr.open_group(folder, mode="r"))
    assert [axis.unit for axis in image.attributes.ome.multiscales[0].axes] == ["angstrom"] * 3
    dataset = xr.open_dataset(folder, group="0", engine="zarr", consolidated=False)
    values = zarr.open_array(folder / "0" / "tomogram", mode="r")[:]
    np.testing.assert_array_equal(dataset["tomogram"].values, values)
    for axis in "zyx":
        assert abs(float(dataset[axis].mean())) < 1e-9
        assert dataset[axis].attrs["units"] == "angstrom"


def test_coarser_levels_are_means(series: Path) -> None:
    folder = series / "tomograms" / "wbp" / "full"
    fine = zarr.open_array(folder / "0" / "tomogram", mode="r")[:]
    coarse = zarr.open_array(folder / "1" / "tomogram", mode="r")[:]
    assert coarse.shape == tuple(-(-n // 2) for n in fine.shape)
    whole = tuple(n // 2 * 2 for n in fine.shape)
    even = fine[: whole[0], : whole[1], : whole[2]]
    shape = [n // 2 for n in whole]
    means = even.reshape(shape[0], 2, shape[1], 2, shape[2], 2).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(coarse[: shape[0], : shape[1], : shape[2]], means, atol=1e-5)


def test_mrc_holds_the_tomogram(series: Path, tmp_path: Path) -> None:
    out = tmp_path / "wbp.mrc"
    assert main(["export", str(series), "--tomogram", "wbp", "--out", str(out), "--quiet"]) == 0
    stored = zarr.open_array(series / "tomograms/wbp/full/0/tomogram", mode="r")[:]
    assert mrcfile.validate(out)
    with mrcfile.open(out) as mrc:
        np.testing.assert_array_equal(mrc.data, stored)
        np.testing.assert_allclose(mrc.voxel_size.tolist(), 8.0, rtol=1e-6)
        # the first voxel's place relative to the centre of the tomogram
        np.testing.assert_allclose(
            mrc.header.origin.tolist(), [-(n - 1) / 2 * 8 for n in stored.shape[::-1]], rtol=1e-6
        )
        assert float(mrc.header.dmean) == pytest.approx(stored.mean(dtype=np.float64), abs=1e-6)
    region = ["--x-range", "10:40", "--y-range", "0:50", "--z-range", "20:30"]
    part = tmp_path / "part.mrc"
    assert main(["export", str(series), "--tomogram", "wbp", "--out", str(part), *region]) == 0
    np.testing.assert_array_equal(mrcfile.read(part), stored[20:30, 0:50, 10:40])


def test_aligned_stack_and_picture(series: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.ali"
    command = ["export", str(series), "--aligned-stack", "imported", "--bin", "2"]
    assert main([*command, "--out", str(out), "--quiet"]) == 0
    with mrcfile.open(out, permissive=True) as mrc:
        assert mrc.data.shape == (21, 80, 75)
        np.testing.assert_allclose(mrc.voxel_size.x, 16.0)
        expected = td.align_stack(td.open(series), binning=2, alignment="imported")
        np.testing.assert_array_equal(mrc.data[5], expected[5].values)
    picture = tmp_path / "wbp.png"
    command = ["export", str(series), "--tomogram", "wbp", "--out", str(picture)]
    assert main([*command, "--quiet"]) == 0
    assert np.asarray(Image.open(picture)).std() > 5
    raw = td.export_stack(td.open(series)["tilt_series"]["images"], tmp_path / "raw.st")
    assert mrcfile.read(raw).shape == (21, 150, 161)


def test_exit_codes(series: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reconstruct", str(series), "--thickness", "20"]) == 1
    assert "name one" in capsys.readouterr().err
    assert main(["reconstruct", "--bin", "2"]) == 2
    assert main(["nonsense"]) == 2
    assert main(["export", str(series), "--out", str(tmp_path / "x.mrc")]) == 2
    assert main(["reconstruct", str(series), "--thickness", "20", "--x-range", "a"]) == 2
    assert main(["info", str(tmp_path / "nothing")]) == 1
    assert "tomodask import" in capsys.readouterr().err
    lean = ["reconstruct", str(series), "--thickness", "20", "--alignment", "imported"]
    assert main([*lean, "--name", "lean", "--memory-limit", "1MB"]) == 1
    message = capsys.readouterr().err
    # What this process holds counts, so the unit depends on what ran before.
    assert re.search(r"needs [0-9.]+ [KMG]iB for one task", message)
    assert "1.0 MiB" in message or "976.6 KiB" in message
    assert main([*lean, "--thickness", "0"]) == 2


def test_alignments_made_by_hand_are_stored(series: Path, tmp_path: Path) -> None:
    tree = td.open(series)
    moved = tree["alignments/imported"].to_dataset()
    moved["shift_x"] = moved["shift_x"] + 16.0
    td.store_alignment(series, moved, name="moved")
    assert "moved" in td.open(series)["alignments"].children
    td.export_alignment(td.open(series), tmp_path, alignment="moved")
    transforms = read_transforms(tmp_path / "moved.xf")
    shift = Projection.from_transforms(transforms, 8.0, TILTS).shift
    np.testing.assert_allclose(shift - truth().shift, [[16.0, 0.0]] * 21, atol=2e-3)
    with pytest.raises(ParameterError, match="already"):
        td.store_alignment(series, moved, name="moved")
    with pytest.raises(DataError, match="20 views"):
        td.store_alignment(series, moved.isel(tilt=slice(20)), name="short")
    with pytest.raises(SchemaError, match="shift_y"):
        td.store_alignment(series, moved.drop_vars("shift_y"), name="bare")


def test_unknown_axis_is_told(stack: Path, tmp_path: Path) -> None:
    path = td.import_stack(stack / "a.st", tmp_path / "b.zarr", tilt_angles=stack / "a.tlt")
    with pytest.warns(TomodaskWarning, match="records no tilt axis"):
        td.reconstruct(td.open(path), thickness=20, alignment="none")


def test_demo_makes_what_it_says(tmp_path: Path) -> None:
    folder = td.demo(tmp_path / "demo", size=192)
    assert mrcfile.read(folder / "demo.mrc").shape == (96, 192, 192)
    assert (folder / "demo.png").stat().st_size > 10_000
    alignment = td.open(folder / "demo.zarr")["alignments/beads"]
    assert alignment.attrs["leave_out_error"] < 8.0  # A, one pixel


def test_a_volume_is_not_stored_over_its_source(series: Path) -> None:
    folder = series / "tomograms" / "wbp" / "full"
    before = zarr.open_array(folder / "0" / "tomogram", mode="r")[:]
    volume = td.open(series)["tomograms/wbp/full/0"].to_dataset()["tomogram"]
    with pytest.raises(ParameterError, match="would destroy"):
        td.store(volume * 2, folder, name="wbp", overwrite=True)
    np.testing.assert_array_equal(zarr.open_array(folder / "0" / "tomogram", mode="r")[:], before)


def test_noise_is_not_aligned(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with MrcWriter(tmp_path / "n.st", shape=(7, 96, 96), voxel_size=10.0, kind="stack") as writer:
        for _ in range(7):
            writer.write(rng.normal(size=(96, 96)).astype(np.float32))
    path = td.import_stack(
        tmp_path / "n.st", tmp_path / "n.zarr", tilt_angles=list(range(-30, 31, 10)), tilt_axis=0
    )
    with pytest.raises(DataError, match="beyond chance"):
        td.align(path)
    assert "alignments" not in td.open(path).children


def test_options_that_do_not_belong_are_refused(series: Path, tmp_path: Path) -> None:
    export = f"export {series} --tomogram wbp"
    for options in (
        f"--out {tmp_path}/w.png --z-range 0:5",
        f"--out {tmp_path}/w.mrc --bin 3",
        f"--out {tmp_path}/w.tif",
    ):
        assert main([*export.split(), *options.split()]) == 2
    assert main(f"import nothing.st --exclude 5-3 --out {tmp_path}/x.zarr".split()) == 2
    bad = td.open(series)["alignments/imported"].to_dataset()
    bad["magnification"] = bad["magnification"] * 0
    with pytest.raises(GeometryError):
        td.store_alignment(series, bad, name="bad")

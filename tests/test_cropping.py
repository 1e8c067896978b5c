"""A tomogram cut down: the same voxels at the same places, whole at any time."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import zarr
from ome_zarr_models.v05.image import Image

import tomodask as td
from tests.image_sample import counted, scene, stored
from tomodask import cropping
from tomodask.cli import main
from tomodask.errors import ParameterError, ProductMissingError

if TYPE_CHECKING:
    import xarray as xr

ANGLES = np.linspace(-40, 40, 5)
RANGES = {"z": (5, 21), "y": (10, 143), "x": (3, 90)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = stored(
        tmp_path_factory.mktemp("whole") / "s.zarr",
        ANGLES,
        counted(scene(ANGLES, (150, 141)))[0],
    )
    td.store(td.reconstruct(td.open(path), thickness=30, alignment="none"), name="wbp")
    return path


@pytest.fixture
def series(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "s.zarr"))


def opened(path: Path, name: str = "wbp", level: int = 0) -> xr.DataArray:
    found: xr.DataArray = td.open(path)[f"tomograms/{name}/full/{level}"]["tomogram"]
    return found.load()


def test_voxels_keep_their_values_and_places(series: Path) -> None:
    before = opened(series)
    folder = td.crop(series, tomogram="wbp", **RANGES)
    assert folder == series / "tomograms" / "wbp" / "full"
    expected = before.isel({axis: slice(*part) for axis, part in RANGES.items()})
    found = opened(series)
    np.testing.assert_array_equal(found.values, expected.values)
    for axis in "zyx":
        np.testing.assert_allclose(found[axis].values, expected[axis].values, atol=1e-9)
    assert not list(series.glob(".work*"))
    info = td.info(series)["tomograms"]["wbp"]
    assert info["shape_xyz"] == [87, 133, 16]
    assert info["voxel_size_angstrom"] == 10.0
    provenance = zarr.open_group(folder, mode="r").attrs["tomodask"]["provenance"]
    assert provenance["step"] == "reconstruct"
    assert provenance["cropped"] == [{axis: list(part) for axis, part in RANGES.items()}]


def test_coarser_levels_belong_to_the_part(series: Path) -> None:
    td.crop(series, tomogram="wbp", **RANGES)
    fine, coarse = opened(series).values, opened(series, level=1).values
    assert coarse.shape == (8, 67, 44)
    mean = fine[:, :132, :86].reshape(8, 2, 66, 2, 43, 2).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(coarse[:, :66, :43], mean, rtol=1e-4, atol=1e-6)
    Image.from_zarr(zarr.open_group(series / "tomograms" / "wbp" / "full", mode="r"))


def test_another_name_leaves_the_whole(series: Path) -> None:
    before = opened(series)
    td.crop(series, tomogram="wbp", z=(4, 9), name="thin")
    td.crop(series, tomogram="wbp", z=(4, 9), name="thin")  # finds it finished
    np.testing.assert_array_equal(opened(series).values, before.values)
    np.testing.assert_array_equal(opened(series, "thin").values, before.values[4:9])
    td.crop(series, tomogram="wbp", z=(5, 9), name="thin", overwrite=True)
    assert opened(series, "thin").sizes["z"] == 4


def test_interrupted_before_it_is_whole(series: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole tomogram stands until the part is complete; then the same call goes on."""
    before = opened(series)

    def stopped(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(
            cropping, "_put_in_place", lambda *a, only_finish=False: only_finish or stopped()
        )
        with pytest.raises(KeyboardInterrupt):
            td.crop(series, tomogram="wbp", z=(5, 21))
    np.testing.assert_array_equal(opened(series).values, before.values)
    td.crop(series, tomogram="wbp", z=(5, 21))
    np.testing.assert_array_equal(opened(series).values, before.values[5:21])


def test_killed_between_the_renames(series: Path) -> None:
    before = opened(series)
    td.crop(series, tomogram="wbp", z=(5, 21), name="part")
    aside = series / ".work" / "crop" / "wbp"
    aside.mkdir(parents=True)
    (series / "tomograms" / "wbp" / "full").rename(aside / "before")
    (series / "tomograms" / "part" / "full").rename(aside / "full")
    with pytest.raises(ParameterError, match="after it was cropped"):
        td.crop(series, tomogram="wbp", z=(5, 21))
    np.testing.assert_array_equal(opened(series).values, before.values[5:21])
    assert not list(series.glob(".work*"))


def test_command(series: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["crop", str(series), "--tomogram", "wbp", "--z", "5:21", "--quiet"]
    assert main(command) == 0
    assert "141 x 150 x 16" in capsys.readouterr().out
    assert main(command) == 2
    assert "after it was cropped" in capsys.readouterr().err
    assert main([*command[:4], "--quiet"]) == 2


def test_what_is_not_there(series: Path) -> None:
    with pytest.raises(ParameterError, match="does not lie in 0:30"):
        td.crop(series, tomogram="wbp", z=(5, 31))
    with pytest.raises(ParameterError, match="give a range"):
        td.crop(series, tomogram="wbp")
    with pytest.raises(ProductMissingError, match="no complete tomogram 'other'"):
        td.crop(series, tomogram="other", z=(0, 3))
    assert not list(series.glob(".work*"))

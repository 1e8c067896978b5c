"""From mdocs to a table of movies: order, dose and movies of made-up and of real acquisitions."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tomodask.errors import DataError, ParameterError, StoreError, TomodaskWarning
from tomodask.io.acquisition import read_acquisition
from tomodask.io.movie_search import MovieFolder, recorded_name
from tomodask.io.movie_table import movies_text, pixel_size_of_frames
from tomodask.io.tables import read_table, write_table
from tomodask.model import validate

if TYPE_CHECKING:
    from collections.abc import Sequence

# Dose-symmetric from 3 degrees, as the microscope takes them.
ANGLES = [3.0, 6.0, 0.0, -3.0, 9.0, 12.0, -6.0]
EXPOSURE = 2.5

SERIALEM_HEAD = """PixelSpacing = 1.5
Voltage = 300
ImageFile = TS_01.mrc
ImageSize = 4096 3000
DataMode = 1

[T = SerialEM: A Titan Krios                 06-Jun-23  23:19:47    ]

[T =     Tilt axis angle = 82.9, binning = 1  spot = 5  camera = 1 dosym = 3.0]
"""

TOMO5_HEAD = """PixelSpacing = 2.09
Voltage = 300
ImageFile = Position_1.mrc
ImageSize = 4096 4096
DataMode = 1

[T = Tomography: TITAN52337740    30-Sep-2025  14:55:42]

[T =   TiltAxisAngle = -175.84  Binning = 2  SpotSize = 6]
"""


def view(number: int, angle: float, *, taken: int, **keys: Any) -> str:
    """The section of a view that was the `taken`-th; keys of value None are left out."""
    values = {
        "MinMaxMean": "0 1948 630.934",
        "TiltAngle": f"{angle + 0.004:.3f}",
        "ExposureDose": EXPOSURE,
        "PixelSpacing": 1.5,
        "Defocus": 2.25002,
        "RotationAngle": 172.9,
        "Binning": 1,
        "CountsPerElectron": "NaN",
        "TargetDefocus": -3,
        "PriorRecordDose": f"{taken * EXPOSURE:g}",
        "SubFramePath": rf"\\server\my frames\TS_01_{taken:03d}_{angle:.1f}.tif",
        "NumSubFrames": 10,
        "FrameDosesAndNumber": "0.25 10",
        "DateTime": f"06-Jun-23  23:{10 + taken}:46",
    } | keys
    lines = [f"{key} = {value}" for key, value in values.items() if value is not None]
    return "\n".join(["", f"[ZValue = {number}]", *lines, ""])


def series(angles: Sequence[float] = ANGLES, **keys: Any) -> list[str]:
    """Sections sorted by angle, as a stack is; `keys` hold for all of them."""
    taken = sorted(range(len(angles)), key=lambda n: angles[n])
    return [view(z, angles[n], taken=n, **keys) for z, n in enumerate(taken)]


def write(folder: Path, sections: Sequence[str], head: str = SERIALEM_HEAD) -> Path:
    """Write an mdoc and, empty, the movies that it names."""
    path = folder / "TS_01.mrc.mdoc"
    text = head + "".join(sections)
    path.write_text(text)
    frames = folder / "frames"
    frames.mkdir(exist_ok=True)
    for line in re.findall(r"SubFramePath = (.*)", text):
        (frames / re.split(r"[\\/]", line)[-1]).touch()
    return path


def read(path: Path, **given: Any) -> Any:
    return read_acquisition(path, frames=path.parent / "frames", **given)


def test_dose_symmetric_series_comes_back_as_taken(tmp_path: Path) -> None:
    table = read(write(tmp_path, series()))
    validate(table, "movies")
    angles = sorted(ANGLES)
    order = [ANGLES.index(angle) for angle in angles]
    np.testing.assert_allclose(table["tilt_angle"], np.array(angles) + 0.004, atol=1e-9)
    np.testing.assert_array_equal(table["order"], order)
    np.testing.assert_array_equal(table["dose"], np.array(order) * EXPOSURE)
    np.testing.assert_array_equal(table["exposure"], EXPOSURE)
    np.testing.assert_array_equal(table["frames"], 10)
    np.testing.assert_array_equal(table["section"], range(7))
    np.testing.assert_array_equal(table["nominal_defocus"], 30000)
    assert table["included"].values.all()
    assert set(table["reason"].values) == {""}
    assert table["time"].values[0] == f"2023-06-06T23:{10 + order[0]}:46"
    for path, taken, angle in zip(table["movie"].values, order, angles, strict=True):
        assert path == str(tmp_path / "frames" / f"TS_01_{taken:03d}_{angle:.1f}.tif")
    attributes = table.attrs
    assert attributes["name"] == "TS_01"
    assert (attributes["pixel_size"], attributes["voltage"]) == (1.5, 300)
    assert attributes["tilt_axis_angle"] == 82.9
    made = attributes["provenance"]
    assert made["given_by_user"] == []
    assert made["order_from"] == "DateTime"
    assert made["exposure_from"] == "ExposureDose"
    assert made["dose_from"] == "PriorRecordDose"


def test_table_is_stored_as_it_is(tmp_path: Path) -> None:
    sections = series()
    sections[0] = sections[0].replace("TS_01_006", "TS_é [6]")
    table = read(write(tmp_path, sections, SERIALEM_HEAD + "[MontSection = 0]\n"))
    assert table.attrs == json.loads(json.dumps(table.attrs))
    write_table(tmp_path / "a.zarr", "movies", table, "movies")
    stored = read_table(tmp_path / "a.zarr", "movies", "movies")
    assert stored.reset_coords().equals(table.reset_coords())
    assert stored.attrs == table.attrs


def test_order_in_the_file_and_of_keys_say_nothing(tmp_path: Path) -> None:
    expected = read(write(tmp_path, series()))
    sections = []
    for number, text in enumerate(series()):
        header, *keys = text.strip().splitlines()
        turn = keys[number:] + keys[:number]
        sections.append("\n".join(["", header, *turn[:: (-1) ** number], ""]))
    found = read(write(tmp_path, sections[::-1]))
    assert found.equals(expected)


def test_users_dose_wins(tmp_path: Path) -> None:
    path = write(tmp_path, series())
    for given, total in (({"exposure": 4.0}, 4.0), ({"exposure_per_frame": 0.3}, 3.0)):
        table = read(path, **given)
        np.testing.assert_allclose(table["exposure"], total)
        np.testing.assert_allclose(table["dose"], table["order"] * total)
        assert table.attrs["provenance"]["given_by_user"] == list(given)
        assert table.attrs["provenance"]["exposure_from"] == "given"
    axis = read(path, tilt_axis=-90.0, pixel_size=0.75, voltage=200).attrs
    assert (axis["tilt_axis_angle"], axis["pixel_size"], axis["voltage"]) == (-90, 0.75, 200)
    for bad in ({"exposure": -1.0}, {"exposure": 0.0}, {"voltage": np.nan}, {"pixel_size": 0}):
        with pytest.raises(ParameterError, match="number"):
            read(path, **bad)
    with pytest.raises(ParameterError, match="not both"):
        read(path, exposure=1.0, exposure_per_frame=1.0)
    uncounted = write(tmp_path, series(NumSubFrames=None))
    with pytest.raises(DataError, match=r"not counted .*--exposure"):
        read(uncounted, exposure_per_frame=0.3)


def test_dose_is_from_frames_where_the_view_has_none(tmp_path: Path) -> None:
    keys = {"ExposureDose": 0, "FrameDosesAndNumber": "0.2 4  0.3 6"}
    table = read(write(tmp_path, series(**keys, PriorRecordDose=0)))
    np.testing.assert_allclose(table["exposure"], 2.6)
    np.testing.assert_allclose(table["dose"], table["order"] * 2.6)
    assert table.attrs["provenance"]["exposure_from"] == "FrameDosesAndNumber"
    assert table.attrs["provenance"]["dose_from"] == "exposures"
    unknown = write(tmp_path, series(ExposureDose=None, FrameDosesAndNumber=None))
    with pytest.raises(DataError, match=r"TS_01.*not recorded.*\(--exposure\)"):
        read(unknown)
    np.testing.assert_array_equal(read(unknown, exposure=3.0)["exposure"], 3)


def test_dose_of_images_that_are_lost_counts(tmp_path: Path) -> None:
    """A view missing from the mdoc irradiated the specimen all the same."""
    sections = series()
    del sections[2]  # 0 degrees, the third taken
    table = read(write(tmp_path, sections))
    taken = np.array([ANGLES.index(angle) for angle in sorted(ANGLES) if angle != 0.0])
    np.testing.assert_array_equal(table["dose"], taken * EXPOSURE)
    np.testing.assert_array_equal(table["order"], taken - (taken > 2))
    np.testing.assert_array_equal(table["section"], [0, 1, 3, 4, 5, 6])


@pytest.mark.parametrize(
    ("prior", "message"), [({0: "40"}, "goes from 40 to"), ({3: None}, "1 of 7 views have no")]
)
def test_recorded_dose_that_contradicts_is_not_used(
    tmp_path: Path, prior: dict[int, str | None], message: str
) -> None:
    sections = [
        view(n, angle, taken=n, **({"PriorRecordDose": prior[n]} if n in prior else {}))
        for n, angle in enumerate(ANGLES)
    ]
    with pytest.warns(TomodaskWarning, match=message):
        table = read(write(tmp_path, sections))
    np.testing.assert_array_equal(table["dose"], table["order"] * EXPOSURE)


def test_doses_that_differ_are_told(tmp_path: Path) -> None:
    with pytest.warns(TomodaskWarning, match=r"ExposureDose of 2.5 .*frames 25 "):
        read(write(tmp_path, series(FrameDosesAndNumber="2.5 10")))
    with pytest.warns(TomodaskWarning, match="120 e/A.2 in one view is unusually high"):
        read(write(tmp_path, series()), exposure=120.0)


def test_order_without_times(tmp_path: Path) -> None:
    expected = [ANGLES.index(angle) for angle in sorted(ANGLES)]
    table = read(write(tmp_path, series(DateTime=None)))
    np.testing.assert_array_equal(table["order"], expected)
    assert table.attrs["provenance"]["order_from"] == "PriorRecordDose"
    assert "time" not in table.coords
    some = series()
    some[4] = re.sub("DateTime.*", "", some[4])
    with pytest.warns(TomodaskWarning, match="1 of 7 views have no DateTime"):
        table = read(write(tmp_path, some))
    np.testing.assert_array_equal(table["order"], expected)
    with pytest.warns(TomodaskWarning, match="in the order of their sections"):
        table = read(write(tmp_path, series(DateTime=None, PriorRecordDose=None)))
    np.testing.assert_array_equal(table["order"], range(7))
    assert table.attrs["provenance"]["order_from"] == "section number"


def test_views_of_one_second_are_told_apart_by_dose(tmp_path: Path) -> None:
    time = "06-Jun-23  23:10:46"
    table = read(write(tmp_path, series(DateTime=time)))
    np.testing.assert_array_equal(table["order"], [ANGLES.index(a) for a in sorted(ANGLES)])
    with pytest.warns(TomodaskWarning, match="6 views have the DateTime of another"):
        read(write(tmp_path, series(DateTime=time, PriorRecordDose=0)))


def test_movie_that_is_missing_is_flagged(tmp_path: Path) -> None:
    path = write(tmp_path, series())
    (tmp_path / "frames" / "TS_01_002_0.0.tif").unlink()
    table = read(path)
    assert table["included"].values.tolist() == [True, True, False, True, True, True, True]
    folder = tmp_path / "frames"
    assert table["reason"].values[2] == f"movie TS_01_002_0.0.tif not found in {folder}"
    assert table["movie"].values[2] == ""
    np.testing.assert_array_equal(table["dose"], table["order"] * EXPOSURE)
    text = movies_text(table)
    assert "7, 6 included" in text
    lines = text.splitlines()[-7:]
    assert lines[2].endswith(f"- {table['reason'].values[2]}")
    assert lines[3].split() == ["3", "3.00", "0", "0.00", "2.50", "10", "TS_01_000_3.0.tif"]
    assert len({line.rindex("  2.50  ") for line in lines}) == 1
    for movie in folder.iterdir():
        movie.unlink()
    with pytest.raises(DataError, match=r"none of its 7 movies .*--frames"):
        read(path)
    (folder / "TS_01_000_3.0.tif").touch()
    with pytest.raises(DataError, match="fewer than two views"):
        read(path)


def test_movies_are_found_beside_the_mdoc(tmp_path: Path) -> None:
    path = write(tmp_path, series())
    assert read_acquisition(path).equals(read(path))


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (r"\\192.168.12.2\Dose Fractions\a b_1.tiff", "a b_1.tiff"),
        (r"X:\user\frames\a_[-3.0].mrc ", "a_[-3.0].mrc"),
        ("../frames/a.tif", "a.tif"),
        (r"\\10.1.1.1\data\\Falcon/a.eer", "a.eer"),
        ("a.mrc", "a.mrc"),
    ],
)
def test_recorded_paths_are_of_another_computer(path: str, name: str) -> None:
    assert recorded_name(path) == name


def test_search_for_movies(tmp_path: Path) -> None:
    for name in (
        "a.tif",
        "b/c/A.TIF",
        "b/x.mrc",
        "b/x.eer",
        "b/Y_Fractions.MRC",
        "d/e.tif",
        "d/a.tif",
        "d/q.tif",
        "b/Q.TIF",
        "b/r.tif",
        "d/R.MRC",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    folder = MovieFolder(tmp_path)
    assert folder.find("a.tif") == tmp_path / "a.tif"
    assert folder.find("q.tif") == tmp_path / "d" / "q.tif"
    assert folder.find("r.mrc") == tmp_path / "d" / "R.MRC"
    assert folder.find("e.tif") == tmp_path / "d" / "e.tif"
    assert folder.find("y_fractions.mrc") == tmp_path / "b" / "Y_Fractions.MRC"
    assert folder.find("y_fractions.tiff") == tmp_path / "b" / "Y_Fractions.MRC"
    assert folder.find("e") == tmp_path / "d" / "e.tif"
    assert folder.find("e.txt") is None
    assert folder.find("none.tif") is None
    with pytest.raises(DataError, match=r"x\.mrc and .*x\.eer both fit|x\.eer and .*both fit"):
        folder.find("x.tif")
    (tmp_path / "d" / "x.mrc").touch()
    with pytest.raises(DataError, match="both fit"):
        MovieFolder(tmp_path).find("x.mrc")
    with pytest.raises(StoreError, match="not a folder"):
        MovieFolder(tmp_path / "a.tif")


def test_movies_that_were_converted_are_told(tmp_path: Path) -> None:
    path = write(tmp_path, series())
    for movie in list((tmp_path / "frames").iterdir()):
        movie.rename(movie.with_suffix(".eer"))
    with pytest.warns(TomodaskWarning, match=r"7 movies have another extension"):
        table = read(path)
    assert all(name.endswith(".eer") for name in table["movie"].values)


def test_one_movie_for_two_views_is_refused(tmp_path: Path) -> None:
    sections = series()
    sections[1] = sections[1].replace("TS_01_003_-3.0", "TS_01_002_0.0")
    with pytest.raises(DataError, match=r"sections 1 and 2 both name the movie TS_01_002_0.0.tif"):
        read(write(tmp_path, sections))
    sections[1] = sections[1].replace("TS_01_002_0.0.tif", "TS_01_002_0.0.mrc")
    path = write(tmp_path, sections)
    (tmp_path / "frames" / "TS_01_002_0.0.mrc").unlink()
    with pytest.raises(DataError, match=r"fits sections 1 .* and 2"):
        read(path)


def test_last_view_of_an_angle_is_kept(tmp_path: Path) -> None:
    """Within a quarter of the step; whichever has its movie."""
    sections = [*series(), view(7, 0.3, taken=7), view(8, 5.0, taken=8)]
    path = write(tmp_path, sections)
    table = read(path)
    reasons = dict(zip(table["section"].values.tolist(), table["reason"].values, strict=True))
    assert reasons.pop(2) == "taken again later as TS_01_007_0.3.tif"
    assert set(reasons.values()) == {""}
    assert np.all(np.diff(table["tilt_angle"]) > 0)
    np.testing.assert_array_equal(table["dose"], table["order"] * EXPOSURE)
    (tmp_path / "frames" / "TS_01_007_0.3.tif").unlink()
    table = read(path)
    assert table["included"].values.tolist().count(False) == 1
    assert "not found" in table["reason"].values[table["section"].values == 7][0]


def test_several_series_in_one_are_refused(tmp_path: Path) -> None:
    twice = [*series(), *(view(7 + n, a, taken=7 + n) for n, a in enumerate(ANGLES))]
    with pytest.raises(DataError, match="7 of 7 tilt angles were taken more than once"):
        read(write(tmp_path, twice))


def test_section_without_angle_is_left_out(tmp_path: Path) -> None:
    sections = series()
    sections[6] = "\n[ZValue = 6]\n\n"
    sections[0] = sections[0].replace("TiltAngle", "Tilt")
    with pytest.warns(TomodaskWarning, match=r"2 of 7 sections .*TS_01_006_-6.0.tif, section 6"):
        table = read(write(tmp_path, sections))
    assert table["section"].values.tolist() == [1, 2, 3, 4, 5]
    np.testing.assert_array_equal(table["dose"], [7.5, 5.0, 0.0, 2.5, 10.0])


@pytest.mark.parametrize(
    "given", [{}, {"exposure": EXPOSURE}, {"exposure_per_frame": EXPOSURE / 10}]
)
def test_dose_of_section_without_angle_counts(tmp_path: Path, given: dict[str, float]) -> None:
    sections = series(PriorRecordDose=None)
    sections[3] = sections[3].replace("TiltAngle", "Tilt")  # 3 degrees, the first taken
    sections[6] = sections[6].replace("TiltAngle", "Tilt")  # 12 degrees, the sixth
    sections.append("\n[ZValue = 7]\nExposureDose = 2.5\n")  # nobody knows when
    with pytest.warns(TomodaskWarning, match="3 of 8 sections have no TiltAngle"):
        table = read(write(tmp_path, sections), **given)
    taken = np.array([6, 3, 2, 1, 4])
    np.testing.assert_allclose(table["dose"], taken * EXPOSURE)
    np.testing.assert_array_equal(table["order"], taken - 1 - (taken > 5))


def test_section_without_movie_is_flagged(tmp_path: Path) -> None:
    sections = series()
    sections[0] = re.sub("SubFramePath.*", "", sections[0])
    table = read(write(tmp_path, sections))
    assert table["reason"].values[0] == "no movie is recorded (SubFramePath)"
    assert not table["included"].values[0]


def frame_set(text: str) -> str:
    """A section as SerialEM writes it into the mdoc of one movie."""
    title = "T = SerialEM: A Titan Krios Camera -> 1:GIF-K3         08-Oct-21  07:38:24    \n"
    body = re.sub(r"\[ZValue = \d+\]", "[FrameSet = 0]", text)
    body = body.replace("Binning = 1", "Binning = 0.5\nRotationAndFlip = 4\nGainReference = G.dm4")
    return f"{title}Voltage = 200\n{re.sub('PriorRecordDose.*', '', body)}"


def per_view(folder: Path, *, named: bool) -> list[Path]:
    paths = []
    (folder / "frames").mkdir()
    for number, (angle, text) in enumerate(zip(sorted(ANGLES), series(), strict=True)):
        movie = f"TS_01_{ANGLES.index(angle):03d}_{angle:.1f}.tif"
        (folder / "frames" / movie).touch()
        body = frame_set(text)
        name = f"{movie}.mdoc" if not named else f"TS_01_{number}.mdoc"
        paths.append(folder / name)
        paths[-1].write_text(body if named else re.sub("SubFramePath.*", "", body))
    return paths


@pytest.mark.parametrize("named", [True, False])
def test_one_mdoc_per_view(tmp_path: Path, *, named: bool) -> None:
    paths = per_view(tmp_path, named=named)
    for mdocs in (tmp_path, paths[::-1], [*paths]):
        table = read_acquisition(mdocs, frames=tmp_path / "frames")
        order = [ANGLES.index(angle) for angle in sorted(ANGLES)]
        np.testing.assert_array_equal(table["order"], order)
        np.testing.assert_array_equal(table["dose"], np.array(order) * EXPOSURE)
        names = [Path(path).name for path in table["movie"].values]
        assert names == [
            f"TS_01_{taken:03d}_{angle:.1f}.tif"
            for taken, angle in zip(order, sorted(ANGLES), strict=True)
        ]
        assert sorted(table["section"].values) == list(range(7))
        assert table.attrs["name"] == "TS_01"
        assert table.attrs["pixel_size"] == 1.5
        assert table.attrs["voltage"] == 200
        assert table.attrs["tilt_axis_angle"] == pytest.approx(82.9)
        assert table.attrs["detector"] == {
            "binning": 0.5,
            "rotation_and_flip": 4,
            "gain_reference": "G.dm4",
        }
    with pytest.raises(DataError, match="1 view"):
        read_acquisition(paths[0], frames=tmp_path / "frames")


def test_one_mdoc_of_many_frame_sets(tmp_path: Path) -> None:
    text = "".join(series()).replace("ZValue", "FrameSet")
    expected = read(write(tmp_path, series()))
    assert read(write(tmp_path, [text])).equals(expected)
    repeated = re.sub(r"FrameSet = \d+", "FrameSet = 0", text)
    assert read(write(tmp_path, [repeated])).equals(expected)


def test_mdocs_of_movies_beside_that_of_the_series(tmp_path: Path) -> None:
    per_view(tmp_path, named=True)
    alone = read(write(tmp_path, series()))
    table = read_acquisition(tmp_path, frames=tmp_path / "frames")
    assert table.identical(alone)
    stray = tmp_path / "Search.mdoc"
    stray.write_text(frame_set(view(0, 0.0, taken=40)))
    with pytest.raises(DataError, match=r"without the movie TS_01_040_0.0.tif of Search.mdoc"):
        read_acquisition(tmp_path)
    stray.write_text(SERIALEM_HEAD + "".join(series()))
    with pytest.raises(DataError, match="2 mdocs are of tilt series"):
        read_acquisition([stray, write(tmp_path, series()[1:])])


def test_override_replaces_its_mdoc(tmp_path: Path) -> None:
    old = write(tmp_path, series(PriorRecordDose=0))
    new = tmp_path / "TS_01.mrc_override.mdoc"
    new.write_text(SERIALEM_HEAD + "".join(series()[1:]))
    with pytest.warns(TomodaskWarning, match="TS_01.mrc.mdoc is not read, because"):
        table = read_acquisition(tmp_path)
    assert table.sizes["tilt"] == 6
    assert table.attrs["name"] == "TS_01"
    with pytest.warns(TomodaskWarning, match="override.mdoc lies beside"):
        assert read_acquisition(old).sizes["tilt"] == 7
    assert read_acquisition(new).sizes["tilt"] == 6


def test_copies_are_read_once(tmp_path: Path) -> None:
    path = write(tmp_path, series())
    (tmp_path / "TS_02.mdoc").write_bytes(path.read_bytes())
    with pytest.warns(TomodaskWarning, match=r"TS_02.mdoc is not read: it is a copy of TS_01"):
        assert read_acquisition(tmp_path).identical(read_acquisition(path))


def test_what_is_no_series_of_movies_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"names no movies .*import the stack"):
        read(write(tmp_path, series(SubFramePath=None)))
    with pytest.raises(DataError, match="montage"):
        read(write(tmp_path, [view(0, 0, taken=0, PieceCoordinates="0 3400 0"), *series()[1:]]))
    with pytest.raises(DataError, match="one movie holds the frames of the whole tilt series"):
        read(write(tmp_path, series(FrameTSStartEndFrames="0 12", SubFramePath=None)))
    with pytest.raises(DataError, match="no angle"):
        read(write(tmp_path, series(TiltAngle=190)))
    with pytest.raises(DataError, match=r"pixels of 1.5 to 6 A"):
        read(write(tmp_path, [*series()[1:], view(9, -9.0, taken=9, PixelSpacing=6)]))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no mdoc"):
        read_acquisition(tmp_path / "empty")
    with pytest.raises(ParameterError, match="no mdoc"):
        read_acquisition([])
    with pytest.raises(StoreError, match=r"nothing\.mdoc"):
        read_acquisition(tmp_path / "nothing.mdoc")


def test_tomography_5(tmp_path: Path) -> None:
    """Old and new: the new lost a bracket and the dose; its binning is of the frames, too."""
    body = series(PixelSpacing=2.09, Binning=2, RotationAngle=85.84, CameraLength="NaN")
    old = read(write(tmp_path, body, TOMO5_HEAD))
    assert old.attrs["pixel_size"] == 2.09
    assert old.attrs["tilt_axis_angle"] == 85.84
    assert old.attrs["provenance"]["tilt_axis_from"] == "Tomography 5, to be checked"
    assert "to be checked" in movies_text(old)
    head = TOMO5_HEAD.replace("[T = Tomography:", "T = Tomography_5.24.0.10938:")
    lean = [re.sub("ExposureDose.*|FrameDoses.*|PriorRecord.*", "", text) for text in body]
    path = write(tmp_path, lean, head)
    with pytest.raises(DataError, match="--exposure"):
        read(path)
    new = read(path, exposure=EXPOSURE)
    np.testing.assert_array_equal(new["dose"], old["dose"])
    assert new.attrs["tilt_axis_angle"] == 85.84
    comma = write(tmp_path, [re.sub(r"(\d)\.(\d)", r"\1,\2", t) for t in body[:1]] + body[1:], head)
    text = re.sub(r"(Axis.*|Angle.*|Dose.*|Spacing.*)(?<=\d)\.(?=\d)", r"\1,", comma.read_text())
    assert text.count(",") > 20
    comma.write_text(text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TomodaskWarning)  # the movie's name has a comma, too
        local = read(comma)
    for name in ("tilt_angle", "dose", "exposure", "order"):
        np.testing.assert_array_equal(local[name], old[name])
    assert local.attrs["tilt_axis_angle"] == 85.84


def test_unknown_axis_is_told(tmp_path: Path) -> None:
    head = re.sub(r"\[T.*\n", "", SERIALEM_HEAD)
    path = write(tmp_path, series(), head)
    with pytest.warns(TomodaskWarning, match="--tilt-axis"):
        table = read(path)
    assert "tilt_axis_angle" not in table.attrs
    assert "unknown" in movies_text(table)
    assert read(path, tilt_axis=5).attrs["tilt_axis_angle"] == 5
    bare = write(tmp_path, series(PixelSpacing=None), SERIALEM_HEAD.replace("PixelSpacing", "Px"))
    with pytest.raises(ParameterError, match="--pixel-size"):
        read(bare)


def test_pixel_size_follows_from_the_size_of_frames(tmp_path: Path) -> None:
    table = read(write(tmp_path, series(Binning=2, PixelSpacing=3.0)))
    assert table.attrs["pixel_size"] == 1.5
    assert pixel_size_of_frames(table, (6000, 8192)) == 1.5
    with pytest.warns(TomodaskWarning, match="turned by 90 degrees .*axis of 82.9"):
        assert pixel_size_of_frames(table, (8192, 6000)) == 1.5
    known = read(write(tmp_path, series(Binning=2, PixelSpacing=3.0)), tilt_axis=-7.1)
    assert pixel_size_of_frames(known, (8192, 6000)) == 1.5
    assert pixel_size_of_frames(table, (6100, 8300)) == 1.5  # edges cut off the image
    with pytest.warns(TomodaskWarning, match=r"pixels of 0.75 A; this is used in place of 1.5"):
        assert pixel_size_of_frames(table, (12000, 16384)) == 0.75
    with pytest.warns(TomodaskWarning, match="3 A"):
        assert pixel_size_of_frames(table, (3000, 4096)) == 3.0
    with pytest.warns(TomodaskWarning, match="do not fit"):
        assert pixel_size_of_frames(table, (5000, 4096)) == 1.5
    given = read(write(tmp_path, series(Binning=2, PixelSpacing=3.0)), pixel_size=1.48)
    assert pixel_size_of_frames(given, (6000, 8192)) == 1.48
    with pytest.warns(TomodaskWarning, match="1.48 A given are kept"):
        assert pixel_size_of_frames(given, (12000, 16384)) == 1.48
    no_size = write(tmp_path, series(), SERIALEM_HEAD.replace("ImageSize", "Size"))
    assert pixel_size_of_frames(read(no_size), (7, 9)) == 1.5


REAL = {
    "017.mdoc": None,
    "tilt_series.mdoc": r"not recorded .*--exposure",
    "frame_set_single.mdoc": "1 view",
    "frame_set_multiple.mdoc": "one movie holds the frames of the whole tilt series",
    "montage_section.mdoc": "montage",
    "montage_section_multiple.mdoc": "montage",
}


def test_real_mdocs_are_read_or_refused_with_the_reason(data_dir: Path, tmp_path: Path) -> None:
    paths = sorted((data_dir / "metadata" / "mdoc").glob("*.mdoc"))
    assert {path.name for path in paths} == set(REAL)
    for path in paths:
        for line in re.findall(r"SubFramePath = (.*)", path.read_text()):
            (tmp_path / re.split(r"[\\/]", line.strip())[-1]).touch()
        if reason := REAL[path.name]:
            with pytest.raises(DataError, match=reason):
                read_acquisition(path, frames=tmp_path)
    with pytest.warns(TomodaskWarning, match="frames 0.319778"):
        table = read_acquisition(paths[0], frames=tmp_path)
    text = paths[0].read_text()
    prior = sorted(float(dose) for dose in re.findall(r"PriorRecordDose = (\S+)", text))
    assert table["dose"].values[np.argsort(table["order"].values)].tolist() == prior
    assert table.sizes["tilt"] == text.count("[ZValue")
    series = read_acquisition(
        data_dir / "metadata/mdoc/tilt_series.mdoc", frames=tmp_path, exposure=3
    )
    # The name of a movie holds when it was taken, and its angle.
    for name, order, angle in zip(
        series["movie"].values, series["order"].values, series["tilt_angle"].values, strict=True
    ):
        _, _, taken, nominal = Path(name).stem.split("_")
        assert (int(taken), float(nominal)) == (order, round(angle, 1))
    assert series.attrs["pixel_size"] == 5.4 / 4
    with pytest.warns(TomodaskWarning, match="0.675 A"):
        assert pixel_size_of_frames(series, (7676, 7420)) == 0.675
    with pytest.warns(TomodaskWarning, match="turned by 90 degrees"):
        pixel_size_of_frames(series, (3710, 3838))


def test_real_movies_with_an_mdoc_each(data_dir: Path) -> None:
    folder = data_dir / "serialem_multiframe"
    with pytest.warns(TomodaskWarning, match="is a copy of"):
        table = read_acquisition(folder, exposure=2.0)
    np.testing.assert_allclose(table["tilt_angle"], [-5, 0, 5], atol=0.01)
    assert [Path(path).name for path in table["movie"].values] == [
        "test_002.mrc",
        "test_000.mrc",
        "test_001.mrc",
    ]
    assert table["frames"].values.tolist() == [2, 2, 2]
    assert table["order"].values.tolist() == [1, 0, 2]
    assert table.attrs["pixel_size"] == pixel_size_of_frames(table, (1024, 1024)) == 7.88
    with pytest.raises(DataError, match="--exposure"):
        read_acquisition(sorted(folder.glob("*.mrc.mdoc")))

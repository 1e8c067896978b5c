"""Mdoc files: real ones against a search of their text, and the ways in which they go wrong."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import pytest
from mdocfile.data_models import Mdoc

from tomodask.errors import DataError, FormatError, StoreError
from tomodask.io.mdoc import read_mdoc

if TYPE_CHECKING:
    from pathlib import Path

SERIALEM = """PixelSpacing = 1.724
Voltage = 200
ImageFile = tomo.mrc
ImageSize = 3836 3710
Montage = 1
DataMode = 1

[T = SerialEM: Acquired on a Talos          30-May-21  22:34:28    ]

[T =     Tilt axis angle = -88.7, binning = 1  spot = 6  camera = 1 bidir = 0.0]

[ZValue = 0]
PieceCoordinates = 0 0 0
TiltAngle = 3.01
ExposureDose = 2.5
PriorRecordDose = 2.5
RotationAngle = 1.3
CountsPerElectron = NaN
DateTime = 30-May-21  22:36:28

[ZValue = 1]
PieceCoordinates = 0 0 1
TiltAngle = 0.01
ExposureDose = 2.5
PriorRecordDose = 0
RotationAngle = 1.3
DateTime = 30-May-2021 22:34:59
"""

TOMO5 = """PixelSpacing = 1.96
Voltage = 300
ImageFile = Position_1.mrc
ImageSize = 4096 4096
DataMode = 1

T = Tomography 5.24

T =   TiltAxisAngle = -175.84  Binning = 2  SpotSize = 6

[ZValue = 0]
TiltAngle = 0.01
RotationAngle = 85.84
SubFramePath = \\\\server\\My frames\\Position_1_001_0.00_20240802_075228_fractions.tiff
DateTime = 02-Aug-2024 07:52:28
"""


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def test_serialem(tmp_path: Path) -> None:
    info = read_mdoc(write(tmp_path / "a.mdoc", SERIALEM))
    assert info.tilt_axis_angle == -88.7
    assert (info.pixel_size, info.voltage, info.image_file) == (1.724, 200, "tomo.mrc")
    # The key Montage = 1 alone is also found in tilt series.
    assert not info.is_montage
    assert [s.index for s in info.sections] == [0, 1]
    assert [s.tilt_angle for s in info.sections] == [3.01, 0.01]
    assert [s.exposure for s in info.sections] == [2.5, 2.5]
    assert [s.prior_dose for s in info.sections] == [2.5, 0.0]
    assert [s.time for s in info.sections] == [
        datetime(2021, 5, 30, 22, 36, 28),
        datetime(2021, 5, 30, 22, 34, 59),
    ]


def test_windows_line_ends_byte_order_mark_and_code_page(tmp_path: Path) -> None:
    text = SERIALEM.replace("Talos", "Talos, 5 µm C2").replace("\n", "\r\n")
    path = tmp_path / "a.mdoc"
    for content in (b"\xef\xbb\xbf" + text.encode(), text.encode("cp1252")):
        path.write_bytes(content)
        info = read_mdoc(path)
        assert info.titles[0].startswith("SerialEM: Acquired on a Talos, 5 µm C2")
        assert [s.tilt_angle for s in info.sections] == [3.01, 0.01]


def test_tomography_5_whose_titles_lost_their_bracket(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unpack"):
        Mdoc.from_string(TOMO5)  # why the titles are taken out first
    info = read_mdoc(write(tmp_path / "a.mdoc", TOMO5))
    assert info.titles[1] == "TiltAxisAngle = -175.84  Binning = 2  SpotSize = 6"
    assert info.tilt_axis_angle == 85.84
    assert info.sections[0].exposure is None
    assert info.sections[0].time == datetime(2024, 8, 2, 7, 52, 28)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("TiltAngle = 0.01", "TiltAngle = zero", r"line 23: TiltAngle = 'zero' cannot be read"),
        ("TiltAngle = 0.01", "TiltAngle = 1 2", "line 23: .*1 number expected, 2 found"),
        # A comma that could be another thing than a decimal point.
        ("TiltAngle = 0.01", "TiltAngle = 1,000,5", "line 23: .*its comma may part"),
        ("TiltAngle = 0.01", "TiltAngle = 1.000,5", "line 23: .*its comma may part"),
        ("TiltAngle = 0.01", "TiltAngle = 0,01,", "line 23: .*its comma may part"),
        ("ImageSize = 3836 3710", "ImageSize = 3,836 3,710", "line 4: .*its comma may part"),
        ("ImageSize = 3836 3710", "ImageSize = 3836,3710", "line 4: .*2 numbers expected"),
        ("[ZValue = 1]", "[ZValue = one]", "line 21: .*no whole number"),
        ("TiltAngle = 0.01", "TiltAngle = 0.01\nTiltAngle = 3", "line 24: .*0.01' on line 23"),
        ("ExposureDose = 2.5\nPriorRecordDose = 0", "ExposureDose = -1", r"ZValue = 1.*negative"),
        ("30-May-2021 22:34:59", "2021-05-30 22:34:59", r"ZValue = 1.*DateTime = '2021-05-30"),
        ("30-May-2021 22:34:59", "30-Mai-2021 22:34:59", "DateTime"),
        ("30-May-2021 22:34:59", "31-Feb-2021 22:34:59", "DateTime"),
        ("Voltage = 200", "Voltage", "key = value"),
        ("[ZValue", "[Nothing", "no section|key = value"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in SERIALEM
    path = write(tmp_path / "a.mdoc", SERIALEM.replace(old, new))
    with pytest.raises(FormatError, match=message) as caught:
        read_mdoc(path)
    assert str(path) in str(caught.value)


# What real files hold, and how the library that types the values takes it by itself.
ODD = {
    "no value": ("ExposureDose = 2.5", "ExposureTime =", True),
    "not known": ("ExposureDose = 2.5", "ExposureTime = NaN\nCameraLength = NaN", False),
    "not known, C": ("ExposureDose = 2.5", "ExposureTime = -1.#IND\nBinning = -nan(ind)", True),
    "longer list": ("ExposureDose = 2.5", "MultiShotHoleAndPosition = 2 1 3 4", True),
    "spaces": ("[ZValue = 1]", "[ ZValue=1 ]", True),
    "key twice": ("ExposureDose = 2.5", "TiltAngle = 3.01\nChannelName = ", False),
    "trailing space": ("ExposureDose = 2.5", "StagePosition = 775.35 -128.74 ", False),
    "equal sign": ("ImageFile = tomo.mrc", "ImageFile = tilt=3.mrc", True),
    "title in two lines": ("bidir = 0.0]", "bidir = 0.0\n    ]", True),
}


@pytest.mark.parametrize(("old", "new", "library_errs"), ODD.values(), ids=ODD)
def test_oddities_of_real_files(tmp_path: Path, old: str, new: str, *, library_errs: bool) -> None:
    assert old in SERIALEM
    text = SERIALEM.replace(old, new, 1)
    info = read_mdoc(write(tmp_path / "a.mdoc", text))
    assert [s.tilt_angle for s in info.sections] == [3.01, 0.01]
    assert info.sections[0].exposure_time is None
    assert info.image_file in {"tomo.mrc", "tilt=3.mrc"}
    assert info.tilt_axis_angle == -88.7
    try:
        plain = Mdoc.from_string(text)
    except ValueError:
        assert library_errs
    else:
        assert library_errs == ([s.TiltAngle for s in plain.section_data] != [3.01, 0.01])


def test_decimal_commas(tmp_path: Path) -> None:
    """A number where one is expected, and pairs whose numbers are parted by spaces."""
    local = (
        TOMO5.replace("-175.84", "-175,84")
        .replace("TiltAngle = 0.01", "TiltAngle = -0,01\nMinMaxMean = 0,00 212,00 1,4e1 ")
        .replace("RotationAngle = 85.84", "RotationAngle = 85,84\nStagePosition = 1,5 2,5")
        .replace("PixelSpacing = 1.96", "PixelSpacing = 1,96")
        .replace("DateTime", "FrameDosesAndNumber = 0,06 10  0,07 2\nNote = 1,2,3 4\nDateTime")
    )
    with pytest.raises(ValueError, match=r"unpack|validation"):
        Mdoc.from_string(local)
    info = read_mdoc(write(tmp_path / "a.mdoc", local))
    assert (info.tilt_axis_angle, info.pixel_size) == (85.84, 1.96)
    assert info.sections[0].tilt_angle == -0.01
    assert info.sections[0].mean_counts == 14
    assert info.sections[0].frame_doses == ((0.06, 10), (0.07, 2))
    serialem = SERIALEM.replace("angle = -88.7, b", "angle = -88,7, b")
    assert read_mdoc(write(tmp_path / "b.mdoc", serialem)).tilt_axis_angle == -88.7


def test_what_movies_need(tmp_path: Path) -> None:
    keys = """Defocus = 2.25
TargetDefocus = -3
SubFramePath = X:\\a user\\frames\\a_001.tif
NumSubFrames = 10
FrameDosesAndNumber = 0.2 3  0.3 7
ExposureTime = 0.76
Binning = 0.5
PixelSpacing = 0.862
RotationAndFlip = 7
CountsPerElectron = 16
MinMaxMean = -5 12 6.5
GainReference = Gain x1.dm4
Unknown = 12 whatever
[T = a title that follows a section]
"""
    info = read_mdoc(write(tmp_path / "a.mdoc", SERIALEM + keys))
    first, last = info.sections
    assert info.software == "SerialEM"
    assert info.image_size == (3836, 3710)
    assert info.titles[-1] == "a title that follows a section"
    assert (last.defocus, first.defocus) == (30000, None)
    assert last.movie == "X:\\a user\\frames\\a_001.tif"
    assert (last.frames, first.frames) == (10, None)
    assert last.frame_doses == ((0.2, 3), (0.3, 7))
    assert (last.exposure_time, last.binning, last.pixel_size) == (0.76, 0.5, 0.862)
    assert (last.rotation_and_flip, last.rotation_angle) == (7, 1.3)
    assert (last.counts_per_electron, first.counts_per_electron) == (16, None)
    assert (last.mean_counts, last.gain_reference) == (6.5, "Gain x1.dm4")
    under = read_mdoc(write(tmp_path / "b.mdoc", SERIALEM + "Defocus = -4.5\n"))
    assert under.sections[1].defocus == 45000
    assert read_mdoc(write(tmp_path / "c.mdoc", TOMO5)).software == "Tomography 5"


@pytest.mark.parametrize("count", [0, -1])
def test_frames_that_were_not_counted(tmp_path: Path, count: int) -> None:
    info = read_mdoc(write(tmp_path / "a.mdoc", SERIALEM + f"NumSubFrames = {count}\n"))
    assert info.sections[1].frames is None


def test_keys_before_the_section(tmp_path: Path) -> None:
    """The header speaks for all sections, but not of what belongs to one image."""
    info = read_mdoc(write(tmp_path / "a.mdoc", "TargetDefocus = -2\n" + SERIALEM))
    assert [s.defocus for s in info.sections] == [20000, 20000]
    head, first, second = re.split(r"(?=\[ZValue)", SERIALEM)
    one = first.replace("[ZValue = 0]\n", "") + "[ZValue = 0]\n"
    section = read_mdoc(write(tmp_path / "b.mdoc", head + one)).sections[0]
    assert (section.tilt_angle, section.exposure) == (3.01, 2.5)
    assert section.time == datetime(2021, 5, 30, 22, 36, 28)
    # Each angle before its section: all would be read with the section above.
    shifted = head + one + second.replace("[ZValue = 1]\n", "") + "[ZValue = 1]\n"
    with pytest.raises(FormatError, match=r"TiltAngle = '3.01' stands before .*ZValue = 1"):
        read_mdoc(write(tmp_path / "c.mdoc", shifted))


def test_ends_of_files_that_were_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "a.mdoc"
    for tail in (b"\0" * 100, b"\n\x1a", b"[ZValue = 2]\n", b"[Notes = 1]\nTiltAngle = 9\n"):
        path.write_bytes(SERIALEM.encode() + tail)
        angles = [s.tilt_angle for s in read_mdoc(path).sections]
        assert angles == [3.01, 0.01, None][: 3 if b"ZValue" in tail else 2]
    path.write_bytes(SERIALEM.encode("utf-16"))
    assert [s.tilt_angle for s in read_mdoc(path).sections] == [3.01, 0.01]


@pytest.mark.parametrize("content", [b"", b"MAP \0\0\0", b"\n\n", b"ImageSize = 1 1\n"])
def test_what_is_no_mdoc_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.mdoc"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"a\.mdoc"):
        read_mdoc(path)
    with pytest.raises(StoreError):
        read_mdoc(tmp_path / "nothing.mdoc")


def test_sections_are_matched_to_a_stack_by_number(tmp_path: Path) -> None:
    head, first, second = re.split(r"(?=\[ZValue)", SERIALEM)
    info = read_mdoc(write(tmp_path / "a.mdoc", head + second + first))
    assert [s.index for s in info.sections] == [1, 0]
    assert [s.tilt_angle for s in info.by_z_value(2)] == [3.01, 0.01]
    for n_sections in (1, 3):
        with pytest.raises(DataError, match=f"stack of {n_sections} images"):
            info.by_z_value(n_sections)
    twice = read_mdoc(write(tmp_path / "b.mdoc", head + first + second + second))
    with pytest.raises(DataError, match=r"twice: 1\)"):
        twice.by_z_value(2)


@pytest.mark.parametrize(
    ("name", "axis", "pixel_size", "montage"),
    [
        ("017.mdoc", 82.9, 1.971, False),
        ("tilt_series.mdoc", 85.3, 5.4, False),
        # From SerialEM's RotationAngle: the title has no axis.
        ("frame_set_single.mdoc", 88.414, 1.2827, False),
        ("frame_set_multiple.mdoc", 88.414, 1.2827, False),
        ("montage_section.mdoc", -86.7, 656.139, True),
        ("montage_section_multiple.mdoc", 85.5, 76.8, True),
    ],
)
def test_real_files(
    data_dir: Path, name: str, axis: float, pixel_size: float, *, montage: bool
) -> None:
    path = data_dir / "metadata" / "mdoc" / name
    info = read_mdoc(path)
    text = path.read_text()
    assert info.tilt_axis_angle == pytest.approx(axis, abs=1e-9)
    assert info.pixel_size == pixel_size
    assert info.is_montage == montage
    assert info.voltage == (300 if "Voltage" in text else None)
    headers = re.findall(r"^\[(ZValue|FrameSet|MontSection) = (\d+)\]", text, re.MULTILINE)
    assert [(s.kind, str(s.index)) for s in info.sections] == headers
    angles = [float(a) for a in re.findall(r"^TiltAngle = (\S+)", text, re.MULTILINE)]
    np.testing.assert_array_equal([s.tilt_angle for s in info.sections if s.tilt_angle], angles)
    doses = [float(d) for d in re.findall(r"^ExposureDose = (\S+)", text, re.MULTILINE)]
    assert [s.exposure for s in info.sections if s.exposure is not None] == [d for d in doses if d]
    if montage:
        with pytest.raises(DataError, match="montage"):
            info.by_z_value(len(info.sections))


def test_serialems_rotation_angle_is_its_axis_plus_90(data_dir: Path) -> None:
    # What the reader relies on where a title has no axis.
    checked = 0
    for path in data_dir.rglob("*.mdoc"):
        text = path.read_text()
        title = re.search(r"Tilt axis angle = (\S+),", text)
        rotation = re.search(r"RotationAngle = (\S+)", text)
        if title and rotation:
            difference = float(rotation[1]) - float(title[1]) - 90
            assert abs((difference + 180) % 360 - 180) < 0.06
            checked += 1
    assert checked > 5


def test_dose_symmetric_order_follows_from_the_times(data_dir: Path) -> None:
    # Independent of each other: the clock, and the dose that had accumulated.
    sections = read_mdoc(data_dir / "metadata" / "mdoc" / "017.mdoc").sections
    by_time = sorted(sections, key=lambda s: s.time)
    assert [s.prior_dose for s in by_time] == sorted(s.prior_dose for s in sections)
    assert abs(by_time[0].tilt_angle) < 13
    assert by_time != list(sections)


def test_a_file_cut_short_is_read_as_far_as_it_goes_or_refused(
    data_dir: Path, tmp_path: Path
) -> None:
    data = (data_dir / "metadata" / "mdoc" / "017.mdoc").read_bytes()
    whole = read_mdoc(data_dir / "metadata" / "mdoc" / "017.mdoc").sections
    path = tmp_path / "a.mdoc"
    outcomes = []
    for end in range(1, len(data), 997):
        path.write_bytes(data[:end])
        try:
            sections = read_mdoc(path).sections
        except FormatError as error:
            outcomes.append(str(path) in str(error))
        else:
            assert sections[:-1] == whole[: len(sections) - 1]
            outcomes.append(True)
    assert all(outcomes)
    assert len(outcomes) > 30

"""Mdoc files as SerialEM and Tomography 5 write them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

__all__ = ["MdocView", "Software", "frame_set_mdoc", "mdoc_time", "tilt_series_mdoc"]

Software = Literal["SerialEM", "Tomography 5"]
# Not strftime's, which follow the locale.
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# The folder of the movies on the microscope's computer.
_FOLDER = {
    "SerialEM": r"\\K3-SERVER\frames\tomodask",
    "Tomography 5": r"\\FALCON-SERVER\OffloadData\tomodask",
}
_SECONDS_PER_FRAME = 0.1


@dataclass(frozen=True, slots=True)
class MdocView:
    """What an mdoc tells of a view.

    Parameters
    ----------
    tilt_angle
        Degrees.
    exposure, prior_dose
        Of this view and before it, e/A^2.
    frames
        As the camera counts them: raw frames of an EER.
    frame_doses
        e/A^2 of a frame.
    defocus
        A, underfocus positive.
    time
        When it was taken.
    movie
        File name of the movie.
    counts
        (minimum, maximum, mean) of the sum.
    """

    tilt_angle: float
    exposure: float
    prior_dose: float
    frames: int
    defocus: float
    time: datetime
    movie: str
    counts: tuple[float, float, float]


def mdoc_time(time: datetime, software: Software) -> str:
    """Return a time as in ``DateTime``."""
    year = f"{time.year % 100:02d}" if software == "SerialEM" else f"{time.year}"
    return f"{time.day:02d}-{_MONTHS[time.month - 1]}-{year}  {time:%H:%M:%S}"


def tilt_series_mdoc(
    views: Sequence[MdocView],
    *,
    software: Software,
    image_file: str,
    shape: tuple[int, int],
    pixel_size: float,
    tilt_axis_angle: float,
    voltage: float,
) -> str:
    """Return the text of the mdoc of a tilt series.

    Parameters
    ----------
    views
        In the order of the sections.
    software
        Whose keys and titles.
    image_file
        Name of the stack that the mdoc belongs to.
    shape
        (y, x) pixels of a frame.
    pixel_size
        A.
    tilt_axis_angle
        Counter-clockwise from +y, degrees.
    voltage
        kV.
    """
    started = mdoc_time(min(view.time for view in views), software)
    lines = [f"PixelSpacing = {pixel_size:g}", f"Voltage = {voltage:g}"]
    if software == "SerialEM":
        lines += ["Version = SerialEM Version 4.1.0 64-bit (simulated)"]
        titles = [
            f"SerialEM: tomodask simulation                          {started}    ",
            f"    Tilt axis angle = {tilt_axis_angle:.1f}, binning = 1  spot = 5  camera = 1",
        ]
    else:
        titles = [
            "  Tomography 5: tomodask simulation",
            f"  TiltAxisAngle = {_wrapped(-tilt_axis_angle - 90):.2f}  Binning = 1  SpotSize = 6",
        ]
    lines += [
        f"ImageFile = {image_file}",
        f"ImageSize = {shape[1]} {shape[0]}",
        "DataMode = 1",
        "",
    ]
    for title in titles:
        lines += [f"[T = {title}]", ""]
    for number, view in enumerate(views):
        lines += [
            f"[ZValue = {number}]",
            *_section(view, software, pixel_size, tilt_axis_angle),
            "",
        ]
    return "\n".join(lines)


def frame_set_mdoc(
    view: MdocView, *, pixel_size: float, tilt_axis_angle: float, voltage: float
) -> str:
    """Return the text of the mdoc that SerialEM saves beside the movie of one view."""
    lines = [
        f"T = SerialEM: tomodask simulation                          "
        f"{mdoc_time(view.time, 'SerialEM')}    ",
        f"Voltage = {voltage:g}",
        "",
        "[FrameSet = 0]",
        *_section(view, "SerialEM", pixel_size, tilt_axis_angle),
        "",
    ]
    return "\n".join(lines)


def _section(
    view: MdocView, software: Software, pixel_size: float, tilt_axis_angle: float
) -> list[str]:
    # SerialEM's angle is that of the image's x axis; Tomography 5 gives the axis itself.
    rotation = _wrapped(tilt_axis_angle + (90 if software == "SerialEM" else 0))
    seconds = view.frames * _SECONDS_PER_FRAME
    values = {
        "TiltAngle": f"{view.tilt_angle:.6g}",
        "StagePosition": "20.7936 155.287",
        "StageZ": "163.803",
        "Magnification": "64000",
        "Intensity": "0.113780",
        "ExposureDose": f"{view.exposure:.6g}",
        "DoseRate": f"{view.exposure * pixel_size**2 / seconds:.6g}",
        "PixelSpacing": f"{pixel_size:g}",
        "SpotSize": "5",
        "Defocus": f"{-view.defocus / 1e4:.6g}",
        "ImageShift": "0 0",
        "RotationAngle": f"{rotation:.6g}",
        "ExposureTime": f"{seconds:.6g}",
        "Binning": "1",
        "CameraIndex": "1",
        "DividedBy2": "0",
        "MagIndex": "28",
        "CountsPerElectron": "1",
        "MinMaxMean": " ".join(f"{value:.6g}" for value in view.counts),
        "TargetDefocus": f"{-view.defocus / 1e4:.6g}",
        "PriorRecordDose": f"{view.prior_dose:.6g}",
        "SubFramePath": f"{_FOLDER[software]}\\{view.movie}",
        "NumSubFrames": f"{view.frames}",
        "FrameDosesAndNumber": f"{view.exposure / view.frames:.6g} {view.frames}",
        "DateTime": mdoc_time(view.time, software),
    }
    if software == "Tomography 5":
        for missing in ("MagIndex", "CameraIndex", "FrameDosesAndNumber", "PriorRecordDose"):
            del values[missing]
    return [f"{name} = {value}" for name, value in values.items()]


def _wrapped(angle: float) -> float:
    return (angle + 180) % 360 - 180

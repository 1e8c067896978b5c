"""What can be told from a table of movies: the size of the frames' pixels, and a summary of it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tomodask.errors import TomodaskWarning

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    import xarray as xr
    from numpy.typing import NDArray

__all__ = ["gain_text", "movies_text", "pixel_size_of_frames"]

#: How far a pixel size may be from the nominal one: it is calibrated.
_CALIBRATED = 0.1
#: How far a size may be from a multiple: edges of the camera are cut off.
_CUT_OFF = 0.05
#: How many pixels of a frame lie along one of the image recorded with it.
_BINNINGS = np.array([0.25, 0.5, 1, 2, 3, 4, 6, 8, 12, 16])


def pixel_size_of_frames(table: xr.Dataset, shape: tuple[int, int]) -> float:
    """Return the pixel size of the frames, now that their size is known.

    The image that was recorded with a movie shows the same field of view, so that the frames'
    pixels follow from its size, whatever was binned and whether the frames are super-resolution.

    Parameters
    ----------
    table
        From `tomodask.io.acquisition.read_acquisition`.
    shape
        (y, x) of a frame, pixels.

    Returns
    -------
    float
        A. The user's value where one was given; that of the table where no image's size is
        recorded or the frames do not fit it.

    Warns
    -----
    TomodaskWarning
        Where the frames say something else than the table, or lie turned by 90 degrees to the
        image that the tilt axis was recorded for.
    """
    size = float(table.attrs["pixel_size"])
    recorded = table.attrs.get("image_size")
    spacing = table.attrs.get("image_pixel_size")
    if recorded is None or spacing is None:
        return size
    # Frames may be saved as they lie on the camera, the image turned by 90 degrees.
    upright, turned = (np.array(frame) / recorded for frame in (shape[::-1], shape))
    is_turned = _spread(turned) < 0.5 * _spread(upright)
    ratios = turned if is_turned else upright
    binning = float(_BINNINGS[np.argmin(np.abs(np.log(_BINNINGS / np.sqrt(ratios.prod()))))])
    frame = f"{shape[1]} x {shape[0]} pixels"
    image = f"{recorded[0]} x {recorded[1]} pixels of {spacing:g} A"
    if np.any(np.abs(ratios / binning - 1) > _CUT_OFF):
        _warn(
            f"frames of {frame} do not fit the recorded image of {image}; their pixels are taken "
            f"as {size:g} A: give pixel_size (--pixel-size) to be sure"
        )
        return size
    given = table.attrs["provenance"]["given_by_user"]
    if is_turned and "tilt_axis" not in given and "tilt_axis_angle" in table.attrs:
        _warn(
            f"frames of {frame} lie turned by 90 degrees to the recorded image of {image}, which "
            f"the tilt axis of {table.attrs['tilt_axis_angle']:g} degrees is of; give that of the "
            "frames with tilt_axis (--tilt-axis)"
        )
    expected = spacing / binning
    if abs(expected / size - 1) <= _CALIBRATED:
        return size
    keep = "pixel_size" in given
    _warn(
        f"frames of {frame}, recorded with an image of {image}, have pixels of {expected:g} A; "
        + (f"the {size:g} A given are kept" if keep else f"this is used in place of {size:g} A")
    )
    return size if keep else expected


def movies_text(table: xr.Dataset) -> str:
    """Return a table of movies as lines of text.

    Parameters
    ----------
    table
        From `tomodask.io.acquisition.read_acquisition`.

    Returns
    -------
    str
        What holds for all views, then a line for each, sorted by tilt angle.
    """
    attributes = table.attrs
    included = table["included"].values
    axis, voltage = attributes.get("tilt_axis_angle"), attributes.get("voltage")
    sources = attributes["provenance"]
    head = (
        f"name       {attributes['name']}",
        f"views      {len(included)}, {int(included.sum())} included",
        f"pixel      {attributes['pixel_size']:g} A ({sources['pixel_size_from']})",
        "tilt axis  "
        + ("unknown" if axis is None else f"{axis:g} deg ({sources['tilt_axis_from']})"),
        "voltage    " + ("unknown" if voltage is None else f"{voltage:g} kV"),
        f"order      from {sources['order_from']}; exposure from {sources['exposure_from']}; "
        f"dose from {sources['dose_from']}",
        f"gain       {gain_text(attributes)}",
    )
    rows = [("view", "angle", "order", "dose", "exposure", "frames", "movie, or why not included")]
    for view in range(len(included)):
        value = {str(key): column.values[view] for key, column in table.coords.items()}
        told = Path(value["movie"]).name if included[view] else f"- {value['reason']}"
        rows.append(
            (
                str(view),
                f"{value['tilt_angle']:z.2f}",
                str(value["order"]),
                f"{value['dose']:z.2f}",
                f"{value['exposure']:z.2f}",
                str(value["frames"]) if value["frames"] >= 0 else "?",
                told,
            )
        )
    widths = [max(map(len, column)) for column in list(zip(*rows, strict=True))[:-1]]
    lines = [
        "  ".join(word.rjust(width) for word, width in zip(row[:-1], widths, strict=True))
        + f"  {row[-1]}"
        for row in rows
    ]
    return "\n".join([*head, "", *lines])


def gain_text(attributes: Mapping[str, Any]) -> str:
    """Return in words how the movies of a table are corrected by a gain."""
    gain = attributes.get("gain")
    if not gain:
        return "none: movies are taken as they are"
    way = "divide by it" if gain["reciprocal"] else "multiply by it"
    source = "as the movies tell" if gain["orientation_from"] == "movies" else "as given"
    return f"{Path(gain['path']).name}: {gain['orientation']}, {way} ({source})"


def _spread(ratios: NDArray[np.float64]) -> float:
    return abs(float(np.log(ratios[0] / ratios[1])))


def _warn(message: str) -> None:
    warnings.warn(message, TomodaskWarning, stacklevel=3)

"""Landmarks from and to fiducial models of IMOD, in the store of a series."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tomodask.engine.files import explained
from tomodask.errors import DataError, ParameterError
from tomodask.io.fiducials import (
    Fiducials,
    prealigned_positions,
    raw_positions,
    read_fiducials,
    write_fiducials,
)
from tomodask.io.imod import read_transforms
from tomodask.io.series import landmark_names, open_series, write_landmarks
from tomodask.model import (
    landmarks_dataset,
    measured_observations,
    provenance,
    sections_of,
    tilt_series_of,
)

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from tomodask.landmarks import Landmarks

__all__ = ["export_landmarks", "import_landmarks"]


def import_landmarks(
    series: str | Path,
    model: str | Path,
    *,
    name: str = "fiducials",
    prexg: str | Path | None = None,
    binning: int = 1,
    overwrite: bool = False,
) -> xr.Dataset:
    """Store the fiducials of an IMOD model as landmarks; solve them with ``Landmarks.solve``.

    Parameters
    ----------
    series
        Folder of the store.
    model
        Fiducial model (``.fid``), one contour per landmark.
    name
        Name of the landmarks.
    prexg
        Transforms of the prealigned stack that the model was made on; by default it was made on
        the raw stack.
    binning
        Raw pixels to a pixel of the stack that the model was made on.
    overwrite
        Whether landmarks of that name are replaced.

    Returns
    -------
    xarray.Dataset
        The landmarks, as stored.

    Raises
    ------
    DataError
        If the model is of another number of views or another image size than the series.
    FormatError
        If it is no such model.
    ParameterError
        If the name is taken and `overwrite` is false.
    """
    path = Path(series).expanduser().resolve()
    tree = open_series(path)
    views = tilt_series_of(tree)
    if name in landmark_names(path) and not overwrite:
        raise ParameterError(
            f"{path} has landmarks {name!r} already; give another name, or overwrite them"
        )
    found = read_fiducials(model)
    if found.views != views.sizes["tilt"]:
        raise DataError(
            f"{model} is of {found.views} views, {path} has {views.sizes['tilt']}: give the model "
            "of this series"
        )
    size = (views.sizes["x"], views.sizes["y"])
    if prexg is None and found.image_size != tuple(n // binning for n in size):
        raise DataError(
            f"{model} is of images of {found.image_size[0]} x {found.image_size[1]} pixels, {path} "
            f"has {size[0]} x {size[1]}: give the binning, or the transforms (.prexg) of the stack "
            "that it was made on"
        )
    found = raw_positions(found, _prealignment(prexg, found.views), size, binning=binning)
    pixel = float(views.attrs["pixel_size"])
    of, numbers = _landmarks_of(found)
    table = landmarks_dataset(
        landmark=of,
        view=sections_of(tree)[found.view],
        position=found.position * pixel,
        number=numbers,
        surface=np.array(
            [found.surface[of == index].max() for index in range(len(numbers))], np.int64
        ),
        attributes={
            "method": "imported",
            "pixel_size": pixel,
            "provenance": provenance("import landmarks", file=Path(model).name),
        },
    )
    write_landmarks(path, name, table)
    return table


def export_landmarks(
    landmarks: Landmarks, out: str | Path, *, prexg: str | Path | None = None, binning: int = 1
) -> Path:
    """Write landmarks as an IMOD model, one contour each, on the raw or a prealigned stack.

    What was measured or set by hand is written, not what is filled, deleted or left out.

    Parameters
    ----------
    landmarks
        From ``open_landmarks``.
    out
        The file.
    prexg
        Transforms of the prealigned stack that the model is to be shown on; the raw one by default.
    binning
        Raw pixels to a pixel of that stack.

    Returns
    -------
    pathlib.Path
        The file.
    """
    tree = open_series(landmarks.path)
    views = tilt_series_of(tree)
    table = landmarks.table
    pixel = float(views.attrs["pixel_size"])
    used = measured_observations(table)
    of = table["landmark_of"].values[used]
    sections = np.argsort(sections_of(tree))
    size = (views.sizes["x"], views.sizes["y"])
    fiducials = Fiducials(
        position=np.stack([table[axis].values[used] for axis in "xy"], axis=1) / pixel,
        view=sections[table["view"].values[used]],
        model_object=np.ones(len(of), np.int64),
        contour=table["number"].values[of],
        surface=table["surface"].values[of],
        image_size=size,
        views=views.sizes["tilt"],
        pixel_size=pixel,
    )
    fiducials = prealigned_positions(
        fiducials,
        _prealignment(prexg, fiducials.views),
        (size[0] // binning, size[1] // binning),
        binning=binning,
    )
    target = Path(out).expanduser().absolute()
    with explained(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    write_fiducials(target, fiducials)
    return target


def _prealignment(prexg: str | Path | None, views: int) -> NDArray[np.float64]:
    """Return the (view, 2, 3) transforms of a file; those of the raw stack change nothing."""
    if prexg is None:
        return np.tile(np.eye(2, 3), (views, 1, 1))
    return read_transforms(prexg)


def _landmarks_of(fiducials: Fiducials) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the (n,) landmark of each point, and the landmarks' numbers: those of contours."""
    key = np.stack([fiducials.model_object, fiducials.contour], axis=1)
    names, of = np.unique(key, axis=0, return_inverse=True)
    one_object = len(np.unique(names[:, 0])) == 1
    return of.reshape(-1), names[:, 1] if one_object else np.arange(1, len(names) + 1)

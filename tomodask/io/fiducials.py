"""Fiducials tracked through a tilt series, as IMOD's models hold them (``.fid``, ``.seed``).

A contour is a fiducial, a point its place in a view: x and y are index + 0.5, z is the view, from
0. Here positions are pixels from the image centre, y up. Such models are of the prealigned stack;
its transforms (``.prexg``) take positions to the raw images and back.

Source: IMOD's manual pages of ``tiltalign`` and ``beadtrack``, and its page on binary models.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tomodask.errors import ConversionError, DataError, FormatError
from tomodask.io.imod_model import ImodModel, ModelContour, ModelObject
from tomodask.io.imod_model_file import read_model, write_model

if TYPE_CHECKING:
    from os import PathLike

    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Fiducials",
    "prealigned_positions",
    "raw_positions",
    "read_fiducials",
    "write_fiducials",
]

#: 3dmod scales z and back in single precision; a point farther from a whole number is no view's.
_NEAR_VIEW = 0.01
#: Flag of models whose reference holds the origin of the whole image.
_ORIGIN_IS_STORED = 1 << 14


@dataclass(frozen=True, slots=True, eq=False)
class Fiducials:
    """Where fiducials are in the views of a stack.

    Attributes
    ----------
    position : ndarray of float64, shape (n, 2)
        (x, y) from the image centre, pixels of the stack that the model was made on.
    view : ndarray of int64, shape (n,)
        From 0.
    model_object, contour : ndarray of int64, shape (n,)
        Where each is in the model, from 1; the pair names the fiducial.
    surface : ndarray of int64, shape (n,)
        The side of the specimen that the fiducial was sorted to; 0 where it was not.
    image_size : tuple of int
        (x, y) of that stack, pixels.
    views : int
        Number of its views.
    pixel_size : float or None
        A.
    """

    position: NDArray[np.float64]
    view: NDArray[np.int64]
    model_object: NDArray[np.int64]
    contour: NDArray[np.int64]
    surface: NDArray[np.int64]
    image_size: tuple[int, int]
    views: int
    pixel_size: float | None = None


def read_fiducials(path: str | PathLike[str]) -> Fiducials:
    """Read tracked fiducials, or the seed points to be tracked.

    Parameters
    ----------
    path : path-like
        A binary IMOD model.

    Returns
    -------
    Fiducials

    Raises
    ------
    FormatError
        The file is no binary model, its points do not lie in views of the stack, or a contour has
        two points in one view.
    StoreError
        The file cannot be read.
    """
    path = Path(path).absolute()
    model = read_model(path)
    x, y, views = model.image_size
    if min(model.image_size) < 1:
        raise FormatError(
            f"{path}: does not say the size of its images ({x} x {y} x {views}); open it on its "
            "stack in 3dmod and save it"
        )
    _check_origin(path, model)
    points, places = [np.empty((0, 3))], [np.empty((0, 3), np.int64)]
    for number, item in enumerate(model.objects, 1):
        for place, contour in enumerate(item.contours, 1):
            points.append(contour.points.astype(np.float64))
            places.append(np.tile((number, place, contour.surface), (len(contour.points), 1)))
    xyz, place_of = np.concatenate(points), np.concatenate(places)
    view = np.round(xyz[:, 2]).astype(np.int64)
    bad = np.flatnonzero((np.abs(xyz[:, 2] - view) > _NEAR_VIEW) | (view < 0) | (view >= views))
    if len(bad):
        raise FormatError(
            f"{path}: object {place_of[bad[0], 0]}, contour {place_of[bad[0], 1]} has a point at "
            f"z = {xyz[bad[0], 2]:g}, which is no view of 0 to {views - 1}: give the model of "
            "fiducials on the tilt series, not one of a tomogram"
        )
    _, first, count = np.unique(
        np.column_stack((place_of[:, :2], view)), axis=0, return_index=True, return_counts=True
    )
    if (count > 1).any():
        double = first[np.argmax(count > 1)]
        raise FormatError(
            f"{path}: object {place_of[double, 0]}, contour {place_of[double, 1]} has two points "
            f"in view {view[double] + 1}; remove one in 3dmod"
        )
    return Fiducials(
        position=xyz[:, :2] - (x / 2, y / 2),
        view=view,
        model_object=place_of[:, 0],
        contour=place_of[:, 1],
        surface=place_of[:, 2],
        image_size=(x, y),
        views=views,
        pixel_size=model.angstrom_per_pixel,
    )


def write_fiducials(path: str | PathLike[str], fiducials: Fiducials) -> None:
    """Write fiducials as a binary IMOD model of open contours, their points in order of views.

    Positions are written in single precision. Numbers of contours that have no point become empty
    contours, so that all keep theirs.

    Parameters
    ----------
    path : path-like
        The file; it appears only when complete.
    fiducials : Fiducials
        Positions in pixels of the stack that the model is to be shown on.

    Raises
    ------
    ConversionError
        A position is not finite.
    DataError
        Views, objects or contours do not exist, a contour has two points in a view, or points on
        two surfaces.
    StoreError, SpaceError
        The file cannot be written.
    """
    path = Path(path).absolute()
    key = np.column_stack((fiducials.model_object, fiducials.contour, fiducials.view))
    if len(key) and (key.min(axis=0) < (1, 1, 0)).any():
        raise DataError(f"{path}: objects and contours are counted from 1, views from 0")
    if len(key) and key[:, 2].max() >= fiducials.views:
        raise DataError(
            f"{path}: a fiducial is in view {key[:, 2].max() + 1}, the stack has "
            f"{fiducials.views}; leave it out"
        )
    order = np.lexsort(key.T[::-1])
    double = np.flatnonzero((np.diff(key[order], axis=0) == 0).all(axis=1))
    if len(double):
        number, place, view = key[order[double[0]]]
        raise DataError(
            f"{path}: object {number}, contour {place} has two points in view {view + 1}; leave "
            "one out"
        )
    centre = (fiducials.image_size[0] / 2, fiducials.image_size[1] / 2)
    xyz = np.column_stack((fiducials.position + centre, fiducials.view))
    if not np.isfinite(xyz).all():
        bad = np.argmin(np.isfinite(xyz).all(axis=1))
        raise ConversionError(
            f"{path}: contour {key[bad, 1]} has no finite position in view {key[bad, 2] + 1}; "
            "leave it out"
        )
    objects = []
    for number in range(1, int(key[:, 0].max(initial=1)) + 1):
        contours = []
        inside = order[key[order, 0] == number]
        for place in range(1, int(key[inside, 1].max(initial=0)) + 1):
            rows = inside[key[inside, 1] == place]
            surfaces = set(fiducials.surface[rows].tolist()) or {0}
            if len(surfaces) > 1:
                raise DataError(
                    f"{path}: contour {place} is on surfaces {sorted(surfaces)}; give it one"
                )
            contours.append(ModelContour(xyz[rows].astype(np.float32), surface=surfaces.pop()))
        objects.append(ModelObject(tuple(contours)))
    size = (*fiducials.image_size, fiducials.views)
    write_model(path, ImodModel.create(size, tuple(objects), pixel_size=fiducials.pixel_size))


def raw_positions(
    fiducials: Fiducials,
    prealignment: ArrayLike,
    image_size: tuple[int, int],
    *,
    binning: int = 1,
) -> Fiducials:
    """Take fiducials on a prealigned stack to the raw images.

    Parameters
    ----------
    fiducials : Fiducials
        On the prealigned stack.
    prealignment : array-like, shape (views, 2, 3)
        ``.prexg``: raw to prealigned, pixels of the raw images.
    image_size : tuple of int
        (x, y) of the raw images, pixels.
    binning : int
        Raw pixels to a pixel of the prealigned stack (``ImagesAreBinned`` of align.com). Binning
        and prealigning keep the centre where it is, whatever the sizes.

    Returns
    -------
    Fiducials
        On the raw images.

    Raises
    ------
    DataError
        The number of transforms is not that of the views.
    ConversionError
        A transform is singular.
    """
    lines = _transforms(fiducials, prealignment)
    singular = np.flatnonzero(np.abs(np.linalg.det(lines[:, :, :2])) < 1e-9)
    if len(singular):
        raise ConversionError(
            f"the prealignment of view {singular[0] + 1} is singular; give the .prexg of this stack"
        )
    inverse = np.linalg.inv(lines[:, :, :2])[fiducials.view]
    prealigned = fiducials.position * binning - lines[fiducials.view, :, 2]
    return replace(
        fiducials,
        position=np.einsum("nij,nj->ni", inverse, prealigned),
        image_size=image_size,
        pixel_size=None if fiducials.pixel_size is None else fiducials.pixel_size / binning,
    )


def prealigned_positions(
    fiducials: Fiducials,
    prealignment: ArrayLike,
    image_size: tuple[int, int],
    *,
    binning: int = 1,
) -> Fiducials:
    """Take fiducials on the raw images to a prealigned stack: the inverse of `raw_positions`.

    Parameters
    ----------
    fiducials : Fiducials
        On the raw images.
    prealignment : array-like, shape (views, 2, 3)
        ``.prexg``: raw to prealigned, pixels of the raw images.
    image_size : tuple of int
        (x, y) of the prealigned images, pixels.
    binning : int
        Raw pixels to a pixel of the prealigned stack.

    Returns
    -------
    Fiducials
        On the prealigned stack.

    Raises
    ------
    DataError
        The number of transforms is not that of the views.
    """
    lines = _transforms(fiducials, prealignment)[fiducials.view]
    moved = np.einsum("nij,nj->ni", lines[:, :, :2], fiducials.position) + lines[:, :, 2]
    return replace(
        fiducials,
        position=moved / binning,
        image_size=image_size,
        pixel_size=None if fiducials.pixel_size is None else fiducials.pixel_size * binning,
    )


def _transforms(fiducials: Fiducials, prealignment: ArrayLike) -> NDArray[np.float64]:
    lines = np.asarray(prealignment, np.float64)
    if lines.shape != (fiducials.views, 2, 3):
        raise DataError(
            f"the prealignment has shape {lines.shape}; {fiducials.views} views need "
            f"({fiducials.views}, 2, 3): give the .prexg of this stack"
        )
    return lines


def _check_origin(path: Path, model: ImodModel) -> None:
    """Refuse a model that was drawn on a part of an image: its points count from that part."""
    reference = model.reference
    if reference is None or not model.flags & _ORIGIN_IS_STORED:
        return
    moved = np.subtract(reference.origin, reference.old_origin)[:2]
    if np.abs(moved).max() > 0.01 * max(reference.pixel_size[0], 1e-6):
        raise FormatError(
            f"{path}: was drawn on a part of the images, {moved[0]:g} and {moved[1]:g} A from the "
            "whole; open it on the whole stack in 3dmod and save it"
        )

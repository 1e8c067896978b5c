"""IMOD's text tables: tilt angles, transforms, z factors, fiducial positions, residuals.

A transform ``A11 A12 A21 A22 DX DY`` takes a pixel position X of the input image to
``X' = A (X - centre_in) + D + centre_out``; lengths are pixels of that image. The writers print
more digits than IMOD does (it reads any number of them): angles and shifts to 4 decimals,
matrices and z factors to 9, so that a value comes back to half the last digit.

Sources: IMOD's manual pages of ``newstack``, ``xfproduct``, ``tiltalign``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tomodask.errors import DataError, FormatError
from tomodask.io.imod_table import (
    check_shape,
    number,
    parse_table,
    read_table,
    refuse_line,
    text_lines,
    write_table,
)

if TYPE_CHECKING:
    from os import PathLike

    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "FiducialPositions",
    "Residuals",
    "compose_transforms",
    "read_angles",
    "read_fiducial_xyz",
    "read_residuals",
    "read_transforms",
    "read_zfactors",
    "write_angles",
    "write_fiducial_xyz",
    "write_residuals",
    "write_transforms",
    "write_zfactors",
]

_PIXEL_AND_SIZE = re.compile(r"Pix:\s*(\S+)\s+Dim:\s*(\d+)\s+(\d+)")


@dataclass(frozen=True, slots=True, eq=False)
class FiducialPositions:
    """The solved positions of fiducials (tiltalign's ``.xyz`` file).

    Attributes
    ----------
    xyz : ndarray of float64, shape (n, 3)
        Pixels, as in the file: x and y in IMOD's model coordinates (index + 0.5).
    model_object, contour : ndarray of int64, shape (n,)
        Where each is in the fiducial model, from 1.
    pixel_size : float or None
        A.
    image_size : tuple of int or None
        (x, y), pixels.
    """

    xyz: NDArray[np.float64]
    model_object: NDArray[np.int64]
    contour: NDArray[np.int64]
    pixel_size: float | None
    image_size: tuple[int, int] | None


@dataclass(frozen=True, slots=True, eq=False)
class Residuals:
    """What an alignment leaves unexplained (tiltalign's ``.resid`` file).

    Attributes
    ----------
    xy : ndarray of float64, shape (n, 2)
        Where the fiducial is in its view, pixels.
    view : ndarray of int64, shape (n,)
        From 0.
    residual : ndarray of float64, shape (n, 2)
        (dx, dy), pixels.
    """

    xy: NDArray[np.float64]
    view: NDArray[np.int64]
    residual: NDArray[np.float64]


def read_angles(path: str | PathLike[str]) -> NDArray[np.float64]:
    """Read tilt angles (``.tlt``, ``.rawtlt``, ``.xtilt``).

    Parameters
    ----------
    path : path-like
        One number a line; blank lines only at the end.

    Returns
    -------
    ndarray of float64, shape (n,)
        Degrees.

    Raises
    ------
    FormatError
        Names the line that is not a number.
    StoreError
        The file cannot be read.
    """
    return read_table(path, ("angle",))[:, 0]


def read_transforms(path: str | PathLike[str]) -> NDArray[np.float64]:
    """Read linear transforms (``.xf``, ``.prexf``, ``.prexg``, ``.tltxf``).

    Parameters
    ----------
    path : path-like
        Six numbers a line: A11 A12 A21 A22 DX DY.

    Returns
    -------
    ndarray of float64, shape (n, 2, 3)
        [[A11, A12, DX], [A21, A22, DY]]; shifts in pixels.

    Raises
    ------
    FormatError
        Names the line that is not a transform.
    StoreError
        The file cannot be read.
    """
    table = read_table(path, ("A11", "A12", "A21", "A22", "DX", "DY"))
    return np.concatenate((table[:, :4].reshape(-1, 2, 2), table[:, 4:, np.newaxis]), axis=2)


def read_zfactors(path: str | PathLike[str]) -> NDArray[np.float64]:
    """Read z factors (``.zfac``), the shifts in x and y per unit of height that tiltalign solves.

    Parameters
    ----------
    path : path-like
        Two numbers a line, one line for each view.

    Returns
    -------
    ndarray of float64, shape (n, 2)
        (x, y), pixels per pixel of z.

    Raises
    ------
    FormatError
        Names the line that is not two numbers.
    StoreError
        The file cannot be read.
    """
    return read_table(path, ("x factor", "y factor"))


def read_fiducial_xyz(path: str | PathLike[str]) -> FiducialPositions:
    """Read the solved positions of fiducials (``fid.xyz``).

    Parameters
    ----------
    path : path-like
        Number, x, y, z, object and contour a line; the first also has ``Pix:`` and ``Dim:``.

    Returns
    -------
    FiducialPositions

    Raises
    ------
    FormatError
        Names the line that cannot be read.
    StoreError
        The file cannot be read.
    """
    path, lines = text_lines(path)
    pixel_size, image_size = None, None
    if match := _PIXEL_AND_SIZE.search(lines[0]):
        pixel_size = number(match[1])
        if pixel_size is None or pixel_size <= 0:
            refuse_line(path, 1, lines[0], "a pixel size after 'Pix:'")
        image_size = int(match[2]), int(match[3])
        lines[0] = lines[0][: match.start()]
    table = parse_table(path, lines, ("number", "x", "y", "z", "object", "contour"))
    return FiducialPositions(
        xyz=table[:, 1:4],
        model_object=table[:, 4].astype(np.int64),
        contour=table[:, 5].astype(np.int64),
        pixel_size=pixel_size,
        image_size=image_size,
    )


def read_residuals(path: str | PathLike[str]) -> Residuals:
    """Read the residuals of an alignment (``.resid``).

    Parameters
    ----------
    path : path-like
        A line ``n residuals``, then x, y, view (from 0), dx, dy a line.

    Returns
    -------
    Residuals

    Raises
    ------
    FormatError
        Names the line that cannot be read, or the two counts that differ.
    StoreError
        The file cannot be read.
    """
    path, lines = text_lines(path)
    words = lines[0].split()
    if len(words) != 2 or not words[0].isdigit() or words[1] != "residuals":
        refuse_line(path, 1, lines[0], "'n residuals'")
    table = parse_table(path, lines[1:], ("x", "y", "view", "dx", "dy"), first_line=2)
    if len(table) != int(words[0]):
        raise FormatError(
            f"{path}: announces {words[0]} residuals and has {len(table)}: it is cut short or "
            "was edited; write it again"
        )
    return Residuals(xy=table[:, :2], view=table[:, 2].astype(np.int64), residual=table[:, 3:])


def write_angles(path: str | PathLike[str], angles: ArrayLike) -> None:
    """Write tilt angles, one a line, with 4 decimals.

    Parameters
    ----------
    path : path-like
        The file; it appears only when complete.
    angles : array-like, shape (n,)
        Degrees.

    Raises
    ------
    ConversionError
        A value is not finite or does not fit its column.
    DataError
        The array has another shape.
    StoreError, SpaceError
        The file cannot be written.
    """
    table = np.asarray(angles, dtype=np.float64)
    check_shape(path, table, (-1,))
    write_table(path, table[:, np.newaxis], ((10, 4),))


def write_transforms(path: str | PathLike[str], transforms: ArrayLike) -> None:
    """Write linear transforms: matrices with 9 decimals, shifts with 4.

    Parameters
    ----------
    path : path-like
        The file; it appears only when complete.
    transforms : array-like, shape (n, 2, 3)
        As `read_transforms` returns; shifts in pixels.

    Raises
    ------
    ConversionError
        A value is not finite or does not fit its column.
    DataError
        The array has another shape.
    StoreError, SpaceError
        The file cannot be written.
    """
    array = np.asarray(transforms, dtype=np.float64)
    check_shape(path, array, (-1, 2, 3))
    table = np.concatenate((array[:, :, :2].reshape(-1, 4), array[:, :, 2]), axis=1)
    write_table(path, table, ((14, 9),) * 4 + ((14, 4),) * 2)


def write_zfactors(path: str | PathLike[str], factors: ArrayLike) -> None:
    """Write z factors with 9 decimals.

    Parameters
    ----------
    path : path-like
        The file; it appears only when complete.
    factors : array-like, shape (n, 2)
        (x, y), pixels per pixel of z.

    Raises
    ------
    ConversionError
        A value is not finite or does not fit its column.
    DataError
        The array has another shape.
    StoreError, SpaceError
        The file cannot be written.
    """
    table = np.asarray(factors, dtype=np.float64)
    check_shape(path, table, (-1, 2))
    write_table(path, table, ((14, 9),) * 2)


def write_fiducial_xyz(path: str | PathLike[str], positions: FiducialPositions) -> None:
    """Write the solved positions of fiducials with 4 decimals.

    Parameters
    ----------
    path : path-like
        The file; it appears only when complete.
    positions : FiducialPositions
        The pixel size and image size go to the first line where both are there.

    Raises
    ------
    ConversionError
        A value is not finite or does not fit its column.
    DataError
        There are no fiducials.
    StoreError, SpaceError
        The file cannot be written.
    """
    check_shape(path, positions.xyz, (-1, 3))
    count = len(positions.xyz)
    table: NDArray[np.float64] = np.column_stack(
        (np.arange(1, count + 1), positions.xyz, positions.model_object, positions.contour)
    )
    size: tuple[str, ...] = ()
    if positions.pixel_size is not None and positions.image_size is not None:
        x, y = positions.image_size
        size = (f" Pix: {positions.pixel_size:11.5f} Dim: {x:5d} {y:5d}",)
    write_table(path, table, ((6, 0), *((13, 4),) * 3, (7, 0), (7, 0)), after=size)


def write_residuals(path: str | PathLike[str], residuals: Residuals) -> None:
    """Write the residuals of an alignment with 4 decimals.

    Parameters
    ----------
    path : path-like
        The file; it appears only when complete.
    residuals : Residuals
        The residual is the prediction minus the measurement, as tiltalign counts.

    Raises
    ------
    ConversionError
        A value is not finite or does not fit its column.
    DataError
        There are no residuals.
    StoreError, SpaceError
        The file cannot be written.
    """
    table: NDArray[np.float64] = np.column_stack((residuals.xy, residuals.view, residuals.residual))
    check_shape(path, table, (-1, 5))
    write_table(
        path,
        table,
        ((12, 4), (12, 4), (6, 0), (10, 4), (10, 4)),
        first=f"{len(table):6d} residuals",
    )


def compose_transforms(
    first: NDArray[np.float64], second: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Multiply transforms: the result does what `first` does and then `second`.

    This is IMOD's ``xfproduct first second``. Both must be in pixels of the same size.

    Parameters
    ----------
    first, second : ndarray of float64, shape (n, 2, 3)
        As `read_transforms` returns.

    Returns
    -------
    ndarray of float64, shape (n, 2, 3)

    Raises
    ------
    DataError
        The two have different shapes.
    """
    if first.shape != second.shape or first.shape[1:] != (2, 3):
        raise DataError(
            f"transforms of shapes {first.shape} and {second.shape} cannot be multiplied; "
            "both must be (n, 2, 3)"
        )
    result = second[:, :, :2] @ first
    result[:, :, 2] += second[:, :, 2]
    return result

"""A series' contrast transfer as the tables of IMOD, CTFFIND and AreTomo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from tomodask.errors import ConversionError
from tomodask.io.ctffind import CtffindTable
from tomodask.io.imod_defocus import DefocusFile

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from tomodask.kernels.ctf import Optics

    FloatArray = NDArray[np.float64]

__all__ = ["ctffind_of_views", "imod_of_views"]


def imod_of_views(
    values: Mapping[str, FloatArray], tilt: FloatArray, order: NDArray[np.int64], handedness: int
) -> DefocusFile:
    """Return IMOD's table of a series, one row for every view that has a defocus.

    Parameters
    ----------
    values : mapping of str to ndarray of float64, shape (views,)
        Defocus, astigmatism and phase shift, as a table of contrast transfer names them.
    tilt : ndarray of float64, shape (views,)
        Of the stack that the table is for, degrees.
    order : ndarray of int64, shape (sections,)
        The view of each section of the stack.
    handedness : int
        At +1 the angles are said to be inverted.

    Returns
    -------
    DefocusFile

    Raises
    ------
    ConversionError
        If a phase shift is negative, of which IMOD takes the magnitude.
    """
    section = np.flatnonzero(np.isfinite(values["defocus_u"])[order])
    view = order[section]
    phase = values["phase_shift"][view]
    if (phase < 0).any():
        raise ConversionError(
            f"view {view[phase < 0][0]} has a phase shift of {phase.min():g} degrees, of which "
            "IMOD takes the magnitude: export as a table of CTFFIND, or estimate from 0 upwards"
        )
    defocus = np.stack([values["defocus_u"][view], values["defocus_v"][view]], axis=1)
    astigmatic = (defocus[:, 0] != defocus[:, 1]).any()
    return DefocusFile(
        first=section,
        last=section,
        low_angle=tilt[view],
        high_angle=tilt[view],
        defocus=defocus,
        astigmatism_angle=values["astigmatism_angle"][view] if astigmatic else None,
        phase_shift=phase if phase.any() else None,
        inverted=handedness == 1,
    )


def ctffind_of_views(
    values: Mapping[str, FloatArray],
    tilt: FloatArray,
    order: NDArray[np.int64],
    handedness: int,
    optics: Optics,
    pixel_size: float,
    *,
    program: Literal["ctffind", "aretomo"],
) -> CtffindTable:
    """Return CTFFIND's or AreTomo's table of a series, one row for every view that has a defocus.

    Parameters
    ----------
    values : mapping of str to ndarray of float64, shape (views,)
        Defocus, astigmatism, phase shift and, where known, score and fit resolution, as a table of
        contrast transfer names them.
    tilt : ndarray of float64, shape (views,)
        As recorded, degrees: AreTomo counts images in this order.
    order : ndarray of int64, shape (sections,)
        The view of each section of the stack.
    handedness : int
        For AreTomo, which has a column for it.
    optics : Optics
        For CTFFIND's header.
    pixel_size : float
        A.
    program : {"ctffind", "aretomo"}
        Whose columns, and whose way of counting images.

    Returns
    -------
    CtffindTable

    Raises
    ------
    ConversionError
        If a view has no defocus, for AreTomo, which wants a row for each.
    """
    place = np.argsort(tilt, kind="stable") if program == "aretomo" else order
    there = np.isfinite(values["defocus_u"])[place]
    if program == "aretomo" and not there.all():
        raise ConversionError(
            f"view {place[~there][0]} has no defocus, and AreTomo wants a row for each: export as "
            "a table of CTFFIND, or import one for all views"
        )
    image = np.flatnonzero(there)
    view = place[image]
    unknown = np.full(len(tilt), np.nan)
    return CtffindTable(
        image=image,
        defocus=np.stack([values["defocus_u"][view], values["defocus_v"][view]], axis=1),
        astigmatism_angle=values["astigmatism_angle"][view],
        phase_shift=values["phase_shift"][view],
        score=values.get("score", unknown)[view],
        fit_resolution=values.get("fit_resolution", unknown)[view],
        program=program,
        images=len(place),
        handedness=handedness,
        pixel_size=pixel_size,
        voltage=optics.voltage,
        spherical_aberration=optics.spherical_aberration,
        amplitude_contrast=optics.amplitude_contrast,
    )

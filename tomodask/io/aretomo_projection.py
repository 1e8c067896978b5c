"""AreTomo's alignment as a projection, and a projection as AreTomo's alignment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomodask.errors import ConversionError, DataError
from tomodask.geometry import Projection
from tomodask.io.aretomo import AreTomoAlignment, DarkFrame

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["alignment_of_projection", "global_projection"]

#: Magnifications and z factors that AreTomo's five decimals print alike are alike.
_SAME = 5e-6


def global_projection(alignment: AreTomoAlignment, pixel_size: float) -> Projection:
    """Return the projection of the views that are not dark, without the local alignment.

    Parameters
    ----------
    alignment : AreTomoAlignment
        Its `view` says which view of the stack, by rising tilt, each of the projection is.
    pixel_size : float
        Of the images that were aligned, A.

    Returns
    -------
    Projection

    Raises
    ------
    ConversionError
        A magnification is not 1, or the offset beta is not 0: what AreTomo means by these is not
        documented.
    """
    changed = np.flatnonzero(np.abs(alignment.magnification - 1) > _SAME)
    if len(changed):
        raise ConversionError(
            f"view {alignment.view[changed[0]]} has GMAG {alignment.magnification[changed[0]]:g}: "
            "whether it enlarges or shrinks is not documented; align without magnification"
        )
    if alignment.beta_offset:
        raise ConversionError(
            f"BetaOffset is {alignment.beta_offset:g} degrees: how AreTomo applies it is not "
            "documented; align without it, or set it to 0 in the file and give an x-tilt"
        )
    return Projection.create(
        alignment.tilt_angle,
        tilt_axis_angle=alignment.rotation,
        shift=alignment.shift * pixel_size,
    )


def alignment_of_projection(
    projection: Projection,
    pixel_size: float,
    image_size: tuple[int, int],
    *,
    included: ArrayLike | None = None,
    nominal_tilt: ArrayLike | None = None,
    thickness: int | None = None,
) -> AreTomoAlignment:
    """Return the alignment, of AreTomo3's kind, of a projection.

    Parameters
    ----------
    projection : Projection
        Of all views of the stack, by rising tilt angle.
    pixel_size : float
        A.
    image_size : tuple of int
        (x, y), pixels.
    included : array-like of bool, shape (views,), optional
        Others become dark images; all are included by default.
    nominal_tilt : array-like, shape (views,), optional
        Angles as recorded, degrees: the median by which the solved ones differ becomes the offset
        alpha. By default the solved angles, with an offset of 0.
    thickness : int, optional
        Of the specimen, pixels.

    Returns
    -------
    AreTomoAlignment

    Raises
    ------
    ConversionError
        The format cannot hold what the projection has, or views are not in order of tilt.
    DataError
        No view is included, or a parameter is not of as many views.
    """
    views = len(projection)
    keep = np.ones(views, bool) if included is None else np.asarray(included, bool)
    nominal = projection.tilt_angle if nominal_tilt is None else np.asarray(nominal_tilt)
    if keep.shape != (views,) or nominal.shape != (views,) or not keep.any():
        raise DataError(
            f"'included' and 'nominal_tilt' of shapes {keep.shape} and {nominal.shape} with "
            f"{keep.sum()} views: give one value for each of {views} views, one included"
        )
    _check_expressible(projection, keep)
    unordered = np.flatnonzero(np.diff(nominal) < 0)
    if len(unordered):
        raise ConversionError(
            f"view {unordered[0] + 1} has tilt {nominal[unordered[0] + 1]:g} after "
            f"{nominal[unordered[0]]:g} degrees: AreTomo counts views by rising tilt; sort the "
            "stack and its alignment first"
        )
    view = np.flatnonzero(keep)
    return AreTomoAlignment(
        view=view,
        tilt_angle=projection.tilt_angle[view],
        rotation=projection.tilt_axis_angle[view],
        magnification=np.ones(len(view)),
        shift=projection.shift[view] / pixel_size,
        image_size=image_size,
        # AreTomo3 counts the sections of dark images from 1, their index from 0.
        dark=tuple(DarkFrame(int(v), int(v) + 1, float(nominal[v])) for v in np.flatnonzero(~keep)),
        alpha_offset=float(np.median((projection.tilt_angle - nominal)[view])),
        beta_offset=0.0,
        thickness=thickness,
    )


def _check_expressible(projection: Projection, keep: NDArray[np.bool_]) -> None:
    """Refuse what an .aln file has no column for."""
    for name, values, neutral in (
        ("magnification", projection.magnification, 1.0),
        ("stretch", projection.stretch, 0.0),
        ("skew", projection.skew, 0.0),
        ("x-tilt", projection.x_tilt, 0.0),
        ("z factor in x", projection.z_factor[:, 0], 0.0),
        ("z factor in y", projection.z_factor[:, 1], 0.0),
    ):
        bad = np.flatnonzero(keep & (np.abs(values - neutral) > _SAME))
        if len(bad):
            raise ConversionError(
                f"view {bad[0]} has {name} {values[bad[0]]:.6g}: AreTomo's .aln cannot hold it; "
                "export as IMOD's files, or align with rotation, tilt and shift alone"
            )
    if projection.local is not None:
        raise ConversionError(
            "the alignment has a local field, of which AreTomo's .aln would keep samples only; "
            "export as IMOD's files, or export the global alignment"
        )

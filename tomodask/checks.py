"""The checks that one makes by eye before an alignment, on a prepared stack."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tomodask.kernels.downsample import block_means

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

__all__ = ["Check", "check_stack"]

#: A step between tilts this many times the usual one is a gap.
_GAP = 1.5
#: Tilts nearer than this part of the usual step are of one angle.
_SAME = 0.25
#: A view with less than this part of the contrast of the views around it is looked at.
_LOW_CONTRAST = 0.5
#: Views on either side that contrast is compared with.
_NEIGHBOURS = 3


@dataclass(frozen=True, slots=True)
class Check:
    """What a check found.

    Parameters
    ----------
    name
        What was checked.
    ok
        Whether it is as it should be.
    message
        The finding, with its numbers.
    """

    name: str
    ok: bool
    message: str


def check_stack(stack: xr.DataArray) -> list[Check]:
    """Check a stack that is to be aligned; its images are read once, one at a time.

    Parameters
    ----------
    stack
        (tilt, y, x) with ``tilt_angle`` and the attribute ``pixel_size`` (A), e.g. from
        ``tomodask.preprocess``.

    Returns
    -------
    One check each of the images' size, of missing and double tilts, of their order, and of the
    contrast across the tilt range.
    """
    angles = np.asarray(stack["tilt_angle"].values, np.float64)
    views = np.asarray(stack["tilt"].values if "tilt" in stack.coords else np.arange(len(angles)))
    height, width = stack.sizes["y"], stack.sizes["x"]
    size = Check(
        "size",
        ok=min(height, width) >= 64,
        message=f"{len(angles)} views of {width} x {height} pixels of "
        f"{stack.attrs['pixel_size']:.4g} A",
    )
    return [size, *_check_tilts(angles, views), _check_contrast(stack, angles, views)]


def _check_tilts(angles: NDArray[np.float64], views: NDArray[np.intp]) -> list[Check]:
    ascending = np.sort(angles)
    steps = np.diff(ascending)
    usual = float(np.median(steps[steps > 0])) if (steps > 0).any() else 0.0
    gaps = [
        f"{a:+.1f} to {b:+.1f}" for a, b in itertools.pairwise(ascending) if b - a > _GAP * usual
    ]
    double = [
        f"{a:+.1f}" for a, b in itertools.pairwise(ascending) if b - a < _SAME * usual or a == b
    ]
    wrong = np.flatnonzero(np.diff(angles) < 0)
    extent = f"{ascending[0]:+.1f} to {ascending[-1]:+.1f} degrees, step {usual:.2f}"
    return [
        Check(
            "missing tilts",
            ok=not gaps,
            message=f"{extent}" + (f"; nothing from {', '.join(gaps)}" if gaps else "; no gaps"),
        ),
        Check(
            "double tilts",
            ok=not double,
            message=f"more than one view at {', '.join(double)} degrees" if double else "none",
        ),
        Check(
            "order",
            ok=not len(wrong),
            message="tilt angles rise from view to view"
            if not len(wrong)
            else f"tilt angles fall after view {', '.join(str(views[i]) for i in wrong[:8])}",
        ),
    ]


def _check_contrast(
    stack: xr.DataArray, angles: NDArray[np.float64], views: NDArray[np.intp]
) -> Check:
    normalised = "normalization" in stack.attrs.get("applied", [])
    contrast = np.array([_contrast(stack[i], normalised=normalised) for i in range(len(angles))])
    order = np.argsort(angles, kind="stable")
    low = []
    for place, view in enumerate(order):
        around = [*order[max(0, place - _NEIGHBOURS) : place]]
        around += [*order[place + 1 : place + 1 + _NEIGHBOURS]]
        if around and contrast[view] < _LOW_CONTRAST * np.median(contrast[around]):
            low.append(f"view {views[view]} ({angles[view]:+.1f} degrees)")
    lowest, middle = int(np.argmin(contrast)), int(np.argmin(np.abs(angles)))
    message = (
        f"{contrast[middle]:.3g} at {angles[middle]:+.1f} degrees, lowest {contrast[lowest]:.3g} "
        f"at {angles[lowest]:+.1f}"
    )
    return Check(
        "contrast",
        ok=not low,
        message=message + (f"; low beside its neighbours: {', '.join(low)}" if low else ""),
    )


def _contrast(view: xr.DataArray, *, normalised: bool) -> float:
    """Return the standard deviation of a view coarsened to about 64 pixels, over its mean.

    Coarsened, it is that of the specimen rather than of shot noise.
    """
    image = np.asarray(view.data, np.float64)
    coarse = block_means(image, min(image.shape) // 64)
    mean = 1.0 if normalised else abs(float(image.mean())) or 1.0
    return float(coarse.std() / mean)

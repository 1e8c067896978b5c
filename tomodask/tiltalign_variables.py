"""What a command file of tiltalign lets vary, as variables of the bundle adjustment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomodask.errors import DataError, ParameterError
from tomodask.kernels.bundle import Freedom, Mapping, Variables

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from tomodask.io.tiltalign import TiltalignOptions, VariableOptions

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

__all__ = ["not_followed", "tiltalign_variables"]

#: Points of a view without which it has no values of its own.
_POINTS = 3
#: Views per group where a command file does not say.
_GROUP = 5
#: Where among the views the stretch and the skew keep their starting value. The manual does not
#: say; it was inferred from tiltalign's logs of two series. Any other place describes the same
#: alignment of a specimen that is stretched and skewed a little.
_DISTORTION_REFERENCE = 0.25


def tiltalign_variables(
    options: TiltalignOptions, tilt_angle: FloatArray, observed_view: ArrayLike
) -> Variables:
    """Return the variables that a command file asks for, grouped as tiltalign groups them.

    Parameters
    ----------
    options
        Of the command file.
    tilt_angle
        (view,) to start from, with the offset, degrees.
    observed_view
        (n,) view of each fiducial that is used.

    Raises
    ------
    DataError
        If no view has fiducials enough.
    ParameterError
        If a variable is mapped by a list.
    """
    counts = np.bincount(np.asarray(observed_view, np.int64), minlength=len(tilt_angle))
    views = np.flatnonzero(counts >= _POINTS)
    if not len(views):
        raise DataError(f"no view has {_POINTS} fiducials, as many as it needs; track more")
    return Variables(
        **{name: _freedom(name, one, tilt_angle, views) for name, one in options.variables.items()}
    )


def not_followed(options: TiltalignOptions) -> list[str]:
    """Return sentences on what a command file asks for and is not done."""
    varied = options.variables.values()
    asked = {
        "AxisXShift": bool(options.axis_x_shift),
        "SeparateGroup": bool(options.separate_groups),
        "NondefaultGroup": any(one.other_groups for one in varied),
        "TiltSecondFixedView": any(one.second_reference_view is not None for one in varied),
        "BeamTiltOption": bool(options.beam_tilt_option),
        "FixedOrInitialBeamTilt": bool(options.beam_tilt),
        "LocalAlignments": options.local.enabled,
    }
    return [f"{name} is not followed" for name, wanted in asked.items() if wanted]


def _freedom(
    name: str, options: VariableOptions, tilt_angle: FloatArray, views: IntArray
) -> Freedom | Mapping:
    reference = options.reference_view
    if reference is not None:  # the nearest, where that view itself is left out
        reference = int(views[np.argmin(np.abs(views - reference))])
    match options.freedom:
        case None | "fixed":
            return Freedom("fixed")
        case "single":
            return Freedom("single")
        case "free" if reference is None:
            return Freedom("free")
        case "free":
            return Mapping.linear(views.tolist(), len(tilt_angle), reference)
        case "linear" | "same":
            return Mapping.grouped(
                name,
                options.grouping or _GROUP,
                tilt_angle,
                views=views,
                reference=_reference(name, tilt_angle, views) if reference is None else reference,
                blocks=options.freedom == "same",
            )
        case _:
            raise ParameterError(
                f"{name} is mapped by a list in the command file: give its option as 0, 1, 3 or 5"
            )


def _reference(name: str, tilt_angle: FloatArray, views: IntArray) -> int | None:
    """Return the view whose group keeps its starting value where the file names none."""
    height = np.abs(tilt_angle[views])
    match name:
        case "rotation":
            return None
        case "stretch" | "skew":
            return int(views[int(_DISTORTION_REFERENCE * (len(views) - 1))])
        case "compression":
            return int(views[np.argmax(height)])
        case _:
            return int(views[np.argmin(height)])

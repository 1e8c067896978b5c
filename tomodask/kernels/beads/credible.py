"""Whether an alignment by beads can be believed.

What a wrong one looks like: landmarks that few of the views show where they should be; views that
do not fit; tilt angles that no stage would have. Each is looked for, for the solution has enough
freedom to make residuals small.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomodask.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomodask.kernels.beads.track import Tracks
    from tomodask.kernels.bundle.solution import Solution

    FloatArray = NDArray[np.float64]
    BoolArray = NDArray[np.bool_]

__all__ = ["REMEDY", "checked"]

REMEDY = (
    "check the beads' diameter, the tilt angles and the tilt-axis angle, or align by patches, "
    "which needs no gold"
)
#: Part of the places where landmarks must be that were measured, part of the views that have a
#: place, part of the views whose tilts may be wrong, and residuals in diameters.
_MEASURED, _SOLVED, _TILTED, _ASTRAY = 0.5, 0.7, 0.1, 0.3
#: Elongation, and noise in units of the errors of the centres, that gold does not have together:
#: it is round, and its centre is where it is measured. (Noise elongates faint gold, but then the
#: errors say so; and where the specimen is not rigid, gold is still round.)
_LONG, _NOISY = 0.15, 2.0
#: No stage is this far, degrees, from the tilt angle that it reports.
_WRONG_TILT = 4.0


def checked(
    solution: Solution,
    tilt_angle: FloatArray,
    used: BoolArray,
    tracks: Tracks,
    visible: BoolArray,
    diameter: float,
) -> list[str]:
    """Refuse a solution that cannot be believed; return notes on what is doubtful in it.

    Parameters
    ----------
    solution
        In pixels.
    tilt_angle
        (tilt,) nominal, degrees.
    used
        (tilt,) which views were to be aligned.
    tracks
        Where landmarks were measured.
    visible
        (landmark, tilt) where they should be seen.
    diameter
        Of the beads, pixels.

    Raises
    ------
    DataError
        With what is wrong and what to do.
    """
    solved = used & solution.solved
    part = float((tracks.measured & visible).sum() / max(visible.sum(), 1))
    off = np.abs(solution.tilt_angle - tilt_angle)
    # What the beads cannot tell is not said to be wrong.
    error = np.nan_to_num(solution.parameter_error["tilt"], nan=np.inf)
    wrong = np.flatnonzero(solved & (off - 3 * error > _WRONG_TILT))
    typical = float(np.nanmedian(tracks.error))
    problem = ""
    if solved.sum() < _SOLVED * used.sum():
        problem = f"only {solved.sum()} of {used.sum()} views fit one specimen"
    elif part < _MEASURED:
        problem = f"beads are found in only {100 * part:.0f} % of the places where they should be"
    elif len(wrong) > _TILTED * used.sum():
        problem = (
            f"the beads of {len(wrong)} views are at other tilts than the given ones, by up to "
            f"{off[wrong].max():.0f} degrees"
        )
    elif np.median(tracks.elongation) > _LONG and solution.noise > _NOISY * typical:
        problem = (
            f"what was followed is not gold: elongated by "
            f"{100 * np.median(tracks.elongation):.0f} %, and {solution.noise:.1f} pixels from "
            f"where it should be, when gold could be centred to {typical:.1f}"
        )
    elif not solution.noise < _ASTRAY * diameter:
        problem = (
            f"the beads miss the places of a rigid specimen by {solution.noise:.1f} pixels, their "
            f"diameter being {diameter:.1f}"
        )
    if problem:
        raise DataError(f"{problem}: this is no alignment; {REMEDY}")
    notes = []
    left = np.flatnonzero(used & ~solved)
    if len(left):
        names = ", ".join(map(str, left))
        notes.append(f"views {names}: too few beads matched; they are placed between neighbours")
    notes += [
        f"view {view}: the beads are at {solution.tilt_angle[view]:.1f} degrees, not at "
        f"{tilt_angle[view]:.1f}; check its tilt angle"
        for view in wrong
    ]
    return notes

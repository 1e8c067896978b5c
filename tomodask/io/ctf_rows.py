"""Rows of the tables of IMOD, CTFFIND and AreTomo as values of a series' views."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tomodask.errors import DataError
from tomodask.io.ctffind import read_ctffind
from tomodask.io.imod_defocus import DefocusFile, read_defocus

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = [
    "CtfRows",
    "ctffind_rows",
    "half_turn",
    "imod_rows",
    "listed",
    "view_values",
]

#: Tilt angles of a file and of a series agree to this many degrees, but for an offset.
_AGREE = 3.0


@dataclass(frozen=True, slots=True, eq=False)
class CtfRows:
    """What a file says of the views that it has a row for.

    Attributes
    ----------
    view : ndarray of int64, shape (n,)
        Of the series.
    defocus : ndarray of float64, shape (n, 2)
        A, underfocus positive.
    astigmatism_angle : ndarray of float64, shape (n,)
        Direction of the first defocus in the stack that the file is of, degrees.
    phase_shift : ndarray of float64, shape (n,)
        Degrees.
    handedness : int
        +1 or -1, 0 where the file does not tell.
    witness : str
        Whose statement the handedness is; empty where there is none.
    measured : dict of str to ndarray of float64, shape (n,)
        Other variables of a table of contrast transfer.
    microscope : dict of str to float
        What of voltage, spherical aberration and amplitude contrast the file says.
    notes : list of str
        What else a user should know; each goes on after the file's name, as does the witness.
    """

    view: NDArray[np.int64]
    defocus: FloatArray
    astigmatism_angle: FloatArray
    phase_shift: FloatArray
    handedness: int = 0
    witness: str = ""
    measured: dict[str, FloatArray] = field(default_factory=dict)
    microscope: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def imod_rows(path: Path, tilt: FloatArray, order: NDArray[np.int64]) -> CtfRows:
    """Read a ``.defocus`` file of a series.

    A row stands for the middle view of its range, as in ctfphaseflip. Whether IMOD's angles are
    inverted, and with them the hand, is told by the tilt angles of the rows.

    Parameters
    ----------
    path : Path
        The file.
    tilt : ndarray of float64, shape (views,)
        Tilt angles that the hand is to go with, degrees: recorded, or of the alignment.
    order : ndarray of int64, shape (sections,)
        The view of each section of the stack.

    Returns
    -------
    CtfRows

    Raises
    ------
    FormatError
        If it cannot be read.
    DataError
        If it has views that the series has not, other tilt angles, or two rows for a view.
    """
    read = read_defocus(path)
    last = int(read.last.max()) + 1
    if last > len(order):
        raise DataError(
            f"{path} has a row for view {last}, the series has {len(order)} images; give the file "
            "of this stack"
        )
    notes: list[str] = []
    sign, shift = _compared(path, read, tilt[order], notes)
    section = (read.first + read.last) // 2 + shift
    found, times = np.unique(section, return_counts=True)
    if (times > 1).any():
        raise DataError(
            f"{path} has several rows for view {found[times > 1][0] + 1} (a range stands for its "
            "middle view); keep one"
        )
    angle = np.zeros(len(section)) if read.astigmatism_angle is None else read.astigmatism_angle
    phase = np.zeros(len(section)) if read.phase_shift is None else np.abs(read.phase_shift)
    if read.phase_shift is not None and (read.phase_shift < 0).any():
        notes.append(
            f"has {np.count_nonzero(read.phase_shift < 0)} negative phase shifts, taken by "
            "their magnitude, as IMOD does"
        )
    view = order[section]
    if (read.defocus[:, 1] > read.defocus[:, 0]).any():
        notes.append(
            "has the smaller defocus first: its angle is taken as this one's, as IMOD does; "
            "AreTomo3's _CTF_Imod.txt means the larger one's, so give its _CTF.txt instead"
        )
    if read.cut_on_frequency is not None and read.cut_on_frequency.any():
        notes.append(
            f"has cut-on frequencies for views {listed(view[read.cut_on_frequency > 0])}: they are "
            "left out, and the phase shifts taken as the same at all frequencies"
        )
    witnesses = {
        1: "does not say the handedness: -1 is what IMOD assumes unless its tilt angles are "
        "inverted; compare it with an estimate",
        -1: "has inverted tilt angles, which stand for the handedness +1",
        0: "does not tell the handedness by its tilt angles",
    }
    return CtfRows(
        view=view,
        defocus=read.defocus,
        astigmatism_angle=angle,
        phase_shift=phase,
        # IMOD's defocus grows with x at a positive angle of its own: it falls with the height.
        handedness=-sign,
        witness=witnesses[sign],
        notes=notes,
    )


def ctffind_rows(
    path: Path, tilt: FloatArray, order: NDArray[np.int64], *, by_tilt: bool
) -> CtfRows:
    """Read a table of CTFFIND or AreTomo of a series.

    Parameters
    ----------
    path : Path
        The file.
    tilt : ndarray of float64, shape (views,)
        Recorded tilt angles, degrees.
    order : ndarray of int64, shape (sections,)
        The view of each section of the stack.
    by_tilt : bool
        Whether images are counted by rising tilt angle even where the header does not show that
        the table is AreTomo's.

    Returns
    -------
    CtfRows

    Raises
    ------
    FormatError
        If it cannot be read.
    DataError
        If it is of another number of images.
    """
    read = read_ctffind(path)
    by_tilt = by_tilt or read.program == "aretomo"
    if read.images != len(order):
        remedy = ", dark images included" if by_tilt else ""
        raise DataError(
            f"{path} is of {read.images} images, the series has {len(order)}; give the table of "
            f"this series{remedy}"
        )
    notes: list[str] = []
    if read.tilt_angle is not None:
        notes.append("has tilts and thicknesses of each image, which are left out")
    witness = (
        f"says the handedness, {read.handedness:+d}: AreTomo found it, for its own tilt axis; an "
        "alignment whose axis points the other way needs the opposite"
    )
    names = ("voltage", "spherical_aberration", "amplitude_contrast")
    said = {name: getattr(read, name) for name in names}
    place = np.argsort(tilt, kind="stable") if by_tilt else order
    return CtfRows(
        view=place[read.image],
        defocus=read.defocus,
        astigmatism_angle=read.astigmatism_angle,
        phase_shift=read.phase_shift,
        handedness=read.handedness,
        witness=witness if read.handedness else "",
        measured={"score": read.score, "fit_resolution": read.fit_resolution},
        microscope={name: value for name, value in said.items() if value is not None},
        notes=notes,
    )


def view_values(
    rows: CtfRows, tilt: FloatArray, included: NDArray[np.bool_]
) -> dict[str, NDArray[np.generic]]:
    """Return the variables of all views: those without a row lie between their neighbours in tilt.

    Parameters
    ----------
    rows : CtfRows
        With directions of astigmatism in the raw images.
    tilt : ndarray of float64, shape (views,)
        Degrees.
    included : ndarray of bool, shape (views,)
        Which views tell of their neighbours; all do where none of these has a row.

    Returns
    -------
    dict of str to ndarray, shape (views,)
        Variables of a table of contrast transfer. What was measured is nan without a row.
    """
    larger, smaller = rows.defocus.max(axis=1), rows.defocus.min(axis=1)
    turned = rows.defocus[:, 1] > rows.defocus[:, 0]
    angle = half_turn(rows.astigmatism_angle + np.where(turned, 90.0, 0.0))
    rising = np.argsort(tilt[rows.view], kind="stable")
    telling = included[rows.view][rising]
    if telling.any():
        rising = rising[telling]
    known = tilt[rows.view][rising]

    def between(values: FloatArray) -> FloatArray:
        return np.interp(tilt, known, values[rising]).astype(np.float64)

    def with_rows(filled: FloatArray, values: FloatArray) -> FloatArray:
        filled[rows.view] = values
        return filled

    # Astigmatism is a vector of twice its direction.
    half = (larger - smaller) / 2
    cosine = between(half * np.cos(np.deg2rad(2 * angle)))
    sine = between(half * np.sin(np.deg2rad(2 * angle)))
    mean, reach = between((larger + smaller) / 2), np.hypot(cosine, sine)
    own = np.zeros(len(tilt), bool)
    own[rows.view] = True
    return {
        "defocus_u": with_rows(mean + reach, larger),
        "defocus_v": with_rows(mean - reach, smaller),
        "astigmatism_angle": with_rows(np.rad2deg(np.arctan2(sine, cosine)) / 2, angle),
        "phase_shift": with_rows(between(rows.phase_shift), rows.phase_shift),
        "fitted": own,
        **{
            name: with_rows(np.full(len(tilt), np.nan), values)
            for name, values in rows.measured.items()
        },
    }


def half_turn(angle: FloatArray) -> FloatArray:
    """Return directions, which are the same after 180 degrees, from above -90 to 90 degrees."""
    wrapped: FloatArray = 90.0 - (90.0 - angle) % 180.0
    return wrapped


def listed(views: NDArray[np.int64]) -> str:
    """Return view numbers as text, with runs drawn together."""
    runs = np.split(np.sort(views), np.flatnonzero(np.diff(np.sort(views)) > 1) + 1)
    return ", ".join(f"{r[0]}" if len(r) == 1 else f"{r[0]} to {r[-1]}" for r in runs)


def _compared(path: Path, read: DefocusFile, tilt: FloatArray, notes: list[str]) -> tuple[int, int]:
    """Compare the tilt angles of rows with those of the sections, (sections,).

    Returns
    -------
    sign : int
        Of the series' angles among IMOD's own; 0 where they do not tell.
    shift : int
        To be added to the sections of the rows: an old ctfplotter counted one too low.
    """
    own = (read.low_angle + read.high_angle) / 2 * (-1 if read.inverted else 1)
    best = (np.inf, 0, 0, own, own)
    for shift in (0, 1) if read.version == 1 and read.last.max() + 1 < len(tilt) else (0,):
        seen = (tilt[read.first + shift] + tilt[read.last + shift]) / 2
        for sign in (1, -1):
            error = own - sign * seen
            offset = float(np.median(error))
            score = float(np.abs(error - offset).max()) + abs(offset)
            if score < best[0]:
                best = (score, sign, shift, seen, error)
    _, sign, shift, seen, error = best
    offset = float(np.median(error))
    worst = int(np.abs(error - offset).argmax())
    if abs(error[worst] - offset) > _AGREE:
        raise DataError(
            f"{path} gives view {read.first[worst] + 1} the tilt angle {own[worst]:g}, the series "
            f"has {seen[worst]:g} degrees there; give the file of this stack"
        )
    if shift:
        notes.append("counts views one too low, by its tilt angles: they are raised by one")
    if abs(offset) > _AGREE:
        notes.append(
            f"has tilt angles that are {offset:+.1f} degrees off those of the series, as of "
            "a tilted specimen; check that it is of this stack"
        )
    if np.ptp(seen) < 2 * _AGREE:
        return 0, shift
    return sign, shift

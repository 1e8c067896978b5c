"""Tables of tilt angles for stacks without an mdoc: ``.rawtlt``, AreTomo's ``_TLT.txt``, own ones.

Without a line that names them, the columns are: the tilt angle; the order of acquisition; the
exposure of the view, e/A^2. That is what AreTomo3 reads and writes (its third column is the dose
of each image, not the dose accumulated).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tomodask.errors import FormatError
from tomodask.io.paths import readable

if TYPE_CHECKING:
    from os import PathLike

    from numpy.typing import NDArray

__all__ = ["TiltTable", "read_tilt_table"]

_COLUMNS = ("tilt_angle", "order", "exposure", "dose")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
#: Exposures of one series do not grow by more: those at 60 degrees are twice those at 0.
_MOST_GROWTH = 3.0


@dataclass(frozen=True, slots=True, eq=False)
class TiltTable:
    """What is known of each image of a stack, in the stack's order.

    Attributes
    ----------
    tilt_angle : ndarray of float64, shape (n,)
        Degrees.
    order : ndarray of int64, shape (n,), or None
        Of acquisition, from 0.
    dose : ndarray of float64, shape (n,), or None
        e/A^2 before each image.
    exposure : ndarray of float64, shape (n,), or None
        e/A^2 of each image.
    """

    tilt_angle: NDArray[np.float64]
    order: NDArray[np.int64] | None
    dose: NDArray[np.float64] | None
    exposure: NDArray[np.float64] | None


def read_tilt_table(path: str | PathLike[str]) -> TiltTable:
    """Read a table of tilt angles.

    Parameters
    ----------
    path : path-like
        A line per image, columns parted by spaces, tabs or commas. A first line may name them, in
        any order: tilt_angle, order, exposure, dose. Empty lines and those that begin with # are
        passed over.

    Returns
    -------
    TiltTable

    Raises
    ------
    FormatError
        Names the line that cannot be read, or the value that cannot be.
    StoreError
        The file cannot be read.
    """
    path = Path(path).absolute()
    lines = _lines(path)
    names = _named(path, *lines[0])
    if named := names is not None:
        lines = lines[1:]
    rows = [(number, _words(path, number, line)) for number, line in lines]
    if not rows:
        raise FormatError(f"{path}: holds no tilt angle; the program that writes it did not finish")
    names = names or _COLUMNS[: len(rows[0][1])]
    if len(rows[0][1]) > 3 and not named:
        raise FormatError(
            f"{path}, line {rows[0][0]}: has {len(rows[0][1])} columns; name them in a first line "
            f"({' '.join(_COLUMNS)})"
        )
    numbers = np.array([number for number, _ in rows])
    table = {name: np.empty(len(rows)) for name in names}
    for row, (number, words) in enumerate(rows):
        if len(words) != len(names) or not all(map(_NUMBER.fullmatch, words)):
            raise FormatError(
                f"{path}, line {number}: {' '.join(words)!r} is not '{' '.join(names)}'; correct "
                "or remove it"
            )
        for name, word in zip(names, words, strict=True):
            table[name][row] = float(word)
    order = _order(path, numbers, table["order"], named) if "order" in table else None
    if not named and order is not None and "exposure" in table:
        _refuse_accumulated(path, table["exposure"][np.argsort(order)])
    for name, low, high in (("tilt_angle", -180, 180), ("exposure", 1e-6, 1e6), ("dose", 0, 1e6)):
        if name in table and len(bad := np.flatnonzero(~_between(table[name], low, high))):
            raise FormatError(
                f"{path}, line {numbers[bad[0]]}: {name} {table[name][bad[0]]:g} is outside "
                f"{low:g} to {high:g}; correct it"
            )
    return TiltTable(table["tilt_angle"], order, table.get("dose"), table.get("exposure"))


def _lines(path: Path) -> list[tuple[int, str]]:
    """Return the lines that hold something, with their numbers."""
    with readable(path):
        data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: is not a text file; give the text table") from error
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    kept = [
        (number, line.lstrip("# "))
        for number, line in lines
        if line and (not line.startswith("#") or "tilt_angle" in line)
    ]
    if not kept:
        raise FormatError(f"{path}: is empty; the program that writes it did not finish")
    return kept


def _named(path: Path, number: int, line: str) -> tuple[str, ...] | None:
    """Return the names of the columns if a line is of names."""
    words = tuple(word.lower() for word in re.split(r"[,\s]+", line))
    if not re.match(r"[a-z]", words[0]) or words[0] in {"nan", "inf"}:
        return None
    if set(words) - set(_COLUMNS) or len(set(words)) < len(words) or "tilt_angle" not in words:
        raise FormatError(
            f"{path}, line {number}: {line!r} does not name the columns; they are "
            f"{', '.join(_COLUMNS)}, the first of which is needed"
        )
    return words


def _words(path: Path, number: int, line: str) -> list[str]:
    if "," not in line:
        return line.split()
    words = [word.strip() for word in line.split(",")]
    if any(len(word.split()) > 1 for word in words) or (len(words) == 2 and "." not in line):
        raise FormatError(
            f"{path}, line {number}: in {line!r} a comma may part decimals or columns; write "
            "decimal points, and spaces between columns"
        )
    return words


def _between(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.bool_]:
    return (values >= low) & (values <= high)


def _order(
    path: Path, numbers: NDArray[np.int64], values: NDArray[np.float64], named: bool
) -> NDArray[np.int64]:
    """Return an order of acquisition, counted from 0."""
    order = values - (0 if np.any(values == 0) else 1)
    seen: dict[float, int] = {}
    for number, value in zip(numbers, order, strict=True):
        if value in seen:
            why = f"{values[numbers == number][0]:g} is on line {seen[value]}, too"
        elif value not in range(len(order)):
            why = f"{values[numbers == number][0]:g} is not a number from 0 or 1 to the last image"
        else:
            seen[value] = int(number)
            continue
        what = "order" if named else "second column (order of acquisition)"
        hint = "" if named else f", or name the columns in a first line ({' '.join(_COLUMNS)})"
        raise FormatError(f"{path}, line {number}: {what}: {why}; give each image its place{hint}")
    return order.astype(np.int64)


def _refuse_accumulated(path: Path, exposures: NDArray[np.float64]) -> None:
    """Refuse a third column that grows as an accumulated dose does; `exposures` as acquired."""
    if np.all(np.diff(exposures) > 0) and exposures[-1] > _MOST_GROWTH * exposures[0]:
        raise FormatError(
            f"{path}: its third column grows from {exposures[0]:g} to {exposures[-1]:g} in the "
            "order of acquisition, as the dose accumulated does; it must be the exposure of each "
            "image, or name the columns in a first line (tilt_angle order dose)"
        )

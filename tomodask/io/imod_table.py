"""Text tables of numbers as IMOD's programs write them: how they are read, refused and written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from tomodask.engine.files import write_whole
from tomodask.errors import ConversionError, DataError, FormatError
from tomodask.io.paths import check_folder, readable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from numpy.typing import NDArray

__all__ = [
    "check_shape",
    "number",
    "parse_table",
    "read_table",
    "refuse_line",
    "text_lines",
    "write_lines",
    "write_table",
]

# A Fortran program may write the exponent with a D.
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][-+]?\d+)?")
_DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+")


def text_lines(path: str | PathLike[str]) -> tuple[Path, list[str]]:
    """Return the absolute path and the lines of a text file, without blank ones at the end."""
    path = Path(path).absolute()
    with readable(path):
        data = path.read_bytes()
    try:
        lines = data.decode("utf-8-sig").rstrip().splitlines()
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: is not a text file; give the text table") from error
    if not lines:
        raise FormatError(f"{path}: is empty; the program that writes it did not finish")
    return path, lines


def read_table(path: str | PathLike[str], columns: Sequence[str]) -> NDArray[np.float64]:
    """Read a file that is one table."""
    path, lines = text_lines(path)
    return parse_table(path, lines, columns)


def parse_table(
    path: Path, lines: list[str], columns: Sequence[str], *, first_line: int = 1
) -> NDArray[np.float64]:
    """Return the numbers of lines that each hold one of every column."""
    table = np.empty((len(lines), len(columns)))
    for row, line in enumerate(lines):
        values = [number(word) for word in line.split()]
        if len(values) != len(columns) or None in values:
            refuse_line(path, first_line + row, line, " ".join(columns))
        table[row] = values
    return table


def number(word: str) -> float | None:
    """Return the number that a word is, or None."""
    if not _NUMBER.fullmatch(word):
        return None
    return float(word.lower().replace("d", "e"))


def refuse_line(path: Path, number: int, line: str, wanted: str) -> NoReturn:
    """Raise FormatError for a line (from 1) that is not what is wanted, with the likely remedy."""
    if any(_DECIMAL_COMMA.fullmatch(word) for word in line.split()):
        remedy = "it has a decimal comma: write decimal points"
    elif "*" in line:
        remedy = "the number did not fit the column of the program that wrote it"
    elif not line.strip():
        remedy = "remove the blank line"
    else:
        remedy = "correct or remove it"
    raise FormatError(f"{path}, line {number}: {line.strip()!r} is not '{wanted}'; {remedy}")


def check_shape(
    path: str | PathLike[str], array: NDArray[np.float64], shape: tuple[int, ...]
) -> None:
    """Raise DataError unless an array has a shape, whose first size is free but not 0."""
    fits = array.ndim == len(shape) and array.shape[1:] == shape[1:] and len(array) > 0
    if not fits:
        wanted = ", ".join("n" if n < 0 else str(n) for n in shape)
        raise DataError(f"{path}: an array of shape {array.shape} was given; give ({wanted})")


def write_table(
    path: str | PathLike[str],
    table: NDArray[np.float64],
    formats: Sequence[tuple[int, int]],
    *,
    first: str = "",
    after: Sequence[str] = (),
) -> None:
    """Write right-aligned columns of (width, decimals), with a space before each number.

    `first` is a line above the table; `after` holds what follows the columns of the first lines.
    """
    path = Path(path).absolute()
    lines = [first] if first else []
    for row_number, row in enumerate(table, len(lines) + 1):
        words = [
            f"{value:z.{decimals}f}" for value, (_, decimals) in zip(row, formats, strict=True)
        ]
        for value, word, (width, _) in zip(row, words, formats, strict=True):
            if not np.isfinite(value) or len(word) >= width:
                raise ConversionError(
                    f"{path}, line {row_number}: the value {value} does not fit a column of "
                    f"{width} characters; correct it, or leave the view out"
                )
        lines.append("".join(w.rjust(width) for w, (width, _) in zip(words, formats, strict=True)))
    for row_number, text in enumerate(after):
        lines[row_number] += text
    write_lines(path, lines)


def write_lines(path: str | PathLike[str], lines: Sequence[str]) -> None:
    """Write lines of ASCII; the file appears only when complete."""
    path = Path(path).absolute()
    check_folder(path)
    with write_whole(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="ascii", newline="\n")

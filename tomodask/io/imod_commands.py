"""IMOD's command files (``.com``): programs and the options they are given.

A line that begins with ``$`` starts a program; the lines below are its options, a name and a
value each, until the next ``$``. Lines that begin with ``#`` are comments.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from tomodask.errors import FormatError
from tomodask.io.imod_table import number, text_lines

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike
    from pathlib import Path

__all__ = ["Command", "Option", "OptionReader", "read_commands"]

_PROGRAM = re.compile(r"\$\s*\\?(\S+)\s*(.*)")
_RANGE = re.compile(r"(\d+)(?:-(\d+))?")


@dataclass(frozen=True, slots=True)
class Option:
    """A line of options.

    Attributes
    ----------
    name, value : str
        As in the file; the value may be empty.
    line : int
        From 1.
    """

    name: str
    value: str
    line: int


@dataclass(frozen=True, slots=True)
class Command:
    """A program and its options.

    Attributes
    ----------
    program, arguments : str
        What follows ``$``: the first word, and the rest of the line.
    options : tuple of Option
        In order, comments left out.
    line : int
        From 1.
    """

    program: str
    arguments: str
    options: tuple[Option, ...]
    line: int


def read_commands(path: str | PathLike[str]) -> tuple[Command, ...]:
    """Read a command file.

    Parameters
    ----------
    path : path-like
        The ``.com`` file.

    Returns
    -------
    tuple of Command
        In order.

    Raises
    ------
    FormatError
        The file is no text or has a line of options before the first program.
    StoreError
        The file cannot be read.
    """
    path, lines = text_lines(path)
    found: list[tuple[str, str, list[Option], int]] = []
    for place, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if text.startswith("$"):
            program = _PROGRAM.fullmatch(text)
            if program is None:
                raise FormatError(f"{path}, line {place}: '$' starts no program; write its name")
            found.append((program[1], program[2], [], place))
        elif not found:
            raise FormatError(
                f"{path}, line {place}: {text!r} belongs to no program; a command file has a line "
                "such as '$tiltalign -StandardInput' first"
            )
        else:
            name, *value = text.split(maxsplit=1)
            found[-1][2].append(Option(name, value[0] if value else "", place))
    return tuple(Command(name, rest, tuple(given), at) for name, rest, given, at in found)


class OptionReader:
    """Takes options of a program by name and kind, and knows which were not taken.

    Every method returns None, False or an empty tuple where the option is not given, and raises
    FormatError where its value is of another kind, naming the file, the line and the value.

    Parameters
    ----------
    path : Path
        The file, for messages.
    options : sequence of Option
        Of one program.
    """

    def __init__(self, path: Path, options: Sequence[Option]) -> None:
        self.path = path
        self._options = options
        self._taken: set[str] = set()

    def all(self, name: str) -> list[Option]:
        """Take an option that may be given several times."""
        self._taken.add(name)
        return [option for option in self._options if option.name == name]

    def one(self, name: str) -> Option | None:
        """Take an option that may be given once."""
        found = self.all(name)
        if len(found) > 1:
            raise FormatError(
                f"{self.path}, line {found[1].line}: {name} is given again (before in line "
                f"{found[0].line}); remove one"
            )
        return found[0] if found else None

    def text(self, name: str) -> str | None:
        """Take a name."""
        option = self.one(name)
        if option is not None and not option.value:
            self._refuse(option, "a name")
        return None if option is None else option.value

    def switch(self, name: str) -> bool:
        """Take 0 or 1; nothing means 1."""
        option = self.one(name)
        if option is not None and option.value not in ("", "0", "1"):
            self._refuse(option, "0 or 1")
        return option is not None and option.value != "0"

    def reals(self, name: str, count: int) -> tuple[float, ...] | None:
        """Take `count` numbers, separated by commas or spaces."""
        option = self.one(name)
        return None if option is None else self._reals(option, count)

    def real(self, name: str, default: float | None = None) -> float | None:
        """Take a number."""
        found = self.reals(name, 1)
        return default if found is None else found[0]

    def integers(self, name: str, count: int) -> tuple[int, ...] | None:
        """Take `count` whole numbers."""
        option = self.one(name)
        return None if option is None else self._integers(option, count)

    def integer(self, name: str) -> int | None:
        """Take a whole number."""
        found = self.integers(name, 1)
        return None if found is None else found[0]

    def every_integers(self, name: str, count: int) -> tuple[tuple[int, ...], ...]:
        """Take `count` whole numbers from each of several lines."""
        return tuple(self._integers(option, count) for option in self.all(name))

    def views(self, name: str) -> tuple[tuple[int, ...], ...]:
        """Take lists of views such as ``1-3,7`` from each of several lines; they count from 0."""
        return tuple(self._views(option) for option in self.all(name))

    def rest(self) -> tuple[Option, ...]:
        """Return the options that were not taken."""
        return tuple(option for option in self._options if option.name not in self._taken)

    def _reals(self, option: Option, count: int) -> tuple[float, ...]:
        values = [number(word) for word in option.value.replace(",", " ").split()]
        found = tuple(value for value in values if value is not None)
        if len(values) != count or len(found) != count:
            self._refuse(option, "a number" if count == 1 else f"{count} numbers")
        return found

    def _integers(self, option: Option, count: int) -> tuple[int, ...]:
        found = self._reals(option, count)
        if any(value != int(value) for value in found):
            self._refuse(option, "a whole number" if count == 1 else f"{count} whole numbers")
        return tuple(int(value) for value in found)

    def _views(self, option: Option) -> tuple[int, ...]:
        found: list[int] = []
        for word in option.value.replace(",", " ").split():
            match = _RANGE.fullmatch(word)
            first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
            if not 1 <= first <= last:
                self._refuse(option, "views from 1 such as 1-3,7")
            found += range(first - 1, last)
        return tuple(found)

    def _refuse(self, option: Option, wanted: str) -> NoReturn:
        raise FormatError(
            f"{self.path}, line {option.line}: {option.name} {option.value!r} is not {wanted}; "
            "correct or remove the line"
        )

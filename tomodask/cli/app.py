"""The application, the options that several commands share, and how values are written.

Every command is one call of the public Python API.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast, get_args

from cyclopts import App, Group, Parameter

import tomodask as td
from tomodask.engine.events import Listener
from tomodask.errors import ParameterError

__all__ = [
    "IMAGES",
    "Bin",
    "Correction",
    "Handedness",
    "Quiet",
    "Run",
    "app",
    "corners",
    "freedoms",
    "hand",
    "numbers",
    "pair",
    "progress",
    "span",
]

_HELP = """Cryo-electron tomography from movies to tomogram, out of core.

A first tomogram: `tomodask demo`. With your own data, one line a step:

    tomodask import TS_01.mdoc --frames frames --gain gain.mrc --out TS_01.zarr
    tomodask motion TS_01.zarr --patches 5x5
    tomodask clean TS_01.zarr
    tomodask curate TS_01.zarr
    tomodask align TS_01.zarr --method beads
    tomodask position TS_01.zarr --name flat
    tomodask ctf estimate TS_01.zarr --alignment flat
    tomodask reconstruct TS_01.zarr --alignment flat --bin 4 --ctf 3d
    tomodask export TS_01.zarr --tomogram wbp --out TS_01.mrc

A stack of images instead of movies: `tomodask import TS_01.st --tilt-angles TS_01.rawtlt --out
TS_01.zarr`, and on with `clean`. Every command may be interrupted and given again: it goes on where
it stopped. Exit codes: 0 done, 1 wrong input, 2 wrong command, 3 stopped before the end (give the
same command again).
"""

app = App(
    name="tomodask",
    help=_HELP,
    help_format="markdown",
    version=lambda: td.__version__,
    suppress_keyboard_interrupt=False,
)

_RUN = Group("Where it runs", sort_key=5)

#: Options that stand alone in some commands.
Quiet = Annotated[bool, Parameter(name="--quiet", negative="", group=_RUN)]
Bin = Annotated[float, Parameter(name="--bin")]
Handedness = Annotated[Literal["+1", "1", "-1"] | None, Parameter(name="--handedness")]
#: Endings of MRC files.
IMAGES = (".mrc", ".mrcs", ".rec", ".map", ".st", ".ali")
#: How the contrast transfer is undone.
Correction = Literal["phase-flip", "wiener", "multiply"]


@Parameter(name="*", group=_RUN)
@dataclass(frozen=True, kw_only=True)
class Run:
    """Where a command runs, and what it says meanwhile.

    Parameters
    ----------
    workers
        Most tasks at once; all cores by default.
    memory_limit
        For everything together, e.g. 4GiB; 60 % of the free memory by default.
    scheduler
        threads, processes, or the address of a Dask scheduler.
    quiet
        No progress bars.
    """

    workers: int | None = None
    memory_limit: str | None = None
    scheduler: str = "threads"
    quiet: Quiet = False

    @property
    def resources(self) -> dict[str, Any]:
        """The arguments of the Python function that say where it runs."""
        return {
            "workers": self.workers,
            "memory_limit": self.memory_limit,
            "scheduler": self.scheduler,
        }


@contextmanager
def progress(*, quiet: bool) -> Iterator[Listener | None]:
    """Show progress bars, unless they are not wanted."""
    if quiet:
        yield None
        return
    from tomodask.view.progress import terminal_progress

    with terminal_progress() as listen:
        yield listen


def span(text: str | None) -> tuple[int, int] | None:
    """Return the numbers of "START:STOP"."""
    if text is None:
        return None
    try:
        start, stop = text.split(":")
        return int(start), int(stop)
    except ValueError:
        raise ParameterError(f"range {text!r}: give START:STOP in voxels") from None


def corners(text: str | None) -> list[tuple[int, int]] | None:
    """Return the two corners (x, y) of the rectangle "X0:X1,Y0:Y1"."""
    if text is None:
        return None
    try:
        (x0, x1), (y0, y1) = (map(int, part.split(":")) for part in text.split(","))
    except ValueError:
        raise ParameterError(f"region {text!r}: give X0:X1,Y0:Y1 in pixels") from None
    return [(x0, y0), (x1, y1)]


def freedoms(text: str | None) -> td.Variables | None:
    """Return the variables of "rotation=single,tilt=grouped:5"."""
    if text is None:
        return None
    from tomodask.kernels.bundle.variables import PARAMETERS, Kind

    found: dict[str, Any] = {"rotation": td.Freedom("fixed")}
    try:
        for part in text.split(","):
            name, _, kind = part.strip().partition("=")
            kind, _, size = kind.partition(":")
            if kind not in get_args(Kind) or name not in PARAMETERS:
                raise ValueError(part)
            found[name] = td.Freedom(cast("Any", kind), int(size or 0))
    except ValueError:
        raise ParameterError(
            f"--vary {text!r}: give NAME=KIND, such as rotation=single,tilt=grouped:5; names are "
            f"{', '.join(PARAMETERS)}, kinds {', '.join(get_args(Kind))}"
        ) from None
    return td.Variables(**found)


def hand(text: str | None) -> Literal[-1, 1] | None:
    """Return the handedness that an option says."""
    if text is None:
        return None
    return -1 if text == "-1" else 1


def pair(text: str | None) -> tuple[int, int] | None:
    """Return the numbers (y, x) of "XxY", such as "5x4": 5 along x, 4 along y."""
    if text is None:
        return None
    try:
        x, y = text.lower().split("x")
        return int(y), int(x)
    except ValueError:
        raise ParameterError(f"patches {text!r}: give their numbers as XxY, e.g. 5x5") from None


def numbers(text: str) -> list[int]:
    """Return the numbers of a list such as "0,3,38-40"."""
    found: list[int] = []
    try:
        for part in filter(None, text.replace(" ", "").split(",")):
            first, _, last = part.partition("-")
            between = range(int(first), int(last or first) + 1)
            if not between:
                raise ValueError(part)
            found += between
    except ValueError:
        raise ParameterError(f"list {text!r}: give numbers such as 0,3,38-40") from None
    return found

"""The command line.

Exit codes: 0 done; 1 the input or the product is wrong; 2 the command is wrong; 3 stopped before
the end, what is finished is kept and the same command finishes it.
"""

from __future__ import annotations

import signal
import sys
import warnings
from typing import Any

from cyclopts import CycloptsError

from tomodask.cli import (
    alignments,
    ctf,
    export,
    info,
    landmarks,
    movies,
    positioning,
    tomograms,
    views,
)
from tomodask.cli.app import app
from tomodask.errors import (
    ClusterError,
    IncompleteError,
    LockedError,
    ParameterError,
    SpaceError,
    TaskError,
    TomodaskError,
    TomodaskWarning,
)

__all__ = ["app", "main"]

_COMMANDS = (movies, views, alignments, landmarks, positioning, ctf, tomograms, export, info)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    arguments
        Of the command; those of the process by default.
    """
    warnings.simplefilter("always", TomodaskWarning)
    warnings.showwarning = _show_warning
    # A batch system ends a job so; the lock must not outlive it, for the job may go on elsewhere.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        app(arguments, exit_on_error=False, print_error=True, result_action="return_value")
    except CycloptsError:
        return 2
    except KeyboardInterrupt:
        return _fail("interrupted; what is finished is kept, give the same command again", 3)
    except ParameterError as error:
        return _fail(str(error), 2)
    except (ClusterError, IncompleteError, LockedError, SpaceError, TaskError) as error:
        return _fail(str(error), 3)
    except TomodaskError as error:
        return _fail(str(error), 1)
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def _fail(message: str, code: int) -> int:
    print(f"tomodask: {message}", file=sys.stderr)
    return code


def _show_warning(
    message: Warning | str, category: type[Warning], *where: Any, **more: Any
) -> None:
    del where, more
    label = "note" if issubclass(category, TomodaskWarning) else category.__name__
    print(f"tomodask: {label}: {message}", file=sys.stderr)

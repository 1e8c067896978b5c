"""Listeners of a run: bars on a terminal, lines in a log, text in a notebook, JSON in a file.

Each is called with every :class:`~tomodask.engine.events.Event` of a run, from one thread::

    with terminal_progress() as progress:
        tomodask.store(volume, name="wbp", progress=progress)
"""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, TextIO

from tomodask.engine.files import explained
from tomodask.engine.memory import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console
    from rich.progress import TaskID

    from tomodask.engine.events import Event, Listener

__all__ = ["json_lines", "notebook_progress", "terminal_progress"]

#: Seconds between the lines of a log, and between the updates of a notebook.
_LINE_INTERVAL, _UPDATE_INTERVAL = 10.0, 0.5
#: Width of a bar, characters.
_BAR = 24


@dataclass(slots=True)
class _Stage:
    """A stage of a run: how far it is, how fast, and what it moved since it started."""

    name: str
    done: int
    total: int
    before: int
    started: float
    bytes_read: int = 0
    bytes_written: int = 0

    @property
    def text(self) -> str:
        """Rate, bytes and time left, as far as they are known."""
        words = []
        elapsed = monotonic() - self.started
        # What an earlier run finished says nothing of the speed of this one.
        finished = self.done - self.before
        if finished and elapsed > 0:
            words.append(_rate(finished / elapsed))
        for size, verb in ((self.bytes_read, "read"), (self.bytes_written, "written")):
            if size:
                words.append(f"{format_bytes(size)} {verb}")
        if finished and self.done < self.total:
            left = elapsed / finished * (self.total - self.done)
            words.append(f"{timedelta(seconds=round(left))} left")
        return ", ".join(words)


class _Stages(dict[tuple[str, str], _Stage]):
    """The stages that events told of, by (step, stage)."""

    def follow(self, event: Event) -> _Stage:
        """Take in an event and return its stage."""
        key = event.step, event.stage
        if event.kind == "start" or key not in self:
            name = f"{event.step}: {event.stage}"
            self[key] = _Stage(name, event.done, event.total, event.done, started=monotonic())
        stage = self[key]
        stage.done, stage.total = event.done, event.total
        if event.receipt is not None:
            stage.bytes_read += event.receipt.bytes_read
            stage.bytes_written += event.receipt.bytes_written
        return stage


def _rate(per_second: float) -> str:
    """Return a rate in the unit in which it is not a small fraction."""
    if per_second >= 1:
        return f"{per_second:.3g}/s"
    return f"{60 * per_second:.3g}/min" if per_second >= 1 / 60 else f"{3600 * per_second:.3g}/h"


@contextmanager
def terminal_progress(stream: TextIO | None = None) -> Iterator[Listener]:
    """Give a listener that shows one bar a stage, or plain lines where there is no terminal.

    Parameters
    ----------
    stream
        Where to; the standard error by default, so that a program's output stays its own.

    Yields
    ------
    Listener
        On a terminal a bar with tasks, rate, bytes and time left; else, as in a batch job's log,
        a line when a stage starts and ends and every ten seconds.
    """
    from rich.console import Console

    stream = sys.stderr if stream is None else stream
    console = Console(file=stream)
    if stream.isatty() and not console.is_dumb_terminal:
        with _bars(console) as listener:
            yield listener
    else:
        yield _lines(stream)


@contextmanager
def _bars(console: Console) -> Iterator[Listener]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    stages = _Stages()
    tasks: dict[tuple[str, str], TaskID] = {}
    # Names are the user's: brackets in them are no markup.
    progress = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=_BAR),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[text]}", markup=False),
        console=console,
    )

    def listen(event: Event) -> None:
        stage = stages.follow(event)
        key = event.step, event.stage
        if key not in tasks:
            tasks[key] = progress.add_task(stage.name, total=stage.total, text="")
        elif event.kind == "start":
            progress.reset(tasks[key])
        if event.kind == "retry":
            progress.console.print(
                f"{stage.name}: again after {event.message}", style="yellow", markup=False
            )
        text = event.message if event.kind == "start" else stage.text
        progress.update(tasks[key], completed=stage.done, total=stage.total, text=text)

    with progress:
        yield listen


def _lines(stream: TextIO) -> Listener:
    """Return a listener that writes plain lines, few enough for a log."""
    stages = _Stages()
    written: dict[tuple[str, str], tuple[int, float]] = {}

    def listen(event: Event) -> None:
        stage = stages.follow(event)
        key = event.step, event.stage
        now = monotonic()
        if event.kind == "start":
            words = event.message
        elif event.kind == "retry":
            words = f"again after {event.message}"
        else:
            last_done, last_time = written.get(key, (-1, now))
            due = stage.done == stage.total or now - last_time >= _LINE_INTERVAL
            if stage.done == last_done or not (due or event.kind == "end"):
                written.setdefault(key, (last_done, last_time))
                return
            words = stage.text
        written[key] = stage.done, now
        line = f"{datetime.now():%H:%M:%S} {stage.name} {stage.done}/{stage.total}"
        print(f"{line} {words}".rstrip(), file=stream, flush=True)

    return listen


@contextmanager
def notebook_progress(stream: TextIO | None = None) -> Iterator[Listener]:
    """Give a listener that shows a bar a stage below a notebook's cell.

    A bar is a line of text that is written over, as Dask's own: that works in every notebook,
    where rich's bars would want ipywidgets.

    Parameters
    ----------
    stream
        Where to; the standard output by default.

    Yields
    ------
    Listener
    """
    stream = sys.stdout if stream is None else stream
    stages = _Stages()
    line, key, shown = "", None, 0.0

    def listen(event: Event) -> None:
        nonlocal line, key, shown
        stage = stages.follow(event)
        here, now = (event.step, event.stage), monotonic()
        if line and here != key:
            stream.write("\n")
            line = ""
        due = event.kind != "task" or stage.done == stage.total
        if not (due or now - shown >= _UPDATE_INTERVAL):
            return
        filled = round(_BAR * stage.done / stage.total) if stage.total else _BAR
        bar = "#" * filled + " " * (_BAR - filled)
        text = f"{stage.name} [{bar}] {stage.done}/{stage.total} {stage.text}".rstrip()
        stream.write("\r" + text.ljust(len(line)))  # over the longer line before
        stream.flush()
        line, key, shown = text, here, now

    try:
        yield listen
    finally:
        if line:
            stream.write("\n")
            stream.flush()


def json_lines(path: str | Path) -> Listener:
    """Return a listener that appends each event to a file, one JSON object a line.

    An object holds "time" (UTC, ISO 8601) and the fields of the event, "receipt" among them with
    its own fields, or null. The file is complete after every event, whatever happens next.

    Parameters
    ----------
    path
        Of the file; made if it is not there, else continued.

    Raises
    ------
    StoreError
        If it cannot be written.
    """
    target = Path(path).expanduser().resolve()

    def append(text: str) -> None:
        with explained(target), target.open("a", encoding="utf-8") as stream:
            stream.write(text)

    def listen(event: Event) -> None:
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        append(json.dumps({"time": time, **asdict(event)}) + "\n")

    append("")  # a place that cannot be written shows before the run, not in it
    return listen

"""What a run tells reaches the terminal, the log, the notebook and the file."""

from __future__ import annotations

import io
import json
import re
from datetime import datetime

import pytest

from tomodask.engine.events import Event, Receipt
from tomodask.errors import StoreError
from tomodask.view import progress
from tomodask.view.progress import json_lines, notebook_progress, terminal_progress

MIB = 1024**2


class Clock:
    """A clock that is set by hand."""

    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "monotonic", clock)
    return clock


class Terminal(io.StringIO):
    def isatty(self):
        return True


def event(kind, done, total=100, *, step="store wbp", stage="back-project", **more):
    return Event(kind=kind, step=step, stage=stage, done=done, total=total, **more)


def receipt(number):
    return Receipt(key=f"slab/{number}", bytes_read=3 * MIB, bytes_written=MIB, cpu_seconds=0.5)


def without_times(text):
    return re.sub(r"^\d\d:\d\d:\d\d ", "", text, flags=re.MULTILINE).splitlines()


def test_log_has_few_lines(clock):
    stream = io.StringIO()
    with terminal_progress(stream) as listen:
        listen(event("start", 40, message="2 at once"))
        for number in range(41, 101):
            clock.now += 1
            listen(event("task", number, receipt=receipt(number)))
        listen(event("end", 100))
    assert without_times(stream.getvalue()) == [
        "store wbp: back-project 40/100 2 at once",
        *(
            f"store wbp: back-project {40 + n}/100 1/s, {3 * n}.0 MiB read, {n}.0 MiB written, "
            f"0:00:{60 - n} left"
            for n in (10, 20, 30, 40, 50)
        ),
        "store wbp: back-project 100/100 1/s, 180.0 MiB read, 60.0 MiB written",
    ]


def test_what_an_earlier_run_did_is_not_counted_as_speed(clock):
    stream = io.StringIO()
    with terminal_progress(stream) as listen:
        listen(event("start", 98))
        clock.now += 600
        listen(event("task", 99))
    assert without_times(stream.getvalue())[-1].endswith("99/100 6/h, 0:10:00 left")


def test_log_tells_of_faults_and_of_an_early_end(clock):
    stream = io.StringIO()
    with terminal_progress(stream) as listen:
        listen(event("start", 0))
        listen(event("task", 1))
        listen(event("retry", 1, message="EIO on slab/3"))
        listen(event("task", 2))
        listen(event("end", 2))
    lines = without_times(stream.getvalue())
    assert [line.split()[3] for line in lines] == ["0/100", "1/100", "2/100"]
    assert lines[1].endswith("again after EIO on slab/3")


def test_a_stage_that_was_done_before_takes_one_line(clock):
    stream = io.StringIO()
    with terminal_progress(stream) as listen:
        listen(event("start", 100))
        listen(event("end", 100))
    assert len(without_times(stream.getvalue())) == 1


def test_an_event_without_a_start_is_followed(clock):
    stream = io.StringIO()
    with terminal_progress(stream) as listen:
        listen(event("task", 1, total=1))
    assert without_times(stream.getvalue()) == ["store wbp: back-project 1/1"]


def test_terminal_shows_a_bar_a_stage(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "160")
    stream = Terminal()
    with terminal_progress(stream) as listen:
        listen(event("start", 0, stage="align [bold]views[/bold]", total=2))
        listen(event("retry", 0, stage="align [bold]views[/bold]", total=2, message="[EIO]"))
        listen(event("task", 2, stage="align [bold]views[/bold]", total=2, receipt=receipt(1)))
        listen(event("start", 3, total=5))
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    assert "store wbp: align [bold]views[/bold]: again after [EIO]" in shown
    first, second = shown.splitlines()[-2:]
    assert first.startswith("store wbp: align [bold]views[/bold] ━")
    assert "2/2" in first
    assert "3.0 MiB read" in first
    assert second.startswith("store wbp: back-project")
    assert "3/5" in second


def test_terminal_that_cannot_move_its_cursor_gets_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    with terminal_progress(stream) as listen:
        listen(event("start", 0))
    assert without_times(stream.getvalue()) == ["store wbp: back-project 0/100"]


def test_standard_error_is_the_default(capsys):
    with terminal_progress() as listen:
        listen(event("start", 0))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "back-project" in captured.err


def test_notebook_writes_over_its_line(clock):
    stream = io.StringIO()
    with notebook_progress(stream) as listen:
        listen(event("start", 0, total=8, stage="align views"))
        for done in range(1, 9):
            clock.now += 0.2
            listen(event("task", done, total=8, stage="align views"))
        listen(event("end", 8, total=8, stage="align views"))
        listen(event("start", 0))
    lines = [line.split("\r") for line in stream.getvalue().removesuffix("\n").split("\n")]
    assert len(lines) == 2
    done = [re.search(r"\] (\d)/8", text)[1] for text in lines[0][1:]]
    assert done == ["0", "3", "6", "8", "8"]
    assert lines[0][2].startswith("store wbp: align views [#########               ] 3/8 5/s")
    seen = ""
    for text in lines[0][1:]:
        seen = text + seen[len(text) :]
        assert seen.rstrip() == text.rstrip(), "nothing of the longer text before remains"
    assert lines[1][1].startswith("store wbp: back-project [ ")


def test_notebook_survives_a_fault(clock):
    stream = io.StringIO()

    def run():
        with notebook_progress(stream) as listen:
            listen(event("start", 0))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        run()
    assert stream.getvalue().endswith("\n")


def test_each_event_is_a_line_of_json(tmp_path):
    path = tmp_path / "run.jsonl"
    events = [
        event("start", 0, message='with "quotes"\nand a line'),
        event("task", 1, receipt=receipt(1)),
    ]
    listen = json_lines(path)
    for item in events:
        listen(item)
    json_lines(path)(event("end", 1))  # a second run goes on in the same file
    start, task, end = (json.loads(line) for line in path.read_text().splitlines())
    assert datetime.fromisoformat(start.pop("time")).utcoffset().total_seconds() == 0
    assert start == {
        "kind": "start", "step": "store wbp", "stage": "back-project", "done": 0, "total": 100,
        "message": 'with "quotes"\nand a line', "receipt": None,
    }  # fmt: skip
    assert task["receipt"] == {
        "key": "slab/1", "bytes_read": 3 * MIB, "bytes_written": MIB, "cpu_seconds": 0.5
    }  # fmt: skip
    assert end["kind"] == "end"


def test_a_log_that_cannot_be_written_is_told_at_once(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises((StoreError, IsADirectoryError)):
        json_lines(tmp_path / "folder")
    with pytest.raises((StoreError, FileNotFoundError)):
        json_lines(tmp_path / "no" / "run.jsonl")

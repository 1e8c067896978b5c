"""Inputs and stores that are damaged: found, named, never used in silence."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.faults.conftest import (
    ANGLES,
    HEIGHT,
    VIEWS,
    WIDTH,
    assert_same,
    images_ledger,
    make,
    tomogram,
    tomogram_ledger,
    write_stack,
)
from tomodask.errors import DataError, FormatError, StoreError, TaskError
from tomodask.graph.reconstruct import reconstruct
from tomodask.importing import import_stack
from tomodask.io.series import open_series, tomogram_names

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from tests.faults.conftest import Inputs

    Command = Callable[..., subprocess.CompletedProcess[str]]


def shard_of(series: Path, view: int) -> Path:
    return series / "tilt_series" / "images" / "c" / str(view) / "0" / "0"


def spoil(path: Path, where: float) -> None:
    data = bytearray(path.read_bytes())
    at = int(where * len(data))
    data[at] ^= 0x55
    path.write_bytes(data)


@pytest.mark.parametrize("where", [0.0, 0.001, 0.3, 0.6, 0.9, 0.9999])
def test_flipped_byte_of_an_image(series: Path, where: float) -> None:
    """Whatever it hits (a header, the pixels, the index) the reconstruction stops."""
    spoil(shard_of(series, 4), where)
    with pytest.raises(FormatError) as caught:
        make(series)
    message = str(caught.value)
    assert str(series / "tilt_series" / "images") in message
    assert re.search(r"view 4|\[4\]|c/4/0/0", message)
    assert "again" in message
    assert tomogram_names(series) == []


def test_flipped_byte_and_the_exit_code(series: Path, command: Command) -> None:
    spoil(shard_of(series, 4), 0.5)
    found = command("reconstruct", series, "--thickness", "8", "--alignment", "none", "--quiet")
    assert found.returncode == 1
    assert found.stderr.startswith("tomodask: ")
    assert "Traceback" not in found.stderr


def test_missing_image(series: Path) -> None:
    shard_of(series, 2).unlink()
    with pytest.raises(FormatError, match="c/2/0/0 is missing"):
        make(series)
    with pytest.raises(FormatError, match="c/2/0/0 is missing"):
        reconstruct(open_series(series), thickness=4, alignment="none").compute()


def test_images_of_another_view(series: Path) -> None:
    """A shard that is whole in itself, in a wrong place: only the checksum of the view tells."""
    shutil.copy(shard_of(series, 1), shard_of(series, 2))
    with pytest.raises(FormatError, match=r"view 2 .*checksum differs"):
        make(series)


def test_excluded_view_may_be_damaged(inputs: Inputs, tmp_path: Path, series: Path) -> None:
    path = inputs.import_to(tmp_path / "s.zarr", exclude=[4])
    shard_of(path, 4).unlink()
    make(path)
    assert tomogram_names(path) == ["wbp"]


def test_missing_shard_of_a_tomogram(finished: Path) -> None:
    """Zarr would show NaN; an export or a view of it is refused."""
    shard = tomogram(finished) / "0" / "tomogram" / "c" / "0" / "3" / "0"
    shard.unlink()
    volume = open_series(finished)["tomograms/wbp/full/0"]["tomogram"]
    np.testing.assert_array_equal(np.isnan(volume[:, :192].values), False)
    with pytest.raises(FormatError, match="c/0/3/0 is missing"):
        volume[:, 200].values  # noqa: B018


def interrupted(series: Path) -> None:
    """Stop when two slabs are made."""

    def stop(event: object) -> None:
        if event.stage == "back-project" and event.done == 2:  # type: ignore[attr-defined]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(series, workers=1, progress=stop)


def test_truncated_scratch(series: Path, undisturbed: Path) -> None:
    """The remedy of the message is one: the run mends itself."""
    interrupted(series)
    scratch = tomogram_ledger(series).scratch / "view_0003.f4"
    data = scratch.read_bytes()
    scratch.write_bytes(data[: len(data) // 2])
    with pytest.raises(FormatError, match=r"view_0003\.f4 is truncated; remove it and run"):
        make(series)
    scratch.unlink()
    make(series)
    assert_same(tomogram(series), tomogram(undisturbed))


def test_scratch_that_was_tidied_away(series: Path, undisturbed: Path) -> None:
    interrupted(series)
    shutil.rmtree(tomogram_ledger(series).scratch)
    make(series)
    assert_same(tomogram(series), tomogram(undisturbed))


def test_import_without_its_scratch(inputs: Inputs, tmp_path: Path, undisturbed: Path) -> None:
    out = tmp_path / "s.zarr"

    def stop(event: object) -> None:
        if event.done == 5:  # type: ignore[attr-defined]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        inputs.import_to(out, workers=1, progress=stop)
    shutil.rmtree(images_ledger(out).scratch)
    inputs.import_to(out)
    assert_same(out / "tilt_series", undisturbed / "tilt_series")


@pytest.mark.parametrize("keep", [0.9999, 0.5, 0.01, 0.0])
def test_truncated_stack(keep: float, inputs: Inputs, tmp_path: Path) -> None:
    data = inputs.stack.read_bytes()
    stack = tmp_path / "short.st"
    stack.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(FormatError, match=r"short\.st"):
        import_stack(stack, tmp_path / "s.zarr", tilt_angles=inputs.angles)
    assert not (tmp_path / "s.zarr").exists()


def test_stack_cut_while_it_is_read(inputs: Inputs, tmp_path: Path) -> None:
    stack = tmp_path / "cut.st"
    shutil.copy(inputs.stack, stack)

    def cut(event: object) -> None:
        if event.done == 2:  # type: ignore[attr-defined]
            with stack.open("r+b") as stream:
                stream.truncate(1024 + 5 * HEIGHT * WIDTH * 4 + 8)

    with pytest.raises(FormatError, match=r"cut\.st: section 5 has 2 of its"):
        import_stack(stack, tmp_path / "s.zarr", tilt_angles=inputs.angles, workers=1, progress=cut)
    with pytest.raises(StoreError, match="not complete"):
        open_series(tmp_path / "s.zarr")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_bad_values_in_a_view(bad: float, inputs: Inputs, tmp_path: Path) -> None:
    values = inputs.values.copy()
    values[3, 100:102, 7] = bad
    stack = write_stack(tmp_path / "bad.st", values)
    with pytest.raises(DataError, match=r"section 3 of .*bad\.st holds 2 values.*--exclude 3"):
        import_stack(stack, tmp_path / "s.zarr", tilt_angles=inputs.angles, tilt_axis=4.0)
    # Without the view they are accepted, and change nothing.
    good = inputs.import_to(tmp_path / "good" / "x.zarr", exclude=[3])
    path = import_stack(
        stack, tmp_path / "bad" / "x.zarr", tilt_angles=inputs.angles, tilt_axis=4.0, exclude=[3]
    )
    stored = open_series(path)["tilt_series"]["images"][3].values
    np.testing.assert_array_equal(stored, values[3])
    for series in (good, path):
        make(series)
    assert_same(tomogram(path) / "0", tomogram(good) / "0")
    assert np.isfinite(open_series(path)["tomograms/wbp/full/0"]["tomogram"].values).all()


@pytest.mark.parametrize(
    ("angles", "message"),
    [
        (ANGLES[:-1], f"has {VIEWS - 1} tilt angles, .* has {VIEWS} images"),
        (np.append(ANGLES, 1), f"has {VIEWS + 1} tilt angles"),
        ([], "has 0 tilt angles"),
        ([*ANGLES[:-1], np.nan], f"angle nan of section {VIEWS - 1}"),
        ([*ANGLES[:-1], 1e5], f"angle 100000.0 of section {VIEWS - 1}"),
    ],
)
def test_angles_that_do_not_match(
    angles: list[float], message: str, inputs: Inputs, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        import_stack(inputs.stack, tmp_path / "s.zarr", tilt_angles=angles)
    assert not (tmp_path / "s.zarr").exists()


def test_file_of_angles_that_holds_something_else(inputs: Inputs, tmp_path: Path) -> None:
    for text in ("", "one\ntwo\n", "\x00\x01"):
        angles = tmp_path / "a.tlt"
        angles.write_text(text)
        with pytest.raises((FormatError, DataError), match=r"a\.tlt"):
            import_stack(inputs.stack, tmp_path / "s.zarr", tilt_angles=angles)
    with pytest.raises(StoreError, match=r"none\.tlt"):
        import_stack(inputs.stack, tmp_path / "s.zarr", tilt_angles=tmp_path / "none.tlt")


def test_single_image(tmp_path: Path) -> None:
    stack = write_stack(tmp_path / "one.st", np.ones((1, 64, 64)))
    with pytest.raises(DataError, match=r"one\.st holds 1 images .* at least 2"):
        import_stack(stack, tmp_path / "s.zarr", tilt_angles=[0.0])


def test_stack_without_pixels(tmp_path: Path, inputs: Inputs) -> None:
    stack = tmp_path / "zero.st"
    header = bytearray(inputs.stack.read_bytes()[:1024])
    header[0:4] = bytes(4)  # no columns
    stack.write_bytes(header)
    with pytest.raises((FormatError, DataError), match=r"zero\.st"):
        import_stack(stack, tmp_path / "s.zarr", tilt_angles=ANGLES)


def test_constant_images(tmp_path: Path) -> None:
    """Nothing to see is no error: an empty region of a specimen gives an empty tomogram."""
    stack = write_stack(tmp_path / "flat.st", np.full((VIEWS, 80, 70), 7.0))
    path = import_stack(stack, tmp_path / "s.zarr", tilt_angles=ANGLES, tilt_axis=4.0)
    make(path, thickness=8)
    found = open_series(path)["tomograms/wbp/full/0"]["tomogram"].values
    assert np.abs(found).max() < 1e-4


def test_store_that_is_none(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent", tmp_path / "a.zarr"):
        with pytest.raises(StoreError, match="is no tilt series of tomodask"):
            open_series(path)


@pytest.mark.parametrize(
    "damaged",
    [
        "tomograms/wbp/full/0/tomogram/.ledger/plan.json",
        "tilt_series/images/zarr.json",
        "tomograms/wbp/full/0/zarr.json",
    ],
)
def test_metadata_of_a_store_is_damaged(damaged: str, finished: Path, command: Command) -> None:
    (finished / damaged).write_text("{")
    found = command("info", finished)
    assert found.returncode == 1, found.stderr
    assert found.stderr.startswith("tomodask: ")
    assert str(finished) in found.stderr


def test_task_error_says_what_is_kept(
    series: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: Path
) -> None:
    """A fault that nobody foresaw, in the middle: its task is named, the rest stays."""
    from tomodask.engine.shards import ShardWriter

    write, calls = ShardWriter.write, 0

    def faulty(*arguments: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 30:
            raise ZeroDivisionError("unforeseen")
        write(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(ShardWriter, "write", faulty)
        with pytest.raises(
            TaskError, match=r"task slab/\d failed: ZeroDivisionError: unforeseen; "
        ):
            make(series, workers=1)
    before = tomogram_ledger(series).done()
    assert len(before) > VIEWS
    make(series)
    assert before < tomogram_ledger(series).done()
    assert_same(tomogram(series), tomogram(undisturbed))

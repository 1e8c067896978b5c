"""Disks that are full, small, read-only or not there."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING

import pytest
import zarr

from tests.faults.conftest import (
    RECONSTRUCT,
    assert_same,
    contents,
    images_ledger,
    make,
    tomogram,
    tomogram_ledger,
)
from tomodask.engine.shards import read_region
from tomodask.errors import SpaceError, StoreError
from tomodask.io.series import open_series, tomogram_names, write_alignment
from tomodask.model import alignment_dataset, nominal_projection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.faults.conftest import Inputs

    Command = Callable[..., subprocess.CompletedProcess[str]]
    Mount = Callable[[str], Path]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mount a tmpfs with options; skipped where the tests may not."""
    mounted: list[Path] = []

    def tmpfs(options: str) -> Path:
        target = tmp_path / f"disk{len(mounted)}"
        target.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(target)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            pytest.skip(f"cannot mount a small disk: {done.stderr.strip()}")
        mounted.append(target)
        return target

    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    yield tmpfs
    for target in mounted:
        subprocess.run(["umount", "-l", str(target)], check=True)


def remount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], check=True)


def copied(source: Path, disk: Path) -> Path:
    subprocess.run(["cp", "-r", str(source), str(disk / "s.zarr")], check=True)
    return disk / "s.zarr"


def no_part_looks_whole(path: Path) -> None:
    """Every shard under its final name can be read to its end."""
    for metadata in path.rglob("zarr.json"):
        array = metadata.parent
        if not (array / "c").is_dir():
            continue
        stored = zarr.open_array(array, mode="r")
        shards = stored.shards or stored.chunks
        for shard in (array / "c").rglob("*"):
            if shard.is_file() and shard.suffix != ".partial":
                index = [int(part) for part in shard.relative_to(array / "c").parts]
                region = tuple(
                    slice(i * s, min((i + 1) * s, n))
                    for i, s, n in zip(index, shards, stored.shape, strict=True)
                )
                read_region(array, region)


def test_full_while_importing(
    mount: Mount, inputs: Inputs, undisturbed: Path, command: Command
) -> None:
    disk = mount("size=700k")
    out = disk / "s.zarr"
    arguments = inputs.import_arguments(out)
    stopped = command(*arguments, "--quiet")
    assert stopped.returncode == 3
    # The image, or the checksum beside it: whichever of the two tasks fills the disk.
    places = tuple(
        f"tomodask: cannot write {out}/tilt_series/images/{place}/" for place in ("c", ".ledger")
    )
    assert stopped.stderr.startswith(places)
    assert "No space left on device; free space" in stopped.stderr
    assert "run the same command again: what is finished is kept" in stopped.stderr
    assert len(stopped.stderr.splitlines()) == 1
    assert not images_ledger(out).complete
    assert 0 < len(images_ledger(out).done()) < len(inputs.values)
    assert not list(out.rglob("*.partial"))
    no_part_looks_whole(out)
    remount(disk, "size=50m")
    inputs.import_to(out)
    assert_same(out / "tilt_series", undisturbed / "tilt_series")


def test_too_small_for_a_tomogram(mount: Mount, series: Path, command: Command) -> None:
    """Refused before anything is computed, with both numbers."""
    disk = mount("size=8m")
    path = copied(series, disk)
    refused = command("reconstruct", path, *RECONSTRUCT)
    assert refused.returncode == 3
    message = refused.stderr.strip()
    assert message.startswith(f"tomodask: {tomogram(path)} needs ")
    numbers = re.search(r"needs ([\d.]+) MiB more, the disk has ([\d.]+) MiB free", message)
    assert numbers is not None
    needed, free = map(float, numbers.groups())
    there = os.statvfs(disk)
    assert free == pytest.approx(there.f_bavail * there.f_frsize / 2**20, abs=0.2)
    assert needed > free
    assert contents(path) == contents(series)
    assert tomogram_names(path) == []


def test_full_while_reconstructing(
    mount: Mount, series: Path, undisturbed: Path, command: Command
) -> None:
    """Another program takes the space while we are at it."""
    disk = mount("size=60m")
    path = copied(series, disk)
    filler = disk / "filler"
    room = 11 * 2**20

    def fill(event: object) -> None:
        del event
        if not filler.exists():
            stat = os.statvfs(disk)
            filler.write_bytes(bytes(stat.f_bavail * stat.f_frsize - room))

    with pytest.raises(SpaceError) as caught:
        make(path, workers=2, progress=fill)
    assert "No space left on device; free space" in str(caught.value)
    assert "/tomogram/c/0/" in str(caught.value)
    assert tomogram_names(path) == []
    assert not list(path.rglob("*.partial"))
    no_part_looks_whole(path)
    done = tomogram_ledger(path).done()
    assert any(key.startswith("slab") for key in done)

    refused = command("reconstruct", path, *RECONSTRUCT)  # still full: refused at once
    assert refused.returncode == 3
    assert "more, the disk has" in refused.stderr
    filler.unlink()
    make(path)
    assert done < tomogram_ledger(path).done()
    assert_same(tomogram(path), tomogram(undisturbed))


def test_full_while_aligning(mount: Mount, series: Path) -> None:
    """The scratch fills the disk."""
    disk = mount("size=60m")
    path = copied(series, disk)
    filler = disk / "filler"

    def fill(event: object) -> None:
        del event
        if not filler.exists():
            stat = os.statvfs(disk)
            filler.write_bytes(bytes(stat.f_bavail * stat.f_frsize - 400_000))

    with pytest.raises(SpaceError, match=r"scratch/view_000\d\.f4: .*; free space"):
        make(path, workers=2, progress=fill)
    assert tomogram_names(path) == []


@pytest.mark.parametrize("limit", [40_000, 200_000])
def test_file_that_may_not_grow(
    limit: int, inputs: Inputs, undisturbed: Path, tmp_path: Path, command: Command
) -> None:
    """EFBIG, as a quota gives: no root needed."""
    out = tmp_path / "s.zarr"
    arguments = inputs.import_arguments(out)
    stopped = command(*arguments, "--quiet", fault=f"limit:{limit}")
    if limit == 200_000:  # enough for the images, not for the tomogram
        assert stopped.returncode == 0, stopped.stderr
        stopped = command("reconstruct", out, *RECONSTRUCT, "--quiet", fault=f"limit:{limit}")
    assert stopped.returncode == 3, stopped.stderr
    assert "tomodask: cannot write " in stopped.stderr
    assert "File too large; free space, or raise the quota" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert not list(out.rglob("*.partial"))
    no_part_looks_whole(out)
    inputs.import_to(out)
    assert_same(out / "tilt_series", undisturbed / "tilt_series")
    make(out)
    assert_same(tomogram(out), tomogram(undisturbed))


def test_read_only_disk(mount: Mount, undisturbed: Path, inputs: Inputs, command: Command) -> None:
    disk = mount("size=60m")
    path = copied(undisturbed, disk)
    before = contents(path)
    remount(disk, "ro")
    refused = command("reconstruct", path, *RECONSTRUCT, "--name", "other", "--quiet")
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"tomodask: cannot write {path}")
    assert "Read-only file system; check" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    with pytest.raises(StoreError, match="Read-only file system; check"):
        inputs.import_to(disk / "new.zarr")
    projection = nominal_projection(open_series(path)["tilt_series"].to_dataset())
    with pytest.raises(StoreError, match="Read-only file system; check"):
        write_alignment(path, "a", alignment_dataset(projection, method="imported"))
    # Reading works: nothing is written to open a series.
    assert tomogram_names(path) == ["wbp"]
    assert open_series(path)["tomograms/wbp/full/0"]["tomogram"][0].values.shape == (530, 75)
    assert contents(path) == before


def test_target_is_a_file(tmp_path: Path, inputs: Inputs) -> None:
    out = tmp_path / "s.zarr"
    out.write_text("precious")
    with pytest.raises(StoreError, match=r"cannot write .*/s\.zarr/.*: Not a directory; check"):
        inputs.import_to(out)
    assert out.read_text() == "precious"


@pytest.mark.parametrize("overwrite", [False, True])
def test_target_holds_other_files(tmp_path: Path, inputs: Inputs, overwrite: bool) -> None:
    """Overwriting replaces a store of ours, nothing else."""
    out = tmp_path / "home"
    out.mkdir()
    (out / "thesis.tex").write_text("precious")
    with pytest.raises(StoreError, match=r"home holds files .* of tomodask \(thesis\.tex\)"):
        inputs.import_to(out, overwrite=overwrite)
    assert contents(tmp_path / "home") == {"thesis.tex": b"precious"}


def test_tomogram_into_a_folder_of_others(series: Path, tmp_path: Path) -> None:
    out = tmp_path / "home"
    out.mkdir()
    (out / "thesis.tex").write_text("precious")
    with pytest.raises(StoreError, match="thesis"):
        make(series, path=out, overwrite=True)
    assert contents(out) == {"thesis.tex": b"precious"}


def test_parent_is_made(tmp_path: Path, inputs: Inputs) -> None:
    out = inputs.import_to(tmp_path / "not" / "there" / "s.zarr")
    assert images_ledger(out).complete


def test_name_that_is_too_long(series: Path, tmp_path: Path, inputs: Inputs) -> None:
    with pytest.raises(StoreError, match=r"cannot write .*File name too long"):
        make(series, name="n" * 300)
    with pytest.raises(StoreError, match=r"cannot write .*File name too long"):
        inputs.import_to(tmp_path / ("n" * 300))

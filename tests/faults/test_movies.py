"""Movies as disks, copies and people leave them; runs that end in the middle."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from tests.faults.conftest import assert_same, environment, images_ledger, marks
from tests.movie_sample import SHAPE, VIEWS, imported, movie_series, write
from tomodask.cli import main
from tomodask.errors import DataError, LockedError, SpaceError, StoreError, TomodaskWarning
from tomodask.importing_movies import import_movies
from tomodask.io.series import open_series
from tomodask.motion_correction import correct_motion

if TYPE_CHECKING:
    from collections.abc import Callable

    Command = Callable[..., subprocess.CompletedProcess[str]]

KILLED = -signal.SIGKILL
BAD = 1  # the view that the faults are of


@dataclass(frozen=True)
class Disk:
    """A folder of movies, and a store that refers to them."""

    folder: Path
    store: Path

    @property
    def movies(self) -> list[Path]:
        """By tilt angle."""
        order = open_series(self.store)["movies"]["order"].values
        found = sorted(self.folder.glob("*.tif"))
        return [found[index] for index in order]

    @property
    def gain(self) -> Path:
        return self.folder / "TS_01_gain.mrc"

    def run(self, *options: str) -> int:
        return main(["motion", str(self.store), "--quiet", *options])

    def shards(self) -> dict[str, tuple[int, bytes]]:
        """When each shard of the images was written, and what it holds."""
        series = self.store / "tilt_series"
        return {
            path.relative_to(series).as_posix(): (path.stat().st_mtime_ns, path.read_bytes())
            for part in ("images", "even", "odd")
            for path in (series / part / "c").rglob("*")
            if path.is_file()
        }


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of movies as the microscope left it."""
    folder = tmp_path_factory.mktemp("recorded")
    write(folder, movie_series())
    return folder


def disk_of(recorded: Path, place: Path) -> Disk:
    folder = Path(shutil.copytree(recorded, place / "movies"))
    store = import_movies(
        folder / "TS_01.mrc.mdoc",
        place / "m.zarr",
        gain=folder / "TS_01_gain.mrc",
        defects=folder / "TS_01_defects.txt",
    )
    return Disk(folder, store)


@pytest.fixture
def disk(recorded: Path, tmp_path: Path) -> Disk:
    """Imported, not corrected."""
    return disk_of(recorded, tmp_path)


@pytest.fixture(scope="module")
def undisturbed(recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> Disk:
    """Corrected in one go."""
    disk = disk_of(recorded, tmp_path_factory.mktemp("undisturbed"))
    correct_motion(disk.store, workers=1)
    return disk


def assert_corrected(disk: Disk, undisturbed: Disk) -> None:
    for group in ("tilt_series", "motion"):
        assert_same(disk.store / group, undisturbed.store / group)
    assert images_ledger(disk.store).complete
    assert not list(disk.store.rglob("*.partial"))


# One movie that cannot be used


def truncated(path: Path) -> str:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    return "truncated|complete|beyond|copy"


def emptied(path: Path) -> str:
    path.write_bytes(b"")
    return "empty|format|truncated"


def garbled(path: Path) -> str:
    content = bytearray(path.read_bytes())
    content[2000:60000] = os.urandom(58000)
    path.write_bytes(content)
    return path.name


def absent(path: Path) -> str:
    path.unlink()
    return "No such file"


def a_folder(path: Path) -> str:
    path.unlink()
    path.mkdir()
    return "directory"


def circular(path: Path) -> str:
    path.unlink()
    path.symlink_to(path)
    return "symbolic links"


def other_shape(path: Path) -> str:
    frames = tifffile.imread(path)
    tifffile.imwrite(path, frames[:, :-16], photometric="minisblack", compression="lzw")
    return f"{SHAPE[1]} x {SHAPE[0] - 16} pixels, the other movies {SHAPE[1]} x {SHAPE[0]}"


def fewer_frames(path: Path) -> str:
    frames = tifffile.imread(path)
    tifffile.imwrite(path, frames[:-2], photometric="minisblack", compression="lzw")
    return "has 4 frames, its mdoc says 6"


def not_a_movie(path: Path) -> str:
    path.write_text("<html>502 Bad Gateway</html>" * 100)
    return path.name


FAULTS = (
    truncated, emptied, garbled, absent, a_folder, circular, other_shape, fewer_frames, not_a_movie,
)  # fmt: skip


def restore(path: Path, content: bytes) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    path.unlink(missing_ok=True)
    path.write_bytes(content)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_one_movie_that_cannot_be_used(
    fault: Callable[[Path], str],
    disk: Disk,
    undisturbed: Disk,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is flagged, the others are done; mended, it alone is done by the same command."""
    movie = disk.movies[BAD]
    content = movie.read_bytes()
    expected = fault(movie)
    assert disk.run() == 1
    message = capsys.readouterr().err
    assert f"no image of views {BAD}" in message
    assert str(movie) in message
    assert "Traceback" not in message
    series = open_series(disk.store)["tilt_series"].to_dataset()
    others = np.arange(VIEWS) != BAD
    np.testing.assert_array_equal(series["has_image"], others)
    np.testing.assert_array_equal(series["included"], others)
    reason = str(series["reason"].values[BAD])
    assert any(word in reason for word in expected.split("|")), reason
    assert str(movie) in reason
    assert np.isnan(series["images"][BAD].values).all()
    assert np.isnan(open_series(disk.store)["motion"]["shift_y"].values[BAD]).all()
    good = open_series(undisturbed.store)["tilt_series"].to_dataset()
    for part in ("images", "even", "odd"):
        np.testing.assert_array_equal(series[part].values[others], good[part].values[others])

    before = disk.shards()
    assert disk.run() == 1  # as it was
    restore(movie, content)
    assert disk.run() == 0
    after = disk.shards()
    kept = [name for name in before if name.split("/")[2] != str(BAD)]
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert open_series(disk.store)["tilt_series"]["reason"].values.tolist() == [""] * VIEWS
    assert_corrected(disk, undisturbed)


def test_eer_that_holds_less_than_a_group(tmp_path: Path) -> None:
    """What makes sense for the other movies does not for this one."""
    truth = movie_series(angles=np.array([-8.0, 0.0, 8.0]), frames=2)
    files = write(tmp_path / "whole", truth, movie_format="eer", raw_frames=20)
    short = write(tmp_path / "short", movie_series(angles=np.array([0.0, 4.0]), frames=2),
                  movie_format="eer", raw_frames=4)  # fmt: skip
    path = imported(files, tmp_path / "m.zarr", gain=None, eer_group=10)
    files.movies[1].write_bytes(short.movies[0].read_bytes())
    with pytest.warns(TomodaskWarning, match="fewer than one group"):
        motion = correct_motion(path)
    assert np.count_nonzero(motion["failed"].values != "") == 1


PROTECTED = """
import sys
from tomodask.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_movie_that_may_not_be_read(disk: Disk, undisturbed: Disk) -> None:
    """As a user who is not root."""
    command = [sys.executable, "-c", PROTECTED, "motion", str(disk.store), "--quiet"]
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root may read everything, and setpriv is not there to give that up")
        drop = "-dac_override,-dac_read_search"
        command = ["setpriv", f"--bounding-set={drop}", f"--inh-caps={drop}", *command]
    movie = disk.movies[BAD]
    movie.chmod(0)
    done = subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=120, check=False
    )
    if "--bounding-set" in " ".join(command) and "setpriv:" in done.stderr:
        pytest.skip(f"the right to read everything cannot be given up: {done.stderr.strip()}")
    movie.chmod(0o644)
    assert done.returncode == 1, done.stderr
    assert f"{movie}: cannot be read (Permission denied)" in done.stderr
    assert open_series(disk.store)["tilt_series"]["has_image"].values.sum() == VIEWS - 1
    assert disk.run() == 0
    assert_corrected(disk, undisturbed)


def test_movie_put_away_once_it_is_corrected(disk: Disk, undisturbed: Disk) -> None:
    """Its image is not lost for that, and what is complete stays so."""
    assert disk.run() == 0
    before = disk.shards()
    movies = disk.movies
    movies[BAD].unlink()
    assert disk.run() == 0
    for movie in movies[2:] + movies[:1]:
        movie.unlink()
    assert disk.run() == 0
    assert disk.shards() == before
    assert_corrected(disk, undisturbed)


def test_movie_replaced_and_put_back(disk: Disk, undisturbed: Disk) -> None:
    """Also where the file is the very one, time of change and all, that was corrected at first."""
    assert disk.run() == 0
    movie, other = disk.movies[BAD], disk.movies[BAD + 1]
    aside = movie.rename(disk.folder / "aside")
    shutil.copy(other, movie)
    assert disk.run() == 0
    series = open_series(disk.store)["tilt_series"]
    np.testing.assert_array_equal(series["images"][BAD], series["images"][BAD + 1])
    aside.rename(movie)
    assert disk.run() == 0
    assert_corrected(disk, undisturbed)


def test_decisions_are_not_taken_for_the_import(disk: Disk) -> None:
    """What was curated before a movie is mended can be taken back after it."""
    from tomodask.curation import curate

    movie = disk.movies[BAD]
    content = movie.read_bytes()
    movie.unlink()
    assert disk.run() == 1
    curate(disk.store, exclude=[0], automatic=False)
    restore(movie, content)
    assert disk.run() == 0
    curated = open_series(disk.store)["tilt_series"]["included"].values
    assert curated.tolist() == [False, True, True, True, True]
    curate(disk.store, reset=True, automatic=False)
    assert open_series(disk.store)["tilt_series"]["included"].values.all()


def test_included_view_loses_its_movie(disk: Disk) -> None:
    """No decision makes an image."""
    from tomodask.curation import curate

    assert disk.run() == 0
    curate(disk.store, include=[BAD], automatic=False)
    truncated(disk.movies[BAD])
    assert disk.run() == 1
    series = open_series(disk.store)["tilt_series"].to_dataset()
    assert not series["included"].values[BAD]
    assert disk.movies[BAD].name in str(series["reason"].values[BAD])


# All of them


@pytest.mark.parametrize("fault", [absent, truncated, garbled, not_a_movie])
def test_no_movie_can_be_used(
    fault: Callable[[Path], str],
    disk: Disk,
    undisturbed: Disk,
    capsys: pytest.CaptureFixture[str],
) -> None:
    contents = {movie: movie.read_bytes() for movie in disk.movies}
    for movie in contents:
        fault(movie)
    capsys.readouterr()
    assert disk.run() == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert f"none of the {VIEWS} movies can be" in message
    assert any(str(movie) in message for movie in contents)
    assert list(open_series(disk.store).children) == ["movies"]
    assert not list((disk.store).rglob("c/0/0/0"))
    for movie, content in contents.items():
        restore(movie, content)
    assert disk.run("--bin", "1.0") == 0
    assert_corrected(disk, undisturbed)


def test_gain_that_is_gone(
    disk: Disk, undisturbed: Disk, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is of all views: nothing is begun, and all is as before when it is back."""
    content, times = disk.gain.read_bytes(), disk.gain.stat()
    disk.gain.unlink()
    assert disk.run() == 1
    message = capsys.readouterr().err
    assert len(message.splitlines()) == 1
    assert f"{disk.gain}: cannot be read (No such file" in message
    assert list(open_series(disk.store).children) == ["movies"]
    assert not (disk.store / "tilt_series").exists()
    disk.gain.write_bytes(content)
    os.utime(disk.gain, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert disk.run() == 0
    disk.gain.unlink()
    before = disk.shards()
    assert disk.run() == 1
    assert disk.shards() == before
    assert_corrected(disk, undisturbed)


def test_gain_that_was_changed(
    disk: Disk, undisturbed: Disk, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other images: refused, and made when that is asked for."""
    import mrcfile

    assert disk.run() == 0
    before = disk.shards()
    with mrcfile.open(disk.gain, mode="r+") as mrc:
        mrc.data[:, : SHAPE[1] // 2] *= 1.5
    os.utime(disk.gain)
    assert disk.run() == 1
    assert "source.gain: ['TS_01_gain.mrc'" in capsys.readouterr().err
    assert disk.shards() == before
    assert disk.run("--overwrite") == 0
    now = open_series(disk.store)["tilt_series"]["images"].values
    old = open_series(undisturbed.store)["tilt_series"]["images"].values
    ratio = (now / old).mean(axis=(0, 1))
    np.testing.assert_allclose(ratio[:60], 1.5, rtol=0.02)
    np.testing.assert_allclose(ratio[84:], 1.0, rtol=0.02)


def test_gain_of_another_camera(disk: Disk, capsys: pytest.CaptureFixture[str]) -> None:
    """Put in the place of the right one after the import."""
    import mrcfile

    with mrcfile.new(disk.gain, overwrite=True) as mrc:
        mrc.set_data(np.ones((90, 100), np.float32))
    assert disk.run() == 1
    assert "does not fit the frames" in capsys.readouterr().err
    assert list(open_series(disk.store).children) == ["movies"]


# Runs that end in the middle


@pytest.mark.parametrize("fault", ["mark:3", "chunk:5", "begin", "mark:5", "finish"])
def test_killed(fault: str, disk: Disk, undisturbed: Disk, command: Command) -> None:
    """What was finished is kept to the byte, the result is that of one run."""
    killed = command("motion", disk.store, "--quiet", "--workers", "2", fault=fault)
    assert killed.returncode == KILLED, killed.stderr
    ledger = images_ledger(disk.store)
    finished = {key.split("/")[1] for key in ledger.done()}
    before = disk.shards()
    marked = marks(ledger)
    if fault != "finish":
        assert "tilt_series" not in open_series(disk.store).children
    if fault.startswith("mark"):
        assert len(finished) == int(fault[5:]) - 1
    assert disk.run() == 0
    after = disk.shards()
    kept = [name for name in before if name.split("/")[2] in finished]
    assert len(kept) == 3 * len(finished)
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert {key: marks(ledger)[key] for key in marked} == marked
    assert_corrected(disk, undisturbed)


def test_killed_while_one_view_is_mended(disk: Disk, undisturbed: Disk, command: Command) -> None:
    movie = disk.movies[BAD]
    content = movie.read_bytes()
    absent(movie)
    assert disk.run() == 1
    restore(movie, content)
    killed = command("motion", disk.store, "--quiet", fault="mark:1")
    assert killed.returncode == KILLED, killed.stderr
    assert disk.run() == 0
    assert_corrected(disk, undisturbed)


def test_killed_while_replaced(disk: Disk, undisturbed: Disk, command: Command) -> None:
    assert disk.run("--bin", "2") == 0
    killed = command("motion", disk.store, "--quiet", "--overwrite", fault="unlink:3")
    assert killed.returncode == KILLED, killed.stderr
    assert "tilt_series" not in open_series(disk.store).children
    assert disk.run("--overwrite") == 0
    assert_corrected(disk, undisturbed)


def test_file_that_may_not_grow(disk: Disk, undisturbed: Disk, command: Command) -> None:
    """EFBIG, as a quota gives: no movie is blamed for it."""
    stopped = command("motion", disk.store, "--quiet", fault="limit:30000")
    assert stopped.returncode == 3, stopped.stderr
    assert "tomodask: cannot write " in stopped.stderr
    assert "File too large; free space, or raise the quota" in stopped.stderr
    assert "tilt_series" not in open_series(disk.store).children
    assert not list(disk.store.rglob("*.partial"))
    assert disk.run() == 0
    assert_corrected(disk, undisturbed)


def test_full_disk(recorded: Path, undisturbed: Disk, tmp_path: Path) -> None:
    """Another program takes the space while we are at it."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    small = tmp_path / "small"
    small.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(small)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"cannot mount a small disk: {done.stderr.strip()}")
    try:
        disk = disk_of(recorded, tmp_path)
        disk = Disk(disk.folder, Path(shutil.move(disk.store, small / "m.zarr")))
        filler = small / "filler"
        room = 300_000

        def fill(event: object) -> None:
            del event
            if not filler.exists():
                stat = os.statvfs(small)
                filler.write_bytes(bytes(stat.f_bavail * stat.f_frsize - room))

        with pytest.raises(SpaceError, match="No space left on device; free space"):
            correct_motion(disk.store, progress=fill)
        assert "tilt_series" not in open_series(disk.store).children
        assert not list(disk.store.rglob("*.partial"))
        filler.unlink()
        correct_motion(disk.store)
        assert_corrected(disk, undisturbed)
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_disk_too_small(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused before anything is made."""
    usage = shutil.disk_usage(disk.store)._replace(free=100_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(SpaceError, match=r"the disk has 97\.7 KiB free"):
        correct_motion(disk.store)
    assert list(open_series(disk.store).children) == ["movies"]
    assert not (disk.store / "tilt_series").exists()


def test_two_runs_at_once(disk: Disk, undisturbed: Disk) -> None:
    """The second is refused, a new import too, and the first goes on."""
    refused: list[BaseException] = []

    def second(event: object) -> None:
        del event
        if refused:
            return
        for other in (
            lambda: correct_motion(disk.store, workers=1),
            lambda: imported_again(disk),
        ):
            with pytest.raises(LockedError, match="is being written by process") as caught:
                other()
            refused.append(caught.value)

    correct_motion(disk.store, progress=second)
    assert len(refused) == 2
    assert_corrected(disk, undisturbed)


def imported_again(disk: Disk) -> Path:
    return import_movies(disk.folder / "TS_01.mrc.mdoc", disk.store, overwrite=True)


def test_store_that_is_gone(disk: Disk, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(disk.store)
    assert disk.run() == 1
    assert "tomodask import" in capsys.readouterr().err
    assert not disk.store.exists()
    with pytest.raises(StoreError):
        open_series(disk.store)


def test_import_where_no_movie_can_be_read(recorded: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(recorded, tmp_path / "movies"))
    for movie in folder.glob("*.tif"):
        movie.write_bytes(b"")
    with pytest.raises(DataError, match=f"none of the {VIEWS} movies can be read; the first: "):
        import_movies(folder / "TS_01.mrc.mdoc", tmp_path / "m.zarr")
    assert not (tmp_path / "m.zarr").exists()

from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path

import pytest

from tomodask.engine.files import (
    check_space,
    explained,
    partial_path,
    remove_partials,
    write_whole,
)
from tomodask.errors import ClusterError, SpaceError, StoreError, TomodaskError


def test_a_file_is_whole_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file"
    with write_whole(path) as temporary:
        temporary.write_text("one")
        assert not path.exists()
    with pytest.raises(ZeroDivisionError), write_whole(path) as temporary:
        temporary.write_text(str(1 / 0) if temporary.write_text("tw") else "")
    assert path.read_text() == "one"
    assert list(path.parent.iterdir()) == [path]


def test_partials_are_swept(tmp_path: Path) -> None:
    for folder in ("a/b", "a", "c"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        partial_path(tmp_path / folder / "x").touch()
    keep = tmp_path / "a" / "kept"
    keep.touch()
    assert remove_partials(tmp_path) == 3
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [keep]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_no_space_says_so(number: int) -> None:
    with pytest.raises(SpaceError) as caught, explained(Path("/some/file")):
        raise OSError(number, os.strerror(number))
    assert caught.value.errno == number
    assert str(caught.value).startswith(f"cannot write /some/file: {os.strerror(number)}; free")
    assert "[Errno" not in str(caught.value)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG])
def test_any_fault_of_the_disk_names_the_file(number: int) -> None:
    with (
        pytest.raises(StoreError, match=r"^cannot write /some/file: .*; check"),
        explained(Path("/some/file")),
    ):
        raise OSError(number, os.strerror(number))


def test_errors_of_our_own_pass() -> None:
    for error in (ClusterError("lost"), StoreError("gone"), TomodaskError("x")):
        with pytest.raises(type(error), match=str(error)), explained(Path("/some/file")):
            raise error


@pytest.mark.parametrize(
    "error", [SpaceError(28, "no room"), StoreError(5, "faulty"), StoreError("plain")]
)
def test_errors_travel_between_processes(error: OSError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.errno) == (type(error), str(error), error.errno)
    assert "[Errno" not in str(error)


def test_space_is_refused_with_both_numbers(tmp_path: Path) -> None:
    check_space(tmp_path, 1)
    with pytest.raises(SpaceError, match=r"needs 1\.0 EiB|needs 1048576\.0 TiB more") as caught:
        check_space(tmp_path, 2**60)
    assert "iB free; free space" in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_what_is_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that goes on needs only what is missing; one that replaces has what it replaces."""
    (tmp_path / "old").write_bytes(bytes(3000))
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    check_space(tmp_path, 4000)
    with pytest.raises(SpaceError, match="1001 B more, the disk has 1000 B free"):
        check_space(tmp_path, 4001)

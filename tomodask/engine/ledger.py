"""The record of a product: its plan, which tasks are finished, and who is at work on it.

A ledger is a folder inside the directory of an array, where no Zarr reader looks. It holds
``plan.json`` (what determines the values), one empty file per finished task in ``done/``, the
``lock`` of the process at work, and ``COMPLETE`` once nothing is missing. Everything is made by
exclusive creation or by renaming, which hold on NFS and Lustre too.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psutil

from tomodask.engine.files import explained, remove_partials, write_whole
from tomodask.errors import IncompleteError, LockedError, PlanMismatchError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

__all__ = ["Ledger", "plan_difference"]

#: Folder of the ledger inside the array's directory.
_FOLDER = ".ledger"
#: A lock of another host whose holder has not shown life for this long is taken over, seconds.
_STALE_AFTER = 300.0
_HEARTBEAT = 20.0
#: Longer values are tables, which tell a reader nothing, as two digests do.
_LONG = 160
_DIGEST = re.compile(r"'[0-9a-f]{16,}'")


def plan_difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return one line for each value in which two plans differ."""
    lines = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            lines += [f"{key}.{line}" for line in plan_difference(before, after)]
        elif before != after:
            texts = [repr(before), repr(after)]
            digests = all(_DIGEST.fullmatch(text) for text in texts)
            plain = not digests and all(len(text) <= _LONG for text in texts)
            lines.append(f"{key}: {texts[0]} before, {texts[1]} now" if plain else f"{key} differs")
    return lines


class Ledger:
    """The ledger of the array stored in the folder `array`.

    Parameters
    ----------
    array
        Folder of the array.
    product
        Folder of all that belongs to the product, the array among it; the array's by default.
    """

    def __init__(self, array: Path, product: Path | None = None) -> None:
        self.folder = Path(array) / _FOLDER
        self.product = Path(array if product is None else product)
        self._holding: _Lock | None = None

    @property
    def scratch(self) -> Path:
        """Folder for intermediate files; gone when the product is complete."""
        return self.folder / "scratch"

    @property
    def records(self) -> Path:
        """Folder for what tasks measured; it stays with the product."""
        return self.folder / "records"

    @property
    def complete(self) -> bool:
        """Whether every task of the plan is finished."""
        return (self.folder / "COMPLETE").exists()

    def plan(self) -> dict[str, Any] | None:
        """Return the recorded plan, or None before :meth:`begin`.

        Raises
        ------
        StoreError
            If its file is damaged.
        """
        path = self.folder / "plan.json"
        try:
            plan: dict[str, Any] = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise StoreError(
                f"{path} is damaged: {error}; remove the product that it belongs to, and make "
                "it again"
            ) from error
        return plan

    def clear(self) -> None:
        """Remove the product, but the lock that this run holds.

        Raises
        ------
        LockedError
            If another run is at work on something in it.
        """
        lock = self.folder / "lock"
        for other in self.product.rglob(f"{_FOLDER}/lock"):
            if other != lock:
                _Lock(other).release()
        with explained(self.product):
            # First what says that there is a product: one half removed must not look whole.
            for name in ("COMPLETE", "plan.json"):
                (self.folder / name).unlink(missing_ok=True)
            for folder, folders, files in os.walk(self.product, topdown=False):
                for name in files:
                    path = Path(folder, name)
                    if path != lock:
                        path.unlink(missing_ok=True)
                for name in folders:
                    path = Path(folder, name)
                    if lock.is_relative_to(path):
                        continue
                    if path.is_symlink():
                        path.unlink()
                    else:
                        path.rmdir()

    def matches(self, plan: Mapping[str, Any]) -> bool:
        """Whether the recorded plan is this one."""
        return bool(self.plan() == json.loads(json.dumps(plan)))

    def begin(self, plan: Mapping[str, Any]) -> None:
        """Record a plan, or check that the recorded one is the same.

        Raises
        ------
        PlanMismatchError
            If the product was begun with another plan; the message lists the difference.
        """
        with explained(self.folder):
            (self.folder / "done").mkdir(parents=True, exist_ok=True)
        plan = json.loads(json.dumps(plan))
        recorded = self.plan()
        if recorded is None:
            with write_whole(self.folder / "plan.json") as path:
                path.write_text(json.dumps(plan, indent=1, sort_keys=True))
        elif recorded != plan:
            difference = "\n  ".join(plan_difference(recorded, plan))
            raise PlanMismatchError(
                f"{self.folder.parent} was made with other inputs or parameters:\n  {difference}\n"
                "give the product another name, or redo it (--overwrite, overwrite=True)"
            )
        if self.complete:
            shutil.rmtree(self.scratch, ignore_errors=True)
        else:
            remove_partials(self.product)

    def done(self) -> set[str]:
        """Return the keys of the finished tasks."""
        try:
            return {name.replace("%2F", "/") for name in os.listdir(self.folder / "done")}
        except FileNotFoundError:
            return set()

    def _mark(self, key: str) -> Path:
        return self.folder / "done" / key.replace("/", "%2F")

    def mark(self, key: str) -> None:
        """Record a task as finished; call it after its last write."""
        path = self._mark(key)
        with explained(path), path.open("x" if not path.exists() else "r"):
            pass

    def reopen(self, keys: Iterable[str]) -> None:
        """Declare tasks unfinished, and with them the product, so that they run again.

        Parameters
        ----------
        keys
            Of tasks whose result is not to be kept.
        """
        with explained(self.folder):
            (self.folder / "COMPLETE").unlink(missing_ok=True)
            for key in keys:
                self._mark(key).unlink(missing_ok=True)

    def require(self, keys: Iterable[str]) -> None:
        """Raise unless all tasks are finished.

        Raises
        ------
        IncompleteError
            Naming how many are missing and the first of them.
        """
        missing = sorted(set(keys) - self.done())
        if missing:
            raise IncompleteError(
                f"{self.folder.parent}: {len(missing)} parts are missing ({', '.join(missing[:4])}"
                f"{', ...' if len(missing) > 4 else ''}); run the same command again to finish it"
            )

    def finish(self, keys: Iterable[str]) -> None:
        """Declare the product complete; remove the scratch, and what killed workers left."""
        self.require(keys)
        remove_partials(self.product)
        with write_whole(self.folder / "COMPLETE") as path:
            path.touch()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def __enter__(self) -> Self:
        """Take the lock.

        Raises
        ------
        LockedError
            If another run holds it.
        StoreError
            If the product's folder holds something else, which must not be overwritten.
        """
        with explained(self.folder):
            if not self.folder.exists() and self.product.is_dir():
                strange = next(self.product.iterdir(), None)
                if strange is not None:
                    raise StoreError(
                        f"{self.product} holds files that are not part of a product of tomodask "
                        f"({strange.name}); give another place, or remove them"
                    )
            self.folder.mkdir(parents=True, exist_ok=True)
        self._holding = _Lock(self.folder / "lock")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Release the lock."""
        if self._holding is not None:
            self._holding.release()
            self._holding = None
        if kind is not None:
            self._remove_empty()

    def _remove_empty(self) -> None:
        """Remove the folders of a product that was refused before anything was made."""
        for folder in (self.folder, *self.folder.parents):
            if not folder.is_relative_to(self.product):
                return
            try:
                folder.rmdir()
            except OSError:
                return


class _Lock:
    """A lock file that names its holder and shows by its age whether the holder lives."""

    def __init__(self, path: Path) -> None:
        self.path = path
        me = psutil.Process()
        self.text = json.dumps(
            {"host": socket.gethostname(), "pid": me.pid, "started": round(me.create_time(), 2)}
        )
        with explained(path):
            for _ in range(3):
                if self._create():
                    break
                self._remove_if_stale()
            else:
                raise LockedError(self._refusal())
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="tomodask-lock")
        self._thread.start()

    def _create(self) -> bool:
        try:
            stream = self.path.open("x")
        except FileExistsError:
            return False
        try:
            with stream:
                stream.write(self.text)
        except OSError:
            self.path.unlink()
            raise
        return True

    def _remove_if_stale(self) -> None:
        try:
            text = self.path.read_text()
            age = time.time() - self.path.stat().st_mtime
        except FileNotFoundError:
            return
        holder = _parsed(text)
        if holder.get("host") == socket.gethostname():
            stale = not _alive(int(holder["pid"]), float(holder["started"]))
        else:
            stale = age > _STALE_AFTER
        if not stale:
            raise LockedError(self._refusal())
        # Of several that found it stale just one may remove it, and only what it looked at.
        guard = self.path.with_name("lock.takeover")
        try:
            guard.open("x").close()
        except FileExistsError:
            with suppress(FileNotFoundError):
                if time.time() - guard.stat().st_mtime > _STALE_AFTER:
                    guard.unlink()
            return
        with suppress(FileNotFoundError):
            if self.path.read_text() == text:
                self.path.unlink()
        guard.unlink(missing_ok=True)

    def _holder(self) -> dict[str, Any]:
        try:
            return _parsed(self.path.read_text())
        except OSError:
            return {}

    def _refusal(self) -> str:
        holder = self._holder()
        return (
            f"{self.path.parent.parent} is being written by process {holder.get('pid', '?')} on "
            f"{holder.get('host', '?')}; wait for it to end, or give the product another name. If "
            f"that process is dead, remove {self.path}"
        )

    def _beat(self) -> None:
        while not self._stop.wait(_HEARTBEAT):
            try:
                os.utime(self.path)
            except FileNotFoundError:
                return
            except OSError:
                continue  # a passing fault: the next beat is soon

    def release(self) -> None:
        self._stop.set()
        if self._holder() == json.loads(self.text):
            self.path.unlink(missing_ok=True)


def _parsed(text: str) -> dict[str, Any]:
    """Return what a lock says; nothing where its holder has not written its name yet."""
    try:
        holder: dict[str, Any] = json.loads(text)
    except ValueError:
        return {}
    return holder


def _alive(pid: int, started: float) -> bool:
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return bool(abs(process.create_time() - started) < 1.0)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True

"""Finding movies by the names that were recorded of them on another computer."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path, PureWindowsPath

from tomodask.errors import DataError, StoreError

__all__ = ["MOVIE_SUFFIXES", "MovieFolder", "recorded_name"]

#: Extensions of movies; one may have been converted into another after the mdoc was written.
MOVIE_SUFFIXES = (".tif", ".tiff", ".mrc", ".mrcs", ".eer")


def recorded_name(path: str) -> str:
    r"""Return a file's name from a path: ``X:\a\b.tif``, ``\\server\a b.tif``, ``a/b.tif``."""
    return PureWindowsPath(path.strip().strip('"')).name


class MovieFolder:
    """The files below a folder, by name.

    Parameters
    ----------
    folder : Path
        Where movies are looked for: in it and, where it does not have them, in the folders below,
        links to folders excepted.

    Raises
    ------
    StoreError
        It is no folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser().absolute()
        if not self.folder.is_dir():
            raise StoreError(f"{self.folder}: is not a folder; give the one with the movies")
        self._index: dict[str, list[Path]] | None = None

    def find(self, name: str) -> Path | None:
        """Return the movie of a name.

        Parameters
        ----------
        name : str
            File name; matched exactly, else whatever its case, else with another of the
            extensions of movies.

        Returns
        -------
        Path or None
            Absolute; None where there is none.

        Raises
        ------
        DataError
            Several files fit equally well.
        """
        if (self.folder / name).is_file():
            return self.folder / name
        if self._index is None:
            self._index = self._walk()
        same = self._index.get(name.casefold(), [])
        stem = Path(name).stem if Path(name).suffix.lower() in MOVIE_SUFFIXES else name
        other = [
            path
            for suffix in MOVIE_SUFFIXES
            for path in self._index.get((stem + suffix).casefold(), [])
        ]
        for fitting in ([path for path in same if path.name == name], same, other):
            if len(fitting) > 1:
                raise DataError(
                    f"movie {name}: {fitting[0]} and {fitting[1]} both fit; give the folder of "
                    "this tilt series, or remove one"
                )
            if fitting:
                return fitting[0]
        return None

    def _walk(self) -> dict[str, list[Path]]:
        index = defaultdict(list)
        for folder, folders, names in os.walk(self.folder):
            folders.sort()
            for name in sorted(names):
                index[name.casefold()].append(Path(folder, name))
        return dict(index)

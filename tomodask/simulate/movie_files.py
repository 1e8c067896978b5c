"""Movies as files: what a camera and its software leave on the disk of a microscope.

Frames are y up. In a TIFF and in an EER the first row is the top of the image, in an MRC file it is
the bottom. Defect lists count rows from the top whatever the movies are.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import mrcfile
import numpy as np
import tifffile

from tomodask.errors import ParameterError
from tomodask.simulate.eer_encoder import EER_BITS, scatter, write_eer
from tomodask.simulate.mdoc_writer import MdocView, frame_set_mdoc, tilt_series_mdoc

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike

    from numpy.typing import NDArray

    from tomodask.simulate.detector import Detector
    from tomodask.simulate.eer_encoder import EerCompression, Electrons
    from tomodask.simulate.mdoc_writer import Software
    from tomodask.simulate.movie_series import MovieSeries
    from tomodask.simulate.movies import SimulatedMovie

__all__ = ["MovieFiles", "oriented", "write_gain", "write_movie", "write_movie_series"]

MovieFormat = Literal["tiff", "eer", "mrc"]
_FORMATS = ("tiff", "eer", "mrc")
_START = datetime(2026, 11, 20, 12, 34, 56)
_BETWEEN = timedelta(seconds=37)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DEFECTS_PER_LINE = 12


@dataclass(frozen=True, slots=True)
class MovieFiles:
    """The files of a tilt series.

    Parameters
    ----------
    movies
        In the order of acquisition.
    mdocs
        One of the series, or one per movie.
    gain
        The gain reference.
    defects
        SerialEM's list of defects.
    """

    movies: tuple[Path, ...]
    mdocs: tuple[Path, ...]
    gain: Path
    defects: Path


def write_movie_series(
    folder: str | PathLike[str],
    series: MovieSeries,
    *,
    name: str = "TS_01",
    movie_format: MovieFormat = "tiff",
    software: Software = "SerialEM",
    mdocs: Literal["series", "movies"] = "series",
    sections: Literal["time", "angle"] = "time",
    compression: str = "lzw",
    eer_compression: EerCompression = 65001,
    raw_frames: int = 20,
    gain_orientation: int = 0,
    gain_reciprocal: bool = False,
) -> MovieFiles:
    """Write a tilt series of movies with all that belongs to it, one movie in memory at a time.

    Parameters
    ----------
    folder
        Is made if it does not exist.
    series
        What is written; its counting noise must not be left out.
    name
        Of the series.
    movie_format
        Of the movies.
    software
        Whose names and mdoc.
    mdocs
        One for the series, or one beside each movie (SerialEM's frame sets).
    sections
        Order of the sections of the series' mdoc.
    compression
        Of TIFF: ``"lzw"``, ``"zlib"``, ``"zstd"`` or ``"none"``.
    eer_compression
        TIFF code of an EER.
    raw_frames
        Of an EER per frame of the movie. A pixel counts at most so many electrons in a frame; what
        is more, in hot pixels, is lost.
    gain_orientation
        0 to 7, see `oriented`: how the gain reference is turned against the movies.
    gain_reciprocal
        Whether counts are to be divided by it.

    Raises
    ------
    ParameterError
        If an option is unknown or does not fit another.
    """
    if mdocs == "movies" and software != "SerialEM":
        raise ParameterError(f"{software} writes no mdoc per movie; choose mdocs='series'")
    if not series.imaging.counting_noise:
        raise ParameterError("movies hold counts; simulate the series with counting_noise=True")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    movies, views = [], []
    for index, movie in enumerate(series):
        time = _START + index * _BETWEEN
        angle = float(series.tilt_angle[index])
        path = folder / _movie_name(name, index, angle, time, movie_format, software)
        write_movie(
            path,
            movie,
            compression=compression,
            eer_compression=eer_compression,
            raw_frames=raw_frames,
            seed=index,
        )
        movies.append(path)
        ctf = series.imaging.ctf[int(series.view[index])] if series.imaging.ctf else None
        total = movie.frames.sum(axis=0, dtype=np.float64)
        views.append(
            MdocView(
                tilt_angle=angle,
                exposure=float(series.exposure[index]),
                prior_dose=float(series.dose[index]),
                frames=series.frames * (raw_frames if movie_format == "eer" else 1),
                defocus=0.0 if ctf is None else (ctf.defocus_u + ctf.defocus_v) / 2,
                time=time,
                movie=path.name,
                counts=(float(total.min()), float(total.max()), float(total.mean())),
            )
        )
    gain = folder / (f"{name}.gain" if movie_format == "eer" else f"{name}_gain.mrc")
    write_gain(gain, series.detector, orientation=gain_orientation, reciprocal=gain_reciprocal)
    defects = folder / f"{name}_defects.txt"
    defects.write_text(_defects(series.detector))
    return MovieFiles(
        tuple(movies),
        _write_mdocs(folder, series, views, name, software, mdocs, sections),
        gain,
        defects,
    )


def write_movie(
    path: Path,
    movie: SimulatedMovie,
    *,
    compression: str = "lzw",
    eer_compression: EerCompression = 65001,
    raw_frames: int = 20,
    seed: int = 0,
) -> None:
    """Write one movie; its format is that of the name: .tif, .tiff, .eer, .mrc or .mrcs.

    Parameters
    ----------
    path
        The file.
    movie
        Of counts.
    compression
        Of a TIFF, as in `write_movie_series`.
    eer_compression, raw_frames
        Of an EER, as in `write_movie_series`.
    seed
        Of the electrons' places and times within a pixel and a frame.
    """
    if path.suffix in {".tif", ".tiff"}:
        _write_tiff(path, movie.frames[:, ::-1], compression)
    elif path.suffix == ".eer":
        _write_eer(path, movie, eer_compression, raw_frames, seed)
    elif path.suffix in {".mrc", ".mrcs"}:
        # Mode 0 is of signed bytes in the standard; counts that need the eighth bit go to mode 1.
        fits = movie.frames.max(initial=0) < 128
        with mrcfile.new(path, overwrite=True) as mrc:
            mrc.set_data(movie.frames.astype(np.int8 if fits else np.int16))
            mrc.set_image_stack()
            mrc.voxel_size = movie.pixel_size
    else:
        raise ParameterError(f"{path}: unknown suffix; give .tif, .tiff, .eer, .mrc or .mrcs")


def write_gain(
    path: Path, detector: Detector, *, orientation: int = 0, reciprocal: bool = False
) -> None:
    """Write a gain reference; its format is that of the name.

    Parameters
    ----------
    path
        ``.mrc``, or ``.tif`` and ``.gain`` (Falcon's), which are both TIFFs.
    detector
        The camera.
    orientation
        0 to 7, see `oriented`.
    reciprocal
        Whether counts are to be divided by it, as by a flat exposure, not multiplied. Dead pixels
        are 0 either way.
    """
    image = detector.gain
    if reciprocal:
        image = np.divide(1, image, out=np.zeros_like(image), where=~detector.dead)
    image = np.ascontiguousarray(oriented(image, orientation))
    if path.suffix == ".mrc":
        with mrcfile.new(path, overwrite=True) as mrc:
            mrc.set_data(image)
    else:
        tifffile.imwrite(path, image[::-1], photometric="minisblack", metadata=None)


def oriented(image: NDArray[np.float32], orientation: int) -> NDArray[np.float32]:
    """Return a y-up image in one of eight orientations.

    Parameters
    ----------
    image
        (y, x), row 0 the bottom.
    orientation
        SerialEM's RotationAndFlip: the quarter turns counter-clockwise, 0 to 3, plus 4 where the
        image is mirrored left to right before.
    """
    if not 0 <= orientation < 8:
        raise ParameterError(f"orientation is {orientation}; give 0 to 7")
    mirrored = image[:, ::-1] if orientation >= 4 else image
    # Row 0 is the bottom, where numpy takes it for the top and turns the other way.
    return np.rot90(mirrored, -(orientation % 4))


def _write_tiff(path: Path, frames: NDArray[np.uint8], compression: str) -> None:
    codec = None if compression == "none" else compression
    with tifffile.TiffWriter(path) as tif:
        for frame in frames:
            tif.write(
                frame,
                photometric="minisblack",
                compression=codec,
                rowsperstrip=max(1, 65536 // frame.shape[1]),
                metadata=None,
                contiguous=False,
            )


def _write_eer(
    path: Path, movie: SimulatedMovie, compression: EerCompression, raw_frames: int, seed: int
) -> None:
    count, rows, columns = movie.frames.shape
    bits = EER_BITS[compression]

    def electrons() -> Iterator[Electrons]:
        for number, frame in enumerate(movie.frames):
            counts = np.minimum(frame[::-1], raw_frames)
            yield from scatter(counts, raw_frames, bits, np.random.default_rng([seed, number]))

    metres = movie.pixel_size * 1e-10
    write_eer(
        path,
        electrons(),
        (rows, columns),
        compression=compression,
        metadata={
            "acquisitionID": (path.stem, ""),
            "cameraName": ("EF-Falcon", ""),
            "commercialName": ("Falcon 4i (simulated)", ""),
            "exposureTime": (count * raw_frames * 0.004, "s"),
            "numberOfFrames": (count * raw_frames, ""),
            "sensorImageHeight": (rows, "pixel"),
            "sensorImageWidth": (columns, "pixel"),
            "sensorPixelSize.height": (metres, "m"),
            "sensorPixelSize.width": (metres, "m"),
            "totalDose": (float(movie.frames.mean() * count), "e/pixel"),
        },
    )


def _movie_name(
    name: str,
    index: int,
    angle: float,
    time: datetime,
    movie_format: MovieFormat,
    software: Software,
) -> str:
    if movie_format not in _FORMATS:
        raise ParameterError(
            f"movie_format {movie_format!r} is unknown; give one of {', '.join(_FORMATS)}"
        )
    if software == "Tomography 5":
        ending = {"tiff": "fractions.tiff", "eer": "EER.eer", "mrc": "fractions.mrc"}[movie_format]
        return f"{name}_{index + 1:03d}_{angle:.2f}_{time:%Y%m%d_%H%M%S}_{ending}"
    ending = {"tiff": "tif", "eer": "eer", "mrc": "mrc"}[movie_format]
    day = f"{_MONTHS[time.month - 1]}{time.day:02d}"
    return f"{name}_{index + 1:03d}_{angle:.1f}_{day}_{time:%H.%M.%S}.{ending}"


def _write_mdocs(
    folder: Path,
    series: MovieSeries,
    views: list[MdocView],
    name: str,
    software: Software,
    mdocs: str,
    sections: str,
) -> tuple[Path, ...]:
    axis = float(np.median(series.projection.tilt_axis_angle))
    voltage = series.imaging.ctf[0].voltage if series.imaging.ctf else 300.0
    if mdocs == "movies":
        paths = []
        for view in views:
            path = folder / f"{view.movie}.mdoc"
            text = frame_set_mdoc(
                view, pixel_size=series.pixel_size, tilt_axis_angle=axis, voltage=voltage
            )
            path.write_text(text)
            paths.append(path)
        return tuple(paths)
    if sections == "angle":
        views = sorted(views, key=lambda view: view.tilt_angle)
    path = folder / (f"{name}.mrc.mdoc" if software == "SerialEM" else f"{name}.mdoc")
    text = tilt_series_mdoc(
        views,
        software=software,
        image_file=f"{name}.mrc",
        shape=series.shape,
        pixel_size=series.pixel_size,
        tilt_axis_angle=axis,
        voltage=voltage,
    )
    path.write_text(text)
    return (path,)


def _defects(detector: Detector) -> str:
    """Return SerialEM's defect list: columns, then pixels as x y, rows counted from the top."""
    columns = np.flatnonzero(detector.dead.all(axis=0))
    single = detector.dead | detector.hot
    single[:, columns] = False
    pixels = np.argwhere(single[::-1])[:, ::-1]
    rows, width = detector.dead.shape
    lines = [
        f"CameraSizeX {width}",
        f"CameraSizeY {rows}",
        "RotationAndFlip 0",
        "WasScaled 0",
        "K2Type 0",
        *_listed("BadColumns", columns),
        *_listed("BadPixels", pixels.ravel()),
    ]
    return "\n".join([*lines, ""])


def _listed(key: str, numbers: NDArray[np.int64]) -> list[str]:
    return [
        " ".join([key, *map(str, numbers[start : start + _DEFECTS_PER_LINE])])
        for start in range(0, len(numbers), _DEFECTS_PER_LINE)
    ]

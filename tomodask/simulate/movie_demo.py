"""A small tilt series of movies, for demonstrations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomodask.simulate.imaging import Imaging
from tomodask.simulate.movie_files import write_movie_series
from tomodask.simulate.movie_series import simulate_movie_series
from tomodask.simulate.specimens import beads_and_vesicles, random_misalignment
from tomodask.simulate.transfer import ContrastTransfer

if TYPE_CHECKING:
    from os import PathLike
    from typing import Any

    from tomodask.simulate.movie_files import MovieFiles
    from tomodask.simulate.movie_series import MovieSeries

__all__ = ["cryo_imaging", "demo_movie_series", "demo_movies"]

# Amorphous ice: molecules per A^3, their scattering of 300 kV electrons forwards (one oxygen, two
# hydrogens), and the structure factor below the first peak of the diffuse ring, which a liquid's
# stiffness keeps small.
_DENSITY, _SCATTERING, _STRUCTURE = 0.0314, 3.04, 0.1
_ICE_GRAIN = 1.2


def cryo_imaging(
    pixel_size: float,
    defocus: float,
    *,
    views: int = 1,
    exposure: float = 3.0,
    ice_thickness: float = 1500.0,
    amplitude_contrast: float = 0.1,
) -> Imaging:
    """Return how a vitrified specimen is imaged at 300 kV, with Thon rings as strong as real ones.

    The contrast of the ice has the power ``4 n t (lambda f)^2 S`` per area, with n molecules per
    volume, thickness t, wavelength lambda, forward scattering f and structure factor S: at 3 e/A^2
    a few percent of the shot noise (compare McMullan et al. 2015,
    https://doi.org/10.1016/j.ultramic.2015.05.017).

    Parameters
    ----------
    pixel_size
        A.
    defocus
        A, underfocus positive, the same for all views.
    views
        How many.
    exposure
        Of a view, e/A^2.
    ice_thickness
        A.
    amplitude_contrast
        Fraction; gold is as dark as it should be with 0.3.
    """
    ctf = ContrastTransfer(
        defocus + 250, defocus - 250, 30.0, amplitude_contrast=amplitude_contrast
    )
    power = 4 * _DENSITY * ice_thickness * (ctf.wavelength * _SCATTERING) ** 2 * _STRUCTURE
    # The variance is the power over the frequencies that the pixels hold, through the grain.
    frequency = np.fft.fftfreq(512, pixel_size)
    smooth = np.exp(-((2 * np.pi * _ICE_GRAIN * frequency) ** 2)).mean() / pixel_size
    return Imaging(
        exposure=exposure,
        ice_thickness=ice_thickness,
        ice_noise=float(np.sqrt(power) * smooth),
        ice_grain=_ICE_GRAIN,
        ctf=(ctf,) * views,
    )


def demo_movie_series(
    *,
    shape: tuple[int, int] = (512, 512),
    pixel_size: float = 3.0,
    views: int = 15,
    frames: int = 6,
    seed: int = 0,
) -> MovieSeries:
    """Return a tilt series of movies of beads, vesicles and particles, with what goes wrong.

    Drift and local motion, a camera with gain and defects, X-rays, one view behind a grid bar and
    one that drifted and was taken again.

    Parameters
    ----------
    shape
        (y, x) pixels.
    pixel_size
        A.
    views
        From -42 to +42 degrees; at least 4.
    frames
        Per movie.
    seed
        Equal seeds give equal series.
    """
    angles = np.linspace(-42, 42, views)
    width = 0.9 * min(shape) * pixel_size
    return simulate_movie_series(
        beads_and_vesicles(seed, (width, width, 1000.0), beads=12, vesicles=2, particles=10),
        random_misalignment(angles, seed=seed, shift_sd=30.0),
        shape,
        pixel_size=pixel_size,
        frames=frames,
        imaging=cryo_imaging(pixel_size, 30000.0, views=views, amplitude_contrast=0.3),
        tilt_angle=angles,
        drift_length=30.0,
        local_motion=6.0,
        faults={0: "dark", 3: "drifted"},
        reacquired=(3,),
        seed=seed,
    )


def demo_movies(folder: str | PathLike[str], **options: Any) -> tuple[MovieSeries, MovieFiles]:
    """Write a small tilt series as movies with mdoc, gain reference and defects.

    Parameters
    ----------
    folder
        Is made if it does not exist.
    **options
        Of `write_movie_series`.

    Returns
    -------
    The series, which holds the truth, and its files.
    """
    series = demo_movie_series()
    return series, write_movie_series(folder, series, **options)

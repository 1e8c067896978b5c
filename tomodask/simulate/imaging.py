"""What the microscope and the camera make of a specimen's exact projections.

The model is linear: a view's expected counts are ``N (1 + c)``, with c the projected density of
the specimen and of the ice, seen through the contrast transfer function, and N the electrons that
reach a pixel through the ice. Each effect can be left out, and each draws from its own random
stream of (seed, effect, view), so that leaving one out does not reshuffle the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import constants, fft, ndimage

from tomodask.errors import ParameterError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from tomodask.geometry import Projection
    from tomodask.simulate.objects import Phantom

    FloatArray = NDArray[np.float64]

__all__ = [
    "ContrastTransfer",
    "Imaging",
    "SimulatedTiltSeries",
    "dose_symmetric_order",
    "relative_path",
    "simulate_tilt_series",
]

_ANGSTROM = 1e-10  # m
# A grid bar before the beam still lets stray electrons through.
_DARK_TRANSMISSION = 0.02
# A hot pixel reads this many times the view's mean.
_HOT_PIXEL_RANGE = (20.0, 100.0)
# First words of the seeds of the random streams.
_ICE, _COUNTS, _HOT_PIXELS = range(3)


@dataclass(frozen=True, slots=True)
class ContrastTransfer:
    """The contrast transfer of one view.

    The sign is such that dense matter, negative in a projection, stays dark at low frequency
    under positive defocus: the transfer is ``sin(chi + phase_shift + arcsin(amplitude_contrast))``
    with ``chi = pi lambda k^2 (defocus(theta) - Cs lambda^2 k^2 / 2)``, as in Rohou & Grigorieff
    (2015), https://doi.org/10.1016/j.jsb.2015.08.008.

    Parameters
    ----------
    defocus_u, defocus_v
        Defocus along the two principal directions at the specimen's origin, A; underfocus positive.
    astigmatism_angle
        Direction of U, counter-clockwise from +x of the y-up raw image, degrees.
    phase_shift
        Of a phase plate, degrees.
    voltage
        kV.
    spherical_aberration
        Cs, mm.
    amplitude_contrast
        Fraction, 0 to 1, of the whole specimen. Gold scatters beyond the aperture and shows more
        than protein does: where beads matter, 0.3 gives them about the contrast they have.
    """

    defocus_u: float
    defocus_v: float
    astigmatism_angle: float = 0.0
    phase_shift: float = 0.0
    voltage: float = 300.0
    spherical_aberration: float = 2.7
    amplitude_contrast: float = 0.07

    @property
    def wavelength(self) -> float:
        """Relativistic wavelength of the electrons, A."""
        energy = self.voltage * 1e3 * constants.e
        rest = constants.m_e * constants.c**2
        metres = constants.h * constants.c / np.sqrt(energy * (energy + 2 * rest))
        return float(metres) / _ANGSTROM

    def transfer(self, frequency_x: ArrayLike, frequency_y: ArrayLike) -> FloatArray:
        """Return the transfer at spatial frequencies (x, y) of the raw image, 1/A.

        The two are broadcast together; the result is float64, between -1 and 1.
        """
        x, y = np.asarray(frequency_x, np.float64), np.asarray(frequency_y, np.float64)
        squared = x**2 + y**2
        direction = np.arctan2(y, x) - np.deg2rad(self.astigmatism_angle)
        defocus = (self.defocus_u + self.defocus_v) / 2 + (
            self.defocus_u - self.defocus_v
        ) / 2 * np.cos(2 * direction)
        aberration = self._aberration * self.wavelength**2 * squared / 2
        chi = np.pi * self.wavelength * squared * (defocus - aberration)
        constant = np.deg2rad(self.phase_shift) + np.arcsin(self.amplitude_contrast)
        transfer: FloatArray = np.sin(chi + constant)
        return transfer

    def reach(self, pixel_size: float) -> float:
        """Return how far, in A, the signal of a point spreads in an image of `pixel_size` A.

        It is the shift of the highest frequency, plus four widths of the Fresnel zone, which is
        the wider of the two in coarse pixels.
        """
        lateral = self.wavelength / (2 * pixel_size)
        defocus = max(abs(self.defocus_u), abs(self.defocus_v))
        fresnel = float(np.sqrt(self.wavelength * defocus))
        return defocus * lateral + self._aberration * lateral**3 + 4 * fresnel

    @property
    def _aberration(self) -> float:
        return self.spherical_aberration * 1e-3 / _ANGSTROM


@dataclass(frozen=True, slots=True)
class Imaging:
    """How a tilt series is recorded.

    Parameters
    ----------
    exposure
        Electrons of one view on the specimen, e/A^2.
    counting_noise
        Whether the counts are Poisson-distributed or are their expectation.
    ice_thickness
        A; 0 leaves the attenuation out.
    mean_free_path
        Of inelastic scattering in ice, A: the intensity falls as exp(-path / mean_free_path).
        The default is for 300 kV (Rice et al. 2018, https://doi.org/10.1016/j.jsb.2018.06.007).
    ice_noise
        Standard deviation of the projected ice density in an untilted view, relative to the mean
        intensity; it grows with the square root of the path. Each view draws its own field:
        real ice is one structure seen from all sides.
    ice_grain
        Standard deviation of the Gaussian that smooths the ice, A.
    ctf
        One transfer per view; empty leaves it out. It is that of the specimen's origin: the
        dependence on height is not simulated.
    hot_pixels
        Number of pixels per view, at random places, that read 20 to 100 times the view's mean.
    dark_views
        Indices of the views whose beam is blocked, down to 2 % of the intensity.
    """

    exposure: float = 3.0
    counting_noise: bool = True
    ice_thickness: float = 0.0
    mean_free_path: float = 3950.0
    ice_noise: float = 0.0
    ice_grain: float = 10.0
    ctf: tuple[ContrastTransfer, ...] = ()
    hot_pixels: int = 0
    dark_views: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("exposure", "mean_free_path", "ice_grain"):
            if not getattr(self, name) > 0:
                raise ParameterError(f"{name} is {getattr(self, name)}; give a positive number")
        for name in ("ice_thickness", "ice_noise", "hot_pixels"):
            if not getattr(self, name) >= 0:
                raise ParameterError(f"{name} is {getattr(self, name)}; give zero or more")


@dataclass(frozen=True, eq=False, slots=True)
class SimulatedTiltSeries:
    """A tilt series and the truth about it.

    Parameters
    ----------
    images
        (tilt, y, x) float32, counts: electrons per pixel; y up.
    pixel_size
        A.
    tilt_angle
        (tilt,) as recorded, degrees.
    exposure
        (tilt,) e/A^2 of each view.
    dose
        (tilt,) e/A^2 accumulated before each view.
    order
        (tilt,) int64: when each view was acquired, from 0.
    hot_pixels
        (pixel, 3) int64 (tilt, y, x) indices.
    dark_views
        (tilt,) bool.
    projection
        The true geometry.
    phantom
        The true specimen.
    """

    images: NDArray[np.float32]
    pixel_size: float
    tilt_angle: FloatArray
    exposure: FloatArray
    dose: FloatArray
    order: NDArray[np.int64]
    hot_pixels: NDArray[np.int64]
    dark_views: NDArray[np.bool_]
    projection: Projection
    phantom: Phantom

    @property
    def bead_centres(self) -> FloatArray:
        """(bead, 3) true specimen (x, y, z) of the beads, A."""
        return self.phantom.bead_centres

    @property
    def bead_positions(self) -> FloatArray:
        """(tilt, bead, 2) true raw (x, y) of the beads from the image centre, A."""
        return self.projection.project(self.bead_centres)


def dose_symmetric_order(tilt_angle: ArrayLike) -> NDArray[np.int64]:
    """Return when each view is acquired in a dose-symmetric scheme, from 0.

    The scheme starts at the angle nearest to zero and goes outwards on both sides in turn:
    0, +3, -3, -6, +6, +9, ... (Hagen et al. 2017, https://doi.org/10.1016/j.jsb.2016.06.007).

    Parameters
    ----------
    tilt_angle
        (tilt,) degrees, in any order.

    Returns
    -------
    (tilt,) int64.
    """
    angles = np.asarray(tilt_angle, np.float64)
    outward = np.argsort(np.abs(angles), kind="stable")
    positive = angles > angles[outward[0]]
    ring = np.zeros(len(angles), np.int64)
    for side in (positive, ~positive):
        members = [view for view in outward[1:] if side[view]]
        ring[members] = np.arange(1, len(members) + 1)
    # A ring begins on the side where the last one ended, which halves the stage's long moves.
    late = positive == (ring % 2 == 0)
    order = np.empty(len(angles), np.int64)
    order[np.lexsort((late, ring))] = np.arange(len(angles))
    return order


def simulate_tilt_series(
    phantom: Phantom,
    projection: Projection,
    shape: tuple[int, int],
    *,
    pixel_size: float,
    imaging: Imaging | None = None,
    tilt_angle: ArrayLike | None = None,
    order: ArrayLike | None = None,
    supersample: int = 2,
    seed: int = 0,
) -> SimulatedTiltSeries:
    """Record a tilt series of a specimen.

    Parameters
    ----------
    phantom
        The specimen.
    projection
        The true geometry.
    shape
        (y, x) pixels of an image.
    pixel_size
        A; a pixel receives the electrons of its square on the specimen.
    imaging
        Exposure, ice, transfer and defects; the default is a plain count at 3 e/A^2.
    tilt_angle
        (tilt,) angles as recorded, degrees; the true ones when absent.
    order
        (tilt,) acquisition order, from 0; dose-symmetric when absent.
    supersample
        Sample points of a pixel along each axis.
    seed
        Equal seeds give equal images.

    Returns
    -------
    Images in counts, with the truth. Where the linear model would go below zero electrons, as
    through several beads on end, the expectation is zero.

    Raises
    ------
    ParameterError
        If a per-view value does not fit the number of views, or a dark view does not exist.
    """
    imaging = Imaging() if imaging is None else imaging
    views = len(projection)
    recorded = projection.tilt_angle if tilt_angle is None else tilt_angle
    recorded = _per_view("tilt_angle", np.array(recorded, np.float64), views)
    acquired = np.array(dose_symmetric_order(recorded) if order is None else order, np.int64)
    if not np.array_equal(np.sort(_per_view("order", acquired, views)), np.arange(views)):
        raise ParameterError(f"order must hold each of 0 to {views - 1} once")
    if imaging.ctf:
        _per_view("ctf", np.empty(len(imaging.ctf)), views)
    dark = np.zeros(views, bool)
    for view in imaging.dark_views:
        if not 0 <= view < views:
            raise ParameterError(f"dark view {view} is not one of the views 0 to {views - 1}")
        dark[view] = True

    path_length = relative_path(projection)
    images = np.empty((views, *shape), np.float32)
    hot_pixels = []
    for view in range(views):
        ctf = imaging.ctf[view] if imaging.ctf else None
        margin = 0 if ctf is None else int(np.ceil(ctf.reach(pixel_size) / pixel_size))
        # The margin holds what the transfer spreads into the image, and keeps its own wrap outside.
        field = (shape[0] + 2 * margin, shape[1] + 2 * margin)
        contrast = phantom.project(
            projection[[view]], field, pixel_size=pixel_size, supersample=supersample
        )[0].astype(np.float64)
        if imaging.ice_noise > 0:
            deviation = imaging.ice_noise * np.sqrt(path_length[view])
            grain = imaging.ice_grain / pixel_size
            contrast += _ice(np.random.default_rng([seed, _ICE, view]), field, grain, deviation)
        if ctf is not None:
            contrast = _transferred(contrast, ctf, pixel_size)
        contrast = contrast[margin : margin + shape[0], margin : margin + shape[1]]

        attenuation = imaging.ice_thickness * path_length[view] / imaging.mean_free_path
        electrons = imaging.exposure * pixel_size**2 * np.exp(-attenuation)
        if dark[view]:
            electrons *= _DARK_TRANSMISSION
        counts = electrons * np.maximum(1 + contrast, 0)
        if imaging.counting_noise:
            counts = np.random.default_rng([seed, _COUNTS, view]).poisson(counts)
        images[view] = counts
        rng = np.random.default_rng([seed, _HOT_PIXELS, view])
        places = _add_hot_pixels(rng, images[view], imaging.hot_pixels)
        hot_pixels.append(np.insert(places, 0, view, axis=1))
    return SimulatedTiltSeries(
        images=images,
        pixel_size=float(pixel_size),
        tilt_angle=recorded,
        exposure=np.full(views, imaging.exposure),
        dose=imaging.exposure * acquired.astype(np.float64),
        order=acquired,
        hot_pixels=np.concatenate(hot_pixels),
        dark_views=dark,
        projection=projection,
        phantom=phantom,
    )


def _per_view(name: str, values: NDArray[Any], views: int) -> NDArray[Any]:
    if values.shape != (views,):
        raise ParameterError(f"{name} has shape {values.shape}; {views} views need ({views},)")
    return values


def relative_path(projection: Projection) -> FloatArray:
    """Return the (tilt,) lengths of the beam's path through a slab, in thicknesses of it."""
    view = projection.view_matrix()
    beam = np.cross(view[:, 0], view[:, 1])
    path: FloatArray = np.linalg.norm(beam, axis=1) / np.abs(beam[:, 2])
    return path


def _ice(
    rng: np.random.Generator, shape: tuple[int, int], grain: float, deviation: float
) -> FloatArray:
    """Return a random field of the given grain (pixels) and standard deviation."""
    field = ndimage.gaussian_filter(rng.standard_normal(shape), grain, mode="wrap")
    smooth: FloatArray = field * (deviation / field.std())
    return smooth


def _transferred(image: FloatArray, ctf: ContrastTransfer, pixel_size: float) -> FloatArray:
    """Return a (y, x) image seen through a transfer; it wraps around at the edges."""
    rows, columns = image.shape
    transfer = ctf.transfer(
        fft.rfftfreq(columns, pixel_size)[None, :], fft.fftfreq(rows, pixel_size)[:, None]
    )
    seen: FloatArray = fft.irfft2(fft.rfft2(image) * transfer, s=image.shape)
    return seen


def _add_hot_pixels(
    rng: np.random.Generator, image: NDArray[np.float32], number: int
) -> NDArray[np.int64]:
    """Make pixels of an image hot, in place; return their (pixel, 2) row and column."""
    places = rng.choice(image.size, min(number, image.size), replace=False)
    rows, columns = np.unravel_index(places, image.shape)
    image[rows, columns] = np.rint(image.mean() * rng.uniform(*_HOT_PIXEL_RANGE, len(places)))
    return np.stack([rows, columns], axis=1)

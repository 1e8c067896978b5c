"""What the microscope and the camera make of a specimen's exact projections.

The model is linear: a view's expected counts are ``N (1 + c)``, with c the projected density of
the specimen and of the ice, seen through the contrast transfer function, and N the electrons that
reach a pixel through the ice. Each effect can be left out, and each draws from its own random
stream of (seed, effect, view), so that leaving one out does not reshuffle the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tomodask.errors import ParameterError
from tomodask.simulate.heights import contrast_at_heights
from tomodask.simulate.ice import Ice, relative_path, smooth_field
from tomodask.simulate.transfer import transferred

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from tomodask.geometry import Projection
    from tomodask.simulate.objects import Phantom
    from tomodask.simulate.transfer import ContrastTransfer

    FloatArray = NDArray[np.float64]

__all__ = [
    "Imaging",
    "SimulatedTiltSeries",
    "dose_symmetric_order",
    "simulate_tilt_series",
]

# A grid bar before the beam still lets stray electrons through.
_DARK_TRANSMISSION = 0.02
# A hot pixel reads this many times the view's mean.
_HOT_PIXEL_RANGE = (20.0, 100.0)
# First words of the seeds of the random streams.
_ICE, _COUNTS, _HOT_PIXELS = range(3)


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
    ice_signal
        Another way to ask for ice: power of its projected density at low frequency, relative to
        that of the counting noise, one value or one per view. Its scatterers are points, seen
        through the envelope ``exp(-B k^2 / 4)``. Ice has 0.05 to 0.3; a carbon film some tens.
    ice_b_factor
        B of `ice_signal`, A^2.
    ctf
        One transfer per view, that of the specimen's origin; empty leaves it out.
    handedness
        +1 or -1: the defocus at the height w along the beam is that of the origin plus
        `handedness` times w, and everything is seen through the transfer at its own height, ice
        throughout its thickness. None shows all of a view through one transfer.
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
    ice_signal: float | tuple[float, ...] = 0.0
    ice_b_factor: float = 300.0
    ctf: tuple[ContrastTransfer, ...] = ()
    handedness: Literal[-1, 1] | None = None
    hot_pixels: int = 0
    dark_views: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("exposure", "mean_free_path", "ice_grain"):
            if not getattr(self, name) > 0:
                raise ParameterError(f"{name} is {getattr(self, name)}; give a positive number")
        for name in ("ice_thickness", "ice_noise", "ice_signal", "ice_b_factor", "hot_pixels"):
            if not np.all(np.asarray(getattr(self, name)) >= 0):
                raise ParameterError(f"{name} is {getattr(self, name)}; give zero or more")
        if self.ice_noise > 0 and np.any(np.asarray(self.ice_signal) > 0):
            raise ParameterError("ice_noise and ice_signal both ask for ice; give one of them")
        if self.handedness not in (None, -1, 1):
            raise ParameterError(f"handedness is {self.handedness}; give +1, -1 or None")
        if self.handedness is not None and not self.ctf:
            raise ParameterError("handedness says how the defocus changes; give ctf as well")


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
    if np.ndim(imaging.ice_signal):
        _per_view("ice_signal", np.array(imaging.ice_signal), views)
    dark = np.zeros(views, bool)
    for view in imaging.dark_views:
        if not 0 <= view < views:
            raise ParameterError(f"dark view {view} is not one of the views 0 to {views - 1}")
        dark[view] = True

    path_length = relative_path(projection)
    signal = np.broadcast_to(np.asarray(imaging.ice_signal, np.float64), views)
    images = np.empty((views, *shape), np.float32)
    hot_pixels = []
    for view in range(views):
        attenuation = imaging.ice_thickness * path_length[view] / imaging.mean_free_path
        electrons = imaging.exposure * pixel_size**2 * np.exp(-attenuation)
        contrast = _Contrast(
            phantom=phantom,
            projection=projection[[view]],
            pixel_size=pixel_size,
            supersample=supersample,
            imaging=imaging,
            ctf=imaging.ctf[view] if imaging.ctf else None,
            path=float(path_length[view]),
            white=float(np.sqrt(signal[view] / electrons)),
            seed=(seed, _ICE, view),
        ).image(shape)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contrast:
    """The contrast of a view, before counting.

    path
        Of the beam through the ice, in thicknesses.
    white
        Standard deviation in a pixel of the scatterers that `ice_signal` asks for.
    seed
        Of the ice.
    """

    phantom: Phantom
    projection: Projection
    pixel_size: float
    supersample: int
    imaging: Imaging
    ctf: ContrastTransfer | None
    path: float
    white: float
    seed: tuple[int, ...]

    def image(self, shape: tuple[int, int]) -> FloatArray:
        """Return the (y, x) contrast."""
        if self.ctf is not None and self.imaging.handedness is not None:
            return contrast_at_heights(
                self.phantom,
                self.projection,
                shape,
                pixel_size=self.pixel_size,
                ctf=self.ctf,
                handedness=self.imaging.handedness,
                supersample=self.supersample,
                ice=self._ice(shape),
                ice_path=self.imaging.ice_thickness * self.path,
                rng=np.random.default_rng(self.seed),
            )
        reach = 0.0 if self.ctf is None else self.ctf.reach(self.pixel_size)
        margin = int(np.ceil(reach / self.pixel_size))
        # The margin holds what the transfer spreads into the image, and keeps its own wrap outside.
        field = (shape[0] + 2 * margin, shape[1] + 2 * margin)
        contrast = self._specimen(field)
        if self.ctf is not None:
            contrast = transferred(contrast, self.ctf, self.pixel_size)
        return contrast[margin : margin + shape[0], margin : margin + shape[1]]

    def _specimen(self, field: tuple[int, int]) -> FloatArray:
        """Return the projected density, with the ice."""
        density: FloatArray = self.phantom.project(
            self.projection, field, pixel_size=self.pixel_size, supersample=self.supersample
        )[0].astype(np.float64)
        if self.white > 0:
            ice = Ice(self.white, self.imaging.ice_b_factor)
            density += ice.image(np.random.default_rng(self.seed), field, self.pixel_size)
        elif self.imaging.ice_noise > 0:
            grain = self.imaging.ice_grain / self.pixel_size
            density += smooth_field(np.random.default_rng(self.seed), field, grain, self._deviation)
        return density

    def _ice(self, shape: tuple[int, int]) -> Ice | None:
        if self.white > 0:
            return Ice(self.white, self.imaging.ice_b_factor)
        if self.imaging.ice_noise > 0:
            return Ice.of_grain(self.imaging.ice_grain, self._deviation, shape, self.pixel_size)
        return None

    @property
    def _deviation(self) -> float:
        return float(self.imaging.ice_noise * np.sqrt(self.path))


def _add_hot_pixels(
    rng: np.random.Generator, image: NDArray[np.float32], number: int
) -> NDArray[np.int64]:
    """Make pixels of an image hot, in place; return their (pixel, 2) row and column."""
    places = rng.choice(image.size, min(number, image.size), replace=False)
    rows, columns = np.unravel_index(places, image.shape)
    image[rows, columns] = np.rint(image.mean() * rng.uniform(*_HOT_PIXEL_RANGE, len(places)))
    return np.stack([rows, columns], axis=1)

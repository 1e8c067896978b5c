"""Ready specimens and ready misalignments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import signal
from scipy.spatial.transform import Rotation

from tomodask.errors import ParameterError
from tomodask.geometry import Projection
from tomodask.simulate.objects import Ball, Gaussian, Phantom, Shell

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from tomodask.simulate.objects import SpecimenObject, Vector

    FloatArray = NDArray[np.float64]

__all__ = ["beads_and_vesicles", "random_misalignment"]

# Densities per A that give a bead a contrast of about -0.6, a membrane -0.05 face on and a
# particle -0.1.
_GOLD, _MEMBRANE, _PROTEIN = -0.006, -6e-4, -1.5e-3
_MEMBRANE_THICKNESS = 40.0
# A chiral particle: four blobs that no rotation or mirror maps onto each other; (x, y, z), sigma.
_PARTICLE = (
    ((0.0, 0.0, 0.0), 30.0),
    ((70.0, 0.0, 0.0), 22.0),
    ((0.0, 55.0, 10.0), 18.0),
    ((-10.0, 15.0, 60.0), 14.0),
)
_PARTICLE_RADIUS = 120.0
_ATTEMPTS = 10_000
# Correlation of the drift of neighbouring views.
_DRIFT_MEMORY = 0.8


def beads_and_vesicles(
    seed: int,
    extent: Vector = (4000.0, 4000.0, 1500.0),
    *,
    beads: int = 16,
    bead_radius: float = 50.0,
    bead_layer: Literal["surfaces", "throughout"] = "surfaces",
    vesicles: int = 3,
    particles: int = 12,
) -> Phantom:
    """Return a specimen of gold beads, vesicles and particles, well apart from each other.

    Beads are balls, and no two lie closer than four radii in the untilted view. Vesicles are
    triaxial shells with a membrane of 40 A. Particles are chiral clusters of four Gaussians, each
    turned at random. The membrane and the particles are much fainter than the gold.

    Parameters
    ----------
    seed
        Equal seeds give equal specimens.
    extent
        (x, y, z) size of the box about the origin that holds everything, A.
    beads, vesicles, particles
        How many of each.
    bead_radius
        A.
    bead_layer
        Beads on the two surfaces of the ice in turn, or anywhere through its thickness.

    Raises
    ------
    ParameterError
        If the objects do not fit into the extent.
    """
    rng = np.random.default_rng(seed)
    half = np.asarray(extent, np.float64) / 2
    places = _Places(rng, half)
    objects: list[SpecimenObject] = []
    # The largest first: they are the hardest to place.
    for _ in range(vesicles):
        semi_axes = rng.uniform(0.5, 0.8) * half.min() * rng.permutation([1.0, 0.85, 0.7])
        centre = places.take(semi_axes.max())
        rotation = Rotation.random(rng=rng).as_rotvec(degrees=True)
        objects.append(
            Shell(centre, _vector(semi_axes), _MEMBRANE_THICKNESS, _MEMBRANE, _vector(rotation))
        )
    first_bead = len(objects)
    for bead in range(beads):
        side = 2 * (bead % 2) - 1 if bead_layer == "surfaces" else None
        centre = places.take(bead_radius, side=side, apart=(first_bead, 4 * bead_radius))
        objects.append(Ball(centre, bead_radius, _GOLD))
    for _ in range(particles):
        centre = places.take(_PARTICLE_RADIUS)
        turn = Rotation.random(rng=rng)
        objects += [
            Gaussian(_vector(centre + turn.apply(offset)), sigma, _PROTEIN)
            for offset, sigma in _PARTICLE
        ]
    return Phantom(tuple(objects))


def random_misalignment(
    tilt_angle: ArrayLike,
    *,
    seed: int,
    shift_sd: float = 50.0,
    tilt_axis_angle: float = 85.0,
    axis_jitter: float = 0.1,
    tilt_jitter: float = 0.0,
    magnification_jitter: float = 0.0,
) -> Projection:
    """Return a true geometry as a stage leaves it: drifting, with small errors of each view.

    The shifts of neighbouring views are correlated by 0.8 (a stationary first-order
    autoregression); all other errors are independent and normal.

    Parameters
    ----------
    tilt_angle
        (tilt,) nominal angles, degrees, in the order of the views.
    seed
        Equal seeds give equal geometries.
    shift_sd
        Standard deviation of the shift along raw x and along raw y, A.
    tilt_axis_angle
        Mean direction of the tilt axis, counter-clockwise from +y, degrees.
    axis_jitter, tilt_jitter
        Standard deviations of the tilt-axis angle and of the tilt angle, degrees.
    magnification_jitter
        Standard deviation of the magnification.

    Returns
    -------
    The true projection; what a microscope records are the nominal angles.
    """
    nominal = np.atleast_1d(np.asarray(tilt_angle, np.float64))
    rng = np.random.default_rng(seed)
    steps = rng.standard_normal((len(nominal), 2))
    steps[1:] *= np.sqrt(1 - _DRIFT_MEMORY**2)
    drift = signal.lfilter([1.0], [1.0, -_DRIFT_MEMORY], steps, axis=0)
    return Projection.create(
        nominal + tilt_jitter * rng.standard_normal(len(nominal)),
        tilt_axis_angle=tilt_axis_angle + axis_jitter * rng.standard_normal(len(nominal)),
        shift=shift_sd * drift,
        magnification=1 + magnification_jitter * rng.standard_normal(len(nominal)),
    )


class _Places:
    """The spheres that are taken, in a box about the origin."""

    def __init__(self, rng: np.random.Generator, half: FloatArray) -> None:
        self._rng = rng
        self._half = half
        self._centres: list[FloatArray] = []
        self._radii: list[float] = []

    def take(
        self,
        radius: float,
        *,
        side: int | None = None,
        apart: tuple[int, float] | None = None,
    ) -> Vector:
        """Return the centre of a free sphere, which is then taken.

        `side` puts it on the box's lower (-1) or upper (+1) face; `apart` = (first, distance)
        keeps it that far, in x and y, from all spheres since the first.
        """
        room = self._half - radius
        if np.all(room >= 0):
            for _ in range(_ATTEMPTS):
                centre = self._rng.uniform(-room, room)
                if side is not None:
                    centre[2] = side * room[2]
                if self._is_free(centre, radius, apart):
                    self._centres.append(centre)
                    self._radii.append(radius)
                    return _vector(centre)
        x, y, z = 2 * self._half
        raise ParameterError(
            f"no room for a sphere of radius {radius:.0f} A beside {len(self._radii)} others in "
            f"{x:g} x {y:g} x {z:g} A; give a larger extent or fewer objects"
        )

    def _is_free(self, centre: FloatArray, radius: float, apart: tuple[int, float] | None) -> bool:
        if not self._centres:
            return True
        offsets = np.array(self._centres) - centre
        free = np.linalg.norm(offsets, axis=1) > np.array(self._radii) + radius
        if apart is not None:
            first, distance = apart
            free[first:] &= np.linalg.norm(offsets[first:, :2], axis=1) > distance
        return bool(free.all())


def _vector(values: FloatArray) -> Vector:
    x, y, z = values
    return float(x), float(y), float(z)

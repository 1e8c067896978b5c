"""How a specimen moves while a movie is recorded, in closed form.

A displacement (y, x) tells where a frame's content lies relative to the sum of all frames: what
the sum shows at (y, x), the frame shows at (y + dy, x + dx). Over the frames its mean is zero at
every place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from numpy.polynomial import legendre

from tomodask.errors import ParameterError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["DriftKind", "LocalMotion", "drift_path"]

DriftKind = Literal["settling", "random walk", "linear", "jump", "none"]
# First words of the seeds of the random streams.
_DRIFT, _LOCAL = range(2)
# The burst of motion when the beam comes on falls by 1/e within this part of the exposure.
_SETTLING = 0.2
# A settling specimen turns by at most this much on its way, radians.
_TURN = 1.0


def drift_path(
    kind: DriftKind, frames: int, length: float, *, seed: int, direction: float | None = None
) -> FloatArray:
    """Return where each frame of a movie lies relative to their mean.

    Parameters
    ----------
    kind
        ``"settling"``: fast in the first frames, as specimens move when the beam comes on, on a
        bent path; ``"random walk"``; ``"linear"``: a stage that drifts evenly; ``"jump"``: two
        places; ``"none"``.
    frames
        How many.
    length
        Of the path from the first frame to the last, in any unit.
    seed
        Equal seeds give equal paths.
    direction
        In which the path sets out, counter-clockwise from +x, degrees; random when absent.

    Returns
    -------
    (frame, 2) float64 (y, x) in the unit of `length`; their mean is zero.

    Raises
    ------
    ParameterError
        If the kind is unknown, or a number makes no sense.
    """
    if frames < 1:
        raise ParameterError(f"a movie of {frames} frames: give at least one")
    if not (np.isfinite(length) and length >= 0):
        raise ParameterError(f"the drift's length is {length}; give zero or more")
    rng = np.random.default_rng([seed, _DRIFT])
    turn = rng.uniform(-_TURN, _TURN)
    heading = rng.uniform(0, 2 * np.pi) if direction is None else np.deg2rad(direction)
    time = np.arange(frames) / frames
    steps = np.zeros((frames, 2))
    if kind == "settling":
        speed = np.exp(-time / _SETTLING) + 0.05
        steps = speed[:, None] * _heading(heading + turn * time)
    elif kind == "random walk":
        steps = rng.standard_normal((frames, 2))
    elif kind == "linear":
        steps[:] = _heading(np.array(heading))
    elif kind == "jump":
        steps[int(rng.integers(frames // 4, frames - frames // 4))] = _heading(np.array(heading))
    elif kind != "none":
        raise ParameterError(
            f"drift {kind!r} is unknown; give 'settling', 'random walk', 'linear', 'jump' or 'none'"
        )
    steps[0] = 0
    total = np.linalg.norm(steps, axis=1).sum()
    path = np.cumsum(steps, axis=0) * (length / total if total > 0 else 0.0)
    centred: FloatArray = path - path.mean(axis=0)
    return centred


@dataclass(frozen=True, eq=False, slots=True)
class LocalMotion:
    """What the places of the field do beyond the common drift.

    The displacement is ``growth[frame] * sum_ij coefficients[:, i, j] P_i(v) P_j(u)`` with P the
    Legendre polynomials and (v, u) the place in the image, -1 to 1 from edge to edge along y and
    x. There is no constant term, so that its mean over the image is zero in every frame.

    Parameters
    ----------
    shape
        (y, x) pixels of a frame.
    growth
        (frame,) amplitude; its mean is zero.
    coefficients
        (2, order + 1, order + 1) for (y, x), px.
    """

    shape: tuple[int, int]
    growth: FloatArray
    coefficients: FloatArray

    def __post_init__(self) -> None:
        size = self.coefficients.shape
        if len(size) != 3 or size[0] != 2 or size[1] != size[2]:
            raise ParameterError(f"coefficients have shape {size}; give (2, n, n)")
        if np.any(self.coefficients[:, 0, 0] != 0):
            raise ParameterError("the constant term is a drift; leave it at 0 and give the drift")
        if abs(self.growth.mean()) > 1e-9 * max(1.0, float(np.abs(self.growth).max())):
            raise ParameterError(f"the growth's mean is {self.growth.mean():.3g}; subtract it")

    @classmethod
    def random(
        cls,
        shape: tuple[int, int],
        frames: int,
        amplitude: float,
        *,
        seed: int,
        order: int = 2,
    ) -> Self:
        """Return a random smooth field, such as doming ice makes.

        Parameters
        ----------
        shape
            (y, x) pixels of a frame.
        frames
            How many. The field grows from frame to frame, ever more slowly as the dose adds up.
        amplitude
            Root mean square, over the image, of the way from the first to the last frame, px.
        seed
            Equal seeds give equal fields.
        order
            Highest degree of the polynomial.
        """
        rng = np.random.default_rng([seed, _LOCAL])
        degree = np.arange(order + 1)
        total = degree[:, None] + degree[None, :]
        used = (total >= 1) & (total <= order)
        coefficients = np.where(used, rng.standard_normal((2, *used.shape)), 0.0)
        # The mean square of P_i over -1 to 1 is 1 / (2 i + 1).
        power = coefficients**2 / np.outer(2 * degree + 1, 2 * degree + 1)
        scale = np.sqrt(power.sum())
        growth = 1 - np.exp(-3 * np.arange(frames) / max(frames - 1, 1))
        growth /= max(growth[-1], np.finfo(np.float64).tiny)
        return cls(
            shape,
            growth - growth.mean(),
            coefficients * (amplitude / scale if scale > 0 else 0.0),
        )

    def displacement(self, frame: int, y: ArrayLike, x: ArrayLike) -> FloatArray:
        """Return the displacement of places in the sum.

        Parameters
        ----------
        frame
            From 0.
        y, x
            Pixel indices in the sum, broadcast together.

        Returns
        -------
        (2, ...) float64 (y, x), px.
        """
        v, u = np.broadcast_arrays(
            *(
                (np.asarray(index, np.float64) - (size - 1) / 2) / (size / 2)
                for index, size in zip((y, x), self.shape, strict=True)
            )
        )
        field = [legendre.legval2d(v, u, axis) for axis in self.coefficients]
        displacement: FloatArray = self.growth[frame] * np.stack(field)
        return displacement

    def monomials(self, frame: int) -> FloatArray:
        """Return a frame's field as (2, n, n) coefficients of ``v**i u**j``, px."""
        degrees = np.eye(self.coefficients.shape[1])
        basis = np.zeros_like(degrees)
        for degree, unit in enumerate(degrees):
            powers = legendre.leg2poly(unit)
            basis[degree, : len(powers)] = powers
        field: FloatArray = self.growth[frame] * np.einsum(
            "aij,ik,jl->akl", self.coefficients, basis, basis
        )
        return field


def _heading(angle: FloatArray) -> FloatArray:
    return np.stack([np.sin(angle), np.cos(angle)], axis=-1)

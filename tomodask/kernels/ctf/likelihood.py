"""The likelihood of a view's oscillation, with its slope and information."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomodask.kernels.ctf.background import Oscillation, Smooth
    from tomodask.kernels.ctf.rings import Rings

    FloatArray = NDArray[np.float64]

__all__ = ["Evaluation", "Focus", "evaluate"]


@dataclass(frozen=True, slots=True)
class Focus:
    """What a view's oscillation depends on.

    Parameters
    ----------
    defocus
        Mean over directions, A.
    astigmatism
        Cosine and sine part, A: the defocus at a direction theta is larger by
        ``astigmatism[0] cos(2 theta) + astigmatism[1] sin(2 theta)``.
    phase_shift
        Degrees.
    """

    defocus: float
    astigmatism: tuple[float, float] = (0.0, 0.0)
    phase_shift: float = 0.0

    def turn(self, rings: Rings) -> NDArray[np.complex128]:
        """Return exp(2 i chi) at the image centre, (sector, ring)."""
        local = self.defocus + np.asarray(self.astigmatism) @ rings.turns
        turn: NDArray[np.complex128] = np.exp(1j * rings.phase(local, self.phase_shift))
        return turn


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """How an oscillation fits at one focus.

    Parameters
    ----------
    correlation, energy
        Of the model at amplitude 1: the log likelihood ratio to no oscillation is
        ``amplitude correlation - amplitude^2 energy / 2``.
    slope, information
        (4,) and (4, 4): of the log likelihood at the amplitude asked for, by mean defocus, the
        parts of the astigmatism (A) and the phase shift (degrees).
    ring_correlation, ring_energy
        (ring,) of the model ``-cos(2 chi)`` at contrast 1 in every ring; the background's share
        is not taken off.
    """

    correlation: float
    energy: float
    slope: FloatArray
    information: FloatArray
    ring_correlation: FloatArray
    ring_energy: FloatArray


def evaluate(
    view: Oscillation,
    rings: Rings,
    smooth: Smooth,
    contrast: FloatArray,
    focus: Focus,
    amplitude: float,
) -> Evaluation:
    """Evaluate a focus.

    The whitened power of a cell has a variance of one over its samples (Whittle), and modelled
    oscillations are small against 1, so that the likelihood is that of least squares; what the
    background's surfaces take of the model is taken off.
    """
    turn = focus.turn(rings)
    seen = view.seen(rings, focus.defocus)
    model = contrast * seen
    steps = np.empty((4, *view.samples.shape))
    steps[0] = rings.rate
    steps[1:3] = rings.turns[:, :, None] * rings.rate
    steps[3] = np.pi / 90

    data = turn * view.turned
    twice = turn**2 * view.second
    mean = turn * view.first / view.tiles
    weight = view.samples * model
    energies = view.samples * (view.tiles + twice.real) / 2
    # Sums over cells of the model, of its slopes, and of their overlaps with the background.
    whole = float(view.samples.sum() / rings.samples.sum()) * view.tiles
    taken = smooth.parts(-model * mean.real, rings.samples)
    slopes = np.stack([smooth.parts(model * step * mean.imag, rings.samples) for step in steps])
    correlation = float(-(weight * data.real).sum())
    energy = float((model**2 * energies).sum()) - whole * float(taken @ taken)
    pull = np.tensordot(steps, weight * data.imag, 2)
    drag = np.tensordot(steps, -weight * model * twice.imag / 2, 2) - whole * (slopes @ taken)
    spread = weight * model * (view.tiles - twice.real) / 2
    information = np.einsum("isr,sr,jsr->ij", steps, spread, steps, optimize=True)
    information -= whole * slopes @ slopes.T
    return Evaluation(
        correlation,
        max(energy, 1e-12),
        amplitude * pull - amplitude**2 * drag,
        amplitude**2 * information,
        -(view.samples * seen * data.real).sum(axis=0),
        (seen**2 * energies).sum(axis=0),
    )

"""The focus transform: how well an oscillation fits every defocus at once.

2 chi is linear in the defocus at each frequency, so that the correlation of a spectrum with the
oscillation of any defocus is a sum over rings with a kernel that all views share: one matrix
product gives it for all views, sectors and defoci. Astigmatism is a shift along defocus by
sector, a phase shift a turn in the complex plane.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tomodask.kernels._jit import njit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tomodask.kernels.ctf.background import Oscillation, Smooth
    from tomodask.kernels.ctf.rings import Rings

    FloatArray = NDArray[np.float64]

__all__ = ["FocusTransform", "focus_transform"]


@dataclass(frozen=True, slots=True, eq=False)
class FocusTransform:
    """Correlation with, and energy of, the oscillation of each defocus, at contrast 1.

    Parameters
    ----------
    defocus
        (focus,) A, equally spaced.
    correlation
        (view, sector, focus) complex64: turned by exp(2 i phase shift), its real part is the
        correlation.
    energy
        (view, focus).
    """

    defocus: FloatArray
    correlation: NDArray[np.complex64]
    energy: FloatArray

    @property
    def step(self) -> float:
        """A between neighbouring defoci."""
        return float(self.defocus[1] - self.defocus[0])

    def matched(self, shift: FloatArray, phase_shift: FloatArray) -> FloatArray:
        """Return the correlation (view, focus) for defocus that differs with direction.

        Parameters
        ----------
        shift
            (view, sector): what the defocus of a sector is larger by, A.
        phase_shift
            (view,) degrees.
        """
        turn = np.exp(2j * np.deg2rad(phase_shift)).astype(np.complex64)
        matched = np.zeros(self.energy.shape)
        _shifted(self.correlation, shift / self.step, turn, matched)
        return matched


def focus_transform(
    views: Sequence[Oscillation],
    rings: Rings,
    smooth: Smooth,
    contrast: FloatArray,
    defocus: FloatArray,
) -> FocusTransform:
    """Return how well every defocus fits each view.

    Parameters
    ----------
    views
        Oscillations.
    rings, smooth
        The cells, and the background's surfaces.
    contrast
        (ring,) of the oscillation that is looked for.
    defocus
        (focus,) A, equally spaced.
    """
    footprint = float(np.median([view.footprint for view in views]))
    resolved = rings.resolved(defocus, footprint).T
    kernel = (resolved * np.exp(1j * rings.phase(defocus, 0.0).T)).astype(np.complex64)
    sectors = len(rings.direction)
    expected = np.stack([contrast * view.damping for view in views])
    filtered = np.stack(
        [-view.samples * m * view.turned for view, m in zip(views, expected, strict=True)]
    )
    correlation = filtered.astype(np.complex64).reshape(-1, len(contrast)) @ kernel
    weight = np.stack([view.samples.sum(axis=0) for view in views]) * expected**2 / 2
    tiles = np.array([view.tiles for view in views])
    second = np.stack([view.second for view in views])
    energy = (weight * tiles[:, None]) @ resolved**2
    energy += ((weight * second).astype(np.complex64) @ kernel**2).real
    # What the background would take of it: the mean over tiles and sectors.
    around = smooth.surface[: smooth.round, 0] * rings.samples.sum(axis=0)
    first = np.stack([view.first for view in views])
    for surface in around.astype(np.float32):
        taken = ((surface * expected * first).astype(np.complex64) @ kernel).real
        share = np.array([view.samples.sum() for view in views]) / rings.samples.sum() / tiles
        energy -= share[:, None] * taken**2
    return FocusTransform(
        defocus,
        correlation.reshape(len(views), sectors, len(defocus)),
        np.maximum(energy, 1e-9 * energy.max()),
    )


@njit
def _shifted(
    correlation: NDArray[np.complex64],
    shift: FloatArray,
    turn: NDArray[np.complex64],
    matched: FloatArray,
) -> None:
    views, sectors, length = correlation.shape
    for v in range(views):
        for s in range(sectors):
            whole = int(np.floor(shift[v, s]))
            part = np.float32(shift[v, s] - whole)
            low = turn[v] * (1 - part)
            high = turn[v] * part
            for i in range(max(0, -whole), min(length, length - whole - 1)):
                a = correlation[v, s, i + whole]
                b = correlation[v, s, i + whole + 1]
                matched[v, i] += (
                    a.real * low.real - a.imag * low.imag + b.real * high.real - b.imag * high.imag
                )

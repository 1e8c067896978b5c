"""One pass over the transform of an image that undoes its contrast transfer at one defocus.

The phase chi of the transfer is a polynomial of the frequency: a quadratic form (defocus and
astigmatism, in whatever frame the image lies), the square of another (spherical aberration), and
what a height adds to the defocus. It is computed on the fly, in float32 and half-turns, so that no
table of it is held.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tomodask.kernels._jit import njit

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from tomodask.kernels.ctf.correction import Correction
    from tomodask.kernels.ctf.transfer import Transfer

    Form = tuple[float, float, float]

__all__ = ["PhasePolynomial", "filter_spectrum", "phase_polynomial"]


class PhasePolynomial(NamedTuple):
    """chi, in half-turns, at the frequency (u, v) of an image, 1/A.

    ``chi = (a . form) + quartic q^2 + constant + per_defocus q defocus`` with ``q = b . form``
    and ``form = (u^2, u v, v^2)``.

    Parameters
    ----------
    form
        a: 1/A^2 to half-turns.
    squared
        b: the squared frequency in the raw image.
    quartic, constant
        Of the spherical aberration; of the amplitude contrast and a phase plate.
    per_defocus
        Half-turns per A of defocus and 1/A^2.
    """

    form: Form
    squared: Form
    quartic: float
    constant: float
    per_defocus: float


def phase_polynomial(transfer: Transfer, matrix: ArrayLike) -> PhasePolynomial:
    """Return the phase of a raw image's transfer at the frequencies of an image made from it.

    Parameters
    ----------
    transfer
        In the frame of the raw image.
    matrix
        (2, 2): ``raw = matrix (u, v) + shift``. A wave of the raw image at frequency k is one at
        ``matrix^T k``.
    """
    optics = transfer.optics
    back = np.linalg.inv(np.asarray(matrix, np.float64))  # raw frequency = back^T (u, v)
    mean = (transfer.defocus_u + transfer.defocus_v) / 2
    half = (transfer.defocus_u - transfer.defocus_v) / 2
    turn = np.deg2rad(2 * transfer.astigmatism_angle)
    astigmatic = half * np.array([[np.cos(turn), np.sin(turn)], [np.sin(turn), -np.cos(turn)]])
    return PhasePolynomial(
        form=_form(optics.wavelength * back @ (mean * np.eye(2) + astigmatic) @ back.T),
        squared=_form(back @ back.T),
        quartic=-optics.aberration * optics.wavelength**3 / 2,
        constant=transfer.phase_shift / 180 + float(np.arcsin(optics.amplitude_contrast)) / np.pi,
        per_defocus=optics.wavelength,
    )


def _form(symmetric: NDArray[np.float64]) -> Form:
    return float(symmetric[0, 0]), float(2 * symmetric[0, 1]), float(symmetric[1, 1])


def filter_spectrum(
    spectrum: NDArray[np.complex64],
    rows: NDArray[np.int64],
    frequency_u: NDArray[np.float64],
    step_v: float,
    phase: PhasePolynomial,
    defocus: float,
    correction: Correction,
    out: NDArray[np.complex64],
) -> None:
    """Multiply a transform by what undoes the transfer at a defocus.

    Parameters
    ----------
    spectrum
        (u, v) complex64, the half with v >= 0.
    rows
        (n, 2) rows of `spectrum`, and of `out`, that are written.
    frequency_u
        (n,) frequency along u of these rows, 1/A.
    step_v
        From one column to the next, 1/A.
    phase
        From :func:`phase_polynomial`.
    defocus
        Added to that of the transfer, A.
    correction
        How the transfer is undone.
    out
        (row, v) complex64.
    """
    flip = correction.method == "phase-flip"
    wiener = correction.method == "wiener"
    _filter(
        spectrum.view(np.float32),
        rows,
        frequency_u,
        step_v,
        np.array(phase.form),
        np.array(phase.squared),
        np.array([phase.quartic, phase.constant, phase.per_defocus * defocus]),
        flip,
        np.float32(1 / correction.snr if wiener else 1),
        np.float32(wiener),
        out.view(np.float32),
    )


@njit
def _filter(
    spectrum: NDArray[np.float32],
    rows: NDArray[np.int64],
    frequency_u: NDArray[np.float64],
    step_v: float,
    form: NDArray[np.float64],
    squared: NDArray[np.float64],
    rest: NDArray[np.float64],
    flip: bool,
    floor: np.float32,
    slope: np.float32,
    out: NDArray[np.float32],
) -> None:
    """Write ``out = spectrum s / (floor + slope s^2)``, s = sin chi or, for `flip`, its sign."""
    columns = spectrum.shape[1] // 2
    factor = np.empty(columns, np.float32)
    one, half, two = np.float32(1), np.float32(0.5), np.float32(2)
    quartic, shift = np.float32(rest[0]), np.float32(rest[2])
    a1, b1 = np.float32(step_v), np.float32(step_v)
    a2, b2 = np.float32(form[2] * step_v**2), np.float32(squared[2] * step_v**2)
    for n in range(len(rows)):
        u = frequency_u[n]
        a0, b0 = np.float32(form[0] * u**2 + rest[1]), np.float32(squared[0] * u**2)
        a1, b1 = np.float32(form[1] * u * step_v), np.float32(squared[1] * u * step_v)
        for c in range(columns):
            v = np.float32(c)
            q = b0 + v * (b1 + v * b2)
            chi = a0 + v * (a1 + v * a2) + q * (shift + quartic * q)
            whole = np.floor(chi)
            sign = one - two * (whole - two * np.floor(half * whole))
            # sin(pi (chi - whole)) is the cosine of what it is from the middle: -1/2 to 1/2.
            d = chi - whole - half
            d *= d
            sine = _C0 + d * (_C1 + d * (_C2 + d * (_C3 + d * (_C4 + d * _C5))))
            value = sign if flip else sign * sine
            factor[c] = value / (floor + slope * value * value)
        source, target = spectrum[rows[n, 0]], out[rows[n, 1]]
        for c in range(columns):
            target[2 * c] = factor[c] * source[2 * c]
            target[2 * c + 1] = factor[c] * source[2 * c + 1]


def _cosine_terms() -> list[np.float32]:
    """Return the coefficients of cos(pi d) in d^2 for |d| <= 1/2, good to float32."""
    nodes = np.cos(np.pi * (np.arange(64) + 0.5) / 64) / 8 + 1 / 8  # Chebyshev's, of d^2
    fitted = np.polynomial.Polynomial.fit(nodes, np.cos(np.pi * np.sqrt(nodes)), 5)
    return [np.float32(value) for value in fitted.convert().coef]


_C0, _C1, _C2, _C3, _C4, _C5 = _cosine_terms()

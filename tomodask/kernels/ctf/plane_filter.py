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

__all__ = ["FilterRows", "PhasePolynomial", "filter_spectrum", "phase_polynomial"]


class PhasePolynomial(NamedTuple):
    """chi, in half-turns, at the frequency (u, v) of an image, 1/A.

    ``chi = form . (u^2, u v, v^2) + quartic q^2 + constant + wavelength q defocus``, where
    ``q = squared . (u^2, u v, v^2)``.

    Parameters
    ----------
    form
        Of defocus and astigmatism, A^2.
    squared
        Of the squared frequency in the raw image; dimensionless.
    quartic
        Of the spherical aberration, A^4.
    constant
        Of the amplitude contrast and a phase plate, half-turns.
    wavelength
        Of the electrons, A.
    """

    form: Form
    squared: Form
    quartic: float
    constant: float
    wavelength: float


class FilterRows(NamedTuple):
    """Rows of a transform that are filtered into rows of another.

    Parameters
    ----------
    source, target
        (n,) int64 row of the one and of the other.
    frequency
        (n,) float64 along u, 1/A.
    weight
        (n,) float32 that they are multiplied by.
    """

    source: NDArray[np.int64]
    target: NDArray[np.int64]
    frequency: NDArray[np.float64]
    weight: NDArray[np.float32]


def phase_polynomial(transfer: Transfer, matrix: ArrayLike) -> PhasePolynomial:
    """Return the phase of a raw image's transfer at the frequencies of an image made from it.

    Parameters
    ----------
    transfer
        In the frame of the raw image.
    matrix
        (2, 2): ``raw = matrix (u, v) + shift``. A wave of frequency k in the raw image has
        ``matrix^T k`` there.
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
        wavelength=optics.wavelength,
    )


def _form(symmetric: NDArray[np.float64]) -> Form:
    return float(symmetric[0, 0]), float(2 * symmetric[0, 1]), float(symmetric[1, 1])


def filter_spectrum(
    spectrum: NDArray[np.complex64],
    rows: FilterRows,
    step_v: float,
    phase: PhasePolynomial,
    *,
    defocus: float,
    spacing: float,
    correction: Correction,
    out: NDArray[np.complex64],
) -> None:
    """Multiply a transform by what undoes the transfer at a defocus.

    Parameters
    ----------
    spectrum
        (u, v) complex64, the half with v >= 0.
    rows
        What is filtered, and where it is written.
    step_v
        Frequency from one column to the next, 1/A.
    phase
        From :func:`phase_polynomial`.
    defocus
        Added to that of the transfer, A.
    spacing
        Defocus from one image to the next of those that the result is interpolated between, A; 0
        where it is not. Over all defoci between them linear interpolation leaves of the corrected
        signal ``sinc^2(wavelength k^2 spacing / 2)``, whatever the correction: it is divided out.
    correction
        How the transfer is undone.
    out
        (row, v) complex64.
    """
    wiener = correction.method == "wiener"
    _filter(
        spectrum.view(np.float32),
        rows.source,
        rows.target,
        rows.frequency,
        rows.weight,
        step_v,
        np.array(phase.form),
        np.array(phase.squared),
        np.array([phase.quartic, phase.constant, phase.wavelength * defocus]),
        np.float32((np.pi * phase.wavelength * spacing) ** 2),
        correction.method == "phase-flip",
        np.float32(1 / correction.snr if wiener else 1),
        np.float32(wiener),
        out.view(np.float32),
    )


@njit
def _filter(
    spectrum: NDArray[np.float32],
    source: NDArray[np.int64],
    target: NDArray[np.int64],
    frequency: NDArray[np.float64],
    weight: NDArray[np.float32],
    step_v: float,
    form: NDArray[np.float64],
    squared: NDArray[np.float64],
    rest: NDArray[np.float64],
    lost: np.float32,
    flip: bool,
    floor: np.float32,
    slope: np.float32,
    out: NDArray[np.float32],
) -> None:
    """Multiply by ``value / (floor + slope value^2)``, where value is sin chi or its sign."""
    columns = spectrum.shape[1] // 2
    factor = np.empty(columns, np.float32)
    one, half, two = np.float32(1), np.float32(0.5), np.float32(2)
    quartic, shift = np.float32(rest[0]), np.float32(rest[2])
    a2, b2 = np.float32(form[2] * step_v**2), np.float32(squared[2] * step_v**2)
    for n in range(len(source)):
        u = frequency[n]
        a0, b0 = np.float32(form[0] * u**2 + rest[1]), np.float32(squared[0] * u**2)
        a1, b1 = np.float32(form[1] * u * step_v), np.float32(squared[1] * u * step_v)
        for c in range(columns):
            v = np.float32(c)
            q = b0 + v * (b1 + v * b2)
            chi = a0 + v * (a1 + v * a2) + q * (shift + quartic * q)
            whole = np.floor(chi)
            sign = one - two * (whole - two * np.floor(half * whole))
            # Half a turn's sine is a cosine of the distance from its middle: -1/2 to 1/2.
            d = chi - whole - half
            d *= d
            sine = _C0 + d * (_C1 + d * (_C2 + d * (_C3 + d * (_C4 + d * _C5))))
            value = sign if flip else sign * sine
            change = lost * q * q
            gain = one + change * (_S1 + change * (_S2 + change * (_S3 + change * _S4)))
            factor[c] = weight[n] * gain * value / (floor + slope * value * value)
        given, result = spectrum[source[n]], out[target[n]]
        for c in range(columns):
            result[2 * c] = factor[c] * given[2 * c]
            result[2 * c + 1] = factor[c] * given[2 * c + 1]


def _cosine_terms() -> list[np.float32]:
    """Return the coefficients of cos(pi d) in d^2 for |d| <= 1/2, good to float32."""
    nodes = (1 + np.cos(np.pi * (np.arange(64) + 0.5) / 64)) / 8  # Chebyshev's, of d^2
    fitted = np.polynomial.Polynomial.fit(nodes, np.cos(np.pi * np.sqrt(nodes)), 5)
    return [np.float32(value) for value in fitted.convert().coef]


_C0, _C1, _C2, _C3, _C4, _C5 = _cosine_terms()
#: Of (x / 2 / sin(x / 2))^2 = 1 + x^2 / 12 + ..., x the change of chi from image to image: good to
#: 0.1 % up to x = 2.
_S1, _S2, _S3, _S4 = (np.float32(1 / n) for n in (12, 240, 6048, 172800))

r"""A filter for looking at tomograms: what the contrast transfer took at low frequency given back.

At defocus, low frequencies are weak and the specimen looks like its edges. The filter is a Wiener
filter along one curve, ``c / (c^2 + 1 / snr)``, with a signal to noise ratio that is assumed, not
measured:

.. math:: \mathrm{snr}(f) = 10^{3\,\mathrm{strength}}\,
   \exp(-100\,\mathrm{falloff}\,f / \mathrm{voxel})\,(1 - \cos(\pi \min(1, k\,\mathrm{highpass})))

with the frequency k in 1/A, f that over the Nyquist frequency and the voxel size in A; beyond the
Nyquist frequency it stays what it is there. Strength 1 is a ratio of 1000 (times the high-pass,
which reaches 2), 0.67 one of 100. This is the curve of ``tom_deconv`` by D. Tegunov, which Warp
[1]_ applies to its tomograms. The transfer is positive at low frequency under positive defocus, so
that dense matter stays as dark as it was.

References
----------
.. [1] Tegunov, D. and Cramer, P., Real-time cryo-electron microscopy data preprocessing with Warp,
   Nat. Methods 16 (2019) 1146, doi:10.1038/s41592-019-0580-y.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.fft

from tomodask.errors import ParameterError
from tomodask.kernels._jit import njit

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from tomodask.kernels.ctf import Optics

__all__ = ["Deconvolution", "deconvolve_block"]

#: What of the kernel may lie beyond its reach: of white noise, and of what changes along one axis
#: alone, as parts of the root mean square.
_TAIL = (3e-4, 1e-3)
#: Voxels over which the kernel is looked at.
_EXTENT = 1 << 16
#: Samples of the curve up to the Nyquist frequency.
_SAMPLES = 1 << 14


@dataclass(frozen=True, kw_only=True)
class Deconvolution:
    """The curve of the filter.

    Parameters
    ----------
    optics
        Of the microscope.
    defocus
        A, underfocus positive.
    voxel_size
        A.
    strength, falloff
        Of the signal to noise ratio.
    highpass
        A: the ratio rises from 0 at frequency 0 to its full value at ``1 / highpass``.
    phase_shift
        Of a phase plate, degrees.
    phase_flipped
        Whether the signs of the transfer are undone already: the curve then takes its magnitude.

    Raises
    ------
    ParameterError
        If a value makes no sense.
    """

    optics: Optics
    defocus: float
    voxel_size: float
    strength: float = 1.0
    falloff: float = 1.0
    highpass: float = 300.0
    phase_shift: float = 0.0
    phase_flipped: bool = False

    def __post_init__(self) -> None:
        for name in ("defocus", "strength", "phase_shift"):
            if not np.isfinite(getattr(self, name)):
                raise ParameterError(f"{name} {getattr(self, name)}: give a finite number")
        if not self.voxel_size > 0:
            raise ParameterError(f"voxel size {self.voxel_size}: give a number > 0, in A")
        if not 0 <= self.falloff < np.inf:
            raise ParameterError(f"falloff {self.falloff}: give a number >= 0")
        if not 2 * self.voxel_size <= self.highpass < np.inf:
            raise ParameterError(
                f"high-pass {self.highpass} A: give a number of at least two voxels of "
                f"{self.voxel_size:g} A"
            )

    def factor(self, frequency: ArrayLike) -> NDArray[np.float64]:
        """Return the factor at spatial frequencies, 1/A; of their shape, 0 at frequency 0."""
        nyquist = 0.5 / self.voxel_size
        k = np.minimum(np.asarray(frequency, np.float64), nyquist)
        transfer = np.sin(self.optics.phase(k**2, self.defocus, self.phase_shift))
        if self.phase_flipped:
            transfer = np.abs(transfer)
        ramp = 1 - np.cos(np.pi * np.minimum(1, k * self.highpass))
        fall = np.exp(-100 * self.falloff * k / nyquist / self.voxel_size)
        ratio = 10 ** (3 * self.strength) * fall * ramp
        result: NDArray[np.float64] = transfer * ratio / (transfer**2 * ratio + 1)
        return result

    def reach(self) -> int:
        """Return how many voxels of an axis the filter's kernel needs on either side.

        The curve's own transform is the kernel summed over planes; its derivative over the
        distance is the kernel.
        """
        factor = self.factor(scipy.fft.rfftfreq(_EXTENT, self.voxel_size))
        # What the curve is beyond the Nyquist frequency acts on each voxel alone.
        plane = scipy.fft.irfft(factor - factor[-1])
        plane = plane[: _EXTENT // 2]
        distance = np.arange(1, len(plane))
        kernel = np.diff(plane) / distance
        # Of each shell of the kernel, the part that lies beyond a distance along one axis.
        energy = kernel[::-1] ** 2
        beyond = np.cumsum(energy * distance[::-1] ** 2)[::-1]
        beyond -= distance * np.cumsum(energy * distance[::-1])[::-1]
        along = np.cumsum(plane[:0:-1] ** 2)[::-1]
        far = (beyond > _TAIL[0] ** 2 * beyond[0]) | (
            along > _TAIL[1] ** 2 * (along[0] + plane[0] ** 2 / 2)
        )
        return int(np.flatnonzero(far)[-1]) + 1


def deconvolve_block(block: NDArray[np.float32], curve: Deconvolution) -> NDArray[np.float32]:
    """Return a volume (z, y, x) filtered; beyond its faces it is mirrored.

    The cosine transform is that of the mirrored volume, without the memory that it would take.
    """
    spectrum = scipy.fft.dctn(np.asarray(block, np.float32), norm="ortho", workers=1)
    nyquist = 0.5 / curve.voxel_size
    table = curve.factor(np.linspace(0, nyquist, _SAMPLES)).astype(np.float32)
    _multiply(spectrum, table)
    result: NDArray[np.float32] = scipy.fft.idctn(
        spectrum, norm="ortho", overwrite_x=True, workers=1
    )
    return result


@njit
def _multiply(spectrum: NDArray[np.float32], table: NDArray[np.float32]) -> None:
    """Multiply a cosine transform by a table from frequency 0 to Nyquist, linear between."""
    last = len(table) - 1
    depth, height, width = spectrum.shape
    for z in range(depth):
        for y in range(height):
            plane = (z / depth) ** 2 + (y / height) ** 2
            for x in range(width):
                at = min(np.sqrt(plane + (x / width) ** 2), 1.0) * last
                i = min(int(at), last - 1)
                spectrum[z, y, x] *= table[i] + np.float32(at - i) * (table[i + 1] - table[i])

"""What a microscope makes of a specimen whose parts lie at different heights along the beam.

The model stays linear: each scatterer is seen through the transfer at its own height, and the
image is the sum. Height enters the transfer through ``exp(i pi lambda k^2 w)`` alone, which is
interpolated linearly between planes so close that the error stays below a bound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import fft

from tomodask.simulate.ice import mid_plane_height

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from tomodask.geometry import Projection
    from tomodask.simulate.ice import Ice
    from tomodask.simulate.objects import Phantom
    from tomodask.simulate.transfer import ContrastTransfer

    FloatArray = NDArray[np.float64]
    Planes = Iterator[tuple[int, NDArray[np.floating]]]

__all__ = ["contrast_at_heights"]

# Largest error of the transfer between two planes, at the Nyquist frequency.
_ERROR = 0.01


def contrast_at_heights(
    phantom: Phantom,
    projection: Projection,
    shape: tuple[int, int],
    *,
    pixel_size: float,
    ctf: ContrastTransfer,
    handedness: int,
    supersample: int,
    ice: Ice | None = None,
    ice_path: float = 0.0,
    rng: np.random.Generator | None = None,
) -> FloatArray:
    """Return the (y, x) contrast of a view, each part of it seen through its own transfer.

    The defocus at the height w is that of `ctf` plus ``handedness w``.

    Parameters
    ----------
    phantom, projection, shape, pixel_size, supersample
        As for :meth:`Phantom.project`, of one view.
    ctf
        The transfer at the specimen's origin.
    handedness
        +1 or -1.
    ice
        Scatterers in a slab around the plane z = 0; None is none.
    ice_path
        Path of the beam through it, A; 0 has all its scatterers on the plane.
    rng
        What the ice is drawn from.
    """
    spacing = np.sqrt(8 * _ERROR) / (np.pi * ctf.wavelength / (2 * pixel_size) ** 2)
    sheets = max(int(np.ceil(ice_path / spacing)), 1)
    if ice_path > 0:
        spacing = ice_path / sheets
    # What the transfer spreads into the image comes from a margin, which also keeps the wrap of
    # the transforms outside.
    height = mid_plane_height(projection, shape, pixel_size)
    deepest = float(np.abs(height).max()) + ice_path / 2
    reach = max(ctf.shifted(side * deepest).reach(pixel_size) for side in (-1, 1))
    margins = [_margin(size, int(np.ceil(reach / pixel_size))) for size in shape]
    rows, columns = (size + 2 * margin for size, margin in zip(shape, margins, strict=True))

    specimen = phantom.planes(
        projection,
        (rows, columns),
        pixel_size=pixel_size,
        spacing=spacing,
        supersample=supersample,
    )
    transfers = _Transfers(ctf, (rows, columns), pixel_size, handedness * spacing)
    seen = transfers.seen(specimen)
    if ice is not None:
        height = mid_plane_height(projection, (rows, columns), pixel_size)
        rng = np.random.default_rng() if rng is None else rng
        scattered = transfers.seen(ice.planes(rng, height, spacing, sheets))
        seen += scattered * ice.envelope((rows, columns), pixel_size)
    contrast = fft.irfft2(seen, s=(rows, columns), workers=1)
    top, left = margins
    inside: FloatArray = contrast[top : top + shape[0], left : left + shape[1]].astype(np.float64)
    return inside


class _Transfers:
    """The transfers at planes of height, in the order in which they are asked for."""

    def __init__(
        self, ctf: ContrastTransfer, shape: tuple[int, int], pixel_size: float, step: float
    ) -> None:
        x, y = fft.rfftfreq(shape[1], pixel_size)[None, :], fft.fftfreq(shape[0], pixel_size)
        self._shape = shape
        self._origin = ctf.phase(x, y[:, None])
        self._step = np.pi * ctf.wavelength * step * (x**2 + y[:, None] ** 2)

    def seen(self, planes: Planes) -> NDArray[np.complex64]:
        """Return the spectrum of the sum of images, each through the transfer of its plane."""
        total = np.zeros(self._origin.shape, np.complex64)
        turn = np.exp(1j * self._step).astype(np.complex64)
        wave, last = None, 0
        for plane, image in planes:
            # From plane to neighbouring plane a product, where a sine would cost three times more.
            if wave is None or plane != last + 1:
                wave = np.exp(1j * (self._origin + plane * self._step)).astype(np.complex64)
            else:
                wave *= turn
            last = plane
            total += fft.rfft2(image.astype(np.float32), workers=1) * wave.imag
        return total


def _margin(size: int, least: int) -> int:
    """Return a margin, at least so wide, by which an axis becomes fast to transform."""
    margin = least
    while fft.next_fast_len(size + 2 * margin, real=True) != size + 2 * margin:
        margin += 1
    return margin

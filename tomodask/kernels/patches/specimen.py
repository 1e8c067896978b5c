r"""The specimen as an unknown random field in a slab, and the views that it makes.

A view, whitened by its noise, is ``G A q + noise``: q the sources, independent with unit variance;
A the projection along the beam, scaled so that an untilted view of the sources is white; G the
square root of the signal-to-noise ratio at each frequency. As a filter of the length of the
frequency alone commutes with projection, G acts on the views and not on the volume. The sources
that are most probable given the views are the solution of ``(A' G' G A + 1) q = A' G' y``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.fft

from tomodask.kernels._jit import njit
from tomodask.kernels.project import backproject_rows, project_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomodask.kernels.patches.spectrum import Spectrum
    from tomodask.kernels.patches.views import Frame

    FloatArray = NDArray[np.float64]
    Images = NDArray[np.float32]

__all__ = ["Specimen"]


class Specimen:
    """A slab of sources seen by the views of a series.

    The density is the sources times ``amplitude`` (z, x, y), 1 at first: where matter is expected.

    Parameters
    ----------
    frame
        The pixels of the views; voxels are as large.
    depth, width
        Voxels along z and x; along y they are the frame's.
    tilt
        (view,) radians.
    spectrum
        Of signal and noise.
    weights
        (view, u, v) float32 from :meth:`Views.weight`.
    """

    def __init__(
        self,
        frame: Frame,
        depth: int,
        width: int,
        tilt: FloatArray,
        spectrum: Spectrum,
        weights: Images,
    ) -> None:
        self.frame = frame
        self.amplitude: Images = np.ones((depth, width, frame.shape[1]), np.float32)
        self.shape = (depth, width, frame.shape[1])
        self.cos, self.sin = np.cos(tilt), np.sin(tilt)
        self.filter = np.sqrt(spectrum.signal_to_noise).astype(np.float32)[frame.ring]
        noise = np.sqrt(spectrum.scale)[:, None, None]
        self.weight = (weights / noise / np.sqrt(depth)).astype(np.float32)
        strength: FloatArray = np.asarray(self.weight**2, np.float64).mean(axis=(1, 2)) * depth
        curvature = np.zeros((depth, width, len(frame.fv[0])), np.float32)
        _curvature(
            spectrum.signal_to_noise,
            frame.longest,
            np.asarray(scipy.fft.fftfreq(depth), np.float64),
            np.asarray(scipy.fft.fftfreq(width), np.float64),
            np.asarray(frame.fv[0], np.float64),
            self.cos,
            self.sin,
            strength,
            curvature,
        )
        self._inverse = (1 / (1 + curvature)).astype(np.float32)

    def views(self, sources: Images) -> Images:
        """Return the whitened views (view, u, v) of sources (z, x, y)."""
        return self._seen(self._projected(sources))

    def adjoint(self, views: Images) -> Images:
        """Return the adjoint of :meth:`views`: sources of views."""
        images = self.frame.images(self.frame.spectra(views * self.weight) * self.filter)
        return backproject_rows(images, self.cos, self.sin, self.shape[:2]) * self.amplitude

    def preconditioned(self, sources: Images) -> Images:
        """Apply, nearly, the inverse of ``A' G' G A + 1``: that of a slab without edges."""
        product = scipy.fft.rfftn(sources, workers=1) * self._inverse
        result: Images = scipy.fft.irfftn(product, s=self.shape, workers=1)
        return result

    def derivatives(self, sources: Images) -> Images:
        """Return how the views change with their geometry.

        Returns
        -------
        (view, 3, u, v) float32: by a shift along u and along v, pixels, and by a rotation, in
        half edges of the frame (a point half an edge from the centre moves by one pixel).
        """
        spectra = self.frame.spectra(self._projected(sources))
        spectra *= self.filter
        along_u = -self.frame.images(spectra * (2j * np.pi * self.frame.fu).astype(np.complex64))
        along_v = -self.frame.images(spectra * (2j * np.pi * self.frame.fv).astype(np.complex64))
        u = (self.frame.u / (self.frame.longest / 2)).astype(np.float32)[:, None]
        v = (self.frame.v / (self.frame.longest / 2)).astype(np.float32)[None, :]
        result = np.stack([along_u, along_v, u * along_v - v * along_u], axis=1)
        result *= self.weight[:, None]
        return result

    def _projected(self, sources: Images) -> Images:
        return project_rows(sources * self.amplitude, self.cos, self.sin, self.frame.shape[0])

    def _seen(self, projections: Images) -> Images:
        images = self.frame.images(self.frame.spectra(projections) * self.filter)
        images *= self.weight
        return images


@njit
def _curvature(
    ratio: FloatArray,
    longest: int,
    fz: FloatArray,
    fx: FloatArray,
    fv: FloatArray,
    cos: FloatArray,
    sin: FloatArray,
    strength: FloatArray,
    out: NDArray[np.float32],
) -> None:
    """Sum over the views the power with which they see each frequency of the slab.

    A view sees a plane of frequencies that the slab's depth makes thick.
    """
    for k in range(fz.size):
        for i in range(fx.size):
            for t in range(cos.size):
                off = (fz[k] * cos[t] - fx[i] * sin[t]) * fz.size / cos[t]
                if abs(off) > 3:
                    continue
                profile = 1.0
                if abs(off) > 1e-9:
                    profile = (np.sin(np.pi * off) / (np.pi * off)) ** 2
                share = strength[t] / cos[t] * profile
                u = fx[i] * cos[t] + fz[k] * sin[t]
                for j in range(fv.size):
                    at = np.sqrt(u * u + fv[j] * fv[j]) * longest
                    r = int(at)
                    if r + 1 < ratio.size:
                        out[k, i, j] += share * (ratio[r] * (r + 1 - at) + ratio[r + 1] * (at - r))

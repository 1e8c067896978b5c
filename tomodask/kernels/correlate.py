"""Displacements between the views of a tilt series by cross-correlation.

Images are hot-pixel-free, band-limited and tapered; one is mapped onto the plane of the other by
the affine that relates their tilts; the cross-power spectrum is weighted by the generalised
correlation method, and the peak is fitted below the pixel.

References
----------
.. [1] Knapp, C. and Carter, G., The generalized correlation method for estimation of time delay,
   IEEE Trans. Acoust. Speech Signal Process. 24 (1976) 320, doi:10.1109/TASSP.1976.1162830.
.. [2] Guckenberger, R., Determination of a common origin in the micrographs of tilt series,
   Ultramicroscopy 9 (1982) 167, doi:10.1016/0304-3991(82)90239-8 (cosine stretching).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.fft
from scipy import ndimage

from tomodask.kernels.resample import resample, spline_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomodask.kernels.resample import SplineImage

    FloatArray = NDArray[np.float64]

__all__ = [
    "Band",
    "Peak",
    "binned_view",
    "without_hot_pixels",
]

"""The contrast transfer function: estimated from images, and undone in them."""

from tomodask.kernels.ctf.correction import Correction, CorrectionMethod
from tomodask.kernels.ctf.transfer import Optics, Transfer

__all__ = ["Correction", "CorrectionMethod", "Optics", "Transfer"]

"""Alignment of tilt series without gold: the specimen itself is what is tracked."""

from tomodask.kernels.patches.align import PatchAlignment, align_patches
from tomodask.kernels.patches.landmarks import Patches

__all__ = ["PatchAlignment", "Patches", "align_patches"]

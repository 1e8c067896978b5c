"""Gold beads: finding, centring, tracking and aligning by them."""

from tomodask.kernels.beads.align import align_beads
from tomodask.kernels.beads.alignment import FILLED, TRACKED, BeadAlignment
from tomodask.kernels.beads.centre import Centres, centre_beads
from tomodask.kernels.beads.detect import Detections, detect_beads
from tomodask.kernels.beads.diameter import BeadDiameter, estimate_diameter

__all__ = [
    "FILLED",
    "TRACKED",
    "BeadAlignment",
    "BeadDiameter",
    "Centres",
    "Detections",
    "align_beads",
    "centre_beads",
    "detect_beads",
    "estimate_diameter",
]

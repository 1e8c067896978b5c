"""Bundle adjustment: the geometry of a tilt series from where landmarks were seen in it."""

from tomodask.kernels.bundle.adjust import solve
from tomodask.kernels.bundle.automatic import automatic_variables
from tomodask.kernels.bundle.cameras import project, triangulate
from tomodask.kernels.bundle.local import LocalMotion, MotionPrior, local_motion
from tomodask.kernels.bundle.observations import Observations, weights_of_errors
from tomodask.kernels.bundle.solution import Solution, predict
from tomodask.kernels.bundle.variables import Freedom, Mapping, Variables

__all__ = [
    "Freedom",
    "LocalMotion",
    "Mapping",
    "MotionPrior",
    "Observations",
    "Solution",
    "Variables",
    "automatic_variables",
    "local_motion",
    "predict",
    "project",
    "solve",
    "triangulate",
    "weights_of_errors",
]

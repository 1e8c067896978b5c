"""What an image's transform is multiplied by to undo its contrast transfer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from tomodask.errors import ParameterError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Correction", "CorrectionMethod"]

CorrectionMethod = Literal["phase-flip", "wiener", "multiply"]


@dataclass(frozen=True, slots=True)
class Correction:
    """How the contrast transfer is undone.

    Parameters
    ----------
    method
        "phase-flip": by the sign of the transfer; "multiply": by the transfer itself, as averaging
        programs expect; "wiener": by ``c / (c^2 + 1 / snr)``.
    snr
        Signal to noise power ratio that "wiener" assumes at every frequency.

    Raises
    ------
    ParameterError
        If the method does not exist or the ratio is not positive.
    """

    method: CorrectionMethod = "phase-flip"
    snr: float = 10.0

    def __post_init__(self) -> None:
        if self.method not in get_args(CorrectionMethod):
            there = ", ".join(get_args(CorrectionMethod))
            raise ParameterError(f"CTF correction {self.method!r}: give one of {there}")
        if not self.snr > 0:
            raise ParameterError(f"signal to noise ratio {self.snr}: give a positive number")

    def factor(self, transfer: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what is multiplied where the transfer has these values, of their shape."""
        if self.method == "multiply":
            return transfer
        if self.method == "wiener":
            return transfer / (transfer**2 + 1 / self.snr)
        return np.where(transfer < 0, -1.0, 1.0)

"""How free the variables may be: the choice that suits most series.

Nested choices (one rotation; groups; every view free) were compared with priors whose widths are
estimated, on simulated tracks of 4 to 40 landmarks, on one surface and on two, centred to 0.1 and
to 0.5 pixels, with and without jitter of the stage. The priors were the best choice, or within
about a tenth of it (of 4 landmarks, a third): where there is jitter they free every view, where
there is none they fix all, and in between they do what neither can. So the only question left is
which parameters to vary at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomodask.kernels.bundle.variables import Freedom, Variables

if TYPE_CHECKING:
    from tomodask.kernels.bundle.observations import Observations

__all__ = ["automatic_variables"]

#: Landmarks in a typical view from which the image's distortion is estimated too. With fewer, it
#: costs a few percent of accuracy where there is none.
_MANY = 10


def automatic_variables(observations: Observations) -> Variables:
    """Return variables for observations.

    Rotation, tilt and magnification of every view are estimated, and with ten landmarks or more
    in a typical view its stretch and skew.

    Parameters
    ----------
    observations
        Where landmarks were seen.
    """
    estimated, fixed = Freedom("estimated"), Freedom("fixed")
    used = observations.view[observations.weight > 0]
    counts = np.unique(used, return_counts=True)[1]
    distortion = estimated if len(counts) and np.median(counts) >= _MANY else fixed
    return Variables(
        rotation=estimated,
        tilt=estimated,
        magnification=estimated,
        stretch=distortion,
        skew=distortion,
    )

"""Where things are: the one projection model, its local field, and the grids of images and volumes.

* ``projection``: where a point of the specimen lies in each image;
* ``local_field``: how the specimen moves by itself, beyond what whole views do;
* ``heights``: how high along the beam lies what a view shows;
* ``grids``: voxels and pixels.
"""

from tomodask.geometry.grids import VolumeGrid, aligned_shape, centred_coordinates
from tomodask.geometry.heights import height_gradient, slab_heights
from tomodask.geometry.local_field import LocalField
from tomodask.geometry.projection import Projection, SlabModel

__all__ = [
    "LocalField",
    "Projection",
    "SlabModel",
    "VolumeGrid",
    "aligned_shape",
    "centred_coordinates",
    "height_gradient",
    "slab_heights",
]

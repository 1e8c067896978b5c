"""The direction of the tilt axis."""
from __future__ import annotations
def search_tilt_axis(plane, prepared, angles, views, thickness):
    raise NotImplementedError

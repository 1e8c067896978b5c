"""Patches of the field as landmarks: where each is seen in each view.

A patch's displacement in a view is that of its weighted share of the residual along the
derivatives of the views, with a prior for small ones, about where the alignment puts it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from tomodask.kernels.bundle.observations import Observations
from tomodask.kernels.patches.views import turn

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomodask.kernels.patches.joint import Joint
    from tomodask.kernels.patches.views import Geometry

    FloatArray = NDArray[np.float64]
    Images = NDArray[np.float32]

__all__ = ["Patches", "track_patches"]

#: Standard deviation of a patch's displacement that is expected, A.
_LOCAL = 8.0
#: Largest standard error, A, with which a displacement counts as seen, and fraction of the views
#: in which a patch must be seen.
_SEEN, _VIEWS = 8.0, 0.25
#: A displacement beyond this many deviations of its patch's and view's is an outlier.
_OUTLIER = 4.0


@dataclass(frozen=True, eq=False, slots=True)
class Patches:
    """Tracked patches.

    Parameters
    ----------
    observations
        Positions, A; weights are inverse variances relative to the median one.
    point
        (patch, 3) specimen (x, y, z) of the patches' centres, A.
    residual
        (n, 2) raw (x, y) displacement of each observation from the alignment, A: what local
        alignment is made of. It is drawn towards zero where little is seen.
    error
        (n,) standard error of the displacements, A.
    """

    observations: Observations
    point: FloatArray
    residual: FloatArray
    error: FloatArray


def track_patches(
    joint: Joint,
    whitened: Images,
    sources: Images,
    geometry: Geometry,
    used: NDArray[np.int64],
    *,
    patch: float,
    overlap: float,
    mask: NDArray[np.bool_] | None,
    raw_shape: tuple[int, int],
    raw_pixel: float,
) -> Patches:
    """Track patches against the specimen.

    Parameters
    ----------
    joint
        The equations at the solution.
    whitened
        (view, u, v) the views.
    sources
        The most probable ones.
    geometry, used
        The solution, and the views that the equations have.
    patch, overlap
        Edge, A, and the fraction that neighbours share.
    mask
        (y, x) of the untilted raw image, or None.
    raw_shape, raw_pixel
        (y, x) pixels of the raw images and their size, A.
    """
    specimen, frame = joint.specimen, joint.specimen.frame
    pixel = frame.pixel_size
    residual = whitened - specimen.views(sources)
    slopes = joint.derivatives[:, :2]
    # (view, 5): information uu, uv, vv and pull u, v of every pixel, averaged over patches.
    products = np.stack(
        [
            slopes[:, 0] ** 2,
            slopes[:, 0] * slopes[:, 1],
            slopes[:, 1] ** 2,
            slopes[:, 0] * residual,
            slopes[:, 1] * residual,
        ],
        axis=1,
    )
    point = _centres(
        sources, geometry, frame.shape, pixel, patch, overlap, mask, raw_shape, raw_pixel
    )
    axis = geometry.rotation[used]
    found: list[tuple[int, int, FloatArray, FloatArray, float]] = []
    for index, view in enumerate(used):
        cos, sin = np.cos(geometry.tilt[view]), np.sin(geometry.tilt[view])
        # Foreshortened across the axis, as the patch is.
        widths = np.array([max(cos, 0.3), 1.0]) * patch / 2.5 / pixel / 2
        area = 2 * np.pi * widths[0] * widths[1]
        smooth = ndimage.gaussian_filter(products[index], (0, *widths), mode="constant") * area
        at = np.column_stack([point[:, 0] * cos + point[:, 2] * sin, point[:, 1]])
        grid = at / pixel + (np.array(frame.shape) - 1) / 2
        values = np.stack(
            [ndimage.map_coordinates(s, grid.T, order=1, cval=0.0) for s in smooth], axis=1
        )
        for landmark, (uu, uv, vv, pull_u, pull_v) in enumerate(values):
            information = np.array([[uu, uv], [uv, vv]]) + (pixel / _LOCAL) ** 2 * np.eye(2)
            covariance = np.linalg.inv(information) * pixel**2
            error = float(np.sqrt(np.trace(covariance) / 2))
            # The prior alone gives _LOCAL: what is seen must say more than it does.
            if error < _SEEN / np.sqrt(2):
                moved = covariance @ np.array([pull_u, pull_v]) / pixel
                found.append((landmark, index, at[landmark], moved, error))
    return _kept(found, point, geometry, used, axis)


def _kept(
    found: list[tuple[int, int, FloatArray, FloatArray, float]],
    point: FloatArray,
    geometry: Geometry,
    used: NDArray[np.int64],
    axis: FloatArray,
) -> Patches:
    """Return the patches seen in enough views, without outliers."""
    landmark = np.array([f[0] for f in found], np.int64)
    index = np.array([f[1] for f in found], np.int64)
    at = np.array([f[2] for f in found]).reshape(-1, 2)
    moved = np.array([f[3] for f in found]).reshape(-1, 2)
    error = np.array([f[4] for f in found], np.float64)
    size = np.hypot(*moved.T)
    spread = 1.4826 * np.median(size) if len(size) else 0.0
    good = size <= _OUTLIER * max(spread, 1e-9)
    often = np.bincount(landmark[good], minlength=len(point)) >= _VIEWS * len(used)
    good &= often[landmark] if len(landmark) else True
    number = np.cumsum(often) - 1
    turns = np.stack([turn(angle) for angle in axis])[index[good]]
    view = used[index[good]]
    residual = np.einsum("nij,nj->ni", turns, moved[good])
    position = np.einsum("nij,nj->ni", turns, at[good]) + geometry.shift[view] + residual
    variance = error[good] ** 2
    weight = np.median(variance) / variance if len(variance) else variance
    return Patches(
        Observations.create(number[landmark[good]], view, position, weight),
        point[often],
        residual,
        error[good],
    )


def _centres(
    sources: Images,
    geometry: Geometry,
    shape: tuple[int, int],
    pixel: float,
    patch: float,
    overlap: float,
    mask: NDArray[np.bool_] | None,
    raw_shape: tuple[int, int],
    raw_pixel: float,
) -> FloatArray:
    """Return the (patch, 3) centres of the patches of the field, at the height of their matter."""
    step = patch * (1 - overlap)
    x, y = (
        (np.arange(max(1, int(n * pixel / step))) + 0.5) * step
        - max(1, int(n * pixel / step)) * step / 2
        for n in shape
    )
    centre = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2)
    if mask is not None:
        raw = centre @ turn(float(np.median(geometry.rotation))).T / raw_pixel
        column, row = np.rint(raw + (np.array(raw_shape[::-1]) - 1) / 2).astype(np.int64).T
        inside = (column >= 0) & (column < raw_shape[1]) & (row >= 0) & (row < raw_shape[0])
        inside[inside] = mask[row[inside], column[inside]]
        centre = centre[inside]
    depth, width, length = sources.shape
    power = ndimage.gaussian_filter(sources, 1.0) ** 2
    height = (np.arange(depth) - (depth - 1) / 2) * pixel
    z = np.zeros(len(centre))
    half = max(1, int(patch / 2 / pixel))
    for k, (cx, cy) in enumerate(centre / pixel + (np.array([width, length]) - 1) / 2):
        box = power[
            :, max(0, int(cx) - half) : int(cx) + half, max(0, int(cy) - half) : int(cy) + half
        ]
        profile = box.sum(axis=(1, 2), dtype=np.float64)
        profile = np.maximum(profile - np.median(profile), 0)
        if profile.sum() > 0:
            z[k] = profile @ height / profile.sum()
    return np.column_stack([centre, z])

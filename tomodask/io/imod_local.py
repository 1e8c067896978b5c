"""tiltalign's local alignments (``OutputLocalFile``, ``LOCALFILE`` of tilt): areas of their own.

Each of (ny, nx) areas has, for every view, a change of tilt angle, z factors and a transform A, d.
A specimen point (x, y, z) of the area is seen in the aligned image at ``A p + d``, where p is its
projection with the changed tilt and the area's z factors (which replace the global ones), all
relative to the image centre. Between the centres of areas, positions are interpolated linearly in x
and y; outside them the nearest areas hold.

What is known and from where: the layout is that of local files of IMOD's own tests. That x runs
fastest, that the transform maps the ideal position to the image and not back, and that tilts are
changes and z factors totals was settled on such a file with the beads of IMOD's tutorial series: a
larger stretch enlarges the area in the image and makes the x factor smaller at positive tilt. The
centre of an area is taken as a coordinate (index + 0.5), which is uncertain by half a pixel. Files
with local x-tilts have not been seen; they are refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tomodask.errors import ConversionError, DataError, FormatError
from tomodask.geometry import LocalField, Projection
from tomodask.io.imod_table import number, refuse_line, text_lines, write_lines

if TYPE_CHECKING:
    from os import PathLike

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = [
    "LocalAlignments",
    "areas_of_field",
    "field_of_areas",
    "read_local_alignments",
    "write_local_alignments",
]

_HEADER = "areas in x, in y, first x, y, interval in x, y, x-tilt flag, pixel size, z factor flag"
#: Header and images are of other pixels when their sizes differ by more than this fraction.
_SAME_SIZE = 0.01
#: Positions that areas may interpolate wrongly, pixels, and how often areas are halved for it.
_TOLERANCE = 0.05
_HALVINGS = 4


@dataclass(frozen=True, slots=True, eq=False)
class LocalAlignments:
    """Local alignments as the file holds them.

    Attributes
    ----------
    first, interval : tuple of int
        Centre of the first area and distance between centres in (x, y), pixels.
    tilt_change : ndarray of float64, shape (ny, nx, views)
        Degrees, to be added to the global tilt angles.
    z_factor : ndarray of float64, shape (ny, nx, views, 2), or None
        (x, y); None where the global ones hold.
    transforms : ndarray of float64, shape (ny, nx, views, 2, 3)
        From ideal positions to those in the aligned image; shifts in pixels.
    pixel_size : float or None
        A, where the file says; 1 where IMOD did not know it.
    """

    first: tuple[int, int]
    interval: tuple[int, int]
    tilt_change: FloatArray
    z_factor: FloatArray | None
    transforms: FloatArray
    pixel_size: float | None = None

    def centres(self) -> tuple[FloatArray, FloatArray]:
        """Return the (ny,) y and (nx,) x coordinates of the areas' centres, pixels."""
        ny, nx = self.tilt_change.shape[:2]
        return (
            self.first[1] + self.interval[1] * np.arange(ny, dtype=np.float64),
            self.first[0] + self.interval[0] * np.arange(nx, dtype=np.float64),
        )


def read_local_alignments(path: str | PathLike[str]) -> LocalAlignments:
    """Read local alignments.

    Parameters
    ----------
    path : path-like
        The file, often ``NAMElocal.xf``.

    Returns
    -------
    LocalAlignments

    Raises
    ------
    FormatError
        The file is not of this format, is cut short, or has local x-tilts.
    StoreError
        The file cannot be read.
    """
    path, lines = text_lines(path)
    header = [number(word) for word in lines[0].split()]
    head = [value for value in header if value is not None]
    if not 7 <= len(header) == len(head) or min(head[:2]) < 1 or min(head[4:6]) < 0:
        refuse_line(path, 1, lines[0], _HEADER)
    if any(value != int(value) for value in (*head[:7], *head[8:9])):
        refuse_line(path, 1, lines[0], _HEADER)
    nx, ny = int(head[0]), int(head[1])
    if head[6]:
        raise FormatError(
            f"{path}: has local x-tilts, whose sign is not known here; align again with "
            "LocalXTiltOption 0"
        )
    has_factors = len(head) > 8 and head[8] > 0
    values = []
    for place, line in enumerate(lines[1:], 2):
        for word in line.split():
            value = number(word)
            if value is None:
                refuse_line(path, place, line, "numbers")
            values.append(value)
    per_view = 9 if has_factors else 7
    views, left = divmod(len(values), nx * ny * per_view)
    if left or not views:
        raise FormatError(
            f"{path}: has {len(values)} numbers, no multiple of {per_view} a view in {nx} x {ny} "
            "areas: it is cut short; align again"
        )
    table = np.array(values).reshape(ny, nx, per_view * views)
    after = views * (per_view - 6)
    rows = table[:, :, after:].reshape(ny, nx, views, 6)
    return LocalAlignments(
        first=(int(head[2]), int(head[3])),
        interval=(int(head[4]), int(head[5])),
        tilt_change=table[:, :, :views],
        z_factor=table[:, :, views:after].reshape(ny, nx, views, 2) if has_factors else None,
        transforms=np.concatenate(
            (rows[..., :4].reshape(ny, nx, views, 2, 2), rows[..., 4:, np.newaxis]), axis=-1
        ),
        pixel_size=head[7] if len(head) > 7 else None,
    )


def write_local_alignments(path: str | PathLike[str], local: LocalAlignments) -> None:
    """Write local alignments: tilts and shifts to 4 decimals, z factors and matrices to 9.

    Parameters
    ----------
    path : path-like
        The file; it appears only when complete.
    local : LocalAlignments
        The areas.

    Raises
    ------
    ConversionError
        A value is not finite.
    StoreError, SpaceError
        The file cannot be written.
    """
    path = Path(path).absolute()
    arrays = [local.tilt_change, local.transforms]
    if local.z_factor is not None:
        arrays.append(local.z_factor)
    if not all(np.isfinite(array).all() for array in arrays):
        raise ConversionError(f"{path}: the local alignment has values that are no finite numbers")
    ny, nx = local.tilt_change.shape[:2]
    head = (nx, ny, *local.first, *local.interval, 0)
    lines = [
        "".join(f"{value:6d}" for value in head)
        + f" {1.0 if local.pixel_size is None else local.pixel_size:10.5f}"
        + f"{0 if local.z_factor is None else 1:4d}"
    ]
    for area in np.ndindex(ny, nx):
        lines += _wrapped([f"{value:z9.4f}" for value in local.tilt_change[area]], 10)
        if local.z_factor is not None:
            lines += _wrapped([f"{value:z14.9f}" for value in local.z_factor[area].flat], 6)
        lines += [
            "".join(f" {value:z13.9f}" for value in matrix[:, :2].flat)
            + "".join(f" {value:z12.4f}" for value in matrix[:, 2])
            for matrix in local.transforms[area]
        ]
    write_lines(path, lines)


def field_of_areas(
    local: LocalAlignments,
    projection: Projection,
    pixel_size: float,
    image_size: tuple[int, int],
) -> LocalField:
    """Return the local field of local alignments.

    It is sampled at the centres of the areas, halfway between them and on to the edges of the
    image, where areas still turn and stretch what they see.

    Parameters
    ----------
    local : LocalAlignments
        Of all views of the projection.
    projection : Projection
        The global alignment to which they belong.
    pixel_size : float
        Of the aligned images that the file counts in, A.
    image_size : tuple of int
        (x, y) of these images, pixels.

    Returns
    -------
    LocalField

    Raises
    ------
    ConversionError
        The file is of images of another pixel size.
    DataError
        The file has another number of views.
    """
    if local.tilt_change.shape[2] != len(projection):
        raise DataError(
            f"the local alignment has {local.tilt_change.shape[2]} views, the projection "
            f"{len(projection)}; give the files of one alignment"
        )
    named = local.pixel_size
    if named is not None and named != 1 and abs(named / pixel_size - 1) > _SAME_SIZE:
        raise ConversionError(
            f"the local alignment counts in pixels of {named:g} A, not {pixel_size:g} A; give the "
            "size of the images that tiltalign was run on"
        )
    along_y, along_x = (
        (centres - size / 2) * pixel_size
        for centres, size in zip(local.centres(), image_size[::-1], strict=True)
    )
    knot_y, knot_x = (
        _samples(centres, size / 2 * pixel_size)
        for centres, size in zip((along_y, along_x), image_size[::-1], strict=True)
    )
    seen = projection.view_matrix()[:, :2]
    # What each area adds to (x, y, z) and 1, for every view.
    change = np.empty((*local.tilt_change.shape, 2, 4))
    for area in np.ndindex(*local.tilt_change.shape[:2]):
        ideal = Projection.create(
            projection.tilt_angle + local.tilt_change[area],
            x_tilt=projection.x_tilt,
            z_factor=projection.z_factor if local.z_factor is None else local.z_factor[area],
        ).view_matrix()[:, :2]
        matrix = local.transforms[area]
        change[area][:, :, :3] = matrix[:, :, :2] @ ideal - seen
        change[area][:, :, 3] = matrix[:, :, 2] * pixel_size
    weight_y, weight_x = _linear(along_y, knot_y), _linear(along_x, knot_x)
    at_knots = np.einsum("py,qx,yxtij->tpqij", weight_y, weight_x, change, optimize=True)
    shift = (
        at_knots[..., 0] * knot_x[:, None]
        + at_knots[..., 1] * knot_y[:, None, None]
        + at_knots[..., 3]
    )
    return LocalField.create(knot_y, knot_x, shift, at_knots[..., 2])


def areas_of_field(
    field: LocalField,
    projection: Projection,
    pixel_size: float,
    image_size: tuple[int, int],
) -> LocalAlignments:
    """Return local alignments, which shift and have z factors alone, of a local field.

    Areas lie at the field's knots or closer, so that linear interpolation between them is right to
    0.05 pixel in the plane of the tilt axis.

    Parameters
    ----------
    field : LocalField
        Of all views of the projection.
    projection : Projection
        The global alignment.
    pixel_size : float
        Of the aligned images, A.
    image_size : tuple of int
        (x, y) of these images, pixels.

    Returns
    -------
    LocalAlignments

    Raises
    ------
    ConversionError
        The field changes too steeply for areas at whole pixels.
    DataError
        The field has another number of views.
    """
    if len(field) != len(projection):
        raise DataError(
            f"the local field has {len(field)} views, the projection {len(projection)}; give "
            "both of one alignment"
        )
    for halvings in range(_HALVINGS + 1):
        grids = [
            _grid(knots / pixel_size + size / 2, halvings)
            for knots, size in zip((field.knot_y, field.knot_x), image_size[::-1], strict=True)
        ]
        along_y, along_x = (
            (grid - size / 2) * pixel_size
            for grid, size in zip(grids, image_size[::-1], strict=True)
        )
        shift, slope = _on_grid(field, along_y, along_x)
        between = _halfway(along_y), _halfway(along_x)
        linear = np.einsum(
            "py,qx,tyxc->tpqc",
            _linear(along_y, between[0]),
            _linear(along_x, between[1]),
            shift,
            optimize=True,
        )
        wrong = np.abs(linear - _on_grid(field, *between)[0]).max() / pixel_size
        if wrong <= _TOLERANCE:
            break
    else:
        raise ConversionError(
            f"the local field changes so steeply that areas {2**_HALVINGS} times closer than its "
            f"knots are wrong by {wrong:.3g} pixel; use a smoother field"
        )
    sine, cosine = np.sin(np.deg2rad(projection.x_tilt)), np.cos(np.deg2rad(projection.x_tilt))
    # With x-tilt the z factors act on the turned height, which grows with y: taken off the shift.
    factor = slope / cosine[:, None, None, None]
    lifted = shift - factor * along_y[:, None, None] * sine[:, None, None, None]
    transforms = np.zeros((*factor.shape[:3], 2, 3))
    transforms[..., :2] = np.eye(2)
    transforms[..., 2] = lifted / pixel_size
    by_area = (1, 2, 0)
    return LocalAlignments(
        first=(int(grids[1][0]), int(grids[0][0])),
        interval=(_interval(grids[1]), _interval(grids[0])),
        tilt_change=np.zeros(factor.shape[:3]).transpose(by_area),
        z_factor=(projection.z_factor[:, None, None] + factor).transpose(*by_area, 3),
        transforms=transforms.transpose(*by_area, 3, 4),
        pixel_size=pixel_size,
    )


def _wrapped(words: list[str], count: int) -> list[str]:
    return ["".join(words[i : i + count]) for i in range(0, len(words), count)]


def _samples(centres: FloatArray, edge: float) -> FloatArray:
    """Return the centres, the points halfway between them, and on at that distance to the edges."""
    inside = _halfway(centres)
    step = inside[1] - inside[0] if len(inside) > 1 else 2 * edge
    below, above = (
        max(0, int(np.ceil(gap / step))) for gap in (inside[0] + edge, edge - inside[-1])
    )
    return np.concatenate(
        (
            inside[0] - step * np.arange(below, 0, -1),
            inside,
            inside[-1] + step * np.arange(1, above + 1),
        )
    )


def _halfway(points: FloatArray) -> FloatArray:
    """Return the points and those halfway between them."""
    return np.interp(np.arange(2 * len(points) - 1) / 2, np.arange(len(points)), points)


def _linear(knots: FloatArray, points: FloatArray) -> FloatArray:
    """Return the (point, knot) weights of linear interpolation, constant beyond the last knots."""
    return np.stack([np.interp(points, knots, row) for row in np.eye(len(knots))], axis=1)


def _grid(knots: FloatArray, halvings: int) -> FloatArray:
    """Return whole, even coordinates from the first knot to just beyond the last.

    Beyond its last knot a field stays as it is, which areas that lie across the knot would blur.
    """
    first = int(np.floor(knots[0]))
    extent = int(np.ceil(knots[-1])) - first
    if extent == 0:
        return np.array([float(first)])
    widest = max(1, extent // ((len(knots) - 1) * 2**halvings))
    intervals = np.arange(max(1, widest * 3 // 4), widest + 1)
    beyond = -extent % intervals
    interval = int(intervals[::-1][np.argmin(beyond[::-1])])
    return first + interval * np.arange(-(-extent // interval) + 1, dtype=np.float64)


def _interval(grid: FloatArray) -> int:
    return int(grid[1] - grid[0]) if len(grid) > 1 else 1


def _on_grid(field: LocalField, y: FloatArray, x: FloatArray) -> tuple[FloatArray, FloatArray]:
    values = [field.on_grid(view, y, x) for view in range(len(field))]
    return np.stack([shift for shift, _ in values]), np.stack([slope for _, slope in values])

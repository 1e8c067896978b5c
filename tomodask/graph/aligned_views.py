"""One view, read and resampled; and the scratch of such views that back-projection reads.

The scratch holds bands of lanes, the layout of the back-projection kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import google_crc32c
import numpy as np

from tomodask.engine.files import write_whole
from tomodask.engine.shards import ShardGrid, read_shard
from tomodask.errors import DataError, FormatError, ParameterError
from tomodask.geometry import aligned_shape
from tomodask.kernels.resample import NODE_SPACING, resample, spline_image, transform_sizes

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from tomodask.geometry import Projection
    from tomodask.graph.edits import Edits
    from tomodask.graph.local_correction import MidPlane

__all__ = [
    "AlignedGrid",
    "ViewSource",
    "align_view",
    "aligned_grid",
    "band_file",
    "cut_bands",
    "read_band",
    "view_bytes",
    "write_bands",
]

#: Width of the taper at the images' edges, as a fraction of the shorter edge.
_TAPER = 1 / 64


@dataclass(frozen=True, slots=True)
class AlignedGrid:
    """The pixels of the aligned images.

    Parameters
    ----------
    shape
        (v, u) number of pixels.
    pixel_size
        A.
    first
        (v, u) of the first pixel, A.
    """

    shape: tuple[int, int]
    pixel_size: float
    first: tuple[float, float]

    @property
    def nbytes(self) -> int:
        """Bytes of one image."""
        return 4 * self.shape[0] * self.shape[1]


@dataclass(frozen=True, slots=True)
class ViewSource:
    """Where the raw images are and how large their pixels.

    Parameters
    ----------
    images
        Folder of the stored (tilt, y, x) array, or None for images in memory.
    shape
        (y, x) of an image.
    pixel_size
        A.
    checksums
        CRC-32C of every view's pixels; empty when unknown.
    layout
        Of the stored array; one shard is one view.
    edits
        Applied whenever an image is read.
    """

    images: Path | None
    shape: tuple[int, int]
    pixel_size: float
    checksums: tuple[int, ...] = ()
    layout: ShardGrid | None = None
    edits: Edits | None = None

    def read(self, view: int) -> NDArray[np.float32]:
        """Return one image (y, x), with its edits.

        Raises
        ------
        FormatError
            If the pixels are not those that were imported.
        """
        if self.images is None or self.layout is None:
            raise ParameterError("these images are in memory; compute them, or store the series")
        image = np.ascontiguousarray(read_shard(self.images, self.layout, (view, 0, 0))[0])
        if self.checksums and google_crc32c.value(image) != self.checksums[view]:
            raise FormatError(
                f"view {view} of {self.images} is not what was imported: its checksum differs; "
                "the store is damaged there, import the stack again"
            )
        return image if self.edits is None else self.edits.apply(view, image)


def align_view(
    image: NDArray[np.float32],
    view: int,
    source: ViewSource,
    matrix: NDArray[np.float64],
    shift: NDArray[np.float64],
    grid: AlignedGrid,
    lanes: int | None = None,
    mid_plane: MidPlane | None = None,
    oversampling: float = 1.0,
) -> tuple[NDArray[np.float32], float]:
    """Resample one image; the level of its border is subtracted.

    Parameters
    ----------
    image
        (y, x) raw pixels.
    view
        Its number, for errors.
    source
        Raw pixel size.
    matrix, shift
        ``raw = matrix (u, v) + shift``, (2, 2) and (2,), A.
    grid
        Pixels of the result.
    lanes
        Rows of v per band; None for an ordinary image.
    mid_plane
        Displacement by a local field, for bands.
    oversampling
        As for :func:`~tomodask.kernels.resample.spline_image`.

    Returns
    -------
    aligned : (band, u, lane) float32, or (1, v, u) without `lanes`
    level : what was subtracted

    Raises
    ------
    DataError
        If the image holds values that are not finite.
    """
    centre = (np.array(source.shape[::-1]) - 1) / 2
    start = matrix @ np.array([grid.first[1], grid.first[0]]) + shift
    first = start / source.pixel_size + centre
    step = matrix * (grid.pixel_size / source.pixel_size)  # columns: per pixel of u, of v
    spline = spline_image(
        image,
        binning=grid.pixel_size / source.pixel_size,
        taper=max(4, int(min(source.shape) * _TAPER)),
        oversampling=oversampling,
    )
    if not np.isfinite(spline.coefficients[0, 0]):  # one bad pixel spoils the whole transform
        count = int(np.count_nonzero(~np.isfinite(image)))
        raise DataError(
            f"view {view} of {source.images or 'the images'} has {count} pixels that are not "
            "finite numbers; exclude the view, or mend the stack and import it again"
        )
    if lanes is None:
        out = np.empty((1, *grid.shape), np.float32)
        along, lane_step = step[::-1, 1], step[::-1, 0]
    else:
        out = np.empty((-(-grid.shape[0] // lanes), grid.shape[1], lanes), np.float32)
        along, lane_step = step[::-1, 0], step[::-1, 1]
    displacement = None
    if mid_plane is not None:
        spacing = NODE_SPACING * grid.pixel_size
        v, u = (
            start + spacing * np.arange((n - 1) // NODE_SPACING + 2)
            for start, n in zip(
                grid.first, (out.shape[0] * out.shape[2], out.shape[1]), strict=True
            )
        )
        moved = mid_plane.at(v, u)
        displacement = (moved @ matrix.T)[:, :, ::-1] / source.pixel_size
    resample(
        spline,
        first=(first[1], first[0]),
        step=(along[0], along[1]),
        lane_step=(lane_step[0], lane_step[1]),
        out=out,
        displacement=displacement,
    )
    return out, spline.level


def view_bytes(
    source: ViewSource, grid: AlignedGrid, lanes: int | None, oversampling: float = 1.0
) -> int:
    """Return the bytes of the arrays that reading and aligning one view holds at once."""
    shape = source.shape
    padded, inverse = transform_sizes(shape, grid.pixel_size / source.pixel_size, oversampling)
    raw = shape[0] * shape[1] * 4
    spectrum, samples = (4 * rows * (columns + 2) for rows, columns in (padded, inverse))
    transform = spectrum + samples
    if inverse != padded:
        transform += 3 * min(spectrum, samples) // 2  # what is cropped, or padded, half at a time
    rows = grid.shape[0] if lanes is None else -(-grid.shape[0] // lanes) * lanes
    out = rows * grid.shape[1] * 4
    # Reading holds the decoded and the contiguous image; a transform its input and its spectrum;
    # the spline sum coefficients and the output beside the image.
    most = max(raw, transform, 2 * spectrum, 2 * samples, samples + out)
    return raw + most + spectrum // 8


def band_file(scratch: Path, view: int) -> Path:
    """Return the scratch file of one view."""
    return scratch / f"view_{view:04d}.f4"


def cut_bands(rows: NDArray[np.float32], skip: int, out: NDArray[np.float32]) -> None:
    """Cut rows (row, v) into bands of lanes.

    Parameters
    ----------
    rows
        float32.
    skip
        v of the first lane of `out` among those of `rows`; may be negative.
    out
        (band, row, lane) float32, written where `rows` has such a v.
    """
    lanes = out.shape[2]
    for band, target in enumerate(out):
        low = skip + band * lanes
        part = rows[:, max(low, 0) : max(low + lanes, 0)]
        target[:, max(-low, 0) : max(-low, 0) + part.shape[1]] = part


def write_bands(bands: NDArray[np.float32], path: Path) -> None:
    """Write the bands of one view into its scratch file.

    The file is plain float32 (band, row, lane): a band of all its rows is one contiguous read.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(path) as temporary:
        # Not ndarray.tofile, which loses the reason for which a write fails.
        temporary.write_bytes(bands.data)


def read_band(path: Path, rows: int, lanes: int, band: int) -> NDArray[np.float32]:
    """Return one band (row, lane) of a view from its scratch file.

    Raises
    ------
    FormatError
        If the file is shorter than the band.
    """
    count = rows * lanes
    values = np.fromfile(path, np.float32, count=count, offset=band * count * 4)
    if values.size != count:
        raise FormatError(f"{path} is truncated; remove it and run the same command again")
    return values.reshape(rows, lanes)


def aligned_grid(
    projection: Projection, shape: tuple[int, int], pixel_size: float, binning: float
) -> AlignedGrid:
    """Return the pixels of the aligned stack of a series at a binning.

    Raises
    ------
    ParameterError
        If the binning is below 1 or leaves no pixels.
    """
    if not (np.isfinite(binning) and binning >= 1):
        raise ParameterError(f"binning {binning}: give a number >= 1")
    full = aligned_shape(shape, float(np.median(projection.tilt_axis_angle)))
    size = (int(full[0] / binning), int(full[1] / binning))
    if min(size) < 8:
        raise ParameterError(
            f"binning {binning:g} leaves {size[1]} x {size[0]} of {full[1]} x {full[0]} pixels; "
            "give a smaller one"
        )
    spacing = pixel_size * binning
    return AlignedGrid(size, spacing, (-(size[0] - 1) / 2 * spacing, -(size[1] - 1) / 2 * spacing))

"""Projections whose rows and lanes are displaced by a smooth field.

A row of a view's projection is displaced along u and along its lanes by amounts that vary from
lane to lane: by a cubic along u, where the rows are oversampled, then by 8 Lanczos-windowed sinc
weights along the lanes [1]_. Within 16 lanes the weights are linear in the displacement, so that
it is continuous, and every weight still serves a whole vector.

References
----------
.. [1] Duchon, J. Appl. Meteorol. 18 (1979) 1016,
   doi:10.1175/1520-0450(1979)018<1016:LFIOAT>2.0.CO;2.
.. [2] Keys, IEEE Trans. Acoust. Speech Signal Process. 29 (1981) 1153,
   doi:10.1109/TASSP.1981.1163711.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tomodask.kernels._jit import njit
from tomodask.kernels._ramp import WIDTH, make_ramp_filter
from tomodask.kernels.shear import REACH

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["GUARD_ROWS", "NODE_LANES", "NODE_ROWS", "displace_rows"]

#: Lanes and rows from one node of the displacements to the next.
NODE_LANES = WIDTH
NODE_ROWS = 32
#: Rows of zeros that :func:`displace_rows` needs before and after the data.
GUARD_ROWS = 8
#: Rows that share their weights.
_BLOCK = 4
#: Weights are tabulated for this many fractions of a sample.
_PHASES = 128
_ROW_TAPS = 4
_LANE_TAPS = 2 * REACH

_along_rows = make_ramp_filter(_ROW_TAPS, _BLOCK, along_rows=True)
_along_lanes = make_ramp_filter(_LANE_TAPS, _BLOCK, along_rows=False)


def _lanczos(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    values = np.sinc(distance) * np.sinc(distance / REACH) * (np.abs(distance) < REACH)
    normalised: NDArray[np.float64] = values / values.sum(axis=1, keepdims=True)
    return normalised


def _keys(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cubic convolution kernel of [2]_ with its parameter -1/2."""
    d = np.abs(distance)
    near = (1.5 * d - 2.5) * d**2 + 1
    far = ((-0.5 * d + 2.5) * d - 4) * d + 2
    values: NDArray[np.float64] = np.where(d < 1, near, np.where(d < 2, far, 0))
    return values


def _table(taps: int, weights: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return for each fraction the weights, then their derivatives, in one flat table."""
    slopes = np.gradient(weights, 1 / _PHASES, axis=0, edge_order=2)
    table = np.concatenate([weights, slopes], axis=1).astype(np.float32)
    assert table.shape == (_PHASES + 1, 2 * taps)
    return table.reshape(-1)


def _distances(taps: int) -> NDArray[np.float64]:
    fractions = np.arange(_PHASES + 1) / _PHASES
    result: NDArray[np.float64] = fractions[:, None] - (np.arange(taps) - (taps // 2 - 1))[None, :]
    return result


_ROW_WEIGHTS = _table(_ROW_TAPS, _keys(_distances(_ROW_TAPS)))
_LANE_WEIGHTS = _table(_LANE_TAPS, _lanczos(_distances(_LANE_TAPS)))


def displace_rows(
    source: NDArray[np.float32],
    along_u: NDArray[np.float32],
    along_v: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Displace one view's projection.

    First ``source[row + along_u, lane]``, beyond its guard rows, then from that
    ``out[row, lane] = moved[row, lane + margin + along_v]``, with ``margin`` half of the lanes that
    the source has more.

    Parameters
    ----------
    source
        (row + 2 GUARD_ROWS, lane) float32, C-contiguous, zero in the guard rows.
    along_u, along_v
        (row node, lane node) float32: rows, and lanes, at every `NODE_ROWS`-th row, from row 0 to
        beyond the last, and every `NODE_LANES`-th lane, both ends included: of the source, and of
        `out`. Outside the source's rows there are zeros; its lanes must not be asked for within 4
        of their ends.
    out
        (row, lane) float32, C-contiguous, written.
    """
    rows, lanes = out.shape
    wide = source.shape[1]
    margin, odd = divmod(wide - lanes, 2)
    nodes = (rows - 1) // NODE_ROWS + 2
    if lanes % NODE_LANES or wide % NODE_LANES or odd or margin < REACH:
        raise ValueError(f"{wide} lanes do not surround {lanes}, multiples of {NODE_LANES}")
    if (
        source.shape[0] != rows + 2 * GUARD_ROWS
        or along_u.shape != (nodes, wide // NODE_LANES + 1)
        or along_v.shape != (nodes, lanes // NODE_LANES + 1)
        or rows < _BLOCK
    ):
        raise ValueError(f"shapes do not fit: {source.shape}, {along_u.shape}, {out.shape}")
    _displace(
        source.reshape(-1),
        rows,
        wide,
        along_u,
        along_v,
        _ROW_WEIGHTS,
        _LANE_WEIGHTS,
        np.empty(_BLOCK * wide, np.float32),
        out.reshape(-1),
        lanes,
    )


@njit
def _displace(
    source: NDArray[np.float32],
    rows: int,
    wide: int,
    along_u: NDArray[np.float32],
    along_v: NDArray[np.float32],
    row_weights: NDArray[np.float32],
    lane_weights: NDArray[np.float32],
    block: NDArray[np.float32],
    out: NDArray[np.float32],
    lanes: int,
) -> None:
    margin = (wide - lanes) // 2
    last_row = rows + 2 * GUARD_ROWS - (_ROW_TAPS + _BLOCK - 1)
    last_lane = wide - (NODE_LANES + _LANE_TAPS - 1)
    for begin in range(0, rows, _BLOCK):
        row = min(begin, rows - _BLOCK)
        middle = np.float32(row + 0.5 * (_BLOCK - 1)) / np.float32(NODE_ROWS)
        node = int(middle)
        weight = middle - np.float32(node)
        left = _between(along_u, node, weight, 0)
        for lane in range(0, wide, NODE_LANES):
            right = _between(along_u, node, weight, lane // NODE_LANES + 1)
            whole, phase = _split(np.float32(0.5) * (left + right))
            start = row + GUARD_ROWS + whole - (_ROW_TAPS // 2 - 1)
            if 0 <= start <= last_row:
                _along_rows(
                    source, start * wide + lane, 1, wide,
                    row_weights, phase * (2 * _ROW_TAPS), right - left,
                    block, lane, wide,
                )  # fmt: skip
            else:
                for i in range(lane, _BLOCK * wide, wide):
                    for j in range(i, i + NODE_LANES):
                        block[j] = np.float32(0)
            left = right
        left = _between(along_v, node, weight, 0)
        for lane in range(0, lanes, NODE_LANES):
            right = _between(along_v, node, weight, lane // NODE_LANES + 1)
            whole, phase = _split(np.float32(0.5) * (left + right))
            start = margin + lane + whole - (_LANE_TAPS // 2 - 1)
            start = min(max(start, 0), last_lane)
            _along_lanes(
                block, start, 1, wide,
                lane_weights, phase * (2 * _LANE_TAPS), right - left,
                out, row * lanes + lane, lanes,
            )  # fmt: skip
            left = right


@njit
def _between(offsets: NDArray[np.float32], node: int, weight: np.float32, lane_node: int) -> Any:
    """Return an offset between two nodes along the rows."""
    near = offsets[node, lane_node]
    return near + weight * (offsets[node + 1, lane_node] - near)


@njit
def _split(offset: np.float32) -> tuple[int, int]:
    """Return the whole samples of an offset and the nearest tabulated fraction."""
    whole = int(np.floor(offset))
    return whole, int((offset - np.float32(whole)) * np.float32(_PHASES) + np.float32(0.5))

"""Displaced rows and lanes against the function that they sample."""

from __future__ import annotations

import numpy as np
import pytest

from tomodask.kernels.local_shift import GUARD_ROWS, NODE_LANES, NODE_ROWS, displace_rows

ROWS, LANES, MARGIN = 138, 48, 8
WIDE = LANES + 2 * MARGIN
#: Rows are oversampled twice: nothing is near their Nyquist frequency. Lanes are not.
U, V = 0.6, 1.4


def wave(row: np.ndarray, lane: np.ndarray) -> np.ndarray:
    return np.cos(U * row + 0.3) * np.sin(V * lane + 0.02 * row)


def projection_of(function: object = wave) -> np.ndarray:
    source = np.zeros((ROWS + 2 * GUARD_ROWS, WIDE), np.float32)
    row, lane = np.indices((ROWS, WIDE))
    source[GUARD_ROWS:-GUARD_ROWS] = function(row, lane)
    return source


def nodes(lanes: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and lanes of the nodes."""
    rows = np.arange((ROWS - 1) // NODE_ROWS + 2) * float(NODE_ROWS)
    return rows[:, None], np.arange(0, lanes + 1, NODE_LANES)[None, :].astype(float)


def test_nothing_moves_without_offsets() -> None:
    source = projection_of()
    offsets = [np.zeros(np.broadcast_shapes(*(n.shape for n in nodes(w)))) for w in (WIDE, LANES)]
    out = np.empty((ROWS, LANES), np.float32)
    displace_rows(source, *(o.astype(np.float32) for o in offsets), out)
    np.testing.assert_allclose(
        out, source[GUARD_ROWS:-GUARD_ROWS, MARGIN : MARGIN + LANES], atol=1e-6
    )


def test_follows_offsets_that_are_linear() -> None:
    def rows_by(row: np.ndarray, lane: np.ndarray) -> np.ndarray:
        return 2.3 - 0.012 * row + 0.017 * lane

    def lanes_by(row: np.ndarray, lane: np.ndarray) -> np.ndarray:
        return -1.7 + 0.004 * row - 0.019 * lane

    out = np.empty((ROWS, LANES), np.float32)
    displace_rows(
        projection_of(),
        rows_by(*nodes(WIDE)).astype(np.float32),
        lanes_by(*nodes(LANES)).astype(np.float32),
        out,
    )
    row, lane = np.indices(out.shape)
    at = lane + MARGIN + lanes_by(row, lane)
    expected = wave(row + rows_by(row, at), at)
    # A cubic convolution follows 0.1 cycles per row to 5e-3, 8 weights 0.22 cycles per lane to
    # 1e-2; four rows share their weights, which puts them 0.02 rows off at these slopes.
    error = (out - expected)[6:-6]
    assert np.abs(error).max() < 0.05
    assert np.sqrt((error**2).mean()) < 0.015


def test_lanes_change_without_steps() -> None:
    """Where one vector of lanes ends the next goes on, though both have weights of their own."""
    source = projection_of(lambda row, lane: np.sin(0.8 * lane))
    along_v = 0.013 * nodes(LANES)[1] + 0 * nodes(LANES)[0]
    along_u = np.zeros(np.broadcast_shapes(*(n.shape for n in nodes(WIDE))), np.float32)
    out = np.empty((ROWS, LANES), np.float32)
    displace_rows(source, along_u, along_v.astype(np.float32), out)
    lane = np.arange(LANES)
    found = out[70] - np.sin(0.8 * (lane * 1.013 + MARGIN))
    # 0.01 is what the 8 weights miss anywhere; a vector's lanes change by 0.2
    assert np.abs(found).max() < 0.012


def test_beyond_the_rows_there_is_nothing() -> None:
    source = projection_of(lambda row, lane: np.ones(row.shape))
    out = np.full((ROWS, LANES), np.nan, np.float32)
    zero = np.zeros(np.broadcast_shapes(*(n.shape for n in nodes(LANES))), np.float32)
    for offset in (-40.0, 40.0):
        along = np.full(np.broadcast_shapes(*(n.shape for n in nodes(WIDE))), offset, np.float32)
        displace_rows(source, along, zero, out)
        there = np.arange(ROWS) + offset
        outside, inside = (there < -12) | (there > ROWS + 11), (there > 6) & (there < ROWS - 7)
        assert (out[outside] == 0).all()
        np.testing.assert_allclose(out[inside], 1, atol=1e-6)


def test_shapes_are_checked() -> None:
    along_u, along_v = (
        np.zeros(np.broadcast_shapes(*(n.shape for n in nodes(w))), np.float32)
        for w in (WIDE, LANES)
    )
    out = np.empty((ROWS, LANES), np.float32)
    with pytest.raises(ValueError, match="shapes"):
        displace_rows(projection_of(), along_u[1:], along_v, out)
    with pytest.raises(ValueError, match="lanes"):
        displace_rows(projection_of(), along_u, along_v, out[:, :40])

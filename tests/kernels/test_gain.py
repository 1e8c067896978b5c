"""Correcting frames by a gain and filling their defects."""

from __future__ import annotations

import numpy as np
import pytest

from tomodask.errors import DataError, ParameterError
from tomodask.kernels.gain import (
    ORIENTATIONS,
    Orientation,
    correct_frame,
    dead_pixels,
    expand,
    orient,
    plan_repair,
)

RNG_SHAPE = (64, 80)


def corrected(frames, gain=None, repair=None, *, first=0):
    """(frame, y, x) counts, frame after frame."""
    numbered = enumerate(frames, first)
    return np.array([correct_frame(frame, gain, repair, number=n) for n, frame in numbered])


def gain_of(shape: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(1).uniform(0.8, 1.2, shape).astype(np.float32)


# Orientations.


def test_a_quarter_turn_is_counter_clockwise_with_y_up() -> None:
    image = np.zeros((3, 4), int)
    image[0, 3] = 1  # the lower right corner
    turned = orient(image, Orientation(90))
    assert turned.shape == (4, 3)
    assert turned[3, 2] == 1  # the upper right corner


def test_a_flip_is_upside_down_and_after_the_turn() -> None:
    image = np.arange(12).reshape(3, 4)
    np.testing.assert_array_equal(orient(image, Orientation(0, True)), image[::-1])
    expected = orient(image, Orientation(90))[::-1]
    np.testing.assert_array_equal(orient(image, Orientation(90, True)), expected)


def test_as_motioncor_rotates() -> None:
    # AreTomo3's G90Rotate2D: new (x, y) about the centre takes the old (x cos + y sin,
    # -x sin + y cos).
    image = np.random.default_rng(0).random((5, 7))
    for turns in range(4):
        cos, sin = [(1, 0), (0, 1), (-1, 0), (0, -1)][turns]
        shape = image.shape if turns % 2 == 0 else image.shape[::-1]
        expected = np.empty(shape)
        for row in range(shape[0]):
            for column in range(shape[1]):
                x, y = column - (shape[1] - 1) / 2, row - (shape[0] - 1) / 2
                old_x, old_y = x * cos + y * sin, -x * sin + y * cos
                expected[row, column] = image[int(old_y + 2), int(old_x + 3)]
        np.testing.assert_array_equal(orient(image, Orientation(90 * turns)), expected)


def test_the_eight_are_different_and_named() -> None:
    image = np.arange(16).reshape(4, 4)
    images = {orient(image, orientation).tobytes() for orientation in ORIENTATIONS}
    assert len(images) == 8
    for orientation in ORIENTATIONS:
        assert Orientation.parse(str(orientation)) == orientation
        assert orient(image, orientation).flags.c_contiguous


def test_left_to_right() -> None:
    image = np.arange(12).reshape(3, 4)
    found = orient(image, Orientation.parse("fliplr"))
    np.testing.assert_array_equal(found, image[:, ::-1])
    found = orient(image, Orientation.parse("rot90 fliplr"))
    np.testing.assert_array_equal(found, orient(image, Orientation(90))[:, ::-1])
    assert Orientation.parse("flipud") == Orientation(0, True)


@pytest.mark.parametrize("text", ["", " ", "rot0"])
def test_nothing_is_done_by_default(text: str) -> None:
    assert Orientation.parse(text) == Orientation()


@pytest.mark.parametrize(
    "text", ["rot45", "rot", "flip", "rot90 flipud fliplr", "flipud rot90", "90"]
)
def test_what_is_no_orientation(text: str) -> None:
    with pytest.raises(ParameterError, match="rot270 flipud"):
        Orientation.parse(text)
    with pytest.raises(ParameterError, match="45"):
        Orientation(45)


# Super-resolution.


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_expanding_repeats(factor: int) -> None:
    gain = gain_of((5, 7))
    found = expand(gain, (5 * factor, 7 * factor))
    np.testing.assert_array_equal(found, np.kron(gain, np.ones((factor, factor), np.float32)))


@pytest.mark.parametrize("shape", [(7, 5), (10, 7), (5, 14), (15, 21), (2, 3), (11, 14), (40, 56)])
def test_shapes_that_do_not_fit(shape: tuple[int, int]) -> None:
    with pytest.raises(DataError, match=rf"\(5, 7\).*\({shape[0]}, {shape[1]}\)"):
        expand(gain_of((5, 7)), shape)


# Correction.


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16, np.float32])
def test_counts_times_gain(dtype: type) -> None:
    counts = np.random.default_rng(0).integers(0, 100, (3, *RNG_SHAPE)).astype(dtype)
    gain = gain_of(RNG_SHAPE)
    found = corrected(counts, gain)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, counts.astype(np.float32) * gain)
    np.testing.assert_array_equal(corrected(counts), counts)
    out = np.empty(RNG_SHAPE, np.float32)
    assert correct_frame(counts[1], gain, out=out) is out
    np.testing.assert_array_equal(out, found[1])


def test_dead_pixels_of_a_gain() -> None:
    gain = np.array([[1, 0, np.nan], [np.inf, -1, 0.5]], np.float32)
    np.testing.assert_array_equal(dead_pixels(gain), [[False, True, True], [True, True, False]])


def mixed_defects() -> np.ndarray:
    defects = np.zeros(RNG_SHAPE, bool)
    defects[:, 10:12] = True
    defects[30] = True
    defects[40:46, 50:57] = True
    defects[[0, 0, 5, 63, 60], [0, 79, 33, 0, 77]] = True
    return defects


def test_donors_are_the_nearest_good_pixels() -> None:
    defects = mixed_defects()
    repair = plan_repair(defects)
    np.testing.assert_array_equal(repair.places, np.flatnonzero(defects))
    good = np.argwhere(~defects)
    for place, donors in zip(repair.places[::7], repair.donors[::7], strict=True):
        assert len(set(donors.tolist())) == 8
        assert not defects.ravel()[donors].any()
        at = np.array(np.unravel_index(place, defects.shape))
        distance = np.sort(((good - at) ** 2).sum(axis=1))[:8]
        rows, columns = np.unravel_index(donors, defects.shape)
        found = (rows - at[0]) ** 2 + (columns - at[1]) ** 2
        np.testing.assert_array_equal(np.sort(found), distance)


def test_defects_are_filled_and_nothing_else_changes() -> None:
    defects = mixed_defects()
    counts = np.random.default_rng(0).poisson(50, RNG_SHAPE).astype(np.int16)
    counts[defects] = 30_000
    gain = gain_of(RNG_SHAPE)
    gain[defects] = 0
    found = correct_frame(counts, gain, plan_repair(defects))
    np.testing.assert_array_equal(found[~defects], (counts * gain)[~defects])
    assert found.max() < 200
    assert set(found[defects].tolist()) <= set(found[~defects].tolist())


def test_filling_follows_a_gradient() -> None:
    defects = mixed_defects()
    y, x = np.indices(RNG_SHAPE)
    ramp = (3 * x + 2 * y).astype(np.float32)
    total = sum(correct_frame(ramp, None, plan_repair(defects), number=n) for n in range(200)) / 200
    interior = defects.copy()
    interior[:1] = interior[-1:] = interior[:, :1] = interior[:, -1:] = False
    assert np.abs(total - ramp)[interior].max() < 12
    assert np.abs(total - ramp)[interior].mean() < 1.5


def test_fillings_have_the_noise_of_pixels() -> None:
    rng = np.random.default_rng(4)
    defects = np.zeros((64, 64), bool)
    defects[8:56:4, 8:56:4] = True
    frames = rng.poisson(0.8, (120, 64, 64)).astype(np.uint8)
    filled = corrected(frames, None, plan_repair(defects))[:, defects]
    # Poisson counts still, and unrelated from frame to frame.
    assert filled.mean() == pytest.approx(0.8, rel=0.02)
    assert filled.var() == pytest.approx(0.8, rel=0.04)
    assert filled.sum(axis=0).var() == pytest.approx(120 * 0.8, rel=0.35)
    product = (filled[1:] - filled.mean()) * (filled[:-1] - filled.mean())
    assert abs(product.mean()) < 0.02


def test_halves_add_up_to_the_whole() -> None:
    frames = np.random.default_rng(0).poisson(3, (6, *RNG_SHAPE)).astype(np.uint8)
    repair, gain = plan_repair(mixed_defects()), gain_of(RNG_SHAPE)
    whole = corrected(frames, gain, repair)
    np.testing.assert_array_equal(corrected(frames[2:5], gain, repair, first=2), whole[2:5])
    for number in range(6):
        single = correct_frame(frames[number], gain, repair, number=number)
        np.testing.assert_array_equal(single, whole[number])


def test_what_cannot_be_filled() -> None:
    defects = np.zeros((200, 200), bool)
    defects[20:180, 20:180] = True
    with pytest.raises(DataError, match=r"defects, the first at row \d+, column \d+"):
        plan_repair(defects)
    assert len(plan_repair(np.zeros((8, 8), bool)).places) == 0


def test_shapes_must_agree() -> None:
    counts = np.ones((4, 5), np.uint8)
    with pytest.raises(DataError, match=r"gain is of \(5, 4\).*frame of \(4, 5\)"):
        correct_frame(counts, gain_of((5, 4)))
    with pytest.raises(DataError, match="repair is of"):
        correct_frame(counts, None, plan_repair(np.zeros((5, 5), bool)))
    with pytest.raises(DataError, match="output is of"):
        correct_frame(counts, None, out=np.empty((4, 4), np.float32))

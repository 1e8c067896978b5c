"""Sums of moved frames against functions known everywhere, and against shifts of transforms."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tomodask.errors import DataError, ParameterError
from tomodask.kernels.frame_sums import moving_frames, sum_bytes, sum_frames

if TYPE_CHECKING:
    from collections.abc import Callable

#: (y, x) frequencies in cycles per pixel, up to 0.85 of Nyquist along an axis.
WAVES = ((0.11, 0.31), (0.42, -0.2), (0.05, -0.425), (-0.33, 0.27), (0.01, 0.02))
EDGE = 24  # what lies further inside knows nothing of the border


def waves(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return 5 + sum(np.cos(2 * np.pi * (fy * y + fx * x) + i) for i, (fy, fx) in enumerate(WAVES))


def fourier_shifted(image: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """The image, periodic, with its content moved by `shift`."""
    fy = np.fft.fftfreq(image.shape[0])[:, None]
    fx = np.fft.fftfreq(image.shape[1])[None, :]
    ramp = np.exp(-2j * np.pi * (fy * shift[0] + fx * shift[1]))
    return np.fft.ifft2(np.fft.fft2(image) * ramp).real


def local(steepness: float) -> Callable[[int, np.ndarray, np.ndarray], np.ndarray]:
    """A smooth displacement whose largest gradient is about `steepness`, zero in the mean."""

    def displacement(frame: int, ys: np.ndarray, xs: np.ndarray) -> np.ndarray:
        y, x = np.meshgrid(ys, xs, indexing="ij")
        scale = (-1) ** frame * steepness * 600
        return np.stack([scale * np.sin((x + y) / 960), scale * np.cos(y / 640 - 0.3)], axis=-1)

    return displacement


@pytest.mark.parametrize("shape", [(140, 1101), (131, 90)])
def test_shifts_are_exact(shape: tuple[int, int]) -> None:
    shift = np.random.default_rng(0).uniform(-6, 6, (5, 2))
    y, x = np.indices(shape)
    frames = np.stack([waves(y - s[0], x - s[1]) for s in shift]).astype(np.float32)
    full, even, odd = sum_frames(frames, shift)
    inside = (slice(EDGE, -EDGE),) * 2
    # each wave comes back within 0.7 % of its amplitude: here where all err the same way
    for result, count in ((full, 5), (even, 3), (odd, 2)):
        error = (result - count * waves(y, x))[inside]
        assert np.abs(error).max() < 0.007 * len(WAVES) * count
        assert error.std() < 0.005 * count


def power_along_axes(image: np.ndarray, frequency: float, width: float = 0.015) -> float:
    window = np.hanning(image.shape[0])[:, None] * np.hanning(image.shape[1])
    power = np.abs(np.fft.fft2((image - image.mean()) * window)) ** 2
    fy = np.abs(np.fft.fftfreq(image.shape[0]))[:, None]
    fx = np.abs(np.fft.fftfreq(image.shape[1]))[None, :]
    along_x = (np.abs(fx - frequency) < width) & (fy < 0.1)
    along_y = (np.abs(fy - frequency) < width) & (fx < 0.1)
    return float(power[along_x | along_y].sum())


def test_high_frequencies_are_kept() -> None:
    """Against frames that never moved: the signal of the sum, and the noise of one frame."""
    rng = np.random.default_rng(1)
    signal, noise = rng.normal(size=(2, 500, 540))
    shift = rng.uniform(-4, 4, (12, 2))
    moved = np.stack([fourier_shifted(signal, s) for s in shift]).astype(np.float32)
    full, _, _ = sum_frames(moved, shift)
    alone, _, _ = sum_frames(noise[None].astype(np.float32), [[0.5, 0.5]])
    for share, lost, lost_at_half in ((0.3, 0.01, 0.01), (0.6, 0.01, 0.01), (0.8, 0.01, 0.01)):
        kept = power_along_axes(full, share / 2) / power_along_axes(12 * signal, share / 2)
        assert 1 - lost < kept < 1.01
        kept = power_along_axes(alone, share / 2) / power_along_axes(noise, share / 2)
        assert 1 - lost_at_half < kept < 1.01
    assert power_along_axes(full, 0.45) > 0.8 * power_along_axes(12 * signal, 0.45)
    # nothing is amplified, nor does anything appear where there was nothing
    assert full.std() < 12 * signal.std()
    spectrum = np.fft.fft2(signal)
    spectrum[np.abs(np.fft.fftfreq(500)) > 0.3] = 0
    low = np.fft.ifft2(spectrum).real
    moved = np.stack([fourier_shifted(low, s) for s in shift]).astype(np.float32)
    full, _, _ = sum_frames(moved, shift)
    assert power_along_axes(full, 0.4) < 1.01 * power_along_axes(12 * low, 0.4)


def test_a_local_displacement_is_taken_back() -> None:
    """Frames made from the function at the places that are moved to where it is known."""
    shape, displacement = (150, 1300), local(1.5e-3)
    shift = np.random.default_rng(2).uniform(-3, 3, (6, 2))
    y, x = (index.astype(float) for index in np.indices(shape))
    frames = []
    for frame, s in enumerate(shift):
        at = np.stack([y - s[0], x - s[1]])
        for _ in range(30):  # frame(at + s + d(at)) = waves(at): where each pixel comes from
            scale = (-1) ** frame * 1.5e-3 * 600
            moved = np.stack(
                [scale * np.sin((at[1] + at[0]) / 960), scale * np.cos(at[0] / 640 - 0.3)]
            )
            at = np.stack([y - s[0], x - s[1]]) - moved
        frames.append(waves(*at))
    movie = np.asarray(frames, np.float32)
    offsets, _ = moving_frames(movie, shift, displacement)
    assert offsets.block[0] < 64
    full, _, _ = sum_frames(movie, shift, displacement)
    error = (full - 6 * waves(y, x))[EDGE:-EDGE, EDGE:-EDGE]
    # 0.025 pixels of the waves' gradients, in frames whose errors are each other's opposite
    assert error.std() < 0.01 * waves(y, x).std() * 6
    unaware, _, _ = sum_frames(movie, shift)
    assert (unaware - 6 * waves(y, x))[EDGE:-EDGE, EDGE:-EDGE].std() > 10 * error.std()


@pytest.mark.parametrize("steepness", [1e-4, 1e-3, 4e-3])
def test_blocks_are_small_enough(steepness: float) -> None:
    """The rounded offsets of the blocks against the displacement at every pixel."""
    shape, displacement = (400, 700), local(steepness)
    shift = np.array([[0.25, -1.5], [3.0, 0.75]])
    frames = np.zeros((2, *shape), np.uint8)
    offsets, _ = moving_frames(frames, shift, displacement)
    for frame in range(2):
        exact = shift[frame] + displacement(frame, np.arange(400.0), np.arange(700.0))
        used = (
            offsets.offset[frame]
            .repeat(offsets.block[0], axis=0)[:400]
            .repeat(offsets.block[1], axis=1)[:, :700]
        )
        error = used / 1024 - exact
        assert np.sqrt((error**2).sum(axis=-1).mean()) < 0.025
        assert np.abs(error.mean(axis=(0, 1))).max() < 2e-3
    if steepness == 1e-4:
        assert offsets.block == (64, 256)


def test_each_block_is_that_of_a_frame_moved_as_a_whole() -> None:
    """Blocks of any offsets side by side, over the borders of all that is worked on at once."""
    rng = np.random.default_rng(10)
    choice = rng.uniform(-9, 9, (5, 2))
    frame = rng.normal(size=(1, 150, 1100)).astype(np.float32)

    def jumps(_: int, ys: np.ndarray, xs: np.ndarray) -> np.ndarray:
        return choice[(np.rint(ys)[:, None] * 7 + np.rint(xs) * 3).astype(int) % 5]

    shift = np.array([[1.5, -3.25]])
    offsets, _ = moving_frames(frame, shift, jumps)
    result, _, _ = sum_frames(frame, shift, jumps)
    used = offsets.offset[0].repeat(offsets.block[0], axis=0).repeat(offsets.block[1], axis=1)
    used = used[:150, :1100] / 1024
    seen = 0
    for move in np.unique(used.reshape(-1, 2), axis=0):
        whole, _, _ = sum_frames(frame, move[None])
        block = (used == move).all(axis=-1)
        np.testing.assert_array_equal(result[block], whole[block])
        seen += block.sum()
    assert seen == frame.size
    assert len(np.unique(used.reshape(-1, 2), axis=0)) == 5


@pytest.mark.parametrize("shape", [(70, 1100), (33, 47), (5, 3), (1, 7), (1, 1)])
def test_whole_pixels_are_copied(shape: tuple[int, int]) -> None:
    """To the bit, and mirrored beyond the edges, however far."""
    rng = np.random.default_rng(3)
    frames = rng.normal(100, 30, (4, *shape)).astype(np.float32)
    shift = np.array([[0, 0], [3, -2], [-9, 40], [21, 1]])
    full, even, odd = sum_frames(frames, shift)
    moved = []
    for frame, (dy, dx) in zip(frames, shift, strict=True):
        padded = np.pad(frame, 40, mode="symmetric")
        moved.append(padded[40 + dy :, 40 + dx :][: shape[0], : shape[1]])
    assert (even == moved[0] + moved[2]).all()
    assert (odd == moved[1] + moved[3]).all()
    assert (full == even + odd).all()


def test_a_frame_that_stays_is_added_as_it_is() -> None:
    frame = np.random.default_rng(4).normal(size=(1, 90, 333)).astype(np.float32)
    full, even, odd = sum_frames(frame, [[0, 0]])
    assert (full == frame[0]).all()
    assert (even == frame[0]).all()
    assert (odd == 0).all()


def test_beyond_the_edge_is_the_mirror_image() -> None:
    rng = np.random.default_rng(5)
    frames = rng.normal(size=(2, 80, 100)).astype(np.float32)
    shift = [[2.3, -7.6], [-0.4, 5.9]]
    full, _, _ = sum_frames(frames, shift)
    padded = np.pad(frames, ((0, 0), (40, 40), (40, 40)), mode="symmetric")
    wide, _, _ = sum_frames(padded, shift)
    np.testing.assert_allclose(full, wide[40:-40, 40:-40], atol=1e-5)


def test_no_rim_is_seen() -> None:
    """In ice with a gradient, the border is as bright and as noisy as what lies inside."""
    rng = np.random.default_rng(6)
    y, x = np.indices((600, 640))
    rate = 2 + y / 600 + 0.5 * x / 640
    drift = np.stack([np.linspace(-8.3, 8.3, 9), np.linspace(5.2, -5.2, 9)], axis=1)
    frames = rng.poisson(rate, (9, 600, 640)).astype(np.uint8)
    for image, count in zip(sum_frames(frames, drift), (9, 5, 4), strict=True):
        normal = (image - count * rate) / np.sqrt(count * rate)
        inside = normal[50:-50, 50:-50]
        for strip in (normal[:2], normal[-2:], normal[:, :2].T, normal[:, -2:].T):
            assert abs(strip.mean() - inside.mean()) < 0.2
            assert 0.85 < strip.std() / inside.std() < 1.15


def test_constant_frames_stay_constant() -> None:
    shift = np.random.default_rng(7).uniform(-20, 20, (7, 2))
    full, _, _ = sum_frames(np.full((7, 45, 60), 3, np.uint8), shift, local(3e-3))
    np.testing.assert_allclose(full, 21, rtol=2e-6)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "f4", "f8", "f2", ">i2", "i4", "?"])
def test_types_agree(dtype: str) -> None:
    rng = np.random.default_rng(8)
    counts = rng.integers(0, 2, (3, 70, 85)) * (1 if dtype == "?" else 50)
    shift = rng.uniform(-3, 3, (3, 2))
    expected = sum_frames(counts.astype(np.float32), shift)
    np.testing.assert_array_equal(sum_frames(counts.astype(dtype), shift), expected)


def test_frames_come_one_at_a_time() -> None:
    rng = np.random.default_rng(9)
    frames = rng.poisson(2, (5, 100, 1200)).astype(np.uint8)
    shift = rng.uniform(-3, 3, (5, 2))
    expected = sum_frames(frames, shift, local(1e-3))
    for given in (iter(frames), list(frames), frames[:, ::-1][:, ::-1], (f[:] for f in frames)):
        for result, one in zip(sum_frames(given, shift, local(1e-3)), expected, strict=True):
            np.testing.assert_array_equal(result, one)
    turned = np.ascontiguousarray(frames.transpose(0, 2, 1)).transpose(0, 2, 1)
    np.testing.assert_array_equal(sum_frames(turned, shift, local(1e-3)), expected)


def test_what_cannot_be_summed() -> None:
    frames = np.zeros((2, 8, 8), np.uint8)
    for wrong, shift in (
        (frames, [[0, 0]]),
        (frames, [[0, 0]] * 3),
        (frames[:0], np.zeros((0, 2))),
        (frames[0], [[0, 0]]),
        ([frames[0], frames[1, :4]], [[0, 0]] * 2),
        (iter(()), [[0, 0]]),
    ):
        with pytest.raises(DataError):
            sum_frames(wrong, shift)
    for shift in ([[0, 0], [np.nan, 0]], [[0, 0], [0, np.inf]], [0, 0]):
        with pytest.raises(ParameterError):
            sum_frames(frames, shift)


def test_memory_is_what_is_said() -> None:
    frames = np.zeros((6, 512, 768), np.uint8)
    shift = np.full((6, 2), 0.5)
    sum_frames(frames[:1], shift[:1])
    tracemalloc.start()
    result = sum_frames(frames, shift, local(9e-3))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    del result
    said = sum_bytes(frames.shape)
    assert peak < said + 100_000
    assert said < 1.2 * peak

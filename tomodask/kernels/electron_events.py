"""Electron events to images: the decoder of EER frames.

A frame of an electron event representation (EER) lists its electrons in the order of the sensor's
pixels. For each it holds how many empty pixels were skipped since the last, and where in its pixel
the electron fell. Both are bit fields of one stream, least significant bit first. A skip of all
ones means that many pixels and no electron; the last skip ends exactly behind the last pixel,
which is the only check that the format has.

References
----------
.. [1] Guo, H. et al., Electron-event representation data enable efficient cryoEM file storage with
   full preservation of spatial and temporal resolution, IUCrJ 7 (2020) 860,
   doi:10.1107/S205225252000929X.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomodask.kernels._jit import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["render_events"]


@njit
def render_events(
    words: NDArray[np.uint64],
    n_bits: int,
    skip_bits: int,
    subpixel_bits: tuple[int, int],
    whole_escapes: bool,
    zoom_bits: tuple[int, int],
    upside_down: bool,
    out: NDArray[np.unsignedinteger],
) -> int:
    """Add the electrons of one raw frame to an image.

    Parameters
    ----------
    words
        The frame's bit stream as little-endian words, followed by at least one more word.
    n_bits
        Bits of the stream.
    skip_bits
        Bits of a skip.
    subpixel_bits
        Bits of an electron's place within its pixel, (y, x). Two's complement: 0 is just above the
        pixel's centre.
    whole_escapes
        Whether a skip without electron is still followed by the bits of a place (true of
        prototypes only).
    zoom_bits
        Binary logarithms of the rendered pixels per sensor pixel, (y, x); at most `subpixel_bits`.
    upside_down
        Whether the stream's first row becomes the last row of `out`.
    out
        (y, x) unsigned integers, sensor pixels times 2 to the `zoom_bits`. A raw frame adds at
        most 1 to a pixel.

    Returns
    -------
    int
        Electrons added, or -1 where the stream does not end behind the last pixel, so that it is
        corrupt; `out` then holds a part of them.
    """
    height, width = out.shape[0] >> zoom_bits[0], out.shape[1] >> zoom_bits[1]
    x_bits = np.uint64(subpixel_bits[1])
    y_drop = np.uint64(subpixel_bits[0] - zoom_bits[0])
    x_drop = np.uint64(subpixel_bits[1] - zoom_bits[1])
    # The sign bit of a place within the pixel, turned over, counts from the pixel's edge.
    y_sign = np.uint64((1 << subpixel_bits[0]) >> 1)
    x_sign = np.uint64((1 << subpixel_bits[1]) >> 1)
    y_mask = np.uint64((1 << subpixel_bits[0]) - 1)
    x_mask = np.uint64((1 << subpixel_bits[1]) - 1)
    skip_shift = np.uint64(skip_bits)
    escape = np.uint64((1 << skip_bits) - 1)
    place_bits = subpixel_bits[0] + subpixel_bits[1]
    # A fetch of 32 bits behind the first holds every code; two words hold the fetch.
    bit = 0
    y = x = 0
    electrons = 0
    while bit + skip_bits <= n_bits:
        word, offset = bit >> 6, np.uint64(bit & 63)
        # Shifting a word by all of its 64 bits is undefined, hence in two steps.
        code = words[word] >> offset | (words[word + 1] << np.uint64(1)) << (np.uint64(63) - offset)
        skip = code & escape
        x += int(skip)
        while x >= width:
            x -= width
            y += 1
        if y >= height:
            return electrons if y == height and x == 0 else -1
        bit += skip_bits
        if skip == escape:
            bit += place_bits if whole_escapes else 0
            continue
        bit += place_bits
        place = code >> skip_shift
        sub_x = ((place & x_mask) ^ x_sign) >> x_drop
        sub_y = (((place >> x_bits) & y_mask) ^ y_sign) >> y_drop
        row = (y << zoom_bits[0]) + int(sub_y)
        column = (x << zoom_bits[1]) + int(sub_x)
        if upside_down:
            row = out.shape[0] - 1 - row
        out[row, column] += out.dtype.type(1)
        electrons += 1
        x += 1
    return -1

"""The slab that matter fills, in volumes whose matter is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from tomodask.errors import DataError
from tomodask.kernels.slab_boundary import MatterEnds, fit_slab, matter_ends

VOXEL = 24.0
SHAPE = (90, 110, 100)
SLOPES, CENTRE, HEIGHT = (0.08, -0.05), 100.0, 900.0


def coordinates() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    z, y, x = ((np.arange(n) - (n - 1) / 2) * VOXEL for n in SHAPE)
    return z, y, x


def halves(seed: int, *, matter: float = 1.0, height: float = HEIGHT) -> list[np.ndarray]:
    """Texture in a sloping slab, the same in both, and noise that is not."""
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*coordinates(), indexing="ij")
    above = z - CENTRE - SLOPES[0] * x - SLOPES[1] * y
    inside = np.abs(above) < height / 2
    texture = gaussian_filter(rng.normal(size=SHAPE), 1.2)
    signal = matter * inside * texture / texture.std()
    return [(signal + rng.normal(size=SHAPE)).astype(np.float32) for _ in range(2)]


def test_a_filled_slab_is_found() -> None:
    slab = fit_slab(matter_ends(*halves(0), coordinates()))
    assert abs(slab.slope_x - SLOPES[0]) < 0.015
    assert abs(slab.slope_y - SLOPES[1]) < 0.015
    assert abs(slab.centre - CENTRE) < 25
    assert abs(slab.height - HEIGHT) < 120
    assert slab.slope_x_error < 0.02
    assert slab.height_error < 60


def test_noise_shows_nothing() -> None:
    ends = matter_ends(*halves(1, matter=0.0), coordinates())
    with pytest.raises(DataError, match=r"only \d+ places have structure"):
        fit_slab(ends)


def test_matter_that_is_cut_off_is_told() -> None:
    assert matter_ends(*halves(2), coordinates()).cut.mean() < 0.02
    everywhere = matter_ends(*halves(2, matter=3.0, height=5000.0), coordinates())
    assert everywhere.cut.mean() > 0.3


def columns(seed: int, filled: float, count: int = 150) -> MatterEnds:
    """Ends of columns of a sloping slab that are filled in part."""
    rng = np.random.default_rng(seed)
    ends = rng.uniform(-2000, 2000, (2, count, 3))
    part = rng.uniform(0, 1, (count, 2)) * (1 - filled)
    for side, sign in enumerate((-1, 1)):
        ends[side, :, 2] = sign * (HEIGHT / 2) * (1 - part[:, side])
        ends[side, :, 2] += CENTRE + ends[side, :, :2] @ np.array(SLOPES)
    return MatterEnds(ends[0], ends[1], np.zeros(count, bool))


def test_scattered_matter_is_enough() -> None:
    """Columns that matter fills only here and there; two lie outside altogether."""
    ends = columns(0, filled=0.2)
    ends.top[3, 2] += 600
    slab = fit_slab(ends)
    assert abs(slab.slope_x - SLOPES[0]) < 0.01
    assert abs(slab.centre - CENTRE) < 15
    assert abs(slab.height - HEIGHT) < 40


def test_level_keeps_a_slope_at_zero() -> None:
    slab = fit_slab(columns(1, filled=0.9), level=(True, False))
    assert slab.slope_x == 0
    assert abs(slab.slope_y - SLOPES[1]) < 0.05
    assert slab.height > HEIGHT


def test_errors_grow_where_less_is_known() -> None:
    many, few = (fit_slab(columns(2, 0.1, count)) for count in (400, 20))
    assert few.slope_x_error > 2 * many.slope_x_error


def test_errors_are_of_the_size_of_the_scatter() -> None:
    slabs = [fit_slab(columns(seed, filled=0.2)) for seed in range(12)]
    scatter = np.std([slab.slope_x for slab in slabs])
    claimed = np.median([slab.slope_x_error for slab in slabs])
    assert 0.5 < claimed / scatter < 4


def test_bad_volumes_are_refused() -> None:
    one = np.zeros((40, 40, 40), np.float32)
    places = tuple(np.arange(40) * VOXEL for _ in range(3))
    with pytest.raises(DataError, match="two of one shape"):
        matter_ends(one, one[1:], places)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="at least"):
        matter_ends(one[:9], one[:9], places)  # type: ignore[arg-type]

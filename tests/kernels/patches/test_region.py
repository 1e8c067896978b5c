from __future__ import annotations

import numpy as np
import pytest

from tomodask.errors import ParameterError
from tomodask.kernels.patches.region import region_mask


def test_two_corners_make_a_rectangle():
    mask = region_mask([(2, 3), (6, 5)], (10, 12))
    expected = np.zeros((10, 12), bool)
    expected[3:5, 2:6] = True
    assert np.array_equal(mask, expected)


def test_a_triangle_holds_half_of_its_square():
    mask = region_mask([(0, 0), (40, 0), (0, 40)], (40, 40))
    assert mask.sum() == pytest.approx(800, abs=40)
    assert mask[2, 2]
    assert not mask[35, 35]


@pytest.mark.parametrize("region", [np.zeros((4, 5), bool), [(50, 50), (60, 60)], [1, 2, 3]])
def test_what_holds_no_pixel_is_refused(region):
    with pytest.raises(ParameterError, match=r"region"):
        region_mask(region, (4, 5))

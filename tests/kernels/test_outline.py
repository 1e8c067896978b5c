"""How far beads and their fringes reach."""

from __future__ import annotations

import numpy as np

from tomodask.kernels.beads.outline import outline_radius, radial_profile

DIAMETER = 10.0
SHAPE = (200, 240)


def view(seed: int, fringe: float) -> tuple[np.ndarray, np.ndarray]:
    """An image of beads with a bright ring from 7 to 9 pixels, and where they are."""
    rng = np.random.default_rng(seed)
    position = np.array([[60.3, 60.8], [60.0, 170.4], [140.7, 120.2]])
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    image = 100 + rng.normal(0, 2, SHAPE)
    for y, x in position:
        distance = np.hypot(rows - y, columns - x)
        image -= 40 * (distance < DIAMETER / 2)
        image += 40 * fringe * ((distance > 7) & (distance < 9))
    return image, position


def test_profile_is_in_depths_of_the_bead() -> None:
    profile = radial_profile(*view(0, 0.2), DIAMETER)
    assert profile is not None
    np.testing.assert_allclose(profile[:4], -1, atol=0.05)
    assert abs(profile[7:9].mean() - 0.2) < 0.05
    assert abs(profile[20:].mean()) < 0.01


def test_radius_holds_the_fringes() -> None:
    for fringe, expected in ((0.0, 6.5), (0.2, 9.5)):
        profiles = [radial_profile(*view(seed, fringe), DIAMETER) for seed in range(12)]
        radius = outline_radius([p for p in profiles if p is not None], DIAMETER)
        assert abs(radius - expected) <= 0.5


def test_beads_side_by_side_are_left_out() -> None:
    image, _ = view(0, 0.0)
    close = np.array([[60.3, 60.8], [62.0, 75.0]])
    assert radial_profile(image, close, DIAMETER) is None
    assert radial_profile(image, np.zeros((0, 2)), DIAMETER) is None
    assert radial_profile(200 - image, view(0, 0.0)[1], DIAMETER) is None
    assert outline_radius([], DIAMETER) > DIAMETER / 2

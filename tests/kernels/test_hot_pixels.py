"""Artefacts are found where they were put, and nothing that electrons explain is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from tomodask.errors import DataError, ParameterError
from tomodask.geometry import Projection
from tomodask.kernels.hot_pixels import find_hot_pixels
from tomodask.simulate import (
    ContrastTransfer,
    Imaging,
    beads_and_vesicles,
    simulate_tilt_series,
)


def places(found):
    return set(zip(found.y.tolist(), found.x.tolist(), strict=True))


def counts(mean, shape=(512, 512), seed=0):
    return np.random.default_rng(seed).poisson(mean, shape).astype(np.float32)


def local_level(image, y, x, reach=6):
    """Median and robust standard deviation around a pixel."""
    box = image[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1]
    level = np.median(box)
    return level, 1.4826 * np.median(np.abs(box - level))


def with_hits(image, number, seed, strength=(8.5, 30.0)):
    """Put patches of one to three pixels at random places; strengths in local deviations."""
    rng = np.random.default_rng(seed)
    hit, truth = image.copy(), set()
    while len(truth) < number:
        y, x = rng.integers(4, min(image.shape) - 4, 2).tolist()
        level, deviation = local_level(image, y, x)
        for v, u in ((y, x), (y, x + 1), (y + 1, x + 1))[: rng.integers(1, 4)]:
            hit[v, u] = level + deviation * rng.uniform(*strength)
            truth.add((v, u))
    return hit, truth


@pytest.fixture(scope="module")
def recorded():
    """Views with gold, fringes and ice, by (pixel size, exposure); 15 hot pixels a view."""

    def record(pixel_size, exposure, radius=50.0):
        edge = 0.9 * 320 * pixel_size
        phantom = beads_and_vesicles(
            3, (edge, edge, 0.4 * edge), beads=6, bead_radius=radius, vesicles=1, particles=0
        )
        tilts = np.array([-60.0, 0.0, 45.0])
        defocus = ContrastTransfer(3e4, 3e4, amplitude_contrast=0.3)
        return simulate_tilt_series(
            phantom,
            Projection.create(tilts, tilt_axis_angle=85.0),
            (320, 320),
            pixel_size=pixel_size,
            imaging=Imaging(
                exposure=exposure,
                ice_thickness=1500,
                ice_noise=0.03,
                ctf=(defocus,) * 3,
                hot_pixels=15,
            ),
            seed=7,
        )

    return record


class TestSimulated:
    @pytest.mark.parametrize(
        ("pixel_size", "exposure", "radius"),
        [(3.0, 1.0, 50.0), (3.0, 30.0, 50.0), (10.0, 3.0, 50.0), (10.0, 30.0, 15.0)],
    )
    def test_hot_pixels_are_found_and_gold_is_not(self, recorded, pixel_size, exposure, radius):
        series = recorded(pixel_size, exposure, radius)
        right = wrong = missed = 0
        for view, image in enumerate(series.images):
            truth = set(map(tuple, series.hot_pixels[series.hot_pixels[:, 0] == view, 1:].tolist()))
            found = find_hot_pixels(image)
            assert not found.dead.any()
            right += len(places(found) & truth)
            wrong += len(places(found) - truth)
            missed += len(truth - places(found))
            # What else is found touches a hit, and is not at a bead.
            distance = [
                min(max(abs(y - v), abs(x - u)) for v, u in truth) for y, x in places(found)
            ]
            assert max(distance) <= 1
        assert missed == 0
        assert right / (right + wrong) >= 0.95

    def test_moderate_patches_are_found_on_gold_and_ice(self, recorded):
        right = wrong = missed = 0
        for pixel_size, exposure in ((3.0, 3.0), (10.0, 10.0)):
            for seed, image in enumerate(recorded(pixel_size, exposure).images):
                hot = find_hot_pixels(image)
                image[hot.y, hot.x] = np.median(image)
                hit, truth = with_hits(image, 60, seed)
                found = places(find_hot_pixels(hit))
                right += len(found & truth)
                wrong += len(found - truth)
                missed += len(truth - found)
        assert right / (right + missed) >= 0.99
        assert right / (right + wrong) >= 0.95


class TestCounts:
    @pytest.mark.parametrize("mean", [0.0005, 0.003, 0.03, 0.3, 0.8, 3.0, 12.0, 200.0])
    @pytest.mark.parametrize(
        "record",
        [
            lambda counts: counts,
            lambda counts: (11 * counts - 3000).astype(np.int16),
            lambda counts: 37 * (counts - counts.mean()) - 5,
            lambda counts: (
                counts * np.random.default_rng(5).normal(1, 0.05, counts.shape).astype(np.float32)
            ),
        ],
        ids=["counts", "int16", "zero mean", "gain"],
    )
    def test_chance_is_left_alone_at_any_exposure_and_scale(self, mean, record):
        image = counts(mean, (1024, 1024))
        assert len(find_hot_pixels(record(image))) <= 1
        hits = np.random.default_rng(1).integers(1, 1023, (20, 2))
        image[hits[:, 0], hits[:, 1]] += np.ceil(30 + 12 * np.sqrt(mean))
        assert places(find_hot_pixels(record(image))) >= set(map(tuple, hits.tolist()))

    def test_the_tail_of_counts_counts_where_deviations_do_not(self):
        # Five electrons are 8.6 deviations of 0.3, and chance.
        image = counts(0.3, (1024, 1024))
        assert image.max() >= 5
        assert len(find_hot_pixels(image)) <= 1

    def test_cells_without_an_event_say_nothing(self):
        # Half of the cells of 16 x 16 pixels are empty, and two events coincide in some pixels.
        image = counts(0.003, (2048, 2048), seed=1)
        assert np.count_nonzero(image == 2) > 10
        assert len(find_hot_pixels(image)) <= 1
        # Zeros with an offset have sums that are rounded.
        scaled = (37 * counts(0.0005, (1024, 1024)) - 5.0185).astype(np.float32)
        assert not len(find_hot_pixels(scaled))

    def test_a_dark_half_is_judged_by_its_own_noise(self):
        image = counts(400.0)
        image[:, 256:] = counts(8.0)[:, 256:]
        image[100, 400] = 60  # 18 deviations there, and darker than all of the other half
        image[300, 100] = 440  # two
        assert places(find_hot_pixels(image)) == {(100, 400)}


class TestShapes:
    def test_streaks_and_giants_are_whole_patches(self):
        image = counts(20.0)
        truth = {(60 + k, 80 + k) for k in range(6)}
        y, x = np.indices(image.shape)
        truth |= set(zip(*np.nonzero(np.hypot(y - 200, x - 300) < 4.5), strict=True))
        for place in truth:
            image[place] = 900
        assert places(find_hot_pixels(image)) == truth

    def test_at_the_edges_and_corners(self):
        image = counts(20.0, (64, 90))
        truth = {(0, 0), (0, 89), (63, 0), (63, 89), (0, 40), (30, 0), (63, 41), (31, 89)}
        for place in truth:
            image[place] = 300
        found = find_hot_pixels(image)
        assert places(found) == truth
        assert list(zip(found.y, found.x, strict=True)) == sorted(truth)

    def test_smooth_or_large_bright_matter_stays(self):
        y, x = np.indices((256, 256))
        expected = np.full((256, 256), 50.0)
        for row, sigma in ((40, 1.0), (90, 1.5), (140, 3.0)):
            expected += 2000 * np.exp(-((y - row) ** 2 + (x - 60.3) ** 2) / (2 * sigma**2))
        expected[180:220, 100:200] += 1000
        image = np.random.default_rng(2).poisson(expected)
        assert not len(find_hot_pixels(image))

    @pytest.mark.parametrize("radius", [1.0, 1.5, 2.0, 4.0])
    def test_the_smallest_bead_is_not_a_dead_pixel(self, radius):
        fine = np.zeros((1280, 1280))
        rng = np.random.default_rng(4)
        y, x = np.indices(fine.shape)
        for centre in np.mgrid[80:1240:160, 80:1240:160].reshape(2, -1).T + rng.uniform(-5, 5, 2):
            squared = (10 * radius) ** 2 - (y - centre[0]) ** 2 - (x - centre[1]) ** 2
            fine += np.sqrt(np.maximum(squared, 0)) / 10
        depth = fine.reshape(128, 10, 128, 10).mean(axis=(1, 3))
        image = rng.poisson(3000 * np.exp(-0.5 * depth))
        assert image.min() < 2000
        assert not len(find_hot_pixels(image))

    def test_dead_pixels(self):
        image = counts(200.0)
        truth = {(50, 60), (100, 200), (0, 90), (300, 511)}
        for place in truth:
            image[place] = 0
        found = find_hot_pixels(image)
        assert places(found) == truth
        assert found.dead.all()

    @pytest.mark.parametrize("mean", [0.3, 5.0, 100.0])
    def test_stuck_lines_are_found_and_blank_areas_are_not(self, mean):
        image = counts(mean)
        image[:, 400:] = 0
        image[:, :16] = 0
        image[:, 100] = 0
        image[100:400, 101] = np.ceil(mean + 1)
        image[50, 20:350] = 0
        found = find_hot_pixels(image)
        truth = {(row, 100) for row in range(512)} | {(row, 101) for row in range(100, 400)}
        truth |= {(50, column) for column in range(20, 350)}
        assert len(truth - places(found)) == 0
        # Equal pixels at a line's end are part of it, by chance.
        assert len(places(found) - truth) <= 12
        assert {(y, x) for y, x in places(found) if x >= 400 or x < 16} == set()

    def test_a_blank_image_has_none_and_a_lone_event_may_be_an_electron(self):
        image = np.full((64, 64), 7, np.int16)
        assert not len(find_hot_pixels(image))
        image[20, 30] = 9
        assert not len(find_hot_pixels(image))
        image[40:50, 10] = 9
        image[50, 50] = 100
        assert places(find_hot_pixels(image)) == {(50, 50)}


class TestArguments:
    def test_the_input_is_left_alone(self):
        image = counts(20.0, (64, 64))
        image[5, 5] = 999
        before = image.copy()
        find_hot_pixels(image)
        np.testing.assert_array_equal(image, before)

    def test_a_criterion_decides(self):
        image = np.random.default_rng(0).normal(100, 1, (128, 128)).astype(np.float32)
        image[64, 64] = 107.2
        assert places(find_hot_pixels(image)) == {(64, 64)}
        assert not len(find_hot_pixels(image, difference=8.0))
        assert places(find_hot_pixels(image, peak=6.0, difference=8.0)) == {(64, 64)}

    def test_what_cannot_be_searched_is_refused(self):
        image = counts(5.0, (64, 64))
        for value in (np.nan, np.inf):
            image[3, 4] = value
            with pytest.raises(DataError, match="not finite"):
                find_hot_pixels(image)
        with pytest.raises(DataError, match=r"\(64,\)"):
            find_hot_pixels(np.zeros(64))
        with pytest.raises(DataError, match="12 pixels"):
            find_hot_pixels(np.zeros((64, 5)))
        with pytest.raises(ParameterError, match="peak is 0"):
            find_hot_pixels(np.zeros((64, 64)), peak=0)


class TestRealMicrograph:
    def test_the_outliers_are_found_and_little_else(self, data_dir):
        import mrcfile

        path = data_dir / "micrographs" / "fei-extended.mrc"
        with mrcfile.mmap(path, permissive=True) as file:
            image = np.array(file.data)
        level = np.median(image)
        deviation = 1.4826 * np.median(np.abs(image - level))
        outliers = set(map(tuple, np.argwhere(image > level + 8 * deviation).tolist()))
        assert len(outliers) == 57
        found = find_hot_pixels(image)
        assert places(found) >= outliers
        # All others are at least local outliers too.
        assert len(found) < 130
        smooth = ndimage.median_filter(image, 5)[found.y, found.x].astype(float)
        assert ((image[found.y, found.x] - smooth) / deviation).min() > 4

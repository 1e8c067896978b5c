"""Good series keep all their views; what is wrong with a view is found and named."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import ndimage

from tomodask.errors import ParameterError
from tomodask.kernels.intensity_law import fit_intensity
from tomodask.kernels.neighbour_correlation import neighbour_correlations
from tomodask.kernels.view_quality import measure_view
from tomodask.kernels.view_selection import recommend

SIZE = 128


def record(
    seed, *, views=31, thickness=0.5, pre_tilt=0.0, dose=500.0, contrast=0.1, hybrid=1.0,
    scatter=0.02,
):  # fmt: skip
    """Poisson counts of a structure that changes with the tilt, through a slab."""
    rng = np.random.default_rng(seed)
    angles = np.linspace(-60, 60, views) - 0.6 * pre_tilt
    one, other = (ndimage.gaussian_filter(rng.normal(0, 1, (SIZE, SIZE)), 4) for _ in range(2))
    exposures = dose * np.exp(rng.normal(0, scatter, views))
    exposures[np.argmin(np.abs(angles))] *= hybrid
    images = []
    for angle, exposure in zip(np.deg2rad(angles), exposures, strict=True):
        structure = np.cos(angle) * one / one.std() + np.sin(angle) * other / other.std()
        light = exposure * np.exp(-thickness / np.cos(angle + np.deg2rad(pre_tilt)))
        images.append(rng.poisson(light * np.maximum(1 + contrast * structure, 0)))
    return np.array(images, np.float32), angles


def advice(images, angles, **given):
    correlation = neighbour_correlations(images, angles)
    quality = [measure_view(image) for image in images]
    return dict(recommend(quality, angles, correlation=correlation, **given))


class TestGoodSeries:
    def test_nothing_is_left_out(self):
        rng = np.random.default_rng(0)
        for seed in range(30):
            given = {
                "thickness": rng.uniform(0.1, 1.5),
                "pre_tilt": float(rng.choice([0, 8, -8, 15])),
                "dose": float(rng.choice([20, 200, 5000])),
                "contrast": float(rng.choice([0.005, 0.03, 0.2])),
                "hybrid": float(rng.choice([1, 10])),
                "views": int(rng.choice([5, 21, 41])),
                "scatter": float(rng.choice([0.01, 0.1])),
            }
            images, angles = record(seed, **given)
            motion = rng.uniform(3, 60, len(angles))
            assert not advice(images, angles, motion=motion), given

    def test_a_thick_specimen_may_fall_off_faster_than_the_law(self):
        angles = np.arange(-60.0, 61, 3)
        images, _ = record(1, views=41, thickness=1.0)
        # The rim of the hole comes in gradually, where AreTomo's rule cuts off the whole side.
        images *= np.interp(angles, [36, 60], [1, 0.3]).astype(np.float32)[:, None, None]
        assert not advice(images, angles)

    def test_the_needle(self, data_dir):
        import mrcfile

        folder = data_dir / "stem_needle"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of a header that lacks a mark
            with mrcfile.open(folder / "HAADF.mrc", permissive=True) as file:
                images = file.data.copy()
        assert not advice(images, np.loadtxt(folder / "HAADF.rawtlt"))


class TestBadViews:
    @pytest.mark.parametrize(
        ("thickness", "pre_tilt", "hybrid"), [(0.2, 0.0, 1.0), (1.2, 10.0, 1.0), (0.6, 0.0, 10.0)]
    )
    def test_each_is_found_and_named(self, thickness, pre_tilt, hybrid):
        rng = np.random.default_rng(5)
        given = {"thickness": thickness, "pre_tilt": pre_tilt, "hybrid": hybrid}
        images, angles = record(2, **given)
        images[3] = rng.poisson(0.04 * images[3])
        images[9] = rng.poisson(images[9].mean(), images[9].shape)
        images[20, :, : int(0.7 * SIZE)] *= 0.02
        images[26] = record(99, **given)[0][26]
        images[28] = np.minimum(images[28], np.median(images[28]))
        motion = np.full(len(angles), 12.0)
        motion[12], motion[4] = 180, np.nan
        found = advice(images, angles, motion=motion)
        assert sorted(found) == [3, 9, 12, 20, 26, 28]
        assert found[3].startswith("dark: its mean is 4 % of")
        assert "blank" in found[9]
        assert found[12] == "moved: by 180 A during the exposure, usually 12 A"
        assert "blocked: 31 % of the field" in found[20]
        assert found[26].startswith("unlike its neighbours")
        assert "saturated" in found[28]

    def test_the_order_of_the_views_does_not_matter(self):
        images, angles = record(3)
        images[7] *= 0.05
        shuffled = np.random.default_rng(1).permutation(len(angles))
        found = advice(images[shuffled], angles[shuffled])
        assert [shuffled[view] for view in found] == [7]

    def test_untilted_views_must_be_black(self):
        images, angles = record(4)
        middle = int(np.argmin(np.abs(angles)))
        for factor, left_out in ((0.3, False), (0.05, True)):
            spoiled = images.copy()
            spoiled[middle] *= factor
            spoiled[middle + 4] *= 0.3
            assert (middle in advice(spoiled, angles)) == left_out
            assert middle + 4 in advice(spoiled, angles)

    def test_a_third_of_the_views_may_be_dark(self):
        images, angles = record(5, views=41)
        dark = np.random.default_rng(2).choice(41, 12, replace=False)
        images[dark] *= 0.02
        assert sorted(advice(images, angles)) == sorted(dark)

    def test_a_given_exposure_counts(self):
        images, angles = record(6)
        quality = [measure_view(image) for image in images]
        exposure = np.full(len(angles), 3.0)
        exposure[8] = 30  # of which a tenth arrived
        assert [view for view, _ in recommend(quality, angles, exposure=exposure)] == [8]

    def test_what_does_not_fit_is_refused(self):
        images, angles = record(7, views=5)
        quality = [measure_view(image) for image in images]
        with pytest.raises(ParameterError, match="4 tilt angles for 5 views"):
            recommend(quality, angles[:4])
        with pytest.raises(ParameterError, match="3 motions for 5 views"):
            recommend(quality, angles, motion=np.zeros(3))
        assert recommend([], []) == []


class TestIntensityLaw:
    @pytest.mark.parametrize("pre_tilt", [0.0, -10.0, 16.0])
    @pytest.mark.parametrize("thickness", [0.5, 1.5])
    def test_the_slab_is_found_below_and_above_wrong_views(self, thickness, pre_tilt):
        angles = np.arange(-54.0, 54.1, 3) - 0.5 * pre_tilt
        truth = 40 * np.exp(-thickness / np.cos(np.deg2rad(angles + pre_tilt)))
        rng = np.random.default_rng(0)
        mean = truth * np.exp(rng.normal(0, 0.02, len(angles)))
        mean[rng.choice(len(angles), 8, replace=False)] *= [0.01, 0.1, 0.2, 10, 0.02, 0.3, 8, 0.05]
        law = fit_intensity(mean, angles)
        assert law.thickness == pytest.approx(thickness, rel=0.15)
        assert law.pre_tilt == pytest.approx(pre_tilt, abs=2.1)
        np.testing.assert_allclose(law.expected(angles), truth, rtol=0.15)
        assert law.spread < 0.06

    def test_exposures_are_divided_out(self):
        angles = np.arange(-45.0, 46, 5)
        exposure = np.where(np.abs(angles) < 1, 20.0, 2.0)
        mean = exposure * 7 * np.exp(-0.4 / np.cos(np.deg2rad(angles)))
        law = fit_intensity(mean, angles, exposure)
        np.testing.assert_allclose(law.expected(angles, exposure), mean, rtol=0.03)

    def test_no_law_without_counts(self):
        assert fit_intensity(np.linspace(-5, 5, 20), np.arange(20.0)) is None

    def test_what_does_not_fit_is_refused(self):
        with pytest.raises(ParameterError, match="3 tilt angles"):
            fit_intensity(np.ones(4), np.zeros(3))
        with pytest.raises(ParameterError, match="positive"):
            fit_intensity(np.ones(4), np.zeros(4), [1, 1, 0, 1])


class TestNeighbourCorrelation:
    def test_bad_views_spoil_no_other(self):
        images, angles = record(8, dose=5000.0)
        for view in (10, 12):
            images[view] = np.random.default_rng(view).poisson(images[view].mean(), (SIZE, SIZE))
        images[18] = np.roll(images[18], (25, -30), axis=(0, 1))  # drift that can be corrected
        values = neighbour_correlations(images, angles)
        assert values[[10, 12]].max() < 0.2
        assert np.delete(values, [10, 12]).min() > 0.6

    def test_stretching_helps_at_high_tilt(self):
        # Views of a flat specimen, foreshortened across a vertical axis.
        rng = np.random.default_rng(3)
        flat = ndimage.gaussian_filter(rng.normal(0, 1, (256, 256)), 2)
        angles = np.array([50.0, 60.0])
        axis = np.arange(256) - 127.5
        images = [
            ndimage.map_coordinates(
                flat, np.meshgrid(axis + 127.5, axis / np.cos(np.deg2rad(a)) + 127.5, indexing="ij")
            )
            for a in angles
        ]
        images = np.array(images)[:, :, 64:192]
        stretched = neighbour_correlations(images, angles, tilt_axis_angle=0.0)
        assert stretched.min() > neighbour_correlations(images, angles).max() + 0.1

    def test_alone_or_empty(self):
        assert np.isnan(neighbour_correlations(np.ones((1, 64, 64)), [0.0])).all()
        np.testing.assert_array_equal(neighbour_correlations(np.ones((2, 64, 64)), [0, 1]), 0)
        with pytest.raises(ParameterError, match="3 tilt angles"):
            neighbour_correlations(np.ones((2, 64, 64)), np.zeros(3))

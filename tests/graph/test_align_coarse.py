"""Coarse alignment against the exact truth of simulated series, and on real ones."""

from __future__ import annotations

from functools import cache

import dask.array
import numpy as np
import pytest
import xarray as xr

from tomodask.errors import DataError, ParameterError
from tomodask.graph.align_coarse import coarse_alignment, coarse_alignment_dataset
from tomodask.model import projection_of, validate
from tomodask.simulate import (
    Imaging,
    beads_and_vesicles,
    random_misalignment,
    simulate_tilt_series,
)

TILTS = np.arange(-60.0, 61.0, 4.0)
PIXEL = 14.0


@cache
def series(
    seed=0, *, axis=85.0, tilts=tuple(TILTS), beads=0, shape=(256, 256), dark=(), shift_sd=150.0
):
    """Return vesicles and particles at 2 e/A^2, drifting by tens of pixels between views."""
    return simulate_tilt_series(
        beads_and_vesicles(seed, beads=beads),
        random_misalignment(
            tilts, seed=seed, shift_sd=shift_sd, tilt_axis_angle=axis, axis_jitter=0.0
        ),
        shape,
        pixel_size=PIXEL,
        imaging=Imaging(exposure=2.0, dark_views=dark),
        seed=seed,
    )


def align(simulated, *, included=None, axis=85.0, **options):
    count = len(simulated.tilt_angle)
    return coarse_alignment(
        lambda view: simulated.images[view],
        simulated.tilt_angle,
        np.ones(count, bool) if included is None else included,
        pixel_size=PIXEL,
        tilt_axis_angle=axis,
        **options,
    )


def error(result, simulated, views=None):
    """Return the (tilt, 2) error of the shifts, pixels, in the frame of the tilt axis.

    The origin of the specimen is free, so that the point (x, y, z) to which it best moves is
    fitted: its image is the truth of the shift.
    """
    views = np.arange(len(simulated.tilt_angle)) if views is None else np.asarray(views)
    truth = simulated.projection
    unit = np.stack([truth.project([p])[:, 0] - truth.shift for p in np.eye(3)], axis=2)[views]
    wrong = (result.shift - truth.shift)[views]
    origin = np.linalg.lstsq(unit.reshape(-1, 3), wrong.ravel(), rcond=None)[0]
    left = wrong - unit @ origin
    turn = np.linalg.inv(truth.image_matrix()[views])
    return np.einsum("tij,tj->ti", turn, left) / PIXEL


def turned(angle):
    """Return an axis direction modulo 180 degrees, in [-90, 90)."""
    return (angle + 90) % 180 - 90


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("reference", ["running", "neighbour"])
def test_bead_free_series_stays_within_three_pixels(seed, reference):
    simulated = series(seed)
    assert np.abs(np.diff(simulated.projection.shift, axis=0)).max() > 10 * PIXEL
    result = align(simulated, reference=reference)
    assert result.found.all()
    assert np.abs(error(result, simulated)).max() < 3
    assert result.score.min() > 0.1


def test_running_reference_finds_what_pairs_of_views_do_not():
    simulated = simulate_tilt_series(
        beads_and_vesicles(1),
        random_misalignment(TILTS, seed=1, shift_sd=150.0, axis_jitter=0.0),
        (256, 256),
        pixel_size=PIXEL,
        imaging=Imaging(exposure=0.15),
        seed=1,
    )
    result = align(simulated)
    assert result.found.all()
    assert np.abs(error(result, simulated)).max() < 4


def test_gold_on_two_surfaces_does_not_drift():
    """With a thickness that does not hold both surfaces every link may follow another of them."""
    simulated = simulate_tilt_series(
        beads_and_vesicles(7, (5958.0, 5958.0, 2001.0), beads=37, vesicles=0, particles=0),
        random_misalignment(TILTS, seed=14, shift_sd=250.0, axis_jitter=0.0),
        (448, 448),
        pixel_size=PIXEL,
        imaging=Imaging(exposure=2.0, ice_thickness=2001.0, ice_noise=0.03),
        seed=7,
    )
    assert np.abs(error(align(simulated), simulated)).max() < 3
    assert np.abs(error(align(simulated, thickness=1800.0), simulated)).max() > 6


def test_matter_is_centred_in_height():
    simulated = series(0, beads=16)
    result = align(simulated)
    unit = simulated.projection.project([[0.0, 0.0, 1.0]])[:, 0] - simulated.projection.shift
    across = simulated.projection.project([[1.0, 0.0, 0.0]])[:, 0] - simulated.projection.shift
    along = simulated.projection.project([[0.0, 1.0, 0.0]])[:, 0] - simulated.projection.shift
    design = np.stack([across, along, unit], axis=2).reshape(-1, 3)
    wrong = (result.shift - simulated.projection.shift).ravel()
    height = np.linalg.lstsq(design, wrong, rcond=None)[0][2]
    assert abs(height - simulated.bead_centres[:, 2].mean()) < 150


def test_progress_is_told_of_every_view():
    told = []
    align(
        series(0, tilts=tuple(TILTS[::5])), progress=lambda done, total: told.append((done, total))
    )
    assert told == [(done, 7) for done in range(1, 8)]


def test_a_drift_of_tens_of_pixels_between_neighbours_is_found():
    simulated = series(2, shift_sd=450.0, beads=10)
    jump = np.abs(np.diff(simulated.projection.shift, axis=0)).max() / PIXEL
    assert jump > 45
    assert np.abs(error(align(simulated), simulated)).max() < 3


@pytest.mark.parametrize("axis", [0.0, -85.0, 40.0])
@pytest.mark.parametrize("shape", [(255, 230), (232, 256)])
def test_any_axis_and_any_size(axis, shape):
    simulated = series(1, axis=axis, shape=shape, beads=12, tilts=tuple(TILTS[::2]))
    assert np.abs(error(align(simulated, axis=axis), simulated)).max() < 2


def test_shifts_are_exact_for_a_thin_specimen_whatever_they_are():
    simulated = simulate_tilt_series(
        beads_and_vesicles(0, (4000.0, 4000.0, 120.0), beads=40, vesicles=0, particles=0),
        random_misalignment(TILTS, seed=5, shift_sd=250.0, tilt_axis_angle=40.0, axis_jitter=0.0),
        (256, 256),
        pixel_size=PIXEL,
        imaging=Imaging(exposure=50.0, counting_noise=False),
        seed=5,
    )
    for reference in ("running", "neighbour"):
        result = align(simulated, axis=40.0, thickness=50.0, reference=reference)
        assert np.abs(error(result, simulated)).max() < 0.3
        np.testing.assert_array_equal(result.shift[len(TILTS) // 2], 0)


def test_large_images_are_binned_and_shifts_stay_in_angstrom():
    simulated = simulate_tilt_series(
        beads_and_vesicles(3, beads=20),
        random_misalignment(TILTS[::3], seed=3, shift_sd=150.0, axis_jitter=0.0),
        (700, 801),
        pixel_size=5.0,
        imaging=Imaging(exposure=2.0),
        seed=3,
    )
    result = coarse_alignment(
        lambda view: simulated.images[view],
        simulated.tilt_angle,
        np.ones(11, bool),
        pixel_size=5.0,
        tilt_axis_angle=85.0,
    )
    assert np.abs(error(result, simulated)).max() * PIXEL < 30


def test_unequal_and_duplicate_angles():
    tilts = (-58.0, -57.0, -41.0, -40.0, -40.0, -22.0, -9.0, 0.5, 0.5, 3.0, 14.0, 31.0, 33.0, 52.0)
    simulated = series(4, tilts=tilts, beads=16)
    assert np.abs(error(align(simulated), simulated)).max() < 3


def test_the_order_of_the_views_does_not_matter():
    simulated = series(0, tilts=tuple(TILTS[::2]), beads=12)
    shuffled = np.random.default_rng(0).permutation(len(simulated.tilt_angle))
    plain = align(simulated)
    result = coarse_alignment(
        lambda view: simulated.images[shuffled[view]],
        simulated.tilt_angle[shuffled],
        np.ones(len(shuffled), bool),
        pixel_size=PIXEL,
        tilt_axis_angle=85.0,
    )
    # Views of equal |tilt| may be taken in the other order.
    np.testing.assert_allclose(result.shift, plain.shift[shuffled], atol=0.6 * PIXEL)


class TestViewsThatAreNotThere:
    def test_excluded_views_are_not_read_and_change_nothing(self):
        simulated = series(0, tilts=tuple(TILTS[::2]), beads=12)
        included = np.ones(16, bool)
        included[[0, 5, 8]] = False
        reads = []

        def read(view):
            reads.append(view)
            return simulated.images[view]

        options = {"pixel_size": PIXEL, "tilt_axis_angle": 85.0}
        result = coarse_alignment(read, simulated.tilt_angle, included, **options)
        assert sorted(reads) == np.flatnonzero(included).tolist()
        assert np.all(np.diff(np.abs(simulated.tilt_angle[reads])) >= 0)
        kept = coarse_alignment(
            lambda view: simulated.images[included][view],
            simulated.tilt_angle[included],
            np.ones(13, bool),
            **options,
        )
        np.testing.assert_array_equal(result.shift[included], kept.shift)
        np.testing.assert_array_equal(result.score[included], kept.score)
        assert np.isnan(result.score[~included]).all()
        assert not result.found[~included].any()
        between = np.sort(result.shift[[4, 6]], axis=0)
        assert np.all((between[0] <= result.shift[5]) & (result.shift[5] <= between[1]))

    @pytest.mark.parametrize("dark", [(15,), (9, 20, 21), (30,)])
    @pytest.mark.parametrize("reference", ["running", "neighbour"])
    def test_dark_views_have_a_low_score_and_do_not_break_the_chain(self, dark, reference):
        simulated = series(0, dark=dark)
        result = align(simulated, reference=reference)
        rest = np.setdiff1d(np.arange(len(TILTS)), dark)
        assert result.found[rest].all()
        assert np.abs(error(result, simulated, rest)).max() < 3.5
        near = [v for v in rest if min(abs(v - d) for d in dark) <= 2]
        assert result.score[list(dark)].max() < 0.7 * result.score[near].min()

    @pytest.mark.parametrize("empty", [(15,), (9, 20, 21), (30,)])
    @pytest.mark.parametrize("reference", ["running", "neighbour"])
    def test_views_of_nothing_are_not_found_and_do_not_break_the_chain(self, empty, reference):
        simulated = series(0)
        images = simulated.images.copy()
        for view in empty:
            images[view] = np.random.default_rng(view).poisson(5.0, images.shape[1:])
        result = coarse_alignment(
            lambda view: images[view],
            simulated.tilt_angle,
            np.ones(len(TILTS), bool),
            pixel_size=PIXEL,
            tilt_axis_angle=85.0,
            reference=reference,
        )
        rest = np.setdiff1d(np.arange(len(TILTS)), empty)
        assert not result.found[list(empty)].any()
        assert result.found[rest].all()
        assert np.abs(error(result, simulated, rest)).max() < 3.5
        assert np.isnan(result.error[list(empty)]).all()
        assert np.isfinite(result.shift).all()
        assert result.score[list(empty)].max() < 0.05 < result.score[rest].min()


class TestAxisSearch:
    @pytest.mark.parametrize(
        ("axis", "beads"), [(85.0, 0), (40.0, 16), (0.0, 16)], ids=["85", "40", "0"]
    )
    def test_axis_is_found_to_a_degree(self, axis, beads):
        simulated = series(0, axis=axis, beads=beads)
        result = align(simulated, axis=None)
        assert result.axis_searched
        assert -90 < result.tilt_axis_angle <= 90
        assert abs(turned(result.tilt_axis_angle - axis)) < 1
        assert np.abs(error(result, simulated)).max() < 4

    def test_an_axis_of_the_wrong_sign_is_found_nearby(self):
        result = align(series(0, beads=16), axis=-85.0, axis_range=20.0)
        assert result.axis_searched
        assert abs(result.tilt_axis_angle + 95) < max(1.0, 2 * result.axis_error)
        assert 0 < result.axis_error < 2

    def test_an_axis_that_is_given_is_kept(self):
        result = align(series(0, tilts=tuple(TILTS[::5])), axis=83.25)
        assert result.tilt_axis_angle == 83.25
        assert not result.axis_searched


class TestRealData:
    def test_needle(self, data_dir):
        mrcfile = pytest.importorskip("mrcfile")
        with (
            pytest.warns(RuntimeWarning),
            mrcfile.open(data_dir / "stem_needle" / "HAADF.mrc", permissive=True) as file,
        ):
            images = file.data.astype(np.float32)
        tilts = np.loadtxt(data_dir / "stem_needle" / "HAADF.rawtlt")
        result = coarse_alignment(
            lambda view: images[view], tilts, np.ones(77, bool), pixel_size=1.0
        )
        # The needle lies along the axis: where its outline's middle runs, at every tilt, is a
        # measurement of the axis that knows nothing of correlations.
        columns = np.arange(5, 75)
        slopes = []
        for image in images:
            above = image - np.median(image[:40])
            bright = above > 0.25 * np.percentile(above[:, 20:60], 95)
            rows = np.indices(bright.shape)[0]
            middle = (bright * rows).sum(axis=0) / np.maximum(bright.sum(axis=0), 1)
            slopes.append(np.polyfit(columns, middle[columns], 1)[0])
        needle = 90 + np.rad2deg(np.arctan(np.median(slopes)))
        assert abs(turned(result.tilt_axis_angle - needle)) < 3
        assert result.found.all()
        assert result.score.min() > 0.5

    @pytest.mark.parametrize(("pair", "within"), [((0, 3), 2.5), ((1, 2), 1.0)])
    def test_views_that_hardly_moved(self, data_dir, pair, within):
        """Views of VLPs and gold: pairs that lie within a pixel or two of each other."""
        mrcfile = pytest.importorskip("mrcfile")
        path = data_dir / "tilt_pair" / "hiv_vlp_4_tilts.mrc"
        with mrcfile.open(path, permissive=True) as file:
            images = file.data[list(pair)].astype(np.float32)
        result = coarse_alignment(
            lambda view: images[view],
            np.zeros(2),
            np.ones(2, bool),
            pixel_size=1.0,
            tilt_axis_angle=0.0,
        )
        assert result.found.all()
        assert np.abs(result.shift[1]).max() < within


class TestErrors:
    def images(self, count=5):
        return np.random.default_rng(0).normal(100, 5, (count, 64, 64)).astype(np.float32)

    def run(self, images, **options):
        count = len(images)
        return coarse_alignment(
            lambda view: images[view],
            np.linspace(-40, 40, count),
            np.ones(count, bool),
            **({"pixel_size": 10.0, "tilt_axis_angle": 85.0} | options),
        )

    def test_constant_image(self):
        images = self.images()
        images[3] = 7
        with pytest.raises(DataError, match="view 3 is constant"):
            self.run(images)

    def test_not_finite(self):
        images = self.images()
        images[1, 4, 4] = np.nan
        with pytest.raises(DataError, match="view 1 has 1 pixels that are not finite"):
            self.run(images)

    def test_one_view(self):
        with pytest.raises(DataError, match="1 of 1 views"):
            self.run(self.images(1))

    def test_steep_view(self):
        with pytest.raises(DataError, match="89 deg"):
            coarse_alignment(
                lambda view: self.images()[view], [0.0, 89.0], [True, True], pixel_size=1.0
            )

    def test_shapes_differ(self):
        images = self.images()
        with pytest.raises(DataError, match=r"\(64, 60\)"):
            self.run([images[0], images[1], images[2], images[3][:, :60], images[4]])

    @pytest.mark.parametrize("bad", [{"reference": "both"}, {"thickness": 0.0}, {"axis_range": 0}])
    def test_parameters(self, bad):
        with pytest.raises(ParameterError):
            self.run(self.images(), **bad)

    def test_noise_alone_is_not_found(self):
        result = self.run(self.images())
        assert result.found.sum() <= 2
        assert np.nanmax(result.score) < 0.5


class TestDataset:
    def dataset(self, simulated, **attributes):
        count = len(simulated.tilt_angle)
        return xr.Dataset(
            {
                "images": (
                    ("tilt", "y", "x"),
                    dask.array.from_array(simulated.images, chunks=(1, -1, 100)),
                )
            },
            coords={
                "tilt_angle": ("tilt", simulated.tilt_angle),
                "included": ("tilt", np.arange(count) != 2),
                "section": ("tilt", np.arange(count)),
            },
            attrs={"pixel_size": PIXEL, **attributes},
        )

    def test_is_lazy_and_equals_the_function(self, no_compute):
        simulated = series(0, tilts=tuple(TILTS[::2]), beads=12)
        dataset = self.dataset(simulated, tilt_axis_angle=85.0)

        lazy = coarse_alignment_dataset(dataset)
        alignment = lazy.compute(scheduler="synchronous")
        validate(alignment, "alignment")
        expected = align(simulated, included=dataset["included"].values)
        projection = projection_of(alignment)
        np.testing.assert_array_equal(projection.shift, expected.shift)
        np.testing.assert_array_equal(projection.tilt_axis_angle, 85.0)
        np.testing.assert_array_equal(alignment["score"], expected.score)
        assert alignment.attrs["method"] == "coarse"
        assert alignment.attrs["reference"] == "running"
        again = lazy.compute(scheduler="threads", num_workers=2)
        xr.testing.assert_identical(again, alignment)

    def test_searched_axis_keeps_the_known_direction(self):
        simulated = series(0, axis=85.0, beads=16)
        dataset = self.dataset(simulated, tilt_axis_angle=-92.0)
        alignment = coarse_alignment_dataset(dataset, search_axis=True).compute()
        np.testing.assert_allclose(alignment["tilt_axis_angle"], -95.0, atol=1)
        assert alignment.attrs["tilt_axis"] == "searched"

    def test_unknown_axis_without_a_search_is_refused(self):
        dataset = self.dataset(series(0, tilts=tuple(TILTS[::5])))
        with pytest.raises(ParameterError, match="tilt axis is unknown"):
            coarse_alignment_dataset(dataset, search_axis=False)

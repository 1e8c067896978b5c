"""Aligned stacks whose contrast transfer is undone, against points imaged at their own defocus."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dask.array as da
import numpy as np
import pytest

from tests.graph.sample import tree_of, unharmed
from tomodask.errors import DataError, DoubleApplicationError, ParameterError, ProductMissingError
from tomodask.geometry import Projection
from tomodask.graph.align_stack import align_stack
from tomodask.kernels.ctf import Optics
from tomodask.model import ctf_dataset

if TYPE_CHECKING:
    import xarray as xr

PIXEL, SIZE = 1.5, 640
WAVELENGTH, CS, CONTRAST = 0.0196875, 2.7e7, 0.07
DEFOCUS_U = np.array([2.1e4, 2.2e4, 2.3e4])
DEFOCUS_V = DEFOCUS_U - 1500
ANGLE = np.array([30.0, 40.0, -80.0])
#: Specimen points (x, y) of the plane z = 0.
POINTS = np.array([[0.0, 0.0], [-370.0, 130.0], [360.0, -150.0], [-150.0, -230.0], [200.0, 220.0]])


@pytest.fixture
def projection() -> Projection:
    return Projection.create(
        [-55.0, 2.0, 50.0],
        tilt_axis_angle=85.0,
        shift=[[40.0, -30.0], [0.0, 10.0], [-25.0, 35.0]],
        magnification=[1.01, 1.0, 0.99],
        x_tilt=5.0,
    )


def raw_images(projection: Projection, hand: int) -> np.ndarray:
    """Points in raw images, each with the transfer of its height along the beam."""
    places = np.column_stack([POINTS, np.zeros(len(POINTS))])
    seen, heights = projection.project(places), projection.height(places)
    fy, fx = np.fft.fftfreq(SIZE, PIXEL)[:, None], np.fft.fftfreq(SIZE, PIXEL)
    k2, direction = fx**2 + fy**2, np.arctan2(fy, fx)
    centre = (SIZE - 1) / 2 * PIXEL
    images = []
    for view, (u, v, angle) in enumerate(zip(DEFOCUS_U, DEFOCUS_V, ANGLE, strict=True)):
        spectrum = np.zeros((SIZE, SIZE), complex)
        astigmatic = (u - v) / 2 * np.cos(2 * (direction - np.deg2rad(angle)))
        for (x, y), height in zip(seen[view], heights[view], strict=True):
            focus = (u + v) / 2 + hand * height + astigmatic
            chi = np.pi * WAVELENGTH * k2 * focus - np.pi / 2 * CS * WAVELENGTH**3 * k2**2
            wave = np.exp(-2j * np.pi * (fx * (x + centre) + fy * (y + centre)))
            spectrum += wave * np.sin(chi + np.arcsin(CONTRAST))
        low_pass = np.exp(-((np.sqrt(k2) * PIXEL / 0.3) ** 8))
        images.append(np.fft.ifft2(spectrum * low_pass).real)
    return np.array(images, np.float32)


def series_of(
    projection: Projection, hand: int, *, included: object = None, **ctf: object
) -> xr.DataTree:
    """A series with its CTF at the specimen's origin, and doses."""
    tree = tree_of(raw_images(projection, hand), PIXEL, projection, included)
    tilt_series = tree["tilt_series"].to_dataset()
    tree["tilt_series"] = tilt_series.assign_coords(
        dose=("tilt", [6.0, 0.0, 3.0]), exposure=("tilt", [3.0, 3.0, 3.0])
    )
    zero = np.zeros(3)
    values = {
        "defocus_u": DEFOCUS_U,
        "defocus_v": DEFOCUS_V,
        "astigmatism_angle": ANGLE,
        "phase_shift": zero,
        "reference_x": projection.shift[:, 0],
        "reference_y": projection.shift[:, 1],
    }
    tree["ctf"] = ctf_dataset(
        Optics(300.0, 2.7, CONTRAST), method="imported", handedness=hand, **(values | ctf)
    )
    return tree


def heights_of_points(stack: xr.DataArray, projection: Projection) -> np.ndarray:
    """(tilt, point) values of the aligned images where the points should be."""
    places = np.column_stack([POINTS, np.zeros(len(POINTS))])
    model = projection.slab_model()
    raw = projection.project(places) - model.shift[:, None]
    aligned = np.einsum("tij,tpj->tpi", np.linalg.inv(model.matrix), raw)
    images = stack.values
    first = float(stack["y"][0]), float(stack["x"][0])
    fv = np.fft.fftfreq(images.shape[1], PIXEL)[:, None]
    fu = np.fft.fftfreq(images.shape[2], PIXEL)
    values = np.empty(aligned.shape[:2])
    for t, image in enumerate(images):
        spectrum = np.fft.fft2(image)
        for p, (u, v) in enumerate(aligned[t]):  # exactly there, between pixels
            wave = np.exp(2j * np.pi * (fu * (u - first[1]) + fv * (v - first[0])))
            values[t, p] = (spectrum * wave).sum().real / image.size
    return values


@pytest.mark.parametrize("hand", [1, -1])
def test_points_are_restored_at_their_own_height(projection: Projection, hand: int) -> None:
    series = series_of(projection, hand)
    good = heights_of_points(align_stack(series, ctf="2d"), projection)
    # The first point lies at the origin, whose defocus every correction has.
    np.testing.assert_allclose(good / good[:, :1], 1, atol=0.1)
    other = heights_of_points(align_stack(series, ctf="2d", handedness=-hand), projection)
    assert (other[[0, 2], 1:3] < 0.75 * good[[0, 2], 1:3]).all()
    plain = heights_of_points(align_stack(series), projection)
    assert (plain < 0.5 * good).all()


def test_astigmatism_is_turned_with_the_image(projection: Projection) -> None:
    good = heights_of_points(align_stack(series_of(projection, 1), ctf="2d"), projection)
    mirrored = series_of(projection, 1, astigmatism_angle=-ANGLE)
    bad = heights_of_points(align_stack(mirrored, ctf="2d"), projection)
    assert (bad < 0.9 * good).all()


def test_what_was_applied_is_said(projection: Projection) -> None:
    series = series_of(projection, 1)
    stack = align_stack(series, ctf="2d", correction="wiener", snr=4, dose_weighting=True)
    assert stack.attrs["applied"] == ["alignment", "ctf", "dose weighting"]
    assert stack.attrs["provenance"]["snr"] == 4
    assert align_stack(series).attrs["applied"] == ["alignment"]


def test_building_computes_nothing(projection: Projection, no_compute: None) -> None:
    align_stack(series_of(projection, 1), ctf="2d", dose_weighting=True)


@pytest.mark.parametrize(
    ("step", "asked"), [("ctf", {"ctf": "2d"}), ("dose weighting", {"dose_weighting": True})]
)
@pytest.mark.parametrize("holder", ["series", "images"])
def test_nothing_is_applied_twice(
    projection: Projection, step: str, asked: dict[str, object], holder: str
) -> None:
    series = series_of(projection, 1)
    tilt_series = series["tilt_series"].to_dataset()
    target = tilt_series if holder == "series" else tilt_series["images"]
    target.attrs["applied"] = [step]
    series["tilt_series"] = tilt_series
    with pytest.raises(DoubleApplicationError, match=step):
        align_stack(series, **asked)


def test_weights_are_those_of_the_dose_at_the_end(projection: Projection) -> None:
    rng = np.random.default_rng(0)
    series = series_of(projection, 1)
    tilt_series = series["tilt_series"].to_dataset().assign_attrs(voltage=300.0)
    noise = rng.standard_normal((3, SIZE, SIZE)).astype(np.float32)
    tilt_series["images"] = (("tilt", "y", "x"), da.from_array(noise, chunks=(1, -1, -1)))
    series["tilt_series"] = tilt_series
    inner = np.s_[:, 40:-40, 40:-40]
    plain, weighted = (
        np.fft.rfft2(align_stack(tree, dose_weighting=True).values[inner])
        for tree in (unharmed(series.copy()), series)
    )
    rows, columns = (n - 80 for n in align_stack(series).shape[1:])
    k = np.hypot(np.fft.fftfreq(rows, PIXEL)[:, None], np.fft.rfftfreq(columns, PIXEL))
    for view, dose in ((1, 3.0), (0, 9.0)):
        for band in (0.05, 0.12, 0.22):
            ring = np.abs(k - band) < 0.004
            found = np.vdot(plain[view][ring], weighted[view][ring]).real
            found /= (np.abs(plain[view][ring]) ** 2).sum()
            raw = band / projection.magnification[view]
            expected = np.exp(-dose / 2 / (0.24499 * raw**-1.6649 + 2.8141))
            assert found == pytest.approx(expected, rel=0.03)


def test_excluded_views_without_defocus_are_aligned_alone(projection: Projection) -> None:
    unknown = np.where([True, False, False], np.nan, DEFOCUS_U)
    series = series_of(projection, 1, included=[False, True, True], defocus_u=unknown)
    stack = align_stack(series, ctf="2d")
    assert stack.attrs["provenance"]["aligned_alone"] == [0]
    np.testing.assert_array_equal(stack[0].values, align_stack(series)[0].values)
    assert np.abs(stack[1].values - align_stack(series)[1].values).max() > 0.01


def test_an_excluded_view_of_known_defocus_is_corrected(projection: Projection) -> None:
    series = series_of(projection, 1, included=[False, True, True])
    every = align_stack(series_of(projection, 1), ctf="2d")
    np.testing.assert_array_equal(align_stack(series, ctf="2d").values, every.values)


def test_what_is_not_known_is_asked_for(projection: Projection) -> None:
    unknown = np.where([True, False, False], np.nan, DEFOCUS_U)
    with pytest.raises(DataError, match=r"views 0 take part, but their defocus"):
        align_stack(series_of(projection, 1, defocus_u=unknown), ctf="2d")
    series = series_of(projection, 0)
    with pytest.raises(ParameterError, match="handedness"):
        align_stack(series, ctf="2d")
    del series["ctf"]
    with pytest.raises(ProductMissingError, match="no CTF"):
        align_stack(series, ctf="2d")
    with pytest.raises(ParameterError, match="--voltage"):
        align_stack(series, dose_weighting=True)
    series["tilt_series"] = series["tilt_series"].to_dataset().drop_vars("exposure")
    with pytest.raises(ParameterError, match="--exposure"):
        align_stack(series, dose_weighting=True)
    with pytest.raises(ParameterError, match="give one of none, 2d"):
        align_stack(series, ctf="3d")  # type: ignore[arg-type]

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask
import numpy as np
import pytest
import xarray as xr

from tests.graph.sample import tree_of
from tests.image_sample import PIXEL, contents, counted, scene, stored
from tomodask.cleaning import clean
from tomodask.errors import DataError, ParameterError, ProductMissingError
from tomodask.geometry import Projection
from tomodask.graph.preprocess import preprocess, unaligned_stack
from tomodask.io.series import open_series

if TYPE_CHECKING:
    from pathlib import Path

ANGLES = np.linspace(-20, 20, 5)
SHAPE = (120, 96)
MISSING = 3


@pytest.fixture(scope="module")
def halves() -> tuple[np.ndarray, np.ndarray]:
    even, odd = counted(scene(ANGLES, SHAPE))
    even[MISSING], odd[MISSING] = np.nan, np.nan
    even[1, 40, 50] += 5000
    return even, odd


@pytest.fixture(scope="module")
def series(halves: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = stored(tmp_path_factory.mktemp("series") / "s.zarr", ANGLES, *halves)
    clean(path)
    return path


@pytest.fixture(scope="module")
def plain(halves: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without cleaning."""
    return stored(tmp_path_factory.mktemp("plain") / "s.zarr", ANGLES, *halves)


def halved(image: np.ndarray) -> np.ndarray:
    """An image of even sizes at twice the pixel size, by numpy in float64.

    Corners coincide, so that the new centres lie half an old pixel farther in; what only the new
    Nyquist frequency itself would hold is shared by both its signs.
    """
    spectrum = np.fft.fft2(image.astype(np.float64))
    for axis, n in enumerate(image.shape):
        frequency = np.fft.fftfreq(n)
        phase = np.exp(2j * np.pi * frequency * 0.5)
        spectrum = spectrum * np.expand_dims(phase, 1 - axis)
        keep = np.abs(np.fft.fftfreq(n, 1 / n)) < n // 4
        spectrum = np.compress(keep, spectrum, axis=axis)
    # an odd number of frequencies is left: put the empty Nyquist back
    for axis, n in enumerate(image.shape):
        spectrum = np.insert(spectrum, n // 4, 0, axis=axis)
    smaller: np.ndarray = np.fft.ifft2(spectrum).real / 4
    return smaller


@pytest.mark.parametrize(
    "options", [{}, {"binning": 2}, {"binning": 3.3, "normalize": True}, {"part": "odd"}], ids=str
)
def test_nothing_is_computed(options: dict[str, Any], series: Path, no_compute: None) -> None:
    stack = preprocess(open_series(series), **options)
    assert stack.chunks is not None
    assert stack.chunksizes["tilt"] == (1,) * 4
    assert len(stack.data.__dask_graph__()) < 40
    unaligned_stack(open_series(series))


def test_one_view_costs_one_view(series: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A view is read alone, whatever is binned."""
    from tomodask.engine.shards import StoredArray

    read: list[Any] = []
    original = StoredArray.__getitem__

    def counted_read(array: StoredArray, region: Any) -> Any:
        read.append(region[0])
        return original(array, region)

    monkeypatch.setattr(StoredArray, "__getitem__", counted_read)
    preprocess(open_series(series), binning=2)[2].compute()
    assert len(read) <= 1


def test_binning_is_a_crop_of_the_spectrum(plain: Path) -> None:
    images = open_series(plain)["tilt_series"]["images"].values
    stack = preprocess(open_series(plain), binning=2)
    assert stack.shape == (4, 60, 48)
    assert stack.dtype == np.float32
    expected = halved(images[0])
    # numpy drops what the Nyquist frequency alone holds: noise of a part in 50 of the power
    difference = stack[0].values - expected
    assert difference.std() < 0.25 * expected.std()
    assert np.corrcoef(stack[0].values.ravel(), expected.ravel())[0, 1] > 0.97
    assert stack[0].values.mean() == pytest.approx(images[0].mean(), rel=1e-5)


@pytest.mark.parametrize("binning", [1, 2, 3.3])
def test_coordinates_are_of_the_image_centre(binning: float, plain: Path) -> None:
    stack = preprocess(open_series(plain), binning=binning)
    spacing = stack.attrs["pixel_size"]
    assert spacing == pytest.approx(PIXEL * binning, rel=0.03)
    for axis in "yx":
        assert float(stack[axis].mean()) == pytest.approx(0, abs=1e-9)
        np.testing.assert_allclose(np.diff(stack[axis]), spacing)


def test_a_ramp_keeps_its_place(tmp_path: Path) -> None:
    """What lies at a place in A lies there after binning."""
    y, x = (PIXEL * (np.arange(n) - (n - 1) / 2) for n in SHAPE)
    blob = np.exp(-((y[:, None] - 150) ** 2 + (x[None, :] + 80) ** 2) / (2 * 60**2))
    images = np.broadcast_to(1000 * blob, (2, *SHAPE)).astype(np.float32)
    path = stored(tmp_path / "s.zarr", ANGLES[:2], images)
    for binning in (1, 2, 3, 3.3):
        stack = preprocess(open_series(path), binning=binning)
        view = stack[0].compute()
        total = float(view.sum())
        assert float((view * view["y"]).sum()) / total == pytest.approx(150, abs=1)
        assert float((view * view["x"]).sum()) / total == pytest.approx(-80, abs=1)


def test_normalised_views(series: Path) -> None:
    stack = preprocess(open_series(series), normalize=True)
    np.testing.assert_allclose(stack.values.mean(axis=(1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(stack.values.std(axis=(1, 2)), 1, rtol=1e-4)
    raw = preprocess(open_series(series))
    assert np.corrcoef(stack[0].values.ravel(), raw[0].values.ravel())[0, 1] > 1 - 1e-6


def test_constant_view_is_no_division_by_zero(tmp_path: Path) -> None:
    path = stored(tmp_path / "s.zarr", ANGLES[:2], np.full((2, *SHAPE), 7, np.float32))
    np.testing.assert_array_equal(preprocess(open_series(path), normalize=True).values, 0)


def test_views_that_take_part(series: Path) -> None:
    """Excluded views and those without image are not there; the numbers say which are."""
    stack = preprocess(open_series(series))
    assert stack["tilt"].values.tolist() == [0, 1, 2, 4]
    np.testing.assert_array_equal(stack["tilt_angle"], ANGLES[[0, 1, 2, 4]])
    assert np.isfinite(stack.values).all()
    tree = open_series(series)
    views = tree["tilt_series"].to_dataset()
    kept = ("tilt", np.array([False, True, False, True, False]))
    tree["tilt_series"] = xr.DataTree(views.assign_coords(included=kept))
    one = preprocess(tree)
    assert one["tilt"].values.tolist() == [1]
    np.testing.assert_array_equal(one[0].values, stack[1].values)
    tree["tilt_series"] = xr.DataTree(views.assign_coords(included=("tilt", np.zeros(5, bool))))
    with pytest.raises(DataError, match="no included views"):
        preprocess(tree)


def test_what_was_done_is_said(series: Path, plain: Path) -> None:
    def applied(path: Path, **options: Any) -> Any:
        return preprocess(open_series(path), **options).attrs["applied"]

    assert applied(plain) == []
    assert applied(plain, binning=2) == ["binning"]
    assert applied(series, binning=2, normalize=True) == ["cleaning", "binning", "normalization"]
    attributes = preprocess(open_series(series), binning=2, part="even").attrs
    assert attributes["provenance"]["binning"] == 2
    assert attributes["provenance"]["part"] == "even"


def test_parts(series: Path, plain: Path, tmp_path: Path) -> None:
    full, even, odd = (
        preprocess(open_series(series), part=part, binning=2).values
        for part in ("images", "even", "odd")
    )
    np.testing.assert_allclose(even + odd, full, rtol=1e-4, atol=1e-3)
    path = stored(tmp_path / "s.zarr", ANGLES[:2], np.ones((2, *SHAPE), np.float32))
    with pytest.raises(ProductMissingError, match="no odd images: halves are made from movies"):
        preprocess(open_series(path), part="odd")


def test_store_stays_as_it_is(series: Path) -> None:
    before = contents(series)
    preprocess(open_series(series), binning=2, normalize=True).compute()
    assert contents(series) == before


def test_images_in_memory() -> None:
    values = np.random.default_rng(0).normal(100, 5, (3, 60, 50)).astype(np.float32)
    tree = tree_of(values, 8.0, Projection.create([-3.0, 0, 3]), np.array([True, False, True]))
    np.testing.assert_array_equal(unaligned_stack(tree).values, values)
    np.testing.assert_array_equal(preprocess(tree).values, values[[0, 2]])
    np.testing.assert_allclose(preprocess(tree, normalize=True).values.std(axis=(1, 2)), 1, 1e-5)


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_same_under_every_scheduler(scheduler: str, series: Path) -> None:
    expected = np.stack([preprocess(open_series(series), binning=2)[i].values for i in range(4)])
    with dask.config.set(scheduler=scheduler):
        found = preprocess(open_series(series), binning=2).values
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("binning", [0.5, 0, -1, float("nan"), float("inf"), 1000])
def test_binning_that_makes_no_sense(binning: float, series: Path) -> None:
    with pytest.raises(ParameterError):
        preprocess(open_series(series), binning=binning)

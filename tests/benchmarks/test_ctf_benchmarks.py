"""The benchmarks of contrast transfer run, and measure errors as they say."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from benchmarks import ctf_accuracy, ctf_correction_accuracy
from benchmarks.ctf_particles import SIZES, attainable, frequencies, specimen
from benchmarks.ctf_series import PIXEL, truth_of
from tomodask.kernels.ctf import Correction, Optics
from tomodask.model import ctf_dataset

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr

    from benchmarks.ctf_series import Truth

VIEWS = 9
CORRECTION = SIZES["tiny"]


def table_of(truth: Truth, **changes: Any) -> xr.Dataset:
    """Return a table that says the truth, but for the changes, where the origin is seen."""
    first = truth.ctf[0]
    values = {
        "defocus_u": np.array([one.defocus_u for one in truth.ctf]),
        "defocus_v": np.array([one.defocus_v for one in truth.ctf]),
        "astigmatism_angle": np.array([one.astigmatism_angle for one in truth.ctf]),
        "phase_shift": np.zeros(VIEWS),
        "reference_x": truth.projection.shift[:, 0],
        "reference_y": truth.projection.shift[:, 1],
        "defocus_error": np.full(VIEWS, 100.0),
        "astigmatism_error": np.full(VIEWS, 100.0),
    }
    return ctf_dataset(
        Optics(first.voltage, first.spherical_aberration, first.amplitude_contrast),
        method="estimated",
        handedness=truth.handedness,
        **values | changes,
    )


@pytest.fixture(scope="module")
def truth() -> Truth:
    return truth_of("clear", 1, VIEWS)


def test_the_truth_has_no_error(truth: Truth) -> None:
    for view in ctf_accuracy.scored(truth, table_of(truth)):
        assert view.defocus == pytest.approx(0, abs=1e-6)
        assert view.astigmatism == pytest.approx(0, abs=1e-6)


def test_errors_are_what_they_are(truth: Truth) -> None:
    first = table_of(truth)
    both = table_of(truth, defocus_u=first["defocus_u"].values + 150, defocus_v=first["defocus_v"])
    turned = table_of(truth, astigmatism_angle=first["astigmatism_angle"].values + 90)
    for view, one in enumerate(ctf_accuracy.scored(truth, both)):
        assert one.defocus == pytest.approx(75)
        assert one.astigmatism == pytest.approx(150)
        length = truth.ctf[view].defocus_u - truth.ctf[view].defocus_v
        opposite = ctf_accuracy.scored(truth, turned)[view].astigmatism
        assert opposite == pytest.approx(2 * length)
    rows = ctf_accuracy.band_rows("clear", ctf_accuracy.scored(truth, both))
    assert [row[2] for row in rows] == [3, 4, 2]
    assert rows[0][3] == "75"
    assert rows[0][7] == "100 %"
    assert rows[0][9] == "0 %"


def test_an_estimate_of_the_image_centre_is_compared_at_the_origin(truth: Truth) -> None:
    """The origin lies off the centre, where a tilted view has another defocus."""
    centre = ctf_accuracy.scored(
        truth, table_of(truth, reference_x=np.zeros(VIEWS), reference_y=np.zeros(VIEWS))
    )
    axis = np.deg2rad(truth.projection.tilt_axis_angle)
    across = np.stack([np.cos(axis), np.sin(axis)], axis=1)
    u = -(across * truth.projection.shift).sum(axis=1)
    expected = u * np.tan(np.deg2rad(truth.projection.tilt_angle)) * truth.handedness
    np.testing.assert_allclose([view.defocus for view in centre], expected, atol=1e-6)
    assert np.abs(expected).max() > 50


def test_the_benchmark_of_estimates_runs(tmp_path: Path) -> None:
    size = replace(ctf_accuracy.SIZES["tiny"], weak=0)
    kept = tmp_path / "kept"
    text = ctf_accuracy.report(size, tmp_path, keep=str(kept))
    assert "| clear | 0 |" in text
    assert "failed" not in text
    assert [path.name for path in kept.iterdir()] == [f"ctf-clear-0-{size.edge}-{size.views}.zarr"]


def test_three_dimensions_are_as_good_as_the_twin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    way = Correction("wiener", 1e3)
    monkeypatch.setattr(ctf_correction_accuracy, "_NOISE_FREE", {"wiener": way})
    monkeypatch.setattr(ctf_correction_accuracy, "_NOISY", {})
    made = specimen(CORRECTION, 0, "outer", 1.0)
    bench = ctf_correction_accuracy.Bench(made, CORRECTION, tmp_path)
    [one] = ctf_correction_accuracy.outcomes(bench)
    flat, deep, twin = one.fsc("outer")
    k = frequencies(CORRECTION)
    fine = (k > 1 / 8) & (k < 1 / 5)
    assert twin[k < 1 / 5].min() > 0.97
    assert deep[k < 1 / 5].min() > 0.97
    assert (deep - flat)[fine].min() > 0.02
    [row] = ctf_correction_accuracy.summary(one, made, CORRECTION)
    assert row[:2] == ("noise-free, wiener, hand +1", "outer")


def test_what_flipped_phases_can_reach() -> None:
    made = specimen(CORRECTION, 0, "outer", 1.0)
    squared, best = attainable(made, CORRECTION, Correction("phase-flip"))
    fine = frequencies(CORRECTION) > 0.4 / PIXEL
    # |sin| over all phases: 2 / pi over sqrt(1 / 2).
    np.testing.assert_allclose(best[fine], 2 / np.pi / np.sqrt(0.5), atol=0.02)
    np.testing.assert_allclose(squared[fine], 0.5, atol=0.05)

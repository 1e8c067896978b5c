"""What is said of a series' contrast transfer as a whole."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

import tomodask as td
from tests.ctf_rings_sample import estimated, imported
from tomodask.cli import main
from tomodask.io.imod import write_angles
from tomodask.io.mrc_writer import MrcWriter
from tomodask.io.series import write_ctf
from tomodask.model.ctf_facts import ctf_facts, trusted_views

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_views_that_are_trusted() -> None:
    ctf = estimated(doubtful=[1])
    assert trusted_views(ctf).tolist() == [True, False, True, True, True]
    ctf["confidence"].values[2] = 0.4  # fitted, but not sure
    ctf["fitted"].values[3] = False  # sure, but of its neighbours
    ctf["defocus_v"].values[4] = np.nan
    assert trusted_views(ctf).tolist() == [True, False, False, False, False]
    assert trusted_views(imported()).all()


def test_facts_are_of_the_trusted_views() -> None:
    ctf = estimated(u=20600.0, v=19500.0, doubtful=[4])
    assert ctf_facts(ctf) == {
        "method": "estimated",
        "views": 5,
        "trusted_views": 4,
        "handedness": -1,
        "handedness_confidence": 0.973,
        "warnings": ["view 4 shows no rings"],
        "defocus_range_angstrom": [20050.0, 20350.0],
        "astigmatism_angstrom": 1100.0,
        "resolution_range_angstrom": [8.0, 8.75],
    }


def test_facts_of_a_phase_plate_and_of_nothing() -> None:
    plate = estimated(phase_shift=np.linspace(80, 90, 5))
    assert ctf_facts(plate)["phase_shift_range_degree"] == [80.0, 90.0]
    nothing = ctf_facts(estimated(doubtful=range(5)))
    assert nothing["trusted_views"] == 0
    assert not any("range" in name for name in nothing)


def test_facts_are_plain_json() -> None:
    """CTFFIND's spacing is infinite where it could follow no rings."""
    ctf = estimated(
        fit_resolution=[np.inf, 8.0, np.nan, 9.0, np.inf], phase_shift=[np.nan, 80, 85, np.inf, 90]
    )
    ctf.attrs["handedness_confidence"] = np.nan
    facts = ctf_facts(ctf)
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts["resolution_range_angstrom"] == [8.0, 9.0]
    assert facts["phase_shift_range_degree"] == [80.0, 90.0]
    assert "handedness_confidence" not in facts
    nowhere = estimated(fit_resolution=np.full(5, np.inf), phase_shift=np.full(5, np.nan))
    assert not {"resolution_range_angstrom", "phase_shift_range_degree"} & set(ctf_facts(nowhere))


def test_info_names_the_contrast_transfer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with MrcWriter(tmp_path / "TS.st", shape=(7, 32, 32), voxel_size=4.0, kind="stack") as writer:
        for _ in range(7):
            writer.write(np.ones((32, 32), np.float32))
    write_angles(tmp_path / "TS.rawtlt", np.linspace(-30, 30, 7))
    store = td.import_stack(
        tmp_path / "TS.st", tmp_path / "TS.zarr", tilt_angles=tmp_path / "TS.rawtlt", tilt_axis=85
    )
    ctf = estimated(7, doubtful=[3])
    write_ctf(store, ctf)
    assert td.info(store)["ctf"] == ctf_facts(ctf)
    assert main(["info", str(store)]) == 0
    lines = capsys.readouterr().out.splitlines()
    (start,) = (number for number, line in enumerate(lines) if line.startswith("ctf "))
    assert [line[11:] for line in lines[start : start + 5]] == [
        "views: 6 of 7 to be trusted (estimated)",
        "defocus: 2.00 to 2.06 um",
        "rings: followed to 8.0 A at best, 9.0 A at worst",
        "handedness: -1 (confidence 0.97): defocus falls with height",
        "warning: view 3 shows no rings",
    ]
    assert main(["info", str(store), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ctf"]["trusted_views"] == 6

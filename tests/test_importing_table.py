"""Stacks without an mdoc: angles, order and dose from a table or from the user."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tomodask.errors import DataError, FormatError, ParameterError, TomodaskWarning
from tomodask.importing import import_stack
from tomodask.io.mrc_writer import MrcWriter
from tomodask.io.series import open_series

if TYPE_CHECKING:
    from pathlib import Path

ANGLES = [-3.0, 0.0, 3.0]
ORDER = [2, 0, 1]
TABLE = "\n".join(
    f"{angle:8.2f}  {order + 1:4d}  2.50" for angle, order in zip(ANGLES, ORDER, strict=True)
)


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path / "a.mrc"
    with MrcWriter(path, shape=(3, 32, 32), voxel_size=8.0, kind="stack") as writer:
        for _ in range(3):
            writer.write(rng.normal(size=(32, 32)).astype(np.float32))
    return path


def imported(stack: Path, **given: Any) -> Any:
    path = import_stack(stack, stack.with_suffix(".zarr"), overwrite=True, **given)
    return open_series(path)["tilt_series"].to_dataset()


def write(stack: Path, text: str) -> Path:
    path = stack.with_name("a_TLT.txt")
    path.write_text(text)
    return path


def test_aretomos_table(stack: Path) -> None:
    series = imported(stack, tilt_angles=write(stack, TABLE))
    assert series["tilt_angle"].values.tolist() == ANGLES
    assert series["order"].values.tolist() == ORDER
    assert series["exposure"].values.tolist() == [2.5] * 3
    assert series["dose"].values.tolist() == [5.0, 0.0, 2.5]


def test_users_exposure_wins(stack: Path) -> None:
    series = imported(stack, tilt_angles=write(stack, TABLE), exposure=4.0)
    assert series["dose"].values.tolist() == [8.0, 0.0, 4.0]
    assert series.attrs["provenance"]["given_by_user"] == ["exposure"]
    with pytest.warns(TomodaskWarning, match="order of acquisition is not known"):
        series = imported(stack, tilt_angles=ANGLES, exposure=4.0)
    assert series["exposure"].values.tolist() == [4.0] * 3
    assert "dose" not in series.variables
    assert "voltage" not in series.attrs
    assert imported(stack, tilt_angles=ANGLES, voltage=200.0).attrs["voltage"] == 200
    for name in ("exposure", "voltage"):
        with pytest.raises(ParameterError, match=rf"{name} -1.*--{name}"):
            imported(stack, tilt_angles=ANGLES, **{name: -1})


def test_dose_given_is_kept(stack: Path) -> None:
    table = write(stack, "tilt_angle dose\n-3 7\n0 1\n3 4\n")
    series = imported(stack, tilt_angles=table)
    assert series["dose"].values.tolist() == [7.0, 1.0, 4.0]
    assert "order" not in series.variables
    assert "exposure" not in series.variables


def mdoc(stack: Path) -> None:
    sections = (
        f"[ZValue = {z}]\nTiltAngle = {angle}\nExposureDose = 3\nPriorRecordDose = {3 * n + 1}\n"
        f"DateTime = 06-Jun-23  23:1{n}:46\n"
        for z, (angle, n) in enumerate(zip(ANGLES, ORDER, strict=True))
    )
    stack.with_name("a.mrc.mdoc").write_text("PixelSpacing = 8\n" + "\n".join(sections))


def test_table_wins_over_mdoc(stack: Path) -> None:
    mdoc(stack)
    series = imported(stack)
    # What the microscope counted includes an image taken before the series.
    assert series["dose"].values.tolist() == [7.0, 1.0, 4.0]
    assert series["order"].values.tolist() == ORDER
    given = write(stack, "tilt_angle exposure\n-3 1\n0 1\n3 2\n")
    series = imported(stack, tilt_angles=given)
    assert series["exposure"].values.tolist() == [1.0, 1.0, 2.0]
    assert series["dose"].values.tolist() == [3.0, 0.0, 1.0]
    # Angles alone leave the rest to the mdoc.
    series = imported(stack, tilt_angles=write(stack, "-3.1\n0\n3.1\n"))
    assert series["tilt_angle"].values.tolist() == [-3.1, 0.0, 3.1]
    assert series["dose"].values.tolist() == [7.0, 1.0, 4.0]
    assert imported(stack, exposure=2.0)["dose"].values.tolist() == [4.0, 0.0, 2.0]


def test_tables_that_do_not_fit_are_refused(stack: Path) -> None:
    with pytest.raises(DataError, match=r"has 2 tilt angles.*3 images"):
        imported(stack, tilt_angles=write(stack, "0 1 2\n3 2 2\n"))
    with pytest.raises(FormatError, match=r"a_TLT.txt, line 2"):
        imported(stack, tilt_angles=write(stack, TABLE.replace("   1 ", "   9 ")))

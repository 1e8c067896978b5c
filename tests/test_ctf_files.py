"""Contrast transfer from and to the files of IMOD, CTFFIND and AreTomo, in a series' store."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.image_sample import PIXEL, contents, stored
from tomodask.ctf_files import export_ctf, import_ctf
from tomodask.errors import (
    ConversionError,
    DataError,
    FormatError,
    ParameterError,
    ProductMissingError,
    TomodaskWarning,
)
from tomodask.geometry import Projection
from tomodask.io.ctffind import read_ctffind
from tomodask.io.imod_defocus import read_defocus
from tomodask.io.series import open_series, write_alignment, write_coordinates, write_ctf
from tomodask.kernels.ctf import Optics
from tomodask.model import alignment_dataset, ctf_dataset, handedness_of, transfers_at_origin

if TYPE_CHECKING:
    from pathlib import Path

#: Recorded angles, not in their order, as of a stack that was never sorted.
ANGLES = np.array([0.0, 12.0, -12.0, -24.0, 24.0, 36.0, -36.0])
#: The section of each view.
SECTION = np.array([3, 1, 0, 2, 4, 6, 5])
VIEWS = len(ANGLES)
#: The view of each section, and of each place by rising tilt; by hand.
OF_SECTION = [2, 1, 3, 0, 4, 6, 5]
OF_TILT = [6, 3, 2, 0, 1, 4, 5]
OPTICS = {"voltage": 300.0, "spherical_aberration": 2.7, "amplitude_contrast": 0.07}
TURN = 25.0  # of the tilt axis, degrees


def series(folder: Path, angles: np.ndarray = ANGLES, section: np.ndarray = SECTION) -> Path:
    path = stored(folder / "a.zarr", angles, np.ones((len(angles), 8, 8), np.float32))
    write_coordinates(path, {"section": section}, {"voltage": 300.0})
    return path


def projection() -> Projection:
    return Projection.create(ANGLES, tilt_axis_angle=TURN + np.linspace(-1, 1, VIEWS))


def aligned(folder: Path) -> Path:
    path = series(folder)
    write_alignment(path, "mine", alignment_dataset(projection(), method="imported"))
    return path


def imod_text(
    values: list[str], *, flags: int = 0, sign: float = 1.0, skip: tuple[int, ...] = ()
) -> str:
    """Rows for the sections, whose first value is the defocus; `sign` is of the tilt angles."""
    rows = []
    for place, (view, value) in enumerate(zip(OF_SECTION, values, strict=True), 1):
        if place not in skip:
            tilt = sign * ANGLES[view]
            rows.append(f"{place} {place} {tilt} {tilt} {value}")
    if flags:
        return "\n".join([f"{flags} 0 0.0 0.0 0.0 3", *rows]) + "\n"
    rows[0] += " 2"
    return "\n".join(rows) + "\n"


PLAIN = [f"{2000 + 10 * n}" for n in range(VIEWS)]


def ctffind_text(header: str = "", extra: str = "", count: int = VIEWS) -> str:
    rows = [f"{n} {20000 + n} {19000 + n} {5 * n} 0.5 0.1{n} {8 + n}{extra}" for n in range(1, 8)]
    return "\n".join([header, *rows[:count]]).strip() + "\n"


HEADER = (
    "# Output from CTFFind version 4.1.14\n# Pixel size: 2 Angstroms ; acceleration voltage: 300.0 "
    "keV ; spherical aberration: 2.00 mm ; amplitude contrast: 0.10"
)
ARETOMO = "# Columns: #1 micrograph number; #2 - defocus 1 [A]"


def imported(path: Path, file: Path, text: str, **options: Any) -> tuple[Any, str]:
    """Import a text; return the stored table and the warnings."""
    file.write_text(text)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", TomodaskWarning)
        import_ctf(path, file, **options)
    table = open_series(path)["ctf"].to_dataset()
    told = [str(warning.message) for warning in caught]
    assert told == list(table.attrs["warnings"])
    assert all(text.startswith(file.name) for text in told)
    return table, "\n".join(told)


def test_rows_of_imod_belong_to_sections(tmp_path: Path) -> None:
    table, told = imported(series(tmp_path), tmp_path / "a.defocus", imod_text(PLAIN))
    for place, view in enumerate(OF_SECTION):
        assert table["defocus_u"].values[view] == 20000 + 100 * place
    np.testing.assert_array_equal(table["defocus_u"], table["defocus_v"])
    np.testing.assert_array_equal(table["astigmatism_angle"], 0)
    assert table["fitted"].values.all()
    assert (table.attrs["method"], table.attrs["voltage"]) == ("imported", 300.0)
    assert table.attrs["provenance"]["file"] == "a.defocus"
    assert "2.7" in told, "what is assumed of the microscope is said"
    assert "0.07" in told


def test_imod_astigmatism_and_phase(tmp_path: Path) -> None:
    values = ["2000 1900 100 -30"] + ["2000 2100 20 30"] * (VIEWS - 1)
    table, told = imported(series(tmp_path), tmp_path / "a.defocus", imod_text(values, flags=5))
    first, second = OF_SECTION[:2]
    found = {name: table[name].values for name in table.data_vars}
    assert (found["defocus_u"][first], found["defocus_v"][first]) == (20000, 19000)
    assert found["astigmatism_angle"][first] == -80
    # The larger one is at right angles to the first.
    assert (found["defocus_u"][second], found["defocus_v"][second]) == (21000, 20000)
    assert found["astigmatism_angle"][second] == -70
    np.testing.assert_array_equal(found["phase_shift"], 30)
    assert "AreTomo3" in told


def test_views_without_a_row_lie_between_their_neighbours_in_tilt(tmp_path: Path) -> None:
    # Views by rising tilt have 1000 A of astigmatism towards 0, 30, 60, ... degrees.
    values = [
        f"{2000 + 100 * OF_TILT.index(v) + 50} {2000 + 100 * OF_TILT.index(v) - 50} "
        f"{30 * OF_TILT.index(v)}"
        for v in OF_SECTION
    ]
    skipped = OF_TILT[3], OF_TILT[0]
    places = tuple(OF_SECTION.index(view) + 1 for view in skipped)
    text = imod_text(values, flags=1, skip=places)
    table, told = imported(series(tmp_path), tmp_path / "a.defocus", text)
    assert sorted(np.flatnonzero(~table["fitted"].values)) == sorted(skipped)
    assert f"views {min(skipped)}, {max(skipped)}," in told
    mean = (table["defocus_u"] + table["defocus_v"]).values / 2
    between, outside = skipped
    np.testing.assert_allclose(mean[between], 23000)
    np.testing.assert_allclose(mean[outside], 21000)
    # Towards 60 and 120 degrees, half each, is 1000 cos 60 towards 90.
    stretch = (table["defocus_u"] - table["defocus_v"]).values
    np.testing.assert_allclose(stretch[between], 500)
    np.testing.assert_allclose(abs(table["astigmatism_angle"].values[between]), 90)
    np.testing.assert_allclose(stretch[outside], 1000)
    np.testing.assert_allclose(table["astigmatism_angle"].values[outside], 30)


def test_a_range_stands_for_its_middle_view(tmp_path: Path) -> None:
    tilt = np.arange(-30.0, 31, 10)
    path = series(tmp_path, tilt, np.arange(7))
    text = "1 3 -30 -10 1500 2\n4 6 0 20 1800\n"
    table, _ = imported(path, tmp_path / "a.defocus", text)
    np.testing.assert_array_equal(np.flatnonzero(table["fitted"].values), [1, 4])
    expected = np.interp(tilt, [-20, 10], [15000, 18000])
    np.testing.assert_allclose(table["defocus_u"], expected)
    (tmp_path / "b.defocus").write_text("1 3 -30 -10 1500 2\n2 2 -20 -20 1800\n")
    with pytest.raises(DataError, match="several rows for view 2"):
        import_ctf(path, tmp_path / "b.defocus", overwrite=True)


@pytest.mark.parametrize(
    ("flags", "sign", "invert"), [(0, 1.0, False), (0, -1.0, True), (16, 1.0, True)]
)
def test_the_hand_of_imod_is_what_its_manual_says(
    tmp_path: Path, flags: int, sign: float, invert: bool
) -> None:
    """At positive angles of IMOD's own the right side of the aligned image is more underfocused."""
    path = aligned(tmp_path)
    text = imod_text(["2000"] * VIEWS, flags=flags, sign=sign)
    table, told = imported(path, tmp_path / "a.defocus", text)
    assert ("inverted tilt" in told) == invert
    place = np.array([[500.0, -200.0, 0.0], [-300.0, 100.0, 0.0]])
    shown = projection()
    across = shown.to_aligned(shown.project(place))[..., 0]
    own = np.deg2rad(-ANGLES if invert else ANGLES)
    expected = 20000 + across * np.tan(own)[:, None]
    origin = [t.defocus_u for t in transfers_at_origin(table, shown)]
    found = np.array(origin)[:, None] + handedness_of(table) * shown.height(place)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("hand", [1, -1])
def test_the_hand_of_aretomo_is_what_its_source_says(tmp_path: Path, hand: int) -> None:
    """The height is -x tan(tilt), x across the axis; the defocus grows with dfHand times it."""
    path = aligned(tmp_path)
    text = ctffind_text(ARETOMO, extra=f" {hand}")
    table, told = imported(path, tmp_path / "a_CTF.txt", text)
    assert f"{hand:+d}: AreTomo" in told
    place = np.array([[500.0, -200.0, 0.0]])
    shown = projection()
    x, y = np.moveaxis(shown.project(place)[:, 0], 1, 0)
    turn = np.deg2rad(shown.tilt_axis_angle)
    height = -(x * np.cos(turn) + y * np.sin(turn)) * np.tan(np.deg2rad(ANGLES))
    origin = np.array([t.defocus_u for t in transfers_at_origin(table, shown)])
    found = origin + handedness_of(table) * shown.height(place)[:, 0]
    np.testing.assert_allclose(found, table["defocus_u"].values + hand * height, rtol=1e-12)


def test_a_hand_that_is_given_wins(tmp_path: Path) -> None:
    path = series(tmp_path)
    for text, suffix in ((imod_text(PLAIN), ".defocus"), (ctffind_text(ARETOMO, " 1"), ".txt")):
        for hand in (1, -1):
            table, told = imported(
                path, tmp_path / f"a{suffix}", text, handedness=hand, overwrite=True
            )
            assert handedness_of(table) == hand
            assert "handedness" not in told
    with pytest.raises(ParameterError, match="handedness 2"):
        import_ctf(path, tmp_path / "a.txt", handedness=2, overwrite=True)


def test_untilted_rows_do_not_tell_the_hand(tmp_path: Path) -> None:
    path = series(tmp_path, np.zeros(3), np.arange(3))
    text = "".join(f"{n} {n} 0 0 2000{' 2' * (n == 1)}\n" for n in (1, 2, 3))
    table, told = imported(path, tmp_path / "a.defocus", text)
    assert handedness_of(table) == 0
    assert "does not tell the handedness" in told


def test_ctffind_counts_sections_and_aretomo_tilts(tmp_path: Path) -> None:
    path = series(tmp_path)
    table, told = imported(path, tmp_path / "a.txt", ctffind_text(HEADER))
    assert told == ""
    np.testing.assert_array_equal(table["defocus_u"].values[OF_SECTION], 20001 + np.arange(7))
    np.testing.assert_array_equal(
        table["astigmatism_angle"].values[OF_SECTION], 5 * np.arange(1, 8)
    )
    np.testing.assert_allclose(table["phase_shift"], np.rad2deg(0.5))
    np.testing.assert_array_equal(table["fit_resolution"].values[OF_SECTION], 8 + np.arange(1, 8))
    assert table["score"].values[OF_SECTION[2]] == 0.13
    assert handedness_of(table) == 0
    assert (table.attrs["spherical_aberration"], table.attrs["amplitude_contrast"]) == (2.0, 0.1)
    table, _ = imported(path, tmp_path / "a_CTF.txt", ctffind_text(ARETOMO), overwrite=True)
    np.testing.assert_array_equal(table["defocus_u"].values[OF_TILT], 20001 + np.arange(7))
    table, _ = imported(path, tmp_path / "b.txt", ctffind_text(), format="aretomo", overwrite=True)
    np.testing.assert_array_equal(table["defocus_u"].values[OF_TILT], 20001 + np.arange(7))


def test_astigmatism_in_the_aligned_stack_is_turned_back(tmp_path: Path) -> None:
    """What the CTF image of the aligned stack shows, the raw one shows turned by the axis."""
    path = aligned(tmp_path)
    values = [f"2000 1500 {20 + 10 * n}" for n in range(VIEWS)]
    text = imod_text(values, flags=1)
    table, _ = imported(path, tmp_path / "a.defocus", text, alignment="mine", handedness=-1)
    rng = np.random.default_rng(1)
    raw = rng.uniform(-0.2, 0.2, (200, 2))  # spatial frequencies, 1/A
    seen = projection().to_aligned(np.broadcast_to(raw, (VIEWS, *raw.shape)))
    shown = transfers_at_origin(table, projection())
    wavelength = Optics(**OPTICS).wavelength
    for place, view in enumerate(OF_SECTION):
        x, y = seen[view].T
        square = x**2 + y**2
        direction = np.arctan2(y, x) - np.deg2rad(20 + 10 * place)
        defocus = 17500 + 2500 * np.cos(2 * direction)
        chi = np.pi * wavelength * square * (defocus - 2.7e7 * wavelength**2 * square / 2)
        expected = np.sin(chi + np.arcsin(0.07))
        np.testing.assert_allclose(shown[view].values(*raw.T), expected, atol=1e-6)


@pytest.mark.parametrize("name", ["a.defocus", "a.txt", "a_CTF.txt"])
@pytest.mark.parametrize("alignment", [None, "mine"])
@pytest.mark.parametrize("hand", [1, -1])
def test_a_table_comes_back(tmp_path: Path, name: str, alignment: str | None, hand: int) -> None:
    path = aligned(tmp_path)
    rng = np.random.default_rng(3)
    mean, half = rng.uniform(1e4, 5e4, VIEWS), rng.uniform(0, 500, VIEWS)
    table = ctf_dataset(
        Optics(**OPTICS),
        method="estimated",
        handedness=hand,
        defocus_u=mean + half,
        defocus_v=mean - half,
        astigmatism_angle=rng.uniform(-90, 90, VIEWS),
        phase_shift=rng.uniform(0, 180, VIEWS),
        fit_resolution=rng.uniform(3, 12, VIEWS),
        score=rng.uniform(0, 1, VIEWS),
        confidence=np.ones(VIEWS),
    )
    write_ctf(path, table)
    with pytest.warns(TomodaskWarning, match="does not hold confidence"):
        written = export_ctf(path, tmp_path / "new" / name, alignment=alignment)
    text = written.read_text()
    again, _ = imported(path, tmp_path / name, text, alignment=alignment, overwrite=True, **OPTICS)
    digits = {"a.defocus": (0.1, 0.001, 0.001), "a.txt": (1e-6, 1e-6, 6e-5)}
    length, angle, phase = digits.get(name, (0.01, 0.01, 0.0058))
    for what, digit in (
        ("defocus_u", length),
        ("defocus_v", length),
        ("phase_shift", phase),
        *((("score", angle), ("fit_resolution", angle)) if name != "a.defocus" else ()),
    ):
        np.testing.assert_allclose(again[what], table[what], rtol=0, atol=digit / 2 + 1e-9)
    difference = (again["astigmatism_angle"] - table["astigmatism_angle"]).values
    np.testing.assert_allclose((difference + 90) % 180 - 90, 0, atol=angle / 2 + 1e-9)
    assert handedness_of(again) == (0 if name == "a.txt" else hand)


def test_imod_gets_inverted_angles_for_the_other_hand(tmp_path: Path) -> None:
    path = series(tmp_path)
    values = {name: np.full(VIEWS, 20000.0) for name in ("defocus_u", "defocus_v")}
    values |= {name: np.zeros(VIEWS) for name in ("astigmatism_angle", "phase_shift")}
    for hand in (1, -1, 0):
        write_ctf(
            path, ctf_dataset(Optics(**OPTICS), method="estimated", handedness=hand, **values)
        )
        with pytest.warns(TomodaskWarning) as caught:
            export_ctf(path, tmp_path / "a.defocus", overwrite=True)
        unknown = [text for text in caught if "handedness" in str(text.message)]
        assert len(unknown) == (hand == 0)
        found = read_defocus(tmp_path / "a.defocus")
        assert found.inverted == (hand == 1)
        assert found.version == (3 if hand == 1 else 2)
        np.testing.assert_array_equal(found.low_angle, ANGLES[OF_SECTION])


def test_a_view_without_defocus_has_no_row(tmp_path: Path) -> None:
    path = series(tmp_path)
    defocus = np.full(VIEWS, 20000.0)
    defocus[OF_SECTION[2]] = np.nan
    zero = np.zeros(VIEWS)
    write_ctf(
        path,
        ctf_dataset(
            Optics(**OPTICS),
            method="estimated",
            handedness=-1,
            defocus_u=defocus,
            defocus_v=defocus,
            astigmatism_angle=zero,
            phase_shift=zero,
        ),
    )
    for name in ("a.defocus", "a.txt"):
        with pytest.warns(TomodaskWarning, match="does not hold"):
            export_ctf(path, tmp_path / name)
    assert 2 not in read_defocus(tmp_path / "a.defocus").first
    found = read_ctffind(tmp_path / "a.txt")
    assert (len(found.image), found.images, found.pixel_size) == (6, 7, PIXEL)
    assert np.isnan(found.score).all()
    with pytest.raises(ConversionError, match=f"view {OF_SECTION[2]}"):
        export_ctf(path, tmp_path / "a_CTF.txt")


def test_what_a_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    path = series(tmp_path)
    values = {name: np.full(VIEWS, 20000.0) for name in ("defocus_u", "defocus_v")}
    values |= {"astigmatism_angle": np.zeros(VIEWS), "phase_shift": np.full(VIEWS, -9.0)}
    with pytest.raises(ProductMissingError, match="no CTF"):
        export_ctf(path, tmp_path / "a.defocus")
    write_ctf(path, ctf_dataset(Optics(**OPTICS), method="estimated", handedness=1, **values))
    with pytest.raises(ConversionError, match="phase shift of -9"):
        export_ctf(path, tmp_path / "a.defocus")
    with pytest.raises(ParameterError, match="tells no format"):
        export_ctf(path, tmp_path / "a.star")
    with pytest.raises(ParameterError, match="format 'star'"):
        export_ctf(path, tmp_path / "a.txt", format="star")  # type: ignore[arg-type]
    (tmp_path / "a.txt").write_text("mine")
    with pytest.raises(ParameterError, match="overwrite"):
        export_ctf(path, tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == "mine"
    values["reference_x"] = np.full(VIEWS, 5.0)
    write_ctf(path, ctf_dataset(Optics(**OPTICS), method="estimated", handedness=1, **values))
    with pytest.raises(ConversionError, match="other places"):
        export_ctf(path, tmp_path / "a.txt", overwrite=True)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.defocus", imod_text(PLAIN) + "8 8 40 40 2000\n", "view 8.*has 7 images"),
        ("a.defocus", imod_text(PLAIN).replace("2 2 12.0 12.0", "2 2 31.0 31.0"), "view 2.*31"),
        ("a.txt", ctffind_text(HEADER, count=6), "6 images, the series has 7"),
        ("a_CTF.txt", ctffind_text(ARETOMO, count=6), "6 images.*has 7.*dark"),
        ("a.txt", ctffind_text(HEADER).replace("300.0 keV", "200.0 keV"), "200 kV.*300 kV"),
    ],
)
def test_a_file_of_another_series_is_refused(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    path = series(tmp_path)
    (tmp_path / name).write_text(text)
    before = contents(path)
    with pytest.raises(DataError, match=message) as error:
        import_ctf(path, tmp_path / name)
    assert str(tmp_path / name) in str(error.value)
    assert contents(path) == before


def test_an_offset_of_the_tilt_angles_is_said(tmp_path: Path) -> None:
    text = re.sub(
        r"^(\d+ \d+) (\S+) \S+",
        lambda row: f"{row[1]} {float(row[2]) + 10} {float(row[2]) + 10}",
        imod_text(PLAIN),
        flags=re.MULTILINE,
    )
    table, told = imported(series(tmp_path), tmp_path / "a.defocus", text)
    assert "+10.0 degrees" in told
    assert handedness_of(table) == -1


def test_an_old_file_that_counts_one_too_low_is_put_right(tmp_path: Path) -> None:
    tilt = np.arange(-30.0, 31, 10)
    path = series(tmp_path, tilt, np.arange(7))
    rows = "".join(f"{n} {n} {tilt[n]} {tilt[n]} {1500 + n}\n" for n in range(2, 6))
    table, told = imported(path, tmp_path / "a.defocus", rows)
    assert "one too low" in told
    np.testing.assert_array_equal(table["defocus_u"].values[2:6], 15000 + 10.0 * np.arange(2, 6))


def test_the_microscope_is_never_guessed_in_silence(tmp_path: Path) -> None:
    path = stored(tmp_path / "b.zarr", ANGLES, np.ones((VIEWS, 8, 8), np.float32))
    write_coordinates(path, {"section": SECTION})
    file = tmp_path / "a.defocus"
    file.write_text(imod_text(PLAIN))
    with pytest.raises(ParameterError, match=r"neither a.defocus nor .* voltage"):
        import_ctf(path, file)
    table, told = imported(path, file, imod_text(PLAIN), **OPTICS)
    assert "microscope" not in told
    table, _ = imported(
        path, tmp_path / "a.txt", ctffind_text(HEADER), amplitude_contrast=0.2, overwrite=True
    )
    assert table.attrs["voltage"] == 300.0
    assert table.attrs["amplitude_contrast"] == 0.2
    assert table.attrs["spherical_aberration"] == 2.0


def test_a_stored_table_is_replaced_only_when_told(tmp_path: Path) -> None:
    path = series(tmp_path)
    imported(path, tmp_path / "a.txt", ctffind_text(HEADER))
    with pytest.raises(ParameterError, match="overwrite"):
        import_ctf(path, tmp_path / "a.txt")
    with pytest.raises(ParameterError, match="format 'star'"):
        import_ctf(path, tmp_path / "a.txt", format="star", overwrite=True)  # type: ignore[arg-type]
    with pytest.raises(FormatError, match=r"line 1"):
        import_ctf(path, tmp_path / "a.txt", format="defocus", overwrite=True)


def test_cut_on_frequencies_are_left_out_aloud(tmp_path: Path) -> None:
    values = ["2000 30 0.5", "2000 30 0.0", *["2000 30 0.2"] * 5]
    _, told = imported(series(tmp_path), tmp_path / "a.defocus", imod_text(values, flags=36))
    assert "cut-on frequencies for views 0, 2 to 6:" in told


def test_the_content_tells_the_format(tmp_path: Path) -> None:
    path = series(tmp_path)
    for text, place in ((imod_text(PLAIN), OF_SECTION), (imod_text(PLAIN, flags=16), OF_SECTION)):
        table, _ = imported(path, tmp_path / "a_CTF_Imod.txt", text, overwrite=True)
        np.testing.assert_array_equal(
            table["defocus_u"].values[place], 20000 + 100.0 * np.arange(VIEWS)
        )


def test_real_files(data_dir: Path, tmp_path: Path) -> None:
    folder = data_dir / "metadata"
    angles = np.array(
        [line.split()[0] for line in (folder / "imod_defocus/TS_03.tlt").read_text().splitlines()],
        float,
    )
    path = series(tmp_path, angles, np.arange(len(angles)))
    for file in sorted((folder / "imod_defocus").glob("*.defocus")):
        with pytest.warns(TomodaskWarning):
            table = import_ctf(path, file, overwrite=True)
        assert handedness_of(table) == -1
        assert table["fitted"].values.sum() == 40
        assert (table["defocus_u"] >= table["defocus_v"]).all()
    tables = {"ctffind/017_ctffind4.txt": 60, "conversions/test_8col_CTF.txt": 31}
    for name, views in tables.items():
        there = tmp_path / str(views)
        there.mkdir()
        path = series(there, np.linspace(-60, 60, views), np.arange(views))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TomodaskWarning)
            table = import_ctf(path, folder / name)
        assert table["fitted"].values.all()
        rows = np.loadtxt(folder / name, comments="#")
        np.testing.assert_array_equal(table["defocus_u"], rows[:, 1])

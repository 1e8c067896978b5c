"""Which views take part: recommended, decided by the user, taken back, and honoured."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import tomodask as td
from tests.image_sample import contents, counted, scene, stored
from tomodask.cli import main
from tomodask.errors import DataError, FormatError, ParameterError, StoreError, TomodaskWarning

ANGLES = np.linspace(-32, 32, 9)
SHAPE = (160, 144)
DARK, MISSING = 0, 6
ALL = list(range(9))


def images() -> tuple[np.ndarray, np.ndarray]:
    expected = scene(ANGLES, SHAPE)
    expected[DARK] *= 0.02
    even, odd = counted(expected)
    even[MISSING], odd[MISSING] = np.nan, np.nan
    return even, odd


@pytest.fixture(scope="module")
def uncurated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stored(tmp_path_factory.mktemp("uncurated") / "s.zarr", ANGLES, *images())


@pytest.fixture
def series(uncurated: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(uncurated, tmp_path / "series" / "s.zarr"))


def included(series: Path) -> list[int]:
    """The views that later steps see."""
    return np.flatnonzero(td.open(series)["tilt_series"]["included"].values).tolist()


def without(*views: int) -> list[int]:
    return [view for view in ALL if view not in (*views, MISSING)]


def test_bad_view_is_recommended_and_flagged(series: Path) -> None:
    table = td.curate(series)
    recommended = table["recommended"].values
    assert "dark" in recommended[DARK]
    assert [view for view in ALL if recommended[view]] == [DARK]
    assert table["decided_by"].values[DARK] == "recommendation"
    assert included(series) == without(DARK)
    tree = td.open(series)
    assert tree["tilt_series"]["reason"].values[DARK] == recommended[DARK]
    assert tree["tilt_series"]["reason"].values[MISSING] == "its movie is truncated"
    assert np.isnan(table["mean"].values[MISSING])
    assert np.isfinite(table["mean"].values[without()]).all()
    good = without(DARK)
    np.testing.assert_allclose(
        table["mean"].values[good], images()[0][good].mean(axis=(1, 2)) * 2, rtol=0.01
    )
    assert not list(series.glob(".work*"))


def test_recommendation_alone(series: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["curate", str(series), "--no-automatic", "--quiet"]) == 0
    assert f"look at    {DARK}: dark" in capsys.readouterr().out
    assert included(series) == without()
    td.curate(series)
    assert included(series) == without(DARK)


def test_user_wins(series: Path) -> None:
    td.curate(series, include=[DARK], exclude={3: "ice", 4: ""})
    assert included(series) == without(3, 4)
    table = td.curate(series)  # again: what was decided stays
    assert included(series) == without(3, 4)
    assert table["decided_by"].values[[DARK, 3, 4]].tolist() == ["user"] * 3
    assert table["reason"].values[[DARK, 3, 4]].tolist() == ["", "ice", "excluded by the user"]
    td.curate(series, include=[3])  # taken back, one by one
    assert included(series) == without(4)
    td.curate(series, reset=True)
    assert included(series) == without(DARK)
    td.curate(series, reset=True, automatic=False)
    assert included(series) == without()


def test_command_line(series: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["curate", str(series), "--quiet"]
    assert main([*command, "--exclude", "2,7-8", "--reason", "bent", "--include", "0"]) == 0
    out = capsys.readouterr().out
    assert "included   5 of 9 views" in out
    assert "excluded   7: bent (user)" in out
    assert f"excluded   {MISSING}: its movie is truncated (import)" in out
    assert f"look at    {DARK}: dark" in out
    assert included(series) == without(2, 7, 8)
    assert main(["info", str(series), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["excluded_views"] == [2, MISSING, 7, 8]
    assert values["reasons"]["7"] == "bent"
    assert main([*command, "--reset"]) == 0
    assert included(series) == without(DARK)


def edited(table: Path, **changes: dict[str, str]) -> Path:
    """Change columns of rows, given as ``_3={"included": "no"}``, as a spreadsheet would."""
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for view, change in changes.items():
        rows[int(view[1:])] |= change
    with table.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return table


def test_table_goes_out_and_comes_back(series: Path, tmp_path: Path) -> None:
    before = td.curate(series, exclude={5: 'a "quoted", odd\nreason'})
    table = td.write_curation(series, tmp_path / "c.csv")
    after = td.curate(series, decisions=table)  # unchanged: nothing is decided
    assert after.equals(before)
    td.curate(
        series,
        decisions=edited(
            table,
            _0={"included": "yes"},
            _2={"included": "No", "reason": "Eis: 冷冻"},
            _5={"included": "1", "reason": "now good"},
        ),
    )
    assert included(series) == without(2)
    reasons = td.open(series)["tilt_series"]["reason"].values
    assert reasons[2] == "Eis: 冷冻"
    assert reasons[5] == reasons[DARK] == ""
    decided = td.curate(series)["decided_by"].values
    assert np.flatnonzero(decided == "user").tolist() == [DARK, 2, 5]
    td.write_curation(series, table)
    td.curate(series, decisions=edited(table, _2={"reason": "other reason"}))
    assert td.open(series)["tilt_series"]["reason"].values[2] == "other reason"


def test_table_has_what_one_decides_by(series: Path, tmp_path: Path) -> None:
    assert main(["curate", str(series), "--quiet", "--write", str(tmp_path / "c.csv")]) == 0
    with (tmp_path / "c.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["tilt_angle"]) for row in rows] == ANGLES.tolist()
    assert [row["included"] for row in rows].count("no") == 2
    assert "dark" in rows[DARK]["recommended"]
    assert float(rows[4]["mean"]) == pytest.approx(images()[0][4].mean() * 2, rel=0.02)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tilt,included\n1,no\n", "line 2"),
        ("view,included\n0,no\n1,maybe\n", "line 3: 'maybe'"),
        ("view,included\n9,no\n", "line 2: there is no view 9"),
        ("view,included\n-1,no\n", "there is no view -1"),
        ("view,included\nfirst,no\n", "line 2"),
        ("view,included\n2\n", "line 2"),
    ],
)
def test_table_that_cannot_be_read(text: str, expected: str, series: Path, tmp_path: Path) -> None:
    table = tmp_path / "c.csv"
    table.write_text(text)
    with pytest.raises(FormatError, match=expected):
        td.curate(series, decisions=table)
    assert not (series / "curation").exists()
    with pytest.raises(StoreError, match="No such file"):
        td.curate(series, decisions=tmp_path / "none.csv")


def test_table_from_a_spreadsheet(series: Path, tmp_path: Path) -> None:
    """With the mark of UTF-8 that Excel puts before it, and its line ends."""
    table = tmp_path / "c.csv"
    table.write_bytes("\ufeffview,included,reason\r\n3,no,dünn\r\n".encode())
    td.curate(series, decisions=table, automatic=False)
    assert included(series) == without(3)
    assert td.open(series)["tilt_series"]["reason"].values[3] == "dünn"
    table.write_bytes("view,included,reason\n3,no,dünn\n".encode("latin-1"))
    with pytest.raises(FormatError, match=r"c\.csv is no table: .*UTF-8"):
        td.curate(series, decisions=table)


def test_rest_is_as_it_was(series: Path, uncurated: Path) -> None:
    """Nothing is changed but the table of curation, and results of what stays keep their bits."""
    before = contents(series)
    aligned = td.align_stack(td.open(uncurated), alignment="none", binning=2)
    td.curate(series, exclude=[2, 7])
    after = contents(series)
    assert {name: after[name] for name in before} == before
    assert {name.split("/")[0] for name in after.keys() - before.keys()} == {"curation"}
    keep = without(DARK, 2, 7)
    one = td.align_stack(td.open(series), alignment="none", binning=2)
    np.testing.assert_array_equal(one[keep].values, aligned[keep].values)
    prepared = td.preprocess(td.open(series), binning=2)
    assert prepared["tilt"].values.tolist() == keep
    expected = td.preprocess(td.open(uncurated), binning=2)
    np.testing.assert_array_equal(prepared.values, expected.sel(tilt=keep).values)


def test_tomogram_is_that_of_the_views_that_stay(series: Path, tmp_path: Path) -> None:
    """To the bit as if the others had never been recorded."""
    td.curate(series, exclude=[2, 7])
    keep = without(DARK, 2, 7)
    even, odd = images()
    alone = stored(tmp_path / "alone" / "s.zarr", ANGLES[keep], even[keep], odd[keep])
    found, expected = (
        td.reconstruct(td.open(path), thickness=12, binning=2, alignment="none")
        for path in (series, alone)
    )
    np.testing.assert_array_equal(found.values, expected.values)
    one, other = td.align(series), td.align(alone)
    np.testing.assert_allclose(one["score"].values[keep], other["score"].values, atol=1e-6)


def test_view_without_image_cannot_be_included(series: Path) -> None:
    with pytest.raises(ParameterError, match=rf"view {MISSING} .*its movie is truncated"):
        td.curate(series, include=[MISSING])
    assert not (series / "curation").exists()


def test_views_that_are_not_there(series: Path) -> None:
    for options in ({"exclude": [9]}, {"include": [-1]}, {"exclude": [2], "include": [2]}):
        with pytest.raises(ParameterError):
            td.curate(series, **options)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="fewer than two views"):
        td.curate(series, exclude=[1, 2, 3, 4, 5, 7])
    assert not (series / "curation").exists()
    assert main(["curate", str(series), "--exclude", "1-x", "--quiet"]) == 2


def test_series_as_a_whole(series: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["curate", str(series), "--exclude-series", "crystalline", "--quiet"]) == 0
    assert td.info(series)["series_included"] is False
    assert main(["info", str(series)]) == 0
    assert "is excluded as a whole: crystalline" in capsys.readouterr().out
    td.curate(series, exclude=[2])  # again: it stays
    assert td.info(series)["series_reason"] == "crystalline"
    assert included(series) == without(DARK, 2)  # its views have their own decisions
    td.curate(series, include_series=True)
    assert td.info(series)["series_included"] is True
    with pytest.raises(ParameterError, match="excluded and included"):
        td.curate(series, exclude_series="x", include_series=True)


def test_measured_once(series: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And again where the images are others: cleaned, for one."""
    from tomodask import curation

    td.curate(series)
    calls: list[int] = []
    measure = curation._measure

    def counting(source: object, view: int) -> object:
        calls.append(view)
        return measure(source, view)  # type: ignore[arg-type]

    monkeypatch.setattr(curation, "_measure", counting)
    before = td.curate(series, exclude=[3])
    assert calls == []
    td.clean(series, peak=3, difference=3)
    after = td.curate(series)
    assert sorted(calls) == without()
    assert not after["deviation"].equals(before["deviation"])
    assert after["decided_by"].values[3] == "user"


@pytest.mark.parametrize("workers", [1, 3])
def test_result_depends_on_no_resource(workers: int, series: Path, uncurated: Path) -> None:
    expected = td.curate(series)
    shutil.rmtree(series / "curation")
    assert td.curate(series, workers=workers).equals(expected)


def test_before_there_are_images(tmp_path: Path) -> None:
    """Decisions on movies hold for their images."""
    from tests.movie_sample import imported, write

    files = write(tmp_path / "m")
    files.movies[1].unlink()
    path = imported(files, tmp_path / "m.zarr")
    assert td.open(path)["movies"]["included"].values.tolist() == [True, True, True, False, True]
    with pytest.raises(ParameterError, match=r"view 3 cannot be included: .* not found"):
        td.curate(path, include=[3])
    td.curate(path, exclude={0: "bent"})
    assert td.open(path)["movies"]["reason"].values[0] == "bent"
    with pytest.warns(TomodaskWarning, match="1 of 5 views have no image"):
        td.correct_motion(path)
    series = td.open(path)["tilt_series"]
    assert series["included"].values.tolist() == [False, True, True, False, True]
    assert series["reason"].values[0] == "bent"
    td.curate(path, reset=True, automatic=False)
    assert td.open(path)["tilt_series"]["included"].values.tolist()[0] is True


def test_one_reason_a_view(series: Path) -> None:
    """What the import excluded stays so until the user includes it."""
    import zarr

    group = zarr.open_group(series / "tilt_series", mode="a")
    group["included"][4] = False
    text = dict(group.attrs["text"])
    text["reason"]["values"][4] = "taken again"
    group.attrs["text"] = text
    table = td.curate(series, automatic=False)
    assert table["reason"].values[4] == "taken again"
    assert table["decided_by"].values[4] == ""
    assert included(series) == without(4)
    td.curate(series, include=[4], automatic=False)
    assert included(series) == without()

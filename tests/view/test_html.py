"""A summary says what is there, and nothing that a name smuggles in."""

from __future__ import annotations

from html.parser import HTMLParser

import dask.array as da
import numpy as np
import pytest
import xarray as xr

from tests.ctf_rings_sample import estimated, imported
from tomodask.view.html import SeriesSummary, series_html, series_text


class Cells(HTMLParser):
    """The texts of a table's cells, and the tags."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.tags = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_endtag(self, tag):
        self.tags.append("/" + tag)

    def handle_data(self, data):
        self.rows[-1].append(data)


EXPECTED = [
    ["Tilt series TS_01"],
    ["views", "5 (1 excluded)"],
    ["image size", "30 x 20 (x, y)"],
    ["pixel size", "20 A"],
    ["tilt angles", "-6.0 to +6.0 degrees"],
    ["tilt axis", "85.00 degrees"],
    ["total dose", "15.0 e/A^2"],
    ["Alignments"],
    ["coarse", "correlation, tilt axis 85.00 degrees, mean score 0.600"],
    ["imported", "imported, tilt axis 85.00 degrees"],
    ["Tomograms"],
    ["wbp", "30 x 20 x 8 (x, y, z), 20 A, 2 levels"],
]


@pytest.fixture
def straight(series):
    """The series with a tilt axis that is the same in all views."""
    for name in ("coarse", "imported"):
        axis = series[f"alignments/{name}"].dataset["tilt_axis_angle"]
        series[f"alignments/{name}"]["tilt_axis_angle"] = xr.full_like(axis, 85.0)
    return series


def test_html_holds_all_there_is(straight):
    assert Cells(series_html(straight)).rows == EXPECTED


def test_tags_are_closed(straight):
    tags = Cells(series_html(straight)).tags
    for tag in ("table", "tr", "td", "th"):
        assert tags.count(tag) == tags.count("/" + tag) > 0


def test_text_says_the_same(straight):
    lines = [line.split(maxsplit=1) for line in series_text(straight).splitlines()]
    words = [" ".join(" ".join(row).split()) for row in EXPECTED]
    assert [" ".join(" ".join(line).split()) for line in lines] == words


def test_bare_series(tilt_series):
    bare = tilt_series.drop_vars(["exposure", "dose"]).isel(tilt=[0, 1])
    del bare.attrs["tilt_axis_angle"]
    tree = xr.DataTree.from_dict({"tilt_series": bare})
    assert Cells(series_html(tree)).rows == [
        ["Tilt series"],
        ["views", "2"],
        ["image size", "30 x 20 (x, y)"],
        ["pixel size", "20 A"],
        ["tilt angles", "+0.0 to +6.0 degrees"],
        ["tilt axis", "not recorded"],
    ]


def test_contrast_transfer_in_a_few_words(series, no_compute):
    ctf = estimated(doubtful=[1])
    series["ctf"] = xr.DataTree(ctf.assign(spectrum=ctf["spectrum"].chunk()))
    rows = Cells(series_html(series)).rows
    start = rows.index(["CTF"])
    assert rows[start + 1 : start + 6] == [
        ["views", "4 of 5 to be trusted (estimated)"],
        ["defocus", "2.00 to 2.04 um"],
        ["rings", "followed to 8.0 A at best, 9.0 A at worst"],
        ["handedness", "-1 (confidence 0.97): defocus falls with height"],
        ["warning", "view 1 shows no rings"],
    ]


def test_contrast_transfer_of_which_little_is_known(series):
    series["ctf"] = xr.DataTree(imported())
    rows = Cells(series_html(series)).rows
    start = rows.index(["CTF"])
    assert rows[start + 1 : start + 5] == [
        ["views", "5 of 5 to be trusted (imported)"],
        ["defocus", "3.00 to 3.10 um"],
        ["handedness", "unknown"],
        ["Alignments"],
    ]


def test_names_are_escaped(series):
    evil = '<script src="x">&'
    series.name = evil
    series["alignments/coarse"].attrs["method"] = evil
    text = series_html(series)
    assert "<script" not in text
    cells = Cells(text)
    assert "script" not in cells.tags
    assert "".join(cells.rows[0]) == f"Tilt series {evil}"
    assert "".join(cells.rows[8]).startswith(f"coarse{evil}")


def test_no_pixels_are_read(series, no_compute):
    images = da.zeros((5, 20, 30), chunks=(1, 20, 30), dtype=np.float32)
    lazy = series["tilt_series"].to_dataset().assign(images=(("tilt", "y", "x"), images))
    series["tilt_series"] = xr.DataTree(lazy)
    assert series_html(series)


def test_summary_shows_itself(series):
    summary = SeriesSummary(series)
    assert repr(summary) == series_text(series)
    assert summary._repr_html_() == series_html(series)

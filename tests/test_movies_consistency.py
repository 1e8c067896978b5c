"""What is made of a series stays with the images and views that it was made of."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

import tomodask as td
from tests.movie_sample import ANGLES, VIEWS, imported, movie_series, write
from tomodask.cli import main
from tomodask.errors import FormatError, ParameterError, TomodaskWarning
from tomodask.io.imod import read_angles
from tomodask.io.series import alignment_names, open_series

if TYPE_CHECKING:
    from pathlib import Path

    from tomodask.simulate.movie_files import MovieFiles


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> MovieFiles:
    return write(tmp_path_factory.mktemp("movies"), movie_series())


@pytest.fixture(scope="module")
def corrected(files: MovieFiles, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "m.zarr"
    imported(files, path)
    td.correct_motion(path)
    td.align(path, tilt_axis=85.0)
    return path


@pytest.fixture
def store(corrected: Path, tmp_path: Path) -> Path:
    path: Path = tmp_path / "m.zarr"
    shutil.copytree(corrected, path)
    return path


def test_alignment_and_stack_leave_in_one_order(store: Path, tmp_path: Path) -> None:
    td.curate(store, exclude=[1], automatic=False)
    tree = td.open(store)
    td.export_images(tree, tmp_path / "s.mrc")
    td.export_alignment(tree, tmp_path / "imod", alignment="coarse")
    np.testing.assert_allclose(read_angles(tmp_path / "s.rawtlt"), ANGLES, atol=0.01)
    np.testing.assert_allclose(read_angles(tmp_path / "imod" / "coarse.tlt"), ANGLES, atol=0.01)
    for excluded in (tmp_path / "s.excluded", tmp_path / "imod" / "coarse.excluded"):
        assert excluded.read_text().split() == ["2"]


def test_view_that_was_not_aligned_is_named(store: Path) -> None:
    td.curate(store, exclude=[1], automatic=False)
    td.align(store, tilt_axis=85.0, overwrite=True)
    td.align_stack(td.open(store))
    td.curate(store, include=[1], automatic=False)
    with pytest.warns(TomodaskWarning, match="views 1 take part, but alignment 'coarse'"):
        td.align_stack(td.open(store))


def test_alignment_whose_replacement_is_killed(store: Path) -> None:
    folder = store / "alignments"
    (folder / "coarse").rename(folder / ".coarse.before")
    shutil.copytree(folder / ".coarse.before", folder / ".coarse.0123abcd")
    assert alignment_names(store) == ["coarse"]
    assert list(open_series(store)["alignments"].children) == ["coarse"]
    td.align(store, tilt_axis=85.0, overwrite=True)
    assert [item.name for item in folder.iterdir() if item.is_dir()] == ["coarse"]


def test_import_of_other_views_forgets_what_was_made(store: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other", movie_series(angles=ANGLES + 1.0))
    with pytest.warns(TomodaskWarning, match=r"motion, alignments/coarse"):
        imported(other, store, overwrite=True)
    assert set(td.open(store).children) == {"movies"}


def test_cleaning_belongs_to_its_images(store: Path) -> None:
    td.clean(store)
    assert "edited" in td.open(store)["tilt_series"]["images"].encoding
    td.correct_motion(store, skip_first=1, overwrite=True)
    with pytest.warns(TomodaskWarning, match="clean them again"):
        tree = td.open(store)
    assert "edited" not in tree["tilt_series"]["images"].encoding


def test_edits_are_not_lost_in_silence(store: Path) -> None:
    td.clean(store)
    tree = td.open(store)
    tree["tilt_series"] = tree["tilt_series"].to_dataset().isel(tilt=slice(1, None))
    with pytest.warns(TomodaskWarning, match="cut or changed"):
        stack = td.unaligned_stack(tree)
    assert "applied" not in stack.attrs


def test_reset_with_a_table(store: Path, tmp_path: Path) -> None:
    td.curate(store, exclude={1: "bent"}, automatic=False)
    table = td.write_curation(store, tmp_path / "views.csv")
    result = td.curate(store, decisions=table, reset=True, automatic=False)
    assert result["included"].values.tolist() == [True, False, True, True, True]
    assert result["reason"].values[1] == "bent"


def test_table_of_a_spreadsheet_with_semicolons(store: Path, tmp_path: Path) -> None:
    table = tmp_path / "views.csv"
    table.write_text("view;included;reason\n2;no;ice\n")
    assert td.curate(store, decisions=table)["reason"].values[2] == "ice"
    table.write_text("view,included\n")
    with pytest.raises(FormatError, match="holds no rows"):
        td.curate(store, decisions=table)
    table.write_text("view,included\n1,no\n1,yes\n")
    with pytest.raises(FormatError, match="line 3: view 1 stands there twice"):
        td.curate(store, decisions=table)


def test_exposure_counts_in_what_is_measured(store: Path, files: MovieFiles) -> None:
    before = td.curate(store).attrs["measured"]
    imported(files, store, overwrite=True, exposure=30.0)
    td.correct_motion(store)
    assert td.curate(store).attrs["measured"] != before


def test_options_of_eer_are_for_eer(files: MovieFiles) -> None:
    folder = files.movies[0].parent
    for options in ({"superresolution": 2}, {"eer_group": 4}, {"eer_dose": 0.3}):
        with pytest.raises(ParameterError, match="is no EER"):
            td.read_movies(files.mdocs[0], frames=folder, **options)


def test_movies_contradict_what_is_said_of_the_gain(files: MovieFiles) -> None:
    folder = files.movies[0].parent
    with pytest.warns(TomodaskWarning, match="the movies say rot0, rot180 was given"):
        td.read_movies(files.mdocs[0], frames=folder, gain=files.gain, gain_orientation="rot180")
    with pytest.warns(TomodaskWarning, match="one is to multiply by it, the contrary"):
        td.read_movies(files.mdocs[0], frames=folder, gain=files.gain, gain_reciprocal=True)


def test_what_was_found_is_told(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(store)]) == 0
    told = capsys.readouterr().out
    assert "rot0, multiply by it (as the movies tell)" in told
    assert f"views      {VIEWS} of" in told
    (store / "tilt_series" / "images" / ".ledger" / "COMPLETE").unlink()
    assert main(["info", str(store)]) == 0
    assert f"motion: {VIEWS} of {VIEWS} movies finished" in capsys.readouterr().out

"""Pictures show what is in the data, at its place."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest
from matplotlib.image import imread

from tomodask.errors import StoreError
from tomodask.view.images import orthoslices_png, tilt_montage_png


def grey(path):
    """Red channel of a PNG, first row at the top."""
    return imread(path)[..., 0]


def blobs(picture, threshold):
    """Centres (row, column) of the regions brighter than a threshold, the largest first."""
    from scipy import ndimage

    labels, count = ndimage.label(picture > threshold)
    sizes = ndimage.sum_labels(np.ones_like(picture), labels, range(1, count + 1))
    centres = ndimage.center_of_mass(np.ones_like(picture), labels, range(1, count + 1))
    return [centres[i] for i in np.argsort(-sizes)]


@pytest.fixture
def marked(volume_of):
    """Grey, with a white cube of 11 voxels about (z, y, x) = (12, 50, 180), a black one beside."""
    values = np.zeros((40, 160, 240), np.float32)
    values[7:18, 45:56, 175:186] = 1
    values[6:19, 44:57, 150:163] = -1
    return volume_of(values)


def panels(picture, depth, rows, columns):
    """The XY, XZ and YZ panels of a picture, first row at the bottom, one element a voxel.

    They are found by their sizes, from the lower left corner, where the names of the axes are.
    """
    zoom = max(1, 900 // (max(rows, columns) + depth))
    upright = picture[::-1]
    bottom, left, gap = 28, 28, 10
    above, beside = bottom + depth * zoom + gap, left + columns * zoom + gap
    centre = zoom // 2

    def part(row, column, high, wide):
        return upright[row : row + high * zoom, column : column + wide * zoom][
            centre::zoom, centre::zoom
        ]

    return (
        part(above, left, rows, columns),
        part(bottom, left, depth, columns),
        part(above, beside, rows, depth),
    )


def test_each_panel_shows_the_mark_at_its_place(marked, tmp_path):
    path = orthoslices_png(marked, tmp_path / "a.png", z=12, y=50, x=180)
    xy, xz, yz = panels(grey(path), *marked.shape)
    assert xy.shape == (160, 240)
    assert xz.shape == (40, 240)
    assert yz.shape == (160, 40)
    for panel, place in ((xy, (50, 180)), (xz, (12, 180)), (yz, (50, 12))):
        row, column = place
        assert (panel[row - 5 : row + 6, column - 5 : column + 6] == 1).all()
        assert (panel[row - 7 : row + 8, column - 7 : column + 8] == 1).sum() == 121
    for panel, row in ((xy, 50), (xz, 12)):
        assert (panel[row - 6 : row + 7, 150:163] == 0).all()


def test_centre_is_the_default(marked, tmp_path):
    path = orthoslices_png(marked, tmp_path / "a.png")
    given = orthoslices_png(marked, tmp_path / "b.png", z=20, y=80, x=120)
    assert path.read_bytes() == given.read_bytes()


def test_scale_bar_has_its_length(marked, tmp_path):
    """240 voxels of 1 nm: a quarter is 60 nm, so the bar is 50 nm, 50 voxels."""
    path = orthoslices_png(marked, tmp_path / "a.png", z=30)
    xy, _, _ = panels(grey(path), *marked.shape)
    longest = 0
    for row in xy[:40, :120] > 0.9:
        edges = np.flatnonzero(np.diff(np.concatenate([[0], row, [0]])))
        longest = max(longest, *np.diff(edges)[::2], 0)
    assert longest == pytest.approx(50, abs=2)


def test_large_volume_is_brought_to_size(volume_of, tmp_path):
    values = np.random.default_rng(0).normal(size=(20, 900, 600)).astype(np.float32)
    values[:, 600:700, 100:200] = 50
    path = orthoslices_png(volume_of(values), tmp_path / "a.png", max_pixels=500)
    picture = grey(path)
    assert max(picture.shape) < 600
    row, column = blobs(picture[40:-60, 40:300], 0.9)[0]
    # 920 pixels are averaged by two: y = 650 is 325 up of 450, x = 150 is 75 from the left.
    assert row + 40 == pytest.approx(30 + 450 - 325, abs=2)
    assert column + 40 == pytest.approx(28 + 75, abs=2)


def test_flat_and_tiny_volumes_have_pictures(volume_of, tmp_path):
    for shape in ((1, 8, 9), (3, 1, 300), (1, 1, 2)):
        path = orthoslices_png(volume_of(np.zeros(shape, np.float32)), tmp_path / "a.png")
        assert min(grey(path).shape) > 50


def test_volume_of_integers_has_a_picture(volume_of, tmp_path):
    values = np.random.default_rng(0).integers(0, 255, (4, 40, 40), dtype=np.uint8)
    assert grey(orthoslices_png(volume_of(values), tmp_path / "a.png")).std() > 0.1


def test_picture_is_whole_or_absent(marked, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    target = tmp_path / "a.png"
    target.write_bytes(b"the picture before")
    save = Figure.savefig

    def interrupted(self, path, **options):
        save(self, path, **options)
        assert target.read_bytes() == b"the picture before"
        raise KeyboardInterrupt

    monkeypatch.setattr(Figure, "savefig", interrupted)
    with pytest.raises(KeyboardInterrupt):
        orthoslices_png(marked, target)
    assert [item.name for item in tmp_path.iterdir()] == ["a.png"]
    assert target.read_bytes() == b"the picture before"
    monkeypatch.undo()
    orthoslices_png(marked, target)
    assert target.read_bytes().startswith(b"\x89PNG")
    assert [item.name for item in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_forbidden_place_is_told(marked, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match=r"a\.png"):
        orthoslices_png(marked, tmp_path / "a.png")


def test_threads_draw_the_same_picture_without_pyplot(marked, tmp_path):
    import matplotlib.pyplot as plt

    paths = [tmp_path / f"{number}.png" for number in range(4)]
    threads = [threading.Thread(target=orthoslices_png, args=(marked, path)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({path.read_bytes() for path in paths}) == 1
    assert not plt.get_fignums()


def test_montage_shows_views_by_angle_and_upright(tilt_series, tmp_path):
    """Each view has its bright pixel low, and the further right the later it is in the stack."""
    images = np.kron(tilt_series["images"].values, np.ones((1, 4, 4)))  # 80 x 120 pixels
    tilt_series = tilt_series.drop_vars("images").assign(images=(("tilt", "y", "x"), images))
    picture = imread(tilt_montage_png(tilt_series, tmp_path / "m.png"))[..., :3]
    cell_high, cell_wide, columns = 84, 124, 2
    caption = 30
    assert picture.shape[0] == caption + 3 * cell_high
    by_angle = [2, 4, 1, 3, 0]
    for place, view in enumerate(by_angle):
        row, column = divmod(place, columns)
        top, left = caption + row * cell_high + 2, column * cell_wide + 2
        cell = picture[top : top + 80, left : left + 120].min(axis=-1)
        row, column = 4 * (19 - 3), 4 * (2 + 5 * view)
        assert (cell[row : row + 4, column : column + 4] == 1).all()
        # The frame of red about the one view that is excluded.
        edge = picture[top + 10, left - 1]
        np.testing.assert_allclose(edge, (1, 0, 0) if view == 2 else (1, 1, 1), atol=0.3)


def test_montage_of_many_views_keeps_to_its_size(tilt_series, tmp_path):
    views = np.tile(np.arange(5), 20)
    path = tilt_montage_png(tilt_series.isel(tilt=views), tmp_path / "m.png", max_pixels=200)
    assert max(grey(path).shape) < 450

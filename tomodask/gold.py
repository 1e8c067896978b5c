"""Erasing gold: where the beads are in every view; they are filled when tomograms are made."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from scipy.spatial import cKDTree

from tomodask.engine.measure import measured
from tomodask.engine.workers import Resources
from tomodask.errors import ParameterError, ProductMissingError, TomodaskWarning
from tomodask.graph.inputs import chosen_projection, view_source
from tomodask.io.series import imported_views, open_series
from tomodask.io.tables import remove_table, write_table
from tomodask.kernels.beads.detect import detect_beads
from tomodask.kernels.beads.discover import discover
from tomodask.kernels.beads.model import Model
from tomodask.kernels.beads.outline import outline_radius, radial_profile
from tomodask.model import provenance, tilt_series_of, views_with_image
from tomodask.positioning import landmark_points

if TYPE_CHECKING:
    from distributed import Client
    from numpy.typing import NDArray

    from tomodask.engine.events import Listener
    from tomodask.geometry import Projection
    from tomodask.graph.aligned_views import ViewSource

    FloatArray = NDArray[np.float64]

__all__ = ["erase_gold", "undo_erasing"]

#: Raised by hand whenever the same images and parameters give other discs.
NUMERICS = 1
#: Arrays of an image's size that finding beads needs.
_COPIES = 8
_NM = 10.0
#: How much like the others a bead that is not tracked must be, 0 to 1.
_QUALITY = 0.5
#: Two places within this part of a diameter are one bead.
_SAME = 0.6
#: Prior deviation of a bead's height, A.
_DEPTH = 1000.0


def erase_gold(
    series: str | Path,
    *,
    landmarks: str | None = None,
    alignment: str | None = None,
    diameter: float | None = None,
    radius: float | None = None,
    untracked: bool = True,
    workers: int | None = None,
    memory_limit: str | float | None = None,
    scheduler: str | Client = "threads",
    progress: Listener | None = None,
) -> xr.Dataset:
    """Find all gold beads, so that tomograms and aligned stacks are made without them.

    The images stay as they are, and steps that measure or align them see the gold. A bead is
    erased in every view: where it was tracked, where the solved geometry predicts it, and, for
    beads that were never tracked, where it is found in the view.

    Parameters
    ----------
    series
        Folder of the store.
    landmarks
        Name of the landmarks; by default the only ones made of beads, or none.
    alignment
        That predicts the views in which a bead was not tracked; by default the one with the
        landmarks' name.
    diameter
        Of the beads, nm; by default that of the landmarks.
    radius
        Of the discs that are erased, nm; by default as far as the beads and their fringes can be
        seen in the mean of all.
    untracked
        Whether beads that were not tracked are looked for.
    workers, memory_limit, scheduler, progress
        As in ``tomodask.store``.

    Returns
    -------
    xarray.Dataset
        The discs, as stored: ``y``, ``x`` and ``radius`` in pixels, ``landmark``, and ``start``,
        where each view's begin.

    Raises
    ------
    ProductMissingError
        If the series has no images yet, or no landmarks or alignment of that name.
    ParameterError
        If the diameter is not known, or a length makes no sense.

    Warns
    -----
    TomodaskWarning
        If no gold is found.

    See Also
    --------
    undo_erasing
    """
    path = Path(series).expanduser().resolve()
    tree = open_series(path)
    views = tilt_series_of(tree)
    source = view_source(views)
    table = _bead_landmarks(tree, landmarks)
    size = _diameter(table, diameter) / source.pixel_size
    if radius is not None and not radius > 0:
        raise ParameterError(f"radius {radius:g} nm: give a positive number")
    projection = _projection(tree, table, alignment)
    places = [(np.zeros((0, 2)), np.zeros(0, np.int64)) for _ in range(views.sizes["tilt"])]
    if table is not None and projection is not None:
        places = _tracked(projection, table, size, source)
    there = views_with_image(views)
    parameters = {"diameter": size, "untracked": bool(untracked)}
    arguments = [(source, view, places[view][0].tolist(), parameters) for view in there]
    identity = {
        "step": "erase gold",
        "numerics": NUMERICS,
        "images": list(source.checksums),
        "edits": None if source.edits is None else source.edits.digest,
        "places": _digest([positions for positions, _ in places]),
        **parameters,
    }
    with measured(
        f"erase gold {path.name}",
        path / ".work" / "gold",
        identity,
        _look,
        arguments,
        stage="find gold",
        task_bytes=4 * _COPIES * int(np.prod(source.shape)),
        resources=Resources(workers=workers, memory_limit=memory_limit, scheduler=scheduler),
        listen=progress,
    ) as found:
        if radius is None:
            profiles = [np.array(item["profile"]) for item in found if item["profile"]]
            reach = outline_radius(profiles, size)
        else:
            reach = radius * _NM / source.pixel_size
        more = [np.zeros((0, 2))] * len(places)
        for view, item in zip(there, found, strict=True):
            more[view] = np.array(item["untracked"]).reshape(-1, 2)
        if projection is not None:
            more = _in_all_views(more, projection, views["included"].values, size, source)
        places = [
            (np.concatenate([known, new]), np.concatenate([numbers, np.full(len(new), -1)]))
            for (known, numbers), new in zip(places, more, strict=True)
        ]
        table = _table(places, set(there), reach, source.shape)
        table.attrs |= {
            "images": list(source.checksums),
            "provenance": provenance(
                "erase_gold",
                landmarks=landmarks,
                alignment=alignment,
                radius=round(reach * source.pixel_size, 3),
                **parameters,
            ),
        }
        write_table(path, "gold", table, "gold")
    if not table.sizes["edit"]:
        warnings.warn(
            f"{path.name}: no gold was found, so none is erased; give the diameter of the beads, "
            "or their landmarks",
            TomodaskWarning,
            stacklevel=2,
        )
    return table


def undo_erasing(series: str | Path) -> None:
    """Forget where gold is: tomograms are made with it again.

    Parameters
    ----------
    series
        Folder of the store.

    Raises
    ------
    StoreError
        If there is no store, or the table cannot be removed.
    """
    path = Path(series).expanduser().resolve()
    imported_views(path)
    remove_table(path, "gold")


def _bead_landmarks(tree: xr.DataTree, name: str | None) -> xr.Dataset | None:
    """Return the landmarks asked for, or the only ones that are beads, None without any."""
    nodes = dict(tree["landmarks"].children) if "landmarks" in tree.children else {}
    tables: dict[str, xr.Dataset] = {key: node.to_dataset() for key, node in nodes.items()}
    if name is not None and name not in tables:
        raise ProductMissingError(
            f"{tree.name} has no landmarks {name!r} (there: {', '.join(tables) or 'none'})"
        )
    beads = [key for key, table in tables.items() if "bead_diameter" in table.attrs]
    if name is None and len(beads) > 1:
        raise ProductMissingError(
            f"{tree.name} has several landmarks made of beads ({', '.join(beads)}): name one with "
            "landmarks= (--landmarks)"
        )
    if name is None and not beads:
        return None
    label = name or beads[0]
    return tables[label].assign_attrs(name=label)


def _projection(tree: xr.DataTree, table: xr.Dataset | None, name: str | None) -> Projection | None:
    """Return the projection that predicts where beads are; None where nothing does nor must."""
    there = tree["alignments"].children if "alignments" in tree.children else {}
    if name is None and table is not None and table.attrs["name"] in there:
        name = table.attrs["name"]
    if name is None and table is None and len(there) != 1:
        return None
    return chosen_projection(tree, name)[0]


def _diameter(table: xr.Dataset | None, given: float | None) -> float:
    """Return the diameter of the beads, A."""
    if given is not None:
        if not given > 0:
            raise ParameterError(f"diameter {given:g} nm: give a positive number")
        return given * _NM
    if table is None or "bead_diameter" not in table.attrs:
        raise ParameterError(
            "the diameter of the beads is not known: give it with diameter= (--diameter), in nm"
        )
    return float(table.attrs["bead_diameter"])


def _tracked(
    projection: Projection, table: xr.Dataset, diameter: float, source: ViewSource
) -> list[tuple[FloatArray, NDArray[np.int64]]]:
    """Return (bead, 2) places (y, x), index of row and column, and numbers of beads, by view."""
    seen = np.isin(table["source"].values, ("tracked", "edited"))
    position = np.full((len(projection), table.sizes["landmark"], 2), np.nan)
    of, view = table["landmark_of"].values[seen], table["view"].values[seen]
    position[view, of] = np.stack([table["x"].values[seen], table["y"].values[seen]], axis=1)
    # Beads that the solution does without, and gives no weight, are gold all the same.
    in_use = table["chosen"].values[table["landmark_of"].values]
    weight = np.where(in_use, table["weight"].values, np.nan)
    everyone = table.assign(
        chosen=("landmark", np.ones(table.sizes["landmark"], bool)),
        weight=("observation", weight),
    )
    points = landmark_points(projection, everyone)
    predicted = projection.project(np.nan_to_num(points))
    predicted[:, np.isnan(points[:, 2])] = np.nan
    off = np.linalg.norm(position - predicted, axis=2) > diameter * source.pixel_size / 2
    place = np.where((np.isnan(position[..., 0]) | off)[..., None], predicted, position)
    middle = (np.array(source.shape) - 1) / 2
    numbers = table["number"].values
    result = []
    for of_view in place:
        there = np.isfinite(of_view).all(axis=1)
        result.append((of_view[there][:, ::-1] / source.pixel_size + middle, numbers[there]))
    return result


def _in_all_views(
    found: list[FloatArray],
    projection: Projection,
    included: NDArray[np.bool_],
    diameter: float,
    source: ViewSource,
) -> list[FloatArray]:
    """Return where beads that were found view by view are in all views.

    A bead that is found in some views is one point of the specimen, which shows in the others too:
    there it may be faint, or overlap with another.
    """
    middle = (np.array(source.shape) - 1) / 2
    matrix = projection.image_matrix() @ projection.view_matrix()[:, :2]
    model = Model(
        detected=[(places - middle)[:, ::-1] for places in found],
        shape=source.shape,
        tilt_angle=projection.tilt_angle,
        tilt_axis_angle=float(np.median(projection.tilt_axis_angle)),
        matrix=matrix,
        shift=projection.shift / source.pixel_size,
        aligned=np.asarray(included, np.bool_),
        index=np.full((0, len(found)), -1),
        depth=_DEPTH / source.pixel_size,
        coarse_shift=np.zeros((len(found), 2)),
        drift=0.0,
    )
    model.index = discover(model, tolerance=_SAME * diameter / 2)
    points, _ = model.points()
    result = []
    for view, places in enumerate(found):
        own = model.index[:, view] >= 0
        predicted = points[~own] @ matrix[view].T + model.shift[view]
        result.append(np.concatenate([places, predicted[:, ::-1] + middle]))
    return result


def _look(
    source: ViewSource, view: int, places: list[list[float]], parameters: dict[str, Any]
) -> dict[str, Any]:
    """Return the beads of a view that were not tracked, and what its beads look like."""
    image, size = source.read(view), parameters["diameter"]
    known = np.array(places).reshape(-1, 2)
    more = np.zeros((0, 2))
    if parameters["untracked"]:
        found = detect_beads(image, size)
        middle = (np.array(image.shape) - 1) / 2
        more = found.position[found.quality >= _QUALITY][:, ::-1] + middle
        if len(known) and len(more):
            more = more[cKDTree(known).query(more)[0] > _SAME * size]
    profile = radial_profile(image, np.concatenate([known, more]), size)
    return {
        "untracked": more.round(2).tolist(),
        "profile": None if profile is None else profile.round(5).tolist(),
    }


def _table(
    places: list[tuple[FloatArray, NDArray[np.int64]]],
    views: set[int],
    radius: float,
    shape: tuple[int, int],
) -> xr.Dataset:
    lengths, rows, numbers = [], [], []
    for view, (position, number) in enumerate(places):
        touches = ((position > -radius) & (position < np.array(shape) - 1 + radius)).all(axis=1)
        touches &= view in views
        lengths.append(int(touches.sum()))
        rows.append(position[touches].round(2))
        numbers.append(number[touches])
    position = np.concatenate(rows)
    variables = {
        "start": ("bound", np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)),
        "y": ("edit", position[:, 0]),
        "x": ("edit", position[:, 1]),
        "radius": ("edit", np.full(len(position), round(radius, 3))),
        "landmark": ("edit", np.concatenate(numbers).astype(np.int64)),
    }
    digest = _digest([variables[name][1] for name in ("start", "y", "x", "radius")])
    return xr.Dataset(variables, attrs={"digest": digest})


def _digest(arrays: list[NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]

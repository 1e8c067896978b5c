"""Landmarks of a series, to look at, to mend by hand, and to solve again."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from tomodask.errors import ParameterError, ProductMissingError, TomodaskWarning
from tomodask.graph.inputs import view_source
from tomodask.io.series import (
    alignment_names,
    check_name,
    landmark_names,
    open_series,
    read_landmarks,
    write_alignment,
    write_landmarks,
)
from tomodask.kernels.beads import centre_beads
from tomodask.model import (
    edit_landmarks,
    history_of,
    measured_observations,
    missing_views,
    observation_index,
    projection_of,
    tilt_series_of,
    undo_edit,
)
from tomodask.solving import solve_landmarks, solved_together

if TYPE_CHECKING:
    from collections.abc import Mapping

    import xarray as xr
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from tomodask.kernels.bundle import Variables

__all__ = ["Landmarks", "open_landmarks"]

#: Standard error of a centre, diameters, beyond which there is no bead; beads have a fifth of it.
_NO_BEAD = 0.03


def open_landmarks(series: str | Path, name: str | None = None) -> Landmarks:
    """Open the landmarks of a series.

    Parameters
    ----------
    series
        Folder of the store.
    name
        Name of the landmarks; by default the only ones that there are.

    Returns
    -------
    Landmarks

    Raises
    ------
    ProductMissingError
        If there are none of that name, or several and none is named.

    Warns
    -----
    TomodaskWarning
        Where the alignment of that name was not solved from the landmarks as they are.
    """
    path = Path(series).expanduser().resolve()
    tree = open_series(path)
    names = landmark_names(path)
    if name is None and len(names) > 1:
        raise ProductMissingError(
            f"{path} has landmarks {', '.join(names)}: name one with name= (--name)"
        )
    label = name or (names[0] if names else "beads")
    table = read_landmarks(path, label)
    there = "alignments" in tree.children and label in tree["alignments"].children
    alignment = tree[f"alignments/{label}"].to_dataset() if there else None
    if alignment is not None and not solved_together(table, alignment):
        warnings.warn(
            f"{path.name}: alignment {label!r} was not solved from landmarks {label!r} as they "
            "are: one of the two was replaced, or storing them was interrupted; solve and save "
            "them (--solve)",
            TomodaskWarning,
            stacklevel=2,
        )
    return Landmarks(path, label, table, tilt_series_of(tree), alignment)


class Landmarks:
    """Landmarks of a series and the alignment that they give.

    Nothing is stored before :meth:`save`. Edits return the object itself, so that they can be
    written one after the other, and each can be undone. What was set or deleted by hand stays:
    no automatic step changes it.

    Parameters
    ----------
    path
        Folder of the store.
    name
        Of the landmarks and of their alignment.
    table
        The landmarks.
    views
        The tilt series: "tilt_angle", "included", and attributes.
    alignment
        The solution, None before there is one.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        table: xr.Dataset,
        views: xr.Dataset,
        alignment: xr.Dataset | None = None,
    ) -> None:
        self.path = path
        self.name = name
        self.table = table
        self.alignment = alignment
        self._views = views

    def __repr__(self) -> str:
        return "\n".join(self.summary())

    def summary(self) -> list[str]:
        """Return lines that say how many landmarks there are and how well they fit."""
        measured = self._measured()
        chosen = int(self.table["chosen"].sum())
        pixel = float(self._views.attrs["pixel_size"])
        filled = int((self.table["source"].values == "filled").sum())
        lines = [
            f"landmarks  {self.name}: {chosen} in use of {self.table.sizes['landmark']}, "
            f"{int(measured.sum())} measured points, {filled} filled, "
            f"{len(self.edits())} edits"
        ]
        length = self._residual_length()[measured]
        if np.isfinite(length).any():
            known = length[np.isfinite(length)]
            lines.append(
                f"residual   mean {known.mean() / pixel:.3f} px, sd {known.std() / pixel:.3f} px "
                f"({known.mean():.2f} A)"
            )
        if self.alignment is not None:
            attrs = self.alignment.attrs
            if "leave_out_error" in attrs:
                lines.append(
                    f"leave-out  {attrs['leave_out_error'] / pixel:.3f} px, mean error of points "
                    "that were left out of the solution"
                )
            if attrs.get("local"):
                lines.append(
                    f"local      left-out landmarks are {attrs['local_left_out'] / pixel:.3f} px "
                    f"off with local motion, {attrs['local_left_out_rigid'] / pixel:.3f} px without"
                )
            if "error" in attrs:
                lines.append(
                    f"expected   {attrs['error'] / pixel:.3f} px, error of where a view shows a "
                    "point, what is common to a view included"
                )
            lines += [f"warning    {text}" for text in attrs.get("warnings", [])]
        return lines + [f"note       {text}" for text in self.table.attrs.get("notes", [])]

    def edits(self) -> list[str]:
        """Return the edits made by hand, in words, the last one last."""
        return history_of(self.table)

    # Looking

    def points(self) -> pd.DataFrame:
        """Return all the points: one line for each landmark in each view.

        Columns: ``landmark``, ``view``, ``tilt_angle`` (degrees), ``x``, ``y`` (A from the image
        centre), ``residual_x``, ``residual_y``, ``residual`` (pixels, prediction less
        measurement), ``weight`` and ``source``.
        """
        table, pixel = self.table, float(self._views.attrs["pixel_size"])
        views = table["view"].values
        return pd.DataFrame(
            {
                "landmark": table["number"].values[table["landmark_of"].values],
                "view": views,
                "tilt_angle": self._views["tilt_angle"].values[views],
                "x": table["x"].values,
                "y": table["y"].values,
                "residual_x": table["residual_x"].values / pixel,
                "residual_y": table["residual_y"].values / pixel,
                "residual": self._residual_length() / pixel,
                "weight": table["weight"].values,
                "source": table["source"].values,
            }
        )

    def largest_residuals(self, count: int = 10) -> pd.DataFrame:
        """Return the measured points that fit worst, the worst first; see :meth:`points`."""
        found = self.points()[self._measured()]
        return found.sort_values("residual", ascending=False).head(count)

    def by_landmark(self) -> pd.DataFrame:
        """Return one line for each landmark: place (A), fit (pixels), views it is seen in."""
        points = self.points()[self._measured()]
        grouped = points.groupby("landmark")["residual"]
        table = self.table
        lines = pd.DataFrame(
            {
                **{axis: table[f"specimen_{axis}"].values for axis in "xyz"},
                "surface": table["surface"].values,
                "in_use": table["chosen"].values,
                "score": table["score"].values,
            },
            index=pd.Index(table["number"].values, name="landmark"),
        )
        lines["views"] = grouped.size().reindex(lines.index, fill_value=0)
        lines["mean_residual"] = grouped.mean()
        lines["largest_residual"] = grouped.max()
        return lines

    def gaps(self) -> dict[int, list[int]]:
        """Return the included views in which each landmark is not measured, by its number."""
        return missing_views(self.table, self._views["included"].values)

    def picture(self, path: str | Path) -> Path:
        """Write the figure of :meth:`plot` as a PNG file, and return the file."""
        from tomodask.view.landmark_plots import landmarks_png

        return landmarks_png(self.table, self._views, path, title=self.summary()[0])

    def plot(self) -> Figure:
        """Return a figure of residuals, tracks and specimen positions."""
        from tomodask.view.landmark_plots import landmarks_figure

        return landmarks_figure(self.table, self._views, title=self.summary()[0])

    # Mending

    def move(self, landmark: int, view: int, *, x: float, y: float) -> Self:
        """Set where a landmark lies in a view.

        Parameters
        ----------
        landmark
            Its number.
        view
            Of the series, from 0.
        x, y
            Raw position from the image centre, A.
        """
        self._check(landmark, view)
        _check_position(x, y)
        return self._edit(
            f"move landmark {landmark} in view {view} to ({x:.1f}, {y:.1f}) A",
            points={(landmark, view): (float(x), float(y), "edited")},
        )

    def move_by_residual(self, landmark: int, view: int) -> Self:
        """Move a point to where the solution predicts it.

        Raises
        ------
        ParameterError
            If there is no such point, or it was not solved.
        """
        at = self._index(landmark, view)
        residual = [float(self.table[f"residual_{axis}"].values[at]) for axis in "xy"]
        if not np.isfinite(residual).all():
            raise ParameterError(
                f"landmark {landmark} in view {view} has no residual yet: solve first"
            )
        x, y = (float(self.table[axis].values[at]) for axis in "xy")
        return self._edit(
            f"move landmark {landmark} in view {view} by its residual",
            points={(landmark, view): (x + residual[0], y + residual[1], "edited")},
        )

    def centre(self, landmark: int, view: int) -> Self:
        """Put a point onto the middle of the bead that it lies on, as the image shows it.

        Raises
        ------
        ParameterError
            If there is no such point, no bead is to be seen within a radius of it, or the beads'
            diameter is not known (attribute "bead_diameter" of the table, A).
        """
        at = self._index(landmark, view)
        diameter = self.table.attrs.get("bead_diameter")
        if diameter is None:
            raise ParameterError(
                f"landmarks {self.name!r} do not know the diameter of their beads: set "
                "table.attrs['bead_diameter'], A"
            )
        pixel = float(self._views.attrs["pixel_size"])
        place = np.array([[float(self.table[axis].values[at]) for axis in "xy"]]) / pixel
        image = view_source(self._views).read(view)
        reach = diameter / pixel / 2
        found = centre_beads(image, place, diameter / pixel, search_radius=reach)
        # What noise alone lets be fitted is no better placed than this.
        if not found.error[0] < _NO_BEAD * diameter / pixel:
            raise ParameterError(
                f"no bead is to be seen at landmark {landmark} in view {view}: move the point "
                "nearer to one, or delete it"
            )
        x, y = found.position[0] * pixel
        return self._edit(
            f"centre landmark {landmark} in view {view}",
            points={(landmark, view): (float(x), float(y), "edited")},
        )

    def delete(self, landmark: int, view: int | None = None) -> Self:
        """Take a point out, or all of a landmark; no automatic step brings it back."""
        if view is None:
            self._check(landmark)
            return self._edit(f"delete landmark {landmark}", chosen={landmark: False})
        at = self._index(landmark, view)
        x, y = (float(self.table[axis].values[at]) for axis in "xy")
        return self._edit(
            f"delete landmark {landmark} in view {view}",
            points={(landmark, view): (x, y, "deleted")},
        )

    def restore(self, landmark: int) -> Self:
        """Let a landmark that was left out or deleted take part again."""
        self._check(landmark)
        return self._edit(f"restore landmark {landmark}", chosen={landmark: True})

    def add(self, places: Mapping[int, tuple[float, float]], landmark: int | None = None) -> Self:
        """Add points of a landmark.

        Parameters
        ----------
        places
            View -> raw (x, y) from the image centre, A.
        landmark
            Its number; a new landmark by default.
        """
        numbers = self.table["number"].values
        number = int(numbers.max(initial=0)) + 1 if landmark is None else landmark
        if landmark is not None:
            self._check(landmark)
        if not places:
            raise ParameterError("no places are given: give the position in one view at least")
        for view, (x, y) in places.items():
            self._check_view(view)
            _check_position(x, y)
        return self._edit(
            f"add landmark {number} in {len(places)} views",
            points={
                (number, int(view)): (float(x), float(y), "edited")
                for view, (x, y) in places.items()
            },
        )

    def fill_gaps(self) -> Self:
        """Put what the solution predicts where landmarks are not measured, marked as "filled".

        Filled points show where to look, and where gold is to be erased; no solution uses them.

        Raises
        ------
        ParameterError
            If the landmarks were not solved yet.
        """
        if self.alignment is None:
            raise ParameterError("gaps are filled from a solution: solve first")
        numbers = self.table["number"].values.tolist()
        specimen = np.stack([self.table[f"specimen_{a}"].values for a in "xyz"], axis=1)
        known = np.isfinite(specimen).all(axis=1)
        where = projection_of(self.alignment).project(np.nan_to_num(specimen))
        half = np.array([self._views.sizes["x"], self._views.sizes["y"]]) / 2
        half *= float(self._views.attrs["pixel_size"])
        points = {
            (number, view): (*map(float, where[view, numbers.index(number)]), "filled")
            for number, views in self.gaps().items()
            for view in views
            if known[numbers.index(number)]
            and (np.abs(where[view, numbers.index(number)]) < half).all()
        }
        return self._edit(f"fill {len(points)} gaps", points=points) if points else self

    def undo(self) -> Self:
        """Take the last edit back.

        Raises
        ------
        ParameterError
            If nothing was edited.
        """
        self.table, _ = undo_edit(self.table)
        return self

    # Solving and keeping

    def solve(self, variables: Variables | None = None, *, local: bool | None = None) -> Self:
        """Solve the geometry of the views and the landmarks' places from the measured points.

        Parameters
        ----------
        variables
            What may vary, and how freely; chosen from the data by default.
        local
            Whether the specimen may move locally; by default where left-out landmarks say so.

        Raises
        ------
        DataError
            If the points do not determine a solution.
        """
        self.table, self.alignment = solve_landmarks(
            self.table, self._views, start=self.alignment, variables=variables, local=local
        )
        return self

    def save(self, name: str | None = None, *, overwrite: bool = False) -> Self:
        """Store the landmarks and their alignment.

        Parameters
        ----------
        name
            To store them under; by default in place of what was opened.
        overwrite
            Whether others of that name are replaced.

        Raises
        ------
        ParameterError
            If there are others of that name and `overwrite` is false.
        """
        if name is not None and name != self.name:
            taken = {*landmark_names(self.path), *alignment_names(self.path)}
            if check_name(name) in taken and not overwrite:
                raise ParameterError(
                    f"{self.path} has landmarks or an alignment {name!r} already; give another "
                    "name, or replace them with overwrite=True (--overwrite)"
                )
            self.name = name
        write_landmarks(self.path, self.name, self.table)
        if self.alignment is not None:
            write_alignment(self.path, self.name, self.alignment, overwrite=True)
        return self

    def _edit(self, what: str, **changes: Any) -> Self:
        self.table = edit_landmarks(self.table, what, **changes)
        return self

    def _measured(self) -> NDArray[np.bool_]:
        return measured_observations(self.table, self._views["included"].values)

    def _residual_length(self) -> Any:
        return np.hypot(self.table["residual_x"].values, self.table["residual_y"].values)

    def _index(self, landmark: int, view: int) -> int:
        self._check(landmark, view)
        at = observation_index(self.table, landmark, view)
        if at is None:
            raise ParameterError(
                f"landmark {landmark} has no point in view {view}; add it with its position"
            )
        return at

    def _check(self, landmark: int, view: int | None = None) -> None:
        numbers = self.table["number"].values.tolist()
        if landmark not in numbers:
            raise ParameterError(
                f"there is no landmark {landmark}; give one of {', '.join(map(str, numbers))}"
            )
        if view is not None:
            self._check_view(view)

    def _check_view(self, view: int) -> None:
        if not 0 <= view < self._views.sizes["tilt"]:
            raise ParameterError(
                f"view {view}: the series has views 0 to {self._views.sizes['tilt'] - 1}"
            )


def _check_position(x: float, y: float) -> None:
    if not np.isfinite((x, y)).all():
        raise ParameterError(f"position ({x}, {y}): give finite numbers, A from the image centre")

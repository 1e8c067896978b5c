"""Contrast transfer from and to the tables of IMOD, CTFFIND and AreTomo, in a series' store."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from tomodask.engine.files import explained
from tomodask.errors import (
    ConversionError,
    DataError,
    ParameterError,
    ProductMissingError,
    TomodaskWarning,
)
from tomodask.graph.inputs import chosen_projection
from tomodask.io.ctf_rows import (
    CtfRows,
    ctffind_rows,
    half_turn,
    imod_rows,
    listed,
    view_values,
)
from tomodask.io.ctf_views import ctffind_of_views, imod_of_views
from tomodask.io.ctffind import write_ctffind
from tomodask.io.imod_defocus import write_defocus
from tomodask.io.imod_table import text_lines
from tomodask.io.series import open_series, write_ctf
from tomodask.kernels.ctf import Optics
from tomodask.model import (
    ctf_dataset,
    handedness_of,
    optics_of,
    provenance,
    sections_of,
    tilt_series_of,
    transfers_at_origin,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import xarray as xr
    from numpy.typing import NDArray

    from tomodask.geometry import Projection

__all__ = ["export_ctf", "import_ctf"]

Format = Literal["defocus", "ctffind", "aretomo"]
_FORMATS: tuple[Format, ...] = ("defocus", "ctffind", "aretomo")
#: kV by which voltages of a file and a series may differ.
_SAME_VOLTAGE = 1.0
#: A by which the defocus may differ where it is called the same: far below any error.
_SAME_DEFOCUS = 1.0
#: What is taken where nothing says it: Cs in mm, and the amplitude contrast.
_USUAL = {"spherical_aberration": 2.7, "amplitude_contrast": 0.07}
_WORDS = {"spherical_aberration": "Cs {:g} mm", "amplitude_contrast": "amplitude contrast {:g}"}
#: Variables that every format holds, and what those of CTFFIND and AreTomo hold beside.
_DEFOCUS = {"defocus_u", "defocus_v"}
_HELD = _DEFOCUS | {"astigmatism_angle", "phase_shift"}
_MEASURED = {"score", "fit_resolution"}
_REFERENCE = {"reference_x", "reference_y"}


def import_ctf(
    series: str | Path,
    source: str | Path,
    *,
    format: Format | None = None,  # noqa: A002
    handedness: int | None = None,
    alignment: str | None = None,
    voltage: float | None = None,
    spherical_aberration: float | None = None,
    amplitude_contrast: float | None = None,
    overwrite: bool = False,
) -> xr.Dataset:
    """Store the contrast transfer that another program found.

    Rows belong to the sections of the stack that the series is of (IMOD, CTFFIND), or to all its
    images by rising recorded tilt angle (AreTomo). Views without a row are interpolated between
    their neighbours in tilt, of which excluded ones are none. The defocus is that of the centre of
    the images that the program looked at: of the raw ones, or of the aligned ones, where the
    alignment sees the specimen's origin; `reference_x` and `reference_y` say where that is in the
    raw image.

    Parameters
    ----------
    series
        Folder of the store.
    source
        IMOD's ``.defocus``, a table of CTFFIND 4 or 5, or AreTomo's ``_CTF.txt``.
    format
        "defocus" (IMOD), "ctffind" (CTFFIND, or AreTomo where its header shows) or "aretomo"; by
        name and content by default.
    handedness
        +1 or -1: the defocus at the height w is that of the view plus `handedness` times w. By
        default what the file says; it goes with the direction of the program's tilt axis.
    alignment
        Name of the alignment of the stack that the program looked at, where that was an aligned
        one: the defocus is of its centre, directions of astigmatism are turned back by its tilt
        axis, and tilt angles of the file are compared with its own. By default it was the raw
        stack.
    voltage
        kV; as the file says by default, else as the series records.
    spherical_aberration
        Cs, mm; as the file says by default, else 2.7.
    amplitude_contrast
        Fraction; as the file says by default, else 0.07.
    overwrite
        Whether a stored contrast transfer is replaced.

    Returns
    -------
    xarray.Dataset
        The table, as stored; `fitted` is false for interpolated views.

    Raises
    ------
    FormatError
        If the file cannot be read.
    DataError
        If it is of another number of images, other tilt angles or another voltage than the series.
    ParameterError
        If there is a contrast transfer already and `overwrite` is false, no voltage is known, or a
        value makes no sense.

    Warns
    -----
    TomodaskWarning
        What is interpolated, assumed or left out, and whose statement the handedness is.
    """
    path = Path(series).expanduser().resolve()
    file = Path(source).expanduser().absolute()
    tree = open_series(path)
    if "ctf" in tree.children and not overwrite:
        raise ParameterError(
            f"{path} has a CTF already; replace it with overwrite=True (--overwrite)"
        )
    if handedness not in (None, 1, -1):
        raise ParameterError(f"handedness {handedness}: give 1 or -1 (--handedness)")
    views = tilt_series_of(tree)
    tilt, order = views["tilt_angle"].values.astype(float), sections_of(tree)
    kind = _checked(format) or _format_of_content(file)
    origin = provenance("import CTF", file=file.name, format=kind)
    projection: Projection | None = None
    if alignment is not None:
        projection, origin["alignment"] = chosen_projection(tree, alignment)
    if kind == "defocus":
        # The sign of the file's angles is the hand: it is that of the angles used with it.
        rows = imod_rows(file, tilt if projection is None else projection.tilt_angle, order)
    else:
        rows = ctffind_rows(file, tilt, order, by_tilt=kind == "aretomo")
    notes = [*rows.notes, *([rows.witness] if rows.witness and handedness is None else [])]
    given = {
        "voltage": voltage,
        "spherical_aberration": spherical_aberration,
        "amplitude_contrast": amplitude_contrast,
    }
    optics = _optics(path, file, given, rows, views.attrs.get("voltage"), notes)
    reference = np.zeros((len(tilt), 2))
    if projection is not None:
        reference = projection.shift
        turned = rows.astigmatism_angle + projection.tilt_axis_angle[rows.view]
        rows = replace(rows, astigmatism_angle=turned)
    values = view_values(rows, tilt, views["included"].values.astype(bool))
    if not values["fitted"].all():
        lacking = listed((~values["fitted"].astype(bool)).nonzero()[0])
        notes.append(f"has no row for views {lacking}, which lie between their neighbours in tilt")
    told = [f"{file.name} {note}" for note in notes]
    table = ctf_dataset(
        optics,
        method="imported",
        handedness=rows.handedness if handedness is None else handedness,
        attributes={"provenance": origin, "warnings": told},
        reference_x=reference[:, 0],
        reference_y=reference[:, 1],
        **values,
    )
    write_ctf(path, table)
    for text in told:
        warnings.warn(text, TomodaskWarning, stacklevel=2)
    return table


def export_ctf(
    series: str | Path,
    target: str | Path,
    *,
    format: Format | None = None,  # noqa: A002
    alignment: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the contrast transfer of a series for IMOD, or as a table of CTFFIND or AreTomo.

    Every section of the stack has its row, also those of excluded or interpolated views. The
    defocus is that of the centre of the images that the file is to be used with. For IMOD,
    handedness +1 is written as inverted tilt angles (flag 16): run its programs with ``-invert``.

    Parameters
    ----------
    series
        Folder of the store.
    target
        The file.
    format
        "defocus" (IMOD), "ctffind" or "aretomo"; by default as the name ends: ``.defocus``,
        ``.txt``, ``_CTF.txt``.
    alignment
        Name of the alignment of the stack that the file is to be used with, where that is an
        aligned one: the defocus is then that of its centre, the specimen's origin, and directions
        of astigmatism and tilt angles are its own. By default it is the raw stack, as IMOD's
        ctfphaseflip expects beside its option ``-xform``.
    overwrite
        Whether the file is replaced.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ProductMissingError
        If the series has no contrast transfer.
    ConversionError
        If the format cannot hold it, or without an alignment the table is of other places than the
        centres of the raw images.
    ParameterError
        If the format is not known, the file is there and `overwrite` is false, or the defocus at
        the aligned centre needs the handedness, which is not known.

    Warns
    -----
    TomodaskWarning
        Naming what of the table the format does not hold.
    """
    path = Path(series).expanduser().resolve()
    file = Path(target).expanduser().absolute()
    kind = _checked(format) or _format_of_name(file)
    if file.exists() and not overwrite:
        raise ParameterError(
            f"{file} is there already; replace it with overwrite=True (--overwrite)"
        )
    tree = open_series(path)
    if "ctf" not in tree.children:
        raise ProductMissingError(
            f"{path} has no CTF: make one with 'tomodask ctf estimate' or 'tomodask ctf import'"
        )
    table = tree["ctf"].to_dataset()
    views = tilt_series_of(tree)
    tilt, order = views["tilt_angle"].values.astype(float), sections_of(tree)
    held = _HELD if kind == "defocus" else _HELD | _MEASURED
    values = {name: table[name].values for name in held & set(table.data_vars)}
    own_tilt = tilt
    if alignment is not None:
        projection, label = chosen_projection(tree, alignment)
        own_tilt = projection.tilt_angle
        values |= _defocus_at_origin(path, table, projection, label)
        values["astigmatism_angle"] = half_turn(
            values["astigmatism_angle"] - projection.tilt_axis_angle
        )
    elif any(table[name].values.any() for name in _REFERENCE & set(table.data_vars)):
        raise ConversionError(
            f"{path}: its CTF is of other places than the centres of the raw images; name the "
            "alignment of the stack that the file is for, alignment= (--alignment), or estimate or "
            "import the CTF of the raw images"
        )
    hand, optics = handedness_of(table), optics_of(table)
    with explained(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    if kind == "defocus":
        write_defocus(file, imod_of_views(values, own_tilt, order, hand))
    else:
        found = ctffind_of_views(
            values, tilt, order, hand, optics, float(views.attrs["pixel_size"]), program=kind
        )
        write_ctffind(file, found)
    lost = sorted({str(name) for name in table.data_vars} - held - _REFERENCE - {"fitted"})
    if "fitted" in table and not table["fitted"].values.all():
        lost.append("which views were interpolated")
    lost += [] if kind == "ctffind" else ["voltage", *_USUAL]
    lost += [f"the handedness {hand:+d}"] if kind == "ctffind" and hand else []
    if lost:
        warnings.warn(f"{file.name} does not hold {', '.join(lost)}", TomodaskWarning, stacklevel=2)
    if kind == "defocus" and not hand:
        warnings.warn(
            f"{file.name}: the handedness is not known, and IMOD will take it as -1; import or "
            "estimate it",
            TomodaskWarning,
            stacklevel=2,
        )
    return file


def _defocus_at_origin(
    path: Path, table: xr.Dataset, projection: Projection, label: str
) -> dict[str, NDArray[np.float64]]:
    """Return the defoci (tilt,) where an alignment sees the specimen's origin."""

    def there(ctf: xr.Dataset) -> dict[str, NDArray[np.float64]]:
        transfers = transfers_at_origin(ctf, projection)
        return {name: np.array([getattr(view, name) for view in transfers]) for name in _DEFOCUS}

    if not handedness_of(table):
        with_hand = there(table.assign_attrs(defocus_handedness=1))
        moved = np.abs(with_hand["defocus_u"] - table["defocus_u"].values) > _SAME_DEFOCUS
        if moved.any():
            raise ParameterError(
                f"{path}: the defocus at the centre of view {moved.argmax()} aligned by {label!r} "
                "needs the handedness, which is not known: estimate the CTF, or import it with "
                "handedness=1 or -1 (--handedness)"
            )
    return there(table)


def _checked(format: Format | None) -> Format | None:  # noqa: A002
    if format is not None and format not in _FORMATS:
        raise ParameterError(f"format {format!r}: give one of {', '.join(_FORMATS)} (--format)")
    return format


def _format_of_content(file: Path) -> Format:
    """Return the format of a file, by its name or what it begins with."""
    if file.suffix == ".defocus":
        return "defocus"
    _, lines = text_lines(file)
    words = lines[0].split()
    return "defocus" if words[0][0] != "#" and len(words) in (5, 6) else "ctffind"


def _format_of_name(file: Path) -> Format:
    if file.suffix == ".defocus":
        return "defocus"
    if file.suffix == ".txt":
        return "aretomo" if file.stem.endswith("_CTF") else "ctffind"
    raise ParameterError(
        f"{file.name}: its ending tells no format; use .defocus, .txt or _CTF.txt, or give one of "
        f"{', '.join(_FORMATS)} (--format)"
    )


def _optics(
    path: Path,
    file: Path,
    given: Mapping[str, float | None],
    rows: CtfRows,
    recorded: float | None,
    notes: list[str],
) -> Optics:
    """Return the microscope: as given, else as the file says, else as recorded or usual."""
    known = rows.microscope | {name: value for name, value in given.items() if value is not None}
    if recorded is not None:
        said = known.setdefault("voltage", float(recorded))
        if given["voltage"] is None and abs(said - recorded) > _SAME_VOLTAGE:
            raise DataError(
                f"{file} is of {said:g} kV, {path} records {recorded:g} kV: give the file of this "
                "series, or the right voltage (--voltage)"
            )
    if "voltage" not in known:
        raise ParameterError(
            f"neither {file.name} nor {path} says the voltage: give voltage (--voltage) in kV"
        )
    assumed = {name: value for name, value in _USUAL.items() if name not in known}
    if assumed:
        words = " and ".join(_WORDS[name].format(value) for name, value in assumed.items())
        notes.append(
            f"does not say all of the microscope: {words} assumed; give what it was fitted with"
        )
    return Optics(**(assumed | known))

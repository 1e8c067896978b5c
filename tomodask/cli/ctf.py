"""Commands of the contrast transfer: estimate, correct, import, export."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

import tomodask as td
from tomodask.cli.app import IMAGES, Bin, Correction, Handedness, Quiet, Run, app, hand, progress
from tomodask.errors import ParameterError
from tomodask.model import views_of
from tomodask.model.ctf_facts import ctf_facts, trusted_views

if TYPE_CHECKING:
    import xarray as xr

_ctf = App(name="ctf", help="The contrast transfer function: estimate, correct, import, export.")
app.command(_ctf)

Voltage = Annotated[float | None, Parameter(name="--voltage")]
Cs = Annotated[float, Parameter(name="--cs")]


@_ctf.command
def estimate(
    source: Path,
    *,
    alignment: str | None = None,
    voltage: Voltage = None,
    cs: Cs = 2.7,
    amplitude_contrast: float = 0.07,
    pixel_size: float | None = None,
    section: int | None = None,
    defocus: str | None = None,
    phase_shift: str = "0",
    handedness: Handedness = None,
    astigmatism: bool = True,
    inclination: bool = False,
    thickness: bool = False,
    resolution: str | None = None,
    tile: int | None = None,
    pictures: Path | None = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
    overwrite: bool = False,
    run: Run = Run(),  # noqa: B008
) -> None:
    """Estimate defocus and astigmatism of all views of a series together, or of one micrograph.

    Parameters
    ----------
    source
        The store of a series, or an image (MRC, TIFF).
    alignment
        Of a series: name of the alignment that says how the views are tilted, or none.
    voltage
        kV; as recorded by default.
    cs
        Spherical aberration, mm.
    amplitude_contrast
        Fraction.
    pixel_size
        Of a micrograph, A; as its file says by default.
    section
        Of a stack of micrographs, which one, from 0.
    defocus
        Range LOW:HIGH to look in, micrometres.
    phase_shift
        Of a phase plate, degrees: a number, or a range LOW:HIGH to look in.
    handedness
        +1 or -1, where it is known.
    astigmatism
        Whether the defocus may differ with direction.
    inclination
        Whether the specimen's plane may be inclined to what the alignment says.
    thickness
        Estimate the specimen's thickness, too.
    resolution
        Coarsest and finest resolution to look at, COARSE:FINE in A, e.g. 30:5.
    tile
        Edge of a tile, pixels.
    pictures
        Folder for pictures: one per view, all spectra on a sheet, and the series.
    as_json
        Print the result as JSON.
    overwrite
        Replace a stored contrast transfer.
    """
    options: dict[str, Any] = {
        "voltage": voltage,
        "spherical_aberration": cs,
        "amplitude_contrast": amplitude_contrast,
        "phase_shift": _phase(phase_shift),
        "astigmatism": astigmatism,
        "thickness": thickness,
        "resolution": _range(resolution, "--resolution COARSE:FINE, A"),
        "tile": tile,
    }
    span = _range(defocus, "--defocus LOW:HIGH, micrometres")
    if span is not None:
        options["defocus_range"] = (span[0] * 1e4, span[1] * 1e4)
    if source.is_dir():
        if pixel_size is not None or section is not None:
            raise ParameterError("--pixel-size and --section are for a micrograph")
        with progress(quiet=run.quiet or as_json) as listen:
            table = td.estimate_ctf(
                source,
                alignment=alignment,
                handedness=hand(handedness),
                inclination=inclination,
                overwrite=overwrite,
                **options,
                **run.resources,
                progress=listen,
            )
        angles = views_of(td.open(source))["tilt_angle"].values
    else:
        if alignment is not None or handedness is not None or inclination or overwrite:
            raise ParameterError(
                "--alignment, --handedness, --inclination and --overwrite are for a series"
            )
        table = td.estimate_micrograph(source, pixel_size=pixel_size, section=section, **options)
        angles = None
    print(json.dumps(_plain(table, angles), indent=1) if as_json else _told(table, angles))
    if pictures is not None:
        from tomodask.view.ctf_plots import save_ctf_pictures

        written = save_ctf_pictures(table, angles, pictures)
        if not as_json:
            print(f"pictures   {len(written)} in {pictures}")


@_ctf.command(name="import")
def import_(
    series: Path,
    file: Path,
    *,
    file_format: Annotated[
        Literal["defocus", "ctffind", "aretomo"] | None, Parameter(name="--format")
    ] = None,
    handedness: Handedness = None,
    alignment: str | None = None,
    voltage: Voltage = None,
    cs: Annotated[float | None, Parameter(name="--cs")] = None,
    amplitude_contrast: float | None = None,
    overwrite: bool = False,
) -> None:
    """Take over the contrast transfer from IMOD (.defocus), CTFFIND or AreTomo (_CTF.txt).

    Parameters
    ----------
    series
        The store.
    file
        What the other program wrote.
    file_format
        defocus, ctffind or aretomo; told by the file by default.
    handedness
        +1 or -1, where the file does not say.
    alignment
        Name of the alignment, where defocus and angles are of the aligned stack.
    voltage
        kV, where neither file nor series says.
    cs
        Spherical aberration, mm, where the file does not say.
    amplitude_contrast
        Fraction, where the file does not say.
    overwrite
        Replace a stored contrast transfer.
    """
    table = td.import_ctf(
        series,
        file,
        format=file_format,
        handedness=hand(handedness),
        alignment=alignment,
        voltage=voltage,
        spherical_aberration=cs,
        amplitude_contrast=amplitude_contrast,
        overwrite=overwrite,
    )
    print(_told(table, views_of(td.open(series))["tilt_angle"].values))


@_ctf.command
def export(
    series: Path,
    *,
    out: Path,
    file_format: Annotated[
        Literal["defocus", "ctffind", "aretomo"] | None, Parameter(name="--format")
    ] = None,
    alignment: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write the contrast transfer for IMOD (.defocus) or as a table of CTFFIND (.txt).

    Parameters
    ----------
    series
        The store.
    out
        The file.
    file_format
        defocus, ctffind or aretomo; told by the file's name by default.
    alignment
        Name of the alignment, where defocus and angles are of the aligned stack.
    overwrite
        Replace the file.
    """
    written = td.export_ctf(
        series, out, format=file_format, alignment=alignment, overwrite=overwrite
    )
    print(f"written    {written}")


@_ctf.command
def correct(
    series: Path,
    *,
    out: Path,
    alignment: str | None = None,
    binning: Bin = 1.0,
    method: Correction = "phase-flip",
    snr: float = 10.0,
    handedness: Handedness = None,
    dose_weighting: bool = False,
    quiet: Quiet = False,
) -> None:
    """Write the aligned stack with its contrast transfer undone, defocus following the height.

    Nothing in the store changes; 'tomodask reconstruct --ctf' needs no such stack.

    Parameters
    ----------
    series
        The store.
    out
        MRC file.
    alignment
        Name of the alignment; by default the only one.
    binning
        Pixel size over that of the images.
    method
        phase-flip, wiener or multiply.
    snr
        Signal to noise ratio that wiener assumes.
    handedness
        +1 or -1, in place of what was estimated.
    dose_weighting
        Weight by dose in the same pass.
    quiet
        No progress bars.
    """
    if out.suffix.lower() not in IMAGES:
        raise ParameterError(f"{out}: give a name ending in {', '.join(IMAGES)}")
    aligned = td.align_stack(
        td.open(series),
        binning=binning,
        alignment=alignment,
        ctf="2d",
        correction=method,
        snr=snr,
        handedness=hand(handedness),
        dose_weighting=dose_weighting,
    )
    with progress(quiet=quiet) as listen:
        written = td.export_stack(aligned, out, progress=listen)
    print(f"written    {written}")


def _range(text: str | None, what: str) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(":"))
    except ValueError:
        raise ParameterError(f"{text!r}: give {what}") from None
    return low, high


def _phase(text: str) -> float | tuple[float, float]:
    try:
        low, colon, high = text.partition(":")
        return (float(low), float(high)) if colon else float(low)
    except ValueError:
        raise ParameterError(f"--phase-shift {text!r}: give degrees, or LOW:HIGH") from None


_COLUMNS = (
    ("defocus_u", 1), ("defocus_v", 1), ("astigmatism_angle", 1), ("phase_shift", 1),
    ("defocus_error", 1), ("astigmatism_error", 1), ("fit_resolution", 2), ("score", 3),
    ("confidence", 3),
)  # fmt: skip


def _plain(table: xr.Dataset, angles: Any) -> dict[str, Any]:
    """Return a table as plain values; what is not known as null."""
    views = []
    for view in range(table.sizes["tilt"]):
        row: dict[str, Any] = {"view": view}
        if angles is not None:
            row["tilt_angle"] = float(angles[view])
        for name, digits in _COLUMNS:
            if name in table:
                value = float(table[name].values[view])
                row[name] = round(value, digits + 2) if math.isfinite(value) else None
        if "fitted" in table:
            row["fitted"] = bool(table["fitted"].values[view])
        views.append(row)
    known = {
        name: table.attrs[name]
        for name in (
            "pixel_size", "voltage", "spherical_aberration", "amplitude_contrast",
            "defocus_handedness",
            "handedness_confidence", "inclination", "inclination_error", "thickness_error",
            "warnings",
        )
        if name in table.attrs
    }  # fmt: skip
    if "thickness" in table:
        known["thickness"] = float(table["thickness"])
    return {**known, "views": views}


def _told(table: xr.Dataset, angles: Any) -> str:
    """Return a table for people to read."""
    from tomodask.view.ctf_words import handedness_words

    known = table.attrs
    pixel = f", pixels of {known['pixel_size']:.4g} A" if "pixel_size" in known else ""
    lines = [
        f"{known['voltage']:g} kV, Cs {known['spherical_aberration']:g} mm, amplitude contrast "
        f"{known['amplitude_contrast']:g}{pixel}",
        "view   tilt   defocus U, V (um)   astigmatism (A, deg)   error   fit to   confidence",
    ]
    trusted = trusted_views(table)
    for row in _plain(table, angles)["views"]:
        u, v = row["defocus_u"], row["defocus_v"]
        tilt = f"{row['tilt_angle']:6.1f}" if "tilt_angle" in row else "     -"
        error, reach, sure = (row.get(n) for n in ("defocus_error", "fit_resolution", "confidence"))
        mean = "no defocus" if u is None else f"{u / 1e4:7.3f} {v / 1e4:7.3f}"
        stretch = "" if u is None else f"{u - v:7.0f} {row['astigmatism_angle']:7.1f}"
        notes = [f"phase {row['phase_shift']:.0f} deg"] if row["phase_shift"] else []
        if not row.get("fitted", True):
            notes.append("from its neighbours")
        elif not trusted[row["view"]]:
            notes.append("NOT to be trusted")
        lines.append(
            f"{row['view']:4d} {tilt}   {mean:16s}    {stretch:15s}       "
            f"{'    -' if error is None else f'{error:5.0f}'} A "
            f"{'     -' if reach is None else f'{reach:6.1f}'} A   "
            f"{'   -' if sure is None else f'{sure:.2f}'}   {', '.join(notes)}".rstrip()
        )
    if angles is not None:
        lines.append(handedness_words(ctf_facts(table)))
    if "thickness" in table:
        lines.append(f"thickness  {float(table['thickness']):.0f} A")
    return "\n".join(lines)

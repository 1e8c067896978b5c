"""Commands that make tomograms."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import tomodask as td
from tomodask.cli.app import Bin, Correction, Handedness, Run, app, hand, progress, span


@app.command
def demo(
    *,
    out: Path = Path("tomodask-demo"),
    run: Run = Run(),  # noqa: B008
) -> None:
    """Simulate a small tilt series, align it, reconstruct it and look at it.

    Parameters
    ----------
    out
        Folder for the results.
    """
    with progress(quiet=run.quiet) as listen:
        folder = td.demo(out, workers=run.workers, memory_limit=run.memory_limit, progress=listen)
    print(f"tomogram   {folder / 'demo.zarr'} (tomograms/wbp)")
    print(f"MRC copy   {folder / 'demo.mrc'}")
    print(f"picture    {folder / 'demo.png'}")


@app.command
def reconstruct(
    series: Path,
    *,
    thickness: int | None = None,
    binning: Bin = 1.0,
    alignment: str | None = None,
    name: str = "wbp",
    weighting: Literal["ramp", "exact", "none"] = "ramp",
    radial: tuple[float, float] = (0.35, 0.035),
    sirt_like: int = 0,
    ctf: Literal["none", "2d", "3d"] = "none",
    correction: Correction = "phase-flip",
    snr: float = 10.0,
    handedness: Handedness = None,
    dose_weighting: bool = False,
    x_range: str | None = None,
    y_range: str | None = None,
    z_range: str | None = None,
    levels: int | None = None,
    overwrite: bool = False,
    run: Run = Run(),  # noqa: B008
) -> None:
    """Reconstruct a tomogram by weighted back-projection, slab by slab, into the store.

    Parameters
    ----------
    series
        The store.
    thickness
        Height of the tomogram, voxels at the binning given; by default what 'tomodask position'
        found for the alignment.
    binning
        Binning: voxel size over pixel size; need not be whole.
    alignment
        Name of the alignment to use, or none for the recorded angles; by default the only one.
    name
        Name of the tomogram.
    weighting
        ramp, exact (for uneven tilts) or none.
    radial
        Cutoff and Gaussian fall-off of the low-pass, cycles per voxel.
    sirt_like
        Shape the ramp like so many SIRT iterations; 0 for a plain ramp.
    ctf
        Undo the contrast transfer: in each view as the specimen's middle lies in it (2d), or at the
        height of every voxel (3d).
    correction
        phase-flip, wiener or multiply.
    snr
        Signal to noise ratio that wiener assumes.
    handedness
        +1 or -1: whether defocus grows or falls with height, in place of what was estimated.
    dose_weighting
        Weight views by what the dose they came after has left of each frequency.
    x_range
        Voxels START:STOP of the full tomogram to make.
    y_range
        As --x-range, along the tilt axis.
    z_range
        As --x-range, along the height.
    levels
        Number of resolutions; by default until every edge is at most 128 voxels.
    overwrite
        Replace a tomogram of this name that was made otherwise.
    """
    volume = td.reconstruct(
        td.open(series),
        thickness=thickness,
        binning=binning,
        alignment=alignment,
        weighting=weighting,
        radial=radial,
        sirt_like=sirt_like,
        ctf=ctf,
        correction=correction,
        snr=snr,
        handedness=hand(handedness),
        dose_weighting=dose_weighting,
        x_range=span(x_range),
        y_range=span(y_range),
        z_range=span(z_range),
    )
    with progress(quiet=run.quiet) as listen:
        folder = td.store(
            volume,
            name=name,
            levels=levels,
            overwrite=overwrite,
            **run.resources,
            progress=listen,
        )
    size = " x ".join(str(volume.sizes[axis]) for axis in "xyz")
    print(f"tomogram   {name}: {size} voxels (x, y, z) of {volume.attrs['voxel_size']:g} A")
    print(f"stored in  {folder}")


@app.command
def deconvolve(
    series: Path,
    *,
    tomogram: str,
    name: str | None = None,
    defocus: float | None = None,
    strength: float = 1.0,
    falloff: float = 1.0,
    highpass: float = 300.0,
    overwrite: bool = False,
    run: Run = Run(),  # noqa: B008
) -> None:
    """Give a stored tomogram the contrast that defocus took, for the eye; as another tomogram.

    Parameters
    ----------
    series
        The store; its CTF says the microscope.
    tomogram
        Name of the tomogram.
    name
        Name of the new one; that of the old with -deconvolved by default.
    defocus
        Micrometres; by default the mean of the views of low tilt.
    strength
        The signal to noise ratio at low frequency is taken as 10^(3 strength).
    falloff
        How fast it falls with frequency.
    highpass
        What is larger is taken out, A.
    overwrite
        Replace a tomogram of the new name that was made otherwise.
    """
    from tomodask.exporting import check_tomogram

    tree = td.open(series)
    check_tomogram(tree, tomogram)
    lazy = td.deconvolve(
        tree[f"tomograms/{tomogram}/full/0"].to_dataset()["tomogram"],
        series=tree,
        defocus=None if defocus is None else defocus * 1e4,
        strength=strength,
        falloff=falloff,
        highpass=highpass,
    )
    new = name or f"{tomogram}-deconvolved"
    with progress(quiet=run.quiet) as listen:
        folder = td.store(lazy, name=new, overwrite=overwrite, **run.resources, progress=listen)
    print(f"tomogram   {new}: defocus {lazy.attrs['provenance']['defocus'] / 1e4:.2f} um")
    print(f"stored in  {folder}")

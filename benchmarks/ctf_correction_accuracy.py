"""How well contrast transfer is undone in a thick specimen: Fourier shell correlations (FSC).

Run ``python -m benchmarks.ctf_correction_accuracy``. Particles lie in the outer 50 nm and in the
middle of a specimen 300 nm thick, and are simulated with a defocus that follows the height
(`tomodask.simulate`, both hands), and as their twins, which have the transfer of the middle at all
heights and are corrected by that: nothing does better than the twin.

Truth is the reconstruction of the same views without any contrast transfer, taken along the pixels
so that nothing is interpolated: what the missing wedge and the few views hide is hidden in both.
Each particle has a series of its own. For beyond the resolution at which views overlap (angle times
diameter), a view's back-projection is as strong all along the beam as in the particle, so that in
one series it would lie among the streaks of those before and behind it; these belong to other
heights, and no correction at the height of the particle is theirs.

What a perfect correction can reach follows from the transfers: over all views, a factor f of the
transfer c correlates with the truth by mean(f c) / rms(f c); 0.90 for flipped phases. A particle's
mask cuts away the halo that remains around it, by which it can correlate better.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.fft
from threadpoolctl import threadpool_limits

import tomodask as td
from benchmarks.ctf_particles import (
    PIXEL,
    SIZES,
    Group,
    Size,
    Specimen,
    attainable,
    corrected_as_a_whole,
    counted,
    frequencies,
    simulated,
    specimen,
    stored,
)
from benchmarks.inputs import temporary_folder
from benchmarks.report import run, table
from tomodask.errors import TomodaskWarning
from tomodask.geometry import Projection
from tomodask.kernels.ctf import Correction
from tomodask.model import alignment_dataset

if TYPE_CHECKING:
    from collections.abc import Iterator

    import xarray as xr
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["Bench", "Outcome", "outcomes", "report", "summary"]

#: Tilt axis of the views of the truth, degrees: along the pixels.
STRAIGHT = -90.0
#: The band of the gain, A.
BAND = (12.0, 6.0)
#: Shells are measured where the mean of the squared transfer is above this,
LEAST = 0.1
#: and where the twin's FSC is above this.
_SEEN = 0.2
#: A gain is told where the twin's FSC is so much above that in 2-D.
_GAIN = 0.05
#: The mask is 1 up to so far beyond a particle, and falls to 0 over as much, A.
_RIM = 30.0
#: By name, how the transfer is undone: without noise, then with.
_NOISE_FREE = {
    "phase-flip": Correction("phase-flip"),
    "wiener, snr 1000": Correction("wiener", 1e3),
}
_NOISY = {"phase-flip": Correction("phase-flip"), "wiener, snr 1": Correction("wiener", 1.0)}


class Bench:
    """Reconstructs a particle from its series, and compares it with the truth."""

    def __init__(self, made: Specimen, size: Size, folder: Path) -> None:
        self.made, self.size = made, size
        self._folder = folder
        self._alignment = alignment_dataset(made.projection, method="true")
        self._mask, self._shell = self._geometry()
        straight = replace(
            made,
            projection=Projection.create(made.projection.tilt_angle, tilt_axis_angle=STRAIGHT),
            ctf=(),
        )
        free = stored(simulated(straight, size, None), straight, folder / "free.zarr")
        self._true = self._spectrum(free, alignment="none")

    def stored(self, images: NDArray[np.float32], name: str) -> xr.DataTree:
        """Return a series of these images."""
        return stored(images, self.made, self._folder / f"{name}.zarr")

    def sums(
        self,
        series: xr.DataTree,
        ctf: Literal["none", "2d", "3d"],
        correction: Correction | None = None,
        handedness: int = 1,
    ) -> FloatArray:
        """Return the (3, shell) sums of a reconstruction's spectrum of which its FSC is made."""
        options: dict[str, Any] = {}
        if correction is not None:
            options = {
                "ctf": ctf,
                "ctf_table": self.made.table(handedness),
                "correction": correction.method,
                "snr": correction.snr,
            }
        found, true = self._spectrum(series, **options), self._true
        return np.array(
            [
                np.bincount(self._shell, values.ravel(), self.size.shells + 1)[: self.size.shells]
                for values in (
                    (found * true.conj()).real,
                    np.abs(found) ** 2,
                    np.abs(true) ** 2,
                )
            ]
        )

    def _ranges(self) -> dict[str, tuple[int, int]]:
        """Return the voxels of the box, whose middle is a voxel's corner near the particle's."""
        full = {"x": self.size.image[1], "y": self.size.image[0], "z": self.size.thickness}
        ranges = {}
        for (axis, count), at in zip(full.items(), self.made.centre, strict=True):
            middle = round(at / PIXEL + count / 2)
            first = min(max(middle - self.size.box // 2, 0), count - self.size.box)
            ranges[f"{axis}_range"] = (first, first + self.size.box)
        return ranges

    def _geometry(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the mask of the particle in its box, and the shell of each frequency."""
        size, ranges = self.size, self._ranges()
        full = {"x": size.image[1], "y": size.image[0], "z": size.thickness}
        away = [
            (np.arange(*ranges[f"{axis}_range"]) - (full[axis] - 1) / 2) * PIXEL - at
            for axis, at in zip("xyz", self.made.centre, strict=True)
        ]
        x, y, z = away[0], away[1][:, None], away[2][:, None, None]
        beyond = np.sqrt(x**2 + y**2 + z**2) - self.made.radius - _RIM
        mask = (1 + np.cos(np.pi * np.clip(beyond / _RIM, 0, 1))) / 2
        k = scipy.fft.fftfreq(size.box)
        half = scipy.fft.rfftfreq(size.box)
        radius = np.sqrt(k[:, None, None] ** 2 + k[:, None] ** 2 + half**2)
        shell = np.minimum(radius * 2 * size.shells, size.shells).astype(np.int64)
        return mask.astype(np.float32), shell.ravel()

    def _spectrum(self, series: xr.DataTree, **options: Any) -> NDArray[np.complex64]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TomodaskWarning)
            volume = td.reconstruct(
                series,
                thickness=self.size.thickness,
                radial=(0.5, 0.0),
                **{"alignment": self._alignment, **self._ranges(), **options},
            )
            values = volume.compute(scheduler="synchronous").values
        spectrum: NDArray[np.complex64] = scipy.fft.rfftn(values * self._mask, workers=1)
        return spectrum


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What a way of correction comes to, of all particles of a group.

    Parameters
    ----------
    name, correction
        Of the way.
    sums
        (3, 3, shell): in 2-D, in 3-D and of the twin, the sums of `Bench.sums`.
    """

    name: str
    correction: Correction
    sums: dict[Group, FloatArray]

    def fsc(self, group: Group) -> FloatArray:
        """Return the (3, shell) FSC in 2-D, in 3-D and of the twin."""
        sums = self.sums[group]
        found: FloatArray = sums[:, 0] / np.sqrt(sums[:, 1] * sums[:, 2])
        return found


def outcomes(bench: Bench) -> Iterator[Outcome]:
    """Give what each way of correction comes to for one particle."""
    size, made = bench.size, bench.made
    whole = simulated(made, size, None)
    tilted = {hand: simulated(made, size, hand) for hand in size.hands}
    for kind, ways in (("noise-free", _NOISE_FREE), ("noisy", _NOISY)):
        draw = counted if kind == "noisy" else np.asarray
        twins = {}
        for name, way in ways.items():
            done = corrected_as_a_whole(draw(whole), made, way)
            twins[name] = bench.sums(bench.stored(done, f"twin, {kind}, {name}"), "none")
        for hand, images in tilted.items():
            series = bench.stored(draw(images), f"{kind} {hand}")
            for name, way in ways.items():
                flat = bench.sums(series, "2d", way, hand)
                deep = bench.sums(series, "3d", way, hand)
                sums = np.stack([flat, deep, twins[name]])
                yield Outcome(f"{kind}, {name}, hand {hand:+d}", way, {made.group: sums})


def pooled(found: list[Outcome]) -> list[Outcome]:
    """Return outcomes of the same way with the sums of all particles of each group."""
    ways: dict[str, Outcome] = {}
    for one in found:
        kept = ways.setdefault(one.name, Outcome(one.name, one.correction, {}))
        for group, sums in one.sums.items():
            kept.sums[group] = kept.sums.get(group, np.zeros_like(sums)) + sums
    return list(ways.values())


def summary(one: Outcome, made: Specimen, size: Size) -> list[tuple[object, ...]]:
    """Return the rows of a way of correction: least FSC, ratio to the twin, and the gain."""
    squared, best = attainable(made, size, one.correction)
    k = frequencies(size)
    band = (k > 1 / BAND[0]) & (k < 1 / BAND[1])
    rows: list[tuple[object, ...]] = []
    for group in one.sums:
        flat, deep, twin = fsc = one.fsc(group)
        # Where noise has left hardly anything, ratios mean nothing.
        seen = (squared > LEAST) & (k > 1 / 100) & (twin > _SEEN)
        means = fsc[:, band].mean(axis=1)
        possible = means[2] - means[0]
        gain = f"{100 * (means[1] - means[0]) / possible:.0f} %" if possible > _GAIN else ""
        rows.append(
            (
                one.name,
                group,
                *(f"{values[seen].min():.3f}" for values in (flat, deep, twin, best)),
                f"{(deep / twin)[seen].min():.3f}",
                f"{(deep / twin)[seen].mean():.3f}",
                *(f"{value:.3f}" for value in means),
                gain,
            )
        )
    return rows


def shells(one: Outcome, made: Specimen, size: Size) -> str:
    """Return a table of a way of correction by shells."""
    squared, best = attainable(made, size, one.correction)
    step = max(size.shells // 20, 1)
    fsc = np.concatenate([one.fsc(group) for group in one.sums])
    rows = [
        (
            f"{1 / k:.1f}",
            f"{squared[shell]:.2f}",
            *(f"{value:.3f}" for value in (best[shell], *fsc[:, shell])),
        )
        for shell, k in enumerate(frequencies(size))
        if shell % step == step // 2
    ]
    names = [f"{group}: {way}" for group in one.sums for way in ("2-D", "3-D", "twin")]
    return table(f"{one.name}: FSC by shell", ("A", "mean CTF^2", "without mask", *names), rows)


def plot(found: list[Outcome], made: Specimen, size: Size, path: Path) -> None:
    """Draw the FSC, a column for each way and a row for each group."""
    from matplotlib.figure import Figure

    k = frequencies(size)
    groups = list(found[0].sums)
    figure = Figure(figsize=(5 * len(found), 4 * len(groups)), layout="constrained")
    grid = figure.subplots(len(groups), len(found), squeeze=False)
    for column, one in enumerate(found):
        squared, best = attainable(made, size, one.correction)
        for row, group in enumerate(groups):
            axes = grid[row, column]
            axes.plot(k, squared, color="0.8", label="mean CTF^2")
            axes.plot(k, best, "k:", label="without mask")
            for name, fsc in zip(("2-D", "3-D", "twin"), one.fsc(group), strict=True):
                axes.plot(k, fsc, label=name)
            axes.set(title=f"{one.name}, {group}", xlabel="1/A", ylim=(0, 1.02))
            axes.legend()
    figure.savefig(path)


def report(size: Size, folder: Path | None = None, picture: str | None = None) -> str:
    """Return the tables; the FSC are drawn to a file where one is named."""
    found: list[Outcome] = []
    needed = 16 * 4 * size.views * int(np.prod(size.image))
    for number, (group, sign) in enumerate(size.groups()):
        made = specimen(size, number, group, sign)
        with threadpool_limits(1), temporary_folder(needed, folder) as place:
            for one in outcomes(Bench(made, size, place)):
                found.append(one)
                print(number, *summary(one, made, size)[0], sep=" | ", flush=True)
    ways = pooled(found)
    least = ("least FSC: 2-D", "3-D", "twin", "without mask", "3-D / twin: least", "mean")
    means = tuple(f"{BAND[0]:g}-{BAND[1]:g} A: {way}" for way in ("2-D", "3-D", "twin"))
    text = table(
        f"Particles in {size.thickness} voxels of {PIXEL:g} A, {size.views} views; shells of mean "
        f"CTF^2 > {LEAST} and FSC of the twin > {_SEEN}",
        ("", "layer", *least, *means, "gain"),
        [row for one in ways for row in summary(one, made, size)],
    )
    if picture is not None:
        plot(ways, made, size, Path(picture))
    return text + "".join(shells(one, made, size) for one in ways)


if __name__ == "__main__":
    run(__doc__, SIZES, report, picture="file to which the FSC are drawn")

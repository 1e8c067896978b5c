"""How well contrast transfer is estimated: errors on simulated series, and what it costs.

Run ``python -m benchmarks.ctf_accuracy``. Series are of amorphous ice whose defocus follows the
height exactly (`tomodask.simulate`), and are estimated by ``tomodask.estimate_ctf`` as it comes,
from a store. "Clear" ice scatters, at low frequency, 0.3 of the power of the counting noise, "weak"
ice 0.05. Errors are of the defocus at the specimen's origin, half the sum of both directions, and
the length of the difference of two astigmatism vectors (difference of both directions, at twice the
angle), A.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from threadpoolctl import threadpool_limits

import tomodask as td
from benchmarks.ctf_series import PIXEL, simulated, truth_of
from benchmarks.inputs import temporary_folder
from benchmarks.measure import cost_of
from benchmarks.report import run, table
from tomodask.errors import TomodaskError, TomodaskWarning
from tomodask.geometry import height_gradient
from tomodask.model import handedness_of, tilt_series_of, transfers_at_origin
from tomodask.simulate import ContrastTransfer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import xarray as xr
    from numpy.typing import NDArray

    from benchmarks.ctf_series import Kind, Truth

    FloatArray = NDArray[np.float64]

__all__ = ["SIZES", "Size", "View", "report", "scored"]

#: Tilts, degrees, of which errors are given; the last is that of the outermost views alone.
BANDS = ((0.0, 30.0), (30.0, 50.0), (50.0, 59.9), (59.9, 90.0))
_MEASURES = (
    *("defocus, mean", "median", "largest", "astigmatism, mean"),
    *("defocus within 90 % interval", "half of it", "astigmatism within"),
)
#: What the product of the true and the found hand means.
_HAND = {1: "right", -1: "wrong", 0: "unknown"}
_PEER = Path(__file__).with_name("teamtomo_ctf.py")


class Astigmatic(Protocol):
    """A contrast transfer, of whatever program."""

    @property
    def defocus_u(self) -> float:
        """Largest defocus, A."""

    @property
    def defocus_v(self) -> float:
        """Smallest defocus, A."""

    @property
    def astigmatism_angle(self) -> float:
        """Direction of U, degrees."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Square images; how many series of each kind, and views of each that a peer is given."""

    edge: int = 2048
    views: int = 41
    clear: int = 20
    weak: int = 10
    peer_series: int = 2
    peer_views: int = 7

    def series(self) -> Iterator[tuple[Kind, int]]:
        """Give the kind and the seed of each series."""
        yield from (("clear", seed) for seed in range(self.clear))
        yield from (("weak", seed) for seed in range(self.weak))

    def shared_views(self) -> list[int]:
        """Return the views that a peer is given."""
        chosen = np.linspace(0, self.views - 1, self.peer_views).round().astype(int)
        return [int(view) for view in np.unique(chosen)]


SIZES = {
    "full": Size(),
    "small": Size(clear=3, weak=2, peer_series=1),
    "tiny": Size(edge=512, views=5, clear=1, weak=1, peer_views=1),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Errors of one view, A.

    Parameters
    ----------
    tilt
        Degrees, positive.
    defocus
        Signed error.
    expected
        Half-width of the 90 % interval that is reported.
    astigmatism, expected_astigmatism
        The same of the vector.
    confidence
        As reported.
    """

    tilt: float
    defocus: float
    astigmatism: float
    expected: float = np.nan
    expected_astigmatism: float = np.nan
    confidence: float = np.nan


def scored(truth: Truth, found: xr.Dataset) -> list[View]:
    """Return the errors of every view of a table of contrast transfer."""
    at_origin = transfers_at_origin(found, truth.projection)

    def column(name: str) -> FloatArray:
        values: FloatArray = (
            found[name].values if name in found else np.full(len(at_origin), np.nan)
        )
        return values

    expected, vector = column("defocus_error"), column("astigmatism_error")
    confidence = column("confidence")
    return [
        View(
            tilt=float(abs(truth.projection.tilt_angle[view])),
            defocus=mean_defocus(one) - mean_defocus(true),
            astigmatism=float(abs(vector_of(one) - vector_of(true))),
            expected=float(expected[view]),
            expected_astigmatism=float(vector[view]),
            confidence=float(confidence[view]),
        )
        for view, (one, true) in enumerate(zip(at_origin, truth.ctf, strict=True))
    ]


def mean_defocus(ctf: Astigmatic) -> float:
    """Return half the sum of the defoci, A."""
    return (ctf.defocus_u + ctf.defocus_v) / 2


def vector_of(ctf: Astigmatic) -> complex:
    """Return the astigmatism as a vector at twice the angle, A."""
    turn = np.exp(2j * np.deg2rad(ctf.astigmatism_angle))
    return complex((ctf.defocus_u - ctf.defocus_v) * turn)


def peer_views(
    python: str, truth: Truth, store: Path, size: Size, folder: Path
) -> tuple[list[View], float]:
    """Return the errors of torch-ctf-estimation on some views, and its CPU s per megapixel.

    Parameters
    ----------
    python
        Interpreter that has the package.
    truth, store, size
        Of the series.
    folder
        Where the images are passed on.
    """
    images = tilt_series_of(td.open(store))["images"]
    views = size.shared_views()
    path = folder / "views.npy"
    np.save(path, np.stack([np.asarray(images[view]) for view in views]))
    done = subprocess.run(
        [python, str(_PEER), str(path), str(PIXEL)],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    path.unlink()
    result = json.loads(done.stdout)
    # It estimates the defocus at the image's centre, without knowing where the specimen's origin
    # is: it is given the difference.
    gradient = height_gradient(truth.projection)
    heights = -np.einsum("ti,ti->t", gradient, truth.projection.shift) * truth.handedness
    found = []
    for view, (u, v, angle) in zip(views, result["views"], strict=True):
        one = ContrastTransfer(u, v, angle).shifted(-heights[view])
        true = truth.ctf[view]
        found.append(
            View(
                tilt=float(abs(truth.projection.tilt_angle[view])),
                defocus=mean_defocus(one) - mean_defocus(true),
                astigmatism=float(abs(vector_of(one) - vector_of(true))),
            )
        )
    return found, result["cpu"] / (len(views) * size.edge**2 / 1e6)


def band_rows(name: str, views: Sequence[View]) -> list[tuple[object, ...]]:
    """Return a row of a table for each band of tilts in which there are views."""
    rows: list[tuple[object, ...]] = []
    for low, high in BANDS:
        part = [view for view in views if low <= view.tilt < high]
        if not part:
            continue
        defocus = np.array([view.defocus for view in part])
        known = [view for view in part if np.isfinite(view.expected)]
        covered = [abs(view.defocus) <= view.expected for view in known]
        held = [view.astigmatism <= view.expected_astigmatism for view in known]
        rows.append(
            (
                name,
                f"{low:.0f} to {high:.0f}" if high < 90 else "60",
                len(part),
                f"{np.abs(defocus).mean():.0f}",
                f"{np.median(np.abs(defocus)):.0f}",
                f"{np.abs(defocus).max():.0f}",
                f"{np.mean([view.astigmatism for view in part]):.0f}",
                f"{100 * np.mean(covered):.0f} %" if known else "",
                f"{np.mean([view.expected for view in known]):.0f}" if known else "",
                f"{100 * np.mean(held):.0f} %" if known else "",
            )
        )
    return rows


def report(
    size: Size,
    folder: Path | None = None,
    peer_python: str | None = None,
    seeds: str | None = None,
    keep: str | None = None,
) -> str:
    """Return the tables.

    Parameters
    ----------
    size
        How many series, and how large.
    folder
        Where files are made.
    peer_python
        Interpreter that has torch-ctf-estimation.
    seeds
        "CLEAR,WEAK" numbers of series instead of those of the size.
    keep
        A folder in which simulated series stay, for the next run.
    """
    if seeds is not None:
        clear, weak = (int(number) for number in seeds.split(","))
        size = replace(size, clear=clear, weak=weak)
    found: dict[str, list[View]] = {}
    rows: list[tuple[object, ...]] = []
    hands: dict[str, list[int]] = {}
    needed = 12 * size.views * size.edge**2
    with threadpool_limits(1), temporary_folder(needed, folder) as place:
        home = place if keep is None else Path(keep)
        home.mkdir(parents=True, exist_ok=True)
        for kind, seed in size.series():
            truth = truth_of(kind, seed, size.views)
            store = simulated(kind, seed, size.edge, size.views, home)
            try:
                views, hand, cpu = estimated(truth, store, size)
            except TomodaskError as error:
                rows.append((kind, seed, f"failed: {error}"))
            else:
                found.setdefault(kind, []).extend(views)
                if peer_python is not None and seed < size.peer_series:
                    shared = [views[view] for view in size.shared_views()]
                    found.setdefault(f"{kind}, views of the peer", []).extend(shared)
                hands.setdefault(kind, []).append(hand * truth.handedness)
                rows.append(
                    (
                        kind,
                        seed,
                        f"{mean_defocus(truth.ctf[size.views // 2]):.0f}",
                        f"{truth.thickness:.0f}",
                        f"{np.mean([abs(view.defocus) for view in views]):.0f}",
                        f"{np.mean([view.astigmatism for view in views]):.0f}",
                        f"{np.mean([view.confidence for view in views]):.2f}",
                        _HAND[hand * truth.handedness],
                        f"{cpu:.3f}",
                    )
                )
            print(*rows[-1], sep=" | ", flush=True)
            if peer_python is not None and seed < size.peer_series:
                name = f"torch-ctf-estimation, {kind}"
                views, cpu = peer_views(peer_python, truth, store, size, place)
                found.setdefault(name, []).extend(views)
                print(f"{name} {seed}: {cpu:.2f} CPU s per megapixel", flush=True)
            if keep is None:
                shutil.rmtree(store)
    headers = ("series", "seed", "defocus at 0", "ice, A", "defocus", "astigmatism")
    text = table(
        f"Series of {size.views} x {size.edge} x {size.edge}: mean errors, A",
        (*headers, "confidence", "hand", "CPU s/Mpx"),
        rows,
    )
    text += table(
        "Errors by tilt, A",
        ("series", "degrees", "views", *_MEASURES),
        [row for name, views in found.items() for row in band_rows(name, views)],
    )
    return text + table(
        "Handedness",
        ("series", *_HAND.values()),
        [(kind, *(signs.count(sign) for sign in _HAND)) for kind, signs in hands.items()],
    )


def estimated(truth: Truth, store: Path, size: Size) -> tuple[list[View], int, float]:
    """Estimate a stored series: its errors, the hand, and CPU s per megapixel."""
    found: list[xr.Dataset] = []

    def estimate() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TomodaskWarning)
            found.append(td.estimate_ctf(store, overwrite=True, workers=1))

    cost = cost_of(estimate)
    megapixels = size.views * size.edge**2 / 1e6
    return scored(truth, found[0]), handedness_of(found[0]), cost.cpu / megapixels


if __name__ == "__main__":
    run(
        __doc__,
        SIZES,
        report,
        peer_python="interpreter that has torch-ctf-estimation",
        seeds="CLEAR,WEAK numbers of series",
        keep="folder in which simulated series stay for the next run",
    )

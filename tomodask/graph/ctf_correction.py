"""What undoes the contrast transfer of a series' views, and weights them by dose."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tomodask.errors import DataError, ParameterError, TomodaskWarning
from tomodask.geometry import slab_heights
from tomodask.graph.inputs import chosen_ctf, refuse_applied
from tomodask.kernels.ctf.correct import (
    TiltedTransfer,
    correct_image,
    correction_bytes,
    weight_image,
)
from tomodask.kernels.dose_weighting import dose_weights
from tomodask.model import tilt_series_of, transfers_at_origin
from tomodask.model.ctf_facts import trusted_views

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import xarray as xr
    from numpy.typing import NDArray

    from tomodask.geometry import Projection
    from tomodask.graph.aligned_views import AlignedGrid
    from tomodask.kernels.ctf import Correction, Transfer

__all__ = ["ViewCorrection", "known_views", "view_correction"]

Matrix = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class ViewCorrection:
    """All that the correction of the contrast transfer of a series' views is; small.

    Parameters
    ----------
    transfers
        Of the views that take part, at the specimen's origin, in the frame of the raw images;
        empty where the transfer is left as it is.
    matrices
        ``raw = matrix (u', v') + shift`` of each view: that of the slab model. A frequency of the
        aligned image is one of the raw image turned, stretched and, under an x-tilt, sheared.
    heights
        Coefficients of ``w = c_u u' + c_v v' + c_z z`` of each view.
    handedness
        The defocus at height w is larger by so many times w: +1 or -1.
    correction
        How the transfer is undone.
    dose
        e/A^2 that the specimen has received at the end of each view; None for no dose weights.
    voltage
        kV, for the dose weights.
    """

    transfers: tuple[Transfer, ...]
    matrices: tuple[Matrix, ...]
    heights: tuple[tuple[float, float, float], ...]
    handedness: int
    correction: Correction
    dose: tuple[float, ...] | None = None
    voltage: float | None = None

    def weight(self, t: int) -> Callable[[NDArray[np.float64]], NDArray[np.float64]] | None:
        """Return the weight of a view by spatial frequency (1/A), None where all weigh 1."""
        if self.dose is None or self.voltage is None:
            return None
        return partial(_dose_weight, dose=self.dose[t], voltage=self.voltage)

    def tilted(self, t: int) -> TiltedTransfer | None:
        """Return the transfer of a view over the specimen's mid-plane; None without transfers."""
        if not self.transfers:
            return None
        along_u, along_v, _ = self.heights[t]
        return TiltedTransfer(
            transfer=self.transfers[t],
            matrix=self.matrices[t],
            slope=(self.handedness * along_u, self.handedness * along_v),
        )

    def corrected(
        self, t: int, image: NDArray[np.float32], grid: AlignedGrid
    ) -> NDArray[np.float32]:
        """Return an aligned view corrected, and weighted, as the mid-plane z = 0 lies in it.

        Parameters
        ----------
        t
            Number of the view among those that take part.
        image
            (v, u) float32, its level subtracted.
        grid
            Its pixels.

        Returns
        -------
        (v, u) float32
        """
        tilted, weight = self.tilted(t), self.weight(t)
        if tilted is not None:
            return correct_image(
                image,
                tilted,
                self.correction,
                pixel_size=grid.pixel_size,
                first=grid.first,
                weight=weight,
            )
        if weight is None:
            return image
        return weight_image(image, self.matrices[t], weight, pixel_size=grid.pixel_size)

    def corrected_bytes(self, grid: AlignedGrid) -> int:
        """Return the bytes that correcting any one view holds at most, beside its image."""
        return max(
            correction_bytes(
                grid.shape, self.tilted(t), pixel_size=grid.pixel_size, first=grid.first
            )
            for t in range(len(self.matrices))
        )

    def identity(self) -> dict[str, Any]:
        """Return everything that determines the values, as plain values."""
        # Matrices and heights follow from the geometry, which plans hold.
        identity: dict[str, Any] = {
            "dose": None if self.dose is None else list(self.dose),
            "voltage": self.voltage,
        }
        if not self.transfers:
            return identity
        if self.correction.method == "wiener":
            identity["snr"] = self.correction.snr
        return identity | {
            "transfers": [
                [
                    transfer.optics.voltage,
                    transfer.optics.spherical_aberration,
                    transfer.optics.amplitude_contrast,
                    transfer.defocus_u,
                    transfer.defocus_v,
                    transfer.astigmatism_angle,
                    transfer.phase_shift,
                ]
                for transfer in self.transfers
            ],
            "handedness": self.handedness,
            "method": self.correction.method,
        }


def view_correction(
    series: xr.DataTree,
    projection: Projection,
    views: Sequence[int],
    *,
    ctf: xr.Dataset | None,
    handedness: int | None,
    correction: Correction,
    dose_weighting: bool,
    use_ctf: bool = True,
) -> ViewCorrection:
    """Return the correction of some views of a series.

    Parameters
    ----------
    series
        From ``tomodask.open``.
    projection
        Of all its views.
    views
        Numbers of those that take part.
    ctf
        Table of contrast transfer in place of the series' own.
    handedness
        +1 or -1, in place of what the table says.
    correction
        How the transfer is undone.
    dose_weighting
        Whether views are weighted by the dose that the specimen has received.
    use_ctf
        Whether the transfer is undone at all.

    Raises
    ------
    ProductMissingError
        If the series has no CTF.
    ParameterError
        If the handedness, the dose or the voltage is not known.
    DoubleApplicationError
        If the images are corrected, or weighted, already.
    DataError
        If a view has no defocus or dose, or none has a defocus that is to be trusted.

    Warns
    -----
    TomodaskWarning
        If some views' defocus is not to be trusted.
    """
    taking_part = [int(view) for view in views]
    tilt_series = tilt_series_of(series)
    transfers: tuple[Transfer, ...] = ()
    hand = 1
    if use_ctf:
        _refuse_applied(tilt_series, "ctf")
        table, hand = chosen_ctf(series, ctf, handedness)
        everything = transfers_at_origin(table, projection)
        transfers = tuple(everything[view] for view in taking_part)
        _require(
            series,
            taking_part,
            [_is_finite(transfer) for transfer in transfers],
            "their defocus is not known: estimate it again, import it with 'tomodask ctf import'",
        )
        included = tilt_series["included"].values
        _judge(series, table, [view for view in taking_part if included[view]])
    dose, voltage = None, None
    if dose_weighting:
        _refuse_applied(tilt_series, "dose weighting")
        dose = tuple(float(after) for after in _doses(series)[taking_part])
        _require(
            series,
            taking_part,
            [after >= 0 for after in dose],
            "their dose is not known: import with --exposure",
        )
        voltage = tilt_series.attrs.get("voltage")
        if voltage is None and transfers:
            voltage = transfers[0].optics.voltage
        if voltage is None:
            raise ParameterError(
                f"{series.name} records no voltage: import with --voltage to weight by dose"
            )
    chosen = projection[taking_part]
    return ViewCorrection(
        transfers=transfers,
        matrices=tuple(
            ((float(m[0, 0]), float(m[0, 1])), (float(m[1, 0]), float(m[1, 1])))
            for m in chosen.slab_model().matrix
        ),
        heights=tuple((float(a), float(b), float(c)) for a, b, c in slab_heights(chosen)),
        handedness=hand,
        correction=correction,
        dose=dose,
        voltage=None if voltage is None else float(voltage),
    )


def _judge(series: xr.DataTree, table: xr.Dataset, views: Sequence[int]) -> None:
    """Say which views are corrected for a defocus that nobody believes; refuse where all are."""
    doubtful = [view for view in views if not trusted_views(table)[view]]
    if not doubtful:
        return
    if len(doubtful) == len(views):
        raise DataError(
            f"{series.name}: the defocus of no view is to be trusted (see 'tomodask ctf estimate "
            "--pictures'): estimate it again, import it, or reconstruct without its correction"
        )
    warnings.warn(
        f"{series.name}: views {', '.join(map(str, doubtful))} are corrected for a defocus that is "
        "not their own, or not to be trusted: look at their spectra, exclude them, or import it",
        TomodaskWarning,
        stacklevel=5,
    )


def known_views(
    series: xr.DataTree,
    projection: Projection,
    *,
    ctf: xr.Dataset | None,
    handedness: int | None,
    dose_weighting: bool,
    use_ctf: bool = True,
) -> NDArray[np.bool_]:
    """Return (tilt,) whether all is known of a view that :func:`view_correction` needs.

    Parameters and errors are those of :func:`view_correction`.
    """
    known = np.ones(len(projection), bool)
    if use_ctf:
        table, _ = chosen_ctf(series, ctf, handedness)
        known &= [_is_finite(transfer) for transfer in transfers_at_origin(table, projection)]
    if dose_weighting:
        known &= _doses(series) >= 0  # false where it is not a number
    return known


def _dose_weight(
    frequency: NDArray[np.float64], *, dose: float, voltage: float
) -> NDArray[np.float64]:
    weights: NDArray[np.float64] = dose_weights(frequency, [dose], voltage=voltage)[0]
    return weights


def _refuse_applied(tilt_series: xr.Dataset, step: str) -> None:
    """Raise if a step has been applied to the stored images, or to those in memory."""
    images = tilt_series["images"]
    applied = [*tilt_series.attrs.get("applied", []), *images.attrs.get("applied", [])]
    refuse_applied(images.assign_attrs(applied=applied), step)


def _is_finite(transfer: Transfer) -> bool:
    values = (
        transfer.defocus_u,
        transfer.defocus_v,
        transfer.astigmatism_angle,
        transfer.phase_shift,
    )
    return bool(np.isfinite(values).all())


def _doses(series: xr.DataTree) -> NDArray[np.float64]:
    """Return the dose that the specimen has received at the end of each view, e/A^2."""
    tilt_series = tilt_series_of(series)
    absent = [name for name in ("dose", "exposure") if name not in tilt_series.coords]
    if absent:
        raise ParameterError(
            f"{series.name} does not record the {' and the '.join(absent)} of its views: import "
            "with --exposure to weight by dose"
        )
    after: NDArray[np.float64] = (tilt_series["dose"] + tilt_series["exposure"]).values
    return after


def _require(series: xr.DataTree, views: Sequence[int], known: Sequence[bool], what: str) -> None:
    """Raise if something is not known of views that take part."""
    unknown = [str(view) for view, there in zip(views, known, strict=True) if not there]
    if unknown:
        raise DataError(
            f"{series.name}: views {', '.join(unknown)} take part, but {what}, or exclude them"
        )

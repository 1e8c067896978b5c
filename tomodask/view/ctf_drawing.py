"""One view's rings and their fit, drawn onto axes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomodask.kernels.ctf import Transfer
from tomodask.model import optics_of
from tomodask.view.ctf_rings import compared_rings, zero_phases

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

__all__ = [
    "BLUE",
    "DOUBT",
    "ORANGE",
    "draw_profile",
    "draw_rings",
    "draw_spectrum",
    "frequency_limit",
    "known_value",
]

# Okabe and Ito's colours, told apart by colour-blind eyes too.
BLUE, ORANGE, _RED, _SKY = "#0072B2", "#E69F00", "#D55E00", "#56B4E9"
_MEASURED, _MODEL, _MATCH, _ZEROS, _REACH, DOUBT = "0.15", _RED, BLUE, ORANGE, _SKY, _RED
#: Standard deviations from grey to black or white.
_CONTRAST = 2.0
#: What is shown beyond the fit's resolution, as a factor of its frequency.
_BEYOND = 1.3
#: Resolutions that are named, A.
_NAMED = (100, 50, 30, 20, 15, 10, 8, 6, 5, 4, 3.5, 3, 2.5, 2, 1.7, 1.5, 1.2, 1)
#: Zeros that are drawn.
_ZERO_COUNT = 3
#: Least noise of a profile, so that its scale is never without any.
_FAINTEST = 1e-6


def frequency_limit(ctf: xr.Dataset, resolution: ArrayLike) -> float:
    """Return the highest frequency to show, 1/A, where rings are followed to this resolution, A."""
    edge = float(min(abs(ctf[f"frequency_{axis}"].values[0]) for axis in "xy"))
    finest = float(np.asarray(resolution))
    if not np.isfinite(finest):
        return edge
    return min(edge, _BEYOND / finest)


def draw_spectrum(ax: Axes, one: xr.Dataset, limit: float, pixels: int) -> Transfer | None:
    """Draw the rings of a view, measured and expected, and return its transfer, if it has one."""
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    values = [
        float(one[name]) for name in ("defocus_u", "defocus_v", "astigmatism_angle", "phase_shift")
    ]
    if not np.isfinite(values).all():
        ax.text(0.5, 0.5, "not estimated", transform=ax.transAxes, ha="center", va="center")
        return None
    transfer = Transfer(optics_of(one), *values)
    ax.imshow(
        compared_rings(one["spectrum"], transfer, limit, pixels), cmap="gray", origin="lower",
        vmin=-_CONTRAST, vmax=_CONTRAST, extent=(-limit, limit, -limit, limit),
    )  # fmt: skip
    return transfer


def draw_rings(ax: Axes, one: xr.Dataset, limit: float, pixels: int, *, trusted: bool) -> None:
    """Draw a spectrum with the fit's zeros, how far rings are followed, and resolutions."""
    transfer = draw_spectrum(ax, one, limit, pixels)
    if transfer is not None:
        _draw_zeros(ax, transfer, limit, pixels)
    resolution = known_value(one, "fit_resolution")
    if resolution is not None:
        _draw_reach(ax, resolution)
    named = _named(limit, 0.14 * limit)
    places = [sign / each for each in named for sign in (-1, 1)]
    labels = [f"{each:g}" for each in named for _ in range(2)]
    ax.set_xticks(places, labels)
    ax.set_yticks(places, labels)
    ax.tick_params(labelsize=8)
    ax.set(xlabel="resolution along x (Å)", ylabel="resolution along y (Å)")
    ax.spines[:].set(color="0.8")
    for x, align, text in ((0.012, "left", "measured"), (0.988, "right", "fitted")):
        ax.text(x, 0.985, text, transform=ax.transAxes, ha=align, va="top", fontsize=9)
    if not trusted:
        ax.spines[:].set(color=DOUBT, linewidth=3)
        ax.text(
            0.5, 0.03, "not to be trusted", transform=ax.transAxes, ha="center", va="bottom",
            color="white", weight="bold", fontsize=12,
            bbox={"facecolor": DOUBT, "edgecolor": "none", "pad": 4},
        )  # fmt: skip


def _draw_zeros(ax: Axes, transfer: Transfer, limit: float, pixels: int) -> None:
    place = np.linspace(-limit, limit, pixels)
    ax.contour(
        place, place, transfer.phase(place[None, :], place[:, None]),
        levels=zero_phases(transfer, _ZERO_COUNT), colors=_ZEROS, linewidths=0.9, linestyles="--",
    )  # fmt: skip
    ax.text(0.012, 0.012, "zeros", transform=ax.transAxes, color=_ZEROS, fontsize=9)


def _draw_reach(ax: Axes, resolution: float) -> None:
    from matplotlib.patches import Circle

    ax.add_patch(Circle((0, 0), 1 / resolution, fill=False, color=_REACH, linewidth=1.4))
    ax.text(
        0.988, 0.012, f"{resolution:.3g} Å", transform=ax.transAxes, ha="right", color=BLUE,
        fontsize=9,
    )  # fmt: skip


def draw_profile(above: Axes, below: Axes, one: xr.Dataset, limit: float) -> None:
    """Plot the power along the rings with the fit, and how they agree."""
    frequency = one["frequency"].values
    shown = (frequency <= limit) & np.isfinite(one["profile"].values)
    frequency, profile = frequency[shown], one["profile"].values[shown]
    above.plot(frequency, profile, color=_MEASURED, linewidth=1, label="measured", zorder=3)
    spread = np.abs(profile)
    if "profile_model" in one:
        model = one["profile_model"].values[shown]
        above.plot(frequency, model, color=_MODEL, linewidth=2.2, alpha=0.8, label="fitted")
        spread = np.abs(profile - model)
    # Linear up to the noise and logarithmic above, so that the last rings are seen with the first.
    noise = max(float(np.nanmedian(spread)) if shown.any() else 0.0, _FAINTEST)
    above.set_yscale("asinh", linear_width=noise)
    decades = 10.0 ** np.arange(np.ceil(np.log10(2 * noise)), 3)
    ticks = np.concatenate([-decades[::-1], [0.0], decades])
    low, high = above.get_ylim()
    ticks = ticks[(ticks >= low) & (ticks <= high)]
    above.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    above.minorticks_off()
    above.set(ylabel="power over background, less 1")
    above.tick_params(labelbottom=False)
    if "profile_match" in one:
        match = one["profile_match"].values[shown]
        below.fill_between(frequency, 0, match, color=_MATCH, alpha=0.25, linewidth=0)
        below.plot(frequency, match, color=_MATCH, linewidth=1)
    below.axhline(0, color="0.7", linewidth=0.8)
    below.set(xlabel="spatial frequency (1/Å)", ylabel="match", xlim=(0, limit), ylim=(-0.6, 1.05))
    resolution = known_value(one, "fit_resolution")
    if resolution is not None:
        for ax in (above, below):
            ax.axvline(1 / resolution, color=_REACH, linewidth=1.4)
    above.legend(fontsize=8.5, ncols=2, loc="best", framealpha=0.85, edgecolor="none")
    top = above.secondary_xaxis("top")
    named = _named(limit, 0.08 * limit)
    top.set_xticks([1 / each for each in named], [f"{each:g}" for each in named])
    top.set_xlabel("resolution (Å)")


def _named(limit: float, apart: float) -> list[float]:
    """Return the resolutions to be named up to a frequency, so far apart, from the finest."""
    named: list[float] = []
    for resolution in reversed(_NAMED):
        frequency = 1 / resolution
        if frequency <= limit and (not named or 1 / named[-1] - frequency >= apart):
            named.append(resolution)
    return [each for each in named if 1 / each >= apart]


def known_value(one: xr.Dataset, name: str) -> float | None:
    """Return a view's value, None where it is not known."""
    value = float(one[name]) if name in one else np.nan
    return value if np.isfinite(value) else None

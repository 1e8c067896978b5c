"""What is fitted over a series, and what is found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tomodask.kernels.ctf.likelihood import Evaluation, Focus, evaluate
from tomodask.kernels.ctf.trend import Trend, TrendFit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tomodask.kernels.ctf.background import Oscillation, Smooth
    from tomodask.kernels.ctf.rings import Rings

    FloatArray = NDArray[np.float64]

__all__ = ["NINETY", "STEP", "JointFit", "Problem", "Whole"]

#: A between defoci of the search: at 1/6 A a change of 2 chi by 0.17.
STEP = 50.0
#: Search beyond the range for what astigmatism shifts, A.
_MARGIN = 2500.0
#: Half-width of the 90 % interval of a normal distribution, in standard deviations.
NINETY = 1.645


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """What is fitted.

    Parameters
    ----------
    views
        Oscillations, for handedness +1.
    rings, smooth
        The cells, and the background's surfaces.
    order, tilt_angle
        (tilt,) of all views of the series.
    used
        (view,) which of them have oscillations.
    defocus_range
        A.
    phase_shift
        Range, degrees; of a known one both ends are the same.
    astigmatism
        Whether there may be any.
    """

    views: Sequence[Oscillation]
    rings: Rings
    smooth: Smooth
    order: FloatArray
    tilt_angle: FloatArray
    used: NDArray[np.intp]
    defocus_range: tuple[float, float]
    phase_shift: tuple[float, float]
    astigmatism: bool

    @property
    def searches_phase(self) -> bool:
        """Whether the phase shift is looked for."""
        return self.phase_shift[1] > self.phase_shift[0]

    @property
    def width(self) -> float:
        """Of the range of defocus, A."""
        return self.defocus_range[1] - self.defocus_range[0]

    def handed(self, handedness: int) -> Sequence[Oscillation]:
        """Return the oscillations for a handedness."""
        if handedness > 0:
            return self.views
        return [view.mirrored() for view in self.views]

    def inside(self, defocus: FloatArray) -> NDArray[np.bool_]:
        """Return which defoci lie in the range."""
        low, high = self.defocus_range
        within: NDArray[np.bool_] = (defocus >= low) & (defocus <= high)
        return within

    def shifts(self, fit: JointFit) -> FloatArray:
        """Return what the defocus of each sector is larger by, (view, sector)."""
        shifts: FloatArray = fit.astigmatism @ self.rings.turns
        return shifts

    def evaluated(self, fit: JointFit) -> list[Evaluation]:
        """Return how the oscillations fit."""
        return [
            evaluate(
                view, self.rings, self.smooth, fit.contrast, fit.focus(v), float(fit.amplitude[v])
            )
            for v, view in enumerate(self.handed(fit.handedness))
        ]

    def grid(self) -> FloatArray:
        """Return the defoci of the search, with a margin around the range."""
        low, high = self.defocus_range
        return np.arange(low - _MARGIN, high + _MARGIN + STEP, STEP)

    def defocus_trend(self) -> Trend:
        """Return how defocus runs over the series."""
        walk = np.array([0.0, 20.0, 60.0, 200.0, 700.0])
        scatter = np.array([10.0, 30.0, 70.0, 150.0, 300.0, 600.0, 1500.0])
        return Trend(self.order, self.tilt_angle, self.width, 2000.0, walk, scatter, 250.0)

    def astigmatism_trend(self) -> Trend:
        """Return how a component of the astigmatism runs over the series."""
        walk, scatter = np.array([0.0, 3.0, 10.0, 40.0, 150.0]), np.array([5.0, 15.0, 50.0, 200.0])
        return Trend(self.order, self.tilt_angle, 700.0, 100.0, walk, scatter, 50.0)

    def phase_trend(self) -> Trend:
        """Return how the phase shift runs over the series."""
        walk, scatter = np.array([0.0, 0.3, 1.0, 3.0, 10.0]), np.array([0.1, 1.0, 3.0, 10.0])
        return Trend(self.order, self.tilt_angle, 60.0, 1.0, walk, scatter, 2.0)

    def strength_trend(self, level: float) -> Trend:
        """Return how the amplitude, of about a level, runs over the series."""
        walk, scatter = np.array([0.0, 0.03]), np.array([0.05, 0.15, 0.4, 1.0])
        return Trend(
            self.order,
            self.tilt_angle,
            3 * level,
            level,
            walk * level,
            scatter * level,
            0.2 * level,
        )

    def smoothed(self, trend: Trend, value: FloatArray, precision: FloatArray) -> TrendFit:
        """Fit a trend to values of the views that are used, for all of the series."""
        values, precisions = np.zeros((2, len(self.order)))
        values[self.used], precisions[self.used] = value, precision
        return trend.fit(values, precisions)

    def at_views(self, trend: Trend, value: FloatArray, precision: FloatArray) -> TrendFit:
        """Fit a trend to values of the views that are used, and return it for them."""
        return self.smoothed(trend, value, precision).at(self.used)

    def whole(self, fit: JointFit) -> Whole:
        """Return the results for all of the series, by trend where a view has none."""
        missing = np.ones(len(self.order), bool)
        missing[self.used] = False

        def filled(
            name: str, trend: Trend, own: FloatArray, variance: FloatArray
        ) -> tuple[FloatArray, FloatArray]:
            value = np.empty(len(missing))
            spread = np.zeros(len(missing))
            if missing.any() and name in fit.sites:
                smoothed = self.smoothed(trend, *fit.sites[name])
                value[:], spread[:] = smoothed.mean, smoothed.variance
            elif missing.any():
                value[:] = np.mean(own)
            value[self.used], spread[self.used] = own, variance
            return value, spread

        defocus, variance = filled(
            "defocus", self.defocus_trend(), fit.defocus, fit.defocus_variance
        )
        error = NINETY * np.sqrt(variance)
        error[self.used] = np.hypot(
            fit.defocus_error, NINETY * fit.ridge * np.sqrt(fit.phase_variance)
        )
        parts = [
            filled(
                f"astigmatism {part}",
                self.astigmatism_trend(),
                fit.astigmatism[:, part],
                fit.astigmatism_variance[:, part],
            )
            for part in range(2)
        ]
        phase, phase_variance = filled(
            "phase shift", self.phase_trend(), fit.phase_shift, fit.phase_variance
        )
        return Whole(
            defocus,
            error,
            np.stack([part[0] for part in parts], axis=1),
            np.stack([part[1] for part in parts], axis=1),
            phase,
            phase_variance,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Whole:
    """Results of all views of a series, of those without spectra too.

    Parameters
    ----------
    defocus, defocus_error
        (tilt,) A.
    astigmatism, astigmatism_variance
        (tilt, 2) A.
    phase_shift, phase_variance
        (tilt,) degrees.
    """

    defocus: FloatArray
    defocus_error: FloatArray
    astigmatism: FloatArray
    astigmatism_variance: FloatArray
    phase_shift: FloatArray
    phase_variance: FloatArray


@dataclass(slots=True, eq=False)
class JointFit:
    """The views of a series as fitted together.

    Parameters
    ----------
    handedness
        For which this was fitted.
    contrast
        (ring,) of a view of amplitude 1.
    amplitude, noise
        (view,): strength of the oscillation; variance of the cells over what it should be.
    defocus, defocus_variance, defocus_error
        (view,) A; half-width of the 90 % interval.
    astigmatism, astigmatism_variance
        (view, 2) A: cosine and sine part.
    phase_shift, phase_variance
        (view,) degrees.
    ridge
        (view,) A by which the fitted defocus falls with each degree of phase shift: defocus and its
        errors above are those at the phase shift given.
    others_mean, others_variance
        (view,) defocus as the other views tell it.
    regular
        (view,) probability that the view follows the trend.
    evidence
        (view,) logarithm of the probability of a view's data, given the others, over that of no
        oscillation.
    trends
        By name, sites of the trends: value and precision by view.
    """

    handedness: int
    contrast: FloatArray
    amplitude: FloatArray
    noise: FloatArray
    defocus: FloatArray
    defocus_variance: FloatArray
    defocus_error: FloatArray
    astigmatism: FloatArray
    astigmatism_variance: FloatArray
    phase_shift: FloatArray
    phase_variance: FloatArray
    ridge: FloatArray
    others_mean: FloatArray
    others_variance: FloatArray
    regular: FloatArray
    evidence: FloatArray
    sites: dict[str, tuple[FloatArray, FloatArray]] = field(default_factory=dict)

    def focus(self, view: int) -> Focus:
        """Return the focus of a view."""
        u, v = self.astigmatism[view]
        return Focus(float(self.defocus[view]), (float(u), float(v)), float(self.phase_shift[view]))

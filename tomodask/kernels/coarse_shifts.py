"""The shifts of a tilt series by cross-correlation, outwards from the lowest tilt, then jointly.

Each view is correlated with views that are aligned already, stretched to its tilt. The first pass
weights by a model of the coherence, chosen by what it finds; from then on the coherence is
measured on the pairs that are aligned. Refining passes correlate each view with its neighbours in
tilt on both sides. Because the errors of such a chain add up, all pairs of views that overlap are
then solved together (:mod:`tomodask.kernels.shift_network`).

What is measured is where the specimen's origin lies. With A_j the 2 x 2 map from the plane of the
tilt axis to view j, s_i the origin in the reference i, and c_j the one assumed in view j,
``I_i(A_i A_j^-1 (p - c_j) + s_i)`` shows the plane as view j does, but for a displacement d; the
origin in view j then is ``c_j + d``, exactly, about whatever point the stretch is made. The origin
itself is free: it is put at the image centre of the first view.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomodask.kernels.correlate import (
    coherence_weight,
    find_peak,
    overlap_correlation,
    stretch_matrix,
)
from tomodask.kernels.shift_network import ShiftNetwork, overlapping_pairs, window

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from tomodask.kernels.correlate import Peak, Plane
    from tomodask.kernels.resample import SplineImage

    FloatArray = NDArray[np.float64]

__all__ = ["CoarseShifts"]

#: Gaussian widths of the coherence that the first pass chooses from, cycles per pixel.
_CUTOFFS = (0.015, 0.03, 0.06, 0.12)
#: Views, from the lowest, on which that choice is made, and where the coherence is first measured.
_CORE = 9
#: What varies over more than this part of the longer edge is illumination, not specimen.
_HIGH_PASS = 1 / 3
#: Scale of the drift between neighbours, and its limit, as fractions of the edges.
_DRIFT, _LIMIT = 0.04, 0.4
#: Evidence above which a displacement counts as found: noise alone reaches it in less than one
#: view of a hundred.
_FOUND = 8.0
#: Refining passes at most, and the change, pixels, below which no further one is made.
_PASSES, _CONVERGED = 2, 0.1
#: Views that each is judged by in the end.
_NEAREST = 8
#: How far each round of the joint solution looks, as a fraction of the longer edge, and the
#: change, pixels, below which no further one is made.
_REACHES, _SETTLED = (0.25, 0.06), 1.0


class CoarseShifts:
    """The state of the alignment of a tilt series.

    Parameters
    ----------
    plane
        Where the views are correlated.
    prepared
        The included views, from :meth:`Plane.view`.
    angles
        (tilt,) degrees.
    views
        The included views, from the lowest tilt outwards.
    tilt_axis_angle
        Degrees.
    thickness
        Of the specimen, A.

    Attributes
    ----------
    shift
        (tilt, 2) raw (x, y) of the specimen's origin, A.
    error
        (tilt, 2) standard error of the shift relative to the references, A; NaN where not found.
    found
        (tilt,) bool.
    evidence
        (tilt,) log-likelihood ratio of each view's displacement.
    coherence
        (ring,) coherence of neighbouring views but for the depth.
    """

    def __init__(
        self,
        plane: Plane,
        prepared: Mapping[int, SplineImage],
        angles: FloatArray,
        views: Sequence[int],
        tilt_axis_angle: float,
        thickness: float,
    ) -> None:
        self.plane, self.prepared, self.angles = plane, prepared, angles
        self.axis, self.thickness = tilt_axis_angle, thickness
        self.views = list(views)
        self.shift = np.zeros((len(angles), 2))
        self.error = np.full((len(angles), 2), np.nan)
        self.found = np.zeros(len(angles), bool)
        self.evidence = np.zeros(len(angles))
        cycles = plane.ring_frequency * max(plane.padded) * _HIGH_PASS
        self._high_pass = 1 - np.exp(-0.5 * cycles**2)
        self.coherence = self._high_pass
        here = (np.eye(2), np.zeros(2))
        self.spectra = {v: plane.whitened(plane.image(prepared[v], *here)) for v in self.views}

    def align(self, references: int, *, passes: int = _PASSES) -> None:
        """Find the shifts, with up to so many aligned views as the reference of each."""
        self._choose_model()
        self._align_outwards(references)
        for _ in range(passes):
            self._measure_coherence()
            if self._refine(references) < _CONVERGED:
                break

    def solve_jointly(self) -> None:
        """Solve the shifts from all pairs of views that overlap, then judge every view by them."""
        self._measure_coherence()
        for reach in _REACHES:
            change = self._solve_network(int(reach * max(self.plane.shape)))
            self._find_lost()
            if change < _SETTLED:
                break
        self._judge()

    def interpolated(self) -> FloatArray:
        """Return the (tilt, 2) shifts, those not found interpolated between neighbours in tilt."""
        good = np.flatnonzero(self.found)
        good = good[np.argsort(self.angles[good], kind="stable")]
        shift = self.shift.copy()
        for axis in (0, 1):
            between = np.interp(self.angles, self.angles[good], self.shift[good, axis])
            shift[~self.found, axis] = between[~self.found]
        return shift

    def scores(self) -> FloatArray:
        """Return each view's (tilt,) correlation coefficient with aligned views.

        It is the better one of the two views nearest in tilt, so that one bad view does not
        spoil its neighbours' scores; 0 where no other view is aligned.
        """
        kept, self.shift = self.shift, self.interpolated()
        rows, columns = self.plane.shape
        coherence = self.coherence.astype(np.float32)[self.plane.ring]
        scores = np.full(len(self.angles), np.nan)
        for view in self.views:
            each = []
            for other in self._nearest(view, np.flatnonzero(self.found), 2):
                mapped = self.mapped(other, view)
                amplitude = np.sqrt(coherence * np.maximum(self.depth(other, view), 0))
                own, reference = (
                    self.plane.correlation(spectrum * amplitude)[:rows, :columns]
                    for spectrum in (self.spectra[view], self.plane.whitened(mapped))
                )
                each.append(overlap_correlation(own, np.where(mapped == 0, 0, reference)))
            scores[view] = max(each, default=0.0)
        self.shift = kept
        return scores

    def _choose_model(self) -> None:
        """Choose the model of the coherence, and the first view, by the lowest views' pairs."""
        core = self.views[:_CORE]
        frequency = self.plane.ring_frequency
        best = -np.inf
        for cutoff in _CUTOFFS:
            model = self._high_pass * 0.5 * np.exp(-0.5 * (frequency / cutoff) ** 2)
            evidence = {
                view: self._measure(view, self._nearest(view, core[:rank], 1), model).evidence
                for rank, view in enumerate(core)
                if rank
            }
            if sum(evidence.values()) > best:
                best, self.coherence = sum(evidence.values()), model
        for rank, view in enumerate(core[:-1]):
            followers = core[rank + 1 : rank + 4]
            if any(self._measure(f, [view], self.coherence).evidence > _FOUND for f in followers):
                self.views.remove(view)
                self.views.insert(0, view)
                return

    def _align_outwards(self, references: int) -> None:
        aligned = [self.views[0]]
        self._accept(self.views[0], None)
        next_update = _CORE
        for view in self.views[1:]:
            others = self._nearest(view, aligned, references)
            self.shift[view] = self.shift[others[0]]
            self._accept(view, self._measure(view, others, self.coherence))
            if self.found[view]:
                aligned.append(view)
                if len(aligned) == next_update:
                    self._measure_coherence()
                    next_update *= 2

    def _refine(self, references: int) -> float:
        """Correlate each view with its neighbours; return the largest change, pixels."""
        change = 0.0
        for rank, view in enumerate(self.views[1:], 1):
            among = self.views if references > 1 else self.views[:rank]
            others = self._nearest(view, (v for v in among if self.found[v]), references)
            if not self.found[view]:
                self.shift[view] = self.shift[others[0]]
            peak = self._measure(view, others, self.coherence)
            self._accept(view, peak)
            if self.found[view]:
                change = max(change, *np.abs(peak.displacement))
        return change

    def _solve_network(self, reach: int) -> float:
        """Move the found views by what fits their pairs best; return the largest change, pixels."""
        plane = self.plane
        coherence = self.coherence.astype(np.float32)[plane.ring]
        samples = np.float32(plane.padded[0] * plane.padded[1])

        found = [view for view in self.views if self.found[view]]
        if len(found) < 3:
            return 0.0

        def likelihood(first: int, second: int) -> NDArray[np.float32]:
            low, high = found[first], found[second]
            weight = coherence_weight(coherence * self.depth(low, high))
            product = self.spectra[high] * plane.whitened(self.mapped(low, high)).conj() * weight
            return window(plane.correlation(product), self.axis, reach) * samples

        angles = self.angles[found]
        network = ShiftNetwork.create(angles, overlapping_pairs(angles), likelihood)
        move = network.solve()
        move -= move[0]  # of u / cos t: that moves the specimen and nothing else
        move[:, 0] *= np.cos(np.deg2rad(angles))
        angle = np.deg2rad(self.axis)
        frame = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        move = move @ frame * plane.pixel_size
        self.shift[found] += move
        return float(np.abs(move).max() / plane.pixel_size)

    def _find_lost(self) -> None:
        """Look again for views that were not found, from where their neighbours now are."""
        lost = [view for view in self.views if not self.found[view]]
        if lost:
            self.shift = self.interpolated()
        for view in lost:
            others = self._nearest(view, np.flatnonzero(self.found), _NEAREST)
            self._accept(view, self._measure(view, others, self.coherence))

    def _judge(self) -> None:
        """Measure each view's evidence and error against its neighbours, moving none."""
        self._measure_coherence()
        before = self.found.copy()
        for view in self.views[1:]:
            others = self._nearest(view, np.flatnonzero(before), _NEAREST)
            peak = self._measure(view, others, self.coherence)
            self.evidence[view] = peak.evidence
            self.found[view] = before[view] and peak.evidence > _FOUND
            self.error[view] = np.array(peak.error) * self.plane.pixel_size
            if not self.found[view]:
                self.error[view] = np.nan

    def _accept(self, view: int, peak: Peak | None) -> None:
        """Move a view by a peak that is significant; None for the first view."""
        self.found[view] = peak is None or peak.evidence > _FOUND
        self.error[view] = 0 if peak is None else np.nan
        if peak is not None:
            self.evidence[view] = peak.evidence
            if self.found[view]:
                self.shift[view] += np.array(peak.displacement) * self.plane.pixel_size
                self.error[view] = np.array(peak.error) * self.plane.pixel_size

    def _nearest(self, view: int, among: Iterable[int], count: int) -> list[int]:
        """Return the views nearest in tilt, the lower tilt first where two are as near."""
        others = [int(other) for other in among if other != view]
        return sorted(
            others,
            key=lambda o: (abs(self.angles[o] - self.angles[view]), abs(self.angles[o]), o),
        )[:count]

    def evidence_of(self, axis: float, references: int) -> FloatArray:
        """Return each view's (tilt,) evidence were the tilt axis at `axis`; nothing is moved."""
        kept, self.axis = self.axis, axis
        evidence = np.zeros(len(self.angles))
        for view in map(int, np.flatnonzero(self.found)):
            others = self._nearest(view, np.flatnonzero(self.found), references)
            evidence[view] = self._measure(view, others, self.coherence).evidence
        self.axis = kept
        return evidence

    def mapped(self, view: int, onto: int, axis: float | None = None) -> NDArray[np.float32]:
        """Return a view as it looks in the plane of another, by `axis` if given."""
        axis = self.axis if axis is None else axis
        matrix = stretch_matrix(axis, self.angles[view], self.angles[onto])
        shift = self.shift[view] - matrix @ self.shift[onto]
        return self.plane.image(self.prepared[view], matrix, shift)

    def depth(self, view: int, onto: int, axis: float | None = None) -> NDArray[np.float32]:
        """Return the coherence that the specimen's thickness leaves between two views."""
        return self.plane.depth_coherence(
            self.axis if axis is None else axis,
            self.angles[view],
            self.angles[onto],
            self.thickness,
        )

    def _measure(self, view: int, others: Iterable[int], coherence: FloatArray) -> Peak:
        """Return the displacement of a view against others, all where they are assumed to be."""
        expected = coherence.astype(np.float32)[self.plane.ring]
        reference = np.zeros(expected.shape, np.complex64)
        for other in others:
            weight = coherence_weight(expected * self.depth(other, view))
            reference += self.plane.whitened(self.mapped(other, view)) * weight
        height, width = self.plane.shape
        return find_peak(
            self.plane.correlation(self.spectra[view] * reference.conj()),
            drift=_DRIFT * max(height, width),
            limit=(_LIMIT * width, _LIMIT * height),
        )

    def _measure_coherence(self) -> None:
        """Measure the coherence of the aligned views with their neighbours of lower tilt.

        Least squares on every ring against what the depth leaves, averaged over five rings; rings
        within two standard errors of none count as none.
        """
        common = np.zeros(len(self._high_pass))
        power = np.zeros_like(common)
        aligned = [view for view in self.views if self.found[view]]
        for rank, view in enumerate(aligned[1:], 1):
            other = self._nearest(view, aligned[:rank], 1)[0]
            depth = self.depth(other, view)
            spectrum = self.plane.whitened(self.mapped(other, view))
            product = (self.spectra[view] * spectrum.conj()).real
            common += self.plane.ring_sums(product * depth)
            power += self.plane.ring_sums(depth**2)
        rings = np.ones(5)
        power = np.maximum(np.convolve(power, rings, "same"), 1)
        coherence = np.convolve(common, rings, "same") / power
        significant = coherence > 2 / np.sqrt(2 * power)
        if significant.any():
            self.coherence = np.where(significant, coherence, 0) * self._high_pass

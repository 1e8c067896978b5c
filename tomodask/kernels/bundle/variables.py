"""What a bundle adjustment may vary in the geometry of the views, and how freely.

Everything but the shifts, which are always free, and the points. A *mapping* writes the values of
one parameter in all views as its starting values plus ``basis @ unknowns``; some unknowns are held
near zero by a Gaussian prior whose width is estimated from the data.

A parameter that is the same for all views is, except for the rotation, a mere change of the
specimen: a common magnification its size, a common tilt or x-tilt its attitude, a common
stretch, skew or compression its shape. One view or group of each is therefore the reference that
keeps its starting value: that of lowest tilt, or for the compression, which does nothing there,
that of highest tilt, unless a mapping says otherwise. A free stretch is refused all the same: one
that goes as the tangent of the tilt is a shear of the specimen. With a prior there is no
reference; the mean deviation is then zero by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal, Self

import numpy as np

from tomodask.errors import DataError, ParameterError
from tomodask.kernels.bundle.groups import POWERS, group_nodes, group_starts, interpolated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    BoolArray = NDArray[np.bool_]
    IntArray = NDArray[np.int64]

__all__ = ["PARAMETERS", "Component", "Freedom", "Mapping", "Variables"]

Kind = Literal["fixed", "single", "grouped", "free", "estimated"]

#: Names of the parameters of a view, in the order of the columns of arrays of their values.
PARAMETERS = (
    "rotation",
    "tilt",
    "magnification",
    "compression",
    "stretch",
    "skew",
    "x_tilt",
)


#: Parameters that views of a group share; of the others, values are interpolated between groups.
_IN_BLOCKS = ("magnification", "compression", "stretch")


@dataclass(frozen=True, slots=True)
class Freedom:
    """How free a parameter is.

    Parameters
    ----------
    kind
        ``"fixed"``: as given. ``"single"``: one value for all views (the rotation only).
        ``"grouped"``: as IMOD's tiltalign maps `size` views, fewer at high tilt: magnification,
        compression and stretch are the same in a group, the others linear from group to group.
        ``"free"``: one value per view. ``"estimated"``: one value per view, the sum of a smooth
        function of the tilt and independent deviations, each with a Gaussian prior whose width
        is estimated from the data.
    size
        Views per group, for ``"grouped"``.
    """

    kind: Kind
    size: int = 0

    def __post_init__(self) -> None:
        if self.kind == "grouped" and self.size < 2:
            raise ParameterError(
                f"groups of {self.size} views: give a size of at least 2, or the kind 'free'"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Mapping:
    """An explicit mapping of the views' values on unknowns.

    Parameters
    ----------
    basis
        (view, unknown): the deviations from the starting values are ``basis @ unknowns``.
    """

    basis: FloatArray

    @classmethod
    def blocks(cls, labels: Sequence[int]) -> Self:
        """Return the mapping where views of one label share a value; label -1 is fixed."""
        label = np.asarray(labels, np.int64)
        return cls((label[:, None] == np.unique(label[label >= 0])).astype(np.float64))

    @classmethod
    def linear(cls, nodes: Sequence[int], views: int, reference: int | None = None) -> Self:
        """Return the mapping that is linear in the view's index between nodes.

        Parameters
        ----------
        nodes
            Views that have values of their own, increasing; beyond the outermost the value stays.
        views
            Number of views.
        reference
            Node that keeps its starting value.
        """
        basis = interpolated(np.asarray(nodes, np.float64), np.arange(views, dtype=np.float64))
        return cls(basis[:, [node != reference for node in nodes]])

    @classmethod
    def grouped(
        cls,
        parameter: str,
        size: int,
        tilt_angle: FloatArray,
        *,
        views: IntArray,
        reference: int | None,
        blocks: bool,
    ) -> Self:
        """Return the mapping on groups of views that follow each other, as tiltalign forms them.

        The kind "grouped" of :class:`Freedom` goes by rising tilt instead, whatever the order of
        the views, and so its groups end elsewhere where the tilt falls.

        Parameters
        ----------
        parameter
            Whose groups: how much smaller they are at high tilt differs.
        size
            Views per group.
        tilt_angle
            (view,) degrees.
        views
            Those that groups are formed of, increasing; the others lie between their neighbours.
        reference
            View whose group keeps its starting value.
        blocks
            Whether a group shares its value; otherwise it is linear from group to group.
        """
        place = np.arange(len(tilt_angle), dtype=np.float64)
        at = None if reference is None else int(np.argmin(np.abs(views - reference)))
        return cls(_on_groups(parameter, size, tilt_angle[views], place, views, at, blocks))


@dataclass(frozen=True, slots=True)
class Variables:
    """How free each parameter of the views is; the shifts are free in any case.

    Parameters
    ----------
    rotation
        Of the tilt axis in the image.
    tilt
        Tilt angles.
    magnification, compression
        Scale, and scale of z alone.
    stretch, skew
        Scale of x alone, and deviation from the right angle of x and y, in the specimen plane.
    x_tilt
        Tilt about the axis at right angles to the tilt axis.
    """

    rotation: Freedom | Mapping = Freedom("single")
    tilt: Freedom | Mapping = Freedom("fixed")
    magnification: Freedom | Mapping = Freedom("fixed")
    compression: Freedom | Mapping = Freedom("fixed")
    stretch: Freedom | Mapping = Freedom("fixed")
    skew: Freedom | Mapping = Freedom("fixed")
    x_tilt: Freedom | Mapping = Freedom("fixed")

    def components(self, tilt_angle: FloatArray, seen: BoolArray) -> tuple[Component, ...]:
        """Return the unknowns behind the parameters.

        Parameters
        ----------
        tilt_angle
            (view,) degrees.
        seen
            (view,) which can have values of their own; the others lie between their neighbours.
        """
        found = []
        for field in fields(self):
            freedom = getattr(self, field.name)
            if isinstance(freedom, Mapping):
                if len(freedom.basis) != len(tilt_angle):
                    raise ParameterError(
                        f"the mapping of {field.name} is of {len(freedom.basis)} views, the "
                        f"series has {len(tilt_angle)}"
                    )
                found.append(Component(field.name, freedom.basis))
            else:
                found += _components(field.name, freedom, tilt_angle, seen)
        return tuple(one for one in found if one.basis.shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class Component:
    """Unknowns that act on one parameter.

    Parameters
    ----------
    parameter
        Its name.
    basis
        (view, unknown).
    estimated
        Whether the unknowns have a common Gaussian prior, of a width to be estimated.
    """

    parameter: str
    basis: FloatArray
    estimated: bool = False


def _components(
    name: str, freedom: Freedom, tilt_angle: FloatArray, seen: BoolArray
) -> list[Component]:
    """Return the components of a parameter of some freedom."""
    constant = name == "rotation"
    order = np.argsort(tilt_angle, kind="stable")
    ranks = np.empty(len(order))
    ranks[order] = np.arange(len(order))
    used = order[seen[order]]
    if not len(used) and freedom.kind in ("grouped", "free", "estimated"):
        raise DataError(
            f"no view has landmarks enough for a {name} of its own; fix it, or track more"
        )
    match freedom.kind:
        case "fixed":
            return []
        case "single":
            if not constant:
                raise ParameterError(
                    f"one {name} for all views is a change of the specimen, which no "
                    "observation can tell; give 'fixed', 'grouped', 'free' or 'estimated'"
                )
            return [Component(name, np.ones((len(order), 1)))]
        case "grouped":
            tilts = tilt_angle[used]
            at = None if constant else _reference(name, tilts)
            blocks = name in _IN_BLOCKS
            basis = _on_groups(name, freedom.size, tilts, ranks, used, at, blocks)
            return [Component(name, basis)]
        case "free":
            basis = interpolated(ranks[used], ranks)
            if not constant:
                basis = np.delete(basis, _reference(name, tilt_angle[used]), axis=1)
            return [Component(name, basis)]
        case "estimated":
            own = interpolated(ranks[used], ranks)
            smooth = Component(name, _smooth_basis(tilt_angle), estimated=True)
            apart = Component(name, own, estimated=True)
            common = [Component(name, np.ones((len(order), 1)))] if constant else []
            return [*common, smooth, apart]


def _on_groups(
    name: str,
    size: int,
    tilt_angle: FloatArray,
    ranks: FloatArray,
    used: IntArray,
    reference: int | None,
    blocks: bool,
) -> FloatArray:
    """Return the (view, unknown) basis of groups.

    Parameters
    ----------
    name, size
        Of the parameter, and of its groups.
    tilt_angle
        (used,) in order, degrees.
    ranks
        (view,) place of each view in the order that groups follow.
    used
        (used,) the views that form groups, in that order.
    reference
        Place among these of the view whose group is left out.
    blocks
        Whether the values are the same in a group.
    """
    starts = group_starts(tilt_angle, size, POWERS[name])
    if blocks:
        group = np.searchsorted(ranks[used][starts], ranks, "right") - 1
        basis = (np.maximum(group, 0)[:, None] == np.arange(len(starts))).astype(np.float64)
        fixed = None if reference is None else int(np.searchsorted(starts, reference, "right")) - 1
    else:
        nodes = group_nodes(tilt_angle, size, POWERS[name])
        basis = interpolated(ranks[used][nodes], ranks)
        fixed = None if reference is None else int(np.argmin(np.abs(nodes - reference)))
    return basis if fixed is None else np.delete(basis, fixed, axis=1)


def _reference(name: str, tilt_angle: FloatArray) -> int:
    """Return the view that keeps the starting value of a parameter."""
    height = np.abs(tilt_angle)
    # Compression does nothing at tilt zero.
    return int(np.argmax(height) if name == "compression" else np.argmin(height))


def _smooth_basis(tilt_angle: FloatArray, length: float = 25.0) -> FloatArray:
    """Return functions of the tilt that, with independent unit amplitudes, are smooth.

    They are the eigenvectors of a squared-exponential covariance of mean variance one.
    """
    squared = (tilt_angle[:, None] - tilt_angle) ** 2
    values, vectors = np.linalg.eigh(np.exp(-squared / (2 * length**2)))
    large = values > 1e-3 * values[-1]
    basis: FloatArray = vectors[:, large] * np.sqrt(values[large])
    return basis

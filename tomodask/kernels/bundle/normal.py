"""The normal equations of a bundle adjustment, with the points eliminated.

Observations are laid out as a dense (view, landmark) table with weight zero where there is none,
so that everything is a product of matrices. The unknowns of the views, those of the mappings and
then the shifts, couple with each point by a block of three columns; eliminating the points leaves
a system of the views alone (the Schur complement). Shifting all points shifts all views: this
null space of three dimensions is closed by adding its projector.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg

from tomodask.kernels.bundle.cameras import camera_derivatives, camera_matrices
from tomodask.kernels.bundle.variables import PARAMETERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tomodask.kernels.bundle.table import Table
    from tomodask.kernels.bundle.variables import Component

    FloatArray = NDArray[np.float64]

__all__ = ["Normal", "Problem", "State"]

#: Relative size of what keeps blocks of points that are all but undetermined regular.
_RIDGE = 1e-13


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """Values of all unknowns.

    Parameters
    ----------
    unknowns
        (unknown,) behind the parameters of the views.
    shift
        (view, 2).
    points
        (landmark, 3).
    """

    unknowns: FloatArray
    shift: FloatArray
    points: FloatArray


class Problem:
    """Observations, starting values and mappings.

    Parameters
    ----------
    table
        The observations.
    start
        (view, 7) starting values of all views, in the order of `PARAMETERS`, radians.
    components
        Unknowns behind the parameters of all views.
    """

    def __init__(self, table: Table, start: FloatArray, components: Sequence[Component]) -> None:
        self.table = table
        self.position = table.position
        self.start = start
        self.components = tuple(components)
        self.parameters = tuple(
            name for name in PARAMETERS if any(c.parameter == name for c in components)
        )
        self.columns: list[slice] = []
        end = 0
        for one in components:
            self.columns.append(slice(end, end + one.basis.shape[1]))
            end = self.columns[-1].stop
        #: (view, active parameter, unknown): what each unknown does.
        self.effect = np.zeros((len(table.views), len(self.parameters), end))
        for one, columns in zip(components, self.columns, strict=True):
            place = self.parameters.index(one.parameter)
            self.effect[:, place, columns] += one.basis[table.views]

    @property
    def unknowns(self) -> int:
        """The number of unknowns behind the parameters."""
        return self.effect.shape[2]

    def values(self, unknowns: FloatArray) -> FloatArray:
        """Return the (view, 7) values of the parameters of the table's views."""
        found = self.start[self.table.views]
        active = [PARAMETERS.index(name) for name in self.parameters]
        found[:, active] += self.effect @ unknowns
        return found

    def values_everywhere(self, unknowns: FloatArray) -> FloatArray:
        """Return the (view, 7) values of the parameters of all views."""
        found = self.start.copy()
        for one, columns in zip(self.components, self.columns, strict=True):
            found[:, PARAMETERS.index(one.parameter)] += one.basis @ unknowns[columns]
        return found

    def reduced(self, kept: Sequence[bool], state: State) -> tuple[Problem, State]:
        """Return the problem of some of the components, and a state in its terms."""
        components = [one for one, keep in zip(self.components, kept, strict=True) if keep]
        parts = [columns for columns, keep in zip(self.columns, kept, strict=True) if keep]
        unknowns = np.concatenate([np.zeros(0), *(state.unknowns[part] for part in parts)])
        problem = Problem(self.table, self.start, components)
        return problem, replace(state, unknowns=unknowns)

    def residual(self, state: State) -> FloatArray:
        """Return the (view, landmark, 2) predictions less the measurements."""
        matrix = camera_matrices(self.values(state.unknowns))
        found: FloatArray = np.matmul(state.points, matrix.transpose(0, 2, 1))
        found += state.shift[:, None]
        found -= self.position
        return found

    def with_points(self, unknowns: FloatArray, shift: FloatArray, weight: FloatArray) -> State:
        """Return the state whose points are the best for what is known of the views."""
        matrix = camera_matrices(self.values(unknowns))
        blocks = _point_blocks(matrix, weight)
        target = (self.position - shift[:, None]) * weight[:, :, None]
        pull = np.einsum("vij,vli->lj", matrix, target, optimize=True)
        return State(unknowns, shift, np.linalg.solve(blocks, pull[:, :, None])[:, :, 0])

    def normal(self, state: State, weight: FloatArray) -> Normal:
        """Return the normal equations at a state.

        Parameters
        ----------
        state
            Where.
        weight
            (view, landmark), zero where there is no observation.
        """
        matrix, slopes = camera_derivatives(self.values(state.unknowns), self.parameters)
        views, landmarks, _ = self.position.shape
        count = len(self.parameters)
        residual = np.matmul(state.points, matrix.transpose(0, 2, 1))
        residual += state.shift[:, None] - self.position
        # (view, parameter and shift, landmark, image axis)
        jacobian = np.empty((views, count + 2, landmarks, 2))
        np.matmul(state.points, slopes.transpose(0, 1, 3, 2), out=jacobian[:, :count])
        jacobian[:, count:] = np.eye(2)[:, None, :]
        weighted = jacobian * weight[:, None, :, None]
        flat = weighted.reshape(views, count + 2, -1)
        direct = flat @ jacobian.reshape(views, count + 2, -1).transpose(0, 2, 1)
        pull = (flat @ residual.reshape(views, -1, 1))[:, :, 0]
        coupling = np.matmul(weighted, matrix[:, None])  # (view, parameter, landmark, 3)
        blocks = _point_blocks(matrix, weight)
        point_pull = np.einsum("vij,vli->lj", matrix, residual * weight[:, :, None], optimize=True)
        return Normal(
            matrix=matrix,
            jacobian=jacobian,
            residual=residual,
            direct=self._reduced_square(direct),
            pull=self._reduced_rows(pull[:, :, None])[:, 0],
            coupling=self._reduced_rows(coupling.reshape(views, count + 2, -1)),
            blocks=blocks,
            point_pull=point_pull,
        )

    def _reduced_rows(self, rows: FloatArray) -> FloatArray:
        """Return (unknown and shift, column) of (view, parameter and shift, column)."""
        count = len(self.parameters)
        columns = rows.shape[2]
        effect = self.effect.reshape(len(rows) * count, self.unknowns)
        mapped = effect.T @ rows[:, :count].reshape(len(rows) * count, columns)
        found: FloatArray = np.concatenate([mapped, rows[:, count:].reshape(-1, columns)])
        return found

    def _reduced_square(self, square: FloatArray) -> FloatArray:
        """Return (unknown and shift) squared of the (view, p, p) blocks."""
        count, first = len(self.parameters), self.unknowns
        views = len(square)
        found = np.zeros((first + 2 * views, first + 2 * views))
        half = square[:, :count, :count] @ self.effect
        effect = self.effect.reshape(views * count, first)
        found[:first, :first] = effect.T @ half.reshape(views * count, first)
        mixed = np.matmul(self.effect.transpose(0, 2, 1), square[:, :count, count:])
        mixed = mixed.transpose(1, 0, 2).reshape(first, 2 * views)
        found[:first, first:] = mixed
        found[first:, :first] = mixed.T
        for axis in range(2):
            for other in range(2):
                rows = first + np.arange(views) * 2
                found[rows + axis, rows + other] = square[:, count + axis, count + other]
        return found


def _point_blocks(matrix: FloatArray, weight: FloatArray) -> FloatArray:
    """Return the (landmark, 3, 3) normal matrices of the points, kept regular."""
    square = np.matmul(matrix.transpose(0, 2, 1), matrix).reshape(-1, 9)
    blocks: FloatArray = (weight.T @ square).reshape(-1, 3, 3)
    largest = float(np.trace(blocks, axis1=1, axis2=2).max())
    blocks += _RIDGE * largest * np.eye(3)
    return blocks


@dataclass(frozen=True, slots=True, eq=False)
class Normal:
    """Normal equations; `unknowns` are here those of the mappings and then the shifts.

    Parameters
    ----------
    matrix
        (view, 2, 3) cameras.
    jacobian
        (view, parameter and shift, landmark, 2) derivatives of the predictions.
    residual
        (view, landmark, 2).
    direct
        (unknown, unknown).
    pull
        (unknown,) gradient.
    coupling
        (unknown, 3 landmark) with the points.
    blocks
        (landmark, 3, 3) of the points.
    point_pull
        (landmark, 3) gradient of the points.
    """

    matrix: FloatArray
    jacobian: FloatArray
    residual: FloatArray
    direct: FloatArray
    pull: FloatArray
    coupling: FloatArray
    blocks: FloatArray
    point_pull: FloatArray

    def reduced(self, penalty: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the (unknown, unknown) matrix and the gradient with the points eliminated.

        Parameters
        ----------
        penalty
            (unknown of mappings,) curvature of the priors.
        """
        through = self.carried()
        system = self.direct - through @ self.coupling.T
        gradient = self.pull - through @ self.point_pull.reshape(-1)
        count = len(penalty)
        system[np.arange(count), np.arange(count)] += penalty
        null = self.null_space(count)
        strength = np.trace(system[count:, count:]) / len(null)
        system += strength * null @ null.T
        return system, gradient

    def carried(self) -> FloatArray:
        """Return the coupling times the inverse of the points' blocks, (unknown, 3 landmark)."""
        inverse = np.linalg.inv(self.blocks)
        split = self.coupling.reshape(len(self.coupling), -1, 3)
        found: FloatArray = np.einsum("ulj,ljk->ulk", split, inverse, optimize=True)
        return found.reshape(len(self.coupling), -1)

    def null_space(self, count: int) -> FloatArray:
        """Return the (unknown, 3) orthonormal directions that only move the specimen's origin."""
        null = np.zeros((len(self.direct), 3))
        null[count:] = self.matrix.reshape(-1, 3)
        basis: FloatArray = scipy.linalg.qr(null, mode="economic")[0]
        return basis

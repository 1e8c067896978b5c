"""Vector instructions for the innermost loops, as numba intrinsics that emit LLVM vectors.

LLVM's own vectoriser does not find these forms: accumulators that stay in registers over all
views or all taps of a filter, a transpose in registers, and the 16-point sum of a spline. LLVM
splits the vectors on machines with narrower registers. Reading ahead is asked for here, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "WIDTH",
    "accumulate_16",
    "accumulate_64",
    "make_filter",
    "prefetch",
    "spline_sum",
    "transpose_16",
]

#: Lanes of one vector: a full AVX-512 register of float32.
WIDTH = 16

_I32, _I64, _F32 = ir.IntType(32), ir.IntType(64), ir.FloatType()


class _Emitter:
    """Loads, stores and arithmetic on vectors of `width` float32."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any, width: int) -> None:
        self.context, self.builder, self.signature, self.args = context, builder, signature, args
        self.width = width
        self.vector = ir.VectorType(_F32, width)
        self.fma = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(self.vector, [self.vector] * 3),
            f"llvm.fmuladd.v{width}f32",
        )

    def data(self, index: int) -> Any:
        """Return the data pointer of the array argument `index`."""
        make = cgutils.create_struct_proxy(self.signature.args[index])
        return make(self.context, self.builder, self.args[index]).data

    def _address(self, pointer: Any, index: Any) -> Any:
        element = self.builder.gep(pointer, [index])
        return self.builder.bitcast(element, self.vector.as_pointer())

    def load(self, pointer: Any, index: Any) -> Any:
        return self.builder.load(self._address(pointer, index), align=4)

    def store(self, value: Any, pointer: Any, index: Any) -> None:
        self.builder.store(value, self._address(pointer, index), align=4)

    def scalar(self, pointer: Any, index: Any) -> Any:
        return self.builder.load(self.builder.gep(pointer, [index]))

    def splat(self, value: Any) -> Any:
        empty = ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(empty, value, ir.Constant(_I32, 0))
        return self.shuffle(first, empty, [0] * self.width)

    def shuffle(self, first: Any, second: Any, order: Sequence[int]) -> Any:
        mask = ir.Constant(ir.VectorType(_I32, len(order)), list(order))
        return self.builder.shuffle_vector(first, second, mask)

    def multiply_add(self, left: Any, right: Any, addend: Any) -> Any:
        return self.builder.call(self.fma, [left, right, addend])


def _make_accumulate(vectors: int) -> Any:
    """Return an intrinsic that interpolates and sums `vectors` x 16 lanes over all views.

    ``accumulate(source, index, fraction, first, step, count, stride, out, at)`` writes
    ``out[at:at + lanes] = sum_k (1 - f_k) source[row i_k] + f_k source[row i_k + 1]`` for the
    `count` pairs (i, f) at first, first + step, ...; rows are `stride` elements apart.

    The two products go to separate accumulators: one chain of dependent additions would be bound
    by the latency of the multiply-add, not by its throughput.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def accumulate(
        typingctx: Any,
        source: Any,
        index: Any,
        fraction: Any,
        first: Any,
        step: Any,
        count: Any,
        stride: Any,
        out: Any,
        at: Any,
    ) -> Any:
        integer = types.intp
        signature = types.void(
            source, index, fraction, integer, integer, integer, integer, out, integer
        )

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            emit = _Emitter(context, builder, signature, args, WIDTH)
            source, index, fraction, out = (emit.data(i) for i in (0, 1, 2, 7))
            first, step, count, stride, at = args[3], args[4], args[5], args[6], args[8]
            entry = builder.block
            loop = builder.append_basic_block("view")
            done = builder.append_basic_block("done")
            builder.branch(loop)

            builder.position_at_end(loop)
            k = builder.phi(_I64)
            k.add_incoming(ir.Constant(_I64, 0), entry)
            entry_index = builder.phi(_I64)
            entry_index.add_incoming(first, entry)
            sums = [builder.phi(emit.vector) for _ in range(2 * vectors)]
            for value in sums:
                value.add_incoming(ir.Constant(emit.vector, [0.0] * WIDTH), entry)
            near = builder.mul(builder.sext(emit.scalar(index, entry_index), _I64), stride)
            far = builder.add(near, stride)
            weight = emit.scalar(fraction, entry_index)
            far_weight = emit.splat(weight)
            near_weight = emit.splat(builder.fsub(ir.Constant(_F32, 1.0), weight))
            updated = []
            for row, row_weight, group in ((near, near_weight, 0), (far, far_weight, vectors)):
                for j in range(vectors):
                    lane = builder.add(row, ir.Constant(_I64, j * WIDTH))
                    value = emit.load(source, lane)
                    updated.append(emit.multiply_add(row_weight, value, sums[group + j]))
            following = builder.add(k, ir.Constant(_I64, 1))
            k.add_incoming(following, loop)
            entry_index.add_incoming(builder.add(entry_index, step), loop)
            for old, new in zip(sums, updated, strict=True):
                old.add_incoming(new, loop)
            builder.cbranch(builder.icmp_signed("<", following, count), loop, done)

            builder.position_at_end(done)
            for j in range(vectors):
                total = builder.fadd(updated[j], updated[vectors + j])
                emit.store(total, out, builder.add(at, ir.Constant(_I64, j * WIDTH)))
            return context.get_dummy_value()

        return signature, codegen

    return accumulate


accumulate_64 = _make_accumulate(4)
accumulate_16 = _make_accumulate(1)


def make_filter(taps: int, rows: int, vectors: int, *, add: bool = False) -> Any:
    """Return an intrinsic that filters `rows` x `vectors` x 16 values with `taps` weights.

    ``filter(source, at, step, weights, weights_at, out, out_at, out_step)`` writes, for each row r,
    ``out[out_at + r out_step + lane] = sum_k weights[weights_at + k] source[at + (r + k) step +
    lane]``: along y where `step` is the length of a row; along x, one row, where it is 1. What
    several rows have in common is loaded once: loads, not the multiply-adds, are what limits.
    With `add` the sum is added to what `out` holds.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def apply_filter(
        typingctx: Any,
        source: Any,
        at: Any,
        step: Any,
        weights: Any,
        weights_at: Any,
        out: Any,
        out_at: Any,
        out_step: Any,
    ) -> Any:
        integer = types.intp
        signature = types.void(source, integer, integer, weights, integer, out, integer, integer)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            emit = _Emitter(context, builder, signature, args, WIDTH)
            source, weights, out = (emit.data(i) for i in (0, 3, 5))
            lanes = [ir.Constant(_I64, j * WIDTH) for j in range(vectors)]
            zero = ir.Constant(emit.vector, [0.0] * WIDTH)
            sums = [[zero] * vectors for _ in range(rows)]
            weight = []
            at = args[1]
            for line in range(taps + rows - 1):
                if line < taps:
                    index = builder.add(args[4], ir.Constant(_I64, line))
                    weight.append(emit.splat(emit.scalar(weights, index)))
                values = [emit.load(source, builder.add(at, lane)) for lane in lanes]
                for r in range(max(0, line - taps + 1), min(rows, line + 1)):
                    sums[r] = [
                        emit.multiply_add(weight[line - r], value, total)
                        for value, total in zip(values, sums[r], strict=True)
                    ]
                at = builder.add(at, args[2])
            at = args[6]
            for row in sums:
                for lane, total in zip(lanes, row, strict=True):
                    to = builder.add(at, lane)
                    value = builder.fadd(emit.load(out, to), total) if add else total
                    emit.store(value, out, to)
                at = builder.add(at, args[7])
            return context.get_dummy_value()

        return signature, codegen

    return apply_filter


@intrinsic  # type: ignore[untyped-decorator]
def prefetch(typingctx: Any, source: Any, at: Any) -> Any:
    """Ask for the cache line of ``source[at]``, which is read soon; source is one-dimensional."""
    signature = types.void(source, types.intp)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        make = cgutils.create_struct_proxy(signature.args[0])
        data = make(context, builder, args[0]).data
        address = builder.bitcast(builder.gep(data, [args[1]]), ir.IntType(8).as_pointer())
        fetch = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [address.type, _I32, _I32, _I32]),
            "llvm.prefetch.p0i8",
        )
        # To read, data, needed again soon.
        builder.call(fetch, [address, *(ir.Constant(_I32, value) for value in (0, 3, 1))])
        return context.get_dummy_value()

    return signature, codegen


@intrinsic  # type: ignore[untyped-decorator]
def transpose_16(
    typingctx: Any, source: Any, at: Any, stride: Any, out: Any, out_at: Any, out_stride: Any
) -> Any:
    """Transpose 16 x 16 float32 in registers, from row stride `stride` to `out_stride`."""
    integer = types.intp
    signature = types.void(source, integer, integer, out, integer, integer)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        emit = _Emitter(context, builder, signature, args, WIDTH)
        source, out = emit.data(0), emit.data(3)

        def row(start: Any, step: Any, i: int) -> Any:
            return builder.add(start, builder.mul(step, ir.Constant(_I64, i)))

        rows = [emit.load(source, row(args[1], args[2], i)) for i in range(WIDTH)]
        # Each stage exchanges the off-diagonal blocks of size `half` of every 2 half x 2 half
        # block: four stages transpose the whole.
        half = WIDTH // 2
        while half:
            low = [WIDTH + i - half if i & half else i for i in range(WIDTH)]
            high = [WIDTH + i if i & half else i + half for i in range(WIDTH)]
            for i in range(WIDTH):
                if not i & half:
                    upper, lower = rows[i], rows[i + half]
                    rows[i] = emit.shuffle(upper, lower, low)
                    rows[i + half] = emit.shuffle(upper, lower, high)
            half //= 2
        for i, value in enumerate(rows):
            emit.store(value, out, row(args[4], args[5], i))
        return context.get_dummy_value()

    return signature, codegen


@intrinsic  # type: ignore[untyped-decorator]
def spline_sum(
    typingctx: Any, source: Any, at: Any, stride: Any, weights: Any, wx_at: Any, wy_at: Any
) -> Any:
    """Return ``sum_ij wy[i] wx[j] source[at + i stride + j]`` over 4 x 4 points.

    The four x weights lie at ``weights[wx_at:]``, the four y weights at ``weights[wy_at:]``.
    """
    integer = types.intp
    signature = types.float32(source, integer, integer, weights, integer, integer)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        emit = _Emitter(context, builder, signature, args, 4)
        source, weights = emit.data(0), emit.data(3)
        total = ir.Constant(emit.vector, [0.0] * 4)
        at = args[1]
        for i in range(4):
            weight = emit.scalar(weights, builder.add(args[5], ir.Constant(_I64, i)))
            total = emit.multiply_add(emit.splat(weight), emit.load(source, at), total)
            at = builder.add(at, args[2])
        total = builder.fmul(total, emit.load(weights, args[4]))
        total = builder.fadd(total, emit.shuffle(total, total, [2, 3, 0, 1]))
        total = builder.fadd(total, emit.shuffle(total, total, [1, 0, 3, 2]))
        return builder.extract_element(total, ir.Constant(_I32, 0))

    return signature, codegen

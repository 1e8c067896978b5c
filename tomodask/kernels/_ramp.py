"""A filter whose weights change from lane to lane, as a numba intrinsic."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from tomodask.kernels._vector import WIDTH
from tomodask.kernels._vector import _Emitter as Emitter

__all__ = ["WIDTH", "make_ramp_filter"]

_I64, _F32 = ir.IntType(64), ir.FloatType()


def make_ramp_filter(taps: int, rows: int, *, along_rows: bool) -> Any:
    """Return an intrinsic that filters `rows` x 16 values with weights that are linear in the lane.

    ``filter(source, at, tap_step, row_step, weights, weights_at, change, out, out_at, out_step)``
    writes, for each row r, ``out[out_at + r out_step + lane] = sum_k (w_k + change ramp d_k)
    source[at + r row_step + k tap_step + lane]``: ramp goes from -15/32 to 15/32 over the lanes,
    the w lie at ``weights[weights_at:]`` and the d behind them. With `along_rows` taps are rows
    (`tap_step` is ignored), and what several rows have in common is loaded once.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def ramp_filter(
        typingctx: Any,
        source: Any,
        at: Any,
        tap_step: Any,
        row_step: Any,
        weights: Any,
        weights_at: Any,
        change: Any,
        out: Any,
        out_at: Any,
        out_step: Any,
    ) -> Any:
        integer = types.intp
        signature = types.void(
            source, integer, integer, integer, weights, integer, types.float32, out, integer,
            integer,
        )  # fmt: skip

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            emit = Emitter(context, builder, signature, args, WIDTH)
            source, weights, out = (emit.data(i) for i in (0, 4, 7))
            zero = ir.Constant(emit.vector, [0.0] * WIDTH)
            means, changes = [zero] * rows, [zero] * rows

            def weight(k: int) -> Any:
                index = builder.add(args[5], ir.Constant(_I64, k))
                return emit.splat(emit.scalar(weights, index))

            if along_rows:
                pairs = [(weight(k), weight(taps + k)) for k in range(taps)]
                at = args[1]
                for line in range(taps + rows - 1):
                    value = emit.load(source, at)
                    for r in range(max(0, line - taps + 1), min(rows, line + 1)):
                        mean, slope = pairs[line - r]
                        means[r] = emit.multiply_add(mean, value, means[r])
                        changes[r] = emit.multiply_add(slope, value, changes[r])
                    at = builder.add(at, args[3])
            else:
                tap = args[1]
                for k in range(taps):
                    mean, slope = weight(k), weight(taps + k)
                    at = tap
                    for r in range(rows):
                        value = emit.load(source, at)
                        means[r] = emit.multiply_add(mean, value, means[r])
                        changes[r] = emit.multiply_add(slope, value, changes[r])
                        at = builder.add(at, args[3])
                    tap = builder.add(tap, args[2])
            places = [(2 * lane + 1 - WIDTH) / (2 * WIDTH) for lane in range(WIDTH)]
            ramp = builder.fmul(emit.splat(args[6]), ir.Constant(emit.vector, places))
            to = args[8]
            for r in range(rows):
                emit.store(emit.multiply_add(ramp, changes[r], means[r]), out, to)
                to = builder.add(to, args[9])
            return context.get_dummy_value()

        return signature, codegen

    return ramp_filter

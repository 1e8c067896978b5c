"""What one core can do at best: fused multiply-adds on registers alone.

OpenBLAS is no measure of it: on processors it does not know it falls back to narrower vectors.
"""

from __future__ import annotations

from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from benchmarks.measure import best_of

__all__ = ["multiply_adds"]

_WIDTH, _CHAINS = 16, 12


def multiply_adds(count: int = 20_000_000, repeats: int = 10) -> float:
    """Return giga multiply-adds of float32 per second of one core.

    Parameters
    ----------
    count
        Rounds of `_CHAINS` independent vectors.
    repeats
        The best of so many.
    """
    _spin(1)
    return best_of(repeats, lambda: _spin(count)).rate(count * _CHAINS * _WIDTH)


@intrinsic  # type: ignore[untyped-decorator]
def _chains(typingctx: Any, count: Any) -> Any:
    """Update `_CHAINS` vectors `count` times, ``a = a * a + a``, and return one value of them."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        number, vector = ir.IntType(64), ir.VectorType(ir.FloatType(), _WIDTH)
        fma = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{_WIDTH}f32"
        )
        entry, loop, done = (
            builder.block,
            builder.append_basic_block("loop"),
            builder.append_basic_block("done"),
        )
        builder.branch(loop)

        builder.position_at_end(loop)
        round_ = builder.phi(number)
        round_.add_incoming(ir.Constant(number, 0), entry)
        sums = [builder.phi(vector) for _ in range(_CHAINS)]
        for chain, value in enumerate(sums):
            value.add_incoming(ir.Constant(vector, [-0.01 * (chain + 1)] * _WIDTH), entry)
            value.add_incoming(builder.call(fma, [value, value, value]), loop)
        following = builder.add(round_, ir.Constant(number, 1))
        round_.add_incoming(following, loop)
        builder.cbranch(builder.icmp_signed("<", following, args[0]), loop, done)

        builder.position_at_end(done)
        total = sums[0]
        for value in sums[1:]:
            total = builder.fadd(total, value)
        return builder.extract_element(total, ir.Constant(ir.IntType(32), 0))

    return types.float32(types.int64), codegen


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def _spin(count: int) -> Any:
    return _chains(count)

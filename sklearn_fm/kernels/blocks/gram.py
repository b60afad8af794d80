"""Sums of products of feature rows, in tiles that stay in registers.

Where the rows come from, and what the sums are good for, is the business of others.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from ..compile import PART
from ..simd import fill, store

__all__ = ["BATCH", "add_rows", "clear"]

#: Feature rows that are summed in the precision of rows before the sum goes into float64.
BATCH = 64

_INT32, _INT64, _DOUBLE = ir.IntType(32), ir.IntType(64), ir.DoubleType()


@intrinsic
def _add_tile(typing_context: Any, layout: Any, X: Any, n: Any, P: Any, a: Any, c: Any) -> Any:
    """P[a + i, c + j] += sum over n rows x of x[a + i] x[c + j], for a tile of i and j.

    numba keeps no array in registers, hence LLVM's language: one register for each i.
    """
    L, number = layout.layout, layout.number
    of = ir.FloatType() if number.bitwidth == 32 else _DOUBLE
    bytes_, n_lanes = number.bitwidth // 8, L.panel
    vector = ir.VectorType(of, n_lanes)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _, X, n, P, a, c = args
        zeros = ir.Constant(ir.VectorType(_INT32, n_lanes), [0] * n_lanes)
        nothing = ir.Constant(vector, ir.Undefined)
        kind = ir.FunctionType(vector, [vector] * 3)
        name = f"llvm.fmuladd.v{n_lanes}f{number.bitwidth}"
        multiply_add = cgutils.get_or_insert_function(builder.module, kind, name)
        before = builder.block
        loop, after = builder.append_basic_block("rows"), builder.append_basic_block("after")
        builder.branch(loop)
        builder.position_at_end(loop)
        row = builder.phi(_INT64)
        row.add_incoming(ir.Constant(_INT64, 0), before)
        sums = [builder.phi(vector) for _ in range(L.tile)]
        at = builder.mul(row, ir.Constant(_INT64, L.row))
        x = builder.load(
            builder.bitcast(builder.gep(X, [builder.add(at, c)]), vector.as_pointer()),
            align=bytes_,
        )
        first = builder.gep(X, [builder.add(at, a)])
        results = []
        for i, sum_ in enumerate(sums):
            factor = builder.load(builder.gep(first, [ir.Constant(_INT64, i)]))
            one = builder.insert_element(nothing, factor, ir.Constant(_INT32, 0))
            all_ = builder.shuffle_vector(one, nothing, zeros)
            results.append(builder.call(multiply_add, [all_, x, sum_]))
            sum_.add_incoming(ir.Constant(vector, [0.0] * n_lanes), before)
            sum_.add_incoming(results[-1], loop)
        following = builder.add(row, ir.Constant(_INT64, 1))
        row.add_incoming(following, loop)
        builder.cbranch(builder.icmp_signed("<", following, n), loop, after)
        builder.position_at_end(after)
        wide = ir.VectorType(_DOUBLE, n_lanes)
        for i, result in enumerate(results):
            line = builder.add(builder.mul(a, ir.Constant(_INT64, L.width)), c)
            line = builder.add(line, ir.Constant(_INT64, i * L.width))
            place = builder.bitcast(builder.gep(P, [line]), wide.as_pointer())
            result = result if of is _DOUBLE else builder.fpext(result, wide)
            sum_ = builder.fadd(builder.load(place, align=8), result)
            builder.store(sum_, place, align=8)
        return context.get_dummy_value()

    return types.void(layout, X, types.intp, P, types.intp, types.intp), generate


@njit(**PART)
def add_rows(layout: Any, X: Any, n: int, P: Any) -> None:
    """Add to the statistics P, (tall, width), the products of n > 0 feature rows, n <= BATCH.

    Lower triangle in whole registers; what the weight's own place holds, row K and K + 1 of column
    K, is left to those who know these numbers anyway.
    """
    for c in range(0, layout.K, layout.panel):
        for a in range(c, layout.K + 2, layout.tile):
            _add_tile(layout, X, n, P, a, c)


@njit(**PART)
def clear(layout: Any, P: Any) -> None:
    """Set statistics to 0."""
    zero = fill(layout.wide, 0.0)
    for k in range(0, layout.tall * layout.width, layout.wide.lanes):
        store(P, k, zero)

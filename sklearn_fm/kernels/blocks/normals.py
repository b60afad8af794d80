"""Standard normal numbers, and such above limits, sixteen at a time.

They depend on a key and on their place, not on how the work is shared out. They are of float32, and
as good as that: for noise, not for tails beyond six deviations.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from ..compile import COMPILE, INLINE, PART
from ..simd import pointer

__all__ = ["CHUNK", "fill_above", "fill_normals"]

#: Numbers in a row that one stream of the generator gives.
CHUNK = 4096
_READY = 256  # numbers that are drawn ahead of rejections

_VECTOR, _INTS = ir.VectorType(ir.FloatType(), 16), ir.VectorType(ir.IntType(32), 16)
#: Logarithm of 1 + m, over m^3, on [-1/4, 1/2).
_LOG = (
    *(0.0703768358, -0.1151461, 0.116769987, -0.12420141, 0.142493233),
    *(-0.166680577, 0.200007148, -0.24999994, 0.333333313),
)
#: Inverse of erf over its argument, by w - 2.5 for w < 5 and by sqrt(w) - 3, w = -log(1 - x^2).
_NEAR = (
    *(2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087),
    *(-0.00125372503, -0.00417768164, 0.246640727, 1.50140941),
)
_FAR = (
    *(-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773),
    *(-0.0076224613, 0.00943887047, 1.00167406, 2.83297682),
)


@intrinsic
def _draw_sixteen(typing_context: Any, state: Any, out: Any, at: Any) -> Any:
    """Set ``out[at : at + 16]``: xoshiro128++ in each lane, and the inverse of the distribution.

    In LLVM's language, since numba has no vectors of integers.

    References
    ----------
    Blackman, Vigna (2021), Scrambled linear pseudorandom number generators, ACM TOMS 47(4). Giles
    (2011), Approximating the erfinv function, GPU Computing Gems 2.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        b, (state, out, at) = builder, args

        def ints(number: int) -> Any:
            return ir.Constant(_INTS, [number] * 16)

        def floats(number: float) -> Any:
            return ir.Constant(_VECTOR, [number] * 16)

        def call(name: str, *operands: Any) -> Any:
            kind = ir.FunctionType(_VECTOR, [_VECTOR] * len(operands))
            function = cgutils.get_or_insert_function(b.module, kind, f"llvm.{name}.v16f32")
            return b.call(function, operands)

        def polynomial(coefficients: tuple[float, ...], x: Any) -> Any:
            sum_ = floats(coefficients[0])
            for c in coefficients[1:]:
                sum_ = call("fmuladd", sum_, x, floats(c))
            return sum_

        def turn(x: Any, n: int) -> Any:
            return b.or_(b.shl(x, ints(n)), b.lshr(x, ints(32 - n)))

        start = b.bitcast(state, _INTS.as_pointer())
        places = [b.gep(start, [ir.Constant(ir.IntType(64), k)]) for k in range(4)]
        s = [b.load(place, align=4) for place in places]
        bits = b.add(turn(b.add(s[0], s[3]), 7), s[0])
        shifted = b.shl(s[1], ints(9))
        s[2], s[3] = b.xor(s[2], s[0]), b.xor(s[3], s[1])
        s[1], s[0] = b.xor(s[1], s[2]), b.xor(s[0], s[3])
        s[2], s[3] = b.xor(s[2], shifted), turn(s[3], 11)
        for place, part in zip(places, s, strict=True):
            b.store(part, place, align=4)
        # x is uniform on (0, 1), q = 1 - x; the sign is a bit of its own
        q = b.uitofp(b.or_(b.shl(bits, ints(1)), ints(1)), _VECTOR)
        q = b.fmul(q, floats(2.0**-32))
        x = b.fsub(floats(1.0), q)
        product = b.bitcast(b.fmul(q, b.fadd(floats(1.0), x)), _INTS)  # 1 - x^2
        exponent = b.ashr(b.sub(product, ints(0x3F400000)), ints(23))
        m = b.bitcast(b.sub(product, b.shl(exponent, ints(23))), _VECTOR)
        m = b.fsub(m, floats(1.0))
        square = b.fmul(m, m)
        log = call("fmuladd", floats(-0.5), square, m)
        log = call("fmuladd", b.fmul(polynomial(_LOG, m), square), m, log)
        log = call("fmuladd", b.sitofp(exponent, _VECTOR), floats(0.6931471806), log)
        w = b.fneg(log)
        near = polynomial(_NEAR, b.fsub(w, floats(2.5)))
        far = polynomial(_FAR, b.fsub(call("sqrt", w), floats(3.0)))
        found = b.select(b.fcmp_ordered("<", w, floats(5.0)), near, far)
        found = b.fmul(b.fmul(found, x), floats(2**0.5))
        sign = b.and_(bits, ints(-(2**31)))
        found = b.bitcast(b.xor(b.bitcast(found, _INTS), sign), _VECTOR)
        b.store(found, b.bitcast(b.gep(out, [at]), _VECTOR.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(state, out, types.intp), generate


@njit(**PART)
def _seed(key: int, stream: int, state: Any) -> None:
    """Start a stream of the generator, by SplitMix64."""
    mixed = np.uint64(key) + np.uint64(stream) * np.uint64(0xD1342543DE82EF95)
    for k in range(32):
        mixed += np.uint64(0x9E3779B97F4A7C15)
        z = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
        state[2 * k] = np.uint32(z & np.uint64(0xFFFFFFFF))
        state[2 * k + 1] = np.uint32(z >> np.uint64(32))


@njit(**COMPILE)
def fill_normals(key: int, first: int, last: int, out_: Any) -> None:
    """Draw standard normal numbers.

    Parameters
    ----------
    key : int
        Equal keys give equal numbers.
    first, last : int
        Which chunks to fill.
    out_ : ndarray of float32 of shape (n,)
        Receives them; n is a multiple of 16.
    """
    room = np.empty(64, dtype=np.uint32)
    state, out = pointer(room), pointer(out_)
    for chunk in range(first, last):
        _seed(key, chunk, state)
        for at in range(chunk * CHUNK, min((chunk + 1) * CHUNK, len(out_)), 16):
            _draw_sixteen(state, out, at)


@njit(**INLINE)
def _prepare(state: Any, ready: Any, at: int, n: int) -> int:
    """Position of n fresh numbers."""
    if at + n <= _READY:
        return at
    for k in range(0, _READY, 16):
        _draw_sixteen(state, ready, k)
    return 0


@njit(**COMPILE)
def fill_above(key: int, limits_: Any, out_: Any) -> None:
    """Draw a standard normal number above each limit, by rejection.

    NaN gives NaN.

    Parameters
    ----------
    key : int
        Equal keys give equal numbers.
    limits_ : ndarray of float64 of shape (n,)
        Limits.
    out_ : ndarray of float64 of shape (n,)
        Receives the numbers.

    References
    ----------
    Robert (1995), Simulation of truncated normal variables, Statistics and Computing 5.
    """
    room, waiting = np.empty(64, dtype=np.uint32), np.empty(_READY, dtype=np.float32)
    state, ready = pointer(room), pointer(waiting)
    limits, out = pointer(limits_), pointer(out_)
    for begin in range(0, len(limits_), CHUNK):
        _seed(key, begin // CHUNK, state)
        z = _READY
        for i in range(begin, min(begin + CHUNK, len(limits_))):
            low = limits[i]
            if low < 0.5:  # plain numbers
                while True:
                    z = _prepare(state, ready, z, 1)
                    x = np.float64(ready[z])
                    z += 1
                    if x > low:
                        break
            else:  # exponential ones, which are halves of sums of two squares
                rate = (low + np.sqrt(low * low + 4)) / 2
                while True:
                    z = _prepare(state, ready, z, 4)
                    a, b = np.float64(ready[z]), np.float64(ready[z + 1])
                    c, d = np.float64(ready[z + 2]), np.float64(ready[z + 3])
                    z += 4
                    x = low + (a * a + b * b) / (2 * rate)
                    if not c * c + d * d < (x - rate) * (x - rate):  # NaN ends it, too
                        break
            out[i] = x

"""From decimal to binary: ``whole * 10**exponent`` rounded once, as Python's float does.

The few numbers for which 128 bits do not tell the way to round are left to the caller. Nothing
here reads text.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from ..compile import INLINE

__all__ = ["to_float"]

_BITS, _WIDE, _DOUBLE = ir.IntType(64), ir.IntType(128), ir.DoubleType()
_MOST, _LEAST = 308, -342  # exponents of ten beyond which every double is infinite or zero
_ONE, _ALL_ONES = np.uint64(1), np.uint64(2**64 - 1)
_HIDDEN = np.uint64(2**52)  # the first bit of a mantissa, which is not stored

#: A whole number up to here, times or over a power of ten up to 22, is that of exact arithmetic
#: (Clinger, 1990, How to read floating point numbers accurately).
_EXACT = np.uint64(2**53)
_POWERS = np.array([float(f"1e{k}") for k in range(23)])


def _leading_bits(exponent: int) -> tuple[int, int]:
    """First 128 bits of a power of ten (as of five), truncated, or rounded up below one."""
    power = 5 ** abs(exponent)
    if exponent >= 0:
        shift = power.bit_length() - 128
        bits = power >> shift if shift > 0 else power << -shift
    else:
        bits = (1 << (power.bit_length() + 127)) // power + 1
        bits >>= bits.bit_length() - 128
    return bits >> 64, bits & (2**64 - 1)


_FIVES = np.array([_leading_bits(k) for k in range(_LEAST, _MOST + 1)], dtype=np.uint64)


@intrinsic
def _high_product(typing_context: Any, a: Any, b: Any) -> Any:
    """Upper 64 bits of the product of two whole numbers."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        product = builder.mul(*(builder.zext(arg, _WIDE) for arg in args))
        return builder.trunc(builder.lshr(product, ir.Constant(_WIDE, 64)), _BITS)

    return types.uint64(types.uint64, types.uint64), generate


@intrinsic
def _leading_zeros(typing_context: Any, number: Any) -> Any:
    """Number of zero bits before the first one."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctlz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), generate


@intrinsic
def _as_float(typing_context: Any, bits: Any) -> Any:
    """The same 64 bits, read as a double."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], _DOUBLE)

    return types.float64(types.uint64), generate


@njit(**INLINE)
def _long_to_float(whole: Any, exponent: int) -> Any:
    """As `to_float`, for any whole number but 0; by the product with 128 bits of the power.

    Lemire (2021), Number parsing at a gigabyte per second, Software: Practice and Experience.
    """
    if exponent < _LEAST or exponent > _MOST:
        return 0.0, False
    n_zeros = _leading_zeros(whole)
    scaled = whole << n_zeros
    five, rest = _FIVES[exponent - _LEAST, 0], _FIVES[exponent - _LEAST, 1]
    high, low = _high_product(scaled, five), scaled * five
    if high & np.uint64(0x1FF) == np.uint64(0x1FF):
        more = _high_product(scaled, rest)
        low += more
        if low < more:
            high += _ONE
    top = high >> np.uint64(63)
    mantissa = high >> (top + np.uint64(9))  # 54 bits, the last one to round by
    # The binary exponent, biased; the factor is that of the logarithm of ten to base two.
    binary = ((217706 * exponent) >> 16) + 63 + np.int64(top) - np.int64(n_zeros) + 1023
    near_half = low <= _ONE and mantissa & np.uint64(3) == _ONE
    if low == _ALL_ONES or near_half or binary <= 0:
        return 0.0, False
    mantissa = (mantissa + (mantissa & _ONE)) >> _ONE
    if mantissa >> np.uint64(53):  # rounded up to the next power of two
        mantissa >>= _ONE
        binary += 1
    if binary >= 2047:
        return 0.0, False
    return _as_float(
        (mantissa & (_EXACT // np.uint64(2) - _ONE)) | np.uint64(binary) << np.uint64(52)
    ), True


@njit(**INLINE)
def to_float(whole: Any, exponent: int) -> Any:
    """Double next to a decimal number, and whether it was found.

    Parameters
    ----------
    whole : uint64
        Digits.
    exponent : int64
        Power of ten that they are to be multiplied by.

    Returns
    -------
    number : float64
        The double.
    found : bool
        False for the few that need more than 128 bits, subnormal and infinite ones.
    """
    if whole <= _EXACT and -22 <= exponent <= 22:
        number = float(whole)
        if exponent < 0:
            number /= _POWERS[np.uint64(-exponent)]
        elif exponent > 0:
            number *= _POWERS[np.uint64(exponent)]
        return number, True
    if whole == 0:
        return 0.0, True
    return _long_to_float(whole, exponent)

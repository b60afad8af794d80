"""A short vector of floats as a numba type, so that a row's coordinates stay in registers.

The trick, in one place: numba keeps no array in registers, but a value of type ``<n x float>``
does, and LLVM turns it into SSE, AVX or NEON instructions. The number of lanes and whether they
are float32 or float64 come from the type of the layout: kernels stay functions of a module, which
numba's disk cache can find again, where closures over n could not. Nothing here knows what the
numbers mean.
"""

from __future__ import annotations

import functools
import operator
import platform
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils, config
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

__all__ = ["as_int32", "beyond", "fill", "load", "multiply_add", "pointer"]
__all__ += ["prefetch", "registers", "root", "store", "total"]

_INT32 = ir.IntType(32)


@functools.cache
def registers() -> tuple[int, int]:
    """How many vectors the processor that is compiled for holds, and the bits of each.

    Returns
    -------
    n_registers, n_bits : int
    """
    features = config.CPU_FEATURES
    if features is None:
        features = binding.get_host_cpu_features().flatten()
    if "+avx512f" in features:
        return 32, 512
    if "+avx" in features:
        return 16, 256
    return (16 if platform.machine().lower() in ("x86_64", "amd64") else 32), 128


class Vector(types.Type):
    """``n`` numbers of float32 or float64."""

    def __init__(self, n: int, number: Any) -> None:
        self.n = n
        self.number = number
        of = ir.FloatType() if number.bitwidth == 32 else ir.DoubleType()
        self.of = ir.VectorType(of, n)
        super().__init__(name=f"Vector{n}{number}")

    @classmethod
    def fitting(cls, layout: Any) -> Vector:
        """What the kernels of a layout work with."""
        return cls(layout.lanes, layout.number)


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, vector.of)


@intrinsic
def pointer(typing_context: Any, array: Any) -> Any:
    """Address of an array's first number, to be indexed like the flat array.

    Kernels work on pointers: numba counts references to arrays, which costs more than the
    arithmetic, and wraps negative indices around.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.make_array(signature.args[0])(context, builder, args[0]).data

    return types.CPointer(array.dtype)(array), generate


@intrinsic
def as_int32(typing_context: Any, floats: Any) -> Any:
    """The same memory, read as integers."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], _INT32.as_pointer())

    return types.CPointer(types.int32)(floats), generate


@intrinsic
def beyond(typing_context: Any, start: Any, n: Any) -> Any:
    """Address of ``start[n]``."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.gep(args[0], [args[1]])

    return start(start, types.intp), generate


def _address(builder: Any, start: Any, offset: Any, target: Any) -> Any:
    return builder.bitcast(builder.gep(start, [offset]), target.as_pointer())


@intrinsic
def load(typing_context: Any, layout: Any, start: Any, offset: Any) -> Any:
    """``start[offset : offset + layout.lanes]`` as a vector, of the layout's numbers."""
    kind, stored = Vector.fitting(layout), start.dtype
    narrow = Vector(layout.lanes, stored)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = builder.load(_address(builder, args[1], args[2], narrow.of))
        vector.align = stored.bitwidth // 8
        if stored.bitwidth < kind.number.bitwidth:
            return builder.fpext(vector, kind.of)
        return vector

    return kind(layout, start, types.intp), generate


@intrinsic
def store(typing_context: Any, start: Any, offset: Any, vector: Any) -> Any:
    """``start[offset : offset + n] = vector``."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address = _address(builder, args[0], args[1], args[2].type)
        builder.store(args[2], address).align = vector.number.bitwidth // 8
        return context.get_dummy_value()

    return types.void(start, types.intp, vector), generate


@intrinsic
def prefetch(typing_context: Any, start: Any, offset: Any) -> Any:
    """Ask for the cache line of ``start[offset]``."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        byte = ir.IntType(8)
        kind = ir.FunctionType(ir.VoidType(), [byte.as_pointer(), _INT32, _INT32, _INT32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        for_write, keep, data = 1, 3, 1
        flags = [ir.Constant(_INT32, flag) for flag in (for_write, keep, data)]
        builder.call(function, [_address(builder, args[0], args[1], byte), *flags])
        return context.get_dummy_value()

    return types.void(start, types.intp), generate


@intrinsic
def fill(typing_context: Any, layout: Any, number: Any) -> Any:
    """One number in every lane."""
    kind = Vector.fitting(layout)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        nothing = ir.Constant(kind.of, ir.Undefined)
        first = builder.insert_element(nothing, args[1], ir.Constant(_INT32, 0))
        zeros = ir.Constant(ir.VectorType(_INT32, kind.n), [0] * kind.n)
        return builder.shuffle_vector(first, nothing, zeros)

    return kind(layout, kind.number), generate


@intrinsic
def total(typing_context: Any, vector: Any) -> Any:
    """Sum over the lanes, by halves."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (part,) = args
        n = part.type.count
        while n > 1:
            n //= 2
            nothing = ir.Constant(part.type, ir.Undefined)
            halves = [
                builder.shuffle_vector(
                    part,
                    nothing,
                    ir.Constant(ir.VectorType(_INT32, n), list(range(start, start + n))),
                )
                for start in (0, n)
            ]
            part = builder.fadd(*halves)
        return builder.extract_element(part, ir.Constant(_INT32, 0))

    return vector.number(vector), generate


@intrinsic
def multiply_add(typing_context: Any, left: Any, right: Any, sum_: Any) -> Any:
    """``left * right + sum_``, rounded once where the processor can."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = args[0].type
        name = f"llvm.fmuladd.v{left.n}f{left.number.bitwidth}"
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(kind, [kind] * 3), name
        )
        return builder.call(function, args)

    return left(left, left, left), generate


@intrinsic
def root(typing_context: Any, vector: Any) -> Any:
    """Square root of every lane."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = args[0].type
        name = f"llvm.sqrt.v{vector.n}f{vector.number.bitwidth}"
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(kind, [kind]), name
        )
        return builder.call(function, args)

    return vector(vector), generate


class _Arithmetic(AbstractTemplate):
    """Two equal vectors make another."""

    def generic(self, args: Any, kws: Any) -> Any:
        if not kws and len(args) == 2 and isinstance(args[0], Vector) and args[0] == args[1]:
            return signature(args[0], *args)
        return None


def _define(operator_: Any, operation: str) -> None:
    """Let an operator be an instruction, rather than a function that has to be compiled."""
    infer_global(operator_)(type(f"_Vector_{operation}", (_Arithmetic,), {}))

    @lower_builtin(operator_, Vector, Vector)
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return getattr(builder, operation)(*args)


for _operator, _operation in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _define(_operator, _operation)

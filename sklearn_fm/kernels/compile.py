"""How kernels are compiled, and sizes that they know when they are.

A kernel takes a layout as its first argument: a frozen dataclass that says where the parts of a row
lie in memory. As a rule it has no content at run time; its numbers are constants of the compiled
code, so each layout has kernels of its own, kept on disk. A layout whose sizes differ from table to
table brings most of them along as numbers, so that one kernel serves all.
"""

from __future__ import annotations

from typing import Any, TypeVar

from numba import types
from numba.core import cgutils
from numba.core.imputils import lower_constant
from numba.extending import (
    NativeValue,
    make_attribute_wrapper,
    models,
    overload_attribute,
    register_model,
    typeof_impl,
    unbox,
)

from . import HAS_KERNELS

__all__ = ["COMPILE", "INLINE", "PART", "as_layout"]

if not HAS_KERNELS:  # pointers and registers mean nothing to Python; what calls does without
    raise ImportError("Kernels cannot be compiled while NUMBA_DISABLE_JIT is set; unset it.")

#: Without "fastmath": it lets a sum depend on how a loop was unrolled, hence on how many columns a
#: thread has.
COMPILE: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy"}
INLINE: dict[str, Any] = {**COMPILE, "cache": False, "forceinline": True}
#: Part of a kernel that stands in it once, however often it is called: less to compile.
PART: dict[str, Any] = {**COMPILE, "cache": False}

T = TypeVar("T")
#: Attributes of layouts that decide how a kernel is compiled.
_ALWAYS_CONSTANT = ("lanes", "C", "rule")
_CONSTANTS: set[str] = set()


class LayoutType(types.Type):
    """A layout to numba: no content at run time, all of it in the type."""

    def __init__(self, layout: Any) -> None:
        # Layouts of equal room share their kernels.
        self.layout = layout.compiled
        super().__init__(name=f"{self.layout}")

    @property
    def lanes(self) -> int:
        """Numbers that a kernel takes at once."""
        return self.layout.lanes

    @property
    def number(self) -> types.Float:
        """Type of the numbers."""
        return self.layout.number


register_model(LayoutType)(models.OpaqueModel)


@lower_constant(LayoutType)
def _lower_layout(context: Any, builder: Any, typ: LayoutType, value: Any) -> Any:
    """A layout that is an attribute of another."""
    return context.get_dummy_value()


@unbox(LayoutType)
def _unbox_layout(typ: LayoutType, value: Any, context: Any) -> NativeValue:
    return NativeValue(context.context.get_dummy_value())


class SizedLayoutType(types.Type):
    """A layout to numba whose sizes are known at run time."""

    def __init__(self, layout: Any) -> None:
        self.sizes: tuple[str, ...] = layout.sizes
        self.lanes: int = layout.lanes
        self.number: types.Float = layout.number
        self.constants = {name: getattr(layout, name) for name in _ALWAYS_CONSTANT}
        super().__init__(name=f"Sized{type(layout).__name__}({self.constants}, {self.sizes})")


@register_model(SizedLayoutType)
class _SizedLayoutModel(models.StructModel):
    def __init__(self, manager: Any, typ: SizedLayoutType) -> None:
        super().__init__(manager, typ, [(name, types.int64) for name in typ.sizes])


@unbox(SizedLayoutType)
def _unbox_sized_layout(typ: SizedLayoutType, value: Any, context: Any) -> NativeValue:
    struct = cgutils.create_struct_proxy(typ)(context.context, context.builder)
    for name in typ.sizes:
        size = context.pyapi.object_getattr_string(value, name)
        setattr(struct, name, context.unbox(types.int64, size).value)
        context.pyapi.decref(size)
    return NativeValue(struct._getvalue())


def as_layout(layout: type[T]) -> type[T]:
    """Let kernels read the public attributes of a class's instances.

    Parameters
    ----------
    layout : type
        Frozen dataclass with ``compiled``, the layout that stands for all of equal room, and
        ``number`` and ``lanes``, the vector that kernels work with, and ``sizes``, the names of
        attributes that are to be known at run time only.

    Returns
    -------
    type
        The same class.
    """

    @typeof_impl.register(layout)
    def type_of_layout(value: Any, context: Any) -> LayoutType | SizedLayoutType:
        return SizedLayoutType(value) if value.sizes else LayoutType(value)

    for name in vars(layout):
        if not name.startswith("_") and name not in {"number", "compiled", "sizes", *_CONSTANTS}:
            _CONSTANTS.add(name)
            _make_constant(name)
            if name not in _ALWAYS_CONSTANT:
                make_attribute_wrapper(SizedLayoutType, name, name)
    return layout


def _make_constant(name: str) -> None:
    @overload_attribute(LayoutType, name, strict=False)
    def get(layout):  # type: ignore[no-untyped-def]  # numba reads the signature
        number = getattr(layout.layout, name)
        return lambda layout: number


def _make_constant_of_sized(name: str) -> None:
    @overload_attribute(SizedLayoutType, name, strict=False)
    def get(layout):  # type: ignore[no-untyped-def]
        number = layout.constants[name]
        return lambda layout: number


for _name in _ALWAYS_CONSTANT:
    _make_constant_of_sized(_name)

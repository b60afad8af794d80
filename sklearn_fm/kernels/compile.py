"""How kernels are compiled, and sizes that they know when they are.

A kernel takes a layout as its first argument: a frozen dataclass that says where the parts of a row
lie in memory. As a rule it has no content at run time; its numbers are constants of the compiled
code, so each layout has kernels of its own, kept on disk. A layout whose sizes differ from table to
table brings most of them along as numbers, so that one kernel serves all.
"""

from __future__ import annotations

from typing import Any, TypeVar

from numba import typeof, types
from numba.core import cgutils
from numba.core.imputils import lower_constant
from numba.core.typing.templates import AttributeTemplate
from numba.extending import (
    NativeValue,
    infer_getattr,
    lower_getattr_generic,
    models,
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
#: Part of a kernel that stands in it once, however often it is called: less to compile. What Python
#: or C would call it by is left out, which is as much again.
PART: dict[str, Any] = {
    **COMPILE,
    "cache": False,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}
INLINE: dict[str, Any] = {**PART, "forceinline": True}

T = TypeVar("T")
#: Attributes of layouts that decide how a kernel is compiled.
_ALWAYS_CONSTANT = ("lanes", "C", "rule")


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

    return layout


class _Attributes(AttributeTemplate):
    """Attributes of layouts, read without a function that would have to be compiled for each."""

    def generic_resolve(self, typ: LayoutType | SizedLayoutType, name: str) -> Any:
        if isinstance(typ, SizedLayoutType) and name in typ.sizes:
            return types.int64
        value = _constant(typ, name)
        return None if value is None else typeof(value)


def _constant(typ: LayoutType | SizedLayoutType, name: str) -> Any:
    """What a layout's type says of an attribute; None if it does not."""
    if isinstance(typ, SizedLayoutType):
        return typ.constants.get(name)
    public = not name.startswith("_") and name not in ("number", "compiled", "sizes")
    return getattr(typ.layout, name, None) if public else None


def _lower_attribute(
    context: Any, builder: Any, typ: LayoutType | SizedLayoutType, value: Any, name: str
) -> Any:
    if isinstance(typ, SizedLayoutType) and name in typ.sizes:
        return getattr(cgutils.create_struct_proxy(typ)(context, builder, value=value), name)
    constant = _constant(typ, name)
    return context.get_constant_generic(builder, typeof(constant), constant)


for _type in (LayoutType, SizedLayoutType):
    infer_getattr(type(f"_AttributesOf{_type.__name__}", (_Attributes,), {"key": _type}))
    lower_getattr_generic(_type)(_lower_attribute)

"""How kernels are compiled, and sizes that they know when they are.

A kernel takes a layout as its first argument: a frozen dataclass that says where the parts of a row
lie in memory. To numba it has no content at run time; its numbers are constants of the compiled
code, so each layout has kernels of its own, kept on disk.
"""

from __future__ import annotations

from typing import Any, TypeVar

from numba import types
from numba.extending import (
    NativeValue,
    models,
    overload_attribute,
    register_model,
    typeof_impl,
    unbox,
)

__all__ = ["COMPILE", "INLINE", "as_layout"]

#: Without "fastmath": it lets a sum depend on how a loop was unrolled, hence on how many columns a
#: thread has.
COMPILE: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy"}
INLINE: dict[str, Any] = COMPILE | {"forceinline": True}

T = TypeVar("T")
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


@unbox(LayoutType)
def _unbox_layout(typ: LayoutType, value: Any, context: Any) -> NativeValue:
    return NativeValue(context.context.get_dummy_value())


def as_layout(layout: type[T]) -> type[T]:
    """Let kernels read the public attributes of a class's instances as constants.

    Parameters
    ----------
    layout : type
        Frozen dataclass with ``compiled``, the layout that stands for all of equal room, and
        ``number`` and ``lanes``, the vector that kernels work with.

    Returns
    -------
    type
        The same class.
    """

    @typeof_impl.register(layout)
    def type_of_layout(value: Any, context: Any) -> LayoutType:
        return LayoutType(value)

    for name in vars(layout):
        if not name.startswith("_") and name not in {"number", "compiled", *_CONSTANTS}:
            _CONSTANTS.add(name)
            _make_constant(name)
    return layout


def _make_constant(name: str) -> None:
    @overload_attribute(LayoutType, name, strict=False)
    def get(layout):  # type: ignore[no-untyped-def]  # numba reads the signature
        number = getattr(layout.layout, name)
        return lambda layout: number

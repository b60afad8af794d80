"""How estimators declare parameters: a dataclass whose documentation follows its fields.

The only file that imports scikit-learn's private parameter validation.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Any, TypeVar, dataclass_transform

from sklearn.utils._param_validation import Interval, StrOptions

__all__ = ["Interval", "StrOptions", "estimator"]

T = TypeVar("T")


@dataclass_transform(kw_only_default=True, eq_default=False)
def estimator(cls: type[T]) -> type[T]:
    """Make a class an estimator: annotated fields become keyword-only parameters.

    The generated ``__init__`` assigns and does nothing else, which is scikit-learn's
    contract. Fields, their constraints and their documentation are inherited, so a shared
    parameter is declared once. In the docstring the marker ``{parameters}`` is replaced by
    the entries of all bases in the order of the signature, each completed by the
    default that the class really has, and ``{attributes}`` by those of the fitted attributes.
    An entry of a name that a base has documented replaces that, or adds to it after
    ``{inherited}``.

    Parameters
    ----------
    cls : type
        Class with annotated fields.

    Returns
    -------
    type
        The same class.

    Raises
    ------
    TypeError
        If a field is documented or constrained nowhere.
    """
    made: Any = dataclasses.dataclass(kw_only=True, eq=False, repr=False)(cls)
    made._own_constraints = made.__dict__.get("_parameter_constraints", {})
    constraints: dict[str, list[Any]] = {}
    for source in reversed(made.__mro__):
        constraints.update(source.__dict__.get("_own_constraints", {}))
    made._parameter_constraints = constraints
    if made.__doc__ and "{parameters}" in made.__doc__:
        fields = {field.name: field.default for field in dataclasses.fields(made)}
        documented = _entries(made, "Parameters")
        missing = fields.keys() - (documented.keys() & constraints.keys())
        if missing:
            raise TypeError(f"{made.__name__}: {sorted(missing)} lack documentation or constraint.")
        parameters = [_with_default(documented[name], fields[name]) for name in fields]
        attributes = list(_entries(made, "Attributes").values())
        made.__doc__ = made.__doc__.replace("{parameters}", _indented(parameters))
        made.__doc__ = made.__doc__.replace("{attributes}", _indented(attributes))
    return made


def _entries(cls: type, section: str) -> dict[str, str]:
    """Entries of one docstring section by name, from all bases, the most basic first."""
    entries: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        doc = inspect.cleandoc(base.__dict__.get("__doc__") or "")
        found = re.search(rf"{section}\n-+\n(.*?)(?=\n\n[A-Z][\w ]*\n-+\n|\Z)", doc, re.DOTALL)
        if found and "{" + section.lower() + "}" not in found.group(1):
            for entry in re.split(r"\n(?=\w+ : )", found.group(1).strip()):
                name = entry.split(" : ")[0]
                inherited = entries.get(name, "").partition("\n")[2].strip()
                entries[name] = entry.rstrip().replace("{inherited}", inherited)
    return entries


def _with_default(entry: str, default: Any) -> str:
    head, _, body = entry.partition("\n")
    shown = f'"{default}"' if isinstance(default, str) else repr(default)
    return f"{head}, default={shown}\n{body}"


def _indented(entries: list[str]) -> str:
    """Entries as they stand in a class docstring, but for the first line's indent."""
    lines = "\n".join(entries).split("\n")
    return "\n".join([lines[0], *(f"    {line}" if line else "" for line in lines[1:])])

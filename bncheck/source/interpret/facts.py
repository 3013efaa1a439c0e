"""From interpreted values to the facts that the graph holds."""

from __future__ import annotations

from typing import cast

from bncheck.graph import UNKNOWN, Layer, Symbol
from bncheck.source.interpret.values import MISSING, Either, Parameter, is_constant, truth


def plain(value: object) -> object:
    """Return a constant or a symbol as it is, and UNKNOWN for everything else."""
    if is_constant(value) or isinstance(value, Symbol):
        return value
    return UNKNOWN


def boolean(value: object) -> object:
    """Return True or False where a value surely counts as that, else UNKNOWN."""
    if isinstance(value, Either) and MISSING in value.options:
        return UNKNOWN
    known = truth(value)
    return UNKNOWN if known is None else known


def given_tensor(value: object) -> object:
    """Return whether an optional tensor argument is given: True, False or UNKNOWN."""
    if value is None:
        return False
    return True if isinstance(value, Parameter) else UNKNOWN


def note(layer: Layer, name: str, value: object) -> None:
    """Set an attribute of a layer that the interpretation has constructed."""
    cast("dict[str, object]", layer.attributes)[name] = value

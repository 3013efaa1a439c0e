"""Calls that only take a part of some dimensions of a tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bncheck.crops import Part, cropped


def cropped_by(name: str, arguments: Mapping[str, Any]) -> tuple[int, ...] | None:
    """Return the dimensions that a call of an operation cuts short; None if it does else.

    They are counted from the first (0) or the last (-1) one.
    """
    match name:
        case "slice" | "narrow" if type(dimension := arguments.get("dim", 0)) is int:
            return (dimension,)
        case "getitem":
            index = arguments.get("index")
            return cropped([*map(_part, index if isinstance(index, tuple | list) else (index,))])
    return None


def _part(value: object) -> Part:
    match value:
        case slice(start=None, stop=None, step=None):
            return Part.WHOLE
        case slice():
            return Part.SLICE
    return Part.ELLIPSIS if value is ... else Part.OTHER

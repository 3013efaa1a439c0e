"""Calls that only take a part of some dimensions of a tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def cropped(name: str, arguments: Mapping[str, Any]) -> tuple[int, ...] | None:
    """Return the dimensions that a call of an operation cuts short; None if it does else.

    They are counted from the first (0) or the last (-1) one.
    """
    match name:
        case "slice" | "narrow" if type(dimension := arguments.get("dim", 0)) is int:
            return (dimension,)
        case "getitem":
            index = arguments.get("index")
            return _of_index(index if isinstance(index, tuple | list) else (index,))
    return None


def _of_index(index: tuple[Any, ...] | list[Any]) -> tuple[int, ...] | None:
    cut: list[int] = []
    behind = 0
    for place, part in enumerate(index):
        match part:
            case slice(start=None, stop=None, step=None):
                pass
            case slice():
                cut.append(place - behind)
            case _ if part is ... and not behind:
                behind = len(index)
            case _:
                return None
    return tuple(cut)

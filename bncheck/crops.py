"""Which dimensions of a tensor an index of slices cuts short, in source and in traces alike."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum


class Part(Enum):
    """What one part of an index does to the dimension that it is for."""

    WHOLE = ":"
    SLICE = "1:"
    ELLIPSIS = "..."
    """Leaves all the dimensions whole that no other part is for."""
    OTHER = "0"


def cropped(index: Sequence[Part]) -> tuple[int, ...] | None:
    """Return the dimensions that an index cuts short; None for one of more than slices.

    They are counted from the first (0), behind an ellipsis from the last (-1).
    """
    cut: list[int] = []
    behind = 0
    for place, part in enumerate(index):
        match part:
            case Part.WHOLE:
                pass
            case Part.SLICE:
                cut.append(place - behind)
            case Part.ELLIPSIS if not behind:
                behind = len(index)
            case _:
                return None
    return tuple(cut)

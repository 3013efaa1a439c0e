"""How deep Python may recurse: deep for printing and reading trees, not for what parsers take."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_DEEP = 20_000
"""Frames that walking a syntax tree may take; what comes to it is bounded by `shallow`."""
_SHALLOW = 900
"""About what Python allows by itself, 1,000: what is taken must not depend on who reads it."""


@contextmanager
def deep() -> Iterator[None]:
    """Let trees be walked that Python's own parser takes, such as a sum of 900 numbers."""
    with _limit(max(sys.getrecursionlimit(), _DEEP)):
        yield


@contextmanager
def shallow() -> Iterator[None]:
    """Bound the nesting that a parser takes, whatever the limit around it is."""
    depth = 0
    frame = sys._getframe()
    while frame.f_back is not None:
        depth, frame = depth + 1, frame.f_back
    with _limit(depth + _SHALLOW):
        yield


@contextmanager
def _limit(frames: int) -> Iterator[None]:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(frames)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)

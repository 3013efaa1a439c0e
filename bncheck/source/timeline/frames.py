"""Evaluates what stands elsewhere: with the names of another function or module."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bncheck.source.timeline.run import Run
from bncheck.source.timeline.values import Frame


@contextmanager
def in_frame(run: Run, frame: Frame) -> Iterator[None]:
    """Look names up in another frame until the block ends."""
    outer, run.frame = run.frame, frame
    try:
        yield
    finally:
        run.frame = outer

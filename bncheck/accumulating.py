"""Which optimizer steps wait for the gradients of several tiny batches.

This module imports neither libcst nor torch.
"""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.batches import Feeding, distributed_by
from bncheck.events import BackwardCall, OptimizerStep, WrapKind
from bncheck.timeline import Timeline, occurrences, trains


def accumulated_steps(timeline: Timeline, feeding: Feeding, size: int) -> Iterator[OptimizerStep]:
    """Yield the steps that run once in several of a feeding's batches, if more of it would help.

    Batches of one may fail at once, and several processes may synchronise instead.
    """
    if size == 1 and feeding.fails_on_one:
        return
    if feeding.wrapped(WrapKind.DISTRIBUTED) and any(distributed_by(timeline, feeding.model)):
        return
    loop = feeding.loop
    events = [occurrence.event for occurrence in occurrences(loop.steps)]
    inside = [event for event in events if isinstance(event, OptimizerStep)]
    # What goes backward as seldom as the optimizer steps is not added up.
    backward = {event.count for event in events if isinstance(event, BackwardCall)}
    yield from (step for step in inside if step.count is not None and step.count not in backward)
    loops = feeding.moment.occurrence.loops
    if inside or loop is not loops[-1] or loop.times == 1 or not trains(loop.steps):
        return
    # Each round of the loop goes backward; the step stands behind it.
    around = loops[-2].steps if len(loops) > 1 else timeline.steps
    for occurrence in occurrences(around):
        if isinstance(occurrence.event, OptimizerStep) and not occurrence.loops:
            yield occurrence.event

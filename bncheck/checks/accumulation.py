"""BN303: gradients of tiny batches added up, in the belief that BatchNorm sees the sum."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.batches import Feeding, distributed_by, tiny_feedings
from bncheck.checks import check
from bncheck.events import BackwardCall, OptimizerStep, WrapKind
from bncheck.findings import Match
from bncheck.graph import Site
from bncheck.naming import called
from bncheck.timeline import Timeline, occurrences, trains


@check("BN303", Timeline)
def accumulation(timeline: Timeline) -> Iterator[Match]:
    """Yield each accumulated optimizer step over tiny batches through BatchNorm.

    BN301 tells of the loader itself; where batches of one raise, or several processes share them,
    that is for it and BN401 alone.
    """
    seen: set[Site] = set()
    for feeding, size, sure in tiny_feedings(timeline):
        for step in _accumulated_steps(timeline, feeding, size):
            if step.site in seen:
                continue
            seen.add(step.site)
            yield Match(
                step.site,
                "accumulation adds gradients up; each BatchNorm of "
                f"{called(feeding.model)} still normalises by {feeding.batch_size} samples",
                "SyncBatchNorm over several processes, frozen statistics or GroupNorm help "
                "where a larger batch does not fit",
                sure,
            )


def _accumulated_steps(timeline: Timeline, feeding: Feeding, size: int) -> Iterator[OptimizerStep]:
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

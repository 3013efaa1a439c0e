"""BN303: gradients of tiny batches added up, in the belief that BatchNorm sees the sum."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.batches import Feeding, distributed_by, tiny_feedings
from bncheck.checks import check
from bncheck.events import BackwardCall, OptimizerStep
from bncheck.findings import Match
from bncheck.graph import Site
from bncheck.timeline import Timeline, occurrences, trains


def _accumulated(feeding: Feeding, timeline: Timeline) -> Iterator[OptimizerStep]:
    """Yield the steps that run once in several batches."""
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


@check("BN303", Timeline)
def accumulation(timeline: Timeline) -> Iterator[Match]:
    """Yield each accumulated optimizer step over tiny batches through BatchNorm."""
    seen: set[Site] = set()
    for feeding, size, sure in tiny_feedings(timeline):
        if size == 1 and feeding.fails_on_one:
            continue  # It raises at the first batch: BN301's case.
        if any(distributed_by(timeline, feeding.model)):
            continue  # SyncBatchNorm is what helps there: BN401's case.
        for step in _accumulated(feeding, timeline):
            if step.site in seen:
                continue
            seen.add(step.site)
            yield Match(
                step.site,
                "accumulation adds gradients up; each BatchNorm of "
                f"`{feeding.model.name}` still normalises by {feeding.batch_size} samples",
                "SyncBatchNorm over several processes, frozen statistics or GroupNorm help "
                "where a larger batch does not fit",
                sure,
            )

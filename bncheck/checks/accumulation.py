"""BN303: gradients of tiny batches added up, in the belief that BatchNorm sees the sum."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.batches import tiny_feedings
from bncheck.checks import check
from bncheck.events import OptimizerStep
from bncheck.findings import Match
from bncheck.graph import Site
from bncheck.timeline import Timeline, occurrences


@check("BN303", Timeline)
def accumulation(timeline: Timeline) -> Iterator[Match]:
    """Yield each accumulated optimizer step over tiny batches through BatchNorm."""
    seen: set[Site] = set()
    for feeding, _, sure in tiny_feedings(timeline):
        for occurrence in occurrences(feeding.loop.steps):
            step = occurrence.event
            if not isinstance(step, OptimizerStep) or step.every == 1 or step.site in seen:
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

"""BN303: gradients of tiny batches added up, in the belief that BatchNorm sees the sum."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.batches import feedings
from bncheck.checks import check
from bncheck.events import OptimizerStep, WrapKind
from bncheck.findings import Match
from bncheck.graph import Site
from bncheck.paths import assurance
from bncheck.timeline import Timeline, occurrences


@check("BN303", Timeline)
def accumulation(timeline: Timeline) -> Iterator[Match]:
    """Yield each accumulated optimizer step over tiny batches through BatchNorm."""
    seen: set[Site] = set()
    for feeding in feedings(timeline):
        sure = assurance(feeding.model)
        if (
            sure is None
            or not feeding.tiny(timeline.minimum_batch_size)
            or not feeding.normalises_by_batch
            or feeding.wrapped(WrapKind.SYNC_BATCH_NORM)
        ):
            continue
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

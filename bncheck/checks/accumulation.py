"""BN303: gradients of tiny batches added up, in the belief that BatchNorm sees the sum."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.accumulating import accumulated_steps
from bncheck.batches import tiny_feedings
from bncheck.checks import check
from bncheck.findings import Match
from bncheck.graph import Site
from bncheck.naming import called
from bncheck.timeline import Timeline


@check("BN303", Timeline)
def accumulation(timeline: Timeline) -> Iterator[Match]:
    """Yield each accumulated optimizer step over tiny batches through BatchNorm.

    Of the loader itself BN301 says nothing then, and where batches of one raise, or several
    processes share them, BN301 and BN401 tell of it.
    """
    seen: set[Site] = set()
    for feeding, size, sure in tiny_feedings(timeline):
        for step in accumulated_steps(timeline, feeding, size):
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

"""BN401: tiny batches in each process of DistributedDataParallel, BatchNorm not synchronised."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.batches import distributed_by, tiny_feedings, variance_error
from bncheck.checks import check
from bncheck.findings import Match
from bncheck.graph import Site
from bncheck.naming import called
from bncheck.timeline import Timeline


@check("BN401", Timeline)
def ddp_tiny_batch(timeline: Timeline) -> Iterator[Match]:
    """Yield each DistributedDataParallel whose processes train BatchNorm on tiny batches."""
    seen: set[Site] = set()
    for feeding, size, sure in tiny_feedings(timeline):
        for wrap in distributed_by(timeline, feeding.model):
            if wrap.site in seen:
                continue
            seen.add(wrap.site)
            yield Match(
                wrap.site,
                f"each process trains the BatchNorm of {called(feeding.model)} on {_samples(size)} "
                "and keeps its statistics to itself: the variance of as many independent samples "
                f"is off by {variance_error(size):.0%} (root mean square)",
                "convert with torch.nn.SyncBatchNorm.convert_sync_batchnorm before wrapping; "
                "accumulating gradients does not help",
                sure,
            )


def _samples(size: int) -> str:
    return "one sample" if size == 1 else f"{size} samples"

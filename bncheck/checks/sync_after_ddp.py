"""BN402: SyncBatchNorm converted behind DistributedDataParallel's back."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.checks import check
from bncheck.events import Wrap, WrapKind
from bncheck.findings import Confidence, Match
from bncheck.graph import Site
from bncheck.paths import moments
from bncheck.timeline import Timeline


@check("BN402", Timeline)
def sync_after_ddp(timeline: Timeline) -> Iterator[Match]:
    """Yield each conversion of a model that DistributedDataParallel already wraps."""
    seen: set[Site] = set()
    for moment in moments(timeline) if timeline.of(Wrap) else ():
        wrap = moment.event
        if (
            not isinstance(wrap, Wrap)
            or wrap.kind is not WrapKind.SYNC_BATCH_NORM
            or wrap.site in seen
            or wrap.model.holds_batch_norm is False
        ):
            continue
        before = moment.wrapped(wrap.model, WrapKind.DISTRIBUTED)
        if before is not False:
            seen.add(wrap.site)
            yield Match(
                wrap.site,
                f"`{wrap.model.name}` is converted to SyncBatchNorm after DistributedDataParallel "
                "has wrapped it; this succeeds in silence, without the wrapper's checks",
                "convert first, then wrap",
                Confidence.PROVEN if before else Confidence.LIKELY,
            )

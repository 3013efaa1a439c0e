"""BN402: SyncBatchNorm converted behind DistributedDataParallel's back."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.checks import check
from bncheck.events import Wrap, WrapKind
from bncheck.findings import Confidence, Match
from bncheck.graph import Site
from bncheck.naming import called
from bncheck.paths import moments
from bncheck.timeline import Branch, Occurrence, Timeline


@check("BN402", Timeline)
def sync_after_ddp(timeline: Timeline) -> Iterator[Match]:
    """Yield each conversion of a model that DistributedDataParallel already wraps."""
    seen: set[Site] = set()
    converts = any(wrap.kind is WrapKind.SYNC_BATCH_NORM for _, wrap in timeline.of(Wrap))
    for moment in moments(timeline) if converts else ():
        wrap = moment.event
        if (
            not isinstance(wrap, Wrap)
            or wrap.kind is not WrapKind.SYNC_BATCH_NORM
            or wrap.site in seen
            or wrap.model.holds_batch_norm is False
            or _asks_for_wrapper(moment.occurrence)
            or _is_for_another_run(timeline, wrap)
        ):
            continue
        before = moment.wrapped(wrap.model, WrapKind.DISTRIBUTED)
        if before is not False:
            seen.add(wrap.site)
            yield Match(
                wrap.site,
                f"{called(wrap.model)} is converted to SyncBatchNorm after DistributedDataParallel "
                "has wrapped it; this succeeds in silence, without the wrapper's checks",
                "convert first, then wrap",
                Confidence.PROVEN if before else Confidence.LIKELY,
            )


def _is_for_another_run(timeline: Timeline, converted: Wrap) -> bool:
    """Tell whether the wrapper that is there is one of an earlier run of the same code.

    Then the network is wrapped once more after this, or what is converted here, before as well, is
    the network itself and the wrapper is kept beside it. Where it is the wrapper that is
    converted, the earlier run must have converted it too.
    """
    wraps = [found for found in timeline.of(Wrap) if found[1].model is converted.model]
    place = [event for _, event in wraps].index(converted)
    again = any(event.site == converted.site for _, event in wraps[:place])
    wrapped_next = any(
        event.kind is WrapKind.DISTRIBUTED and not _asks_for_wrapper(occurrence)
        for occurrence, event in wraps[place + 1 :]
    )
    match converted.of_wrapper:
        case True:
            return again and wrapped_next
        case False:
            return again or wrapped_next
    return wrapped_next


_WRAPPERS = {"DistributedDataParallel", "DDP"}


def _asks_for_wrapper(occurrence: Occurrence) -> bool:
    """Tell whether a condition around it asks for the wrapper's class: `isinstance(model, DDP)`."""
    conditions = (b.condition for b in occurrence.inside if isinstance(b, Branch))
    words = (word for condition in conditions for word in condition.replace(".", " ").split())
    return not _WRAPPERS.isdisjoint(words)

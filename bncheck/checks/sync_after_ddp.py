"""BN402: SyncBatchNorm converted behind DistributedDataParallel's back."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.checks import check
from bncheck.events import Wrap, WrapKind
from bncheck.findings import Confidence, Match
from bncheck.graph import Site
from bncheck.paths import Moment, moments
from bncheck.timeline import Branch, Call, Entry, Timeline, occurrences


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
            or _asks_for_wrapper(moment)
            or _is_made_anew(timeline, moment, wrap)
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


def _is_made_anew(timeline: Timeline, moment: Moment, converted: Wrap) -> bool:
    """Tell whether the entry point itself converts, then wraps what its constructor has wrapped.

    The constructor has called this method, which is followed once more by itself.
    """
    calls = [block for block in moment.occurrence.inside if isinstance(block, Call)]
    if timeline.entry is not Entry.METHOD or [c.function for c in calls] != [timeline.name]:
        return False
    events = [found.event for found in occurrences(calls[0].steps)]
    return any(
        isinstance(event, Wrap)
        and event.kind is WrapKind.DISTRIBUTED
        and event.model is converted.model
        for event in events[events.index(converted) + 1 :]
    )


_WRAPPERS = {"DistributedDataParallel", "DDP"}


def _asks_for_wrapper(moment: Moment) -> bool:
    """Tell whether a condition around it asks for the wrapper's class: `isinstance(model, DDP)`."""
    conditions = (b.condition for b in moment.occurrence.inside if isinstance(b, Branch))
    words = (word for condition in conditions for word in condition.replace(".", " ").split())
    return not _WRAPPERS.isdisjoint(words)

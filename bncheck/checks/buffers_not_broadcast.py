"""BN405: each process keeps running statistics of its own."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.checks import check
from bncheck.events import Model, Wrap, WrapKind
from bncheck.findings import Match
from bncheck.graph import Site
from bncheck.paths import assurance, moments
from bncheck.timeline import Timeline
from bncheck.usage import only_evaluated


def _is_converted_in_part(timeline: Timeline, model: Model) -> bool:
    """Tell whether a network converts parts of itself, as its constructor may."""
    return any(
        event.kind is WrapKind.SYNC_BATCH_NORM and event.model.within(model)
        for _, event in timeline.of(Wrap)
        if event.model is not model
    )


@check("BN405", Timeline)
def buffers_not_broadcast(timeline: Timeline) -> Iterator[Match]:
    """Yield each `broadcast_buffers=False` around BatchNorm that is not synchronised."""
    seen: set[Site] = set()
    for moment in moments(timeline) if timeline.of(Wrap) else ():
        wrap = moment.event
        if (
            not isinstance(wrap, Wrap)
            or wrap.kind is not WrapKind.DISTRIBUTED
            or wrap.keywords.get("broadcast_buffers") is not False
            or moment.wrapped(wrap.model, WrapKind.SYNC_BATCH_NORM) is not False
            or wrap.site in seen
            or wrap.model.shares_statistics
            or _is_converted_in_part(timeline, wrap.model)
        ):
            continue
        sure = assurance(wrap.model)
        if sure is not None and not only_evaluated(timeline, wrap.model):
            seen.add(wrap.site)
            yield Match(
                wrap.site,
                f"with broadcast_buffers=False each process keeps BatchNorm statistics of its own "
                f"for `{wrap.model.name}`: what is evaluated or saved depends on the rank",
                "convert to SyncBatchNorm, average the buffers before evaluation, "
                "or leave broadcast_buffers on",
                sure,
            )

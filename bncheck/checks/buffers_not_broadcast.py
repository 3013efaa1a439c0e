"""BN405: each process keeps running statistics of its own."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.checks import check
from bncheck.events import Wrap, WrapKind
from bncheck.findings import Match
from bncheck.graph import Site
from bncheck.naming import called
from bncheck.paths import assurance, moments
from bncheck.timeline import Timeline
from bncheck.usage import only_evaluated


def _converted_in_part(timeline: Timeline) -> set[Site]:
    """Return where networks are wrapped parts of which are converted, as a constructor may do.

    Of several networks that may be wrapped there, one is enough: they share their parts.
    """
    wraps = [event for _, event in timeline.of(Wrap)]
    converted = [event.model for event in wraps if event.kind is WrapKind.SYNC_BATCH_NORM]
    return {
        wrap.site
        for wrap in wraps
        if any(model is not wrap.model and model.within(wrap.model) for model in converted)
    }


@check("BN405", Timeline)
def buffers_not_broadcast(timeline: Timeline) -> Iterator[Match]:
    """Yield each `broadcast_buffers=False` around BatchNorm that is not synchronised."""
    seen: set[Site] = _converted_in_part(timeline)
    keywords = [wrap.keywords for _, wrap in timeline.of(Wrap)]
    asked = any(given.get("broadcast_buffers") is False for given in keywords)
    for moment in moments(timeline) if asked else ():
        wrap = moment.event
        if (
            not isinstance(wrap, Wrap)
            or wrap.kind is not WrapKind.DISTRIBUTED
            or wrap.keywords.get("broadcast_buffers") is not False
            or moment.wrapped(wrap.model, WrapKind.SYNC_BATCH_NORM) is not False
            or wrap.site in seen
            or wrap.model.shares_statistics
        ):
            continue
        sure = assurance(wrap.model)
        if sure is not None and not only_evaluated(timeline, wrap.model):
            seen.add(wrap.site)
            yield Match(
                wrap.site,
                f"with broadcast_buffers=False each process keeps BatchNorm statistics of its own "
                f"for {called(wrap.model)}: what is evaluated or saved depends on the rank",
                "convert to SyncBatchNorm, average the buffers before evaluation, "
                "or leave broadcast_buffers on",
                sure,
            )

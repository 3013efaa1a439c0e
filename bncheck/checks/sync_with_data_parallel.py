"""BN404: SyncBatchNorm below DataParallel."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.checks import check
from bncheck.events import Escape, Model, ProcessGroup, Wrap, WrapKind
from bncheck.findings import Confidence, Match
from bncheck.graph import Site
from bncheck.naming import called
from bncheck.paths import Moment, moments
from bncheck.timeline import Branch, Timeline
from bncheck.usage import only_evaluated

_BOTH = {
    WrapKind.DATA_PARALLEL: WrapKind.SYNC_BATCH_NORM,
    WrapKind.SYNC_BATCH_NORM: WrapKind.DATA_PARALLEL,
}


@check("BN404", Timeline)
def sync_with_data_parallel(timeline: Timeline) -> Iterator[Match]:
    """Yield each call that puts SyncBatchNorm and DataParallel on the same model."""
    seen: set[Site] = set()
    has_threads = any(wrap.kind is WrapKind.DATA_PARALLEL for _, wrap in timeline.of(Wrap))
    for moment in moments(timeline) if has_threads else ():
        wrap = moment.event
        if not isinstance(wrap, Wrap) or wrap.kind not in _BOTH or wrap.site in seen:
            continue
        sure = _together(timeline, moment, wrap.model, _BOTH[wrap.kind])
        if (
            sure is Confidence.POSSIBLE
            and not _distributes(timeline, wrap.model)
            and not _asks_the_same(timeline, moment, wrap)
        ):
            # Nothing chooses between one process and several: both conditions can hold.
            sure = Confidence.LIKELY
        if sure is None or timeline.said.convert_by_themselves:
            continue  # Norms of the project's own may well synchronise threads.
        seen.add(wrap.site)
        yield Match(
            wrap.site,
            f"{called(wrap.model)} has SyncBatchNorm layers below DataParallel, whose copies are "
            "threads of one process: nothing is synchronised, and without a process group "
            "training on several GPUs fails or falls back to BatchNorm",
            "use DistributedDataParallel, or keep BatchNorm",
            sure,
        )


def _distributes(timeline: Timeline, model: Model) -> bool:
    """Tell whether processes share the model, or code that is not seen may have it."""
    wrapped = [e.model for _, e in timeline.of(Wrap) if e.kind is WrapKind.DISTRIBUTED]
    handed = [event.model for _, event in timeline.of(Escape)]
    return bool(timeline.of(ProcessGroup)) or any(
        model.within(other) or other.within(model) for other in wrapped + handed
    )


def _asks_the_same(timeline: Timeline, moment: Moment, wrap: Wrap) -> bool:
    """Tell whether both calls stand behind one question, as in `if not sync:` and `if sync:`."""
    own = {b.condition for b in moment.occurrence.inside if isinstance(b, Branch)}
    return any(
        isinstance(block, Branch)
        and block not in moment.occurrence.inside
        and block.condition in own
        for occurrence, event in timeline.of(Wrap)
        if event.kind is _BOTH[wrap.kind] and event.model is wrap.model
        for block in occurrence.inside
    )


def _together(
    timeline: Timeline, moment: Moment, model: Model, other: WrapKind
) -> Confidence | None:
    if model.holds_batch_norm is False:
        return None
    if other is WrapKind.SYNC_BATCH_NORM and "SyncBatchNorm" in model.norm_kinds:
        # A project's own class of that name may well synchronise threads, a script may put another
        # class into the network's module, and in eval mode nothing is synchronised at all.
        said = timeline.said
        if said.defining("SyncBatchNorm") or timeline.path in said.scripts_that_replace_norms:
            return None
        return None if only_evaluated(timeline, model) else Confidence.LIKELY
    match moment.wrapped(model, other):
        case True:
            return Confidence.PROVEN
        case None:
            return Confidence.POSSIBLE
    return None

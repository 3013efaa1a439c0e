"""BN304: one sample through BatchNorm in train mode."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.checks import check
from bncheck.events import ForwardCall, Mode, Model
from bncheck.findings import Confidence, Match, Severity
from bncheck.graph import Site
from bncheck.naming import called
from bncheck.paths import assurance, moments, training_step
from bncheck.timeline import Timeline


@check("BN304", Timeline)
def single_sample_train(timeline: Timeline) -> Iterator[Match]:
    """Yield each forward call on a batch of one whose BatchNorm is in train mode."""
    if timeline.driven_by or all(call.batch_size != 1 for _, call in timeline.of(ForwardCall)):
        return
    seen: set[Site] = set()
    for moment in moments(timeline):
        forward = moment.event
        if (
            not isinstance(forward, ForwardCall)
            or forward.batch_size != 1
            or forward.site in seen
            or forward.model.driven_by
            or moment.modes(forward.model) != {Mode.TRAIN}
        ):
            continue
        loop = moment.occurrence.loader_loop
        loader = loop.loader if loop is not None else forward.loader
        if moment.occurrence.loops and loader is not None and loader.batch_size == 1:
            continue  # BN301's case.
        if forward.model.one_value_norm is True:
            seen.add(forward.site)
            yield Match(
                forward.site,
                f"one sample goes into {called(forward.model)} in train mode: a BatchNorm in it "
                "sees one value per channel and raises ValueError",
                "call eval() first, or pass a batch of at least two",
                # Made-up input is often a look at shapes, in code that nobody runs any more.
                Confidence.LIKELY if forward.made_up_input else Confidence.PROVEN,
                severity=Severity.ERROR,
            )
            continue
        if forward.made_up_input or _is_synchronised(forward.model):
            continue  # A look at shapes, not a training step; or one sample to each process.
        sure = assurance(forward.model)
        if sure is not None and training_step(moment.occurrence, timeline):
            seen.add(forward.site)
            yield Match(
                forward.site,
                f"{called(forward.model)} is trained on one sample at a time: its BatchNorm "
                "normalises each by its own statistics alone",
                "train on batches, freeze the statistics, or use GroupNorm",
                sure,
            )


def _is_synchronised(model: Model) -> bool:
    """Tell whether all BatchNorm of a network takes its statistics from several processes."""
    kinds = model.norm_kinds
    return (
        model.synchronised
        or "Sync" in model.type_name.rpartition(".")[2]
        or bool(kinds and all("Sync" in kind for kind in kinds))
    )

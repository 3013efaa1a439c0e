"""BN206: `train()` on a whole model to keep dropout on at prediction."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bncheck.checks import check
from bncheck.events import ForwardCall, Mode, ModeChange, Target
from bncheck.findings import Confidence, Match
from bncheck.mode_flow import mode_flow
from bncheck.timeline import Occurrence, Timeline
from bncheck.usage import confidence, in_training_step, managed

_DROPOUT = re.compile(
    r"(?:^|[_\W])mc(?:[_\W]|$)|mcd|monte|dropout|bayes|uncertain|stochastic|epistemic|"
    r"n_?samples|num_?samples|n_?passes|forward_?passes|n_?mc",
    re.IGNORECASE,
)


@check("BN206", Timeline)
def mc_dropout_flips_norm(timeline: Timeline) -> Iterator[Match]:
    """Yield each prediction in train mode that is so for its dropout."""
    for occurrence, event in timeline.of(ForwardCall) if timeline.of(ModeChange) else ():
        if managed(timeline, event.model):
            continue
        if occurrence.gradient is not False or in_training_step(occurrence) or event.discarded:
            continue
        if not _speaks_of_dropout(timeline, occurrence):
            continue
        facts = mode_flow(timeline).before(event)
        switched = any(
            isinstance(fact.since, ModeChange)
            and fact.mode is Mode.TRAIN
            and fact.since.target is Target.WHOLE
            and not fact.trained
            for fact in facts
        )
        kept = any(
            isinstance(fact.since, ModeChange)
            and fact.mode is Mode.EVAL
            and fact.since.target is Target.NORMS
            for fact in facts
        )
        known = confidence(timeline, event.model, Confidence.LIKELY)
        if switched and not kept and known is not None:
            yield Match(
                event.site,
                f"`{event.model.name}` predicts in train mode, to keep dropout on; but BatchNorm "
                "then uses batch statistics too, and they move",
                "call eval() on the model, then train() on its dropout modules only",
                confidence=known,
            )


def _speaks_of_dropout(timeline: Timeline, occurrence: Occurrence) -> bool:
    names = [timeline.name, timeline.path.rpartition("/")[2], *occurrence.functions]
    names += [loop.over for loop in occurrence.loops]
    return any(_DROPOUT.search(name) for name in names)

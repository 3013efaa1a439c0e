"""BN206: `train()` on a whole model to keep dropout on at prediction."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bncheck.checks import check
from bncheck.events import Event, ForwardCall, Mode, ModeChange, Target
from bncheck.findings import Confidence, Match
from bncheck.mode_flow import mode_flow
from bncheck.naming import called
from bncheck.timeline import Branch, Context, Loop, Occurrence, Timeline
from bncheck.usage import confidence, in_training_step, is_generator, is_other_way, managed

_DROPOUT = re.compile(
    r"(?:^|[_\W])mc(?:[_\W]|$)|mcd|monte|dropout|bayes|uncertain|stochastic|epistemic|"
    r"n_?samples|num_?samples|n_?passes|forward_?passes|n_?mc",
    re.IGNORECASE,
)


@check("BN206", Timeline)
def mc_dropout_flips_norm(timeline: Timeline) -> Iterator[Match]:
    """Yield each prediction in train mode that is so for its dropout."""
    switches: dict[Event | None, Occurrence] = {e: found for found, e in timeline.of(ModeChange)}
    for occurrence, event in timeline.of(ForwardCall) if switches else ():
        if managed(timeline, event.model):
            continue
        if occurrence.gradient is not False or in_training_step(occurrence) or event.discarded:
            continue
        if not samples_dropout(timeline, occurrence, event):
            continue
        facts = mode_flow(timeline).before(event)
        switched = any(
            isinstance(fact.since, ModeChange)
            and fact.mode is Mode.TRAIN
            and fact.since.target is Target.WHOLE
            and not fact.trained
            and not is_other_way(switches[fact.since], occurrence)
            for fact in facts
        )
        known = confidence(timeline, event.model, Confidence.LIKELY)
        if known is not None and is_generator(event.model):
            known = Confidence.POSSIBLE
        kept = any(
            isinstance(fact.since, ModeChange)
            and fact.mode is Mode.EVAL
            and fact.since.target is Target.NORMS
            for fact in facts
        )
        if switched and not kept and known is not None:
            yield Match(
                event.site,
                f"{called(event.model)} predicts in train mode, to keep dropout on; but BatchNorm "
                "then uses batch statistics too, and they move",
                "call eval() on the model, then train() on its dropout modules only",
                confidence=known,
            )


def samples_dropout(timeline: Timeline, occurrence: Occurrence, event: ForwardCall) -> bool:
    """Tell whether a call repeats itself, or is in code that says it is about dropout."""
    since = {fact.since for fact in mode_flow(timeline).before(event)}
    switches = (found for found, change in timeline.of(ModeChange) if change in since)
    return _repeats(occurrence, event) or _speaks_of_dropout(timeline, [occurrence, *switches])


def _repeats(occurrence: Occurrence, event: ForwardCall) -> bool:
    """Tell whether a loop that counts gives the model the same input in each round."""
    match [block for block in occurrence.inside if not isinstance(block, Context)]:
        case [*_, Loop(over=over, binds=binds)]:
            counts = "range" in over.split()
            return counts and bool(event.arguments) and binds.isdisjoint(event.arguments)
    return False


def _speaks_of_dropout(timeline: Timeline, around: list[Occurrence]) -> bool:
    """Tell whether what stands around a call, or the `train()` before it, is about dropout."""
    names = [timeline.name, timeline.path.rpartition("/")[2], *around[0].functions]
    for occurrence in around:
        for block in occurrence.inside:
            match block:
                case Loop(over=name) | Branch(condition=name):
                    names.append(name)
    return any(_DROPOUT.search(name) for name in names)

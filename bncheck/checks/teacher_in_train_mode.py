"""BN205: a frozen teacher or backbone whose BatchNorm still moves."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bncheck.checks import check
from bncheck.findings import Confidence, Match
from bncheck.mode_flow import Facts, mode_flow
from bncheck.timeline import (
    AverageUpdate,
    Copied,
    ForwardCall,
    Mode,
    ModeChange,
    Model,
    Occurrence,
    RequiresGrad,
    Timeline,
)
from bncheck.usage import (
    confidence,
    events_on,
    has_weights,
    in_training_loop,
    is_optimized,
    managed,
    speaks_of_evaluation,
)

_AVERAGE = re.compile(r"ema|momentum|target|(?:^|_)key|_k$|average|swa|slow", re.IGNORECASE)


@check("BN205", Timeline)
def teacher_in_train_mode(timeline: Timeline) -> Iterator[Match]:
    """Yield forward calls without gradients, in a training step, of an untrained model."""
    flow = mode_flow(timeline)
    occurrences = timeline.occurrences()
    for occurrence in occurrences:
        event = occurrence.event
        if not isinstance(event, ForwardCall) or event.discarded:
            continue
        if occurrence.gradient is not False or not in_training_loop(occurrence):
            continue
        model = event.model
        if speaks_of_evaluation(event.arguments) or managed(timeline, model):
            continue
        if not _stays_in_train_mode(model, flow.before(event)):
            continue
        if _is_trained(timeline, model, occurrences) or not _is_fixed(timeline, model):
            continue
        known = confidence(timeline, model, Confidence.LIKELY)
        if known is not None:
            yield Match(
                event.site,
                f"`{model.name}` runs without gradients in the training step, but is in train "
                "mode: BatchNorm normalises by the batch, and its statistics drift",
                f"call `{model.name}.eval()` before the loop, and after every train() of a parent",
                confidence=known,
            )


def _stays_in_train_mode(model: Model, facts: Facts) -> bool:
    """Tell whether no path sets eval mode, and none says `train()` of this very model."""
    return bool(facts) and all(
        fact.mode is Mode.TRAIN
        and not (isinstance(fact.since, ModeChange) and fact.since.model is model)
        for fact in facts
    )


def _is_trained(timeline: Timeline, model: Model, occurrences: list[Occurrence]) -> bool:
    if is_optimized(timeline, model):
        return True
    return any(
        isinstance(o.event, ForwardCall)
        and o.event.model is model
        and o.gradient is not False
        and in_training_loop(o)
        for o in occurrences
    )


def _is_fixed(timeline: Timeline, model: Model) -> bool:
    """Tell whether a model has weights of its own, and is no average of another."""
    if _AVERAGE.search(model.name):
        return False
    frozen = has_weights(timeline, model)
    for event in events_on(timeline, model):
        if isinstance(event, Copied | AverageUpdate) and event.model is model:
            return False
        if isinstance(event, RequiresGrad) and event.value is False:
            frozen = True
    return frozen

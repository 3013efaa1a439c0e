"""BN205: a frozen teacher or backbone whose BatchNorm still moves."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bncheck.checks import check
from bncheck.events import (
    AverageUpdate,
    Copied,
    ForwardCall,
    Mode,
    ModeChange,
    Model,
    OptimizerBuilt,
    RequiresGrad,
    Target,
)
from bncheck.findings import Confidence, Match
from bncheck.mode_flow import Facts, mode_flow
from bncheck.timeline import Timeline
from bncheck.usage import (
    confidence,
    events_on,
    has_weights,
    in_training_loop,
    in_training_step,
    is_optimized,
    managed,
    speaks_of_evaluation,
)

_AVERAGE = re.compile(r"ema|momentum|target|(?:^|_)key|_k$|average|swa|slow", re.IGNORECASE)


@check("BN205", Timeline)
def teacher_in_train_mode(timeline: Timeline) -> Iterator[Match]:
    """Yield forward calls in a training step of a model that takes no gradient from it."""
    for occurrence, event in timeline.of(ForwardCall):
        if event.discarded:
            continue
        model = event.model
        if not in_training_step(occurrence):
            continue
        if occurrence.gradient is not False and not (
            _takes_no_gradient(timeline, model) and has_weights(timeline, model)
        ):
            continue
        if speaks_of_evaluation(event.arguments) or managed(timeline, model):
            continue
        if not _stays_in_train_mode(model, mode_flow(timeline).before(event)):
            continue
        if _is_trained(timeline, model) or not _is_fixed(timeline, model):
            continue
        known = confidence(timeline, model, Confidence.LIKELY)
        if known is not None:
            yield Match(
                event.site,
                f"`{model.name}` is fixed while the training step runs it, but it is in train "
                "mode: BatchNorm normalises by the batch, and its statistics drift",
                f"call `{model.name}.eval()` before the loop, and after every train() of a parent",
                confidence=known,
            )


def _takes_no_gradient(timeline: Timeline, model: Model) -> bool:
    """Tell whether all of a model's parameters are frozen for good, while others are trained."""
    if not timeline.of(OptimizerBuilt):
        return False
    switched = [event for _, event in timeline.of(RequiresGrad) if event.model is model]
    return bool(switched) and all(
        event.value is False and event.target is Target.WHOLE for event in switched
    )


def _stays_in_train_mode(model: Model, facts: Facts) -> bool:
    """Tell whether no path sets eval mode, and none says `train()` of this very model."""
    return bool(facts) and all(
        fact.mode is Mode.TRAIN
        and not (isinstance(fact.since, ModeChange) and fact.since.model is model)
        for fact in facts
    )


def _is_trained(timeline: Timeline, model: Model) -> bool:
    if is_optimized(timeline, model):
        return True
    return not _takes_no_gradient(timeline, model) and any(
        event.model is model and occurrence.gradient is not False and in_training_loop(occurrence)
        for occurrence, event in timeline.of(ForwardCall)
    )


def _is_fixed(timeline: Timeline, model: Model) -> bool:
    """Tell whether a model has weights of its own, and is no average of another."""
    if _AVERAGE.search(model.name):
        return False
    frozen = has_weights(timeline, model)
    if any(event.model is model for event in events_on(timeline, model, Copied, AverageUpdate)):
        return False
    return frozen or any(e.value is False for e in events_on(timeline, model, RequiresGrad))

"""Which networks a training step runs in train mode though it does not train them.

This module imports neither libcst nor torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

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
from bncheck.findings import Confidence
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
_SNAPSHOT = re.compile(r"(?:^|[._])(?:old|prev(?:ious)?|past|last)(?:_|$)|_old$", re.IGNORECASE)
"""Copies of what a network was before the task at hand, which nothing averages."""
_STUDENT = re.compile(r"student|(?:^|[._])(?:s_?net|s_?model|(?:net|model)_?s)$", re.IGNORECASE)
_TEACHER = re.compile(r"teacher|(?:^|[._])(?:t_?net|t_?model|(?:net|model)_?t)$", re.IGNORECASE)


def teachers(timeline: Timeline) -> Iterator[tuple[ForwardCall, Confidence]]:
    """Yield each forward call in a training step of a network that takes no gradient from it.

    It is in train mode there, and holds BatchNorm as surely as the confidence says.
    """
    for occurrence, event in timeline.of(ForwardCall):
        if event.discarded:
            continue
        model = event.model
        if not in_training_step(occurrence):
            continue
        if occurrence.gradient is not False and not _only_gives_targets(timeline, model):
            continue
        if speaks_of_evaluation(event.arguments) or managed(timeline, model):
            continue
        if not _stays_in_train_mode(timeline, model, mode_flow(timeline).before(event)):
            continue
        if _is_trained(timeline, model) or not is_fixed(timeline, model):
            continue
        known = confidence(timeline, model, Confidence.LIKELY)
        if known is not None:
            yield event, known


def _only_gives_targets(timeline: Timeline, model: Model) -> bool:
    """Tell whether a loaded model is no part of what the optimizers train, though run with grads.

    Either its parameters are frozen, or it is called a teacher and no optimizer is given any.
    """
    if not has_weights(timeline, model):
        return False
    called = bool(timeline.of(OptimizerBuilt)) and is_called_teacher(model)
    return called or _takes_no_gradient(timeline, model)


def is_called_teacher(model: Model) -> bool:
    """Tell whether a name of a model says that it is a teacher, and none that it learns."""
    return any(map(_TEACHER.search, model.names)) and not any(map(_STUDENT.search, model.names))


def _takes_no_gradient(timeline: Timeline, model: Model) -> bool:
    """Tell whether all of a model's parameters are frozen for good, while others are trained."""
    if not timeline.of(OptimizerBuilt):
        return False
    switched = [event for _, event in timeline.of(RequiresGrad) if event.model is model]
    return bool(switched) and all(
        event.value is False and event.target is Target.WHOLE for event in switched
    )


def _stays_in_train_mode(timeline: Timeline, model: Model, facts: Facts) -> bool:
    """Tell whether no path sets eval mode, and none says `train()` of this very model."""
    return bool(facts) and all(
        fact.mode is Mode.TRAIN
        and not (isinstance(fact.since, ModeChange) and _is_said_of(timeline, model, fact.since))
        for fact in facts
    )


def _is_said_of(timeline: Timeline, model: Model, change: ModeChange) -> bool:
    """Tell whether a `train()` is of one model alone: a loop says it of all that a list has."""
    return change.model is model and all(
        other.model is model for _, other in timeline.of(ModeChange) if other.site == change.site
    )


def _is_trained(timeline: Timeline, model: Model) -> bool:
    if is_optimized(timeline, model) and not _gives_no_gradient(timeline, model):
        return True
    return not _only_gives_targets(timeline, model) and any(
        event.model is model and occurrence.gradient is not False and in_training_loop(occurrence)
        for occurrence, event in timeline.of(ForwardCall)
    )


def _gives_no_gradient(timeline: Timeline, model: Model) -> bool:
    """Tell whether a part runs without gradients only, though an optimizer is given the whole."""
    given = any(event.model is model for _, event in timeline.of(OptimizerBuilt))
    runs = [found for found, event in timeline.of(ForwardCall) if event.model is model]
    return (
        model.parent is not None
        and not given
        and bool(runs)
        and all(found.gradient is False for found in runs)
    )


def is_fixed(timeline: Timeline, model: Model) -> bool:
    """Tell whether a model has weights of its own, or a network's old ones, and is no average."""
    if any(map(_AVERAGE.search, model.names)):
        return False
    frozen = has_weights(timeline, model)
    kinds = (AverageUpdate,) if any(map(_SNAPSHOT.search, model.names)) else (Copied, AverageUpdate)
    if any(event.model is model for event in events_on(timeline, model, *kinds)):
        return False
    return frozen or any(e.value is False for e in events_on(timeline, model, RequiresGrad))

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
from bncheck.timeline import Entry, Timeline
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
_TEACHER = re.compile(r"teacher|(?:^|[._])(?:t_?net|t_?model|(?:net|model)_?t)$", re.IGNORECASE)


@check("BN205", Timeline)
def teacher_in_train_mode(timeline: Timeline) -> Iterator[Match]:
    """Yield forward calls in a training step of a model that takes no gradient from it."""
    if timeline.driven_by:
        yield from _in_lightning(timeline)
        return
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
        if not _stays_in_train_mode(model, mode_flow(timeline).before(event)):
            continue
        if _is_trained(timeline, model) or not _is_fixed(timeline, model):
            continue
        known = confidence(timeline, model, Confidence.LIKELY)
        if known is not None:
            yield _match(event, known)


def _match(event: ForwardCall, known: Confidence) -> Match:
    name = event.model.name
    return Match(
        event.site,
        f"`{name}` is fixed while the training step runs it, but it is in train "
        "mode: BatchNorm normalises by the batch, and its statistics drift",
        f"call `{name}.eval()` before the loop, and after every train() of a parent",
        confidence=known,
    )


def _in_lightning(timeline: Timeline) -> Iterator[Match]:
    """Yield what a LightningModule's `training_step` runs with trained weights and no gradient.

    The trainer leaves the mode of a new network alone, or calls `train()` of all there is. What a
    constructor of a single network freezes is BN212's, which says it of any part but a teacher.
    """
    if not timeline.leaves_modes_alone or timeline.entry is not Entry.METHOD:
        return
    if any(change.mode is not Mode.TRAIN for _, change in timeline.of(ModeChange)):
        return
    for occurrence, event in timeline.of(ForwardCall):
        model = event.model
        if (
            any(name.endswith(".training_step") for name in occurrence.functions)
            and model.holds_batch_norm is True
            and model.starts_in_eval is False
            and model.overrides_train is False
            and (occurrence.gradient is False or _is_teacher(timeline, model))
            and has_weights(timeline, model)
            and not speaks_of_evaluation(event.arguments)
            and _is_fixed(timeline, model)
        ):
            yield _match(event, Confidence.LIKELY)


def _is_teacher(timeline: Timeline, model: Model) -> bool:
    """Tell whether a model is called a teacher, and takes no gradient for good."""
    switched = [event for _, event in timeline.of(RequiresGrad) if event.model is model]
    stopped = bool(switched) and all(e.value is False for e in switched)
    return stopped and "teacher" in model.name.lower()


def _only_gives_targets(timeline: Timeline, model: Model) -> bool:
    """Tell whether a loaded model is no part of what the optimizers train, though run with grads.

    Either its parameters are frozen, or it is called a teacher and no optimizer is given any.
    """
    if not has_weights(timeline, model):
        return False
    called = bool(timeline.of(OptimizerBuilt)) and bool(_TEACHER.search(model.name))
    return called or _takes_no_gradient(timeline, model)


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
    return not _only_gives_targets(timeline, model) and any(
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

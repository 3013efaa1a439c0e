"""BN205: a frozen teacher or backbone whose BatchNorm still moves."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.checks import check
from bncheck.checks.freeze_undone import freeze_undone
from bncheck.events import ForwardCall, Mode, ModeChange, Model, RequiresGrad
from bncheck.findings import Confidence, Match
from bncheck.naming import called
from bncheck.teachers import is_called_teacher, is_fixed, teachers
from bncheck.timeline import Entry, Timeline
from bncheck.usage import has_weights, speaks_of_evaluation


@check("BN205", Timeline)
def teacher_in_train_mode(timeline: Timeline) -> Iterator[Match]:
    """Yield forward calls in a training step of a model that takes no gradient from it."""
    if timeline.driven_by:
        yield from _in_lightning(timeline)
        return
    found = list(teachers(timeline))
    undone = _told_as_undone(timeline) if found else ()
    for event, known in found:
        if not any(map(event.model.within, undone)):
            yield _match(event, known)


def _told_as_undone(timeline: Timeline) -> tuple[Model, ...]:
    """Return the networks of whose freeze BN211 says what there is to say."""
    told = {m.site for m in freeze_undone(timeline) if m.confidence is not Confidence.POSSIBLE}
    return tuple(
        change.model
        for _, change in timeline.of(ModeChange)
        if change.mode is Mode.EVAL and change.site in told
    )


def _match(event: ForwardCall, known: Confidence) -> Match:
    names = event.model.names
    name = next((name for name in names if name.startswith("self.")), names[0])
    return Match(
        event.site,
        f"{called(event.model)} is fixed while the training step runs it, but it is in train "
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
            and is_fixed(timeline, model)
        ):
            yield _match(event, Confidence.LIKELY)


def _is_teacher(timeline: Timeline, model: Model) -> bool:
    """Tell whether a model is called a teacher, and takes no gradient for good."""
    switched = [event for _, event in timeline.of(RequiresGrad) if event.model is model]
    stopped = bool(switched) and all(e.value is False for e in switched)
    return stopped and is_called_teacher(model)

"""What the models of a timeline are used for, in terms that several checks share."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TypeVar

from bncheck.events import (
    BackwardCall,
    Event,
    Exit,
    Leave,
    LoadWeights,
    Mode,
    ModeChange,
    Model,
    ModelEvent,
    OptimizerBuilt,
    OptimizerStep,
    Origin,
)
from bncheck.findings import Confidence
from bncheck.timeline import (
    Branch,
    Call,
    Context,
    Loop,
    Occurrence,
    Step,
    Timeline,
    children,
    occurrences,
    trains,
)

_GENERATOR = re.compile(
    r"(?:^|[._])(?:g|net_?g|model_?g|gen|generator)(?:_?\d|_\w\w?)?$", re.IGNORECASE
)
AnyModelEvent = TypeVar("AnyModelEvent", bound=ModelEvent)

_EVALUATION = re.compile(
    r"(?:^|_|\b)(?:val|valid|validation|test|testing|eval|evaluation|dev|infer|inference|predict|"
    r"prediction|demo|query|gallery)(?:_|\b|$|loader|set|iter|data|dl|dataloader)",
    re.IGNORECASE,
)


def root(model: Model) -> Model:
    """Return the model that this is a part of, itself perhaps."""
    while model.parent is not None:
        model = model.parent
    return model


def is_generator(model: Model) -> bool:
    """Tell whether a network is called a generator: many sample one as it was trained, on purpose.

    What it draws is noise, so it gives another answer each time without any dropout.
    """
    return _GENERATOR.search(model.name) is not None


def managed(timeline: Timeline, model: Model) -> bool:
    """Tell whether a framework drives the mode of a model here."""
    return bool(timeline.driven_by or model.driven_by or root(model).driven_by)


def only_evaluated(timeline: Timeline, model: Model) -> bool:
    """Tell whether a model is put in eval mode and never in train mode: no statistics move.

    A constructor that puts a part of it in eval mode is enough.
    """
    modes = {
        event.mode
        for _, event in timeline.of(ModeChange)
        if model.within(event.model) or event.model.within(model)
    }
    return modes == {Mode.EVAL}


def runs_by_hand(timeline: Timeline, occurrence: Occurrence, model: Model) -> bool:
    """Tell whether a script runs a LightningModule that it has loaded, and no trainer does.

    What the module's own hooks run is a trainer's matter, and its forward pass is not.
    """
    whole = root(model)
    if timeline.driven_by or whole.driven_by != "lightning" or whole.origin is not Origin.PROJECT:
        return False
    own = whole.type_name.rpartition(".")[2]
    called = [name for name in occurrence.functions if name.partition(".")[0] == own]
    return all(name.endswith(".forward") for name in called) and has_weights(timeline, whole)


def speaks_of_evaluation(names: str | tuple[str, ...]) -> bool:
    """Tell whether names such as `val_loader` say that something is for evaluation."""
    words = names.split() if isinstance(names, str) else names
    return any(_EVALUATION.search(_snake(word)) for word in words)


_EVALUATES = re.compile(
    r"(?:^|[._])(?:eval|evaluate|evaluation|val|valid|validate|validation|test|testing|infer|"
    r"inference|predict|prediction)(?:_|\d*$)"
)


def _snake(word: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", word)


def in_training_loop(occurrence: Occurrence) -> bool:
    """Tell whether the innermost loop around it makes training steps.

    One that runs without gradients as a whole makes none, whatever it does elsewhere.
    """
    loops = occurrence.loops
    return (
        bool(loops)
        and makes_training_steps(loops[-1])
        and occurrence.gradient_around(loops[-1]) is not False
    )


_ATTACK = re.compile(
    r"attack|pgd|fgsm|adversar|perturb|whitebox|(?:^|[._])adv(?:_|$)", re.IGNORECASE
)


def makes_training_steps(loop: Loop) -> bool:
    """Tell whether a loop trains; an attack on evaluation data learns its input, not the model."""
    if not trains(loop.steps):
        return False
    evaluates = loop.loader is not None and loop.loader.training is False
    if not evaluates and not speaks_of_evaluation(loop.over):
        return True
    return not all(
        any(map(_ATTACK.search, found.functions))
        for found in occurrences(loop.steps)
        if isinstance(found.event, BackwardCall | OptimizerStep)
    )


def in_training_step(occurrence: Occurrence) -> bool:
    """Tell whether it is part of a training step, in a loop of its own such as `range(T)` too.

    That loop may stand in the forward pass of a network that the step calls.
    """
    if in_training_loop(occurrence):
        return True
    around = [
        block
        for block in occurrence.inside
        if isinstance(block, Loop)
        or (isinstance(block, Call) and not block.function.endswith(".forward"))
    ]
    match around[-2:]:
        case [Loop() as outer, Loop(loader=None, over=over)]:
            return not speaks_of_evaluation(over) and _trains_beside(outer.steps)
        case [*_, Call(steps=steps)]:  # a step that a caller elsewhere repeats
            return _trains_beside(steps)
    return False


def is_evaluation_loop(occurrence: Occurrence) -> bool:
    """Tell whether a loop around it goes over evaluation data and makes no training step.

    That is the innermost one over a loader or over what is called so: one over the parts of a
    batch may stand in it. What is called `test_loader` is evaluation data though it be shuffled.
    """
    for loop in reversed(occurrence.loops):
        if makes_training_steps(loop):
            return False
        if loop.loader is not None and loop.loader.training is False:
            return True
        speaks = speaks_of_evaluation(loop.over)
        if loop.loader is not None:
            return speaks and not (loop.loader.training is True and "train" in loop.over.lower())
        if speaks:
            return True
    return False


def in_evaluation_function(occurrence: Occurrence) -> bool:
    """Tell whether a loop around it stands in a function that is named for evaluation.

    Neither that function trains, nor what calls it, beside the call: its result may be the loss.
    """
    inside = occurrence.inside
    calls = [position for position, block in enumerate(inside) if isinstance(block, Call)]
    if not calls:
        return False
    block = inside[calls[-1]]
    assert isinstance(block, Call)
    if block.trains or not _EVALUATES.search(_snake(block.function).lower()):
        return False
    if not any(isinstance(around, Loop) for around in inside[calls[-1] :]):
        return False
    outer = [around for around in inside[: calls[-1]] if isinstance(around, Loop | Call)]
    return not outer or not _trains_beside(outer[-1].steps)


def _trains_beside(steps: tuple[Step, ...]) -> bool:
    """Tell whether training stands in the steps, loops and calls left out."""
    return any(
        isinstance(step, BackwardCall | OptimizerStep)
        if isinstance(step, Event)
        else isinstance(step, Branch | Context) and any(map(_trains_beside, children(step)))
        for step in steps
    )


def may_train(timeline: Timeline, model: Model, occurrence: Occurrence) -> bool:
    """Tell whether a path through an occurrence trains, or gives an optimizer the model.

    What `if train: ... else: ...` does on the other way is no such path, unless a loop comes back.
    """
    others = [found for kind in (BackwardCall, OptimizerStep) for found, _ in timeline.of(kind)]
    others += [
        found
        for found, event in timeline.of(OptimizerBuilt)
        if event.model.within(model) or model.within(event.model)
    ]
    return any(not _is_an_alternative(found, occurrence) for found in others)


def _is_an_alternative(one: Occurrence, other: Occurrence) -> bool:
    """Tell whether a branch that no loop repeats lets only one of two events happen."""
    for depth, (block, same) in enumerate(zip(one.inside, other.inside, strict=False)):
        if block is not same or isinstance(block, Loop):
            return False
        if isinstance(block, Branch) and _way(block, one, depth) != _way(block, other, depth):
            return True
    return False


def is_other_way(one: Occurrence, other: Occurrence) -> bool:
    """Tell whether the same question lets only one of two events happen, asked at both perhaps."""
    answers = {
        block.condition: _way(block, one, depth)
        for depth, block in enumerate(one.inside)
        if isinstance(block, Branch) and block.condition
    }
    return any(
        isinstance(block, Branch)
        and block.condition in answers
        and answers[block.condition] != _way(block, other, depth)
        for depth, block in enumerate(other.inside)
    )


def _way(branch: Branch, occurrence: Occurrence, depth: int) -> int:
    """Return which alternative of a branch, at a depth of what is around it, holds an event."""
    path: tuple[Step, ...] = (*occurrence.inside, occurrence.event)
    held = path[depth + 1]
    return next(i for i, way in enumerate(branch.alternatives) if any(s is held for s in way))


def returns_at_its_end(branch: Branch, occurrence: Occurrence, depth: int) -> bool:
    """Tell whether the way of a branch that holds an event, at a depth around it, ends the run."""
    last = branch.alternatives[_way(branch, occurrence, depth)][-1]
    return isinstance(last, Leave) and last.exit in {Exit.RETURN, Exit.RAISE}


def events_on(
    timeline: Timeline, model: Model, *kinds: type[AnyModelEvent]
) -> Iterator[AnyModelEvent]:
    """Yield the events of some kinds on a model, on what it is a part of, and on its parts."""
    for kind in kinds:
        for _, event in timeline.of(kind):
            if event.model.within(model) or model.within(event.model):
                yield event


def has_weights(timeline: Timeline, model: Model) -> bool:
    """Tell whether a model is made with trained weights, or is given some."""
    current: Model | None = model
    while current is not None:
        if current.pretrained is True:
            return True
        current = current.parent
    return any(True for _ in events_on(timeline, model, LoadWeights))


def may_have_weights(timeline: Timeline, model: Model) -> bool:
    """Tell whether a model that was never trained is more than freshly made."""
    current: Model | None = model
    while current is not None:
        if current.pretrained is not False:
            return True
        current = current.parent
    kept = (part.pretrained is True for part in timeline.models if part.parent is model)
    return any(kept) or has_weights(timeline, model)


def is_optimized(timeline: Timeline, model: Model) -> bool:
    """Tell whether an optimizer is given any of the model's parameters."""
    return any(True for _ in events_on(timeline, model, OptimizerBuilt))


def turns_out_free(model: Model) -> bool:
    """Tell whether a network, or what it is a part of, applies no BatchNorm on a closer look.

    What a closer look at a network constructs lacks the library's network that it is given.
    """
    if model.confirm is not None and model.confirm() is False:
        return True
    if model.origin is Origin.ZOO and model.holds_batch_norm is True:
        return False
    return model.parent is not None and turns_out_free(model.parent)


def _is_chosen(model: Model) -> bool:
    """Tell whether settings choose a model of a library's, most of which hold BatchNorm."""
    unknown = model.holds_batch_norm is not False
    return model.origin is Origin.ZOO and not model.by_default and unknown


def confidence(timeline: Timeline, model: Model, known: Confidence) -> Confidence | None:
    """Return how sure a finding on a model is; None: it holds no BatchNorm.

    A model of which nothing is known gives no more than `POSSIBLE`. Of a library's models that
    only a run's settings choose from, most hold BatchNorm: a mistake around one, or around what
    keeps one, is a mistake for whoever chooses those.
    """
    if model.holds_batch_norm is False or root(model).holds_batch_norm is False:
        return None
    if model.holds_batch_norm is True and not timeline.is_test:
        return None if turns_out_free(model) else known
    whole = root(model)
    kept = [part for part in timeline.models if part.parent is whole] if model is whole else []
    if any(map(_is_chosen, (whole, model, *kept))) and not timeline.is_test:
        return max(known, Confidence.LIKELY, key=list(Confidence).index)
    return Confidence.POSSIBLE

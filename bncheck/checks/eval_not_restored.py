"""BN202: evaluation inside the training loop that leaves the model in eval mode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bncheck.checks import check
from bncheck.events import (
    BackwardCall,
    Escape,
    Event,
    ForwardCall,
    Mode,
    ModeChange,
    Model,
    OptimizerBuilt,
    OptimizerStep,
    Target,
)
from bncheck.findings import Confidence, Match
from bncheck.graph import Site
from bncheck.mode_flow import ModeFact, mode_flow
from bncheck.naming import called
from bncheck.timeline import Call, Loop, Occurrence, Step, Timeline, children, occurrences
from bncheck.usage import confidence, in_training_loop, is_optimized, managed


@check("BN202", Timeline)
def eval_not_restored(timeline: Timeline) -> Iterator[Match]:
    """Yield each training step that an `eval()` earlier in its loop is still in force at."""
    switches = {event: occurrence for occurrence, event in timeline.of(ModeChange)}
    optimizers = bool(timeline.of(OptimizerBuilt))
    if not optimizers and not timeline.of(OptimizerStep):
        return  # What goes backward asks for the gradient of an input, or for an attack.
    for occurrence, event in timeline.of(ForwardCall) if switches else ():
        if not _is_training_step(timeline, occurrence, event.model):
            continue
        model = event.model
        if managed(timeline, model) or (optimizers and not is_optimized(timeline, model)):
            continue
        facts = mode_flow(timeline).before(event)
        if not any(
            _begins_in_train_mode(model, fact) for fact in facts
        ) and not _was_only_evaluated(switches, model):
            continue
        undone = [
            fact
            for fact in facts
            if isinstance(fact.since, ModeChange)
            and fact.mode is Mode.EVAL
            and fact.carried
            and not fact.doubtful
            and fact.since.target is Target.WHOLE
            and fact.since in switches
            and _share_a_loop(switches[fact.since].loops, occurrence.loops)
            and not _chooses(switches[fact.since])
        ]
        known = confidence(timeline, model, Confidence.PROVEN) if undone else None
        if known is not None:
            yield Match(
                _site(occurrence),
                f"{called(model)} trains in eval mode after the first evaluation: an `eval()` in "
                "the training loop is never undone, and BatchNorm stops learning",
                f"call `{model.name}.train()` before the next training step",
                confidence=known,
            )


def _begins_in_train_mode(model: Model, fact: ModeFact) -> bool:
    """Tell whether a fact is train mode, or what a method starts with on a model of its class."""
    started = isinstance(fact.since, Escape) and not fact.since.function
    return fact.mode is Mode.TRAIN or (started and model.starts_in_eval is False)


def _was_only_evaluated(switches: Mapping[ModeChange, Occurrence], model: Model) -> bool:
    """Tell whether only helpers that evaluate put a model, or what it is a part of, in eval mode.

    Outside of them it is asked for, as in fine-tuning with frozen statistics.
    """
    into_eval = [
        occurrence
        for change, occurrence in switches.items()
        if model.within(change.model) and change.mode is Mode.EVAL
    ]
    return all(_evaluates(occurrence, model) for occurrence in into_eval)


def _evaluates(switch: Occurrence, model: Model) -> bool:
    calls = [block for block in switch.inside if isinstance(block, Call)]
    runs = [
        found.gradient
        for found in (occurrences(calls[-1].steps) if calls else ())
        if isinstance(found.event, ForwardCall) and model.within(found.event.model)
    ]
    return bool(runs) and all(gradient is False for gradient in runs)


def _is_training_step(timeline: Timeline, occurrence: Occurrence, model: Model) -> bool:
    """Tell whether an optimizer makes steps where the loop is: an attack's loop moves inputs."""
    if occurrence.gradient is False or not in_training_loop(occurrence):
        return False
    if not _goes_backward(occurrence.loops[-1].steps, model):
        return False
    around = occurrence.inside[: occurrence.inside.index(occurrence.loops[-1])]
    functions = [block for block in around if isinstance(block, Call)]
    if not functions or not timeline.of(OptimizerStep):
        return True
    return any(isinstance(o.event, OptimizerStep) for o in occurrences(functions[-1].steps))


def _goes_backward(steps: tuple[Step, ...], model: Model) -> bool:
    """Tell whether a loop makes steps of its own.

    What an inner loop does that runs the model too is that one's: an attack, or a search.
    """
    return any(
        isinstance(step, BackwardCall | OptimizerStep)
        if isinstance(step, Event)
        else step.trains
        and not (isinstance(step, Loop) and _runs(step, model))
        and any(_goes_backward(part, model) for part in children(step))
        for step in steps
    )


def _runs(loop: Loop, model: Model) -> bool:
    return any(
        isinstance(found.event, ForwardCall) and model.within(found.event.model)
        for found in occurrences(loop.steps)
    )


def _site(occurrence: Occurrence) -> Site:
    """Return where the training loop makes the step: it, and no helper, is what lacks `train()`."""
    inside = occurrence.inside
    loop = inside.index(occurrence.loops[-1])
    calls = [block for block in inside[loop:] if isinstance(block, Call)]
    return calls[0].site if calls else occurrence.event.site


def _chooses(switch: Occurrence) -> bool:
    """Tell whether a function that runs no network puts something in train mode beside the switch.

    It puts the model in one mode or in the other, or keeps it in eval mode while another trains.
    """
    calls = [block for block in switch.inside if isinstance(block, Call)]
    done = [found.event for found in occurrences(calls[-1].steps)] if calls else []
    return not any(isinstance(event, ForwardCall) for event in done) and any(
        isinstance(event, ModeChange) and event.mode is Mode.TRAIN for event in done
    )


def _share_a_loop(one: tuple[Loop, ...], other: tuple[Loop, ...]) -> bool:
    return any(loop in other for loop in one)

"""BN201: inference with a model that is in train mode."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from bncheck.checks import check
from bncheck.checks.mc_dropout_flips_norm import samples_dropout
from bncheck.events import (
    BackwardCall,
    ForwardCall,
    LoadWeights,
    Mode,
    ModeChange,
    Model,
    Origin,
    Target,
)
from bncheck.findings import Confidence, Fix, InsertLine, Match
from bncheck.graph import Site
from bncheck.mode_flow import Facts, ModeFact, mode_flow, usual_mode_flow
from bncheck.naming import called
from bncheck.timeline import Branch, Call, Context, Loop, Occurrence, Timeline, trains
from bncheck.usage import (
    confidence,
    has_weights,
    in_evaluation_function,
    in_training_loop,
    in_training_step,
    is_evaluation_loop,
    is_generator,
    managed,
    may_have_weights,
    may_train,
    returns_at_its_end,
    root,
    runs_by_hand,
    speaks_of_evaluation,
)

_RECALIBRATION = re.compile(
    r"recal|calib|precise|warm_?up|update_?(?:bn|batch_?norm)|bn_?update|_bn\b|bn_?stat|norm_?stat"
    r"|reset_",
    re.IGNORECASE,
)
_MEASUREMENT = re.compile(r"flops|macs|profil|latency|throughput|speed", re.IGNORECASE)
"""Functions that ask what a network costs, not what it says."""
_HELD_OUT = re.compile(
    r"(?:^|_)(?:val|valid|validation|test)(?:_?(?:set|data|dset|loader))?(?:_|$)"
)
_LATENT = re.compile(r"^(?:z|noise|latents?|fixed_?\w*|eps|codes?|seeds?)$", re.IGNORECASE)


_TARGETS = re.compile(r"target|label|annot|(?:^|_)gts?(?:_|$)|truth", re.IGNORECASE)
_ENCODER = re.compile(r"feature|backbone|encoder|extract|embed", re.IGNORECASE)
"""Trackers call the image of what they look for `z`, and no network that sees images decodes."""


@check("BN201", Timeline)
def missing_eval(timeline: Timeline) -> Iterator[Match]:
    """Yield each forward call for inference on a model that is in train mode on every path."""
    told: set[Site] = set()
    calls: set[Site] = set()
    causes: set[tuple[object, ...]] = set()
    for occurrence, event in timeline.of(ForwardCall):
        if event.discarded or _is_inside(occurrence, told):
            continue
        driven = managed(timeline, event.model)
        if driven and not runs_by_hand(timeline, occurrence, event.model):
            continue
        how = _inference(timeline, occurrence, event)
        if (
            how is None
            or _is_a_second_look(timeline, occurrence, event)
            or any(_RECALIBRATION.search(name) for name in occurrence.functions)
            or any(_MEASUREMENT.search(name) for name in occurrence.functions)
        ):
            continue
        flow = mode_flow(timeline)
        facts = flow.before(event)
        if any(map(_is_meant, facts)):
            continue
        sure = flow.never_in_eval(event) and not flow.parts_in_eval(event)
        usual = not sure and (
            _usually_in_train_mode(timeline, event, facts)
            or _undoes_eval(timeline, occurrence, event, facts)
        )
        trained = any(fact.trained or fact.trained_before for fact in facts)
        if not trained and not may_have_weights(timeline, event.model):
            continue
        if not (sure or usual or _loaded_here(timeline, event, facts)):
            continue
        known = confidence(timeline, event.model, Confidence.PROVEN if sure else Confidence.LIKELY)
        if known is Confidence.POSSIBLE and _loaded_here(timeline, event, facts):
            known = Confidence.LIKELY
        if known is not None and is_generator(event.model):
            known = Confidence.POSSIBLE
        if known is not None and not trained and _sees_what_it_will_train_on(timeline, occurrence):
            known = Confidence.POSSIBLE
        if known is None:
            continue
        cause = (root(event.model), _where(occurrence), frozenset(fact.since for fact in facts))
        if known is not Confidence.POSSIBLE:
            told.add(event.site)
            # One `eval()` before the loop, or at the function's start, mends all of its calls.
            if cause in causes:
                continue
            causes.add(cause)
        site, model, fix = event.site, event.model, _fix(timeline, occurrence, event)
        call = _own_method(occurrence, event.model)
        if call is not None:
            if call.site in calls:
                continue
            calls.add(call.site)
            site, model, fix = call.site, root(event.model), None
        yield Match(
            site,
            f"{called(model)} runs {how} but is in train mode: its BatchNorm normalises "
            "by this batch, and moves its running statistics",
            f"call `{model.name}.eval()` first",
            confidence=known,
            fix=fix,
        )


def _sees_what_it_will_train_on(timeline: Timeline, occurrence: Occurrence) -> bool:
    """Tell whether a loop outside of evaluation takes the batches of the training loop to come.

    Memory banks and first assignments to clusters are filled so, in the mode that training has.
    """
    event = occurrence.event
    if not isinstance(event, ForwardCall) or event.loader is None:
        return False
    return not in_evaluation_function(occurrence) and any(
        call.loader is event.loader
        and root(call.model) is root(event.model)
        and in_training_step(found)
        for found, call in timeline.of(ForwardCall)
    )


def _where(occurrence: Occurrence) -> Site | None:
    """Return the innermost loop or function that it stands in."""
    blocks = (block for block in reversed(occurrence.inside) if isinstance(block, Loop | Call))
    return next((block.site for block in blocks), None)


def _own_method(occurrence: Occurrence, model: Model) -> Call | None:
    """Return the call of another forward of a network, `features` say, that runs a part of it.

    A method that evaluates, with a loop or without gradients, is none.
    """
    whole = root(model)
    if whole is model or whole.origin is not Origin.PROJECT:
        return None
    own = whole.type_name.rpartition(".")[2]
    for position, block in enumerate(occurrence.inside):
        if isinstance(block, Call) and block.function.partition(".")[0] == own:
            name = block.function.rpartition(".")[2]
            within = occurrence.inside[position:]
            evaluates = any(isinstance(inner, Context | Loop) for inner in within)
            return None if evaluates or name.startswith("__") or name == "forward" else block
    return None


def _is_inside(occurrence: Occurrence, told: set[Site]) -> bool:
    """Tell whether a network that a finding tells of makes the call in its own forward."""
    return any(
        isinstance(block, Call) and block.site in told and block.function.endswith(".forward")
        for block in occurrence.inside
    )


def _is_a_second_look(timeline: Timeline, occurrence: Occurrence, event: ForwardCall) -> bool:
    """Tell whether a condition asks for the call, which is made in eval mode beside it as well.

    What runs instead of all that comes behind it, and returns, is no second look.
    """
    flow = mode_flow(timeline)
    branches = [
        block
        for depth, block in enumerate(occurrence.inside)
        if isinstance(block, Branch) and not returns_at_its_end(block, occurrence, depth)
    ]
    for other, call in timeline.of(ForwardCall) if branches else ():
        if call is event or call.site != event.site or call.model is not event.model:
            continue
        if not all(fact.mode is Mode.EVAL for fact in flow.before(call)):
            continue
        for branch in branches:
            around = occurrence.inside[: occurrence.inside.index(branch)]
            if branch not in other.inside and other.inside[: len(around)] == around:
                return True
    return False


def _is_meant(fact: ModeFact) -> bool:
    """Tell whether BatchNorm layers alone were put in train mode: to use the batch's statistics."""
    since = fact.since
    return (
        fact.mode is Mode.TRAIN and isinstance(since, ModeChange) and since.target is Target.NORMS
    )


def _usually_in_train_mode(timeline: Timeline, event: ForwardCall, facts: Facts) -> bool:
    """Tell whether only another setting may change the mode, and none is known to say `eval()`.

    Where a setting chooses between the modes, train mode is wanted as it stands.
    """
    said = [
        fact
        for fact in facts
        if fact.mode is Mode.EVAL
        and not (isinstance(fact.since, ModeChange) and fact.since.target is not Target.WHOLE)
    ]
    if said or not any(fact.mode is Mode.TRAIN for fact in facts):
        return False
    flow = usual_mode_flow(timeline)
    return flow.never_in_eval(event) and not flow.parts_in_eval(event)


def _undoes_eval(
    timeline: Timeline, occurrence: Occurrence, event: ForwardCall, facts: Facts
) -> bool:
    """Tell whether a `train()` takes back the `eval()` that this call, or what is around it, has.

    An `eval()` in a function that has returned may be what a loader does in any case, and a
    `train()` after it is then meant; so is one that samples with dropout, which is BN206's.
    """
    undone = {fact.undoes for fact in facts if fact.undoes is not None}
    if not undone or any(fact.mode is not Mode.TRAIN for fact in facts):
        return False
    if samples_dropout(timeline, occurrence, event):
        return False
    return any(
        found.event in undone
        and all(block in occurrence.inside for block in found.inside if isinstance(block, Call))
        for found, _ in timeline.of(ModeChange)
    )


def _loaded_here(timeline: Timeline, event: ForwardCall, facts: Facts) -> bool:
    """Tell whether an unknown factory's model is given weights and used in the same chain."""
    model = event.model
    if model.origin is not Origin.UNKNOWN or not timeline.shows_batch_norm:
        return False
    if model.holds_batch_norm is False or timeline.is_test:
        return False
    return (
        any(event.model is model for _, event in timeline.of(LoadWeights))
        and bool(facts)
        and all(fact.mode is not Mode.EVAL and fact.since is None for fact in facts)
    )


def _inference(timeline: Timeline, occurrence: Occurrence, event: ForwardCall) -> str | None:
    """Return how a forward call shows that it is inference; None: it may be training."""
    names = event.arguments
    if any(map(_LATENT.match, names)) and not _ENCODER.search(event.model.name):
        return None
    weights = has_weights(timeline, event.model)
    if (event.made_up_input and not weights) or _while_made(timeline, occurrence):
        return None
    if _asks_for_losses(event):
        return None
    if event.loader is not None and event.loader.training is False:
        loops = occurrence.loops
        if not in_training_loop(occurrence) or not (
            loops[-1].loader is event.loader or _is_learned_from(timeline, occurrence)
        ):
            return "on evaluation data"
    if occurrence.gradient is False:
        in_step = in_training_step(occurrence) or _comes_before_a_step(timeline, occurrence, event)
        if in_step and not (
            speaks_of_evaluation(names) or any(_HELD_OUT.search(name) for name in event.made_of)
        ):
            return None
        return "without gradients"
    if occurrence.gradient is True:
        if is_evaluation_loop(occurrence) or in_evaluation_function(occurrence):
            return "on evaluation data"
        if _is_given_evaluation_data(occurrence, event):
            return "on evaluation data"
        if weights and not may_train(timeline, event.model, occurrence) and not event.made_up_input:
            return "on loaded weights"
    return None


def _is_given_evaluation_data(occurrence: Occurrence, event: ForwardCall) -> bool:
    """Tell whether a loop that makes no training step runs the model on what is called `test_x`."""
    loops = occurrence.loops
    return bool(loops) and not trains(loops[-1].steps) and speaks_of_evaluation(event.arguments)


def _asks_for_losses(event: ForwardCall) -> bool:
    """Tell whether a detector of torchvision is given targets: only in train mode it has losses."""
    return event.model.type_name.startswith("torchvision.models.detection.") and any(
        map(_TARGETS.search, event.arguments)
    )


def _is_learned_from(timeline: Timeline, occurrence: Occurrence) -> bool:
    """Tell whether a backward pass comes after a call with gradients in the same round."""
    if occurrence.gradient is not True:
        return False
    everything = timeline.occurrences()
    later = everything[everything.index(occurrence) :]
    return any(
        isinstance(found.event, BackwardCall) and occurrence.loops[-1] in found.loops
        for found in later
    )


def _comes_before_a_step(timeline: Timeline, occurrence: Occurrence, event: ForwardCall) -> bool:
    """Tell whether the same round, or function, runs the network with gradients afterwards.

    Targets and pseudo labels are made so, by the network as it is about to train. One that has
    run with gradients before counts too, where a backward pass follows: another learns from it.
    """
    around = _around(occurrence)
    later = False
    for found, call in timeline.of(ForwardCall):
        later = later or call is event
        if (
            call.model is event.model
            and found.gradient is True
            and call.site != event.site
            and _around(found) == around
            and not speaks_of_evaluation(call.arguments)
            and (later or _learning_follows(timeline, occurrence, around))
        ):
            return True
    return False


def _learning_follows(
    timeline: Timeline, occurrence: Occurrence, around: Sequence[Loop | Call]
) -> bool:
    """Tell whether a backward pass comes after a call in the same round, or function."""
    everything = timeline.occurrences()
    later = everything[everything.index(occurrence) :]
    return any(
        isinstance(found.event, BackwardCall) and _around(found)[: len(around)] == around
        for found in later
    )


def _around(occurrence: Occurrence) -> list[Loop | Call]:
    return [block for block in occurrence.inside if isinstance(block, Loop | Call)]


def _while_made(timeline: Timeline, occurrence: Occurrence) -> bool:
    """Tell whether a network's constructor makes the call, to see what shapes come out."""
    networks = {model.type_name.rpartition(".")[2] for model in timeline.models}
    return any(f"{name}.__init__" in occurrence.functions for name in networks)


def _fix(timeline: Timeline, occurrence: Occurrence, event: ForwardCall) -> Fix | None:
    name = event.called
    if event.place is None or not name or _trains_here(timeline, event):
        return None
    title, changes = f"Call {name}.eval() before", [InsertLine(event.place, f"{name}.eval()")]
    if _trains_on(timeline, occurrence, event.model):
        title += f", and {name}.train() after"
        changes.append(InsertLine(event.place, f"{name}.train()", after=True))
    return Fix(title, tuple(changes), safe=False)


def _trains_here(timeline: Timeline, event: ForwardCall) -> bool:
    """Tell whether the same line makes training steps, where another caller or round runs it."""
    return any(
        call is not event and call.site == event.site and in_training_loop(found)
        for found, call in timeline.of(ForwardCall)
    )


def _trains_on(timeline: Timeline, occurrence: Occurrence, model: Model) -> bool:
    """Tell whether a loop around trains the model as well, and never puts it in train mode."""
    around = [loop for loop in occurrence.loops if trains(loop.steps)]
    return bool(around) and not any(
        change.mode is Mode.TRAIN and model.within(change.model) and around[0] in found.inside
        for found, change in timeline.of(ModeChange)
    )

"""BN212: parameters that take no gradient around BatchNorm whose statistics still move."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from bncheck.checks import check
from bncheck.events import (
    Assembled,
    AverageUpdate,
    Copied,
    Escape,
    ForwardCall,
    Mode,
    ModeChange,
    Model,
    OptimizerStep,
    Origin,
    RequiresGrad,
    Target,
)
from bncheck.findings import Confidence, Match
from bncheck.graph import Site
from bncheck.naming import called
from bncheck.paths import (
    Moment,
    assurance_of_part,
    frozen_in_forward,
    keeps_own_mode,
    training_forwards,
)
from bncheck.teachers import teachers
from bncheck.timeline import Entry, Loop, Occurrence, Timeline

_HINT = (
    "put these layers in eval mode as well, after every train(); `bncheck freeze` makes them "
    "constants"
)


@check("BN212", Timeline)
def freeze_half(timeline: Timeline) -> Iterator[Match]:
    """Yield each stop of gradients over BatchNorm that then trains its statistics on."""
    if timeline.driven_by:
        yield from _in_lightning(timeline)
        return
    told: set[Site] = set()
    # What the settings as they are leave out may put in eval mode what they stop.
    for way in (timeline, timeline.usual if timeline.of(RequiresGrad) else None):
        for match in _followed(way) if way is not None else ():
            if match.site in told:
                continue
            # Another part that the same line stops may be surer.
            if match.confidence is not Confidence.POSSIBLE:
                told.add(match.site)
            yield match
    yield from (match for match in _while_made(timeline) if match.site not in told)
    yield from (match for match in _in_train_methods(timeline) if match.site not in told)
    yield from _fitted(timeline)


def _followed(timeline: Timeline) -> Iterator[Match]:
    """Yield what is half frozen at a training step that is followed."""
    exempt = frozen_in_forward(timeline)
    exempt |= {event.model for _, event in timeline.of(AverageUpdate)}
    exempt |= {event.model for _, event in timeline.of(Copied)}
    if timeline.of(RequiresGrad):
        exempt |= _told_as_teachers(timeline)
    # Switched on and off, as for a GAN's discriminator.
    switched = _turned_on(timeline)
    fronts = _fronts_turned_on(timeline)
    made_of = {event.model: event.source for _, event in timeline.of(Assembled)}
    seen: set[RequiresGrad | ModeChange] = set()
    for moment, forward in training_forwards(timeline):
        for part in _related(moment, forward.model):
            if any(_same(part, model) for model in exempt) or keeps_own_mode(part):
                continue
            if any(part.within(m) for m in switched) and not _renewed(timeline, part):
                continue
            for stopped in _without_gradient(moment, part, made_of.get(part)) - seen:
                seen.add(stopped)
                sure = assurance_of_part(part)
                if sure is not None:
                    whole = stopped.target not in {Target.PART, Target.REST} and not any(
                        front is not part and front.within(part) for front in fronts
                    )
                    told = sure if whole else Confidence.POSSIBLE
                    yield _half(stopped, part, told, _where(timeline, stopped))
            for frozen in _statistics_only(moment, part) - seen:
                seen.add(frozen)
                yield Match(
                    frozen.site,
                    f"the statistics of the BatchNorm layers of {called(part)} are frozen here, "
                    "their weight and bias still train",
                    "set requires_grad = False on them as well if all of the layer shall stay",
                    Confidence.POSSIBLE,
                )


_FRONT = re.compile(
    r"(?:^|[._])(?:layers|blocks|stages|features|backbone|encoder|body|trunk)$", re.IGNORECASE
)


def _fronts_turned_on(timeline: Timeline) -> list[Model]:
    """Return the parts that take gradients again where that may leave no BatchNorm out."""
    return [
        event.model
        for _, event in timeline.of(RequiresGrad)
        if event.value is True and event.target is Target.WHOLE and _FRONT.search(event.model.name)
    ]


def _told_as_teachers(timeline: Timeline) -> set[Model]:
    """Return the networks of which BN205 says what there is to say."""
    return {
        forward.model for forward, sure in teachers(timeline) if sure is not Confidence.POSSIBLE
    }


def _turned_on(timeline: Timeline) -> list[Model]:
    """Return what takes gradients again, the normalisation layers among it.

    What is turned on once, before anything of it is stopped, only begins with all of it, unless
    a step of its own comes between: so a method takes turns that its callers repeat. What a later
    epoch or stage turns on had its statistics moved before.
    """
    if not timeline.of(RequiresGrad):
        return []
    everything = timeline.occurrences()
    changes = [
        (place, occurrence, occurrence.event)
        for place, occurrence in enumerate(everything)
        if isinstance(occurrence.event, RequiresGrad)
    ]
    stops = [
        (place, occurrence, event.model)
        for place, occurrence, event in changes
        if event.value is False
    ]
    steps = [
        (place, occurrence.loops)
        for place, occurrence in enumerate(everything)
        if isinstance(occurrence.event, OptimizerStep)
    ]
    return [
        event.model
        for place, occurrence, event in changes
        if event.value is not False
        and event.target is not Target.REST
        and _turns_on(
            occurrence, event, [one for one in stops if _same(event.model, one[2])], place, steps
        )
    ]


def _turns_on(
    occurrence: Occurrence,
    event: RequiresGrad,
    stops: list[tuple[int, Occurrence, Model]],
    place: int,
    steps: list[tuple[int, tuple[Loop, ...]]],
) -> bool:
    """Tell whether a change that stops nothing undoes what stops of the same network did."""
    if event.value is not True or not stops:
        return True
    if any(set(stop.loops) & set(occurrence.loops) for _, stop, _ in stops):
        return True
    if any(
        place < step < after and loops == occurrence.loops == stop.loops
        for after, stop, _ in stops
        for step, loops in steps
    ):
        return True
    earlier = [before for before, _, _ in stops if before < place]
    return (
        bool(earlier)
        and not occurrence.loops
        and not any(loops and min(earlier) < step < place for step, loops in steps)
    )


def _renewed(timeline: Timeline, part: Model) -> bool:
    """Tell whether a part is stopped again before the next step whenever all around it is on.

    So where a loop stops the whole network to validate it.
    """
    lifted = False
    for occurrence in timeline.occurrences():
        match occurrence.event:
            case RequiresGrad(model=model, value=False) if model is part:
                lifted = False
            case RequiresGrad(model=model, value=True) if part is not model and part.within(model):
                lifted = True
            case RequiresGrad(model=model, value=value) if value is not False and model is part:
                return False
            case OptimizerStep() if lifted:
                return False
    return not lifted


def _while_made(timeline: Timeline) -> Iterator[Match]:
    """Yield what a network's constructor stops, where the project calls `train()` on networks."""
    for stop in timeline.gradient_stops:
        if not _FOLLOWS_ANOTHER.search(stop.part):
            yield Match(
                stop.site,
                f"what this freezes of `{stop.class_name}.{stop.part}` takes no gradient, but "
                "nothing keeps its BatchNorm layers out of train mode: their running statistics "
                "still move and the batch still normalises",
                _HINT,
                Confidence.LIKELY if stop.trained else Confidence.POSSIBLE,
            )


def _in_train_methods(timeline: Timeline) -> Iterator[Match]:
    """Yield where a network's `train` method stops the gradients of its BatchNorm layers alone."""
    keeping_none = {
        known.name
        for known in timeline.classes
        if known.overrides_train is False and not known.driven_by
    }
    for test in timeline.freeze_tests:
        if (
            test.function == "train"
            and test.class_name in keeping_none
            and test.stop_site is not None
            and not test.calls_eval
            and all("BatchNorm" in name for name in test.classes)
        ):
            yield Match(
                test.stop_site,
                f"`{test.class_name}.train` keeps gradients off BatchNorm layers, but leaves them "
                "in train mode: their running statistics still move and the batch still normalises",
                _HINT,
                Confidence.LIKELY,
            )


_FOLLOWS_ANOTHER = re.compile(r"momentum|teacher|target|ema|key|_k\b|disc", re.IGNORECASE)
"""Names of networks whose gradients are off because they are averages, or by turns."""


_BEFORE_TRAINING = re.compile(r"\.(?:__init__|setup|on_fit_start|on_train_(?:epoch_)?start)$")


def _in_lightning(timeline: Timeline) -> Iterator[Match]:
    """Yield what a LightningModule freezes before it trains, where nothing in it calls `eval()`.

    Its `training_step` then runs it in train mode: the trainer leaves a new network's mode, or
    calls `train()`.
    """
    if timeline.driven_by != "lightning" or timeline.entry is not Entry.METHOD:
        return
    stepped = {
        event.model
        for occurrence, event in timeline.of(ForwardCall)
        if any(name.endswith(".training_step") for name in occurrence.functions)
    }
    if any(event.mode is not Mode.TRAIN for _, event in timeline.of(ModeChange)):
        return
    followers = {event.model for _, event in timeline.of(AverageUpdate)}
    followers |= {event.model for _, event in timeline.of(Copied)}
    on_again = set(_turned_on(timeline))
    for occurrence, event in timeline.of(RequiresGrad):
        part = event.model
        if (
            event.value is False
            and event.target is Target.WHOLE
            and part.holds_batch_norm is True
            and part.parent is not None
            and part.parent.overrides_train is False
            and part.overrides_train is False
            and any(map(_BEFORE_TRAINING.search, occurrence.functions))
            and any(model.within(part) or _uses(model, part) for model in stepped)
            and not any(_same(part, model) for model in followers | on_again)
            and not any(map(_FOLLOWS_ANOTHER.search, part.names))
        ):
            yield _half(event, part, Confidence.LIKELY)


def _uses(model: Model, part: Model) -> bool:
    """Tell whether a step of a network runs a part, as that of a library's network does."""
    return part.parent is model and model.origin is Origin.ZOO


def _fitted(timeline: Timeline) -> Iterator[Match]:
    """Yield what a script stops of a LightningModule that it then has a trainer fit."""
    fitted = {
        event.model
        for _, event in timeline.of(Escape)
        if event.function.endswith(".fit")
        and event.model.driven_by == "lightning"
        and event.model.overrides_train is False
    }
    if not fitted:
        return
    elsewhere = {event.model for _, event in timeline.of(ModeChange)} | set(_turned_on(timeline))
    for event in _stops_for_good(timeline, elsewhere):
        if any(event.model is not model and event.model.within(model) for model in fitted):
            yield _half(event, event.model, Confidence.LIKELY)
    told: set[Site] = set()
    for steps in timeline.fits:
        # What the module's own hooks stop, of a network that it was handed, say.
        fit = replace(timeline, steps=steps, fits=())
        run = {event.model for _, event in fit.of(ForwardCall)}
        for event in _stops_for_good(fit, elsewhere | set(_turned_on(fit))):
            if event.site not in told and any(_same(event.model, model) for model in run):
                told.add(event.site)
                yield _half(event, event.model, Confidence.LIKELY)


def _stops_for_good(timeline: Timeline, elsewhere: set[Model]) -> Iterator[RequiresGrad]:
    """Yield what stops a network that holds BatchNorm, but for what is switched elsewhere."""
    for _, event in timeline.of(RequiresGrad):
        part = event.model
        if (
            event.value is False
            and event.target in {Target.WHOLE, Target.NORMS}
            and part.holds_batch_norm is True
            and part.overrides_train is False
            and not any(_same(part, model) for model in elsewhere)
            and not any(map(_FOLLOWS_ANOTHER.search, part.names))
        ):
            yield event


def _where(timeline: Timeline, stopped: RequiresGrad) -> Site:
    """Return where a freeze is told of: in the helper if it is called anew for the same network."""
    if stopped.said is None:
        return stopped.site
    same = (e for _, e in timeline.of(RequiresGrad) if e.said == stopped.said)
    sites = {event.site for event in same if event.model is stopped.model}
    return stopped.said if len(sites) > 1 else stopped.site


def _half(stopped: RequiresGrad, part: Model, sure: Confidence, site: Site | None = None) -> Match:
    return Match(
        site or stopped.site,
        f"what this freezes of {called(part)} takes no gradient, but its BatchNorm layers are in "
        "train mode at the next training step: their running statistics still move and the batch "
        "still normalises",
        _HINT,
        sure,
    )


def _related(moment: Moment, model: Model) -> list[Model]:
    """Return the model that is called, what it is a part of, and its parts, as far as known."""
    parts = [part for part in moment.states if _same(part, model)]
    return list(dict.fromkeys([model, *parts]))


def _same(one: Model, other: Model) -> bool:
    return one.within(other) or other.within(one)


def _without_gradient(moment: Moment, part: Model, source: Model | None) -> set[RequiresGrad]:
    states = moment.of(part)
    if any(state.undone_by is not None for state in states):
        return set()  # BN211's case.
    stopped = {s.without_gradient for s in states if s.without_gradient is not None}
    if moment.modes(part) != {Mode.TRAIN}:
        return set()
    return {
        event
        for event in stopped
        if event.model is part or (source is not None and source.within(event.model))
    }


def _statistics_only(moment: Moment, part: Model) -> set[ModeChange]:
    return {
        state.frozen_by
        for state in moment.of(part)
        if state.frozen_by is not None
        and state.mode is Mode.EVAL
        and state.frozen_by.target is Target.NORMS
        and state.frozen_by.model is part
        and state.without_gradient is None
    }

"""What each event does to what is known of models: the states that each of them may be in.

The state of a model, or of a part of one, is the mode of its normalisation layers, what froze
them, what stopped its gradients and what wraps it. Where paths meet, so do the sets of states.
This module imports neither libcst nor torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from bncheck.events import (
    Assembled,
    Copied,
    Escape,
    Event,
    ForwardCall,
    Made,
    Mode,
    ModeChange,
    Model,
    Origin,
    RequiresGrad,
    Target,
    Wrap,
    WrapKind,
)
from bncheck.graph import Unknown
from bncheck.timeline import Loop, Occurrence, trains

_SEEN_WHOLE = frozenset({Origin.PROJECT, Origin.ZOO})
"""Origins of models whose mode is known from the start."""


@dataclass(frozen=True)
class State:
    """One of the states that a model may be in."""

    mode: Mode
    """Of its normalisation layers."""
    frozen_by: ModeChange | None = None
    """What put them in eval mode while the rest of the network trains on."""
    frozen_in: Loop | None = None
    """The outermost loop in which that happened."""
    undone_by: ModeChange | None = None
    """The later `train()` that put them back."""
    without_gradient: RequiresGrad | None = None
    """What stopped the gradients of its parameters."""
    wraps: frozenset[WrapKind] = frozenset()


States = Mapping[Model, frozenset[State]]
Flow = dict[Model, frozenset[State]]


def _initial(model: Model) -> State:
    if model.starts_in_eval is True:
        return State(Mode.EVAL)
    known = model.starts_in_eval is False and model.origin in _SEEN_WHOLE
    return State(Mode.TRAIN if known else Mode.UNKNOWN)


def states_of(model: Model, flow: States) -> frozenset[State]:
    """Return a model's states; a part that nothing happened to is as what it is a part of."""
    owner: Model | None = model
    while owner is not None:
        if owner in flow:
            return flow[owner]
        if owner.parent is None:
            return frozenset({_initial(owner)})
        owner = owner.parent
    raise AssertionError("a model has a root")


def made_anew(flow: Flow, model: Model) -> Flow:
    """Forget what happened to a model; what it was given to hold keeps its own past."""
    own = [part for part in flow if part.within(model) and part.site == model.site]
    return {**flow, **{part: frozenset({_initial(model)}) for part in {model, *own}}}


def after(event: Event, occurrence: Occurrence, flow: Flow) -> Flow:
    """Return what is known after an event."""
    match event:
        case Made(model=model):
            return made_anew(flow, model)
        case ModeChange():
            return _after_mode_change(event, occurrence, flow)
        case RequiresGrad(target=Target.REST, value=True | Unknown()):
            return flow  # What was stopped before stays so for the normalisation layers.
        case RequiresGrad(model=model, value=False, target=Target.PART | Target.REST):
            return _change(
                flow, model, lambda s: replace(s, without_gradient=s.without_gradient or event)
            )
        case RequiresGrad(model=model, value=value):
            stopped = event if value is False else None
            return _change(flow, model, lambda s: replace(s, without_gradient=stopped))
        case Assembled(model=model, source=source):
            stops = {s.without_gradient for s in states_of(source, flow)}
            made = states_of(model, flow)
            states = (replace(s, without_gradient=stop) for s in made for stop in stops)
            only = next(iter(stops)) if len(stops) == 1 else None
            flow = _change(flow, model, lambda s: replace(s, without_gradient=only))
            return {**flow, model: frozenset(states)}
        case Wrap(model=model, kind=kind):
            return _change(flow, model, lambda s: replace(s, wraps=s.wraps | {kind}))
        case Copied(model=model, source=source):
            copies = (State(s.mode, wraps=s.wraps) for s in states_of(source, flow))
            return {**flow, model: frozenset(copies)}
        case ForwardCall(model=model) if not _may_train(occurrence):
            # What was put in eval mode to be evaluated is not frozen.
            return _change(
                flow,
                model,
                lambda s: replace(s, frozen_by=None, undone_by=None) if _evaluates(s, model) else s,
            )
    return flow


def _may_train(occurrence: Occurrence) -> bool:
    loops = occurrence.loops
    return occurrence.gradient is True and (not loops or trains(loops[-1].steps))


def _evaluates(state: State, model: Model) -> bool:
    """Tell whether an evaluation of the model is what it was put in eval mode for.

    So it is for a part that is evaluated itself, and for what happens anew in each epoch.
    """
    freeze = state.frozen_by
    if freeze is None:
        return False
    return state.frozen_in is not None or (freeze.target is Target.WHOLE and freeze.model is model)


def _is_switched_back(freeze: ModeChange | None, train: ModeChange) -> bool:
    """Tell whether `train()` is called on the very thing that `eval()` was: that was no freeze."""
    return freeze is not None and freeze.target is Target.WHOLE and freeze.model is train.model


def _after_mode_change(event: ModeChange, occurrence: Occurrence, flow: Flow) -> Flow:
    loop = occurrence.loops[0] if occurrence.loops else None
    # Whoever asks about a training step asks about the way on which the flag says so.
    mode = Mode.TRAIN if event.by_flag else event.mode
    freezes = event.target is Target.NORMS or event.model.parent is not None

    def changed(state: State) -> State:
        match mode:
            case Mode.EVAL if freezes:
                return replace(
                    state, mode=Mode.EVAL, frozen_by=event, frozen_in=loop, undone_by=None
                )
            case Mode.EVAL:
                return replace(state, mode=Mode.EVAL)
            case Mode.TRAIN if event.target is Target.NORMS:
                return replace(state, mode=Mode.TRAIN, frozen_by=None, undone_by=None)
            case Mode.TRAIN if _is_switched_back(state.frozen_by, event):
                return replace(state, mode=Mode.TRAIN, frozen_by=None, undone_by=None)
            case Mode.TRAIN:
                undone = event if state.frozen_by is not None else None
                return replace(state, mode=Mode.TRAIN, undone_by=undone)
            case _:
                return replace(state, mode=Mode.UNKNOWN, frozen_by=None, undone_by=None)

    match event.target:
        case Target.WHOLE | Target.NORMS:
            return _change(flow, event.model, changed)
        case Target.PART | Target.REST:
            return _change(flow, event.model, lambda s: replace(s, mode=Mode.UNKNOWN))
        case _:
            return flow


_MAY_FREEZE = re.compile(
    r"freez|frozen|grad|train|tun|fix|lock|adapt|lora|peft|layers|stage", re.IGNORECASE
)
"""Names of functions that may freeze what they are given, or lift a freeze."""


def after_escapes(escapes: Iterable[Escape], flow: Flow) -> Flow:
    """Return what is known once code that is not followed has been given some models.

    Their modes are not, but what was frozen before stays so unless the code is named for freezing.
    """
    given: dict[Model, bool] = {}  # In their order, which no set would keep.
    for escape in escapes:
        kept = not _MAY_FREEZE.search(escape.function)
        given[escape.model] = kept and given.get(escape.model, True)

    def keeps(part: Model) -> bool | None:
        """Tell whether a part's freezes stay; None: it was not given."""
        owner: Model | None = part
        while owner is not None and owner not in given:
            owner = owner.parent
        return None if owner is None else given[owner]

    touched = dict(given)
    for part in flow:
        kept_here = keeps(part) if part.parent is not None else None
        if kept_here is not None:
            touched.setdefault(part, kept_here)
    unknown = {
        model: frozenset(_after_escape(s, kept) for s in states_of(model, flow))
        for model, kept in touched.items()
    }
    return {**flow, **unknown}


def _after_escape(state: State, kept: bool) -> State:
    if kept:
        return replace(state, mode=Mode.UNKNOWN, undone_by=None)
    return State(Mode.UNKNOWN, wraps=state.wraps)


def _change(flow: Flow, model: Model, change: Callable[[State], State]) -> Flow:
    parts = (part for part in flow if part.parent is not None)  # Most are models of their own.
    touched = [model, *(part for part in parts if part != model and part.within(model))]
    return {
        **flow,
        **{part: frozenset(change(state) for state in states_of(part, flow)) for part in touched},
    }


def join(one: Flow | None, other: Flow | None) -> Flow | None:
    """Return what is known where two paths meet; None stands for a path that has ended."""
    if one is None or other is None:
        return other if one is None else one
    return {
        model: states_of(model, one) | states_of(model, other)
        for model in {**one, **other}  # In their order, which no set would keep.
    }


def unwrapped_anew(end: Flow | None, before: frozenset[Model]) -> Flow | None:
    """Take a model that a loop's body is the first to use as made in it, and not wrapped yet."""
    if end is None:
        return None
    return {
        model: states
        if model in before
        else frozenset(replace(state, wraps=frozenset()) for state in states)
        for model, states in end.items()
    }


def settled_by(end: Flow | None, start: Flow) -> Flow:
    """Take a loop that evaluates what was frozen for it as run at least once."""
    if end is None:
        return start
    settled = {model for model, states in end.items() if not any(s.frozen_by for s in states)}
    return {
        model: frozenset(replace(state, frozen_by=None, undone_by=None) for state in states)
        if model in settled
        else states
        for model, states in start.items()
    }


def after_branch(start: Flow, ends: Sequence[Flow]) -> Flow | None:
    """Join what alternatives leave; None: each of them is left early.

    A freeze that one of them renews is taken as renewed: its condition may hang together with that
    of the `train()` before. One that leaves what was undone before the branch renews nothing.
    """
    joined: Flow | None = None
    for end in ends:
        joined = join(joined, end)
    if joined is None:
        return None

    def settled(model: Model, states: frozenset[State]) -> frozenset[State]:
        if not any(map(_undone, start.get(model, ()))) or not any(
            _all_frozen(end.get(model, frozenset())) for end in ends
        ):
            return states
        return frozenset(
            replace(s, frozen_by=None, undone_by=None) if _undone(s) else s for s in states
        )

    return {model: settled(model, states) for model, states in joined.items()}


def _undone(state: State) -> bool:
    return state.undone_by is not None


def _all_frozen(states: frozenset[State]) -> bool:
    """Tell whether a model's layers are kept in eval mode, and no earlier freeze is undone."""
    frozen = any(s.mode is Mode.EVAL and s.frozen_by is not None for s in states)
    return frozen and not any(map(_undone, states))

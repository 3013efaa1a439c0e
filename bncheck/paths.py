"""What is known of each model at each event, over every path that leads there.

A walk over a `Timeline`'s steps that carries, for each model and each part of one, the set of
states it may be in: the mode of its normalisation layers, what froze them, which parameters take
no gradient and what wraps it. Branches join, loops run until nothing new comes, and `return` and
the like end a path. Where conditions may hang together (`if freeze: ...` twice) the walk takes
the harmless reading: a freeze that is renewed on one of two paths counts as renewed.
This module imports neither libcst nor torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from bncheck.events import (
    Assembled,
    Copied,
    Escape,
    Event,
    Exit,
    ForwardCall,
    Leave,
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
from bncheck.findings import Confidence
from bncheck.graph import UNKNOWN, Unknown
from bncheck.timeline import (
    Block,
    Branch,
    Call,
    Context,
    Loop,
    Occurrence,
    Step,
    Timeline,
    occurrences,
    trains,
)

_MAX_ROUNDS = 4
"""Passes over a loop's body before what it adds is taken as it is."""

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


@dataclass(frozen=True)
class Moment:
    """An event, the blocks around it, and what each model may be like just before it."""

    occurrence: Occurrence
    states: States

    @property
    def event(self) -> Event:
        """The event itself."""
        return self.occurrence.event

    def of(self, model: Model) -> frozenset[State]:
        """Return the states that a model may be in."""
        return _states(model, self.states)

    def modes(self, model: Model) -> frozenset[Mode]:
        """Return the modes that a model's normalisation layers may be in, its parts included."""
        parts = [part for part in self.states if part.within(model)]
        return frozenset(state.mode for part in [model, *parts] for state in self.of(part))

    def wrapped(self, model: Model, kind: WrapKind) -> bool | None:
        """Tell whether a wrapper is around a model on every path or on none; None: on some."""
        seen = {kind in state.wraps for state in self.of(model)}
        return seen.pop() if len(seen) == 1 else None


@lru_cache(maxsize=4)
def moments(timeline: Timeline) -> list[Moment]:
    """Return every event that a path reaches, with what is known there.

    Kept for the checks that look at the same timeline one after the other.
    """
    walk = _Walk()
    walk.run(timeline.steps, {}, ())
    return walk.reached


def training_step(occurrence: Occurrence, timeline: Timeline) -> bool:
    """Tell whether gradients are recorded and a backward pass stands in the same loop.

    Where there is no loop, in a function around it. What a constructor runs is no training step.
    """
    if occurrence.gradient is not True:
        return False
    for block in reversed(occurrence.inside):
        if isinstance(block, Call):
            if block.function.endswith(".__init__"):
                return False
            if not occurrence.loops and trains(block.steps):
                return True
        elif isinstance(block, Loop):
            return trains(block.steps)
    return trains(timeline.steps)


_Flow = dict[Model, frozenset[State]]


class _Walk:
    """One walk; `reached` holds the moments of the last pass over each block."""

    def __init__(self) -> None:
        self.reached: list[Moment] = []
        self._made: dict[Branch, tuple[Model, ...]] = {}
        self._before: dict[Loop, frozenset[Model]] = {}

    def run(
        self, steps: Iterable[Step], flow: _Flow | None, inside: tuple[Block, ...]
    ) -> tuple[_Flow | None, dict[Exit, _Flow]]:
        """Walk the steps; return what holds after them, None if never, and at early exits."""
        exits: dict[Exit, _Flow] = {}
        for step in steps:
            if flow is None:
                break
            if isinstance(step, Leave):
                _add_exit(exits, step.exit, flow)
                flow = None
            elif isinstance(step, Event):
                self.reached.append(Moment(Occurrence(step, inside), flow))
                flow = _after(step, Occurrence(step, inside), flow)
            else:
                flow, left = self._block(step, flow, (*inside, step))
                for exit_, at_exit in left.items():
                    _add_exit(exits, exit_, at_exit)
        return flow, exits

    def _block(
        self, block: Block, flow: _Flow, inside: tuple[Block, ...]
    ) -> tuple[_Flow | None, dict[Exit, _Flow]]:
        match block:
            case Context():
                return self.run(block.steps, flow, inside)
            case Call():
                end, exits = self.run(block.steps, flow, inside)
                return _join(end, exits.pop(Exit.RETURN, None)), exits
            case Loop():
                return self._loop(block, flow, inside)
            case Branch():
                flow = self._without_made(block, flow)
                end = None
                exits = {}
                for alternative in block.alternatives:
                    one, left = self.run(alternative, flow, inside)
                    end = _join(end, one)
                    for exit_, at_exit in left.items():
                        _add_exit(exits, exit_, at_exit)
                return None if end is None else _renewed_freezes(end), exits

    def _without_made(self, branch: Branch, flow: _Flow) -> _Flow:
        """Forget of models that an alternative makes anew: on the others they are gone too."""
        if branch not in self._made:
            events = (occurrence.event for occurrence in occurrences((branch,)))
            self._made[branch] = tuple(e.model for e in events if isinstance(e, Made))
        for model in self._made[branch]:
            flow = _made_anew(flow, model)
        return flow

    def _loop(
        self, loop: Loop, flow: _Flow, inside: tuple[Block, ...]
    ) -> tuple[_Flow | None, dict[Exit, _Flow]]:
        start = flow
        before = self._before.setdefault(loop, frozenset(flow))
        mark = len(self.reached)
        rounds = _MAX_ROUNDS if sum(isinstance(block, Loop) for block in inside) < 4 else 2
        for _ in range(rounds):
            del self.reached[mark:]
            end, exits = self.run(loop.steps, start, inside)
            end = _join(end, exits.pop(Exit.CONTINUE, None))
            again = _join(_unwrapped_anew(end, before), start)
            if again is None or again == start:
                break
            start = again
        return _join(_settled_by(end, start), exits.pop(Exit.BREAK, None)), exits


def _initial(model: Model) -> State:
    if model.starts_in_eval is True:
        return State(Mode.EVAL)
    known = model.starts_in_eval is False and model.origin in _SEEN_WHOLE
    return State(Mode.TRAIN if known else Mode.UNKNOWN)


def _states(model: Model, flow: States) -> frozenset[State]:
    """Return a model's states; a part that nothing happened to is as what it is a part of."""
    owner: Model | None = model
    while owner is not None:
        if owner in flow:
            return flow[owner]
        if owner.parent is None:
            return frozenset({_initial(owner)})
        owner = owner.parent
    raise AssertionError("a model has a root")


def _made_anew(flow: _Flow, model: Model) -> _Flow:
    """Forget what happened to a model; what it was given to hold keeps its own past."""
    own = [part for part in flow if part.within(model) and part.site == model.site]
    return {**flow, **{part: frozenset({_initial(model)}) for part in {model, *own}}}


def _after(event: Event, occurrence: Occurrence, flow: _Flow) -> _Flow:
    match event:
        case Made(model=model):
            return _made_anew(flow, model)
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
            stops = {s.without_gradient for s in _states(source, flow)}
            stopped = stops.pop() if len(stops) == 1 else None
            return _change(flow, model, lambda s: replace(s, without_gradient=stopped))
        case Wrap(model=model, kind=kind):
            return _change(flow, model, lambda s: replace(s, wraps=s.wraps | {kind}))
        case Copied(model=model, source=source):
            copies = (State(s.mode, wraps=s.wraps) for s in _states(source, flow))
            return {**flow, model: frozenset(copies)}
        case Escape(model=model):
            return _change(flow, model, lambda s: State(Mode.UNKNOWN, wraps=s.wraps))
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


def _after_mode_change(event: ModeChange, occurrence: Occurrence, flow: _Flow) -> _Flow:
    loop = occurrence.loops[0] if occurrence.loops else None
    freezes = event.target is Target.NORMS or event.model.parent is not None

    def changed(state: State) -> State:
        match event.mode:
            case Mode.EVAL if freezes:
                return replace(
                    state, mode=Mode.EVAL, frozen_by=event, frozen_in=loop, undone_by=None
                )
            case Mode.EVAL:
                return replace(state, mode=Mode.EVAL)
            case Mode.TRAIN if event.target is Target.NORMS:
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


def _change(flow: _Flow, model: Model, change: Callable[[State], State]) -> _Flow:
    touched = {model, *(part for part in flow if part.within(model))}
    return {
        **flow,
        **{part: frozenset(change(state) for state in _states(part, flow)) for part in touched},
    }


def _join(one: _Flow | None, other: _Flow | None) -> _Flow | None:
    if one is None or other is None:
        return other if one is None else one
    return {
        model: _states(model, one) | _states(model, other) for model in one.keys() | other.keys()
    }


def _unwrapped_anew(end: _Flow | None, before: frozenset[Model]) -> _Flow | None:
    """Take a model that a loop's body is the first to use as made in it, and not wrapped yet."""
    if end is None:
        return None
    return {
        model: states
        if model in before
        else frozenset(replace(state, wraps=frozenset()) for state in states)
        for model, states in end.items()
    }


def _settled_by(end: _Flow | None, start: _Flow) -> _Flow:
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


def _add_exit(exits: dict[Exit, _Flow], exit_: Exit, flow: _Flow) -> None:
    exits[exit_] = _join(exits.get(exit_), flow) or flow


def _renewed_freezes(flow: _Flow) -> _Flow:
    """Take a freeze that one path renews as renewed: the conditions may hang together."""

    def settled(states: frozenset[State]) -> frozenset[State]:
        if not any(s.mode is Mode.EVAL and s.frozen_by is not None for s in states):
            return states
        return frozenset(
            replace(s, frozen_by=None, undone_by=None) if s.undone_by is not None else s
            for s in states
        )

    return {model: settled(states) for model, states in flow.items()}


def training_forwards(timeline: Timeline) -> list[tuple[Moment, ForwardCall]]:
    """Return the forward calls whose result is trained on, at each moment that reaches one.

    A call on made-up input outside of any loop is a look at shapes.
    """
    if not trains(timeline.steps):
        return []
    return [
        (moment, moment.event)
        for moment in moments(timeline)
        if isinstance(moment.event, ForwardCall)
        and (moment.occurrence.loops or not moment.event.made_up_input)
        and training_step(moment.occurrence, timeline)
    ]


def keeps_own_mode(part: Model, root: Model | None = None) -> bool:
    """Tell whether a `train` method of the project's may keep a part in eval mode.

    Asked of the part and what it is a part of, up to `root`.
    """
    owner: Model | None = part
    while owner is not None:
        if owner.overrides_train is not False or owner.driven_by:
            return True
        owner = None if owner is root else owner.parent
    return False


def frozen_in_forward(timeline: Timeline) -> set[Model]:
    """Return the parts that a network's own forward pass puts in eval mode each time."""
    return {
        event.model
        for occurrence, event in timeline.of(ModeChange)
        if event.mode is Mode.EVAL
        and any(name.endswith(".forward") for name in occurrence.functions)
    }


def assurance(model: Model) -> Confidence | None:
    """Return how sure a finding about a model's BatchNorm can be; None: it has none."""
    if model.holds_batch_norm is UNKNOWN:
        return Confidence.POSSIBLE
    if not model.holds_batch_norm or _turns_out_free(model):
        return None
    return Confidence.LIKELY


def _turns_out_free(model: Model) -> bool:
    """Tell whether a network, or what it is a part of, holds no BatchNorm on a closer look."""
    if model.confirm is not None and model.confirm() is False:
        return True
    return model.parent is not None and _turns_out_free(model.parent)

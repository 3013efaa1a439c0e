"""What is known of each model at each event, over every path that leads there.

A walk over a `Timeline`'s steps that carries, for each model and each part of one, the set of
states it may be in: the mode of its normalisation layers, what froze them, which parameters take
no gradient and what wraps it. Branches join, loops run until nothing new comes, and `return` and
the like end a path. Where conditions may hang together (`if freeze: ...` twice) the walk takes
the harmless reading: a freeze that is renewed on one of two paths counts as renewed.
This module imports neither libcst nor torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from bncheck.events import (
    BackwardCall,
    Escape,
    Event,
    Exit,
    ForwardCall,
    Leave,
    Made,
    Mode,
    ModeChange,
    Model,
    OptimizerStep,
    WrapKind,
)
from bncheck.findings import Confidence
from bncheck.graph import UNKNOWN
from bncheck.states import (
    Flow,
    State,
    States,
    after,
    after_branch,
    after_escapes,
    join,
    made_anew,
    settled_by,
    states_of,
    unwrapped_anew,
)
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
from bncheck.usage import in_training_step, turns_out_free

_MAX_ROUNDS = 4
"""Passes over a loop's body before what it adds is taken as it is."""


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
        return states_of(model, self.states)

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

    Or in the loop around it, where its own passes over parts of a batch. Where there is no loop, in
    a function around it, or after it, in no loop either. What a constructor runs is no training
    step.
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
            return trains(block.steps) or in_training_step(occurrence)
    return _backward_pass_follows(occurrence, timeline)


def _backward_pass_follows(occurrence: Occurrence, timeline: Timeline) -> bool:
    """Tell whether a backward pass that no loop repeats comes after a call that none repeats.

    A forward pass alone is a trial, though a loop trains the network later on.
    """
    everything = timeline.occurrences()
    later = everything[everything.index(occurrence) :]
    return any(
        isinstance(found.event, BackwardCall | OptimizerStep) and not found.loops for found in later
    )


class _Walk:
    """One walk; `reached` holds the moments of the last pass over each block."""

    def __init__(self) -> None:
        self.reached: list[Moment] = []
        self._made: dict[Branch, tuple[Model, ...]] = {}
        self._before: dict[Loop, frozenset[Model]] = {}

    def run(
        self, steps: Iterable[Step], flow: Flow | None, inside: tuple[Block, ...]
    ) -> tuple[Flow | None, dict[Exit, Flow]]:
        """Walk the steps; return what holds after them, None if never, and at early exits."""
        exits: dict[Exit, Flow] = {}
        waiting: list[Escape] = []  # A call may hand on hundreds of models at once.
        for step in steps:
            if flow is None:
                break
            if isinstance(step, Escape):
                self.reached.append(Moment(Occurrence(step, inside), flow))
                waiting.append(step)
                continue
            if waiting:
                flow = after_escapes(waiting, flow)
                waiting = []
            if isinstance(step, Leave):
                _add_exit(exits, step.exit, flow)
                flow = None
            elif isinstance(step, Event):
                self.reached.append(Moment(Occurrence(step, inside), flow))
                flow = after(step, Occurrence(step, inside), flow)
            else:
                flow, left = self._block(step, flow, (*inside, step))
                for exit_, at_exit in left.items():
                    _add_exit(exits, exit_, at_exit)
        if waiting and flow is not None:
            flow = after_escapes(waiting, flow)
        return flow, exits

    def _block(
        self, block: Block, flow: Flow, inside: tuple[Block, ...]
    ) -> tuple[Flow | None, dict[Exit, Flow]]:
        match block:
            case Context():
                return self.run(block.steps, flow, inside)
            case Call():
                end, exits = self.run(block.steps, flow, inside)
                return join(end, exits.pop(Exit.RETURN, None)), exits
            case Loop():
                return self._loop(block, flow, inside)
            case Branch():
                flow = self._without_made(block, flow)
                ends: list[Flow] = []
                exits = {}
                for alternative in block.alternatives:
                    one, left = self.run(alternative, flow, inside)
                    if one is not None:
                        ends.append(one)
                    for exit_, at_exit in left.items():
                        _add_exit(exits, exit_, at_exit)
                return after_branch(flow, ends), exits

    def _without_made(self, branch: Branch, flow: Flow) -> Flow:
        """Forget of models that an alternative makes anew: on the others they are gone too."""
        if branch not in self._made:
            events = (occurrence.event for occurrence in occurrences((branch,)))
            self._made[branch] = tuple(e.model for e in events if isinstance(e, Made))
        for model in self._made[branch]:
            flow = made_anew(flow, model)
        return flow

    def _loop(
        self, loop: Loop, flow: Flow, inside: tuple[Block, ...]
    ) -> tuple[Flow | None, dict[Exit, Flow]]:
        start = flow
        before = self._before.setdefault(loop, frozenset(flow))
        mark = len(self.reached)
        rounds = _MAX_ROUNDS if sum(isinstance(block, Loop) for block in inside) < 4 else 2
        for _ in range(rounds):
            del self.reached[mark:]
            end, exits = self.run(loop.steps, start, inside)
            end = join(end, exits.pop(Exit.CONTINUE, None))
            again = join(unwrapped_anew(end, before), start)
            if again is None or again == start:
                break
            start = again
        return join(settled_by(end, start), exits.pop(Exit.BREAK, None)), exits


def _add_exit(exits: dict[Exit, Flow], exit_: Exit, flow: Flow) -> None:
    exits[exit_] = join(exits.get(exit_), flow) or flow


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
    holds = model.holds_batch_norm
    if holds is UNKNOWN and model.confirm is not None:
        holds = model.confirm()
    if holds is False or (holds is True and turns_out_free(model)):
        return None
    return Confidence.POSSIBLE if holds is UNKNOWN else Confidence.LIKELY


_ENCODER = re.compile(
    r"(?:^|_)(?:image_?|visual_?)?(?:encoder(?:_stages?\d?)?|backbone|base_(?:model|net)|"
    r"(?:feature_?)?extractor|resnet|trunk)$",
    re.IGNORECASE,
)
_OF_WORDS = re.compile(r"text|lang|word|bert|token|question|audio", re.IGNORECASE)


def assurance_of_part(part: Model) -> Confidence | None:
    """Return the same of a part that a freeze names.

    The encoder of a network that holds BatchNorm is taken to hold it where its class isn't known.
    """
    sure = assurance(part)
    name = part.name.rpartition(".")[2]
    if (
        sure is Confidence.POSSIBLE
        and part.parent is not None
        and assurance(part.parent) is Confidence.LIKELY
        and not part.type_name
        and _ENCODER.search(name)
        and not _OF_WORDS.search(name)
    ):
        return assurance(part.parent)
    return sure

"""In which mode a model may be at each event of a timeline, and what put it there.

A forward dataflow over the timeline's tree: branches join, loop bodies run again with what they
left behind, early exits go where they lead. This module imports neither libcst nor torch.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import lru_cache

from bncheck.events import (
    Assembled,
    BackwardCall,
    Copied,
    Escape,
    Event,
    Exit,
    Export,
    ForwardCall,
    Leave,
    Made,
    Mode,
    ModeChange,
    Model,
    ModelEvent,
    ModeNotCalled,
    OptimizerStep,
    Origin,
    Target,
)
from bncheck.graph import UNKNOWN, Site
from bncheck.timeline import Block, Branch, Call, Loop, Step, Timeline
from bncheck.uncalled import told_of

_ROUNDS = 2
"""Times that a loop's body is run: once as it begins, once as it left itself behind."""


@dataclass(frozen=True)
class ModeFact:
    """One mode that a model may be in."""

    mode: Mode
    since: Event | None = None
    """What put it there; None: it was made so."""
    trained: bool = False
    """Whether a backward pass or an optimizer step came after that."""
    trained_before: bool = False
    """Whether one came before that."""
    carried: bool = False
    """Whether it comes from an earlier round of a loop."""
    doubtful: bool = False
    """Whether another way of a branch calls `train()`: the paths may be correlated."""
    undoes: ModeChange | None = None
    """The `eval()` that a `train()` came after, with no run of the model between them."""


Facts = frozenset[ModeFact]
State = dict[Model, Facts]
Exits = dict[Exit, list[State]]


def initial(model: Model) -> Facts:
    """Return the mode of a model that nothing has happened to yet."""
    if model.starts_in_eval is True:
        return frozenset({ModeFact(Mode.EVAL)})
    if model.starts_in_eval is UNKNOWN or model.origin in {Origin.PARAMETER, Origin.SELF}:
        return frozenset({ModeFact(Mode.UNKNOWN)})
    return frozenset({ModeFact(Mode.TRAIN)})


@dataclass(eq=False)
class ModeFlow:
    """The modes before each event of a timeline."""

    timeline: Timeline
    usual: bool = False
    """Whether only the ways are followed that the settings as they are choose, where known."""
    _before: dict[ModelEvent, set[ModeFact]] = field(default_factory=lambda: defaultdict(set))
    _parts_in_eval: set[ModelEvent] = field(default_factory=set)
    _made_of: dict[Model, set[Model]] = field(default_factory=dict)
    """The networks that another is put together of, which may be switched by themselves later."""
    _for_training: set[Site] = field(default_factory=set)
    """Where a `train()` stands that training comes after."""
    _used: set[ModeChange] = field(default_factory=set)
    """What put a model in a mode that something then ran it in."""

    def before(self, event: ModelEvent) -> Facts:
        """Return the modes that the event's model may be in; empty: it is never reached."""
        return frozenset(self._before.get(event, ()))

    def parts_in_eval(self, event: ModelEvent) -> bool:
        """Tell whether some path puts a part of the event's model, and not all of it, in eval."""
        return event in self._parts_in_eval

    def never_in_eval(self, event: ModelEvent) -> bool:
        """Tell whether every path leaves a model in train mode, and not by a `train()` for this.

        A `train()` that the model was trained after, there or where a helper does it again, is for
        training on all paths.
        """
        facts = self.before(event)
        return bool(facts) and all(
            fact.mode is Mode.TRAIN
            and (not isinstance(fact.since, ModeChange) or fact.since.site in self._for_training)
            for fact in facts
        )

    def run(self) -> None:
        """Follow the whole timeline."""
        self._steps(self.timeline.steps, {})

    def _steps(self, steps: tuple[Step, ...], start: State) -> tuple[State | None, Exits]:
        state: State | None = start
        exits: Exits = defaultdict(list)
        for step in steps:
            if state is None:
                break
            if isinstance(step, Leave):
                exits[step.exit].append(state)
                state = None
            elif isinstance(step, Event):
                self._event(step, state)
            else:
                state, left = self._block(step, state)
                for how, states in left.items():
                    exits[how] += states
        return state, exits

    def _block(self, block: Block, state: State) -> tuple[State | None, Exits]:
        if isinstance(block, Branch):
            return self._branch(block, state)
        if isinstance(block, Loop):
            return self._loop(block, state)
        after, exits = self._steps(block.steps, state)
        if isinstance(block, Call):
            return self._join([after, *exits[Exit.RETURN]]), {}
        return after, exits

    def _branch(self, block: Branch, state: State) -> tuple[State | None, Exits]:
        exits: Exits = defaultdict(list)
        ends: list[State | None] = []
        chosen = block.usual if self.usual else None
        ways = block.alternatives if chosen is None else block.alternatives[chosen : chosen + 1]
        for steps in ways:
            after, left = self._steps(steps, dict(state))
            ends.append(after)
            for how, states in left.items():
                exits[how] += states
        alive = [end for end in ends if end is not None]
        joined = self._join(ends)
        if joined is not None and len(alive) > 1:
            for model, facts in joined.items():
                before = self._get(state, model)
                trains = any(f.mode is Mode.TRAIN and f not in before for f in facts)
                if trains:
                    joined[model] = frozenset(
                        replace(f, doubtful=True) if f in before or f.mode is Mode.EVAL else f
                        for f in facts
                    )
        return joined, exits

    def _loop(self, block: Loop, state: State) -> tuple[State | None, Exits]:
        head, breaks, returns = state, list[State](), list[State]()
        again: State | None = None
        earlier = {fact.since for facts in state.values() for fact in facts}
        for _ in range(_ROUNDS):
            end, exits = self._steps(block.steps, dict(head))
            breaks, returns = exits[Exit.BREAK], exits[Exit.RETURN]
            again = self._join([end, *exits[Exit.CONTINUE]])
            if again is None:
                break
            carried = {
                model: frozenset(
                    f if f.carried or f.since in earlier else replace(f, carried=True)
                    for f in facts
                )
                for model, facts in again.items()
            }
            after = self._join([head, carried])
            assert after is not None
            if after == head:
                break
            head = after
        # A loop that matters runs: what was before it is joined only where nothing comes out.
        left = self._join([again, *breaks])
        return head if left is None else left, {Exit.RETURN: returns}

    def _join(self, states: list[State | None]) -> State | None:
        alive = [state for state in states if state is not None]
        if len(alive) < 2:
            return alive[0] if alive else None
        models = dict.fromkeys(model for state in alive for model in state)
        return {
            model: frozenset().union(*(self._get(state, model) for state in alive))
            for model in models
        }

    def _get(self, state: State, model: Model) -> Facts:
        current: Model | None = model
        while current is not None:
            if current in state:
                return state[current]
            if current.parent is None:
                return initial(current)
            current = current.parent
        raise AssertionError("unreachable")

    def _set(self, state: State, model: Model, facts: Facts) -> None:
        parts = [part for part in state if part.parent is not None and part is not model]
        for part in [part for part in parts if part.within(model)]:
            if part.kept_by:
                state[part] = facts  # What else it is a part of may be in another mode.
            else:
                del state[part]
        state[model] = facts

    def _event(self, event: Event, state: State) -> None:
        if isinstance(event, ModelEvent):
            facts = self._get(state, event.model)
            self._before[event] |= facts
            if isinstance(event, ForwardCall | Export):
                self._used |= {f.since for f in facts if isinstance(f.since, ModeChange)}
            made_of = self._made_of.get(event.model, set())
            if isinstance(event, ForwardCall | Export) and any(
                fact.mode is Mode.EVAL
                for model, facts in state.items()
                if model is not event.model and (model.within(event.model) or model in made_of)
                for fact in facts
            ):
                self._parts_in_eval.add(event)
        match event:
            case Made(model=model):
                state[model] = initial(model)
            case ModeChange():
                self._change(event, state)
            case ModeNotCalled(model=model, mode=mode) if told_of(self.timeline, event):
                self._set(state, model, frozenset({ModeFact(mode, event)}))
            case Copied(model=model, source=source) | Assembled(model=model, source=source):
                state[model] = self._get(state, source)
                if isinstance(event, Assembled):
                    self._made_of.setdefault(model, set()).add(source)
            case Escape(model=model):
                self._set(state, model, frozenset({ModeFact(Mode.UNKNOWN, event)}))
            case BackwardCall() | OptimizerStep():
                for model in self.timeline.models:
                    if model.parent is None:
                        state.setdefault(model, initial(model))
                for model, facts in state.items():
                    since = (fact.since for fact in facts)
                    self._for_training |= {e.site for e in since if isinstance(e, ModeChange)}
                    state[model] = frozenset(replace(f, trained=True) for f in facts)

    def _change(self, event: ModeChange, state: State) -> None:
        facts = self._get(state, event.model)
        before = any(f.trained or f.trained_before for f in facts)
        fact = ModeFact(event.mode, event, trained_before=before, undoes=self._undone(event, facts))
        match event.target:
            case Target.DROPOUTS:
                return
            case Target.PART | Target.REST:
                self._set(state, event.model, facts | {ModeFact(Mode.UNKNOWN, event)})
            case _:
                facts = frozenset({fact})
                if event.mode is Mode.TRAIN and event.model.overrides_train is not False:
                    facts |= {ModeFact(Mode.UNKNOWN, event)}
                self._set(state, event.model, facts)

    def _undone(self, event: ModeChange, facts: Facts) -> ModeChange | None:
        """Return the `eval()` of a whole model that a `train()` of it leaves without effect."""
        if event.mode is not Mode.TRAIN or event.target is not Target.WHOLE or event.by_flag:
            return None
        for fact in facts:
            match fact.since:
                case ModeChange(mode=Mode.EVAL, target=Target.WHOLE) if fact.mode is Mode.EVAL:
                    return None if fact.since in self._used else fact.since
        return None


@lru_cache(maxsize=4)
def mode_flow(timeline: Timeline) -> ModeFlow:
    """Return the modes before each event of a timeline."""
    flow = ModeFlow(timeline)
    flow.run()
    return flow


@lru_cache(maxsize=4)
def usual_mode_flow(timeline: Timeline) -> ModeFlow:
    """Return the same where every setting is as it is."""
    flow = ModeFlow(timeline, usual=True)
    flow.run()
    return flow

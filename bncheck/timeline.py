"""What happens to the models of a script: the one description that every BN2xx-BN5xx check reads.

A `Timeline` is what runs from one entry point: a module's body, a function or a method that the
project does not call itself. Its steps are events and blocks. Functions and methods of the same
project are followed where they are called, so an `evaluate(model)` that calls `eval()` stands as
a `Call` with a `ModeChange` in it. A step is one occurrence: a function called twice has its
events twice, at the same site. This module imports neither libcst nor torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from typing import cast

from bncheck.events import (
    AnyEvent,
    BackwardCall,
    Event,
    Fact,
    ForwardCall,
    Leave,
    Loader,
    Model,
    Number,
    OptimizerStep,
    Wrap,
    WrapKind,
)
from bncheck.graph import UNKNOWN, Site
from bncheck.texts import Texts


class ContextKind(Enum):
    """A `with` or decorator that matters."""

    NO_GRAD = "no_grad"
    INFERENCE_MODE = "inference_mode"
    ENABLE_GRAD = "enable_grad"
    MAYBE_GRAD = "set_grad_enabled of something unknown"
    AUTOCAST = "autocast"
    NO_SYNC = "no_sync"


class Enclosing:
    """What every block offers; asked for often, and the same at each time."""

    @cached_property
    def trains(self) -> bool:
        """Whether a backward pass or an optimizer step stands anywhere in the block."""
        return any(trains(part) for part in children(cast(Block, self)))

    @cached_property
    def matters(self) -> bool:
        """Whether anything in the block says more than how a block is left."""
        return any(matters(step) for part in children(cast(Block, self)) for step in part)


@dataclass(frozen=True, eq=False)
class Context(Enclosing):
    """Steps inside a `with`, or in a function that is decorated with it."""

    site: Site
    kind: ContextKind
    steps: tuple[Step, ...]


@dataclass(frozen=True, eq=False)
class Branch(Enclosing):
    """Exactly one of the alternatives runs; an `if` without `else` has an empty one."""

    site: Site
    alternatives: tuple[tuple[Step, ...], ...]
    condition: str = ""
    """The names in the condition, space-separated."""
    usual: int | None = None
    """The alternative that runs with the settings as they are; None: not known."""


@dataclass(frozen=True, eq=False)
class Loop(Enclosing):
    """Its steps run any number of times, each time after the last."""

    site: Site
    steps: tuple[Step, ...]
    loader: Loader | None = None
    """The loader that it goes over, where known."""
    over: str = ""
    """The names in what it goes over, space-separated, such as `test_loader`."""
    times: Number = UNKNOWN
    """How often its steps run, for `range(n)`."""
    binds: frozenset[str] = frozenset()
    """The names that stand for something else in each round."""


@dataclass(frozen=True, eq=False)
class Call(Enclosing):
    """A function or method of the project that is followed; `RETURN` ends it."""

    site: Site
    function: str
    """Its name, with its class: `Trainer.validate`."""
    steps: tuple[Step, ...]


Block = Context | Branch | Loop | Call
Step = Event | Block


def children(block: Block) -> Iterator[tuple[Step, ...]]:
    """Yield the sequences of steps directly in a block."""
    if isinstance(block, Branch):
        yield from block.alternatives
    else:
        yield block.steps


@dataclass(frozen=True)
class Occurrence:
    """An event and the blocks that it stands in, outermost first."""

    event: Event
    inside: tuple[Block, ...]

    @property
    def gradient(self) -> Fact:
        """Whether gradients are recorded here."""
        if isinstance(self.event, ForwardCall) and self.event.volatile:
            return False
        return _gradient(self.inside)

    def gradient_around(self, block: Block) -> Fact:
        """Whether gradients are recorded where one of the blocks around it begins."""
        return _gradient(self.inside[: self.inside.index(block)])

    @property
    def loops(self) -> tuple[Loop, ...]:
        """The loops around it, outermost first, those in its callers among them."""
        return tuple(block for block in self.inside if isinstance(block, Loop))

    @property
    def loader_loop(self) -> Loop | None:
        """The innermost loop around it that goes over a known loader."""
        loops = [loop for loop in self.loops if loop.loader is not None]
        return loops[-1] if loops else None

    @property
    def functions(self) -> tuple[str, ...]:
        """Names of the followed functions that it stands in, outermost first."""
        return tuple(block.function for block in self.inside if isinstance(block, Call))


def _gradient(inside: tuple[Block, ...]) -> Fact:
    for block in reversed(inside):
        if isinstance(block, Context):
            match block.kind:
                case ContextKind.NO_GRAD | ContextKind.INFERENCE_MODE:
                    return False
                case ContextKind.ENABLE_GRAD:
                    return True
                case ContextKind.MAYBE_GRAD:
                    return UNKNOWN
    return True


def occurrences(steps: tuple[Step, ...], inside: tuple[Block, ...] = ()) -> Iterator[Occurrence]:
    """Yield the events of steps in source order, each with the blocks around it."""
    for step in steps:
        if isinstance(step, Event):
            yield Occurrence(step, inside)
        else:
            for part in children(step):
                yield from occurrences(part, (*inside, step))


def as_usual(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Return what of some steps runs with the settings as they are.

    A branch in which a network may be converted to SyncBatchNorm is left whole: who offers that
    knows what it is for.
    """
    return tuple(_as_usual(step) for step in steps)


def _as_usual(step: Step) -> Step:
    if isinstance(step, Event):
        return step
    if not isinstance(step, Branch):
        return replace(step, steps=as_usual(step.steps))
    kept = step.alternatives
    if step.usual is not None and not any(map(_synchronises, kept)):
        kept = (kept[step.usual],)
    return replace(step, alternatives=tuple(map(as_usual, kept)), usual=None)


def _synchronises(steps: tuple[Step, ...]) -> bool:
    events = (occurrence.event for occurrence in occurrences(steps))
    return any(isinstance(e, Wrap) and e.kind is WrapKind.SYNC_BATCH_NORM for e in events)


def matters(step: Step) -> bool:
    """Tell whether a step says anything beyond how a block is left."""
    return not isinstance(step, Leave) if isinstance(step, Event) else step.matters


def trains(steps: tuple[Step, ...]) -> bool:
    """Tell whether a backward pass or an optimizer step stands anywhere in the steps."""
    return any(
        isinstance(step, BackwardCall | OptimizerStep) if isinstance(step, Event) else step.trains
        for step in steps
    )


# --- what is known of a file without following it --------------------------------------------


@dataclass(frozen=True, eq=False)
class FreezeTest:
    """An `isinstance` test over modules whose body freezes what passes it."""

    site: Site
    """The class, or tuple of classes, that is tested for."""
    classes: tuple[str, ...]
    """Qualified where known."""
    text: str
    """Source of what stands at the site."""
    calls_eval: bool
    function: str
    """The function it stands in; empty at module level."""
    class_name: str = ""
    """The class whose method that is."""
    eval_site: Site | None = None
    """The call of `eval()` in its body."""
    stop_site: Site | None = None
    """What says `requires_grad = False` in its body."""
    function_stops_gradients: bool = False
    """Whether the function that it stands in sets `requires_grad` as well."""
    in_forward: bool = False
    """Whether a forward method of its class calls that function."""
    while_made: bool = False
    """Whether that function is its class's constructor, or the constructor calls it."""
    switch: str = ""
    """The parameter of the constructor, off by default, that it waits for."""


@dataclass(frozen=True, eq=False)
class GradientStop:
    """A part with BatchNorm whose gradients a network stops while it is made, and no more.

    Its class neither calls `eval()` nor has a `train` method. A function that builds networks, and
    a method that is called later, count if nothing in the project keeps parts in eval mode.
    """

    site: Site
    """The statement that stops them."""
    class_name: str
    """The class, or the function that builds."""
    part: str
    """The attribute that holds it; `parameters` where it is all, a variable of a function."""
    trained: bool
    """Whether the project calls `train()` on networks."""


@dataclass(frozen=True, eq=False)
class LostFreeze:
    """A part with BatchNorm that a constructor freezes in a class without a `train` method."""

    site: Site
    """The call of `eval()`."""
    class_name: str
    trained: bool
    """Whether the project calls `train()` on networks."""


@dataclass(frozen=True, eq=False)
class TrainOverride:
    """A `train` method of a network class."""

    site: Site
    """The method's name."""
    class_name: str
    takes_mode: bool
    """Whether it has a parameter that can take `eval()`'s False."""
    passes_mode: Fact
    """Whether what it does depends on that parameter: handed to `super().train`, or tested."""
    returns_self: Fact
    calls_super: Fact
    """Whether it calls `super().train(...)`, or goes over its children itself."""
    result_used: bool
    """Whether the file uses what some `eval()` or `train()` returns."""
    forces_training: bool
    """Whether it calls `super().train()` with no mode, or with True."""
    trains_a_model: bool
    """Whether it is a training procedure: backward passes, optimizer steps, loops over data."""
    speaks_of_batch_norm: bool
    """Whether it, or a method of its class that it calls, names a BatchNorm class."""


@dataclass(frozen=True, eq=False)
class ModuleClass:
    """A network class of the file."""

    name: str
    site: Site
    """The class's name."""
    holds_batch_norm: Fact
    norm_kinds: frozenset[str]
    train: TrainOverride | None
    """Its own `train` method."""
    driven_by: str = ""
    """The framework whose module class it derives from, such as `lightning`."""
    overrides_train: Fact = False
    """Whether it, or a class of the project that it derives from, has a `train` method."""


class Entry(Enum):
    """What a timeline starts from."""

    MODULE = "module body"
    FUNCTION = "function"
    METHOD = "method"


@dataclass(eq=False)
class Timeline:
    """Everything that happens from one entry point."""

    name: str
    """The file's, function's or `Class.method`'s name."""
    path: str
    entry: Entry
    steps: tuple[Step, ...] = ()
    models: tuple[Model, ...] = ()
    loaders: tuple[Loader, ...] = ()
    shows_batch_norm: bool = False
    """Whether the entry point's file names BatchNorm or a known model that holds it."""
    is_test: bool = False
    """Whether the file is a unit test or a benchmark, where weights mean nothing."""
    driven_by: str = ""
    """The framework that calls this entry point and manages modes; empty: none."""
    leaves_modes_alone: bool = False
    """For a LightningModule: whether it, and what it derives from, calls no `eval()` and keeps no
    average of a network."""
    only_evaluated: frozenset[str] = frozenset()
    """For a LightningModule that averages a network: the attributes that its hooks run in
    evaluation alone."""
    managed: frozenset[str] = frozenset()
    """Functions and classes that the settings say call train() and eval() themselves."""
    said: Texts = field(default_factory=lambda: Texts({}))
    """What the files of the run say."""
    minimum_batch_size: int = 8
    """Training batches below this are tiny; from the settings."""
    classes: tuple[ModuleClass, ...] = ()
    """For MODULE: the network classes of the file."""
    freeze_tests: tuple[FreezeTest, ...] = ()
    """For MODULE: the freezing `isinstance` tests of the file."""
    gradient_stops: tuple[GradientStop, ...] = ()
    """For MODULE: what the constructors of the file's networks freeze by halves."""
    lost_freezes: tuple[LostFreeze, ...] = ()
    """For MODULE: what they freeze whole, until the first `train()`."""
    fits: tuple[tuple[Step, ...], ...] = ()
    """What each `fit` of Lightning's does with a network; its training steps are not in `steps`."""

    @cached_property
    def _occurrences(self) -> list[Occurrence]:
        return list(occurrences(self.steps))

    def occurrences(self) -> list[Occurrence]:
        """Return every event in source order, each with the blocks around it."""
        return self._occurrences

    @cached_property
    def usual(self) -> Timeline | None:
        """What runs with the settings as they are; None where none is known to choose anything."""
        if not any(isinstance(b, Branch) and b.usual is not None for b in self._blocks()):
            return None
        return replace(self, steps=as_usual(self.steps))

    def _blocks(self) -> set[Block]:
        return {block for occurrence in self._occurrences for block in occurrence.inside}

    @cached_property
    def _by_kind(self) -> dict[type[Event], list[Occurrence]]:
        found: dict[type[Event], list[Occurrence]] = {}
        for occurrence in self._occurrences:
            found.setdefault(type(occurrence.event), []).append(occurrence)
        return found

    def of(self, kind: type[AnyEvent]) -> list[tuple[Occurrence, AnyEvent]]:
        """Return the events of one kind in source order, each with where it stands."""
        return cast(
            list[tuple[Occurrence, AnyEvent]],
            [(found, found.event) for found in self._by_kind.get(kind, ())],
        )

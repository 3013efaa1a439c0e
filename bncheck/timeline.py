"""What happens to the models of a script: the one description that every BN2xx-BN5xx check reads.

A `Timeline` is what runs from one entry point: a module's body, a function or a method that the
project does not call itself. Its steps are events and blocks. Functions and methods of the same
project are followed where they are called, so an `evaluate(model)` that calls `eval()` stands as
a `Call` with a `ModeChange` in it. A step is one occurrence: a function called twice has its
events twice, at the same site. This module imports neither libcst nor torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import TypeVar, cast

from bncheck.graph import UNKNOWN, Site, Unknown

Fact = bool | Unknown
"""Yes, no or unknown; only yes makes a finding."""
Number = int | Unknown


class Origin(Enum):
    """Where a model comes from."""

    PROJECT = "a class of the project"
    ZOO = "a known model library"
    LOADED = "torch.load, torch.jit.load or torch.hub"
    PARAMETER = "a parameter of the entry point"
    SELF = "the network whose method the entry point is"
    UNKNOWN = "unknown"


@dataclass(eq=False)
class Model:
    """One model object. Wrapping it (DataParallel, compile, ...) leaves it the same `Model`."""

    name: str
    """As the source first calls it, such as `model` or `self.net`."""
    origin: Origin
    type_name: str
    """Qualified class or factory, such as `torchvision.models.resnet18`; empty: unknown."""
    site: Site
    """Where it is made, or the parameter."""
    holds_batch_norm: Fact = UNKNOWN
    norm_kinds: frozenset[str] = frozenset()
    """Names of the BatchNorm classes known to be in it, such as `BatchNorm1d`."""
    pretrained: Fact = UNKNOWN
    """Whether it is made with trained weights."""
    starts_in_eval: Fact = False
    """Whether what makes it returns it in eval mode."""
    parent: Model | None = None
    """The model that it is a part of, for `model.backbone`."""
    overrides_train: Fact = False
    """Whether its class has a `train` method of its own."""
    driven_by: str = ""
    """The framework that calls `train()` and `eval()` on it, such as `lightning`; empty: none."""
    one_value_norm: Fact = UNKNOWN
    """Whether a BatchNorm in it sees one value per channel and sample: it fails on one sample."""

    def within(self, other: Model) -> bool:
        """Tell whether this is `other` or a part of it."""
        model: Model | None = self
        while model is not None:
            if model is other:
                return True
            model = model.parent
        return False


@dataclass(eq=False)
class Loader:
    """A data loader; `batch_size` and the like are constants or `UNKNOWN`."""

    name: str
    """As the source first calls it, such as `train_loader`."""
    site: Site
    """The call that makes it."""
    batch_size: Number = UNKNOWN
    drop_last: Fact = False
    shuffle: Fact = False
    dataset_length: Number = UNKNOWN
    distributed: Fact = False
    """Whether a DistributedSampler splits its data."""
    custom_batches: Fact = False
    """Whether it has a batch sampler or collate function that decides the batches."""
    training: Fact = UNKNOWN
    """Whether it feeds training, by its names and `shuffle`."""


class Mode(Enum):
    """What `Module.training` says."""

    TRAIN = "train"
    EVAL = "eval"
    UNKNOWN = "unknown"


class Target(Enum):
    """What of a model an event changes."""

    WHOLE = "whole"
    NORMS = "its normalisation layers"
    DROPOUTS = "its dropout layers"
    PART = "some of its layers"


# --- events ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Event:
    """Something that happens at a site."""

    site: Site


AnyEvent = TypeVar("AnyEvent", bound=Event)


@dataclass(frozen=True, eq=False)
class ModelEvent(Event):
    """Something that happens to a model."""

    model: Model


@dataclass(frozen=True, eq=False)
class Made(ModelEvent):
    """The model is constructed or loaded; in a loop, each time anew."""


@dataclass(frozen=True, eq=False)
class ModeChange(ModelEvent):
    """`train()`, `eval()`, or a loop or `apply` over modules that calls them."""

    mode: Mode
    target: Target = Target.WHOLE
    classes: tuple[str, ...] = ()
    """The classes that an `isinstance` test in a loop over modules asks for."""
    statement: Site | None = None
    """The whole statement, for fixes."""


@dataclass(frozen=True, eq=False)
class ModeNotCalled(ModelEvent):
    """`model.eval` without parentheses, or `model.training = False`."""

    mode: Mode
    assigned: bool
    """True for the assignment to `training`."""
    text: str
    """Source of the expression without the missing parentheses."""


@dataclass(frozen=True, eq=False)
class ForwardCall(ModelEvent):
    """`model(x)` or another call that runs its forward pass."""

    batch_size: Number = UNKNOWN
    made_up_input: bool = False
    """Whether an argument is made on the spot: `torch.randn(...)`, `torch.zeros(...)`."""
    discarded: bool = False
    """Whether nothing uses the result."""
    arguments: tuple[str, ...] = ()
    """The names in the arguments, such as `images` or `val_x`."""
    made_of: tuple[str, ...] = ()
    """Without gradients: the names in what those names were assigned."""
    statement: Site | None = None
    loader: Loader | None = None
    """Where its input comes from, where known."""


@dataclass(frozen=True, eq=False)
class LoadWeights(ModelEvent):
    """`load_state_dict` or the like."""

    strict: Fact = True


class WrapKind(Enum):
    """What wraps a model."""

    DATA_PARALLEL = "DataParallel"
    DISTRIBUTED = "DistributedDataParallel"
    SYNC_BATCH_NORM = "SyncBatchNorm.convert_sync_batchnorm"
    COMPILE = "torch.compile"
    SCRIPT = "torch.jit.script"
    AVERAGED = "an average of its weights"
    OTHER = "other"


@dataclass(frozen=True, eq=False)
class Wrap(ModelEvent):
    """A wrapper around a model, or a conversion of it. `kind` SYNC_BATCH_NORM is apex's too."""

    kind: WrapKind
    keywords: Mapping[str, object] = field(default_factory=dict)
    """Constant keyword arguments; a keyword that is given but not constant is `UNKNOWN`."""
    kept: Fact = True
    """Whether the result is used."""
    result: Model | None = None
    """The averaged copy, for AVERAGED; otherwise the model stays the same."""
    function: str = ""
    """Qualified name of what is called, for AVERAGED."""


class ExportKind(Enum):
    """How a model is exported or captured."""

    ONNX = "torch.onnx.export"
    TRACE = "torch.jit.trace"
    SCRIPT = "torch.jit.script"
    PROGRAM = "torch.export.export"
    COMPILE = "torch.compile"
    QUANTIZATION = "quantization prepare"


@dataclass(frozen=True, eq=False)
class Export(ModelEvent):
    """A call that captures the model as it stands."""

    kind: ExportKind
    keywords: Mapping[str, object] = field(default_factory=dict)
    function: str = ""
    """Qualified name of what is called."""
    saved: Fact = UNKNOWN
    """For SCRIPT: whether the result is saved to a file."""


@dataclass(frozen=True, eq=False)
class RequiresGrad(ModelEvent):
    """`p.requires_grad = value` or `requires_grad_(value)` over (some of) its parameters."""

    value: Fact
    target: Target = Target.WHOLE
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class SetMomentum(ModelEvent):
    """`m.momentum = value` over its BatchNorm layers."""

    value: object
    classes: tuple[str, ...] = ()
    saved: bool = False
    """Whether the old value is kept, to be restored."""


@dataclass(frozen=True, eq=False)
class OptimizerBuilt(ModelEvent):
    """Its parameters, or some of them, are given to an optimizer."""


@dataclass(frozen=True, eq=False)
class BackwardCall(Event):
    """`loss.backward()`, `scaler.scale(loss).backward()`, `accelerator.backward(loss)`."""


@dataclass(frozen=True, eq=False)
class OptimizerStep(Event):
    """`optimizer.step()`. `every` is 1, or the steps of accumulation, or UNKNOWN of those."""

    every: Number = 1


@dataclass(frozen=True, eq=False)
class CheckpointCall(ModelEvent):
    """`torch.utils.checkpoint.checkpoint(model, ...)` or one of its parts."""

    function: str = ""
    direct: bool = True
    """False: a function is checkpointed that may not use the model's BatchNorm layers."""
    compensated: Fact = False
    """Whether the momentum of its layers may be that of two half updates."""


@dataclass(frozen=True, eq=False)
class AverageUpdate(ModelEvent):
    """A loop that averages the parameters of `source` into `model` (EMA, SWA) by hand."""

    source: Model | None
    buffers: Fact
    """Whether buffers are averaged or copied too."""


@dataclass(frozen=True, eq=False)
class UpdateStatistics(ModelEvent):
    """`torch.optim.swa_utils.update_bn(loader, model)` or the like."""


@dataclass(frozen=True, eq=False)
class Copied(ModelEvent):
    """`copy.deepcopy(source)`: `model` has the weights and the mode of `source`."""

    source: Model


@dataclass(frozen=True, eq=False)
class Assembled(ModelEvent):
    """A container such as `nn.Sequential` is made of `source`: that keeps its mode."""

    source: Model


@dataclass(frozen=True, eq=False)
class DeviceMove(ModelEvent):
    """`model.to(device)`, `.cuda()`, `.cpu()`; `device` is constant text or empty."""

    device: str = ""


@dataclass(frozen=True, eq=False)
class ProcessGroup(Event):
    """`torch.distributed.init_process_group(...)`."""


@dataclass(frozen=True, eq=False)
class Escape(ModelEvent):
    """The model is given to code that is not followed: its mode and wrapping are unknown."""

    function: str = ""


class Exit(Enum):
    """How a block is left early."""

    RETURN = "return"
    BREAK = "break"
    CONTINUE = "continue"
    RAISE = "raise"


@dataclass(frozen=True, eq=False)
class Leave(Event):
    """`return`, `break`, `continue`, `raise`: what follows in the block does not run."""

    exit: Exit


# --- blocks ---------------------------------------------------------------------------------


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


@dataclass(frozen=True, eq=False)
class Loop(Enclosing):
    """Its steps run any number of times, each time after the last."""

    site: Site
    steps: tuple[Step, ...]
    loader: Loader | None = None
    """The loader that it goes over, where known."""
    over: str = ""
    """The names in what it goes over, space-separated, such as `test_loader`."""


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
        for block in reversed(self.inside):
            if isinstance(block, Context):
                match block.kind:
                    case ContextKind.NO_GRAD | ContextKind.INFERENCE_MODE:
                        return False
                    case ContextKind.ENABLE_GRAD:
                        return True
                    case ContextKind.MAYBE_GRAD:
                        return UNKNOWN
        return True

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


def occurrences(steps: tuple[Step, ...], inside: tuple[Block, ...] = ()) -> Iterator[Occurrence]:
    """Yield the events of steps in source order, each with the blocks around it."""
    for step in steps:
        if isinstance(step, Event):
            yield Occurrence(step, inside)
        else:
            for part in children(step):
                yield from occurrences(part, (*inside, step))


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
    stops_gradients: bool
    function: str
    """The function it stands in; empty at module level."""
    class_name: str = ""
    """The class whose method that is."""
    eval_site: Site | None = None
    """The call of `eval()` in its body."""
    function_stops_gradients: bool = False
    """Whether the function that it stands in sets `requires_grad` as well."""


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
    managed: frozenset[str] = frozenset()
    """Functions and classes that the settings say call train() and eval() themselves."""
    called_on_others: frozenset[str] = frozenset()
    """Names of methods that the project's files call on something other than `self`."""
    norm_kinds: frozenset[str] = frozenset()
    """The BatchNorm classes that the project's files use and not only test for."""
    minimum_batch_size: int = 8
    """Training batches below this are tiny; from the settings."""
    classes: tuple[ModuleClass, ...] = ()
    """For MODULE: the network classes of the file."""
    freeze_tests: tuple[FreezeTest, ...] = ()
    """For MODULE: the freezing `isinstance` tests of the file."""

    @cached_property
    def _occurrences(self) -> list[Occurrence]:
        return list(occurrences(self.steps))

    def occurrences(self) -> list[Occurrence]:
        """Return every event in source order, each with the blocks around it."""
        return self._occurrences

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

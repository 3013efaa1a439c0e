"""What can happen to a model in a script: models, data loaders, and the events of a `Timeline`.

This module imports neither libcst nor torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

from bncheck.graph import UNKNOWN, Site, Unknown

Fact = bool | Unknown
"""Yes, no or unknown; only yes makes a finding."""
Number = int | Unknown
SYNCHRONISED_NORMS = frozenset({"SyncBatchNorm", "SyncBatchNormAct"})


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
    kept_by: list[Model] = field(default_factory=list)
    """The other models that it is a part of, too."""
    overrides_train: Fact = False
    """Whether its class has a `train` method of its own."""
    driven_by: str = ""
    """The framework that calls `train()` and `eval()` on it, such as `lightning`; empty: none."""
    synchronised: bool = False
    """Whether it is given norms that share their statistics, of torch's or another kind."""
    by_default: bool = True
    """False where a setting chooses it and another one is made with the settings as they are."""
    one_value_norm: Fact = UNKNOWN
    """Whether a BatchNorm in it sees one value per channel and sample: it fails on one sample."""
    one_value_per_graph: bool = False
    """Whether a BatchNorm in it stands behind the pooling of each graph of a batch."""

    called_later: list[str] = field(default_factory=list)
    """The other names that it is given, such as what keeps what a builder returned."""

    confirm: Callable[[], Fact] | None = None
    """Asks again whether it holds BatchNorm, in a way that takes longer and is surer."""

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that the source gives it, the first one first."""
        return self.name, *self.called_later

    @property
    def shares_statistics(self) -> bool:
        """Whether it is made with norms that share their statistics, of torch's or another kind."""
        return self.synchronised or not SYNCHRONISED_NORMS.isdisjoint(self.norm_kinds)

    def within(self, other: Model) -> bool:
        """Tell whether this is `other` or a part of it."""
        model: Model | None = self
        while model is not None:
            if model is other or any(keeper.within(other) for keeper in model.kept_by):
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
    for_each_device: Number = UNKNOWN
    """How many samples a batch holds for each device, where it is so many times their number."""
    drop_last: Fact = False
    shuffle: Fact = False
    dataset_length: Number = UNKNOWN
    distributed: Fact = False
    """Whether a DistributedSampler splits its data."""
    custom_batches: Fact = False
    """Whether a batch sampler or collate function decides what a batch is.

    UNKNOWN: a collate function stacks samples, and joins something of theirs in another way too.
    """
    graphs: bool = False
    """Whether a batch is of graphs, joined to one."""
    training: Fact = UNKNOWN
    """Whether it feeds training, by its names and `shuffle`."""
    instead: tuple[Loader, ...] = ()
    """Those that stand for it on other paths, where branches bind a name to different ones."""


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
    REST = "some of its layers, with normalisation layers among the others"


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
    by_flag: bool = False
    """Whether a flag decides that says if the network is trained: `train(is_training)`."""


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
    """Whether nothing uses the result, or nothing but its shape."""
    arguments: tuple[str, ...] = ()
    """The names in the arguments, such as `images` or `val_x`."""
    made_of: tuple[str, ...] = ()
    """Without gradients: the names in what those names were assigned."""
    place: Site | None = None
    """Where to put a line that is to run before it, and not at each turn of a loop."""
    loader: Loader | None = None
    """Where its input comes from, where known."""
    called: str = ""
    """What the model is called where it runs, such as `self.net`; empty: it has no name there."""
    volatile: bool = False
    """Whether its input is a `Variable(..., volatile=True)`, which records no gradients."""
    unpacked: bool = False
    """Whether its input is one sample of a batch, whose own rows are a batch."""


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
    of_wrapper: Fact = False
    """Whether what is given is what DistributedDataParallel put around the model."""


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
    said: Site | None = None
    """Where a helper says so that is called at the site."""


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
class Count:
    """A condition that holds once in so many rounds of a loop: `if step % 16 == 0`."""


@dataclass(frozen=True, eq=False)
class Gathering(Count):
    """A count by which the optimizer waits while each round goes backward, as a library does it."""


@dataclass(frozen=True, eq=False)
class BackwardCall(Event):
    """`loss.backward()`, `scaler.scale(loss).backward()`, `accelerator.backward(loss)`."""

    count: Count | None = None
    """The count that it waits for."""


@dataclass(frozen=True, eq=False)
class OptimizerStep(Event):
    """`optimizer.step()`."""

    count: Count | None = None
    """The count that it waits for."""


@dataclass(frozen=True, eq=False)
class CheckpointCall(ModelEvent):
    """`torch.utils.checkpoint.checkpoint(model, ...)` or one of its parts."""

    function: str = ""
    direct: bool = True
    """False: a function is checkpointed that may not use the model's BatchNorm layers."""
    compensated: Fact = False
    """Whether the momentum of its layers may be that of two half updates."""
    is_set: Callable[[str], bool] = lambda name: False
    """Asks whether a settings file or a shell script of the project turns a switch on."""


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

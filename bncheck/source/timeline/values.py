"""What a name can stand for while a script is followed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeVar

import libcst as cst

from bncheck.events import Fact, Loader, Model, Number
from bncheck.graph import UNKNOWN, Site
from bncheck.source.module import SourceModule

Key = TypeVar("Key")
LONGEST_TEXT = 10_000
"""Characters of a text that code puts together; what is longer is not known."""


@dataclass(frozen=True)
class Constant:
    """A constant. One that is not `fixed` is a default that a user may override."""

    value: object
    fixed: bool = True


@dataclass(frozen=True)
class Models:
    """One model; several where branches bind a name to different ones."""

    models: tuple[Model, ...]
    exists: Constant | Opaque | None = None
    """Whether it is not None, where only some paths bind the name to a model."""
    wrapper: Fact = False
    """Whether this is what DistributedDataParallel put around it, and not the model itself."""


@dataclass(frozen=True)
class Members:
    """The modules or parameters of a model, or one of them while a loop goes over them."""

    model: Model
    parameters: bool
    classes: tuple[str, ...] = ()
    """Those that an `isinstance` test has let through; empty: all."""
    one: bool = False
    part: bool = False
    """Only some of them: a test on names, a slice."""
    rest: bool = False
    """Only some, and normalisation layers are among the others: the last stages, for example."""


@dataclass(frozen=True)
class Turned:
    """A flag that a loop over members turns at one of them: `if name == start: found = True`."""

    member: Members
    first: bool
    """What it is for the members before."""


@dataclass(eq=False)
class Weights:
    """Tensors that were computed from the parameters of networks; a list or dict of them too."""

    models: tuple[Model, ...]
    mixed: bool = False
    """Whether they were weighed, or several added."""


@dataclass(frozen=True)
class StateDict:
    """What `model.state_dict()` returns, or one tensor of it: what is copied there is loaded."""

    model: Model


@dataclass(frozen=True)
class Data:
    """A data loader, or something that iterates over it."""

    loader: Loader
    made: Instance | None = None
    """The object, if it is of a class of the project's own."""


@dataclass(frozen=True)
class Tensor:
    """A tensor whose batch size may be known."""

    batch_size: Number = UNKNOWN
    made_up: bool = False
    loader: Loader | None = None
    """Where its data comes from."""
    volatile: bool = False
    """Whether nothing that is computed from it records gradients, as torch had it before 0.4."""
    unpacked: bool = False
    """Whether it is the one sample of a batch, whose own rows are a batch: `x.squeeze(0)`."""

    def of_size(self, batch_size: Number) -> Tensor:
        """Return the same data in batches of another size."""
        return replace(self, batch_size=batch_size)


@dataclass(frozen=True)
class Optimizer:
    """An optimizer."""


@dataclass(frozen=True)
class Outside:
    """A name from outside the project, such as `torch.nn.Linear`, not called yet."""

    name: str


@dataclass(frozen=True)
class Package:
    """A module of the project."""

    module: SourceModule


@dataclass(frozen=True, eq=False)
class Use:
    """A call of a helper, and what it is given there."""

    site: Site
    given: tuple[Value, ...]
    within: Frame
    """Where the call stands."""


@dataclass(frozen=True)
class AnyPackage:
    """A module of the project that is chosen at run time: `import_module(name)`."""


@dataclass(eq=False)
class Frame:
    """The names of a function that runs, or of a module."""

    module: SourceModule
    function: str
    names: dict[str, Value] = field(default_factory=dict)
    outer: Frame | None = None
    """Where a nested function's free names are looked up; None: in the module."""
    returned: list[Value] = field(default_factory=list)
    settled: tuple[Value, ...] | None = None
    """Those of them that are returned with the settings as they are, once that is known."""
    unusual: set[int] = field(default_factory=set)
    """The places of those that are returned with other settings only."""
    owner: Class | None = None
    """The class whose method this is, for `super()`."""
    receiver: Value | None = None
    use: Use | None = None
    """The call that runs it, for a function by itself."""
    assigned: dict[str, cst.BaseExpression] = field(default_factory=dict)
    """What a name was last assigned."""
    around: list[tuple[cst.CSTNode, int]] = field(default_factory=list)
    """The loops and `with` statements around what runs, and how many models there were before."""
    outside: dict[str, Frame] = field(default_factory=dict)
    """Names that `global` or `nonlocal` says belong to another frame."""
    evaluates: bool = False
    """Whether a test of `self.training` says that what runs here trains nothing."""


@dataclass(frozen=True, eq=False)
class Function:
    """A function of the project; `receiver` is what it is bound to."""

    node: cst.FunctionDef | cst.Lambda
    module: SourceModule
    name: str
    outer: Frame | None = None
    receiver: Value | None = None
    owner: Class | None = None


@dataclass(frozen=True)
class Class:
    """A class of the project."""

    node: cst.ClassDef
    module: SourceModule


@dataclass(eq=False)
class Instance:
    """An object of a project class that is no network; its attributes are on the heap."""

    cls: Class


@dataclass(eq=False)
class Container:
    """A list, tuple or dict whose elements are known."""

    elements: tuple[Value, ...]
    keys: tuple[object, ...] | None = None
    """For a dict: constants, or UNKNOWN."""
    changed: bool = False
    """Whether a dict may have lost keys or got others since, in ways that are not followed."""
    instead: tuple[Container, ...] = ()
    """Those of other lengths that stand for it on other paths."""
    grown: bool = False
    """Whether elements were added, which a loop may have done any number of times."""

    def with_last_ones(self) -> Container:
        """Return the dict in which the last of several elements under one key counts."""
        keys = self.keys or ()
        if len(set(keys)) == len(keys) or UNKNOWN in keys:
            return self
        last = dict(zip(keys, self.elements, strict=True))
        return Container(tuple(last.values()), tuple(last))

    def forget(self, method: str) -> None:
        """Note that a method of a dict may have changed which keys it has, or more."""
        self.changed = True
        if method == "update":
            known = (Opaque() if isinstance(e, Constant) else e for e in self.elements)
            self.elements = tuple(known)

    def lacks(self, key: Value) -> bool:
        """Tell whether this is a dict that surely does not have a key."""
        return (
            self.keys is not None
            and UNKNOWN not in self.keys
            and not self.changed
            and isinstance(key, Constant)
            and key.fixed
            and key.value not in self.keys
        )


@dataclass(eq=False)
class Settings:
    """A parsed command line or a configuration: attribute to default."""

    defaults: dict[str, Value]


@dataclass(eq=False)
class Parser:
    """An `argparse.ArgumentParser`, with the defaults given so far."""

    defaults: dict[str, Value] = field(default_factory=dict)
    commands: list[Parser] = field(default_factory=list)
    """The parsers of its subcommands, of which one is chosen."""


@dataclass(frozen=True)
class File:
    """A settings file beside the script: its path, or the file once it is open, or its text."""

    path: str


@dataclass(frozen=True)
class ModeOf:
    """`model.training`, read."""

    model: Model


@dataclass(eq=False)
class Opaque:
    """Something that is not understood.

    It becomes a model when it is used as only models are: then `model` is set.
    """

    name: str = ""
    site: Site | None = None
    type_name: str = ""
    parameter: bool = False
    holds: tuple[Model, ...] = ()
    """Models that were given to what made it, and that its methods may change."""
    model: Model | None = None
    owner: Model | None = None
    """The network that it is an attribute of."""
    attribute_of: Opaque | None = None
    """What it is an attribute of, where that may turn out to be a network."""
    length: Number = UNKNOWN
    """How many samples it holds, for a dataset."""
    at_most: Number = UNKNOWN
    """The largest number that it can be: a batch size that is divided by the number of devices, or
    that shell scripts give."""
    for_each: Number = UNKNOWN
    """For a number that is so many times the number of devices: how many that is for each."""
    texts: tuple[str, ...] = ()
    """What it may be: a text on each path, or what the settings files of the project say."""


@dataclass(frozen=True)
class Method:
    """`value.name`, about to be called."""

    value: Value
    name: str


@dataclass(frozen=True, eq=False)
class Partial:
    """`functools.partial(value, ...)`."""

    value: Value
    positional: tuple[Value, ...]
    keywords: dict[str, Value]


Value = (
    Constant
    | Models
    | Members
    | Weights
    | Turned
    | StateDict
    | Data
    | Tensor
    | Optimizer
    | Outside
    | Package
    | AnyPackage
    | Function
    | Class
    | Instance
    | Container
    | Settings
    | Parser
    | File
    | ModeOf
    | Opaque
    | Method
    | Partial
)

NONE = Constant(None)


def truth(value: Value) -> bool | None:
    """Tell whether a value is true; None: unknown, or a default that a user may override."""
    match value:
        case Constant(value=constant, fixed=True):
            return bool(constant)
        case Models(exists=None) | Function() | Class() | Instance():
            return True
    return None

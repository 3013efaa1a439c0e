"""What a name can stand for while a script is followed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeVar

import libcst as cst

from bncheck.events import Loader, Model, Number
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

    def with_last_ones(self) -> Container:
        """Return the dict in which the last of several elements under one key counts."""
        keys = self.keys or ()
        if len(set(keys)) == len(keys) or UNKNOWN in keys:
            return self
        last = dict(zip(keys, self.elements, strict=True))
        return Container(tuple(last.values()), tuple(last))

    def put(self, key: object, value: Value) -> None:
        """Add an element, or set one; what it had in that place it may still have."""
        if self.keys is not None and key is not UNKNOWN and key in self.keys:
            place = self.keys.index(key)
            joined = join([self.elements[place], value])
            self.elements = (*self.elements[:place], joined, *self.elements[place + 1 :])
            return
        if (
            self.keys is None
            and isinstance(key, int)
            and -len(self.elements) <= key < len(self.elements)
        ):
            known = list(self.elements)
            known[key] = join([known[key], value])
            self.elements = tuple(known)
            return
        self.elements = (*self.elements, value)
        if self.keys is not None:
            self.keys = (*self.keys, key)

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

    def of_length(self, length: int) -> tuple[Value, ...] | None:
        """Return the elements, joined over all paths, if it may be a sequence of that length."""
        fitting = [c for c in (self, *self.instead) if c.keys is None and len(c.elements) == length]
        return _side_by_side(fitting) if fitting else None


@dataclass(eq=False)
class Settings:
    """A parsed command line or a configuration: attribute to default."""

    defaults: dict[str, Value]


@dataclass(eq=False)
class Parser:
    """An `argparse.ArgumentParser`, with the defaults given so far."""

    defaults: dict[str, Value] = field(default_factory=dict)


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
    length: Number = UNKNOWN
    """How many samples it holds, for a dataset."""
    texts: tuple[str, ...] = ()
    """For a setting: what the settings files of the project say that it may be."""


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


def join(values: list[Value], usual: Value | None = None) -> Value:
    """Return what a name stands for that is bound to one of these on different paths.

    `usual` is the one on the path that the settings as they are lead to: a number or a text stays
    what it is there, unless a user sets something else, and an object, class or function stands
    for all.
    """
    first = values[0]
    if all(value == first for value in values[1:]):
        return first
    match usual:
        case Constant(value=bool()):
            pass
        case Constant(value=int() | float() | str() as constant):
            return Constant(constant, fixed=False)
        case Instance() | Class() | Function() | Partial():
            return usual
    models = [value for value in values if isinstance(value, Models)]
    if models:
        together = dict.fromkeys(model for value in models for model in value.models)
        return Models(tuple(together))
    informative = [v for v in values if not isinstance(v, Constant) or v.value is not None]
    loaders = [value.loader for value in informative if isinstance(value, Data)]
    if loaders:
        return Data(_one_of_loaders(loaders))
    containers = [value for value in informative if isinstance(value, Container)]
    if containers and all(container.keys is None for container in containers):
        return _one_of_containers(containers, usual)
    for value in informative:
        if not isinstance(value, Constant | Tensor | Opaque):
            return value
    if informative and all(isinstance(value, Tensor) for value in informative):
        return Tensor()
    if informative and all(value == informative[0] for value in informative):
        return informative[0] if not isinstance(informative[0], Constant) else Opaque()
    opaque = [value for value in informative if isinstance(value, Opaque)]
    holds = dict.fromkeys(model for value in opaque for model in value.holds)
    named = next((value for value in opaque if value.parameter or value.type_name), None)
    if named is not None and len(opaque) == 1:
        return named
    return Opaque(holds=tuple(holds), name=opaque[0].name if opaque else "")


def join_states(states: list[dict[Key, Value]], usual: int | None) -> dict[Key, Value]:
    """Return what names stand for after several paths; `usual` is the place of the usual one."""
    if len(states) == 1:
        return states[0]
    result: dict[Key, Value] = {}
    for key in dict.fromkeys(key for state in states for key in state):
        values = [state[key] for state in states if key in state]
        first = values[0]
        same = all(value is first for value in values[1:])
        chosen = states[usual].get(key) if usual is not None else None
        result[key] = first if same else join(values, chosen)
    return result


def _one_of_loaders(loaders: list[Loader]) -> Loader:
    every = {
        (loader.site, loader.batch_size): loader
        for joined in loaders
        for loader in (joined, *joined.instead)
    }
    first, *others = every.values()
    return replace(first, instead=tuple(others))


def _one_of_containers(containers: list[Container], usual: Value | None) -> Container:
    if all(map(_is_of_texts, containers)):
        # Which text stands in which place says nothing: each list stays what it is.
        chosen = usual if isinstance(usual, Container) else containers[0]
        every = [one for joined in containers for one in (joined, *joined.instead)]
        instead = tuple(one for one in every if one.elements != chosen.elements)
        return Container(chosen.elements, instead=instead)
    by_length: dict[int, list[Container]] = {}
    for joined in containers:
        for container in (joined, *joined.instead):
            by_length.setdefault(len(container.elements), []).append(container)
    first, *others = (Container(_side_by_side(same)) for same in by_length.values())
    first.instead = tuple(others)
    return first


def _is_of_texts(container: Container) -> bool:
    return all(isinstance(e, Constant) and isinstance(e.value, str) for e in container.elements)


def _side_by_side(containers: list[Container]) -> tuple[Value, ...]:
    """Return the joined elements of sequences of one length; sequences in them stay the first's."""
    return tuple(
        values[0] if isinstance(values[0], Container) else join(list(values))
        for values in zip(*(container.elements for container in containers), strict=True)
    )


def truth(value: Value) -> bool | None:
    """Tell whether a value is true; None: unknown, or a default that a user may override."""
    match value:
        case Constant(value=constant, fixed=True):
            return bool(constant)
        case Models() | Function() | Class() | Instance():
            return True
    return None

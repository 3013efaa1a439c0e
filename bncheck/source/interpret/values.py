"""What an expression of the interpreted program may be worth.

Constants (None, numbers, strings, tuples) stand for themselves. `UNKNOWN` is any value, `Symbol`
an unknown one with a name, `Either` one of a few. Lists, dictionaries and objects can change, so
they are `Heap` values: whoever changes one tells the machine first, which lets two branches of an
unknown condition be run one after the other and joined.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import libcst as cst

from bncheck.graph import UNKNOWN, Layer, Node, Site, Symbol, Unknown
from bncheck.source.project import External

if TYPE_CHECKING:
    from bncheck.source.interpret.machine import Frame, Machine
    from bncheck.source.interpret.memory import Recipe
    from bncheck.source.module import SourceModule

__all__ = ["UNKNOWN", "External", "Layer", "Node", "Site", "Symbol", "Unknown"]


class Missing(Enum):
    """No value: a name that is not bound, an argument that is not given."""

    MISSING = "missing"

    __hash__ = object.__hash__  # Enum's own is written in Python


MISSING: Final = Missing.MISSING


@dataclass(frozen=True, slots=True, eq=False)
class Either:
    """One of these values, depending on a condition that is not known."""

    options: tuple[object, ...]


@dataclass(slots=True, eq=False)
class Tensor:
    """A tensor that a node of the graph computes."""

    node: Node


@dataclass(frozen=True, slots=True)
class Parameter:
    """A tensor that does not depend on the network's input: a weight, a buffer, a constant.

    `role` is a name such as `running_mean` of one that is `layer`'s own, and `kept` of one that a
    module keeps otherwise; `tensor` of what was computed, from a tensor of the layer or from none.
    """

    layer: Layer | None = None
    role: str = "tensor"

    @property
    def computed(self) -> Parameter:
        """Another tensor, computed from this one."""
        return Parameter(self.layer) if self.role != "tensor" else self


@dataclass(frozen=True, slots=True, eq=False)
class Function:
    """A function, method or lambda of the project, with `receiver` once it is bound."""

    node: cst.FunctionDef | cst.Lambda
    module: SourceModule
    outer: Frame | None
    owner: Class | None = None
    receiver: object = MISSING
    defaults: dict[str, object] = field(default_factory=dict)
    kind: str = "function"
    """`function`, `static`, `class`, `property` or `contextmanager`."""

    @property
    def name(self) -> str:
        """The function's name."""
        return self.node.name.value if isinstance(self.node, cst.FunctionDef) else "<lambda>"


@dataclass(slots=True, eq=False)
class Class:
    """A class of the project."""

    node: cst.ClassDef
    module: SourceModule
    outer: Frame | None
    bases: list[object]
    namespace: dict[str, object] = field(default_factory=dict)
    order: list[Class | External] = field(default_factory=list)
    """The class and its ancestors, in the order in which attributes are looked up."""
    decorators: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    """Annotated names of the body, in order (a dataclass's fields)."""

    @property
    def name(self) -> str:
        """The class's name."""
        return self.node.name.value


@dataclass(frozen=True, slots=True, eq=False)
class Partial:
    """`functools.partial`: a callable with some arguments given."""

    function: object
    arguments: Arguments


@dataclass(frozen=True, slots=True, eq=False)
class Native:
    """A method of a built-in or torch.nn object, bound to it."""

    name: str
    run: Callable[[Machine, Arguments, Site | None], object]


@dataclass(frozen=True, slots=True, eq=False)
class Super:
    """`super()`: attribute look-up starts behind `owner`."""

    owner: Class
    receiver: object


@dataclass(frozen=True, slots=True, eq=False)
class ModuleReference:
    """A module of the project as a value."""

    module: SourceModule


@dataclass(slots=True, eq=False)
class Arguments:
    """The arguments of one call. `open` when a `*args` or `**kwargs` of it is not known."""

    positional: list[object] = field(default_factory=list)
    keywords: dict[str, object] = field(default_factory=dict)
    open: bool = False

    def at(self, position: int, default: object = UNKNOWN) -> object:
        """Return a positional argument; the default where it is not given."""
        return self.positional[position] if len(self.positional) > position else default

    def values(self) -> Iterator[object]:
        """Yield every argument."""
        yield from self.positional
        yield from self.keywords.values()


births = count(1)


class Heap:
    """A value that can change. `state` is None when its content is not known."""

    __slots__ = ("born", "state")
    state: Any
    born: int
    """Later values have greater numbers: what a path made itself, another cannot know."""

    def snapshot(self) -> Any:
        """Return a copy of the state that later changes leave alone."""
        return None if self.state is None else self.state.copy()


class List(Heap):
    """A list; an item may be `Branches`."""

    __slots__ = ()
    state: list[object] | None

    def __init__(self, items: list[object] | None) -> None:
        self.born = next(births)
        self.state = items


class Dictionary(Heap):
    """A dictionary with constant keys."""

    __slots__ = ()
    state: dict[object, object] | None

    def __init__(self, items: dict[object, object] | None) -> None:
        self.born = next(births)
        self.state = items


class Instance(Heap):
    """An object. A torch.nn layer is one too: without a class, with a `base` and a `layer`.

    `state` holds the attributes, submodules among them, in the order of their assignment; a
    Sequential's children are its attributes `0`, `1`, ... as in torch.
    """

    __slots__ = ("base", "cls", "copies", "layer", "recipe", "sealed", "site", "template")
    state: dict[str, object]
    layer: Layer | None

    def __init__(self, cls: Class | None, base: str | None, site: Site | None) -> None:
        self.born = next(births)
        self.cls = cls
        self.base = base
        """Name below `torch.nn` of the nearest torch ancestor, such as `Sequential`."""
        self.layer = None
        self.site = site
        self.state = {}
        self.recipe: Recipe | None = None
        self.sealed: Recipe | None = None
        """The recipe whose original this object belongs to."""
        self.template: Instance | None = None
        self.copies: dict[int, object] | None = None

    @classmethod
    def lazy(
        cls,
        template: Instance,
        site: Site | None,
        copies: dict[int, object],
        recipe: Recipe | None,
    ) -> Instance:
        """Return a copy of `template` that gets its `state` and `layer` when they are read."""
        made = cls.__new__(cls)
        made.born = next(births)
        made.cls = template.cls
        made.base = template.base
        made.site = site
        made.recipe = recipe
        made.sealed = None
        made.template = template
        made.copies = copies
        return made

    def __getattr__(self, name: str) -> Any:
        if name not in {"state", "layer"}:
            raise AttributeError(name)
        from bncheck.source.interpret.memory import copied_layer, copy_value

        template, copies = self.template, self.copies
        if template is None or copies is None:
            raise AttributeError(name)
        original = template.layer
        self.layer = None
        if original is not None:
            own = self.site if original.site is template.site else original.site
            self.layer = copied_layer(original, copies, own)
        self.state = {
            key: copy_value(value, copies, self.sealed) for key, value in template.state.items()
        }
        return getattr(self, name)

    @property
    def opened(self) -> bool:
        """Whether a copy has its own content already."""
        try:
            object.__getattribute__(self, "state")
        except AttributeError:
            return False
        return True

    @property
    def is_module(self) -> bool:
        """Whether it is an `nn.Module`, as far as known."""
        return self.base is not None


@dataclass(frozen=True, slots=True, eq=False)
class Branches:
    """Items of a list that differ between the paths which led here: one run of items for each."""

    options: tuple[tuple[object, ...], ...]


CONSTANT_TYPES: Final = frozenset(
    {type(None), bool, int, float, str, bytes, complex, type(...), frozenset}
)
"""No value is of a class derived from these, so a look at the class says all."""
_TRUTHS: Final = CONSTANT_TYPES | {tuple}
_EQUAL: Final = CONSTANT_TYPES | {Symbol, External, Parameter}


def is_constant(value: object) -> bool:
    """Tell whether a value is a constant, or a tuple of constants."""
    kind = value.__class__
    return kind in CONSTANT_TYPES or (isinstance(value, tuple) and all(map(is_constant, value)))


def options(value: object) -> tuple[object, ...]:
    """Return what a value may be: itself, or an `Either`'s options."""
    return value.options if isinstance(value, Either) else (value,)


def may_be_missing(value: object) -> bool:
    """Tell whether a dictionary's value is one that is there on some paths only."""
    return isinstance(value, Either) and MISSING in value.options


def same(one: object, other: object) -> bool:
    """Tell whether two values are surely the same."""
    if one is other:
        return one is not UNKNOWN
    if type(one) is not type(other):
        return False
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if one.__class__ in _EQUAL:
        return one == other
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.node is other.node
    if isinstance(one, Function) and isinstance(other, Function):
        return (
            one.node is other.node and one.outer is other.outer and one.receiver is other.receiver
        )
    return False


def truth(value: object) -> bool | None:
    """Return whether a value counts as true; None when that is not known."""
    if value.__class__ in _TRUTHS:
        return bool(value)
    if isinstance(value, (Unknown, Symbol, Tensor, Parameter)):
        return None
    if isinstance(value, (List, Dictionary)):
        if value.state is None or any(isinstance(item, Branches) for item in value.state):
            return None
        return bool(value.state)
    if isinstance(value, Either):
        found = {truth(option) for option in value.options}
        return found.pop() if len(found) == 1 else None
    if isinstance(value, Instance) and value.base in {"Sequential", "ModuleList", "ModuleDict"}:
        return True if children(value) else None
    return True


def children(instance: Instance) -> list[tuple[str, object]]:
    """Return the submodules of an instance, or what may be one, in order."""
    return [
        (name, value) for name, value in instance.state.items() if may_be_module(value, instance)
    ]


def may_be_module(value: object, parent: Instance) -> bool:
    """Tell whether an attribute's value is, or in a Sequential may be, a submodule."""
    if isinstance(value, Instance):
        return value.is_module
    if isinstance(value, Branches):
        return True
    if isinstance(value, Either):
        return any(may_be_module(option, parent) for option in value.options)
    if isinstance(value, Unknown):
        return parent.base == "Sequential"
    return False


def tensors_in(value: object, depth: int = 4) -> Iterator[Tensor]:
    """Yield the tensors in a value, those inside containers too."""
    if isinstance(value, Tensor):
        yield value
    elif depth:
        inner: Any = ()
        if isinstance(value, tuple):
            inner = value
        elif isinstance(value, Either):
            inner = value.options
        elif isinstance(value, List):
            inner = value.state or ()
        elif isinstance(value, Branches):
            inner = [item for option in value.options for item in option]
        elif isinstance(value, Dictionary) or (isinstance(value, Instance) and value.base is None):
            inner = (value.state or {}).values()
        for item in inner:
            yield from tensors_in(item, depth - 1)

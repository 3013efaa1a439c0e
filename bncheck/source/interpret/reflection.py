"""Built-in functions that ask for, or make, attributes, classes and signatures."""

from __future__ import annotations

from typing import Final

from bncheck.graph import Site, Symbol
from bncheck.source.interpret.attributes import attribute, find
from bncheck.source.interpret.containers import add_child
from bncheck.source.interpret.layers import signature
from bncheck.source.interpret.machine import Machine
from bncheck.source.interpret.sequences import (
    known_items,
)
from bncheck.source.interpret.values import (
    MISSING,
    UNKNOWN,
    Arguments,
    Class,
    Dictionary,
    Either,
    External,
    Function,
    Instance,
    List,
    Native,
    Parameter,
    Partial,
    Tensor,
    Unknown,
    is_constant,
)


def get_attribute(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    """Return what `getattr(...)` gives."""
    value, name = arguments.at(0), arguments.at(1)
    if not isinstance(name, str):
        return UNKNOWN
    default = arguments.at(2, MISSING)
    if default is not MISSING and value is None:
        return default
    if default is not MISSING and _has(machine, value, name) is False:
        return default
    if default is not MISSING and _has(machine, value, name) is None:
        found = attribute(machine, value, name, site)
        return found if found is default else UNKNOWN
    return attribute(machine, value, name, site)


def has_attribute(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    """Return what `hasattr(...)` gives."""
    name = arguments.at(1)
    known = _has(machine, arguments.at(0), name) if isinstance(name, str) else None
    return UNKNOWN if known is None else known


def _has(machine: Machine, value: object, name: str) -> bool | None:
    if isinstance(value, Instance):
        if name in value.state:
            return True
        if value.cls is None:
            return (value.layer is not None and name in value.layer.attributes) or None
        found = find(value.cls, name)
        if found is MISSING:
            return False
        if not isinstance(found, External):
            return True
        plain = value.base in {"Module", "Sequential", "ModuleList", "ModuleDict"}
        known = attribute(machine, value, name, None) is not UNKNOWN
        return True if known else (False if plain else None)
    if isinstance(value, (External, Function, Tensor)):
        return True if isinstance(value, External) else None
    if isinstance(value, Class):
        found = find(value, name)
        return False if found is MISSING else None if isinstance(found, External) else True
    return None


def set_attribute(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    """Return what `setattr(...)` gives."""
    value, name = arguments.at(0), arguments.at(1)
    if isinstance(value, Instance):
        add_child(machine, value, name, arguments.at(2))
    return None


def is_instance(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    """Return what `isinstance(...)` gives."""
    value, kinds = arguments.at(0), arguments.at(1)
    wanted = list(kinds) if isinstance(kinds, tuple) else [kinds]
    if isinstance(value, Either):
        found = {_is_one(option, wanted) for option in value.options}
        known = found.pop() if len(found) == 1 else None
    else:
        known = _is_one(value, wanted)
    return UNKNOWN if known is None else known


_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "builtins.int": (int,),
    "builtins.float": (float,),
    "builtins.str": (str,),
    "builtins.bool": (bool,),
    "builtins.tuple": (tuple,),
    "builtins.list": (List,),
    "builtins.dict": (Dictionary,),
    "collections.OrderedDict": (Dictionary,),
    "builtins.set": (frozenset,),
    "torch.Tensor": (Tensor, Parameter),
    "typing.Sequence": (tuple, List, str),
    "typing.Collection": (tuple, List, str, Dictionary, frozenset),
    "typing.Hashable": (tuple, str, int, float, frozenset, Class, Function, Instance),
    "enum.EnumMeta": (),
    "typing.Iterable": (tuple, List, str, Dictionary, frozenset),
    "typing.Callable": (Function, Class, Partial),
    "typing.Mapping": (Dictionary,),
    "numbers.Number": (int, float),
    "functools.partial": (Partial,),
    "builtins.type": (Class, External),
    "types.FunctionType": (Function,),
}


_ABSTRACT: Final = {
    "_NormBase": ("BatchNorm", "InstanceNorm"),
    "_BatchNorm": ("BatchNorm",),
    "_InstanceNorm": ("InstanceNorm",),
    "_ConvNd": ("Conv",),
    "_ConvTransposeNd": ("ConvTranspose",),
}
"""torch.nn's base classes of layers, by a part of the layers' names."""


def _is_one(value: object, wanted: list[object]) -> bool | None:
    if isinstance(value, (Unknown, Symbol)):
        return None
    answers = [_is(value, kind) for kind in wanted]
    if True in answers:
        return True
    return None if None in answers else False


def _is(value: object, kind: object) -> bool | None:
    if isinstance(kind, External):
        name = kind.name.replace("collections.abc.", "typing.")
        if name == "enum.EnumMeta" and isinstance(value, (Class, External)):
            return None
        if name in _TYPES:
            if isinstance(value, External):
                # Of what is outside the project, only torch.nn's names are known to be classes.
                return name == "builtins.type" if value.name.startswith("torch.nn.") else None
            return isinstance(value, _TYPES[name])
        if isinstance(value, Instance):
            short = name.rpartition(".")[2]
            if name == "torch.nn.Module":
                return True if value.is_module else None
            if short in _ABSTRACT and value.base is not None:
                return any(part in value.base for part in _ABSTRACT[short])
            if value.cls is not None:
                known = [a for a in value.cls.order if isinstance(a, External)]
                if kind in known:
                    return True
                return False if all(a.name.startswith("torch.nn.") for a in known) else None
            return value.base == short if name.startswith("torch.nn.") else None
        return False if is_constant(value) else None
    if isinstance(kind, Class):
        if isinstance(value, Instance):
            if value.cls is None:
                return False
            if kind in value.cls.order:
                return True
            unknown = [a for a in value.cls.order if isinstance(a, External)]
            return False if all(a.name.startswith("torch.nn.") for a in unknown) else None
        return False if is_constant(value) or isinstance(value, (List, Tensor)) else None
    return None


def is_subclass(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    """Return what `issubclass(...)` gives."""
    value, kinds = arguments.at(0), arguments.at(1)
    wanted = list(kinds) if isinstance(kinds, tuple) else [kinds]
    if not isinstance(value, Class):
        return UNKNOWN
    known = [kind for kind in wanted if isinstance(kind, (Class, External))]
    if any(kind in value.order for kind in known):
        return True
    return False if len(known) == len(wanted) else UNKNOWN


def is_callable(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    """Return what `callable(...)` gives."""
    value = arguments.at(0)
    if isinstance(value, (Unknown, Symbol, Either)):
        return UNKNOWN
    return isinstance(value, (Function, Class, Partial, External, Native)) or (
        isinstance(value, Instance) and value.is_module
    )


def type_of(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    """Return what `type(...)` gives."""
    value = arguments.at(0)
    if isinstance(value, Instance):
        if value.cls is not None:
            return value.cls
        return External(f"torch.nn.{value.base}")
    if isinstance(value, Partial):
        return External("functools.partial")
    torch_class = isinstance(value, External) and value.name.startswith("torch.nn.")
    return External("builtins.type") if torch_class else UNKNOWN


def named_tuple(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    """Return `collections.namedtuple(...)`: what makes an object with those attributes."""
    given = arguments.positional[1] if len(arguments.positional) > 1 else UNKNOWN
    names = (
        given.replace(",", " ").split() if isinstance(given, str) else known_items(machine, given)
    )
    if names is None or not all(isinstance(name, str) for name in names):
        return UNKNOWN
    fields = [name for name in names if isinstance(name, str)]

    def make(machine: Machine, arguments: Arguments, site: Site | None) -> object:
        made = Instance(None, None, site)
        made.state = dict.fromkeys(fields, UNKNOWN)
        made.state.update(zip(fields, arguments.positional, strict=False))
        made.state.update(arguments.keywords)
        return made

    return Native("namedtuple", make)


def signature_of(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    """Return `inspect.signature(...)`, of which the names of the parameters are known."""
    names = _parameters(arguments.positional[0]) if arguments.positional else None
    if names is None:
        return UNKNOWN
    made = Instance(None, None, site)
    made.state = {"parameters": Dictionary(dict.fromkeys(names, UNKNOWN))}
    return made


def _parameters(value: object) -> list[str] | None:
    if isinstance(value, Partial):
        return _parameters(value.function)
    if isinstance(value, External):
        prefix, _, short = value.name.rpartition(".")
        return [name for name, _ in signature(short)] or None if prefix == "torch.nn" else None
    skipped = 0 if isinstance(value, Function) and value.receiver is MISSING else 1
    initialiser = find(value, "__init__") if isinstance(value, Class) else value
    if not isinstance(initialiser, Function):
        return None
    parameters = initialiser.node.params
    positional = (*parameters.posonly_params, *parameters.params)[skipped:]
    names = [p.name.value for p in (*positional, *parameters.kwonly_params)]
    if parameters.star_kwarg is not None:
        names.append(parameters.star_kwarg.name.value)
    return names

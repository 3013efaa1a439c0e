"""Methods of `nn.Module` and of its containers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from bncheck.graph import Site, Symbol
from bncheck.source.interpret.facts import note
from bncheck.source.interpret.machine import Machine
from bncheck.source.interpret.modes import (
    apply_to_all,
    evaluate,
    modules,
    named_modules,
    train,
)
from bncheck.source.interpret.problems import PathEndsError
from bncheck.source.interpret.sequences import items_of
from bncheck.source.interpret.values import (
    UNKNOWN,
    Arguments,
    Branches,
    Dictionary,
    Either,
    Instance,
    List,
    Native,
    Parameter,
    Unknown,
    children,
)

_MOST_PICKED: Final = 6
"""Modules of a list that are all applied, where an index picks one that is not known."""

Method = Callable[[Machine, Instance, Arguments], object]


def module_method(value: Instance, name: str) -> object:
    """Return a method or attribute that every `nn.Module`, or this container, has."""
    if name in {"training", "device", "dtype"}:
        return UNKNOWN
    if name == "_modules":
        return Dictionary(dict(children(value)))
    found = _METHODS.get(name)
    if found is None and value.base in _CONTAINER:
        found = _CONTAINER[value.base or ""].get(name)
    if found is None:
        return UNKNOWN
    method = found
    return Native(name, lambda m, a, s: method(m, value, a))


def add_child(machine: Machine, parent: Instance, name: object, child: object) -> None:
    """Make `child` a submodule, as `add_module` does."""
    machine.change(parent)
    child = UNKNOWN if isinstance(child, Symbol) else child
    key = name if isinstance(name, str) else f"unknown {len(parent.state)}"
    if child is None:
        parent.state.pop(key, None)
    parent.state[key] = child


def fill(machine: Machine, parent: Instance, arguments: Arguments) -> None:
    """Run the constructor of a Sequential, ModuleList or ModuleDict."""
    given = arguments.positional
    if parent.base == "Sequential":
        if len(given) == 1 and isinstance(given[0], Dictionary):
            _fill_named(machine, parent, given[0])
            return
        for child in given:
            _append_child(machine, parent, child)
    elif given and given[0] is not None:
        if parent.base == "ModuleDict":
            _fill_named(machine, parent, given[0])
        else:
            _extend(machine, parent, arguments)
    if arguments.open:
        _append_child(machine, parent, UNKNOWN)


def _fill_named(machine: Machine, parent: Instance, given: object) -> None:
    if isinstance(given, Dictionary) and given.state is not None:
        for name, child in given.state.items():
            add_child(machine, parent, name, child)
        return
    given_items = items_of(machine, given)
    pairs = [items_of(machine, item) for item in given_items or ()]
    if given_items is None or not all(pair is not None and len(pair) == 2 for pair in pairs):
        _append_child(machine, parent, UNKNOWN)
        return
    for pair in pairs:
        assert pair is not None
        add_child(machine, parent, *pair)


def _append_child(machine: Machine, parent: Instance, child: object) -> None:
    machine.change(parent)
    child = UNKNOWN if isinstance(child, Symbol) else child
    number = len(parent.state) if parent.cls is None else len(children(parent))
    while str(number) in parent.state:
        number += 1
    parent.state[str(number)] = child


def _append(machine: Machine, value: Instance, arguments: Arguments) -> object:
    for child in arguments.positional or [UNKNOWN]:
        _append_child(machine, value, child)
    return value


def _extend(machine: Machine, value: Instance, arguments: Arguments) -> object:
    items = items_of(machine, arguments.positional[0]) if arguments.positional else None
    for child in items if items is not None else [UNKNOWN]:
        _append_child(machine, value, child)
    return value


def _insert(machine: Machine, value: Instance, arguments: Arguments) -> object:
    found = [child for _, child in children(value)]
    place = arguments.positional[0] if arguments.positional else UNKNOWN
    simple = not any(isinstance(child, Branches) for child in found)
    if isinstance(place, int) and simple and len(arguments.positional) == 2:
        found.insert(place, arguments.positional[1])
    else:
        found = [UNKNOWN]
    _number_anew(machine, value, found)
    return value


def _number_anew(machine: Machine, value: Instance, found: list[object]) -> None:
    """Make these the children of a container, under the names `0`, `1`, ..."""
    machine.change(value)
    for name, _ in children(value):
        del value.state[name]
    for child in found:
        _append_child(machine, value, child)


def remove_item(machine: Machine, value: Instance, place: object) -> object:
    """Run `del container[place]`, and return what is removed."""
    if value.base == "ModuleDict":
        machine.change(value)
        return value.state.pop(place, UNKNOWN) if isinstance(place, str) else UNKNOWN
    found: list[object] = [child for _, child in children(value)]
    known = not any(isinstance(child, (Unknown, Branches)) for child in found)
    removed: object = UNKNOWN
    if known and isinstance(place, int) and -len(found) <= place < len(found):
        removed = found.pop(place)
    elif known and isinstance(place, slice):
        del found[place]
    else:
        found = [UNKNOWN]
    _number_anew(machine, value, found)
    return removed


def _pop(machine: Machine, value: Instance, arguments: Arguments) -> object:
    return remove_item(machine, value, arguments.at(0, -1))


def joined(machine: Machine, one: object, other: object, site: Site | None) -> object:
    """Return `one + other`, a new container of the children of both."""
    assert isinstance(one, Instance)
    made = Instance(None, one.base, site)
    for part in (one, other):
        _extend(machine, made, Arguments([part]))
    return made


def is_sequence(value: object) -> bool:
    """Tell whether a value is a Sequential or ModuleList, which can be added to another."""
    return isinstance(value, Instance) and value.base in {"Sequential", "ModuleList"}


def _add_module(machine: Machine, value: Instance, arguments: Arguments) -> object:
    name, child = _two(arguments, "name", "module")
    add_child(machine, value, name, child)
    return None


def _register_tensor(machine: Machine, value: Instance, arguments: Arguments) -> object:
    name, tensor = _two(arguments, "name", "tensor")
    if "param" in arguments.keywords:
        tensor = arguments.keywords["param"]
    if isinstance(name, str):
        if value.layer is not None and name in value.layer.attributes:
            note(value.layer, name, UNKNOWN)
        machine.change(value)
        value.state[name] = None if tensor is None else Parameter(role="kept")
    return None


def _two(arguments: Arguments, first: str, second: str) -> tuple[object, object]:
    given = [*arguments.positional, UNKNOWN, UNKNOWN]
    return arguments.keywords.get(first, given[0]), arguments.keywords.get(second, given[1])


def _hook(machine: Machine, value: Instance, arguments: Arguments) -> object:
    if value.layer is not None:
        note(value.layer, "hooked", True)
    return UNKNOWN


def _itself(machine: Machine, value: Instance, arguments: Arguments) -> object:
    return value


def _nothing(machine: Machine, value: Instance, arguments: Arguments) -> object:
    return List([])


def _ignored(machine: Machine, value: Instance, arguments: Arguments) -> object:
    return UNKNOWN


def _children(machine: Machine, value: Instance, arguments: Arguments) -> object:
    return List([child for _, child in children(value)])


def _named_children(machine: Machine, value: Instance, arguments: Arguments) -> object:
    found = children(value)
    known = not any(isinstance(child, Branches) for _, child in found)
    return List([(name, child) for name, child in found] if known else None)


_RETURN_THEMSELVES = "to cuda cpu half float double bfloat16 requires_grad_ compile type"
_METHODS: dict[str, Method] = {
    "add_module": _add_module,
    "register_module": _add_module,
    "register_buffer": _register_tensor,
    "register_parameter": _register_tensor,
    "register_forward_hook": _hook,
    "register_forward_pre_hook": _hook,
    "children": _children,
    "named_children": _named_children,
    "modules": modules,
    "named_modules": named_modules,
    "apply": apply_to_all,
    "train": train,
    "eval": evaluate,
    # Loops over every parameter initialise weights: they don't change the network.
    "parameters": _nothing,
    "named_parameters": _nothing,
    "buffers": _nothing,
    "named_buffers": _nothing,
    "state_dict": _ignored,
    "load_state_dict": _ignored,
    "extra_repr": _ignored,
    "zero_grad": _ignored,
    "_check_input_dim": _ignored,
}
_METHODS |= dict.fromkeys(
    _RETURN_THEMSELVES.split(),
    _itself,
)

_LISTS: dict[str, Method] = {
    "append": _append,
    "extend": _extend,
    "insert": _insert,
    "pop": _pop,
}
_CONTAINER: dict[str, dict[str, Method]] = {
    "Sequential": _LISTS,
    "ModuleList": _LISTS,
    "ModuleDict": {
        "keys": lambda m, v, a: List([name for name, _ in children(v)]),
        "values": _children,
        "items": _named_children,
        "update": lambda m, v, a: _fill_named(m, v, a.positional[0] if a.positional else None),
        "pop": _pop,
    },
}


def container_item(machine: Machine, value: Instance, place: object, site: Site | None) -> object:
    """Return `container[place]`."""
    found = children(value)
    if isinstance(place, str):
        if place in value.state:
            return value.state[place]
        if any(isinstance(child, (Unknown, Branches)) for _, child in found):
            return UNKNOWN
        raise PathEndsError
    known = not any(isinstance(child, (Unknown, Branches)) for _, child in found)
    if not known or not isinstance(place, (int, slice)):
        return UNKNOWN
    if isinstance(place, slice):
        part = Instance(None, value.base, site)
        part.state = dict(found[place])
        return part
    try:
        return found[place][1]
    except IndexError:
        if machine.guessed:
            return UNKNOWN  # there may be more layers than the rounds that were assumed
        raise PathEndsError from None


def some_child(value: object) -> Either | None:
    """Return the modules of a list or dictionary, of which an index that is not known picks one.

    None for other values, and where a child is not known or there are too many.
    """
    if not isinstance(value, Instance) or value.base not in {"ModuleList", "ModuleDict"}:
        return None
    found = tuple(child for _, child in children(value))
    if not 1 < len(found) <= _MOST_PICKED or not all(isinstance(c, Instance) for c in found):
        return None
    return Either(found)

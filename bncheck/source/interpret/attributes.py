"""`value.name` and `value[index]`."""

from __future__ import annotations

from functools import lru_cache

from bncheck.graph import Kind, Site, Symbol
from bncheck.source.interpret.containers import container_item, module_method
from bncheck.source.interpret.facts import note
from bncheck.source.interpret.machine import Machine
from bncheck.source.interpret.names import canonical
from bncheck.source.interpret.problems import PathEndsError
from bncheck.source.interpret.sequences import element, method
from bncheck.source.interpret.tensors import tensor_attribute
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
    ModuleReference,
    Native,
    Parameter,
    Partial,
    Super,
    Tensor,
    truth,
)

_MEMBERS = (str, int)
"""What the members of an enumeration may be: each is read as its value."""
_TENSORS = frozenset({"weight", "bias", "running_mean", "running_var", "num_batches_tracked"})

_OF_MODULES = frozenset({"training", "device", "dtype"})
"""What a module may well have although nothing sets it."""

_ALIASES = frozenset({"detach", "view", "view_as", "contiguous", "requires_grad_", "to"})
"""Methods whose result shares the memory of a buffer, at least where nothing need be changed."""


@lru_cache(maxsize=4096)
def _member(owner: str, name: str) -> External:
    if owner == "torch.nn.modules" and name.isalpha() and name.islower():
        return External(owner)  # a file of it, such as `conv`, has what the whole has
    return External(canonical(f"{owner}.{name}"))


def attribute(machine: Machine, value: object, name: str, site: Site | None) -> object:
    """Return `value.name`; UNKNOWN where it is not known."""
    if isinstance(value, Instance):
        return instance_attribute(machine, value, name, site)
    if isinstance(value, External):
        if name == "__name__" and value.name.startswith("torch.nn."):
            return value.name.rpartition(".")[2]
        if name == "__init__" and value.name.startswith("torch.nn."):
            from bncheck.source.interpret.classes import unbound_initialiser

            return unbound_initialiser(value)
        return _member(value.name, name)
    if isinstance(value, Tensor):
        return tensor_attribute(machine, value, name, site)
    if isinstance(value, ModuleReference):
        return machine.names.member(value, name, machine)
    if isinstance(value, Super):
        return _inherited(machine, value, name, site)
    if name == "value" and value.__class__ in _MEMBERS:
        return value
    if isinstance(value, (List, Dictionary, str, tuple)):
        return method(value, name)
    if isinstance(value, Class):
        return _class_attribute(machine, value, name)
    if isinstance(value, Symbol):
        return Symbol(f"{value.expression}.{name}")
    if isinstance(value, Parameter):
        if name in {"shape", "ndim", "dtype", "device", "size", "dim"}:
            return UNKNOWN
        if name in {"data", "T"}:
            return value
        return Native(name, lambda m, a, s: value if name in _ALIASES else value.computed)
    if isinstance(value, Either):
        found = [
            attribute(machine, option, name, site)
            for option in value.options
            if option is not None and option is not MISSING
        ]
        return machine.join_all(found) if found else UNKNOWN
    if isinstance(value, Partial):
        if name == "keywords" and not value.arguments.open:
            return Dictionary(dict[object, object](value.arguments.keywords.items()))
        return {"func": value.function}.get(name, UNKNOWN)
    if isinstance(value, Function) and name == "__name__":
        return value.name
    if value is None:
        raise PathEndsError
    return UNKNOWN


def find(cls: Class, name: str, after: Class | None = None) -> object:
    """Return what a class or its ancestors bind a name to; MISSING where nothing is found.

    An `External` ancestor that comes first is returned itself: from there on it is torch's.
    """
    order = cls.order
    if after is not None and after in order:
        order = order[order.index(after) + 1 :]
    for ancestor in order:
        if isinstance(ancestor, External):
            if ancestor.name not in {"abc.ABC", "builtins.object", "typing.Generic"}:
                return ancestor
        elif name in ancestor.namespace:
            return ancestor.namespace[name]
    return MISSING


def _is_ancestor(cls: Class, found: object) -> bool:
    """Tell whether `find` met an ancestor outside the project, and no layer class of the body."""
    return isinstance(found, External) and found in cls.order


def bind(
    machine: Machine, found: object, receiver: object, cls: Class | None, site: Site | None
) -> object:
    """Return a class's attribute as it is seen on an instance (or on the class: no receiver)."""
    from bncheck.source.interpret.calls import call

    if not isinstance(found, Function):
        return found
    if found.kind == "static":
        return found
    if found.kind == "class":
        receiver = cls if cls is not None else receiver
    if receiver is MISSING:
        return found
    bound = Function(
        found.node, found.module, found.outer, found.owner, receiver, found.defaults, found.kind
    )
    if found.kind == "property":
        return call(machine, bound, Arguments(), site)
    return bound


def instance_attribute(
    machine: Machine, value: Instance, name: str, site: Site | None, after: Class | None = None
) -> object:
    """Return an attribute of an object: its own, its class's, or torch.nn's."""
    if after is None and name in value.state:
        return value.state[name]
    if value.cls is not None:
        if name == "__class__":
            return value.cls
        found = find(value.cls, name, after)
        if found is not MISSING and not _is_ancestor(value.cls, found):
            return bind(machine, found, value, value.cls, site)
    if value.layer is not None and name in _TENSORS:
        return _layer_tensor(machine, value, name)
    if value.base is not None:
        if value.layer is not None and name in value.layer.attributes and name != "training":
            return value.layer.attributes[name]
        found = module_method(value, name)
        if found is UNKNOWN and value.cls is not None and name not in _OF_MODULES:
            machine.lacking.add(value.cls)
        return found
    if value.cls is not None and isinstance(find(value.cls, "__getattr__"), Function):
        from bncheck.source.interpret.calls import call

        getter = bind(machine, find(value.cls, "__getattr__"), value, value.cls, site)
        return call(machine, getter, Arguments([name]), site)
    return UNKNOWN


def _layer_tensor(machine: Machine, value: Instance, name: str) -> object:
    layer = value.layer
    assert layer is not None
    if machine.graph is not None and value.cls is None:
        # Some other code computes with this layer's tensors.
        note(layer, "shared", True)
    has = {
        "bias": layer.get("bias"),
        "running_mean": layer.get("track_running_stats"),
        "running_var": layer.get("track_running_stats"),
        "num_batches_tracked": layer.get("track_running_stats"),
    }.get(name, True)
    if layer.kind in {Kind.BATCH_NORM, Kind.INSTANCE_NORM} and name in {"weight", "bias"}:
        has = layer.get("affine")
    if has is True:
        return Parameter(layer, name)
    return None if has is False else UNKNOWN


def _inherited(machine: Machine, value: Super, name: str, site: Site | None) -> object:
    receiver = value.receiver
    cls = receiver.cls if isinstance(receiver, Instance) else receiver
    if not isinstance(cls, Class):
        return UNKNOWN
    found = find(cls, name, value.owner)
    if isinstance(found, Function):
        return bind(machine, found, receiver, cls, site)
    if isinstance(found, External) or found is MISSING:
        if isinstance(receiver, Instance):
            if name == "__init__":
                from bncheck.source.interpret.classes import external_initialiser

                return external_initialiser(receiver, found)
            if name in {"forward", "__call__"}:
                from bncheck.source.interpret.apply import apply_base

                return Native(name, lambda m, a, s: apply_base(m, receiver, a, s))
            if receiver.base is not None:
                return module_method(receiver, name)
        return UNKNOWN
    return found


def _class_attribute(machine: Machine, value: Class, name: str) -> object:
    if name == "__name__":
        return value.name
    found = find(value, name)
    if found is MISSING:
        return UNKNOWN
    if isinstance(found, External) and _is_ancestor(value, found):
        if name == "__init__":
            from bncheck.source.interpret.classes import unbound_initialiser

            return unbound_initialiser(found)
        return UNKNOWN
    if isinstance(found, Function) and found.kind == "class":
        return bind(machine, found, value, value, None)
    return found


def item(
    machine: Machine,
    value: object,
    place: object,
    site: Site | None,
    cropped: tuple[int, ...] | None = None,
) -> object:
    """Return `value[place]`; UNKNOWN where it is not known.

    `cropped` has the dimensions that the index cuts short, if it does nothing else.
    """
    if isinstance(value, Instance):
        if value.base in {"Sequential", "ModuleList", "ModuleDict"}:
            return container_item(machine, value, place, site)
        if value.cls is not None and isinstance(find(value.cls, "__getitem__"), Function):
            from bncheck.source.interpret.calls import call

            getter = instance_attribute(machine, value, "__getitem__", site)
            return call(machine, getter, Arguments([place]), site)
        return UNKNOWN
    if isinstance(value, Tensor):
        if value.node.kind in {Kind.OPAQUE, Kind.RECURRENT, Kind.ATTENTION, Kind.INPUT}:
            return value
        facts = None if cropped is None else {"rank_change": 0, "cropped": cropped}
        return machine.add(Kind.OPERATION, "index", site, [value], facts)
    if isinstance(value, Symbol):
        if isinstance(place, (str, int)):
            return Symbol(f"{value.expression}[{place!r}]")
        return UNKNOWN
    if isinstance(value, Parameter):
        return value
    if isinstance(value, Either):
        found = [item(machine, o, place, site, cropped) for o in value.options if o is not None]
        return machine.join_all(found) if found else UNKNOWN
    if isinstance(place, Either) and not isinstance(value, External):
        found = [element(machine, value, option) for option in place.options]
        return machine.join_all(found)
    if isinstance(place, bool) and isinstance(value, tuple):
        place = int(place)
    if truth(value) is None and not isinstance(value, (List, Dictionary)):
        return UNKNOWN
    return element(machine, value, place)

"""Classes of the project: their definition, their ancestors, and making objects of them."""

from __future__ import annotations

from typing import Any, Final

import libcst as cst

from bncheck.graph import Site
from bncheck.source.interpret.attributes import bind, find
from bncheck.source.interpret.containers import fill
from bncheck.source.interpret.dispatch import expression
from bncheck.source.interpret.facts import note
from bncheck.source.interpret.fields import fill_fields, has_fields
from bncheck.source.interpret.layers import CONTAINERS, layer_kind, make_layer
from bncheck.source.interpret.machine import Frame, Machine
from bncheck.source.interpret.values import (
    MISSING,
    UNKNOWN,
    Arguments,
    Class,
    Either,
    External,
    Function,
    Instance,
    Native,
    is_constant,
    options,
)
from bncheck.source.module import dotted

_DEEPEST: Final = 40
_ENUMERATIONS: Final = tuple(
    External(f"enum.{name}") for name in ("Enum", "IntEnum", "StrEnum", "Flag")
)
_PLAIN: Final = frozenset(
    {"builtins.object", "abc.ABC", "typing.Generic", "typing.Protocol", "enum.Enum"}
)


def torch_base(name: str) -> str | None:
    """Return `Conv2d` for `torch.nn.Conv2d`, `Module` for a class known to be one; else None."""
    if name.startswith("torch.nn.") and name.count(".") == 2:
        short = name.rpartition(".")[2]
        if short in CONTAINERS or layer_kind(short) is not None:
            return short
    return "Module" if name.rpartition(".")[2].endswith("Module") else None


def order_of(cls: Class) -> list[Class | External]:
    """Return a class and its ancestors in look-up order (Python's, or nearly so)."""
    sequences: list[list[Class | External]] = []
    parents: list[Class | External] = []
    for base in cls.bases:
        for option in options(base)[-1:]:
            if isinstance(option, Class):
                sequences.append(list(option.order))
                parents.append(option)
            else:
                known = option if isinstance(option, External) else External("unknown")
                sequences.append([known])
                parents.append(known)
    sequences.append(parents)
    merged: list[Class | External] = [cls]
    while sequences := [sequence for sequence in sequences if sequence]:
        for sequence in sequences:
            head = sequence[0]
            if not any(head in other[1:] for other in sequences):
                break
        else:
            head = sequences[0][0]
        if head not in merged:
            merged.append(head)
        sequences = [[entry for entry in sequence if entry != head] for sequence in sequences]
        if len(merged) > _DEEPEST:
            break
    return merged


def base_of(cls: Class) -> str | None:
    """Return the nearest torch.nn ancestor's short name; None where there is none."""
    for ancestor in cls.order:
        if isinstance(ancestor, External) and (base := torch_base(ancestor.name)) is not None:
            return base
    for ancestor in cls.order:
        # An ancestor that is not known may well be a module: what has a forward is taken for one.
        if isinstance(ancestor, External) and ancestor.name not in _PLAIN:
            return "Module" if isinstance(find_defined(cls, "forward"), Function) else None
    return None


def find_defined(cls: Class, name: str) -> object:
    """Return what the project's own classes among the ancestors bind a name to."""
    for ancestor in cls.order:
        if isinstance(ancestor, Class) and name in ancestor.namespace:
            return ancestor.namespace[name]
    return MISSING


def construct(machine: Machine, cls: Class, arguments: Arguments, site: Site | None) -> object:
    """Return a new object of a class of the project."""
    instance = machine.names.constructed[cls] = Instance(cls, base_of(cls), site)
    found = find(cls, "__init__")
    if isinstance(found, Function):
        from bncheck.source.interpret.calls import call

        call(machine, bind(machine, found, instance, cls, site), arguments, site)
    elif isinstance(found, External) and not has_fields(cls):
        if any(ancestor in _ENUMERATIONS for ancestor in cls.order):
            return arguments.at(0)  # the member with this value
        initialise_external(machine, instance, found, arguments)
    elif has_fields(cls):
        fill_fields(machine, instance, cls, arguments)
    elif find(cls, "__new__") is not MISSING or cls.decorators:
        return UNKNOWN
    if instance.is_module and instance.layer is None:
        _ensure_layer(instance)
    if instance.layer is not None and "bias" in instance.layer.attributes:
        note(instance.layer, "bias_argument", _bias_argument(cls))
    if instance.layer is not None and isinstance(instance.layer.get("initialised_at"), Site):
        given = [value for value in arguments.values() if is_constant(value)]
        by_caller = any(instance.layer.get(name) in given for name in ("momentum", "eps"))
        note(instance.layer, "constants_given", by_caller)
    return instance


def _bias_argument(cls: Class) -> object:
    """Return where a layer's class takes its bias: a position, `keyword` only, `torch` or UNKNOWN.

    `torch`: where torch's class does. UNKNOWN: it takes none, so a caller can't turn the bias off.
    The class may hand on what it does not name itself to torch's constructor.
    """
    found = find(cls, "__init__")
    if not isinstance(found, Function):
        return "torch" if isinstance(found, External) else UNKNOWN
    parameters = found.node.params
    names = [p.name.value for p in (*parameters.posonly_params, *parameters.params)][1:]
    if "bias" in names:
        return names.index("bias")
    if any(p.name.value == "bias" for p in parameters.kwonly_params):
        return "keyword"
    hands_on = isinstance(parameters.star_kwarg, cst.Param)
    takes_more = isinstance(parameters.star_arg, cst.Param)
    if hands_on and takes_more and not names:
        return "torch"  # as in `def __init__(self, *args, **kwargs)`
    return "keyword" if hands_on and not takes_more else UNKNOWN


def _ensure_layer(instance: Instance) -> None:
    """Give an instance whose torch constructor was not seen to run a layer without facts."""
    base = instance.base or ""
    if base not in CONTAINERS and (kind := layer_kind(base)) is not None:
        instance.layer = make_layer(base, kind, Arguments(open=True), instance.site)


def external_initialiser(receiver: Instance, found: object) -> object:
    """Return `super().__init__` where the next class is outside the project."""
    target = found if isinstance(found, External) else External("builtins.object")
    return Native("__init__", lambda m, a, s: initialise_external(m, receiver, target, a, s))


def unbound_initialiser(found: External) -> object:
    """Return `nn.Module.__init__` as a function whose first argument is the object."""

    def run(machine: Machine, arguments: Arguments, site: Site | None) -> object:
        if arguments.positional and isinstance(arguments.positional[0], Instance):
            rest = Arguments(arguments.positional[1:], arguments.keywords, arguments.open)
            return initialise_external(machine, arguments.positional[0], found, rest, site)
        return UNKNOWN

    return Native("__init__", run)


def initialise_external(
    machine: Machine,
    receiver: Instance,
    target: External,
    arguments: Arguments,
    site: Site | None = None,
) -> object:
    """Run the constructor of a torch.nn class on an object; `site` is its call by a subclass's."""
    base = torch_base(target.name) or receiver.base
    if base in {"Sequential", "ModuleList", "ModuleDict"}:
        fill(machine, receiver, arguments)
    elif base is not None and (kind := layer_kind(base)) is not None:
        machine.layer()
        receiver.layer = make_layer(base, kind, arguments, receiver.site)
        if site is not None:
            note(receiver.layer, "initialised_at", site)
    return None


def make_class(frame: Frame, node: cst.ClassDef) -> object:
    """Return the class that a definition makes."""
    from bncheck.source.interpret.statements import block

    bases = [expression(base.value)(frame) for base in node.bases if not base.star]
    if any(isinstance(base, Either) and not options(base) for base in bases):
        return UNKNOWN
    decorators = tuple(
        dotted(d.decorator.func if isinstance(d.decorator, cst.Call) else d.decorator) or "unknown"
        for d in node.decorators
    )
    cls = Class(node, frame.module, frame, bases, decorators=decorators)
    cls.order = order_of(cls)
    body = Frame(frame.machine, frame.module, frame, cls)
    body.names = cls.namespace
    annotated = [
        statement.target.value
        for line in node.body.body
        if isinstance(line, cst.SimpleStatementLine)
        for statement in line.body
        if isinstance(statement, cst.AnnAssign) and isinstance(statement.target, cst.Name)
    ]
    cls.fields = tuple(annotated)
    block(node.body)(body)
    cls.namespace = body.names
    if "train" in body.names:
        frame.machine.names.sets_modes = True
    for name, value in cls.namespace.items():
        if isinstance(value, Function) and value.owner is None and value.outer is body:
            cls.namespace[name] = _method(value, cls, frame)
    return cls


def _method(value: Function, cls: Class, outer: Frame) -> Function:
    return Function(value.node, value.module, outer, cls, MISSING, value.defaults, value.kind)


def function_kind(node: cst.FunctionDef) -> str:
    """Return how a function is bound, from its decorators."""
    for decorator in node.decorators:
        expression: Any = decorator.decorator
        name = dotted(expression.func if isinstance(expression, cst.Call) else expression) or ""
        match name.rpartition(".")[2]:
            case "staticmethod":
                return "static"
            case "classmethod":
                return "class"
            case "property" | "cached_property" | "lazy_property":
                return "property"
            case "setter" | "deleter":
                return "setter"
            case "overload":
                return "overload"
    return "function"

"""Classes of the project: their bases, methods and attributes, and what networks hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import libcst as cst

from bncheck.graph import UNKNOWN
from bncheck.source.module import Assigned, SourceModule, dotted, statements
from bncheck.source.project import Defined, External, Project
from bncheck.source.timeline import known
from bncheck.source.timeline.run import Run, module_constant
from bncheck.source.timeline.syntax import identifiers, walk
from bncheck.source.timeline.values import Class, Function, Value
from bncheck.timeline import Fact

_MAX_BASES = 12
_MAX_CLOSURE = 40
"""Classes and functions looked into for what a network is made of."""


@dataclass(frozen=True)
class Ancestry:
    """A class's own and project bases in lookup order, and its bases from elsewhere."""

    project: tuple[Class, ...]
    external: tuple[str, ...]
    unknown: bool
    """Whether a base is not known by name."""


@lru_cache(maxsize=4096)
def ancestry(project: Project, cls: Class) -> Ancestry:
    """Return where a class's attributes are looked up."""
    order: list[Class] = []
    external: list[str] = []
    unknown = False
    waiting = [cls]
    while waiting and len(order) < _MAX_BASES:
        current = waiting.pop(0)
        if current in order:
            continue
        order.append(current)
        for base in current.node.bases:
            name = dotted(base.value)
            meanings = project.resolve(name, current.module) if name else []
            for meaning in meanings:
                match meaning:
                    case External(name=outside):
                        external.append(outside)
                    case Defined(module=module, binding=cst.ClassDef() as node):
                        waiting.append(Class(node, module))
                    case _:
                        unknown = True
            if not meanings and name not in {"object", "Exception", "dict", "list", "tuple"}:
                unknown = True
    return Ancestry(tuple(order), tuple(external), unknown)


def is_network(project: Project, cls: Class) -> Fact:
    """Tell whether a class derives from `torch.nn.Module`."""
    found = ancestry(project, cls)
    for base in found.external:
        if base.startswith("torch.nn.") or known.framework(base) == "lightning":
            return True
        if known.zoo_model(base, None) is not None:
            return True
    if any(_defines(c, "forward") for c in found.project):
        return True if found.external or found.unknown else UNKNOWN
    return UNKNOWN if found.unknown else False


def framework(project: Project, cls: Class) -> str:
    """Return the framework whose class a class derives from; empty: none."""
    found = ancestry(project, cls)
    for base in found.external:
        name = known.framework(base)
        if name:
            return name
    if any(c.node.name.value.endswith("LightningModule") for c in found.project):
        return "lightning"
    return ""


def find(run: Run, cls: Class, name: str) -> Value | None:
    """Return a class's attribute: a `Function`, or what its body assigns."""
    for ancestor in ancestry(run.project, cls).project:
        binding = members(ancestor.node).get(name)
        match binding:
            case cst.FunctionDef():
                label = f"{cls.node.name.value}.{name}"
                return Function(binding, ancestor.module, label, owner=ancestor)
            case cst.ClassDef():
                return Class(binding, ancestor.module)
            case cst.BaseExpression():
                return module_constant(binding)
    return None


def find_above(run: Run, cls: Class, owner: Class, name: str) -> Value | None:
    """Return what `super().name` is in a method of `owner`, on an object of `cls`."""
    order = ancestry(run.project, cls).project
    later = order[order.index(owner) + 1 :] if owner in order else ()
    for ancestor in later:
        binding = members(ancestor.node).get(name)
        if isinstance(binding, cst.FunctionDef):
            return Function(
                binding, ancestor.module, f"{cls.node.name.value}.{name}", owner=ancestor
            )
    return None


def bound(function: Function, receiver: Value) -> Function:
    """Return a method of an object; a static method stays as it is."""
    if isinstance(function.node, cst.FunctionDef) and "staticmethod" in decorators(function.node):
        return function
    return replace(function, receiver=receiver)


@lru_cache(maxsize=4096)
def members(node: cst.ClassDef) -> dict[str, cst.FunctionDef | cst.ClassDef | cst.BaseExpression]:
    """Return what a class body binds, the last binding of each name."""
    found: dict[str, cst.FunctionDef | cst.ClassDef | cst.BaseExpression] = {}
    for statement in statements(node.body.body):
        match statement:
            case cst.FunctionDef() | cst.ClassDef():
                if "overload" in _decorators_of(statement) or "setter" in _decorators_of(statement):
                    continue
                found[statement.name.value] = statement
            case cst.Assign(targets=[cst.AssignTarget(target=cst.Name(value=name))], value=value):
                found[name] = value
            case cst.AnnAssign(target=cst.Name(value=name), value=cst.BaseExpression() as value):
                found[name] = value
    return found


@lru_cache(maxsize=8192)
def decorators(node: cst.FunctionDef) -> tuple[str, ...]:
    """Return the last parts of the names of a function's decorators."""
    return _decorators_of(node)


def _decorators_of(node: cst.FunctionDef | cst.ClassDef) -> tuple[str, ...]:
    names = []
    for decorator in node.decorators:
        expression = decorator.decorator
        if isinstance(expression, cst.Call):
            expression = expression.func
        names.append((dotted(expression) or "?").rpartition(".")[2])
    return tuple(names)


def _defines(cls: Class, name: str) -> bool:
    return isinstance(members(cls.node).get(name), cst.FunctionDef)


@lru_cache(maxsize=4096)
def own_train(project: Project, cls: Class) -> bool:
    """Tell whether a network's class, or a base of it in the project, has a `train` method."""
    return any(_defines(ancestor, "train") for ancestor in ancestry(project, cls).project)


_CHANGES = frozenset(
    """
    eval train requires_grad requires_grad_ load_state_dict no_grad inference_mode checkpoint
    freeze
    """.split()  # noqa: SIM905
)


@lru_cache(maxsize=4096)
def changes_modes(project: Project, cls: Class) -> bool:
    """Tell whether a network's own code does anything that the timeline tells of."""
    for ancestor in ancestry(project, cls).project:
        names = identifiers(ancestor.node)
        if names & _CHANGES or any(name.startswith(("freeze", "_freeze")) for name in names):
            return True
    return False


def part_holds(project: Project, cls: Class, name: str) -> Fact:
    """Tell whether the part that `__init__` assigns to `self.name` holds BatchNorm."""
    for ancestor in ancestry(project, cls).project:
        init = members(ancestor.node).get("__init__")
        for node in walk(init) if isinstance(init, cst.FunctionDef) else ():
            match node:
                case cst.Assign(
                    targets=[cst.AssignTarget(target=cst.Attribute(attr=cst.Name(value=attr)))],
                    value=value,
                ) if attr == name:
                    facts = {fact for fact, _, _ in _ingredients(project, value, ancestor.module)}
                    made = _made_of(project, value, ancestor.module)
                    if True in facts or made is True:
                        return True
                    return UNKNOWN if UNKNOWN in facts or made is UNKNOWN else False
    return UNKNOWN


def _made_of(project: Project, value: cst.BaseExpression, module: SourceModule) -> Fact:
    if not isinstance(value, cst.Call):
        return UNKNOWN
    for meaning in project.resolve(dotted(value.func) or "", module):
        match meaning:
            case Defined(module=origin, binding=cst.ClassDef() as found):
                return holds(project, Class(found, origin))[0]
            case Defined():
                return UNKNOWN
    return False


@lru_cache(maxsize=4096)
def holds(project: Project, cls: Class) -> tuple[Fact, frozenset[str]]:
    """Tell whether a network holds BatchNorm, and which kinds are named in what it is made of.

    Looks through the class, its bases, and the classes and functions that they name.
    """
    kinds: set[str] = set()
    unknown = False
    seen: set[cst.CSTNode] = set()
    waiting: list[tuple[cst.CSTNode, SourceModule]] = [
        (ancestor.node, ancestor.module) for ancestor in ancestry(project, cls).project
    ]
    while waiting and len(seen) < _MAX_CLOSURE:
        node, module = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        for fact, kind, more in _ingredients(project, node, module):
            if kind:
                kinds.add(kind)
            unknown = unknown or fact is UNKNOWN
            if more is not None:
                waiting.append(more)
    external = ancestry(project, cls).external
    if any(known.zoo_model(base, None) is True for base in external):
        return True, frozenset(kinds)
    if kinds:
        return True, frozenset(kinds)
    return UNKNOWN if unknown or waiting else False, frozenset()


def _ingredients(
    project: Project, node: cst.CSTNode, module: SourceModule
) -> Iterator[tuple[Fact, str, tuple[cst.CSTNode, SourceModule] | None]]:
    called = {id(part.func): part for part in walk(node) if isinstance(part, cst.Call)}
    tested = _tested(node)
    for name in _names_used(node):
        last = name.rpartition(".")[2]
        if last in known.BATCH_NORMS:
            if name not in tested:
                yield True, last, None
            continue
        for meaning in project.resolve(name, module):
            match meaning:
                case Defined(module=origin, binding=(cst.ClassDef() | cst.FunctionDef()) as found):
                    yield False, "", (found, origin)
                case Defined(module=origin, binding=Assigned(value=value)):
                    if identifiers(value) & known.BATCH_NORMS:
                        yield True, next(iter(identifiers(value) & known.BATCH_NORMS)), None
                case External(name=outside):
                    argument = _first_string(called, name)
                    made = known.zoo_model(outside, argument)
                    if made is True:
                        yield True, "BatchNorm2d", None
                    elif made is UNKNOWN or _may_be_a_layer(outside):
                        yield UNKNOWN, "", None


def _names_used(node: cst.CSTNode) -> set[str]:
    names: set[str] = set()
    stack: list[cst.CSTNode] = [node]
    for part in walk(stack.pop()):
        if isinstance(part, cst.Attribute):
            name = dotted(part)
            if name is not None:
                names.add(name)
        elif isinstance(part, cst.Name):
            names.add(part.value)
    return names


def _tested(node: cst.CSTNode) -> set[str]:
    """Return the classes named only to be tested for, as in `isinstance(m, nn.BatchNorm2d)`."""
    tested: set[str] = set()
    used = 0
    for part in walk(node):
        match part:
            case cst.Call(func=cst.Name(value="isinstance" | "issubclass"), args=[_, second]):
                tested |= _names_used(second.value)
            case cst.Call(func=func):
                name = dotted(func)
                used += name is not None and name.rpartition(".")[2] in known.BATCH_NORMS
    return tested if not used else set()


def _first_string(called: dict[int, cst.Call], name: str) -> object:
    for call in called.values():
        if call.args and dotted(call.func) == name:
            first = call.args[0].value
            return first.evaluated_value if isinstance(first, cst.SimpleString) else None
    return None


_LAYERLESS = (
    "torch",
    "math",
    "numpy",
    "functools",
    "typing",
    "collections",
    "logging",
    "os",
    "copy",
    "einops",
    "itertools",
    "warnings",
    "dataclasses",
    "torchvision.transforms",
    "torchvision.ops",
    "scipy",
    "re",
    "abc",
    "enum",
    "random",
    "time",
    "sys",
    "pathlib",
    "json",
)


def _may_be_a_layer(outside: str) -> bool:
    if any(outside == name or outside.startswith(f"{name}.") for name in _LAYERLESS):
        return False
    last = outside.rpartition(".")[2]
    return last[:1].isupper() or "model" in last or "net" in last

"""Classes of the project: their bases, methods and attributes, and what networks hold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import libcst as cst

from bncheck.events import Fact
from bncheck.graph import UNKNOWN
from bncheck.source.module import dotted, statements
from bncheck.source.project import Defined, External, Project
from bncheck.source.timeline import known, model_libraries
from bncheck.source.timeline.assigned import value_of
from bncheck.source.timeline.constants import module_constant
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.syntax import mentions
from bncheck.source.timeline.values import Class, Constant, Function, Opaque, Value
from bncheck.source.walk import walk_kinds

_MAX_BASES = 12


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
        if base.startswith("torch.nn."):
            return True
        if known.framework(base) == "lightning" and not base.endswith("DataModule"):
            return True
        if model_libraries.zoo_model(base, None) is not None:
            return True
    if (found.external or found.unknown) and any(_defines(c, "forward") for c in found.project):
        return True
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
            case cst.Name(value=kept) if kept in ancestor.module.bindings:
                value = run.module_level(kept, ancestor.module)
                return value if isinstance(value, Class | Constant) else Opaque(name)
            case cst.BinaryOperation() | cst.Dict() if binding not in run.asked:
                return _made_inside(run, cls, ancestor, binding)
            case cst.BaseExpression():
                return module_constant(_default(binding))
    return None


def _made_inside(run: Run, cls: Class, owner: Class, node: cst.BaseExpression) -> Value:
    """Return what an expression in the body of a class makes of other names there."""
    run.asked.add(node)
    value = value_of(
        node, lambda name: find(run, cls, name) or run.module_level(name, owner.module)
    )
    run.asked.discard(node)
    return value


def _default(value: cst.BaseExpression) -> cst.BaseExpression:
    """Return the default of a field: `field(default=4)`, pydantic's `Field(4)`."""
    match value:
        case cst.Call(func=func, args=args) if (dotted(func) or "").endswith(("field", "Field")):
            for argument in args:
                if argument.keyword is None or argument.keyword.value == "default":
                    return argument.value
    return value


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
    """Tell whether a network's class, or a base of it in the project, has a `train` of its own.

    One that hands its mode on and calls nothing that could set another is none. What a
    LightningModule calls `eval()` in while it trains does what such a method does.
    """
    by_hooks = framework(project, cls) == "lightning"
    for ancestor in ancestry(project, cls).project:
        if by_hooks and _puts_in_eval(ancestor):
            return True
        method = members(ancestor.node).get("train")
        if method is None:
            continue
        if not isinstance(method, cst.FunctionDef) or not _only_hands_on(ancestor, method):
            return True
    return False


_EVALUATES = re.compile(r"val|test|predict|infer", re.IGNORECASE)


def _puts_in_eval(cls: Class) -> bool:
    """Tell whether a method that is not for evaluation calls some `eval()`."""
    return "eval" in mentions(cls.node) and any(
        "eval" in mentions(method)
        for name, method in members(cls.node).items()
        if isinstance(method, cst.FunctionDef) and not _EVALUATES.search(name)
    )


def _only_hands_on(cls: Class, method: cst.FunctionDef) -> bool:
    own = {name for name, kept in members(cls.node).items() if isinstance(kept, cst.FunctionDef)}
    if mentions(method) & ({"eval", "training"} | (own - {"train"})):
        return False
    mode = method.params.params[1].name.value if len(method.params.params) > 1 else ""
    switched = [
        (call.func.value, call.args)
        for call in walk_kinds(method, (cst.Call,))
        if isinstance(call.func, cst.Attribute) and call.func.attr.value == "train"
    ]
    return bool(switched) and all(
        (_is_super(owner) and {dotted(argument.value) for argument in args} <= {mode, "True"})
        or (_is_own_attribute(owner) and [dotted(argument.value) for argument in args] == [mode])
        for owner, args in switched
    )


def _is_super(node: cst.BaseExpression) -> bool:
    return isinstance(node, cst.Call) and dotted(node.func) == "super"


def _is_own_attribute(node: cst.BaseExpression) -> bool:
    return isinstance(node, cst.Attribute) and dotted(node.value) == "self"


@lru_cache(maxsize=4096)
def kept(function: cst.FunctionDef) -> tuple[tuple[str, cst.BaseExpression], ...]:
    """Return what a constructor assigns to which attributes of its own."""
    found: list[tuple[str, cst.BaseExpression]] = []
    for statement in statements(function.body.body):
        match statement:
            case cst.Assign(targets=[cst.AssignTarget(target=target)], value=value):
                owner, _, name = (dotted(target) or "").partition(".")
                if owner == "self" and name.isidentifier():
                    found.append((name, value))
    return tuple(found)


_LOADS = re.compile(r"pretrain|^weights|load|checkpoint|ckpt")


@lru_cache(maxsize=4096)
def may_load(project: Project, cls: Class) -> bool:
    """Tell whether a network's own code may give it trained weights."""
    return any(
        _LOADS.search(name)
        for ancestor in ancestry(project, cls).project
        for name in mentions(ancestor.node)
    )


_CHANGES = frozenset(
    """
    eval train requires_grad requires_grad_ load_state_dict no_grad inference_mode checkpoint
    freeze convert_sync_batchnorm convert_syncbn_model train_dataloader
    """.split()  # noqa: SIM905
)


@lru_cache(maxsize=4096)
def changes_modes(project: Project, cls: Class) -> bool:
    """Tell whether a network's own code does anything that the timeline tells of."""
    for ancestor in ancestry(project, cls).project:
        names = mentions(ancestor.node)
        if names & _CHANGES or any(name.startswith(("freeze", "_freeze")) for name in names):
            return True
        if any(map(_stops_gradients, _called_while_made(project, ancestor))):
            return True
    return False


def _stops_gradients(function: cst.FunctionDef) -> bool:
    return not mentions(function).isdisjoint(("requires_grad", "requires_grad_"))


def _called_while_made(project: Project, cls: Class) -> Iterator[cst.FunctionDef]:
    """Yield the functions of the project that a network's constructor names."""
    init = members(cls.node).get("__init__")
    if isinstance(init, cst.FunctionDef):
        for name in mentions(init) & cls.module.bindings.keys():
            for meaning in project.resolve(name, cls.module):
                if isinstance(meaning, Defined) and isinstance(meaning.binding, cst.FunctionDef):
                    yield meaning.binding

"""What the attributes of values are, while a script is followed."""

from __future__ import annotations

import re
from dataclasses import replace

import libcst as cst

from bncheck.events import Model
from bncheck.source.outline import body_text
from bncheck.source.timeline import (
    accessors,
    choices,
    classes,
    constructors,
    typed_options,
)
from bncheck.source.timeline.joining import join
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.values import (
    AnyPackage,
    Class,
    Constant,
    Container,
    Data,
    Function,
    Instance,
    Members,
    Method,
    Models,
    ModeOf,
    Opaque,
    Optimizer,
    Outside,
    Package,
    Settings,
    StateDict,
    Tensor,
    Value,
    Weights,
)

_OF_A_TENSOR = frozenset({"shape", "dtype", "device", "ndim"})
"""What only a tensor has: the network's part is none that can switch its mode."""


WANDB_CONFIG = "wandb.config"
"""Under which name the heap keeps what `wandb.init(config=...)` is given."""


def attribute(run: Run, value: Value, name: str, node: cst.BaseExpression) -> Value:
    """Return `value.name`."""
    match value:
        case Models(models=models):
            return join([_model_attribute(run, model, name) for model in models])
        case Instance(cls=cls) if name == "__class__":
            return cls
        case Instance(cls=cls):
            known = run.heap.get(value, name)
            if known is not None:
                return known
            found = run.heap.get(cls, name) or classes.find(run, cls, name)
            if isinstance(found, Function):
                bound = classes.bound(found, value)
                return accessors.get_property(run, node, bound)
            found = found or accessors.missing(run, node, value, name)
            if found is not None:
                return found
            return _remember(run, value, name, Opaque(f"self.{name}", run.site(node)))
        case Class():
            return run.heap.get(value, name) or classes.find(run, value, name) or Opaque(name)
        case Outside(name="wandb") if name == "config":
            return run.heap.get(WANDB_CONFIG, WANDB_CONFIG) or Outside("wandb.config")
        case Outside(name=outside):
            return typed_options.flag(run, outside, name) or Outside(f"{outside}.{name}")
        case AnyPackage():
            return choices.of_any_package(run, name)
        case Package() if name == "__dict__":
            return value
        case Package(module=module):
            return run.member(module, name) or Opaque(name)
        case Settings() if name == "__dict__":
            return value
        case Settings(defaults=defaults):
            known = run.heap.get(value, name) or defaults.get(name)
            return known or _remember(run, value, name, Opaque(name))
        case Members(one=True) if name in {"__class__", "__name__"}:
            return value  # A test on the name of its class is a test on it.
        case Members(one=True, parameters=False) if name == "weight":
            return replace(value, parameters=True)
        case Members(model=model, one=True, parameters=True) if name == "data":
            return Weights((model,))
        case Weights():
            return value
        case StateDict() if name == "data":
            return value
        case Data(made=Instance() as made):
            return attribute(run, made, name, node)
        case Data(loader=loader) if name in {"dataset", "sampler"}:
            return Opaque(f"{loader.name}.{name}")
        case Data() | Tensor():
            return Tensor() if isinstance(value, Tensor) else Opaque()
        case Opaque() if value.model is not None:
            return _model_attribute(run, value.model, name)
        case Opaque():
            known = run.heap.get(value, name)
            if known is None:
                known = Opaque(
                    f"{value.name}.{name}" if value.name else name,
                    run.site(node),
                    parameter=value.parameter,
                    holds=value.holds,
                    attribute_of=value,
                )
                _remember(run, value, name, known)
            return known
        case Container() | Function() | Optimizer() | Members():
            return Method(value, name)
    return Opaque()


def _remember(run: Run, owner: object, name: str, value: Value) -> Value:
    run.heap.set(owner, name, value)
    return value


def _model_attribute(run: Run, model: Model, name: str) -> Value:
    if name == "module":
        return run.heap.get(model, name) or Models((model,))
    if name == "training":
        return ModeOf(model)
    if name == "__class__":
        return run.classes.get(model) or Opaque(name)
    if name == "_modules":
        return Members(model, parameters=False)
    if name in _OF_A_TENSOR:
        return Opaque(name)
    known = run.heap.get(model, name)
    if known is not None:
        return known
    cls = run.classes.get(model)
    if cls is not None:
        found = classes.find(run, cls, name)
        if isinstance(found, Function):
            return classes.bound(found, Models((model,)))
        if found is not None:
            return found
        number = _number_kept(run, cls, name)
        if number is not None:
            return number
        if _set_by_forward(run, cls, name):
            return Tensor()
    return Models((run.part(model, name),))


def _number_kept(run: Run, cls: Class, name: str) -> Value | None:
    """Return the number that a network's constructor keeps under a name; None: it is none."""
    for ancestor in classes.ancestry(run.project, cls).project:
        match constructors.assigned_in_init(ancestor.node).get(name):
            case cst.Integer() | cst.Float() as number:
                return Constant(number.evaluated_value, fixed=False)
    return None


def _set_by_forward(run: Run, cls: Class, name: str) -> bool:
    """Tell whether a network's forward alone sets an attribute, such as the loss: it is no part."""
    pattern = re.compile(rf"\bself\.{name}[ \t]*=(?!=)")
    for ancestor in classes.ancestry(run.project, cls).project:
        forward = classes.members(ancestor.node).get("forward")
        text = body_text(forward) if isinstance(forward, cst.FunctionDef) else None
        if text is not None and pattern.search(text):
            kept = constructors.assigned_in_init(ancestor.node).get(name)
            return kept is None or (isinstance(kept, cst.Name) and kept.value == "None")
    return False

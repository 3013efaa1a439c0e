"""Asks, on a closer look, whether a network that a script makes or a part of it holds norms.

It is constructed for that, which takes some time; what follows a script asks
`bncheck.source.timeline.ingredients` first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import libcst as cst

from bncheck.depth import deep
from bncheck.events import Fact
from bncheck.graph import Kind
from bncheck.source.application import named_layers
from bncheck.source.interpret.problems import GiveUpError, PathEndsError
from bncheck.source.interpret.values import UNKNOWN, Branches, Function, Instance, Unknown, options
from bncheck.source.interpret.values import Class as Interpreted
from bncheck.source.module import dotted
from bncheck.source.no_modules import cannot_be_module
from bncheck.source.project import Defined, External, Project
from bncheck.source.single import Given, constructed, machine_for
from bncheck.source.timeline.left_out import are_left_out
from bncheck.source.timeline.values import Class
from bncheck.source.walk import walk_kinds


@dataclass(frozen=True)
class CloserLook:
    """A network of the project, or one of its attributes, constructed only when it is asked."""

    definition: Defined
    project: Project
    given: Given
    part: str = ""

    def __call__(self) -> Fact:
        """Construct the network and look for BatchNorm; the answer is kept for the next time.

        UNKNOWN where something of it is not understood and no BatchNorm was seen, but may be there.
        """
        key = (id(self.definition.binding), self.given, self.part)
        answers = self.project.batch_norm_holders
        if key not in answers:
            answers[key] = UNKNOWN
            with deep():
                answers[key] = _holds(self)
        return answers[key]

    def at(self, part: str) -> CloserLook:
        """Return the same for an attribute of the network."""
        return replace(self, part=f"{self.part}.{part}" if self.part else part)

    def lacks(self, name: str) -> bool:
        """Tell whether the network, as it is made here, surely has no such attribute."""
        machine = machine_for(self.project)
        with deep():
            try:
                made = constructed(machine, self.definition, self.given)
            except (PathEndsError, GiveUpError, RecursionError):
                return False
        return isinstance(made, Instance) and name not in made.state and not machine.doubts


def _holds(look: CloserLook) -> bool | Unknown:
    machine = machine_for(look.project)
    try:
        made = constructed(machine, look.definition, look.given)
        for name in look.part.split(".") if look.part else ():
            made = made.state.get(name, UNKNOWN) if isinstance(made, Instance) else UNKNOWN
        if not isinstance(made, Instance) or not made.is_module:
            return UNKNOWN
        norms = [
            layer
            for layer in named_layers(made)
            if layer.kind is Kind.BATCH_NORM and layer.get("track_running_stats") is not False
        ]
        if norms:
            return not are_left_out(norms, made, machine, look.project)
        if any(_is_own_norm(inner) for inner in _objects_in(made)):
            return UNKNOWN
    except (PathEndsError, GiveUpError, RecursionError):
        return UNKNOWN
    if machine.doubts or _is_finished_later(made) or _has_unknown_part(made, look):
        return UNKNOWN
    return False


def _is_finished_later(root: Instance) -> bool:
    """Tell whether a method that its constructor does not call makes parts of a network."""
    from bncheck.source.timeline import classes

    return any(
        attribute not in root.state and isinstance(value, cst.Call)
        for cls in (root.cls.order if root.cls is not None else ())
        if isinstance(cls, Interpreted)
        for name, method in cls.namespace.items()
        if isinstance(method, Function) and isinstance(method.node, cst.FunctionDef)
        if name not in ("__init__", "forward")
        for attribute, value in classes.kept(method.node)
        if not _is_handed_over(value, method.node) and not _makes_tensor(value, root)
    )


def _makes_tensor(value: cst.BaseExpression, root: Instance) -> bool:
    """Recognise `self.encoder(images)`, which applies a part, and `torch.cat(features)`."""
    called = dotted(value.func) if isinstance(value, cst.Call) else None
    owner, _, name = (called or "").partition(".")
    part = root.state.get(name) if owner == "self" else None
    return (isinstance(part, Instance) and part.is_module) or (
        owner == "torch" and name.isidentifier() and name not in _MAY_RETURN_MODULES
    )


_MAY_RETURN_MODULES = frozenset({"compile", "load"})
"""Functions of torch that may return a module."""


def _is_handed_over(value: cst.BaseExpression, method: cst.FunctionDef) -> bool:
    """Recognise `model.head.to(device)`: what another network has, which a method is given."""
    while isinstance(value, cst.Call | cst.Attribute):
        value = value.func if isinstance(value, cst.Call) else value.value
    given = {parameter.name.value for parameter in method.params.params[1:]}
    return isinstance(value, cst.Name) and value.value in given


def _has_unknown_part(root: Instance, look: CloserLook) -> bool:
    """Tell whether anything in an object is not known, and so may be a module with BatchNorm."""
    from bncheck.source.timeline import ingredients

    definition, project = look.definition, look.project
    anything = ingredients.takes_from_outside(project, definition.binding, definition.module)
    return any(
        isinstance(option, Unknown)
        for part, (owner, attribute) in _owned_objects(root)
        for name, value in part.state.items()
        for option in _any_of(value)
        if not cannot_be_module(part, name)
        and (anything or _may_hold(part, name, owner, attribute, project))
    )


def _may_hold(part: Instance, name: str, owner: Instance, attribute: str, project: Project) -> bool:
    """Tell whether there is a reason to think that what an attribute holds has BatchNorm.

    Of an item in a container of torch's the attribute of its owner says what is put there.
    """
    from bncheck.source.timeline import parts

    if part.cls is not None:
        return parts.names_a_norm(project, Class(part.cls.node, part.cls.module), name)
    if owner.cls is None:
        return True
    cls = Class(owner.cls.node, owner.cls.module)
    return not _spells_out(cls, attribute) or parts.names_a_norm(project, cls, attribute)


def _spells_out(cls: Class, attribute: str) -> bool:
    """Tell whether a constructor writes out what it puts in, by names of the file: no variables.

    `self.embeddings = nn.ModuleDict({name: Embedding(n) for name, n in columns})`
    """
    from bncheck.source.timeline.constructors import assigned_in_init

    value = assigned_in_init(cls.node).get(attribute)
    if not isinstance(value, cst.Call) or any(
        argument.star or isinstance(argument.value, cst.Name) for argument in value.args
    ):
        return False
    return all(
        (dotted(call.func) or "").partition(".")[0] in cls.module.bindings
        for call in walk_kinds(value, (cst.Call,))
    )


_MAY_BE_BATCH_NORM = re.compile(r"(?<!Layer)(?<!Group)(?<!RMS)(?<!Response)Norm")


def _is_own_norm(part: Instance) -> bool:
    """Tell whether an object may be a norm of the project's own, derived from torch's or not."""
    return part.cls is not None and (
        "running_mean" in part.state
        or any(
            isinstance(a, External) and _MAY_BE_BATCH_NORM.search(a.name) for a in part.cls.order
        )
    )


def _objects_in(root: Instance) -> Iterator[Instance]:
    """Yield an object and those that it holds as attributes."""
    return (part for part, _ in _owned_objects(root))


def _owned_objects(root: Instance) -> Iterator[tuple[Instance, tuple[Instance, str]]]:
    """Yield an object and those that it holds, each with the attribute of a class that holds it.

    What lies in a container of torch's is held by what holds the container.
    """
    seen = {id(root)}
    waiting = [(root, (root, ""))]
    while waiting:
        part, held = waiting.pop()
        yield part, held
        for name, value in part.state.items():
            for option in _any_of(value):
                if isinstance(option, Instance) and id(option) not in seen:
                    seen.add(id(option))
                    waiting.append((option, held if part.cls is None else (part, name)))


def _any_of(value: object) -> Iterator[object]:
    """Yield what a value may be; of items that only some paths put into a list, each item."""
    for option in options(value):
        if isinstance(option, Branches):
            for run in option.options:
                for item in run:
                    yield from _any_of(item)
        else:
            yield option

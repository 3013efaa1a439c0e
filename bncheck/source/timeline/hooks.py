"""Which of a LightningModule's networks its hooks run: in training steps, and in evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import libcst as cst

from bncheck.source.project import Project
from bncheck.source.timeline import classes
from bncheck.source.timeline.syntax import identifiers
from bncheck.source.timeline.values import Class
from bncheck.source.walk import inside, walk_kinds

_TRAINS = ("training_", "on_train", "on_before", "on_after", "optimizer_", "manual_")
_EVALUATES = ("validation_", "test_", "predict_", "on_validation", "on_test", "on_predict")
_QUIET = frozenset(
    """
    parameters named_parameters buffers named_buffers state_dict load_state_dict modules children
    eval train requires_grad_ to cuda cpu
    """.split()  # noqa: SIM905
)
"""Methods of a network that do not run it."""


def only_evaluated(project: Project, cls: Class) -> frozenset[str]:
    """Return the attributes that hooks of evaluation use as networks, and none of training does."""
    methods = {
        name: member
        for ancestor in reversed(classes.ancestry(project, cls).project)
        for name, member in classes.members(ancestor.node).items()
        if isinstance(member, cst.FunctionDef)
    }
    return _used(methods, _EVALUATES) - _used(methods, _TRAINS)


def _used(methods: Mapping[str, cst.FunctionDef], hooks: tuple[str, ...]) -> frozenset[str]:
    """Return the attributes that methods of these names, or others that they call, may run."""
    waiting = [name for name in methods if name.startswith(hooks)]
    seen: set[str] = set()
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        named = set(_run_attributes(methods[name].body, methods))
        found |= named - methods.keys()
        waiting += named & methods.keys()
        if any(
            isinstance(call.func, cst.Name) and call.func.value == "self"
            for call in walk_kinds(methods[name].body, (cst.Call,))
        ):
            waiting += {"forward"} & methods.keys()
    return frozenset(found)


def _run_attributes(node: cst.CSTNode, methods: Mapping[str, cst.FunctionDef]) -> Iterator[str]:
    """Yield the attributes of `self` that code uses, but for looks at parameters and modes."""
    match node:
        case cst.Attribute(value=cst.Name(value="self"), attr=cst.Name(value=name)):
            yield name
            return
        case cst.Call(
            func=cst.Attribute(
                value=cst.Attribute(value=cst.Name(value="self")), attr=cst.Name(value=method)
            ),
            args=arguments,
        ) if method in _QUIET:
            for argument in arguments:
                yield from _run_attributes(argument, methods)
            return
        case cst.Call(
            func=cst.Attribute(value=cst.Name(value="self"), attr=cst.Name(value=method))
        ):
            if method in methods and "parameters" in identifiers(methods[method]):
                yield method
                return  # What it is given is averaged.
    for child in inside(node):
        yield from _run_attributes(child, methods)

"""One network of a project, asked for by itself: its graph, and whether it holds BatchNorm.

It is constructed for that, with symbols for the parameters that nothing is given for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from bncheck.depth import deep
from bncheck.graph import Kind, LayerGraph
from bncheck.source.application import Application, named_layers
from bncheck.source.entrances import symbols
from bncheck.source.interpret.attributes import find
from bncheck.source.interpret.calls import call
from bncheck.source.interpret.machine import Machine
from bncheck.source.interpret.problems import GiveUpError, PathEndsError
from bncheck.source.interpret.values import UNKNOWN, Branches, Class, Instance, Unknown, options
from bncheck.source.interpret.wiring import names_of
from bncheck.source.no_modules import cannot_be_module
from bncheck.source.project import Defined, External, Project
from bncheck.source.understanding import Understanding

_MAY_BE_BATCH_NORM = re.compile(r"(?<!Layer)(?<!Group)(?<!RMS)(?<!Response)Norm")
_MOST_STEPS = 20_000
"""Work for the network."""

Given = frozenset[tuple[str, object]]
"""Parameters of a class or factory, and the constants or UNKNOWN that they are given."""


def graph_of(
    definition: Defined, project: Project, given: Given = frozenset()
) -> LayerGraph | None:
    """Return the graph of what one class or factory constructs; None where it is not understood."""
    machine = _machine(project)
    with deep():
        try:
            made = _constructed(machine, definition, given)
            if isinstance(made, Instance) and made.is_module:
                application = Application(project, Understanding())
                return application.graph(machine, made, definition.name)
        except (PathEndsError, GiveUpError, RecursionError):
            pass
    return None


def holds_batch_norm(
    definition: Defined, project: Project, given: Given = frozenset(), part: str = ""
) -> bool | Unknown:
    """Tell whether what a class or factory of the project constructs holds a BatchNorm.

    `part` is the path of the attribute to look in; empty: in all of it. UNKNOWN where something of
    it is not understood and no BatchNorm was seen. To construct it takes some time, so what follows
    a script asks `bncheck.source.timeline.ingredients` first.
    """
    key = (id(definition.binding), given, part)
    answers = project.batch_norm_holders
    if key not in answers:
        answers[key] = UNKNOWN
        with deep():
            answers[key] = _holds(_machine(project), definition, given, part)
    return answers[key]


def _machine(project: Project) -> Machine:
    return Machine(names_of(project), limit=_MOST_STEPS)


def _holds(machine: Machine, definition: Defined, given: Given, part: str) -> bool | Unknown:
    try:
        made = _constructed(machine, definition, given)
        for name in part.split(".") if part else ():
            made = made.state.get(name, UNKNOWN) if isinstance(made, Instance) else UNKNOWN
        if not isinstance(made, Instance) or not made.is_module:
            return UNKNOWN
        if any(layer.kind is Kind.BATCH_NORM for layer in named_layers(made)):
            return True
        if any(_is_own_norm(inner) for inner in _objects_in(made)):
            return UNKNOWN
    except (PathEndsError, GiveUpError, RecursionError):
        return UNKNOWN
    return UNKNOWN if machine.doubts or _has_unknown_part(made) else False


def _constructed(machine: Machine, definition: Defined, given: Given = frozenset()) -> object:
    """Return what a class or factory makes, with symbols for what has no default."""
    value = machine.names.look_up(definition.name, machine, definition.module)
    initialiser = find(value, "__init__") if isinstance(value, Class) else value
    skip = 1 if isinstance(value, Class) else 0
    arguments = symbols(initialiser, skip)
    arguments.keywords.update(given)
    return call(machine, value, arguments, None)


def _has_unknown_part(root: Instance) -> bool:
    """Tell whether anything in an object is not known, and so may be a module."""
    return any(
        isinstance(option, (Unknown, Branches))
        for part in _objects_in(root)
        for name, value in part.state.items()
        for option in options(value)
        if not cannot_be_module(part, name)
    )


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
    seen = {id(root)}
    waiting = [root]
    while waiting:
        part = waiting.pop()
        yield part
        for value in part.state.values():
            for option in options(value):
                if isinstance(option, Instance) and id(option) not in seen:
                    seen.add(id(option))
                    waiting.append(option)

"""One network of a project, asked for by itself: it is constructed, and its forward run.

There are symbols for the parameters that nothing is given for.
"""

from __future__ import annotations

from dataclasses import dataclass

from bncheck.depth import deep
from bncheck.graph import LayerGraph
from bncheck.source.application import Application
from bncheck.source.entrances import symbols
from bncheck.source.interpret.attributes import find
from bncheck.source.interpret.calls import call
from bncheck.source.interpret.machine import Machine
from bncheck.source.interpret.problems import GiveUpError, PathEndsError
from bncheck.source.interpret.values import (
    Arguments,
    Class,
    Dictionary,
    External,
    Instance,
    List,
)
from bncheck.source.interpret.wiring import names_of
from bncheck.source.project import Defined, Project
from bncheck.source.understanding import Understanding

_MOST_STEPS = 20_000
"""Work for the network."""

Given = frozenset[tuple[str, object]]
"""Parameters of a class or factory; the constants, `Items`, `Mapped`, `Layer`, UNKNOWN given."""


@dataclass(frozen=True)
class Items:
    """A list that is given, of as many constants, other lists or UNKNOWN."""

    elements: tuple[object, ...]


@dataclass(frozen=True)
class Mapped:
    """A dict that is given, or an object with attributes: names and what they stand for."""

    entries: frozenset[tuple[str, object]]
    is_object: bool


@dataclass(frozen=True)
class Layer:
    """A layer of torch.nn that is given, without parameters that matter here, or its class."""

    name: str
    """Qualified, such as `torch.nn.ReLU`."""
    made: bool


def graph_of(
    definition: Defined, project: Project, given: Given = frozenset()
) -> LayerGraph | None:
    """Return the graph of what one class or factory constructs; None where it is not understood."""
    machine = machine_for(project)
    with deep():
        try:
            made = constructed(machine, definition, given)
            if isinstance(made, Instance) and made.is_module:
                application = Application(project, Understanding())
                return application.graph(machine, made, definition.name)
        except (PathEndsError, GiveUpError, RecursionError):
            pass
    return None


def machine_for(project: Project) -> Machine:
    """Return a machine that has run nothing yet, with work for one network."""
    return Machine(names_of(project), limit=_MOST_STEPS)


def constructed(machine: Machine, definition: Defined, given: Given = frozenset()) -> object:
    """Return what a class or factory makes, with symbols for what has no default."""
    value = machine.names.look_up(definition.name, machine, definition.module)
    initialiser = find(value, "__init__") if isinstance(value, Class) else value
    skip = 1 if isinstance(value, Class) else 0
    arguments = symbols(initialiser, skip)
    arguments.keywords.update((name, _interpreted(machine, value)) for name, value in given)
    return call(machine, value, arguments, None)


def _interpreted(machine: Machine, value: object) -> object:
    match value:
        case Items(elements=elements):
            return List([_interpreted(machine, element) for element in elements])
        case Layer(name=name, made=False):
            return External(name)
        case Layer():  # it is asked for norms alone, and one that has none is as good as another
            return call(machine, External("torch.nn.Identity"), Arguments(), None)
        case Mapped(entries=entries, is_object=is_object):
            held = {name: _interpreted(machine, value) for name, value in entries}
            if not is_object:
                return Dictionary(dict[object, object](held.items()))
            made = Instance(None, None, None)
            made.state.update(held)
            return made
    return value

"""BatchNorms that a network holds and that its forward never applies.

They normalise nothing, so it makes no difference in which mode they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from bncheck.graph import Layer, LayerGraph
from bncheck.source.application import Application, forward_of
from bncheck.source.interpret.machine import Machine
from bncheck.source.interpret.values import Class, Function, Instance, options
from bncheck.source.project import Project
from bncheck.source.timeline.syntax import mentions
from bncheck.source.understanding import Understanding

_ELSEWHERE = frozenset({"__init__", "forward"})


def are_left_out(
    norms: Sequence[Layer], root: Instance, machine: Machine, project: Project
) -> bool:
    """Tell whether the parts that hold these layers of a network surely apply none of them.

    `machine` has constructed the network.
    """
    application = Application(project, Understanding())
    held: dict[int, tuple[Instance, set[str], list[Layer]]] = {}
    for norm in reversed(norms):  # Blocks come before the network: they are smaller.
        holders = _holders(root, norm.name)
        if not holders:
            return False
        for part, attribute in holders:
            _, attributes, layers = held.setdefault(id(part), (part, set(), []))
            attributes.add(attribute)
            layers.append(norm)
    return all(
        not _is_used_elsewhere(part, attributes)
        and not any(
            not graph.complete or any(graph.uses(layer) for layer in layers)
            for graph in _passes(application, machine, part)
        )
        for part, attributes, layers in held.values()
    )


def _holders(root: Instance, path: str) -> list[tuple[Instance, str]]:
    """Return the innermost objects with a forward on a path, and what holds the rest in each.

    There are several where a setting chooses between parts that have it; none where something on
    the path isn't surely an object.
    """
    first = path.partition(".")[0]
    found = [(root, (root, first) if forward_of(root) else None)]
    for step, below in pairwise(path.split(".")):
        inner = []
        there = [each for each in found if step in each[0].state]
        for part, holder in there:
            values = options(part.state.get(step))
            made = [value for value in values if isinstance(value, Instance)]
            if not made or len(made) < len(values):
                return []
            inner += [(value, (value, below) if forward_of(value) else holder) for value in made]
        found = inner
    holders = [holder for _, holder in found if holder is not None]
    return holders if len(holders) == len(found) else []


def _is_used_elsewhere(part: Instance, attributes: set[str]) -> bool:
    """Tell whether a method that isn't the forward names what holds the layers."""
    classes = part.cls.order if part.cls is not None else []
    return any(
        isinstance(function, Function)
        and name not in _ELSEWHERE
        and not attributes.isdisjoint(mentions(function.node))
        for cls in classes
        if isinstance(cls, Class)
        for name, function in cls.namespace.items()
    )


def _passes(application: Application, machine: Machine, part: Instance) -> Iterator[LayerGraph]:
    """Yield the graph of an object's forward, and what it may be for other callers."""
    doubts, machine.doubts = machine.doubts, {}
    machine.extend(machine.steps + machine.limit)
    try:
        graph = application.graph(machine, part, "")
        yield graph
        yield application.otherwise(machine, part, part, graph)
    finally:
        machine.doubts = doubts

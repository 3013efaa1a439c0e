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
        holder = _holder(root, norm.name)
        if holder is None:
            return False
        part, attribute = holder
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


def _holder(root: Instance, path: str) -> tuple[Instance, str] | None:
    """Return the innermost object with a forward of its own on the path, and what holds the rest.

    None where something on the path isn't surely one object.
    """
    found = (root, path.partition(".")[0]) if forward_of(root) else None
    part = root
    steps = path.split(".")
    for step, below in pairwise(steps):
        values = options(part.state.get(step))
        if len(values) != 1 or not isinstance(values[0], Instance):
            return None
        part = values[0]
        if forward_of(part):
            found = (part, below)
    return found


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

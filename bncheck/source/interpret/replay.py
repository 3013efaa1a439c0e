"""The forward of a class that is constructed several times: run once, replayed for the copies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bncheck.graph import LayerGraph, Node, Symbol
from bncheck.source.interpret.keys import NotFrozenError, pattern_of
from bncheck.source.interpret.memory import Recipe, layer_in
from bncheck.source.interpret.values import (
    CONSTANT_TYPES,
    MISSING,
    Arguments,
    Branches,
    Dictionary,
    Either,
    External,
    Instance,
    List,
    Missing,
    Tensor,
    Unknown,
    births,
)

if TYPE_CHECKING:
    from bncheck.source.interpret.machine import Machine


@dataclass(eq=False, slots=True)
class Recording:
    """The nodes that a forward adds, and what it returns."""

    inputs: list[Node]
    nodes: list[Node]
    result: object
    complete: bool
    doubts: dict[str, int]


def replay(
    machine: Machine,
    instance: Instance,
    arguments: Arguments,
    run: Callable[[Instance, Arguments], object],
) -> object:
    """Return what applying `instance` gives, from the recording of an earlier application."""
    recipe = instance.recipe
    if recipe is None or not recipe.valid or machine.graph is None or arguments.open:
        return MISSING
    nodes: list[Node] = []
    try:
        key = (
            tuple(pattern_of(value, nodes) for value in arguments.positional),
            tuple((name, pattern_of(value, nodes)) for name, value in arguments.keywords.items()),
        )
    except NotFrozenError:
        return MISSING
    if key not in recipe.forwards:
        recipe.forwards[key] = None
        recipe.forwards[key] = _record(machine, recipe, arguments, nodes, run)
    recording = recipe.forwards[key]
    if recording is None or not recipe.valid:
        return MISSING
    return _play(machine, instance, recording, nodes)


def _record(
    machine: Machine,
    recipe: Recipe,
    arguments: Arguments,
    nodes: list[Node],
    run: Callable[[Instance, Arguments], object],
) -> Recording | None:
    graph, doubts = machine.graph, machine.doubts
    machine.graph, machine.doubts = LayerGraph("recording"), {}
    stand_ins = {id(node): Node(node.kind, node.name, node.site) for node in nodes}
    inputs = list(stand_ins.values())
    given = Arguments(
        [_replaced(value, stand_ins) for value in arguments.positional],
        {name: _replaced(value, stand_ins) for name, value in arguments.keywords.items()},
    )
    tensors = [(value, value.node) for value in given.values() if isinstance(value, Tensor)]
    machine.open_journal()
    began = next(births)
    try:
        result = run(recipe.original, given)
    finally:
        recorded, noted = machine.graph, machine.doubts
        machine.graph, machine.doubts = graph, doubts
        old = machine.close_journal()
    changed = False
    for value, state in old.items():
        if isinstance(value, Instance) and value.born < began:
            value.state, changed = state, True
    in_place = any(value.node is not node for value, node in tensors)
    known = {id(node) for node in (*recorded.nodes, *inputs)}
    closed = all(id(source) in known for node in recorded.nodes for source in node.inputs)
    if changed or in_place or not closed or not _replayable(result, known):
        return None
    for node in recorded.nodes:
        node.consumers.clear()
    return Recording(inputs, recorded.nodes, result, recorded.complete, noted)


def _play(machine: Machine, instance: Instance, recording: Recording, nodes: list[Node]) -> object:
    graph = machine.graph
    assert graph is not None
    mapped: dict[int, Node] = {
        id(stand_in): node for stand_in, node in zip(recording.inputs, nodes, strict=True)
    }
    same = instance.template is None
    for node in recording.nodes:
        layer = node.layer
        if layer is not None and not same:
            layer = layer_in(instance, layer)
        made = Node(
            node.kind,
            node.name,
            node.site,
            layer,
            node.attributes,
            [mapped[id(source)] for source in node.inputs],
        )
        mapped[id(node)] = made
        graph.add(made)
    machine.step(len(recording.nodes) // 4)
    if not recording.complete:
        graph.complete = False
    for reason, count in recording.doubts.items():
        machine.doubts[reason] = machine.doubts.get(reason, 0) + count
    return _replaced(recording.result, mapped)


_PLAIN: Final = CONSTANT_TYPES | {Symbol, Unknown, External, Missing}


def _replayable(value: object, known: set[int]) -> bool:
    if isinstance(value, Tensor):
        return id(value.node) in known
    if isinstance(value, tuple):
        return all(_replayable(inner, known) for inner in value)
    if isinstance(value, Either):
        return all(_replayable(inner, known) for inner in value.options)
    if isinstance(value, List):
        return value.state is None or all(_replayable(inner, known) for inner in value.state)
    if isinstance(value, Dictionary):
        return value.state is None or all(_replayable(v, known) for v in value.state.values())
    if isinstance(value, Branches):
        return all(_replayable(inner, known) for run in value.options for inner in run)
    return value.__class__ in _PLAIN


def _replaced(value: object, nodes: dict[int, Node]) -> object:
    """Return a value with the nodes of its tensors replaced."""
    if isinstance(value, Tensor):
        return Tensor(nodes[id(value.node)])
    if isinstance(value, tuple):
        return tuple(_replaced(inner, nodes) for inner in value)
    if isinstance(value, Either):
        return Either(tuple(_replaced(inner, nodes) for inner in value.options))
    if isinstance(value, List):
        if value.state is None:
            return List(None)
        return List([_replaced(inner, nodes) for inner in value.state])
    if isinstance(value, Dictionary):
        if value.state is None:
            return Dictionary(None)
        return Dictionary({key: _replaced(v, nodes) for key, v in value.state.items()})
    if isinstance(value, Branches):
        return Branches(
            tuple(tuple(_replaced(inner, nodes) for inner in run) for run in value.options)
        )
    return value

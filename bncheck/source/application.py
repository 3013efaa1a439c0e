"""Applies a constructed network to inputs of which nothing is known: object -> LayerGraph."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import libcst as cst

from bncheck.graph import Kind, Layer, LayerGraph
from bncheck.source.entrances import is_given
from bncheck.source.interpret.attributes import find
from bncheck.source.interpret.calls import call
from bncheck.source.interpret.facts import note
from bncheck.source.interpret.machine import Machine, States
from bncheck.source.interpret.memory import layers_of
from bncheck.source.interpret.mentions import holder_of, mentioned, reads_by_name_only
from bncheck.source.interpret.modes import note_kept_in_eval
from bncheck.source.interpret.problems import GiveUpError, PathEndsError
from bncheck.source.interpret.values import (
    Arguments,
    Class,
    Function,
    Instance,
    births,
    options,
    tensors_in,
)
from bncheck.source.kept import is_read_elsewhere
from bncheck.source.outline import UnparsableBodyError
from bncheck.source.project import Project
from bncheck.source.understanding import Understanding, internal


@dataclass(eq=False)
class Application:
    """Applies networks of a project, and counts how far they were understood."""

    project: Project
    understanding: Understanding
    _mentions: dict[tuple[Class, str], bool] = field(default_factory=dict)
    """Whether any code reads an attribute of a class."""

    def graphs(
        self, machine: Machine, root: Instance, name: str, whole: Instance | None = None
    ) -> Iterator[LayerGraph]:
        """Yield a network's graph, and one for each part that its forward does not reach.

        Another method may apply such a part, or code that is not understood. How the part
        applies its own layers is known nevertheless. `whole` is the network that has this one as
        a part.
        """
        try:
            try:
                graph = self.graph(machine, root, name)
            except PathEndsError:
                # Some forward passes want what is optional for others.
                graph = self.graph(machine, root, name, optional=True)
        except PathEndsError:
            self.understanding.doubts["forward raises in every path"] += 1
            self.understanding.partly += 1
            graph = LayerGraph(name, layers=list(named_layers(root)), complete=False)
        keeps = bool(machine.kept)
        try:
            yield from self._parts(machine, root, graph, whole or root)
        except GiveUpError as reason:
            self.understanding.doubts[reason.reason] += 1
        if graph.nodes and (machine.names.sets_modes or keeps or _takes_more(root)):
            graph.otherwise = partial(self.otherwise, machine, root, whole or root, graph)
        yield graph

    def _parts(
        self, machine: Machine, root: Instance, graph: LayerGraph, whole: Instance
    ) -> Iterator[LayerGraph]:
        applied = {id(node.layer) for node in graph.nodes}
        own: dict[int, Layer] = {id(layer): layer for layer in graph.layers}
        names = {id(layer): layer.name for layer in graph.layers}
        patterns: set[int] = set()
        todo: list[Instance] = [root]
        while todo:
            for part in _parts_of(todo.pop()):
                layers = {id(layer) for _, layer in layers_of(part)}
                if layers <= applied:
                    continue
                if layers & applied or not (forward_of(part) or part.base == "Sequential"):
                    todo.append(part)
                    continue
                applied |= layers
                if part.recipe is not None:
                    if id(part.recipe) in patterns:
                        continue
                    patterns.add(id(part.recipe))
                for found in self.graphs(machine, part, graph.name, whole):
                    for layer in found.layers:
                        if own.pop(id(layer), None) is not None:
                            graph.apart[names[id(layer)]] = layer
                    yield found
        graph.layers = list(own.values())

    def graph(
        self, machine: Machine, root: Instance, name: str, *, optional: bool = False
    ) -> LayerGraph:
        """Return the graph of one forward pass; `optional` gives what has a default too."""
        graph = self._applied(machine, root, name, optional=optional)
        if graph.complete:
            self.understanding.fully += 1
        else:
            self.understanding.partly += 1
        return graph

    def otherwise(
        self, machine: Machine, root: Instance, whole: Instance, graph: LayerGraph
    ) -> LayerGraph:
        """Return the graph with nothing known of what callers may give or leave to its default.

        What the forward keeps for other code is an output there. The same graph where that can't
        be read. In both, layers that the whole network keeps in eval mode have that noted. The
        network stays as it was.
        """
        opened, doubts = len(machine.journal), machine.doubts.copy()
        machine.extend(machine.limit + machine.steps)
        machine.open_journal()
        try:
            if machine.names.sets_modes:
                note_kept_in_eval(machine, whole)
            return self._applied(machine, root, graph.name, is_open=True)
        except (PathEndsError, GiveUpError, RecursionError):
            return graph
        except UnparsableBodyError:
            raise
        except Exception as problem:
            self.understanding.doubts[internal(problem)] += 1
            return graph
        finally:
            changed: States = {}
            while len(machine.journal) > opened:
                changed = machine.close_journal()
            for value, state in changed.items():
                value.state = state
            machine.doubts = doubts

    def _applied(
        self,
        machine: Machine,
        root: Instance,
        name: str,
        *,
        optional: bool = False,
        is_open: bool = False,
    ) -> LayerGraph:
        """Run the forward; with `is_open` its callers may give anything that has a default."""
        graph = LayerGraph(name, guessed=machine.guessed)
        machine.graph = graph
        machine.forward_from = next(births)
        machine.kept.clear()
        if machine.doubts:
            graph.complete = False
        found = forward_of(root)
        given = Arguments(open=is_open)
        if found is None:
            given.positional.append(machine.add(Kind.INPUT, "input", None, []))
        for parameter in found.node.params.params[1:] if found is not None else ():
            if is_given(parameter, optional):
                wanted = parameter.name.value
                given.keywords[wanted] = machine.add(Kind.INPUT, wanted, None, [])
        if found is not None and _takes_any_number(found):
            given.open = True
        outputs = [*tensors_in(call(machine, root, given, None))]
        if is_open:
            kept = [(n, t) for n, t in machine.kept if is_read_elsewhere(n, self.project)]
            outputs += [tensor for _, tensor in kept]
        machine.add(Kind.OUTPUT, "output", None, list({id(t.node): t for t in outputs}.values()))
        graph.layers = list(named_layers(root))
        _note_strays(graph)
        self._note_mentions(graph, root)
        return graph

    def _note_mentions(self, graph: LayerGraph, root: Instance) -> None:
        """Ask of each BatchNorm that is not applied whether any other code may apply it.

        Where the forward is not understood fully, its class must name all that it uses.
        """
        for layer in graph.layers:
            if layer.kind is Kind.BATCH_NORM and layer.name and not graph.uses(layer):
                held = holder_of(root, layer.name)
                if held is None:
                    continue
                if held not in self._mentions:
                    self._mentions[held] = mentioned(*held, self.project)
                if graph.complete or self._mentions[held] or reads_by_name_only(held[0]):
                    note(layer, "mentioned", self._mentions[held])


def named_layers(root: Instance) -> Iterator[Layer]:
    """Yield the layers that an object holds, each under its path in it."""
    for name, layer in layers_of(root):
        layer.name = name
        yield layer


def forward_of(root: Instance) -> Function | None:
    """Return the forward of an object that is of a class of the project."""
    found = find(root.cls, "forward") if root.cls is not None else None
    return found if isinstance(found, Function) else None


def _takes_more(root: Instance) -> bool:
    """Tell whether callers of an object's forward may leave something to its default."""
    found = forward_of(root)
    if found is None:
        return False
    parameters = found.node.params
    return parameters.star_kwarg is not None or any(
        not is_given(parameter, optional=False)
        for parameter in (*parameters.params[1:], *parameters.kwonly_params)
    )


def _takes_any_number(forward: Function) -> bool:
    """Recognise `def forward(self, *inputs)`, of which callers give as many as it reads."""
    return isinstance(forward.node.params.star_arg, cst.Param) and not forward.defaults


def _parts_of(whole: Instance) -> Iterator[Instance]:
    """Yield the modules that an object holds as attributes and that are no single layers."""
    for value in whole.state.values():
        for part in options(value):
            if isinstance(part, Instance) and part.is_module and part.layer is None:
                yield part


def _note_strays(graph: LayerGraph) -> None:
    """Add the layers that the forward constructs and does not keep on the network.

    One that it keeps but that the next call replaces is constructed anew as well.
    """
    kept = {id(layer) for layer in graph.layers}
    for node in graph.nodes:
        layer = node.layer
        if layer is not None and layer.get("constructed_in") == "forward, replaced":
            note(layer, "built_in_forward", True)
        if layer is None or id(layer) in kept:
            continue
        kept.add(id(layer))
        if layer.get("constructed_in") == "forward":
            note(layer, "built_in_forward", True)
            graph.layers.append(layer)

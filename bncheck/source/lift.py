"""Reads the networks of a module: class or factory -> LayerGraph."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import libcst as cst

from bncheck.depth import deep
from bncheck.graph import BATCH_STATISTICS, Kind, Layer, LayerGraph, Site
from bncheck.source.application import Application, forward_of
from bncheck.source.entrances import (
    MOST_VARIANTS,
    may_be_factory,
    returned_call,
    symbols,
    symbols_of,
)
from bncheck.source.interpret.attributes import find
from bncheck.source.interpret.calls import call
from bncheck.source.interpret.classes import base_of
from bncheck.source.interpret.machine import Machine
from bncheck.source.interpret.memory import layers_of
from bncheck.source.interpret.problems import GiveUpError, PathEndsError
from bncheck.source.interpret.values import Arguments, Class, Instance, options
from bncheck.source.interpret.wiring import names_of
from bncheck.source.local import local_networks
from bncheck.source.module import Assigned, SourceModule
from bncheck.source.outline import UnparsableBodyError
from bncheck.source.project import Project
from bncheck.source.reach import Reach
from bncheck.source.understanding import Understanding, internal
from bncheck.source.variants import Variants

_DEFINITIONS = (cst.FunctionDef, cst.ClassDef)
_MOST_STEPS = 30_000
"""Work for one network; less where others of the same file were too much."""
_MOST_GIVEN_UP = 6
"""Networks of one file that may turn out too large before no more of it are read."""
_STEPS, _STEPS_PER_LINE = 400_000, 6
"""Work of a run after which no more variants are read, nor networks without a norm.

A step is a statement or a call, and takes some microseconds.
"""


def graphs(module: SourceModule, project: Project) -> list[LayerGraph]:
    """Return a graph for each network that the module defines."""
    return list(networks([module], project))


def networks(
    modules: Iterable[SourceModule],
    project: Project,
    understanding: Understanding | None = None,
    suspects: Collection[Site] | None = None,
) -> Iterator[LayerGraph]:
    """Yield a graph for each network of the modules.

    Factories that need no arguments come first: they construct networks with every argument
    known, as do calls at module level. A class that nothing constructed is read with symbols
    for its parameters.

    `suspects` are the sites at which the graphs before had something to report, and a layer may
    be right in one network and wrong in another. With them, a variant of a network is read only
    if it may tell more (`bncheck.source.variants`), and a network that can't come to a BatchNorm
    only after all others, and only if it may construct layers in the files of such sites. So are
    those of other files of the run that name such a file.
    """
    modules = list(modules)
    lines = sum(module.text.count("\n") for module in modules)
    reader = _Reader(project, understanding or Understanding(), suspects)
    reader.budget = _STEPS + _STEPS_PER_LINE * lines
    with deep():
        if suspects is None:
            yield from reader.networks(modules)
            return
        reach = Reach.of(modules, project)
        reader.wanted = reach.norms
        yield from reader.networks(modules)
        if suspects:
            more, others = reach.besides({site.path for site in suspects}, modules)
            reader.read_others(lambda module, name: (module.path, name) in others)
            yield from reader.networks([*modules, *more])


@dataclass(eq=False)
class _Reader:
    project: Project
    understanding: Understanding
    suspects: Collection[Site] | None = None
    budget: int = 10_000_000
    """Steps that all networks together may take before what is read besides is left out."""
    wanted: Callable[[SourceModule, str], bool] | None = None
    """Which definitions to read; None: all."""
    _reads_besides: bool = False
    """Whether variants, or networks without a norm, are being read."""
    _reads_others: bool = False
    _too_large: set[cst.ClassDef] = field(default_factory=set)
    """Classes that were too much work to construct with symbols."""
    _given_up: dict[str, int] = field(default_factory=dict)
    """How many networks of each file were too much work."""

    def __post_init__(self) -> None:
        self.names = names_of(self.project)
        self.application = Application(self.project, self.understanding)
        self.variants = Variants(self.names, self.suspects, self._is_wanted)

    def networks(self, modules: Sequence[SourceModule]) -> Iterator[LayerGraph]:
        """Yield the networks of modules, those first of which most is known."""
        for turn in range(MOST_VARIANTS):
            self._reads_besides = turn > 0 or self._reads_others
            for module in modules:
                yield from self.factories(module, turn)
            if turn == 0:
                for module in modules:
                    yield from self.values(module)
                for module in reversed(modules):
                    yield from self.helpers(module)
                for module in reversed(modules):
                    yield from self.classes(module)
                yield from self.unapplied()
                yield from self.handed()
                for module in modules:
                    yield from self.local(module)

    def read_others(self, wanted: Callable[[SourceModule, str], bool]) -> None:
        """Turn to other definitions, with work left for them."""
        self.wanted = wanted
        self._reads_others = True
        self.budget = max(self.budget, _STEPS)
        self.variants.forget()
        self._given_up.clear()

    def _is_wanted(self, module: SourceModule, name: str) -> bool:
        wanted = self.wanted is None or self.wanted(module, name)
        if wanted is self._reads_others:
            self.understanding.without_norm += -1 if wanted else 1
        return wanted

    def factories(self, module: SourceModule, turn: int) -> Iterator[LayerGraph]:
        """Yield networks of functions without required parameters, one for each function called."""
        names = list(self.variants.of(module, turn))
        if turn and names and not self.variants.tells_more(module):
            self.understanding.alike += len(names)
            return
        for name in names:
            yield from self._network(module, name, Arguments())

    def helpers(self, module: SourceModule) -> Iterator[LayerGraph]:
        """Yield what functions give that take parameters and that nothing has called yet."""
        for name, bindings in reversed(module.bindings.items()):
            for node in bindings:
                if (
                    node.__class__ is cst.FunctionDef
                    and not may_be_factory(node)
                    and node not in self.names.run
                    and not self.variants.is_told(module, name)
                    and self._is_wanted(module, name)
                    and returned_call(node) is not None
                ):
                    yield from self._network(module, name, symbols_of(node))

    def values(self, module: SourceModule) -> Iterator[LayerGraph]:
        """Yield the networks that are constructed at module level and bound to a name."""
        for name, bindings in module.bindings.items():
            if any(
                isinstance(b, Assigned) and isinstance(b.value, cst.Call) for b in bindings
            ) and self._is_wanted(module, name):
                yield from self._network(module, name, None)

    def classes(self, module: SourceModule) -> Iterator[LayerGraph]:
        """Yield the networks of classes that nothing constructed yet."""
        for name, bindings in reversed(module.bindings.items()):
            for node in bindings:
                if node.__class__ is cst.ClassDef and self._is_wanted(module, name):
                    yield from self._network(module, name, None)

    def unapplied(self) -> Iterator[LayerGraph]:
        """Yield networks that others constructed for the sake of a part, or that were lost.

        Their arguments are those of that code, but whether anything applies them is not known.
        """
        for cls, made in list(self.names.constructed.items()):
            forward = forward_of(made)
            if forward is None:
                is_lost = made.base == "Sequential" and cls not in self.names.applied
            else:
                is_lost = forward.node not in self.names.run
            if is_lost and (self.wanted is None or self.wanted(cls.module, cls.name)):
                yield from self._network(cls.module, cls.name, None, made)

    def handed(self) -> Iterator[LayerGraph]:
        """Yield the Sequentials that a library was given, which applies them out of sight."""
        for site, made in list(self.names.handed.items()):
            layers = [layer for _, layer in layers_of(made)]
            if any(layer.kind in BATCH_STATISTICS for layer in layers) and not self.variants.knows(
                {layer.site for layer in layers}
            ):
                yield from self._network(self.project.module(site.path), "Sequential", None, made)

    def local(self, module: SourceModule) -> Iterator[LayerGraph]:
        """Yield the networks that functions make for themselves, of which no other has a layer."""
        for name, bindings in module.bindings.items():
            if any(node.__class__ in _DEFINITIONS for node in bindings) and (
                self.wanted is None or self.wanted(module, name)
            ):
                for made in local_networks(module, name, self.names):
                    sites = {layer.site for _, layer in layers_of(made)}
                    if not self.variants.knows(sites):
                        yield from self._network(module, name, None, made)

    def _network(
        self,
        module: SourceModule,
        name: str,
        arguments: Arguments | None,
        made: object = None,
    ) -> Iterator[LayerGraph]:
        no_work_left = self._reads_besides and self.budget <= 0
        if no_work_left or self._given_up.get(module.path, 0) >= _MOST_GIVEN_UP:
            self.understanding.given_up["no work left for variants"] += 1
            return
        most = _MOST_STEPS // (1 + self._given_up.get(module.path, 0))
        # Where little is known, and to construct it takes half of the work, no more will be found.
        symbolic = made is not None or arguments is None or bool(arguments.keywords)
        machine = Machine(self.names, limit=most // 2 if symbolic else most)
        constructed, run = len(self.names.constructed), len(self.names.run)
        was_read = False
        try:
            if made is None:
                made, symbolic = self._make(machine, module, name, arguments)
            machine.extend(most)
            for option in options(made):
                if isinstance(option, Instance) and (norm := _own_norm(option)) is not None:
                    was_read = True
                    yield LayerGraph(name, layers=[norm], complete=False, symbolic=symbolic)
                elif (
                    isinstance(option, Instance)
                    and option.is_module
                    and (option.layer is None or forward_of(option) is not None)
                ):
                    was_read = True
                    for graph in self.application.graphs(machine, option, name):
                        if self._is_abstract(machine, option):
                            continue
                        graph.symbolic = symbolic
                        self.variants.note(module, graph)
                        yield graph
        except PathEndsError:
            self.understanding.given_up["raises in every path"] += 1
        except GiveUpError as reason:
            self.understanding.given_up[reason.reason] += 1
            self._given_up[module.path] = self._given_up.get(module.path, 0) + 1
            if symbolic and machine.unfinished is not None:
                self._too_large.add(machine.unfinished.node)
        except RecursionError:
            self.understanding.given_up["too deep"] += 1
        except UnparsableBodyError:
            raise
        except Exception as problem:
            self.understanding.given_up[internal(problem)] += 1
        finally:
            if was_read:
                self.variants.note_run(module, list(self.names.run.values())[run:])
            else:
                for cls in list(self.names.constructed)[constructed:]:
                    del self.names.constructed[cls]
            self.budget -= machine.steps
            for doubt, times in machine.doubts.items():
                self.understanding.doubts[doubt] += times

    def _is_abstract(self, machine: Machine, made: Instance) -> bool:
        """Tell whether a network is whole only in classes derived from its own, which were made."""
        cls = made.cls
        return cls in machine.lacking and any(
            cls in other.order for other in self.names.constructed if other is not cls
        )

    def _make(
        self, machine: Machine, module: SourceModule, name: str, arguments: Arguments | None
    ) -> tuple[object, bool]:
        """Return what a name stands for or makes, and whether symbols were given for parameters.

        None for what is no network, or was constructed before.
        """
        value = self.names.look_up(name, machine, module)
        if any(isinstance(option, Instance) for option in options(value)):
            return value, False  # several where the name is bound several times
        if arguments is not None:
            return call(machine, value, arguments, None), bool(arguments.keywords)
        if (
            not isinstance(value, Class)
            or value in self.names.constructed
            or not _is_network(value)
        ):
            return None, False
        if value.node in self._too_large:
            raise GiveUpError("too much work")
        initialiser = find(value, "__init__")
        given = symbols(initialiser)
        try:
            made = call(machine, value, given, None)
        except PathEndsError:
            # Some constructors want one of a few optional arguments.
            given = symbols(initialiser, optional=True)
            made = call(machine, value, given, None)
        return made, bool(given.keywords)


def _own_norm(made: Instance) -> Layer | None:
    """Return the layer of an object that is a BatchNorm of a class of the project's own."""
    layer = made.layer
    is_norm = layer is not None and layer.kind is Kind.BATCH_NORM and layer.site is None
    return layer if is_norm and made.cls is not None and forward_of(made) is None else None


def _is_network(cls: Class) -> bool:
    return base_of(cls) is not None

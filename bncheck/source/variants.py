"""Which of a file's factories are read: those that may tell something which others did not.

Factories that call the same function make variants of one network. The first of them is read in
any case. Another one is, where a layer of those before it was reported, since it may be right
elsewhere, or where a function that they ran has branches which none of them took: with layers in
them, or in how a class that is a layer with a bias itself is applied.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field

import libcst as cst

from bncheck.graph import Kind, LayerGraph, Site
from bncheck.source.entrances import MOST_VARIANTS, may_be_factory, returned_call, spread
from bncheck.source.interpret.classes import base_of
from bncheck.source.interpret.layers import LAYER_CALL, is_layer_call, layer_kind
from bncheck.source.interpret.names import Names
from bncheck.source.interpret.values import Function
from bncheck.source.module import SourceModule
from bncheck.source.outline import LazyBlock
from bncheck.source.walk import walk

_WITH_BIAS = (Kind.CONVOLUTION, Kind.TRANSPOSED_CONVOLUTION, Kind.LINEAR)
_MOST_FIRST = 6
"""Functions of one file, each of which calls another one, that are read before all classes."""


@dataclass(eq=False)
class _Told:
    """What the networks of one file have told so far."""

    sites: set[Site] = field(default_factory=set)
    before: int = 0
    """How many sites there were when the last round began."""
    functions: list[Function] = field(default_factory=list)
    """Those that they were the first to run."""


@dataclass(eq=False)
class Variants:
    """The factories of all files of a run, by the function that they call."""

    names: Names
    suspects: Collection[Site] | None
    """Where something was reported so far; None: all variants are read."""
    wanted: Callable[[SourceModule, str], bool]
    _groups: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    _told: dict[str, _Told] = field(default_factory=dict)

    def of(self, module: SourceModule, turn: int) -> Iterator[str]:
        """Yield the factories whose turn it is, one for each function that is called."""
        for number, names in enumerate(self._by_callee(module).values()):
            own = turn - min(number // _MOST_FIRST, MOST_VARIANTS - 1)
            if 0 <= own < len(names):
                yield names[own]

    def tells_more(self, module: SourceModule) -> bool:
        """Tell whether another round of the file's factories is worth it."""
        told = self._told.get(module.path)
        if told is None or self.suspects is None:
            return True
        news, told.before = len(told.sites) > told.before, len(told.sites)
        return not told.sites.isdisjoint(self.suspects) or (
            news
            and any(
                _has_layers_left(function) or _has_branches_left(function, self.names)
                for function in told.functions
            )
        )

    def is_told(self, module: SourceModule, name: str) -> bool:
        """Tell whether a function is one that factories call which were, or need not be, read."""
        return (
            self.suspects is not None
            and module.path in self._told
            and name in self._by_callee(module)
        )

    def note(self, module: SourceModule, graph: LayerGraph) -> None:
        """Take note of a network that was read."""
        told = self._told.setdefault(module.path, _Told())
        told.sites.update(layer.site for layer in graph.layers if layer.site is not None)

    def knows(self, sites: Collection[Site | None]) -> bool:
        """Tell whether a network that was read has a layer from one of the sites."""
        return any(not told.sites.isdisjoint(sites) for told in self._told.values())

    def note_run(self, module: SourceModule, functions: Iterable[Function]) -> None:
        """Take note of the functions that a network was the first to run."""
        if module.path in self._told:
            self._told[module.path].functions += functions

    def forget(self) -> None:
        """Begin anew, with other definitions wanted."""
        self._groups.clear()
        self._told.clear()

    def _by_callee(self, module: SourceModule) -> dict[str, list[str]]:
        if module.path not in self._groups:
            found: dict[str, list[str]] = {}
            for name, bindings in module.bindings.items():
                for node in bindings:
                    if (
                        node.__class__ is cst.FunctionDef
                        and may_be_factory(node)
                        and self.wanted(module, name)
                    ):
                        callee = returned_call(node)
                        if callee is not None:
                            found.setdefault(callee, []).append(name)
            self._groups[module.path] = {callee: spread(names) for callee, names in found.items()}
        return self._groups[module.path]


def _has_layers_left(function: Function) -> bool:
    """Tell whether a function has a call of a layer that was not evaluated yet."""
    body: cst.CSTNode = function.node.body
    if isinstance(body, LazyBlock) and not LAYER_CALL.search(body.text):
        return False
    sites = function.module.sites
    return any(is_layer_call(node) and id(node) not in sites for node in walk(body))


def _has_branches_left(function: Function, names: Names) -> bool:
    """Tell whether the forward of a class that is a layer has a branch that was not taken.

    What a norm does with its branches tells nothing of the layers before it.
    """
    owner = function.owner
    if owner is None or function.name != "forward":
        return False
    if layer_kind(base_of(owner) or "") not in _WITH_BIAS:
        return False
    return any(
        ((id(branch), True) in names.taken) is not ((id(branch), False) in names.taken)
        for branch in walk(function.node.body)
        if isinstance(branch, (cst.If, cst.IfExp))
    )

"""Sequentials that a function makes for itself: in a script's `main()`, a test, a training loop.

Nothing gives such a network away, so the function is run, with symbols for its parameters, as far
as that goes, and the Sequentials that it made on the way are its networks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import libcst as cst

from bncheck.source.entrances import symbols_of
from bncheck.source.interpret.attributes import find
from bncheck.source.interpret.calls import call
from bncheck.source.interpret.classes import base_of
from bncheck.source.interpret.machine import Machine
from bncheck.source.interpret.names import Names
from bncheck.source.interpret.problems import FruitlessError, GiveUpError, PathEndsError
from bncheck.source.interpret.values import Class, Function, Instance
from bncheck.source.module import SourceModule, statements
from bncheck.source.outline import body_text

_MOST_STEPS = 4_000
"""Work for one function, of which most do something else."""
_PRODUCER = re.compile(r"\b(?:Lazy)?(?:Conv(?:Transpose)?[123]d|Linear)\(")
_NORM = re.compile(r"(?:Batch|Instance)Norm\w*\(")


def local_networks(module: SourceModule, name: str, names: Names) -> Iterator[Instance]:
    """Yield the Sequentials that functions of one definition make, if nothing ran them before."""
    for node, owner in _functions(module, name, names):
        machine = Machine(names, limit=_MOST_STEPS)
        machine.sequentials = []
        constructed = len(names.constructed)
        function = names.look_up(name, machine, module) if owner is None else owner
        if isinstance(function, Class):
            function = find(function, node.name.value)
        if not isinstance(function, Function):
            continue
        try:
            call(machine, function, symbols_of(node), None)
        except (PathEndsError, GiveUpError, FruitlessError, RecursionError):
            pass
        finally:
            for cls in list(names.constructed)[constructed:]:
                del names.constructed[cls]
        inner = {
            id(part)
            for made in machine.sequentials
            for part in made.state.values()
            if isinstance(part, Instance)
        }
        yield from (made for made in machine.sequentials if id(made) not in inner)


def _functions(
    module: SourceModule, name: str, names: Names
) -> Iterator[tuple[cst.FunctionDef, Class | None]]:
    """Yield the functions that are worth a try: one of a name, or the methods of no network."""
    for binding in module.bindings.get(name, ()):
        if isinstance(binding, cst.FunctionDef) and _may_make_one(binding, names):
            yield binding, None
        elif isinstance(binding, cst.ClassDef):
            methods = [
                node
                for node in statements(binding.body.body)
                if isinstance(node, cst.FunctionDef) and _may_make_one(node, names)
            ]
            if not methods:
                continue
            owner = names.look_up(name, Machine(names, limit=_MOST_STEPS), module)
            if isinstance(owner, Class) and base_of(owner) is None:
                yield from ((node, owner) for node in methods)


def _may_make_one(node: cst.FunctionDef, names: Names) -> bool:
    text = body_text(node)
    return (
        text is not None
        and "Sequential(" in text
        and node not in names.run
        and _NORM.search(text) is not None
        and _PRODUCER.search(text) is not None
    )

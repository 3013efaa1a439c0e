"""Train and eval mode: which layers a network's own `train` method leaves in eval mode.

`Module.train` and what it calls are run as they would be by a training loop, once for a network
of which something was found. Otherwise modes are of no interest, and nothing follows them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import libcst as cst

from bncheck.source.interpret.facts import note
from bncheck.source.interpret.machine import Machine
from bncheck.source.interpret.memory import layers_of
from bncheck.source.interpret.problems import GiveUpError, PathEndsError
from bncheck.source.interpret.values import (
    Arguments,
    Branches,
    Either,
    Function,
    Instance,
    List,
    children,
    truth,
)
from bncheck.source.outline import body_text

_TRAINING: Final = re.compile(r"\bbackward\(|optim|epoch|loader")


def note_kept_in_eval(machine: Machine, root: Instance) -> None:
    """Run `root.train(True)`, and note of each layer that it may leave in eval mode that it does.

    A method that raises, or is too much work, has done what it did until then.
    """
    graph, machine.graph, machine.modes = machine.graph, None, {}
    try:
        _set(machine, root, True)
    except (PathEndsError, GiveUpError, RecursionError):
        pass
    finally:
        modes, machine.graph, machine.modes = machine.modes, graph, None
    for layer, trains in modes.items():
        if not trains:
            note(layer, "kept_in_eval", True)


def train(machine: Machine, value: Instance, arguments: Arguments) -> object:
    """Run torch's own `Module.train`."""
    if machine.modes is not None:
        mode = arguments.keywords.get("mode", arguments.at(0, True))
        _set_parts(machine, value, truth(mode) is True)
    return value


def evaluate(machine: Machine, value: Instance, arguments: Arguments) -> object:
    """Run torch's own `Module.eval`, which asks the module's `train` to do it."""
    if machine.modes is not None:
        _set(machine, value, False)
    elif machine.graph is not None:
        for _, layer in layers_of(value):
            note(layer, "kept_in_eval", True)
    return value


def apply_to_all(machine: Machine, value: Instance, arguments: Arguments) -> object:
    """Run torch's own `Module.apply`; what it does to weights is of no interest."""
    if machine.modes is not None:
        for _, part in _modules(machine, value):
            machine.names.call(machine, arguments.at(0), part)
    return value


def modules(machine: Machine, value: Instance, arguments: Arguments) -> object:
    """Return every module of a network; none while the loop can but initialise weights."""
    if machine.modes is None:
        return List([])
    return List([part for _, part in _modules(machine, value)])


def named_modules(machine: Machine, value: Instance, arguments: Arguments) -> object:
    """Return every module of a network with its name, in the same way."""
    return List(list(_modules(machine, value)) if machine.modes is not None else [])


def _set(machine: Machine, value: Instance, trains: bool) -> None:
    """Call a module's `train` method, the project's own or torch's."""
    from bncheck.source.interpret.attributes import find
    from bncheck.source.interpret.calls import call

    own = find(value.cls, "train") if value.cls is not None else None
    if isinstance(own, Function) and _takes_mode(own):
        from bncheck.source.interpret.attributes import bind

        bound = bind(machine, own, value, value.cls, None)
        call(machine, bound, Arguments([trains]), None)
    else:
        _set_parts(machine, value, trains)


def _takes_mode(method: Function) -> bool:
    """Tell whether a `train` method sets a mode; others run a training, and are no override."""
    node = method.node
    if isinstance(node, cst.Lambda) or len((*node.params.params, *node.params.kwonly_params)) > 2:
        return False
    text = body_text(node)
    return text is None or not _TRAINING.search(text)


def _set_parts(machine: Machine, value: Instance, trains: bool) -> None:
    machine.step()
    if value.layer is not None and machine.modes is not None:
        machine.modes[value.layer] = trains and not machine.uncertain
    for _, child in children(value):
        for part in _instances(child):
            _set(machine, part, trains)


def _modules(machine: Machine, root: Instance) -> Iterator[tuple[str, Instance]]:
    """Yield a network and every module in it, each once, under its name."""
    seen: set[int] = set()
    waiting: list[tuple[str, Instance]] = [("", root)]
    while waiting:
        name, part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        machine.step()
        yield name, part
        waiting += [
            (f"{name}.{own}" if name else own, inner)
            for own, child in reversed(children(part))
            for inner in _instances(child)
        ]


def _instances(child: object) -> Iterator[Instance]:
    """Yield the modules that an attribute, or a place of a Sequential, may be."""
    match child:
        case Instance():
            if child.is_module:
                yield child
        case Either(options=options):
            for option in options:
                yield from _instances(option)
        case Branches(options=runs):
            for run in runs:
                for inner in run:
                    yield from _instances(inner)

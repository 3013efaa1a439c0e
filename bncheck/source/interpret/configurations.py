"""Configurations with their defaults in Python, such as yacs's: `_C.MODEL.NORM = "BN"`.

A network that takes such a configuration is read with the defaults, as it is with those of its
arguments: with what chooses (texts, True, False, None), not with numbers, which stay symbols. They
are often placeholders that a file or the data replaces.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from bncheck.graph import Site, Symbol
from bncheck.source.interpret.attributes import bind
from bncheck.source.interpret.classes import find_defined
from bncheck.source.interpret.machine import Machine
from bncheck.source.interpret.names import Names
from bncheck.source.interpret.values import (
    MISSING,
    Arguments,
    Class,
    Dictionary,
    Function,
    Instance,
)

PARAMETERS: Final = frozenset({"cfg", "config"})
"""Under these names networks take the project's configuration."""
CLASSES: Final = (
    "yacs.config.CfgNode", "fvcore.common.config.CfgNode", "detectron2.config.CfgNode",
    "easydict.EasyDict",
)  # fmt: skip
_DEFAULTS: Final = re.compile(rb"^(_C|__C)\s*=\s*[\w.]*(?:CN|CfgNode|[eE]asyDict|edict)\(", re.M)
_READ: Final = re.compile(r"\b(?:cfg|config)((?:\.[A-Z]\w*)+)")
"""What is read of a configuration directly."""
_DEEPEST: Final = 6


def configuration(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    """Return a configuration, which has the entries of the dictionary that it is given."""
    made = Instance(None, None, site)
    for given in arguments.positional:
        if isinstance(given, Dictionary) and given.state is not None:
            made.state.update({str(key): value for key, value in given.state.items()})
    return made


@dataclass(eq=False)
class Configurations:
    """The configurations of a project, mostly one or none."""

    names: Names
    _found: list[Instance] | None = None
    """Each with its defaults; None until one is asked for."""

    def given(
        self, machine: Machine, arguments: Arguments, text: str, cls: Class | None = None
    ) -> Arguments:
        """Return arguments with the configuration where a call or a class takes one.

        `text` is that of the function or class: where the project has several configurations, it
        tells by what it reads of it which it takes. detectron2's `configurable` takes a
        constructor's arguments out of it by a class method.
        """
        takers = PARAMETERS & arguments.keywords.keys()
        method = find_defined(cls, "from_config") if cls is not None and not takers else MISSING
        if not takers and not isinstance(method, Function):
            return arguments
        if self._found is None:
            self._found = list(_defaults(self.names, machine))
        read = set(_READ.findall(text))
        fitting = [known for known in self._found if all(_has(known, path) for path in read)]
        if len(fitting) != 1:
            return arguments
        more: dict[str, object] = dict.fromkeys(takers, fitting[0])
        if isinstance(method, Function) and method.kind == "class":
            made = machine.names.call(machine, bind(machine, method, cls, cls, None), fitting[0])
            if isinstance(made, Dictionary) and made.state is not None:
                wanted = arguments.keywords.keys()
                more = {str(key): value for key, value in made.state.items() if key in wanted}
        return Arguments(keywords={**arguments.keywords, **more})


def _has(configuration: Instance, path: str) -> bool:
    """Tell whether a configuration has an entry, such as `.MODEL.NORM`."""
    value: object = configuration
    for name in path.split(".")[1:]:
        if not isinstance(value, Instance):
            break
        if name not in value.state:
            return False
        value = value.state[name]
    return True


def _defaults(names: Names, machine: Machine) -> Iterator[Instance]:
    for path, text in names.project.texts.items():
        found = _DEFAULTS.search(text.encode() if isinstance(text, str) else text)
        module = names.project.module_at(str(path)) if found is not None else None
        if found is None or module is None:
            continue
        value = names.look_up(found[1].decode(), machine, module)
        choices = _choices(value, "cfg", _DEEPEST)
        if isinstance(choices, Instance):
            yield choices


def _choices(value: object, name: str, depth: int) -> object:
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, Instance) and not value.is_module and depth:
        made = Instance(None, None, None)
        made.state = {
            key: _choices(inner, f"{name}.{key}", depth - 1) for key, inner in value.state.items()
        }
        return made
    return Symbol(name)

"""Registries of fvcore and OpenMMLab: what a project has under a name, in whatever file.

Nothing is put into one beforehand. Who asks it for a name makes the files be looked through for
what is registered under that name, and no other class is read for that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from bncheck.graph import Site
from bncheck.source.interpret.machine import Machine
from bncheck.source.interpret.values import (
    UNKNOWN,
    Arguments,
    Class,
    Dictionary,
    External,
    Function,
    Instance,
    Native,
    Partial,
)

Call = Callable[[Machine, Arguments, "Site | None"], object]

_REGISTERED: Final = "registered"
_HOME: Final = "home"


def registry(get: Call, build: Call) -> Instance:
    """Return an empty registry; `get` and `build` are asked for what no file registers."""
    made = Instance(None, None, None)

    def find(machine: Machine, arguments: Arguments, site: Site | None) -> object:
        found = _find(machine, made, arguments.at(0, arguments.keywords.get("key", UNKNOWN)))
        return get(machine, arguments, site) if found is UNKNOWN else found

    def construct(machine: Machine, arguments: Arguments, site: Site | None) -> object:
        configuration = arguments.at(0, arguments.keywords.get("cfg", UNKNOWN))
        if not isinstance(configuration, Dictionary) or configuration.state is None:
            return UNKNOWN
        given = {str(key): value for key, value in configuration.state.items()}
        kind = given.pop("type", UNKNOWN)
        found = kind if isinstance(kind, (Class, Function)) else _find(machine, made, kind)
        if found is UNKNOWN:
            return build(machine, arguments, site)
        return machine.names.call(machine, found, Arguments(keywords=given))

    def register(machine: Machine, arguments: Arguments, site: Site | None) -> object:
        given = list(arguments.values())
        name = next((value for value in given if isinstance(value, str)), None)
        for value in given:
            if isinstance(value, (Class, Function, External, Partial)):
                _put(machine, made, name, value)
                return value
        return Native("register", lambda m, a, s: _put(m, made, name, a.at(0)))

    made.state = {
        _REGISTERED: Dictionary({}),
        "get": Native("get", find),
        "build": Native("build", construct),
        "register": Native("register", register),
        "register_module": Native("register_module", register),
    }
    return made


def is_registry(value: object) -> bool:
    """Tell whether a value is a registry of a known kind."""
    return isinstance(value, Instance) and value.cls is None and _REGISTERED in value.state


def settle(value: Instance, path: str, name: str) -> None:
    """Tell a registry the file and the name under which files know it."""
    value.state[_HOME] = (path, name)


def _put(machine: Machine, made: Instance, name: str | None, value: object) -> object:
    held = made.state[_REGISTERED]
    own = value.name if isinstance(value, (Class, Function)) else None
    if isinstance(held, Dictionary) and held.state is not None and (name or own):
        held.state[name or own] = value
    return value


def _find(machine: Machine, made: Instance, key: object) -> object:
    held, home = made.state[_REGISTERED], made.state.get(_HOME)
    if not isinstance(key, str) or not isinstance(held, Dictionary) or held.state is None:
        return UNKNOWN
    if key not in held.state and isinstance(home, tuple):
        held.state[key] = UNKNOWN
        path, name = home
        found = machine.names.registered(str(path), str(name), key, machine)
        if found is not UNKNOWN:
            held.state[key] = found
    return held.state.get(key, UNKNOWN)

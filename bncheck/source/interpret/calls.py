"""Calling a value: a function of the project, a class, a module, or something external."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import libcst as cst

from bncheck.graph import Site, Symbol
from bncheck.source.interpret.apply import apply, apply_item
from bncheck.source.interpret.builtins import call_external
from bncheck.source.interpret.classes import construct
from bncheck.source.interpret.dispatch import expression
from bncheck.source.interpret.machine import Frame, Machine
from bncheck.source.interpret.memory import make
from bncheck.source.interpret.paths import rejoin, resume
from bncheck.source.interpret.problems import FruitlessError, GiveUpError, PathEndsError
from bncheck.source.interpret.values import (
    MISSING,
    UNKNOWN,
    Arguments,
    Branches,
    Class,
    Dictionary,
    Either,
    External,
    Function,
    Instance,
    List,
    Native,
    Partial,
    Unknown,
)

_DEEPEST: Final = 70
_RECURSIONS: Final = 25
_UNCERTAIN_RECURSIONS: Final = 2
_MOST_CUT: Final = 10
"""A network in which so many recursions had to be cut short is followed into no more of them."""


def call(machine: Machine, function: object, arguments: Arguments, site: Site | None) -> object:
    """Return what calling a value gives; raise PathEndsError where the call surely raises."""
    machine.step()
    if isinstance(function, Function):
        return invoke(machine, function, arguments, site)
    if isinstance(function, Instance):
        return apply(machine, function, arguments, site)
    if isinstance(function, External):
        return call_external(machine, function.name, arguments, site)
    if isinstance(function, Class):
        return make(
            machine,
            function,
            arguments,
            site,
            lambda: _construct(machine, function, arguments, site),
        )
    if isinstance(function, Native):
        return function.run(machine, arguments, site)
    if isinstance(function, Partial):
        return call(machine, function.function, _merged(function.arguments, arguments), site)
    if isinstance(function, Either):
        return _call_each(machine, function, arguments, site)
    if isinstance(function, Branches):
        given = arguments.positional[0] if arguments.positional else UNKNOWN
        return apply_item(machine, function, given, site)
    if function is None or isinstance(function, (int, str, tuple, List, Dictionary)):
        raise PathEndsError
    reason = "call of a parameter" if isinstance(function, Symbol) else "call of something unknown"
    return machine.opaque(reason, site, list(arguments.values()))


def _merged(given: Arguments, more: Arguments) -> Arguments:
    return Arguments(
        given.positional + more.positional,
        {**given.keywords, **more.keywords},
        given.open or more.open,
    )


def _call_each(
    machine: Machine, function: Either, arguments: Arguments, site: Site | None
) -> object:
    results: list[object] = []
    machine.uncertain += 1
    try:
        for option in function.options:
            if option is MISSING:
                continue
            try:
                results.append(call(machine, option, arguments, site))
            except PathEndsError:
                continue
    finally:
        machine.uncertain -= 1
    if not results:
        raise PathEndsError
    return machine.join_all(results)


def _is_too_deep(machine: Machine, key: object) -> bool:
    """Tell whether a function or constructor recurses without an end in sight."""
    running = machine.active.get(key, 0)
    most = _UNCERTAIN_RECURSIONS if machine.uncertain else _RECURSIONS
    if running and machine.doubts.get("recursion", 0) >= _MOST_CUT:
        most = 1
    if running < most and machine.depth < _DEEPEST:
        return False
    machine.doubt("recursion")
    return True


def _learns_nothing(machine: Machine, function: Function, arguments: Arguments) -> bool:
    """Tell whether a function calls itself, if at all, with nothing that is known."""
    return bool(
        machine.active.get(function.node)
        and machine.uncertain
        and function.receiver is MISSING
        and all(isinstance(value, (Unknown, Symbol)) for value in arguments.values())
    )


def _construct(machine: Machine, cls: Class, arguments: Arguments, site: Site | None) -> object:
    """Make an object unless its class constructs itself without an end in sight."""
    if _is_too_deep(machine, cls.node):
        return UNKNOWN
    active = machine.active
    active[cls.node] = active.get(cls.node, 0) + 1
    machine.depth += 1
    try:
        return construct(machine, cls, arguments, site)
    except GiveUpError:
        machine.unfinished = cls
        raise
    finally:
        machine.depth -= 1
        active[cls.node] -= 1


def invoke(machine: Machine, function: Function, arguments: Arguments, site: Site | None) -> object:
    """Call a function, method or lambda of the project."""
    node = function.node
    if _is_too_deep(machine, node) or _learns_nothing(machine, function, arguments):
        return machine.opaque("recursion", site, list(arguments.values()))
    active = machine.active
    active[node] = active.get(node, 0) + 1
    machine.depth += 1
    try:
        return _run(machine, function, arguments)
    finally:
        machine.depth -= 1
        active[node] -= 1


def _run(machine: Machine, function: Function, arguments: Arguments) -> object:
    frame = Frame(machine, function.module, function.outer, function.owner, function.receiver)
    compiled = _compiled(machine, function.node)
    frame.names = bind_parameters(machine, function, compiled, arguments)
    if function.node.__class__ is cst.Lambda:
        return compiled.run(frame)
    machine.names.run.setdefault(function.node, function)
    frame.entry = len(machine.journal)
    machine.open_journal()
    fruitless = machine.names.fruitless
    around = machine.begin(fruitless.get(function.node, 0))
    uncertain, guessed = machine.uncertain, machine.guessed
    try:
        try:
            status = compiled.run(frame)
        except PathEndsError:
            if not frame.left:
                raise
            status = "return"
            resume(frame, frame.left.pop(0), frame.entry)
        returned = frame.returned if status == "return" else None
        for path in frame.left:
            returned = machine.join(returned, path.returned)
            rejoin(frame, path, frame.entry)
    except FruitlessError:
        if machine.is_ample:
            fruitless[function.node] = fruitless.get(function.node, 0) + 1
        machine.uncertain, machine.guessed = uncertain, machine.guessed or guessed
        return machine.abandon(frame.entry + 1, list(frame.names.values()))
    finally:
        machine.close_journal()
        machine.end(around)
    if frame.yields is not None:
        return List(frame.yields)
    return returned


@dataclass(frozen=True, slots=True, eq=False)
class _Compiled:
    """A function of the project, turned into what runs its body, and its parameters' names."""

    node: cst.FunctionDef | cst.Lambda
    """Kept, so that its identity stays its own."""
    run: Callable[[Frame], Any]
    positional: list[str]
    keyword: set[str]
    rest: str
    """Of `*args`; empty where there is none."""
    more: str
    """Of `**kwargs`."""


def _compiled(machine: Machine, node: cst.FunctionDef | cst.Lambda) -> _Compiled:
    """Return a function as it was compiled first; a run keeps it as long as its syntax tree."""
    known = machine.names.project.compiled
    found: _Compiled | None = known.get(id(node))
    if found is None:
        found = known[id(node)] = _compile(node)
    return found


def _compile(node: cst.FunctionDef | cst.Lambda) -> _Compiled:
    from bncheck.source.interpret.statements import block

    parameters = node.params
    positional = [p.name.value for p in (*parameters.posonly_params, *parameters.params)]
    keyword = {p.name.value for p in parameters.kwonly_params}
    star = parameters.star_arg
    rest = star.name.value if isinstance(star, cst.Param) else ""
    more = parameters.star_kwarg.name.value if parameters.star_kwarg is not None else ""
    run: Callable[[Frame], Any] = (
        expression(node.body) if isinstance(node, cst.Lambda) else block(node.body)
    )
    return _Compiled(node, run, positional, keyword, rest, more)


def bind_parameters(
    machine: Machine, function: Function, compiled: _Compiled, arguments: Arguments
) -> dict[str, object]:
    """Return the local names that a call begins with."""
    positional, keyword, rest, more = (
        compiled.positional, compiled.keyword, compiled.rest, compiled.more
    )  # fmt: skip
    given = arguments.positional
    if function.receiver is not MISSING and function.kind != "static":
        given = [function.receiver, *given]
    names: dict[str, object] = dict(function.defaults)
    if arguments.open:
        names = dict.fromkeys(names, UNKNOWN)
    names.update(zip(positional, given, strict=False))
    if any(isinstance(value, Branches) for value in given[: len(positional)]):
        names.update(dict.fromkeys(positional[1:], UNKNOWN))
    extra: dict[object, object] = {}
    for name, value in arguments.keywords.items():
        if name in positional or name in keyword:
            if isinstance(value, Either) and MISSING in value.options:
                value = _or_default(machine, value, function.defaults.get(name, UNKNOWN))
            names[name] = value
        else:
            extra[name] = value
    for name in (*positional, *keyword):
        if name not in names:
            names[name] = UNKNOWN
    if rest:
        surplus = tuple(given[len(positional) :])
        names[rest] = (
            List(list(surplus))
            if any(isinstance(value, (Branches, Unknown)) for value in surplus)
            else surplus
        )
        if arguments.open and not surplus:
            names[rest] = UNKNOWN
    elif len(given) > len(positional) and not arguments.open:
        raise PathEndsError
    if more:
        names[more] = Dictionary(None if arguments.open else extra)
    return names


def _or_default(machine: Machine, value: Either, default: object) -> object:
    found = [option for option in value.options if option is not MISSING]
    return machine.join_all([*found, default])

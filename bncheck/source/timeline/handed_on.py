"""Functions that are handed to what calls them: a process, a thread, whoever calls back."""

from __future__ import annotations

from collections.abc import Iterable

import libcst as cst

from bncheck.source.timeline import calls, functions
from bncheck.source.timeline.arguments import Arguments
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.values import Constant, Container, Function, Instance, Opaque, Value

_STARTED = frozenset({"Process", "Thread", "Timer"})
_MODULES = ("torch.multiprocessing.", "multiprocessing.", "threading.")


def call(run: Run, node: cst.Call, name: str, arguments: Arguments) -> Value | None:
    """Follow what a process or thread is to run, at once; None: the call starts neither."""
    if not name.startswith(_MODULES):
        return None
    last = name.rpartition(".")[2]
    target: Value | None = None
    before: list[Value] = []
    if last == "spawn":
        target, handed = arguments.get(0, "fn"), arguments.get(1, "args")
        before = [Opaque("rank")]
    elif last in _STARTED:
        target, handed = arguments.get(1, "target"), arguments.get(3, "args")
        if last == "Timer":
            target, handed = arguments.get(1, "function"), arguments.get(2, "args")
    if target is None or target == Constant(None):
        return None
    rest = handed.elements if isinstance(handed, Container) else ()
    complete = handed is None or isinstance(handed, Container)
    calls.call_value(run, node, target, Arguments([*before, *rest], complete=complete))
    return Opaque(last)


def note(run: Run, values: Iterable[Value]) -> None:
    """Note what something unknown may call back: methods of objects, and functions in functions."""
    for value in values:
        if isinstance(value, Function) and (
            isinstance(value.receiver, Instance) or value.outer is not None
        ):
            run.handed.append(value)


def follow_noted(run: Run) -> None:
    """Follow the noted functions that nothing else has called, once all else is done."""
    run.dead = False
    for method in run.handed:
        code = method.node
        if code in run.followed or not isinstance(code, cst.FunctionDef):
            continue
        bound = 1 if method.receiver is not None else 0
        parameters = [*code.params.params[bound:], *code.params.kwonly_params]
        given: dict[str, Value] = {p.name.value: Opaque(p.name.value) for p in parameters}
        functions.enter(run, cst.Call(func=code.name), method, Arguments(keywords=given))

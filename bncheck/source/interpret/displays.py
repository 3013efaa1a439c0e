"""Displays: tuples, lists, sets and dictionaries as they are written, and comprehensions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import libcst as cst

from bncheck.source.interpret.assign import target
from bncheck.source.interpret.dispatch import Evaluate, expression
from bncheck.source.interpret.machine import Frame
from bncheck.source.interpret.sequences import ROUNDS, items_of, rounds_of
from bncheck.source.interpret.values import (
    UNKNOWN,
    Dictionary,
    External,
    Instance,
    List,
    is_constant,
    truth,
)


def _elements(elements: Iterable[cst.BaseElement]) -> Callable[[Frame], list[object] | None]:
    parts = [(expression(e.value), isinstance(e, cst.StarredElement)) for e in elements]

    def evaluate(frame: Frame) -> list[object] | None:
        values: list[object] = []
        for part, starred in parts:
            value = part(frame)
            if not starred:
                values.append(value)
                continue
            items = items_of(frame.machine, value)
            if items is None:
                return None
            values += items
        return values

    return evaluate


def _tuple(node: cst.Tuple) -> Evaluate:
    elements = _elements(node.elements)

    def evaluate(frame: Frame) -> object:
        values = elements(frame)
        return UNKNOWN if values is None else tuple(values)

    return evaluate


def _list(node: cst.List) -> Evaluate:
    elements = _elements(node.elements)
    return lambda frame: List(elements(frame))


def _set(node: cst.Set) -> Evaluate:
    elements = _elements(node.elements)

    def evaluate(frame: Frame) -> object:
        values = elements(frame)
        if values is None or not is_constant(tuple(values)):
            return List(values)  # of classes, say
        return frozenset(values)

    return evaluate


def _dict(node: cst.Dict) -> Evaluate:
    parts: list[tuple[Evaluate | None, Evaluate]] = [
        (expression(e.key) if isinstance(e, cst.DictElement) else None, expression(e.value))
        for e in node.elements
    ]

    def evaluate(frame: Frame) -> object:
        found: dict[object, object] | None = {}
        for key_of, value_of in parts:
            if key_of is None:
                more = value_of(frame)
                if found is not None and isinstance(more, Dictionary) and more.state is not None:
                    found.update(more.state)
                else:
                    found = None
                continue
            key, value = key_of(frame), value_of(frame)
            if found is not None and is_key(key):
                found[key] = value
            else:
                found = None
        return Dictionary(found)

    return evaluate


def is_key(value: object) -> bool:
    """Tell whether a value can be a key of an interpreted dictionary."""
    return is_constant(value) or isinstance(value, External)


def _comprehension(node: cst.ListComp | cst.GeneratorExp | cst.SetComp) -> Evaluate:
    element = expression(node.elt)
    loop = _comprehension_loop(node.for_in, lambda frame: element(frame))

    def evaluate(frame: Frame) -> object:
        found: list[object] = []
        complete = loop(_inner(frame), found)
        return List(found if complete else None)

    return evaluate


def _dict_comprehension(node: cst.DictComp) -> Evaluate:
    key_of, value_of = expression(node.key), expression(node.value)
    loop = _comprehension_loop(node.for_in, lambda frame: (key_of(frame), value_of(frame)))

    def evaluate(frame: Frame) -> object:
        found: list[object] = []
        complete = loop(_inner(frame), found)
        pairs = [cast(tuple[object, object], pair) for pair in found]
        if not complete or not all(is_key(key) for key, _ in pairs):
            return Dictionary(None)
        return Dictionary(dict(pairs))

    return evaluate


def _inner(frame: Frame) -> Frame:
    return Frame(frame.machine, frame.module, frame, frame.owner, frame.receiver)


def _comprehension_loop(
    node: cst.CompFor, element: Evaluate
) -> Callable[[Frame, list[object]], bool]:
    """Return a function that appends the elements; it returns False where they are not known."""
    bind = target(node.target)
    iterable = expression(node.iter)
    tests = [expression(condition.test) for condition in node.ifs]
    inner = _comprehension_loop(node.inner_for_in, element) if node.inner_for_in else None

    def run(frame: Frame, found: list[object]) -> bool:
        items = rounds_of(frame.machine, iterable(frame))
        known = items is not None
        if items is None and inner is None and not tests:
            return _modules_of_unknown(frame, found)
        for value in items if items is not None else ():
            frame.machine.step()
            bind(frame, value)
            passed = [truth(test(frame)) for test in tests]
            if False in passed:
                continue
            known = known and None not in passed
            if inner is not None:
                known = inner(frame, found) and known
            else:
                found.append(element(frame))
        return known

    def _modules_of_unknown(frame: Frame, found: list[object]) -> bool:
        """Append a few modules of what is constructed for each of items that are not known."""
        machine = frame.machine
        if machine.graph is not None:
            return False
        for _ in range(ROUNDS):
            bind(frame, UNKNOWN)
            made = element(frame)
            if not isinstance(made, Instance) or not made.is_module:
                return False
            found.append(made)
        machine.guessed = True
        return True

    return run


DISPLAYS: dict[type, Callable[[Any], Evaluate]] = {
    cst.Tuple: _tuple,
    cst.List: _list,
    cst.Set: _set,
    cst.Dict: _dict,
    cst.ListComp: _comprehension,
    cst.GeneratorExp: _comprehension,
    cst.SetComp: _comprehension,
    cst.DictComp: _dict_comprehension,
}

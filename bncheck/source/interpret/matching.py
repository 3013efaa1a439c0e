"""`match` statements, run as chains of tests: each pattern matches, does not, or may."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import libcst as cst

from bncheck.source.interpret.dispatch import expression
from bncheck.source.interpret.machine import Frame
from bncheck.source.interpret.operations import comparison
from bncheck.source.interpret.paths import fork
from bncheck.source.interpret.reflection import is_instance
from bncheck.source.interpret.sequences import known_items
from bncheck.source.interpret.values import UNKNOWN, Arguments, List, truth
from bncheck.source.walk import walk

Run = Callable[[Frame], "str | None"]
Matches = Callable[[Frame, object], "bool | None"]


def match_statement(node: cst.Match, block: Callable[[cst.BaseSuite], Run]) -> Run:
    """Turn a `match` statement into a function that runs it in a frame."""
    subject_of = expression(node.subject)
    cases = [
        (
            _pattern(case.pattern),
            expression(case.guard) if case.guard is not None else None,
            block(case.body),
        )
        for case in node.cases
    ]

    def run_from(frame: Frame, subject: object, number: int) -> str | None:
        if number == len(cases):
            return None
        matches, guard, body = cases[number]
        known = matches(frame, subject)
        if known and guard is not None:
            known = truth(guard(frame))
        if known:
            return body(frame)

        def go_on(frame: Frame) -> str | None:
            return run_from(frame, subject, number + 1)

        return fork(frame, [body, go_on]) if known is None else go_on(frame)

    return lambda frame: run_from(frame, subject_of(frame), 0)


def _pattern(node: Any) -> Matches:
    match node:
        case cst.MatchValue() | cst.MatchSingleton():
            return _value(node)
        case cst.MatchOr():
            return _any_of([_pattern(element.pattern) for element in node.patterns])
        case cst.MatchAs():
            return _name(node)
        case cst.MatchList() | cst.MatchTuple():
            parts = [p for p in node.patterns if isinstance(p, cst.MatchSequenceElement)]
            if len(parts) == len(node.patterns):
                return _sequence([_pattern(part.value) for part in parts])
        case cst.MatchClass(patterns=[], kwds=[]):
            kind_of = expression(node.cls)
            return lambda frame, subject: truth(
                is_instance(frame.machine, Arguments([subject, kind_of(frame)]), None)
            )
    return _unknown(node)


def _value(node: cst.MatchValue | cst.MatchSingleton) -> Matches:
    value_of = expression(node.value)
    symbol = "==" if isinstance(node, cst.MatchValue) else "is"
    return lambda frame, subject: truth(
        comparison(frame.machine, symbol, subject, value_of(frame), frame.site(node))
    )


def _any_of(patterns: Sequence[Matches]) -> Matches:
    def matches(frame: Frame, subject: object) -> bool | None:
        found = [pattern(frame, subject) for pattern in patterns]
        return True if True in found else None if None in found else False

    return matches


def _name(node: cst.MatchAs) -> Matches:
    inner = _pattern(node.pattern) if node.pattern is not None else None

    def matches(frame: Frame, subject: object) -> bool | None:
        if node.name is not None:
            frame.names[node.name.value] = subject
        return True if inner is None else inner(frame, subject)

    return matches


def _sequence(patterns: Sequence[Matches]) -> Matches:
    def matches(frame: Frame, subject: object) -> bool | None:
        items = known_items(frame.machine, subject)
        if not isinstance(subject, (tuple, List)) or items is None:
            items = [UNKNOWN] * len(patterns)
            for pattern, item in zip(patterns, items, strict=True):
                pattern(frame, item)
            return None
        if len(items) != len(patterns):
            return False
        found = [pattern(frame, item) for pattern, item in zip(patterns, items, strict=True)]
        return False if False in found else None if None in found else True

    return matches


def _unknown(node: cst.CSTNode) -> Matches:
    """Turn a pattern that is not followed into what makes its names anything."""
    captured = [
        part.name.value
        for part in walk(node)
        if isinstance(part, (cst.MatchAs, cst.MatchStar)) and part.name is not None
    ]

    def matches(frame: Frame, subject: object) -> None:
        frame.names.update(dict.fromkeys(captured, UNKNOWN))

    return matches

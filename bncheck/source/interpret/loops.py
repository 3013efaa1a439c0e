"""Loops, and the paths that leave a round of one by `break` or `continue`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import libcst as cst

from bncheck.source.interpret.assign import target
from bncheck.source.interpret.dispatch import expression
from bncheck.source.interpret.machine import Frame
from bncheck.source.interpret.paths import fork, keep, rejoin, resume
from bncheck.source.interpret.problems import PathEndsError, PlaceholderError
from bncheck.source.interpret.sequences import items_by_path, rounds_of
from bncheck.source.interpret.values import Branches, Tensor, births, truth
from bncheck.source.module import statements

Run = Callable[[Frame], "str | None"]
Round = Callable[[Run], "str | None"]
_MOST_ROUNDS: Final = 2
"""How often the body of a loop runs when the number of rounds is not known."""


@dataclass(slots=True, eq=False)
class _Loop:
    """One run of a loop whose rounds may end early on some paths and not on others.

    One path goes on as the frame's present state. Those that broke out, or skipped the rest of a
    round, wait in `frame.exits` for the place where they meet it.
    """

    frame: Frame

    def run(self, rounds: Callable[[Round], str | None]) -> str | None:
        """Run all rounds; the paths that broke out meet at the end."""
        frame, machine = self.frame, self.frame.machine
        around = frame.exits, frame.loop
        frame.exits, frame.loop = [], len(machine.journal)
        machine.open_journal()
        try:
            return self._until(lambda: rounds(self.round), "break")
        finally:
            machine.close_journal()
            frame.exits, frame.loop = around

    def round(self, body: Run) -> str | None:
        """Run a round; the paths that skipped the rest of it meet at its end."""
        return self._until(lambda: body(self.frame), "continue")

    def _until(self, part: Callable[[], str | None], kind: str) -> str | None:
        """Run a part, at whose end the paths that left by `kind` meet those that came to it."""
        try:
            status = part()
        except PathEndsError:
            if not self.frame.exits:
                raise
            status = "raise"
        status = self._meet(None if status == kind else status, kind)
        if status == "raise":
            raise PathEndsError
        return status

    def _meet(self, status: str | None, kind: str) -> str | None:
        """Join the paths that left by `kind` with the present one, if that has not left too."""
        frame = self.frame
        meeting = [path for path in frame.exits if path.status == kind]
        if not meeting:
            return status
        frame.exits = [path for path in frame.exits if path.status != kind]
        if status is not None:
            if status != "raise":
                keep(frame, status, frame.names, frame.returned, {}, next(births))
            resume(frame, meeting.pop(0), frame.loop)
        for path in meeting:
            frame.names = frame.machine.join_names(frame.names, path.names)
            rejoin(frame, path, frame.loop)
        return None


def _every_round(frame: Frame, leaves: bool, rounds: Callable[[Round], str | None]) -> str | None:
    """Run the rounds of a loop; `leaves` where some paths may leave one early."""
    if leaves:
        return _Loop(frame).run(rounds)
    return rounds(lambda body: body(frame))


def for_loop(node: cst.For, block: Callable[[cst.BaseSuite], Run]) -> Run:
    """Turn a `for` statement into a function that runs it."""
    iterable, bind, body = expression(node.iter), target(node.target), block(node.body)
    orelse = block(node.orelse.body) if node.orelse is not None else None
    leaves = _leaves_rounds(node.body)

    def one(frame: Frame, value: object, go: Round) -> str | None:
        frame.machine.step()
        if isinstance(value, Branches):
            return _each_branch(frame, value, go)

        def body_with_value(frame: Frame) -> str | None:
            bind(frame, value)
            return body(frame)

        return go(body_with_value)

    def _each_branch(frame: Frame, value: Branches, go: Round) -> str | None:
        def path(items: tuple[object, ...]) -> Run:
            def run(frame: Frame) -> str | None:
                for inner in items:
                    status = one(frame, inner, go)
                    if status in {"break", "return"}:
                        return status
                return None

            return run

        return fork(frame, [path(items) for items in value.options])

    def run(frame: Frame) -> str | None:
        source = iterable(frame)
        items = rounds_of(frame.machine, source)
        branches = items_by_path(frame.machine, source) if items is None else None

        def rounds(go: Round) -> str | None:
            if branches is not None:
                return _each_branch(frame, branches, go)
            if items is None:
                return _unknown_rounds(
                    frame, lambda inner: one(inner, _some_item(inner, source, node), go)
                )
            for value in items:
                status = one(frame, value, go)
                if status in {"break", "return"}:
                    return status
            return orelse(frame) if orelse is not None else None

        return _every_round(frame, leaves, rounds)

    return run


def _some_item(frame: Frame, source: object, node: cst.For) -> object:
    if isinstance(source, Tensor):
        return source
    return frame.machine.opaque("loop over something unknown", frame.site(node), [source])


def _unknown_rounds(frame: Frame, body: Run) -> str | None:
    """Run a loop's body for none, one and two rounds, and join what they leave behind.

    A forward whose loop comes to a placeholder in its first round is no forward of a network:
    what the loop does there is left to other classes.
    """
    placeholders: list[PlaceholderError] = []

    def rounds(left: int) -> Run:
        def run(frame: Frame) -> str | None:
            if not left:
                return None
            status = body(frame)
            if status in {"break", "return"}:
                return None if status == "break" else status
            return fork(frame, [lambda inner: None, rounds(left - 1)])

        return run

    def several(frame: Frame) -> str | None:
        try:
            return rounds(_MOST_ROUNDS)(frame)
        except PlaceholderError as problem:
            placeholders.append(problem)
            raise

    status = fork(frame, [lambda inner: None, several])
    if placeholders and frame.machine.graph is not None:
        raise placeholders[0]
    return status


def while_loop(node: cst.While, block: Callable[[cst.BaseSuite], Run]) -> Run:
    """Turn a `while` statement into a function that runs it."""
    test, body = expression(node.test), block(node.body)
    leaves = _leaves_rounds(node.body)
    endless = isinstance(node.test, cst.Name) and node.test.value == "True"

    def run(frame: Frame) -> str | None:
        def rounds(go: Round) -> str | None:
            while True:
                frame.machine.step()
                known = truth(test(frame))
                if known is False:
                    return None
                if known is None or endless:
                    return _unknown_rounds(frame, lambda inner: go(body))
                status = go(body)
                if status in {"break", "return"}:
                    return status

        return _every_round(frame, leaves, rounds)

    return run


def _leaves_rounds(body: cst.BaseSuite) -> bool:
    """Tell whether anything in a loop's body may leave a round early."""
    return any(isinstance(node, (cst.Break, cst.Continue)) for node in statements(body.body))

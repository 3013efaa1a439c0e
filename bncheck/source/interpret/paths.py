"""Paths through the code that part at an unknown condition, and meet again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from bncheck.source.interpret.machine import Exit, Frame, States
from bncheck.source.interpret.problems import PathEndsError
from bncheck.source.interpret.values import MISSING, Heap, births

_GOES_ON: Final = (None, "continue", "break", "return")
"""How a path may end, those first that have most of the function before them."""


def fork(frame: Frame, paths: Sequence[Callable[[Frame], str | None]]) -> str | None:
    """Run each path from the present state and join what they leave behind.

    Returns how the joined path ends: None (it goes on), `return`, `break` or `continue`. A path
    that ends otherwise than the one that goes on is kept for the function's or loop's end.
    Raises PathEndsError when every path does.
    """
    machine = frame.machine
    names = frame.names
    ends: list[tuple[str | None, dict[str, object], object, States]] = []
    union: States = {}
    machine.step(5 + len(names) // 4)
    machine.uncertain += 1
    parted = next(births)
    for path in paths:
        frame.names = dict(names)
        frame.returned = None
        machine.open_journal()
        try:
            status = path(frame)
        except PathEndsError:
            status = "raise"
        except BaseException:
            machine.uncertain -= 1
            raise
        old = machine.close_journal()
        if status != "raise":
            states = {value: value.snapshot() for value in old if value.born < parted}
            ends.append((status, frame.names, frame.returned, states))
        for value, state in old.items():
            if value.born < parted:
                value.state = state if state is None else state.copy()
                union.setdefault(value, state)
    machine.uncertain -= 1
    if not ends:
        frame.names = names
        raise PathEndsError
    statuses = [end[0] for end in ends]
    going = next(status for status in _GOES_ON if status in statuses)
    chosen = [end for end in ends if end[0] == going]
    for status, own, returned, states in ends:
        if status != going and status is not None:
            keep(frame, status, own, returned, states, parted)
    _, frame.names, frame.returned, states = chosen[0]
    for value, state in states.items():
        machine.change(value)
        value.state = state
    for _, other_names, other_returned, other_states in chosen[1:]:
        frame.names = machine.join_names(frame.names, other_names)
        if going == "return":
            frame.returned = machine.join(frame.returned, other_returned)
        machine.join_states(union, other_states, parted)
    return going


def keep(
    frame: Frame,
    status: str,
    names: dict[str, object],
    returned: object,
    states: States,
    parted: int,
) -> None:
    """Keep a path that ends here, by `return`, `break` or `continue`, for where it goes on.

    `states` has what changed on it since it parted from the path that goes on at once.
    """
    returns = status == "return"
    found = dict(states)
    for journal in frame.machine.journal[frame.entry if returns else frame.loop :]:
        for value in journal:
            if value not in found:
                found[value] = value.snapshot()
    frame.machine.step(len(found))
    path = Exit(status, names, returned, found, parted)
    (frame.left if returns else frame.exits).append(path)


def resume(frame: Frame, path: Exit, since: int) -> None:
    """Go on as a path that was kept, in place of the present one.

    `since` is the length of the journal where the function or loop of the path began.
    """
    frame.names, frame.returned = path.names, path.returned
    for value, old in _changed(frame, since).items():
        state = path.states.get(value, MISSING)
        if state is MISSING:
            if value.born >= path.parted:
                continue
            state = old
        frame.machine.change(value)
        value.state = None if state is None else state.copy()


def rejoin(frame: Frame, path: Exit, since: int) -> None:
    """Join the heap's present states with those of a path that was kept."""
    old = _changed(frame, since)
    for value in path.states:
        frame.machine.change(value)
    frame.machine.join_states(old, path.states, path.parted)


def _changed(frame: Frame, since: int) -> dict[Heap, Any]:
    """Return what changed since a function or loop began, as it was before."""
    found: dict[Heap, Any] = {}
    for journal in reversed(frame.machine.journal[since:]):
        found.update(journal)
    return found

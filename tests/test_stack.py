"""What is called with room on the stack gives, takes and raises what it would without."""

import sys

import pytest

from bncheck.depth import deep
from bncheck.stack import with_room


def depth(frames: int) -> int:
    return 0 if frames == 0 else 1 + depth(frames - 1)


def test_arguments_and_result_are_handed_on() -> None:
    assert with_room(dict, [("a", 1)], b=2) == {"a": 1, "b": 2}


def test_errors_pass_through() -> None:
    with pytest.raises(ZeroDivisionError):
        with_room(divmod, 1, 0)


def test_what_is_deeper_than_the_room_goes_on() -> None:
    with deep():
        assert with_room(depth, 15_000) == 15_000


def test_the_limit_of_recursion_stays() -> None:
    with pytest.raises(RecursionError):
        with_room(depth, sys.getrecursionlimit())


def test_calls_within_calls() -> None:
    assert with_room(with_room, with_room, max, 1, 2) == 2

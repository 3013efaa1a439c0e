"""Room on the interpreter's stack of frames, for code that calls itself deeply and often.

From Python 3.11 on, frames of Python functions lie in chunks of 16 KiB that are taken from the
operating system and given back as the stack grows and shrinks. A reader that goes up and down a
syntax tree crosses the end of a chunk again and again, and each time asks for memory that has to
be cleared. A chunk is made as large as the frame that opens it needs, so a frame that asks for
much leaves room for all that it calls. (CPython: `push_chunk` in Python/pystate.c.)
"""

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_WORDS = 2**17 + 1
"""Of 8 bytes: half of a chunk of 2 MiB and a little, so that the other half is free. What nothing
writes to takes no memory."""


def _call(
    function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Result:
    return function(*args, **kwargs)


_roomy_call = FunctionType(_call.__code__.replace(co_stacksize=_WORDS), globals(), "_roomy_call")


def with_room(
    function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Result:
    """Call the function; what it calls in turn finds its frames in one piece of memory."""
    result: Result = _roomy_call(function, *args, **kwargs)
    return result

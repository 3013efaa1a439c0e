"""What methods of a text that is known make of it: settings are split, joined and cut."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bncheck.source.timeline.values import LONGEST_TEXT, Constant, Container, Opaque, Value

_PURE = frozenset(
    """
    split rsplit partition rpartition strip lstrip rstrip lower upper title capitalize replace
    find rfind startswith endswith removeprefix removesuffix format
    """.split()  # noqa: SIM905
)


_WIDTH = re.compile(r"\{[^{}]*:[^{}]*(?:\d{4}|\{)")
"""A format that asks for a thousand characters or more, or takes its width from an argument."""


def method(text: Constant, name: str, arguments: Sequence[Value], keywords: bool) -> Value:
    """Return what `"models.unet".split(".")` and the like are, of what is known."""
    if name == "join":
        return _joined(text, arguments)
    known = [argument for argument in arguments if isinstance(argument, Constant)]
    if name not in _PURE or keywords or len(known) < len(arguments):
        return Opaque()
    if _may_grow_long(name, [text, *known]):
        return Opaque()
    try:
        made = getattr(text.value, name)(*[argument.value for argument in known])
    except (TypeError, ValueError, LookupError, AttributeError):
        return Opaque()
    fixed = text.fixed and all(argument.fixed for argument in known)
    if isinstance(made, list | tuple):
        return Container(tuple(Constant(part, fixed) for part in made))
    return Constant(made, fixed)


def _joined(text: Constant, arguments: Sequence[Value]) -> Value:
    match arguments:
        case [Container(elements=elements, keys=None, changed=False)]:
            known = [element for element in elements if isinstance(element, Constant)]
            parts = [element.value for element in known if isinstance(element.value, str)]
            if len(parts) == len(elements) and sum(map(len, parts)) <= LONGEST_TEXT:
                fixed = text.fixed and all(element.fixed for element in known)
                return Constant(str(text.value).join(parts), fixed)
    return Opaque()


def _may_grow_long(name: str, given: Sequence[Constant]) -> bool:
    """Tell whether a method may make a long text: `"{:>1000000}".format("")`, many replacements."""
    lengths = [len(text.value) for text in given if isinstance(text.value, str)]
    match name:
        case "format":
            return _WIDTH.search(str(given[0].value)) is not None or sum(lengths) > LONGEST_TEXT
        case "replace":
            return lengths[0] * lengths[-1] > LONGEST_TEXT
    return False


def cut(value: Value, first: Value | None, last: Value | None) -> Value | None:
    """Return `value[first:last]` of a text or a list, None for an end that is not given.

    Returns None where that is not known.
    """
    ends = [Constant(None) if end is None else end for end in (first, last)]
    known = [end for end in ends if isinstance(end, Constant)]
    places = [end.value for end in known if isinstance(end.value, int | None)]
    if len(places) < len(ends):
        return None
    between = slice(*places)
    match value:
        case Constant(value=str(text)):
            return Constant(text[between], value.fixed and all(end.fixed for end in known))
        case Container(elements=elements, keys=None) if not value.changed:
            return Container(elements[between])
    return None

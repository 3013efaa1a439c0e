"""Which members of a model a slice, a count or a test on names lets through.

What matters is whether the layers with BatchNorm at the front of a network are among them: a
freeze of `list(model.children())[:-1]` holds them, and what lets `layer4` train again does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import libcst as cst

from bncheck.events import Model
from bncheck.source.timeline import named_parts
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.syntax import identifiers, string
from bncheck.source.timeline.values import (
    Constant,
    Container,
    Instance,
    Members,
    Opaque,
    Settings,
    Value,
)
from bncheck.source.walk import walk

_FEW = 3
"""So many children, modules or parameters at the front are likely to hold a BatchNorm layer."""

_FRONT = re.compile(
    r"(?:^|\.)(?:layer[0-2]|stem|features?|feature_extractor|encoder|backbone(?:_net)?|"
    r"base(?:_?(?:model|net|network|layer))?|(?:res|dense|mobile|efficient)net\w*|cnn|trunk|body)"
    r"(?:\.(?!weight$|bias$)|$)",
    re.IGNORECASE,
)
_BACK = re.compile(
    r"(?:^|[._])(?:fcs?\d*|classifier\w*|heads?\w*|last_\w+|logits?|linear\w*|outputs?\w*|final\w*|"
    r"cls\w*|predict\w*|decoder\w*|proj\w*|layer[34]|denseblock[34]|top_layer)(?:[._]|$)",
    re.IGNORECASE,
)
_NORM = re.compile(r"norm|(?:^|\.)bn\d*(?:\.|$)", re.IGNORECASE)
_FROZEN = re.compile(r"(?<!un)(?<!un_)(?:freez|frozen)", re.IGNORECASE)
_TRAINED = re.compile(r"un_?(?:freez|frozen)|trainable|fine_?tune|to_train(?![a-z])", re.IGNORECASE)
"""Names of lists of layers, where what they list is not known."""
_UNUSED = re.compile(r"un_?used|not_used", re.IGNORECASE)


@dataclass(frozen=True)
class Refined:
    """What a test on a member lets through, and what it does not."""

    names: tuple[str, ...]
    """The names that are bound to the member, such as `name, module`."""
    passed: Members
    rest: Members
    leaves: bool = False
    """Whether only the rest goes on behind the test: `if not isinstance(...): continue`."""


def some(value: Members) -> Members:
    """Return some of the members, it is not known which."""
    return replace(value, part=True)


def without_norms(value: Members) -> Members:
    """Return members that leave normalisation layers to the others."""
    return replace(value, part=True, rest=True)


def sliced(value: Members, node: cst.Subscript) -> Members:
    """Return the members that a subscript takes."""
    match node.slice:
        case [cst.SubscriptElement(slice=cst.Slice(lower=lower, upper=upper, step=None))]:
            start, end = _integer(lower), _integer(upper)
            if start == 0 and end is not None and (end < 0 or end >= _FEW):
                return value
            if start and upper is None:
                return without_norms(value)
    return some(value)


def bounds(node: cst.Subscript) -> tuple[int | None, int | None] | None:
    """Return the bounds of `layers[first:last]`, as far as they are integers; None: no slice."""
    match node.slice:
        case [cst.SubscriptElement(slice=cst.Slice(lower=lower, upper=upper))]:
            return _integer(lower), None if upper is None else _integer(upper)
    return None


def _integer(node: cst.BaseExpression | None) -> int | None:
    match node:
        case None:
            return 0
        case cst.Integer(value=text):
            return int(text, 0)
        case cst.UnaryOperation(operator=cst.Minus(), expression=cst.Integer(value=text)):
            return -int(text, 0)
    return None


def tested(
    run: Run, test: cst.BaseExpression, together: tuple[str, ...], value: Members
) -> Refined:
    """Return what a test on names or counts means: `"fc" not in name` is all but a head."""
    if _asks_for_gradient(test, together):
        return Refined(together, value, some(value))
    counted = _counted(test, value)
    if counted is not None:
        return Refined(together, *counted)
    excludes = any(
        isinstance(node, cst.NotIn | cst.Not) or _is_not_found(node) for node in walk(test)
    )
    words = list(_words(run, test))
    if any(_NORM.search(word) for word in words):
        pair = (replace(value, classes=("BatchNorm",)), without_norms(value))
    elif words and all(_BACK.search(word) for word in words):
        pair = (without_norms(value), value)
    elif words and all(_FRONT.search(word) for word in words):
        pair = (value, without_norms(value))
        if _are_free_parts(run, value.model, words):
            pair = (pair[1], pair[0])
    elif not words and (_names_none(run, test) or _asks_for_unused(test)):
        pair = (without_norms(value), value)
    elif not words and (listed := _listed(run, test, excludes)) is not None:
        pair = (value, without_norms(value)) if listed else (without_norms(value), value)
    else:
        pair = (some(value), value if excludes else some(value))
    return Refined(together, *(reversed(pair) if excludes else pair))


def _are_free_parts(run: Run, model: Model, words: list[str]) -> bool:
    """Tell whether words name parts of a network that hold no BatchNorm: a transformer, say."""
    cls = run.classes.get(model)
    return cls is not None and named_parts.hold_none(
        run.project, cls, {word.partition(".")[0] for word in words}
    )


def _is_not_found(node: cst.CSTNode) -> bool:
    """Recognise `name.find("norm") == -1` and `name.find("norm") < 0`."""
    match node:
        case cst.Comparison(
            left=cst.Call(func=cst.Attribute(attr=cst.Name(value="find" | "rfind"))),
            comparisons=[cst.ComparisonTarget(operator=operator, comparator=to)],
        ):
            if isinstance(operator, cst.Equal):
                return _integer(to) == -1
            return isinstance(operator, cst.LessThan) and _integer(to) == 0
    return False


def _asks_for_gradient(test: cst.BaseExpression, together: tuple[str, ...]) -> bool:
    """Recognise `p.requires_grad`: what is frozen behind it is all that was not yet."""
    match test:
        case cst.Attribute(value=cst.Name(value=name), attr=cst.Name(value="requires_grad")):
            return name in together
    return False


def _asks_for_unused(test: cst.BaseExpression) -> bool:
    """Tell whether a test asks for layers that never run, and so normalise nothing."""
    return any(map(_UNUSED.search, identifiers(test)))


def _names_none(run: Run, test: cst.BaseExpression) -> bool:
    """Tell whether a test asks for the names in a list that is empty: `freeze = []`."""
    for name in identifiers(test):
        match run.look_up(name):
            case Container(elements=(), changed=False, instead=()):
                return True
    return False


def _listed(run: Run, test: cst.BaseExpression, excludes: bool) -> bool | None:
    """Tell whether a test asks if a list of a setting names the layer as one to freeze.

    False: as one to train; None: the test asks for something else. Where what the list is called
    says nothing, the setting that it comes from may, or the function.
    """
    names = set(identifiers(test))
    looks_up = "startswith" in names or any(isinstance(n, cst.In | cst.NotIn) for n in walk(test))
    if not looks_up and not isinstance(test, cst.Call):
        return None
    if looks_up and not excludes:
        values = [run.look_up(name) for name in names]
        names |= {value.name for value in values if isinstance(value, Opaque)}
        names.add(run.frame.function)
    if any(map(_TRAINED.search, names)):
        return False
    return True if any(map(_FROZEN.search, names)) else None


def _counted(test: cst.BaseExpression, value: Members) -> tuple[Members, Members] | None:
    """Return what `i < 7` and `i > 7` let through, and what not."""
    match test:
        case cst.Comparison(
            left=cst.Name(),
            comparisons=[
                cst.ComparisonTarget(operator=operator, comparator=cst.Integer(value=text))
            ],
        ) if int(text, 0) >= _FEW:
            match operator:
                case cst.LessThan() | cst.LessThanEqual():
                    return value, without_norms(value)
                case cst.GreaterThan() | cst.GreaterThanEqual():
                    return without_norms(value), value
    return None


def _words(run: Run, test: cst.BaseExpression) -> Iterator[str]:
    """Yield the strings in a test, and those that the names in it stand for."""
    for node in walk(test):
        text = string(node) if isinstance(node, cst.BaseExpression) else None
        if text is not None:
            yield text
        if isinstance(node, cst.Attribute) and not isinstance(node.value, cst.Call):
            yield from _strings(_setting(run, node))
    for name in identifiers(test):
        yield from _strings(run.look_up(name))


def _setting(run: Run, node: cst.Attribute) -> Value | None:
    """Return what `config.frozen` or `config.model.frozen` stands for where that is known."""
    match node.value:
        case cst.Name(value=name):
            owner = run.look_up(name)
        case cst.Attribute() as inner:
            owner = _setting(run, inner)
        case _:
            return None
    match owner:
        case Settings(defaults=defaults):
            return run.heap.get(owner, node.attr.value) or defaults.get(node.attr.value)
        case Instance() | Opaque():
            return run.heap.get(owner, node.attr.value)
    return None


def _strings(value: Value | None) -> Iterator[str]:
    match value:
        case Constant(value=str(text)):
            yield text
        case Container():
            for container in (value, *value.instead):
                for element in container.elements:
                    yield from _strings(element)
        case Opaque(texts=texts):
            yield from texts

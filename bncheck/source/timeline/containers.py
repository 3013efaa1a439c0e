"""Networks that are put together from others: `nn.Sequential(...)`, `nn.ModuleList(...)`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TypeGuard

import libcst as cst

from bncheck.events import Assembled, Fact, Model, Origin
from bncheck.graph import UNKNOWN
from bncheck.source.timeline import known, sequences
from bncheck.source.timeline.arguments import Arguments
from bncheck.source.timeline.constructors import put_into
from bncheck.source.timeline.run import EACH, Run
from bncheck.source.timeline.syntax import identifiers
from bncheck.source.timeline.values import Constant, Container, Members, Models, Opaque, Value

_LIST = "torch.nn.ModuleList"
_ENTRIES = "[entries]"
"""Under this name the heap keeps the networks that a container was given, one by one."""


def make_container(run: Run, node: cst.Call, name: str, arguments: Arguments) -> Value:
    """Follow the construction of a container of layers or networks."""
    parts = list(_models(arguments.all()))
    whole = [value.model for value in arguments.all() if isinstance(value, Members)]
    kinds = identifiers(node) & known.BATCH_NORMS
    values = list(_layers(arguments.all()))
    if arguments.complete and values and all(_is_layer(value) for value in values):
        kinds |= frozenset(kind for value in values for kind in _fact(value)[1])
    else:
        for collected in _collected(run, node):
            kinds |= identifiers(collected) & known.BATCH_NORMS
    kinds |= {kind for model in [*parts, *whole] for kind in model.norm_kinds}
    layers = all(
        isinstance(value, Opaque) and value.type_name.startswith("torch.nn.")
        for value in arguments.all()
    )
    holds: Fact = UNKNOWN
    facts = {model.holds_batch_norm for model in [*parts, *whole]}
    if kinds or True in facts:
        holds = True
    elif (arguments.complete and layers) or facts == {False}:
        holds = False
    made = Model("", Origin.PROJECT, name, run.site(node), holds, frozenset(kinds), False)
    made.starts_in_eval = _starts_in_eval(arguments.all())
    value = run.make(made)
    sources = [m for m in [*parts, *whole] if m.holds_batch_norm is not False]
    if sources:
        run.emit(Assembled(made.site, made, sources[0]))
        made.pretrained = sources[0].pretrained
    for part in parts:
        part.parent = part.parent or made
    for key, part in _kept(arguments):
        run.parts[made, f"[{key}]"] = part
    if parts and len({part.type_name for part in parts}) == 1:
        run.parts[made, EACH] = parts[0]
        made.holds_batch_norm = parts[0].holds_batch_norm
    match arguments.all():
        case [Container(keys=None) as given] if name == _LIST and arguments.complete:
            run.heap.set(made, _ENTRIES, Container(given.elements))
        case [] if name == _LIST:
            run.heap.set(made, _ENTRIES, Container(()))
    return value


def entries(run: Run, model: Model) -> tuple[Value, ...]:
    """Return the networks that a `ModuleList` was given; none where one of them is not known."""
    ways = _ways(run, model)
    return ways[0] if len(ways) == 1 and all(map(_is_one, ways[0])) else ()


def entry(run: Run, model: Model, position: object) -> Value | None:
    """Return what `layers[-1]` is, where it is the same whatever was appended before it."""
    ways = _ways(run, model)
    if not isinstance(position, int) or not all(-len(w) <= position < len(w) for w in ways):
        return None
    found = [one for way in ways if _is_one(one := way[position])]
    same = len(found) == len(ways) and len({one.models for one in found}) == 1
    return found[0] if same else None


def _ways(run: Run, model: Model) -> list[tuple[Value, ...]]:
    """Return what a `ModuleList` was given on each path."""
    held = run.heap.get(model, _ENTRIES)
    return [w.elements for w in (held, *held.instead)] if isinstance(held, Container) else []


def _is_one(value: Value) -> TypeGuard[Models]:
    return isinstance(value, Models) and len(value.models) == 1


def _kept(arguments: Arguments) -> Iterator[tuple[object, Model]]:
    """Yield the networks that a list or dict of networks is made of, and what picks each."""
    match arguments.all():
        case [Container(elements=elements, keys=keys)]:
            for key, value in zip(keys or range(len(elements)), elements, strict=True):
                if isinstance(value, Models) and len(value.models) == 1 and key is not UNKNOWN:
                    yield key, value.models[0]


def sliced(run: Run, model: Model, bounds: tuple[int | None, int | None]) -> Models:
    """Return what `layers[first:last]` takes: a part whose layers are those of the container."""
    first, last = ("" if bound is None else bound for bound in bounds)
    part, each = run.part(model, f"[{first}:{last}]"), run.part(model, EACH)
    run.parts.setdefault((part, EACH), each)
    if part.holds_batch_norm is UNKNOWN:
        part.holds_batch_norm = each.holds_batch_norm
    return Models((part,))


def add(run: Run, made: Model, method: str, arguments: Arguments) -> None:
    """Note what is put into a container of layers after it was made.

    One whose BatchNorm is all in networks made alike holds it if these do on a closer look.
    """
    values = arguments.all()
    held = run.heap.get(made, _ENTRIES)
    if isinstance(held, Container):
        ways = [replace(way, instead=()) for way in (held, *held.instead)]
        for way in ways:
            sequences.method(run, way, method, arguments)
        longer = replace(ways[0], instead=tuple(ways[1:]))
        run.heap.set(made, _ENTRIES, Opaque() if method == "insert" else longer)
    for model in _models(values):
        model.parent = model.parent or made
    for value in values:
        for part in _layers([value]):
            fact, kinds = _fact(part)
            if fact is True:
                look = part.models[0].confirm if isinstance(part, Models) else None
                alike = made.holds_batch_norm is not True or look == made.confirm
                made.confirm = look if alike else None
            if fact is True or made.holds_batch_norm is False:
                made.holds_batch_norm = fact
            made.norm_kinds |= kinds


def _layers(values: list[Value]) -> Iterator[Value]:
    for value in values:
        if isinstance(value, Container):
            yield from _layers(list(value.elements))
        elif not isinstance(value, Constant):
            yield value


def _is_layer(value: Value) -> bool:
    """Tell whether a value is understood: what was put in under other conditions does not count."""
    if isinstance(value, Opaque):
        return value.type_name.startswith("torch.nn.")
    return isinstance(value, Models)


def _fact(part: Value) -> tuple[Fact, frozenset[str]]:
    match part:
        case Models(models=[model]):
            return model.holds_batch_norm, model.norm_kinds
        case Opaque(type_name=name) if name.startswith("torch.nn."):
            kind = name.rpartition(".")[2]
            return kind in known.BATCH_NORMS, frozenset({kind} & known.BATCH_NORMS)
    return UNKNOWN, frozenset()


def _collected(run: Run, node: cst.Call) -> Iterator[cst.BaseExpression]:
    """Yield what the function that runs puts into the lists that are given by name."""
    function = run.stack[-1] if run.stack else None
    for argument in node.args:
        if isinstance(argument.value, cst.Name) and isinstance(function, cst.FunctionDef):
            yield from put_into(function, argument.value.value)


def _models(values: list[Value]) -> list[Model]:
    found: list[Model] = []
    for value in values:
        if isinstance(value, Models):
            found += value.models
        elif isinstance(value, Container):
            found += _models(list(value.elements))
    return found


def _starts_in_eval(values: list[Value]) -> Fact:
    """Return False where the parts are new; what is not understood may be in any mode."""
    for value in values:
        if isinstance(value, Opaque) and not value.type_name.startswith("torch.nn."):
            return UNKNOWN
    return False

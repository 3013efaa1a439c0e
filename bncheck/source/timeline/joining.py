"""What names stand for after several paths."""

from __future__ import annotations

from dataclasses import replace

from bncheck.events import Loader
from bncheck.graph import UNKNOWN
from bncheck.source.timeline import weights
from bncheck.source.timeline.values import (
    NONE,
    Class,
    Constant,
    Container,
    Data,
    Function,
    Instance,
    Key,
    Models,
    Opaque,
    Partial,
    Tensor,
    Value,
    Weights,
)


def join(values: list[Value], usual: Value | None = None) -> Value:
    """Return what a name stands for that is bound to one of these on different paths.

    `usual` is the one on the path that the settings as they are lead to: a number or a text stays
    what it is there, unless a user sets something else, and an object, class, function or layer
    stands for all.
    """
    first = values[0]
    if all(value == first for value in values[1:]):
        return first
    match usual:
        case Constant(value=bool()):
            pass
        case Constant(value=int() | float() | str() as constant):
            return Constant(constant, fixed=False)
        case Instance() | Class() | Function() | Partial():
            return usual
        case Opaque(type_name=layer) if layer.startswith("torch.nn."):
            return usual
    models = [value for value in values if isinstance(value, Models)]
    if models:
        together = dict.fromkeys(model for value in models for model in value.models)
        wrappers = {value.wrapper for value in models}
        wrapper = wrappers.pop() if len(wrappers) == 1 else UNKNOWN
        return Models(tuple(together), _exists(values, usual), wrapper)
    informative = [v for v in values if not isinstance(v, Constant) or v.value is not None]
    loaders = [value.loader for value in informative if isinstance(value, Data)]
    if loaders:
        return Data(_one_of_loaders(loaders))
    containers = [value for value in informative if isinstance(value, Container)]
    if containers and all(container.keys is None for container in containers):
        return _one_of_containers(containers, usual)
    for value in informative:
        if isinstance(value, Weights):
            return weights.together(map(weights.of, informative)) or value
        if not isinstance(value, Constant | Tensor | Opaque):
            return value
    if informative and all(isinstance(value, Tensor) for value in informative):
        return Tensor()
    if informative and all(value == informative[0] for value in informative):
        return informative[0] if not isinstance(informative[0], Constant) else Opaque()
    if texts := _texts(informative):
        return Opaque(texts=texts)
    if (largest := _largest(informative)) is not None:
        return Opaque(at_most=largest)
    opaque = [value for value in informative if isinstance(value, Opaque)]
    holds = dict.fromkeys(model for value in opaque for model in value.holds)
    named = next((value for value in opaque if value.parameter or value.type_name), None)
    if named is not None and len(opaque) == 1:
        return named
    kinds = {value.type_name for value in opaque}
    return Opaque(
        holds=tuple(holds),
        name=opaque[0].name if opaque else "",
        type_name=kinds.pop() if len(kinds) == 1 and len(opaque) == len(informative) else "",
    )


def _texts(values: list[Value]) -> tuple[str, ...]:
    """Return the texts that values may be; empty where one may be something else."""
    found: dict[str, None] = {}
    for value in values:
        match value:
            case Constant(value=str() as text):
                found[text] = None
            case Opaque(texts=(_, *_) as texts):
                found.update(dict.fromkeys(texts))
            case _:
                return ()
    return tuple(found)


def _largest(values: list[Value]) -> int | None:
    """Return the largest number that values may be; None where one may be something else."""
    found: list[int] = []
    for value in values:
        match value:
            case Constant(value=bool()):
                return None
            case Constant(value=int() as number) | Opaque(at_most=int() as number):
                found.append(number)
            case _:
                return None
    return max(found, default=None)


def _exists(values: list[Value], usual: Value | None) -> Constant | Opaque | None:
    """Return whether a joined model is one and not None; None: it surely is."""
    if not any(value == NONE or (isinstance(value, Models) and value.exists) for value in values):
        return None
    if usual == NONE:
        return Constant(False, fixed=False)
    if isinstance(usual, Models):
        return usual.exists or Constant(True, fixed=False)
    return Opaque()


def join_states(states: list[dict[Key, Value]], usual: int | None) -> dict[Key, Value]:
    """Return what names stand for after several paths; `usual` is the place of the usual one."""
    if len(states) == 1:
        return states[0]
    result: dict[Key, Value] = {}
    for key in dict.fromkeys(key for state in states for key in state):
        values = [state[key] for state in states if key in state]
        first = values[0]
        same = all(value is first for value in values[1:])
        chosen = states[usual].get(key) if usual is not None else None
        result[key] = first if same else join(values, chosen)
    return result


def put(container: Container, key: object, value: Value) -> None:
    """Add an element to a list or dict, or set one; what it had in that place it may still have."""
    if container.keys is not None and key is not UNKNOWN and key in container.keys:
        place = container.keys.index(key)
        joined = join([container.elements[place], value])
        container.elements = (*container.elements[:place], joined, *container.elements[place + 1 :])
        return
    if (
        container.keys is None
        and isinstance(key, int)
        and -len(container.elements) <= key < len(container.elements)
    ):
        known = list(container.elements)
        known[key] = join([known[key], value])
        container.elements = tuple(known)
        return
    container.elements = (*container.elements, value)
    if container.keys is not None:
        container.keys = (*container.keys, key)


def of_length(container: Container, length: int) -> tuple[Value, ...] | None:
    """Return the elements, joined over all paths, if it may be a sequence of that length."""
    every = (container, *container.instead)
    fitting = [one for one in every if one.keys is None and len(one.elements) == length]
    return _side_by_side(fitting) if fitting else None


def _one_of_loaders(loaders: list[Loader]) -> Loader:
    every = {
        (loader.site, loader.batch_size): loader
        for joined in loaders
        for loader in (joined, *joined.instead)
    }
    first, *others = every.values()
    return replace(first, instead=tuple(others))


def _one_of_containers(containers: list[Container], usual: Value | None) -> Container:
    if all(map(_is_of_texts, containers)):
        # Which text stands in which place says nothing: each list stays what it is.
        chosen = usual if isinstance(usual, Container) else containers[0]
        every = [one for joined in containers for one in (joined, *joined.instead)]
        instead = tuple(one for one in every if one.elements != chosen.elements)
        return Container(chosen.elements, instead=instead, grown=chosen.grown)
    by_length: dict[int, list[Container]] = {}
    for joined in containers:
        for container in (joined, *joined.instead):
            by_length.setdefault(len(container.elements), []).append(container)
    first, *others = (
        Container(_side_by_side(same), grown=any(one.grown for one in same))
        for same in by_length.values()
    )
    first.instead = tuple(others)
    return first


def _is_of_texts(container: Container) -> bool:
    return all(isinstance(e, Constant) and isinstance(e.value, str) for e in container.elements)


def _side_by_side(containers: list[Container]) -> tuple[Value, ...]:
    """Return the joined elements of sequences of one length; sequences in them stay the first's."""
    return tuple(
        values[0] if isinstance(values[0], Container) else join(list(values))
        for values in zip(*(container.elements for container in containers), strict=True)
    )

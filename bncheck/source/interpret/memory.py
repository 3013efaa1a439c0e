"""What was constructed before: objects of a class that is given the same arguments again.

Networks repeat their blocks. A class of the project that is constructed again with the same
arguments is not run again: the object is a copy of the first one, made when it is looked into.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from bncheck.graph import Layer, Site
from bncheck.source.interpret.keys import NotFrozenError, key_of
from bncheck.source.interpret.problems import GiveUpError
from bncheck.source.interpret.values import (
    Arguments,
    Branches,
    Class,
    Dictionary,
    Either,
    Function,
    Instance,
    List,
    Parameter,
)

if TYPE_CHECKING:
    from bncheck.source.interpret.machine import Machine
    from bncheck.source.interpret.replay import Recording

_MOST_LAYERS = 50_000


@dataclass(eq=False, slots=True)
class Recipe:
    """The first object that was constructed of a class with certain arguments."""

    original: Instance
    doubts: dict[str, int]
    guessed: bool
    classes: dict[Class, Instance] = field(default_factory=dict)
    """The classes of the project that were constructed on the way, each with an object of it."""
    valid: bool = True
    forwards: dict[object, Recording | None] = field(default_factory=dict)
    users: list[Recipe] = field(default_factory=list)
    copies: list[Instance] = field(default_factory=list)
    layers: list[tuple[str, Layer]] | None = None
    """The original's layers with their names, once they were asked for."""

    def seal(self) -> None:
        """Watch the original for changes, which would make it useless as a pattern."""
        todo = [self.original]
        while todo:
            value = todo.pop()
            if value.recipe is not None and value.recipe is not self:
                value.recipe.users.append(self)
            if value.sealed is not None:
                continue
            value.sealed = self
            if value.template is None or value.opened:
                todo += [inner for inner in value.state.values() if isinstance(inner, Instance)]

    def invalidate(self) -> None:
        """Before the original changes: give the copies their own content, and forget it."""
        if not self.valid:
            return
        self.valid = False
        self.forwards.clear()
        for copied in self.copies:
            _open(copied)
        self.copies.clear()
        for user in self.users:
            user.invalidate()


def _open(value: Instance) -> None:
    for inner in value.state.values():
        if isinstance(inner, Instance):
            _open(inner)


def make(
    machine: Machine,
    cls: Class,
    arguments: Arguments,
    site: Site | None,
    construct: Callable[[], object],
) -> object:
    """Construct an object, or copy one that was constructed in the same way."""
    key: object = None
    if not arguments.open and machine.graph is None:
        try:
            key = (cls, key_of(arguments))
        except NotFrozenError:
            key = None
    if key is None:
        return construct()
    recipes = machine.names.recipes
    recipe = recipes.get(key)
    if recipe is not None and recipe.valid:
        for reason, count in recipe.doubts.items():
            machine.doubts[reason] = machine.doubts.get(reason, 0) + count
        machine.guessed |= recipe.guessed
        machine.names.constructed.update(recipe.classes)
        machine.layer()
        return copy_of(recipe.original, site, {}, recipe)
    before, guessed = dict(machine.doubts), machine.guessed
    machine.guessed = False
    made, classes = _with_classes(machine, construct)
    own_guess, machine.guessed = machine.guessed, machine.guessed or guessed
    if isinstance(made, Instance) and made.recipe is None and made.is_module:
        try:
            unchanged = (cls, key_of(arguments)) == key
        except NotFrozenError:
            unchanged = False
        if unchanged:
            recipe = recipes[key] = Recipe(made, _more(before, machine.doubts), own_guess, classes)
            made.recipe = recipe
            recipe.seal()
    return made


def _with_classes(
    machine: Machine, construct: Callable[[], object]
) -> tuple[object, dict[Class, Instance]]:
    """Construct an object, and tell which classes that constructed."""
    before, names = machine.names.constructed, machine.names
    names.constructed = {}
    try:
        return construct(), names.constructed
    finally:
        before.update(names.constructed)
        names.constructed = before


def _more(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {
        reason: count - before.get(reason, 0)
        for reason, count in after.items()
        if count != before.get(reason, 0)
    }


def copy_of(
    template: Instance, site: Site | None, copies: dict[int, object], recipe: Recipe | None
) -> Instance:
    """Return a copy whose content is copied when it is first looked at."""
    found = copies.get(id(template))
    if isinstance(found, Instance):
        return found
    copied = Instance.lazy(template, site, copies, recipe)
    copies[id(template)] = copied
    if recipe is not None:
        recipe.copies.append(copied)
    return copied


def copy_value(value: object, copies: dict[int, object], sealed: object = None) -> object:
    """Return a value of the original as the copy has it."""
    if isinstance(value, Instance):
        recipe = value.recipe if value.recipe is not None and value.recipe.valid else None
        copied = copy_of(value, value.site, copies, recipe)
        if isinstance(sealed, Recipe) and copied.sealed is None:
            copied.sealed = sealed
        return copied
    if isinstance(value, (List, Dictionary)):
        known = copies.get(id(value))
        if known is not None:
            return known
        made: List | Dictionary = List(None) if isinstance(value, List) else Dictionary(None)
        copies[id(value)] = made
        if isinstance(value, List) and value.state is not None:
            made.state = [copy_value(inner, copies, sealed) for inner in value.state]
        elif isinstance(value, Dictionary) and value.state is not None:
            made.state = {k: copy_value(v, copies, sealed) for k, v in value.state.items()}
        return made
    if isinstance(value, tuple):
        return tuple(copy_value(inner, copies, sealed) for inner in value)
    if isinstance(value, Either):
        return Either(tuple(copy_value(inner, copies, sealed) for inner in value.options))
    if isinstance(value, Branches):
        return Branches(
            tuple(
                tuple(copy_value(inner, copies, sealed) for inner in run) for run in value.options
            )
        )
    if isinstance(value, Function) and isinstance(value.receiver, Instance):
        return replace(value, receiver=copy_value(value.receiver, copies, sealed))
    if isinstance(value, Parameter) and value.layer is not None:
        return Parameter(copied_layer(value.layer, copies), value.role)
    return value


def copied_layer(layer: Layer, copies: dict[int, object], site: Site | None = None) -> Layer:
    """Return the copy's layer for one of the original's; both share what is known of them."""
    found = copies.get(id(layer))
    if isinstance(found, Layer):
        return found
    made = Layer(layer.kind, layer.type_name, layer.name, site or layer.site, layer.attributes)
    copies[id(layer)] = made
    return made


def layer_in(instance: Instance, layer: Layer) -> Layer:
    """Return what a layer of the recipe's original is in a copy, or a copy of a copy."""
    if instance.template is None or instance.copies is None:
        return layer
    below = layer_in(instance.template, layer)
    own = instance.site if below is instance.template.layer else None
    return copied_layer(below, instance.copies, own)


def layers_of(root: Instance) -> list[tuple[str, Layer]]:
    """Return every layer of a network with its dotted name; each layer once.

    Raises GiveUpError for more than any network has: a class that constructs itself several times
    has a number of layers that is exponential in the depth at which the reader stops.
    """
    recipe = root.recipe
    if recipe is not None and recipe.valid:
        if recipe.layers is None:
            recipe.layers = _walk(recipe.original)
        if root.template is None:
            return recipe.layers
        return [(name, layer_in(root, layer)) for name, layer in recipe.layers]
    return _walk(root)


def _walk(root: Instance) -> list[tuple[str, Layer]]:
    found: list[tuple[str, Layer]] = []
    done = {id(root)}
    if root.layer is not None:
        found.append(("", root.layer))
    todo: list[tuple[str, object]] = list(reversed(root.state.items()))
    while todo:
        name, value = todo.pop()
        if isinstance(value, Either):
            todo += [(name, option) for option in value.options]
        elif isinstance(value, Branches):
            todo += [(name, inner) for run in value.options for inner in run]
        elif isinstance(value, Instance) and id(value) not in done:
            done.add(id(value))
            layer = value.layer
            if layer is not None and value.template is None and not (value.recipe or value.state):
                found.append((name, layer))  # most are layers of torch's own
                continue
            found += [(f"{name}.{own}" if own else name, layer) for own, layer in layers_of(value)]
            if len(found) > _MOST_LAYERS:
                raise GiveUpError("too many layers")
        elif isinstance(value, List) and value.state is not None:
            todo += [(name, inner) for inner in value.state if isinstance(inner, Instance)]
        elif isinstance(value, Dictionary) and value.state is not None:
            todo += [(name, inner) for inner in value.state.values() if isinstance(inner, Instance)]
    seen: set[int] = set()
    return [
        (name, layer)
        for name, layer in found
        if not (id(layer) in seen or seen.add(id(layer)))  # type: ignore[func-returns-value]
    ]

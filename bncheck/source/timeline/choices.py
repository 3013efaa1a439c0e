"""Networks chosen by a name: a dict of classes, `getattr(models, name)`, `models.__dict__[name]`.

Which one it is depends on a setting. One that holds BatchNorm is followed where there is one: a
mistake around it is a mistake for whoever chooses that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

import libcst as cst

from bncheck.source.module import Assigned, SourceModule
from bncheck.source.project import Defined, Project
from bncheck.source.timeline import classes, ingredients, model_libraries
from bncheck.source.timeline.joining import join
from bncheck.source.timeline.relevance import makes_models
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.syntax import string
from bncheck.source.timeline.values import (
    Class,
    Constant,
    Container,
    Function,
    Opaque,
    Outside,
    Package,
    Value,
)

_MAX_CANDIDATES = 80
_MOST_WITHOUT = 4
"""Of so many networks one at least has to hold BatchNorm, or a choice among them tells nothing."""


def of_container(run: Run, container: Container, key: Value) -> Value:
    """Return what a key that is no constant, or one that a user may set, chooses of a dict."""
    told = [found for text in _texts(key) if (found := _at(container, Constant(text))) is not None]
    if told and (chosen := pick(run, told)) is not None:
        return chosen
    picked = _at(container, key)
    if picked is not None and (_is_fixed(key) or holds(run, picked) is not False):
        return picked
    if not container.elements:
        return Opaque()
    chosen = _instead(run, picked, pick(run, container.elements))
    return chosen or picked or join(list(container.elements))


def of_package(run: Run, package: Package, key: Value, asked_by: str = "") -> Value:
    """Return what a name chooses of a module of the project.

    `asked_by` is what the source calls the name: `posenet` in `getattr(models, args.posenet)`.
    """
    told = [run.module_level(text, package.module) for text in _texts(key)]
    if (chosen := pick(run, [found for found in told if found is not None])) is not None:
        return chosen
    name = key.value if isinstance(key, Constant) else None
    picked = run.module_level(name, package.module) if isinstance(name, str) else None
    if picked is not None and (_is_fixed(key) or holds(run, picked) is not False):
        return picked
    found = (run.module_level(n, package.module) for n in _makers(run.project, package.module))
    candidates = [candidate for candidate in found if candidate is not None]
    recipes: list[Value] = [
        candidate
        for candidate in candidates
        if isinstance(candidate, Class)
        and _is_recipe(run.project, candidate.node, candidate.module)
    ]
    named = recipes or [c for c in candidates if not _chooses(c)] or candidates
    kind = _GENERAL.sub("", asked_by.lower())
    if isinstance(name, str) and kind and kind in name.lower():
        named = [c for c in named if kind in _name(c).lower()]  # `PoseNet6`, and no `DispNet`
    if isinstance(name, str) and name.islower():
        # What such a name chooses is a function, or a class where there is none.
        named = [c for c in named if isinstance(c, Function)] or named
    return _instead(run, picked, pick(run, named)) or picked or Opaque()


_GENERAL = re.compile(r"_?(?:model|arch(?:itecture)?|net(?:work)?|name|type|class)\w*$")
"""What is left of a setting's name without it says what kind of network it chooses."""


def _name(candidate: Value) -> str:
    match candidate:
        case Class(node=node) | Function(node=cst.FunctionDef() as node):
            return node.name.value
    return ""


_ARCHITECTURE = re.compile(r"^(?:arch(?:itecture)?|(?:model|net|network)(?:_?name)?|name)$")


def _chooses(candidate: Value) -> bool:
    """Tell whether a function is first told which network to make: its name names no network."""
    match candidate:
        case Function(node=cst.FunctionDef(params=cst.Parameters(params=[first, *_]))):
            return _ARCHITECTURE.match(first.name.value) is not None
    return False


def of_any_package(run: Run, *names: str) -> Value:
    """Return what a name stands for in a module of the project that is chosen at run time.

    There may be several names, of which a setting gives one.
    """
    every = [run.module_level(name, m) for name in names for m in run.project.defining(name)]
    networks = [c for c in every if c is not None and holds(run, c) is not None]
    match every:
        case [Class() as only] if not networks:
            return only
    return pick(run, networks) or Opaque(names[0] if names else "")


def _texts(key: Value) -> tuple[str, ...]:
    """Return what the settings files of the project say that a key may be."""
    return key.texts if isinstance(key, Opaque) else ()


def _instead(run: Run, picked: Value | None, chosen: Value | None) -> Value | None:
    """Note that what is followed is not what the settings as they are pick."""
    match chosen:
        case Class(node=node) | Function(node=node) if picked is not None:
            run.against.add(node)
        case Outside(name=name) if picked is not None:
            run.against.add(name)
    return chosen


def _at(container: Container, key: Value) -> Value | None:
    if isinstance(key, Constant) and container.keys is not None and key.value in container.keys:
        return container.elements[container.keys.index(key.value)]
    return None


def _is_fixed(key: Value) -> bool:
    return isinstance(key, Constant) and key.fixed


def pick(run: Run, candidates: Sequence[Value]) -> Value | None:
    """Return the first candidate with BatchNorm, or the first; one of few among many is none."""
    if not candidates or not all(isinstance(c, Class | Function | Outside) for c in candidates):
        return None
    known = [held for candidate in candidates if (held := holds(run, candidate)) is not None]
    if 0 < known.count(True) * _MOST_WITHOUT < len(known):
        return Opaque()
    with_norm = [candidate for candidate in candidates if holds(run, candidate) is True]
    says_so = (candidate for candidate in with_norm if _SAYS_SO.search(_name(candidate)))
    return next(says_so, (with_norm or candidates)[0])


_SAYS_SO = re.compile(r"(?:_bn|BN|[Bb]atch_?[Nn]orm)$")
"""Names such as `vgg11_bn`, beside which stands the same network without BatchNorm."""


def holds(run: Run, candidate: Value) -> object:
    """Tell whether what a class or function makes holds BatchNorm, by what it names."""
    match candidate:
        case Class() if classes.is_network(run.project, candidate) is not False:
            return ingredients.holds(run.project, candidate)[0]
        case Class(node=node, module=module) if _is_recipe(run.project, node, module):
            return ingredients.made_by(run.project, node, module)
        case Function(node=cst.FunctionDef() as node, module=module):
            if makes_models(run.project, module, node):
                return ingredients.made_by(run.project, node, module)
        case Outside(name=name):
            return model_libraries.zoo_model(name, None)
    return None


@lru_cache(maxsize=256)
def _makers(project: Project, module: SourceModule) -> tuple[str, ...]:
    """Return the names in a module, imported ones among them, of networks and their factories."""
    names = dict.fromkeys(name for name in _names(project, module) if not name.startswith("_"))
    found = []
    for name in list(names)[: 4 * _MAX_CANDIDATES]:
        for meaning in project.resolve(name, module):
            match meaning:
                case Defined(module=origin, binding=cst.ClassDef() as node):
                    if classes.is_network(project, Class(node, origin)) is True or _is_recipe(
                        project, node, origin
                    ):
                        found.append(name)
                case Defined(module=origin, binding=cst.FunctionDef() as node):
                    if makes_models(project, origin, node):
                        found.append(name)
    return tuple(dict.fromkeys(found))[:_MAX_CANDIDATES]


def _is_recipe(project: Project, node: cst.ClassDef, module: SourceModule) -> bool:
    """Recognise a class that only keeps a network and its settings: `base = Net; args = []`."""
    if node.bases:
        return False
    for kept in classes.members(node).values():
        if isinstance(kept, cst.FunctionDef):
            return False
        if isinstance(kept, cst.Name):
            for meaning in project.resolve(kept.value, module):
                if isinstance(meaning, Defined) and isinstance(meaning.binding, cst.ClassDef):
                    found = Class(meaning.binding, meaning.module)
                    return classes.is_network(project, found) is True
    return False


def _names(project: Project, module: SourceModule, hops: int = 2) -> Iterator[str]:
    yield from module.bindings
    for star in module.star_imports if hops else ():
        origin = project.find(star, module)
        if origin is not None:
            yield from _offered(origin) or _names(project, origin, hops - 1)


def _offered(module: SourceModule) -> tuple[str, ...]:
    """Return the names that a module's `__all__` offers to whoever imports everything of it."""
    match module.bindings.get("__all__"):
        case [Assigned(value=cst.List(elements=elements) | cst.Tuple(elements=elements))]:
            texts = [string(element.value) for element in elements]
            return tuple(text for text in texts if text is not None and text in module.bindings)
    return ()

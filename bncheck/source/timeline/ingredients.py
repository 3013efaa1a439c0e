"""What networks are made of, by the names in their classes: whether they hold BatchNorm.

That is quick and is asked of every network that is met; before a finding stands on it the reader of
networks constructs the network and looks (`Model.confirm`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import libcst as cst

from bncheck.events import Fact
from bncheck.graph import UNKNOWN
from bncheck.source.module import Assigned, SourceModule
from bncheck.source.project import Defined, External, Meaning, ModuleObject, Project
from bncheck.source.single import Given
from bncheck.source.timeline import known
from bncheck.source.timeline.classes import ancestry, members
from bncheck.source.timeline.constructors import (
    ruled_out,
)
from bncheck.source.timeline.mentioned import (
    TELLS_BY_TEXT,
    Mentioned,
    mentioned_in,
    names_torchvision,
)
from bncheck.source.timeline.model_libraries import ZOO_ROOTS, by_family, zoo_model
from bncheck.source.timeline.syntax import identifiers, mentions
from bncheck.source.timeline.values import Class
from bncheck.source.walk import walk_kinds

_MAX_CLOSURE = 40
"""Classes and functions looked into for what a network is made of."""

_LAYERLESS = tuple(
    """
    torch math numpy functools typing collections logging os copy einops itertools warnings
    dataclasses torchvision.transforms torchvision.ops scipy re abc enum random time sys pathlib
    json
    """.split()  # noqa: SIM905
)
"""Packages outside whose names are no networks with BatchNorm."""


_TELLING = known.BATCH_NORMS | {"norm_cfg", "hub"}
"""Words of what may be BatchNorm; OpenMMLab's configurations name it in a text."""


@dataclass(frozen=True)
class Ingredient:
    """What a name in a network's code tells of its layers."""

    fact: Fact
    kind: str = ""
    """The BatchNorm class that it is."""
    definition: cst.ClassDef | cst.FunctionDef | cst.BaseExpression | None = None
    module: SourceModule | None = None
    outside: bool = False
    """Whether it makes what the reader of networks can't see: a library's, or by a path."""


@lru_cache(maxsize=4096)
def holds(project: Project, cls: Class) -> tuple[Fact, frozenset[str]]:
    """Tell whether a network holds BatchNorm, and which kinds are named in what it is made of.

    Looks through the class, its bases, and the classes and functions that they name.
    """
    family = ancestry(project, cls)
    kinds, unknown = _reached(project, [(c.node, c.module) for c in family.project])
    if any(keeps_no_statistics(c.node) for c in family.project):
        return UNKNOWN, frozenset()
    if kinds or any(zoo_model(base, None) is True for base in family.external):
        return True, kinds
    return UNKNOWN if unknown else False, frozenset()


def keeps_no_statistics(node: cst.CSTNode) -> bool:
    """Tell whether code has the norms of a network made with `track_running_stats=False`."""
    return "track_running_stats" in mentions(node) and any(
        isinstance(argument.keyword, cst.Name)
        and argument.keyword.value == "track_running_stats"
        and isinstance(argument.value, cst.Name)
        and argument.value.value == "False"
        for argument in walk_kinds(node, (cst.Arg,))
    )


@lru_cache(maxsize=4096)
def made_by(
    project: Project, function: cst.FunctionDef | cst.ClassDef, module: SourceModule
) -> Fact:
    """Tell whether what a factory makes holds BatchNorm, by what it names."""
    kinds, unknown = _reached(project, [(function, module)])
    return True if kinds else UNKNOWN if unknown else False


def is_chosen(project: Project, value: cst.CSTNode, module: SourceModule) -> bool:
    """Tell whether code makes a library's network by a name that is not known: most hold BatchNorm.

    `timm.create_model(settings.encoder)`, `getattr(torchvision.models, name)()`.
    """
    mentioned = mentioned_in(value)
    return any(
        isinstance(meaning, External)
        and (
            meaning.name in ZOO_ROOTS
            or zoo_model(meaning.name, mentioned.first_strings.get(name)) is UNKNOWN
        )
        for name in mentioned.names
        for meaning in meanings(project, mentioned, name, module)
    )


@lru_cache(maxsize=1024)
def takes_from_outside(project: Project, definition: cst.CSTNode, module: SourceModule) -> bool:
    """Tell whether BatchNorm in what a class or factory makes may come from a library's network."""
    return any(part.outside for part in _closure(project, [(definition, module)], frozenset()))


def _reached(
    project: Project,
    waiting: list[tuple[cst.CSTNode, SourceModule]],
    dead: frozenset[cst.CSTNode] = frozenset(),
) -> tuple[frozenset[str], bool]:
    """Return the kinds of BatchNorm named in definitions and theirs, and if any is unknown.

    What is dead is in the definitions themselves.
    """
    kinds: set[str] = set()
    unknown = False
    for part in _closure(project, waiting, dead):
        if part.kind:
            kinds.add(part.kind)
        unknown = unknown or part.fact is UNKNOWN
    return frozenset(kinds), unknown or bool(waiting)


def _closure(
    project: Project,
    waiting: list[tuple[cst.CSTNode, SourceModule]],
    dead: frozenset[cst.CSTNode],
) -> Iterator[Ingredient]:
    """Yield what definitions and those that they name are made of; too many are left waiting."""
    roots = {node for node, _ in waiting}
    seen: set[cst.CSTNode] = set()
    while waiting and len(seen) < _MAX_CLOSURE:
        node, module = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        for part in ingredients_of(project, node, module, dead if node in roots else frozenset()):
            yield part
            if part.definition is not None and part.module is not None:
                waiting.append((part.definition, part.module))


@lru_cache(maxsize=1024)
def holds_when(project: Project, cls: Class, given: Given) -> tuple[Fact, frozenset[str]]:
    """Tell the same of a network made with some constants: what they rule out makes nothing."""
    whole = holds(project, cls)
    family = ancestry(project, cls)
    init = members(cls.node).get("__init__")
    if whole[0] is not True or not isinstance(init, cst.FunctionDef):
        return whole
    dead = frozenset(ruled_out(init, dict(given)))
    if not dead:
        return whole
    kinds, unknown = _reached(project, [(c.node, c.module) for c in family.project], dead)
    if kinds or any(zoo_model(base, None) is True for base in family.external):
        return True, kinds
    by_text = any(isinstance(value, str) for _, value in given)
    return UNKNOWN if unknown or by_text else False, frozenset()


@lru_cache(maxsize=4096)
def may_hold(project: Project, cls: Class) -> Fact:
    """Return the most that `holds` may say, of the words in what a network may be made of.

    That takes no parsing. True where something names BatchNorm or may stand for it, UNKNOWN where
    something is not known to be free of it, else False.
    """
    family = ancestry(project, cls)
    if any(zoo_model(base, None) is not None for base in family.external):
        return True
    most: Fact = False
    seen: set[cst.CSTNode] = set()
    waiting: list[tuple[cst.CSTNode, SourceModule]] = [(c.node, c.module) for c in family.project]
    while waiting:
        node, module = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        names = mentions(node)
        if names & _TELLING or len(seen) > _MAX_CLOSURE or _may_look_up_by_text(module, names):
            return True
        for name in names:
            bound = name in module.bindings or module.star_imports
            for meaning in project.resolve(name, module) if bound else ():
                match meaning:
                    case Defined(module=origin, binding=Assigned(value=value)):
                        waiting.append((value, origin))
                    case Defined(module=origin, binding=found) if not isinstance(found, Assigned):
                        waiting.append((found, origin))
                    case External(name=outside):
                        if outside in known.LAYERS_WITH_NORM:
                            return True
                        if outside in ZOO_ROOTS or zoo_model(outside, None) is not None:
                            return True
                        if _may_be_a_layer(outside):
                            if names & known.NORM_ARGUMENTS:
                                return True  # It may be told which norm to make.
                            most = UNKNOWN
                    case ModuleObject():
                        return True
    return most


def _may_look_up_by_text(module: SourceModule, names: frozenset[str]) -> bool:
    """Tell whether code may look BatchNorm up by a text: `getattr(nn, "BatchNorm2d")`."""
    return not names.isdisjoint({"getattr", "eval"}) and bool(TELLS_BY_TEXT.search(module.text))


@lru_cache(maxsize=8192)
def ingredients_of(
    project: Project,
    node: cst.CSTNode,
    module: SourceModule,
    dead: frozenset[cst.CSTNode] = frozenset(),
) -> tuple[Ingredient, ...]:
    """Return what the names in some code stand for; what is dead in it is left out."""
    return tuple(_look_up(project, mentioned_in(node, dead, _telling(project, module)), module))


TABLES = (cst.Dict, cst.List, cst.Tuple)
"""What a choice of networks by name is written as."""


def _look_up(project: Project, mentioned: Mentioned, module: SourceModule) -> Iterator[Ingredient]:
    if any(name.rpartition(".")[2] in known.IMPORTERS for name in mentioned.names):
        yield from _imported_by_path(project, mentioned, module)
    # In one order at all times: how much is looked at is bounded.
    for name in sorted(mentioned.names):
        last = name.rpartition(".")[2]
        if last in known.BATCH_NORMS:
            for kind in _kinds_by_that_name(project, name, last, module):
                yield Ingredient(True, kind)
            continue
        for meaning in meanings(project, mentioned, name, module) or _class_of(
            project, name, module
        ):
            match meaning:
                case Defined(module=origin, binding=(cst.ClassDef() | cst.FunctionDef()) as found):
                    yield Ingredient(False, "", found, origin)
                case Defined(module=origin, binding=Assigned(value=value)):
                    kinds = sorted(identifiers(value) & known.BATCH_NORMS)[:1]
                    for kind in kinds:
                        yield Ingredient(True, kind)
                    if not kinds and isinstance(value, TABLES):
                        yield Ingredient(False, "", value, origin)
                case External(name="torchvision.models") if names_torchvision(mentioned.node):
                    yield Ingredient(True, "BatchNorm2d", outside=True)
                case External(name=outside):
                    made = _made_outside(outside, mentioned.first_strings.get(name))
                    norm = known.LAYERS_WITH_NORM.get(outside)
                    if norm is not None and name not in mentioned.told:
                        yield Ingredient(True, norm, outside=True)
                    elif made is True:
                        yield Ingredient(True, "BatchNorm2d", outside=True)
                    elif made is UNKNOWN or (made is None and _may_be_a_layer(outside)):
                        yield Ingredient(UNKNOWN, outside=made is UNKNOWN)


def _made_outside(outside: str, told: object) -> Fact | None:
    """Tell whether what a function from elsewhere makes holds BatchNorm, by its first text."""
    if outside == "torch.hub.load":
        return by_family(told) if isinstance(told, str) else UNKNOWN
    if outside in _DETECTRON_NORMS and isinstance(told, str):
        return True if told in {"BN", "SyncBN", "nnSyncBN", "naiveSyncBN"} else None
    return zoo_model(outside, told)


_DETECTRON_NORMS = frozenset(
    {"detectron2.layers.get_norm", "detectron2.layers.batch_norm.get_norm"}
)


def _class_of(project: Project, name: str, module: SourceModule) -> Sequence[Meaning]:
    """Return the class whose own method a name is: `Network.from_pretrained`."""
    owner, _, method = name.rpartition(".")
    if owner.partition(".")[0] not in module.bindings:
        return ()
    return [
        meaning
        for meaning in project.resolve(owner, module)
        if isinstance(meaning, Defined)
        and isinstance(meaning.binding, cst.ClassDef)
        and isinstance(members(meaning.binding).get(method), cst.FunctionDef)
    ]


def _kinds_by_that_name(
    project: Project, name: str, last: str, module: SourceModule
) -> Sequence[str]:
    """Return the classes that the name of a BatchNorm stands for: `BatchNorm2d = SyncBatchNorm`."""
    if name not in module.bindings and not module.star_imports:
        return [last]
    values = [
        meaning.binding.value
        for meaning in project.resolve(name, module)
        if isinstance(meaning, Defined) and isinstance(meaning.binding, Assigned)
    ]
    return sorted({kind for v in values for kind in identifiers(v) & known.BATCH_NORMS}) or [last]


def meanings(
    project: Project, mentioned: Mentioned, name: str, module: SourceModule
) -> Sequence[Meaning]:
    """Return what a name means where it is used, imports inside of functions among them."""
    head, _, rest = name.partition(".")
    origin = mentioned.imported.get(head)
    if origin is None or project.find(origin.partition(".")[0], module) is not None:
        return project.resolve(name, module)
    return [External(f"{origin}.{rest}" if rest else origin)]


def _imported_by_path(
    project: Project, mentioned: Mentioned, module: SourceModule
) -> Iterator[Ingredient]:
    """Yield what `loaded.Backbone` may be, where the code imports modules by their paths."""
    for name in sorted(mentioned.names):
        owner, _, last = name.rpartition(".")
        if not last[:1].isupper() or not owner.isidentifier() or owner in module.bindings:
            continue
        for origin in project.defining(last):
            for binding in origin.bindings[last]:
                if isinstance(binding, cst.ClassDef | cst.FunctionDef):
                    yield Ingredient(False, "", binding, origin, outside=True)


@lru_cache(maxsize=1024)
def _telling(project: Project, module: SourceModule) -> frozenset[str] | None:
    """Return the words in a module that may stand for a layer or lead to one; None: any may.

    A body without any of them tells nothing of what a network is made of.
    """
    if module.star_imports:
        return None
    return (
        known.BATCH_NORMS
        | {"import", "hub", "getattr"}
        | {
            name
            for name in module.bindings
            if any(_may_tell(meaning) for meaning in project.resolve(name, module))
        }
    )


def _may_tell(meaning: Meaning) -> bool:
    match meaning:
        case External(name=outside):
            return not _is_layerless(outside)
        case Defined(binding=Assigned(value=value)):
            return bool(mentions(value))
    return True


def _is_layerless(outside: str) -> bool:
    return outside not in known.LAYERS_WITH_NORM and any(
        outside == name or outside.startswith(f"{name}.") for name in _LAYERLESS
    )


def _may_be_a_layer(outside: str) -> bool:
    if _is_layerless(outside):
        return False
    last = outside.rpartition(".")[2]
    if "_Weights" in outside:  # torchvision's: they say which weights to load.
        return False
    return last[:1].isupper() or "model" in last or "net" in last

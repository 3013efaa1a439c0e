"""Configuration objects that the top of a module fills: yacs's, EasyDict's and the like."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from functools import lru_cache

import libcst as cst

from bncheck.source import settings_files
from bncheck.source.module import SourceModule, dotted, statements
from bncheck.source.plain_files import Format
from bncheck.source.project import Project
from bncheck.source.timeline.values import Constant, Opaque, Settings, Value

CLASSES = frozenset(
    """
    CfgNode CN EasyDict edict AttrDict ConfigDict SimpleNamespace Namespace Munch DotMap Box
    """.split()  # noqa: SIM905
)
"""Classes of objects whose attributes are what they are given."""
_MERGES = frozenset({"merge_from_file", "merge_from_list", "merge_from_other_cfg", "merge_update"})
_READS = ("yaml", "json.load", "toml")

Constants = Callable[[cst.BaseExpression], Value]


@lru_cache(maxsize=256)
def of_module(
    project: Project, module: SourceModule, name: str, constant: Constants
) -> Settings | None:
    """Return what a name at the top of a module is filled with there; None: it is no such object.

    Where a file is merged into it that gives the values which count: what all files of the
    project leave it at. Where there is no file at all, it is where one is merged that they are
    forgotten.
    """
    found: Settings | None = None
    name = _first_name(module, name)
    for statement in statements(module.tree.body):
        match statement:
            case cst.Assign(targets=[cst.AssignTarget(target=target)], value=value):
                bound = dotted(target) or ""
                if bound == name:
                    found = _made(value, constant)
                elif found is not None and bound.startswith(f"{name}."):
                    _fill(found, bound.split(".")[1:], _made(value, constant) or constant(value))
    if found is None or not (
        _MERGES & project.said.called_on_others or any(read in module.text for read in _READS)
    ):
        return found
    trees = files_for(project, module, found.defaults.keys())
    if not trees:
        return None if settings_files.of_project(project, module, Format.YAML) else found
    return _merged(found, trees)


def _first_name(module: SourceModule, name: str) -> str:
    """Return the name that an object had first: `settings = config` gives it another."""
    others = {
        target.value: value.value
        for statement in statements(module.tree.body)
        if isinstance(statement, cst.Assign)
        for target, value in [(statement.targets[0].target, statement.value)]
        if isinstance(target, cst.Name) and isinstance(value, cst.Name)
    }
    seen = {name}
    while (first := others.get(name)) is not None and first not in seen:
        seen.add(first)
        name = first
    return name


def files_for(project: Project, module: SourceModule, keys: Set[str]) -> list[settings_files.Tree]:
    """Return the files of a project that may be merged into settings with these keys."""
    return [
        tree
        for tree in settings_files.of_project(project, module, Format.YAML)
        if len(tree.keys() & keys) > len(tree) / 2
    ]


def replaced(name: str, value: Constant, trees: Sequence[settings_files.Tree]) -> Value:
    """Return what files may have made of a setting: one value, or unknown."""
    return plain(name, settings_files.same(name, [tree.get(name, value.value) for tree in trees]))


def plain(name: str, found: object) -> Value:
    """Return a setting that is no mapping as a value, which someone may edit."""
    match found:
        case tuple():
            return Opaque(name, texts=found)
        case None | str() | int() | float():
            return Constant(found, fixed=False)
    return Opaque(name)


def below(name: str, trees: Sequence[settings_files.Tree]) -> list[settings_files.Tree]:
    """Return what the files say under a name; for one that says nothing, an empty mapping."""
    return [found if isinstance(found := tree.get(name), dict) else {} for tree in trees]


def _merged(settings: Settings, trees: Sequence[settings_files.Tree]) -> Settings:
    """Return settings as files may have replaced some of them."""
    made: dict[str, Value] = {}
    for name, value in settings.defaults.items():
        match value:
            case Settings():
                made[name] = _merged(value, below(name, trees))
            case Constant():
                made[name] = replaced(name, value, trees)
            case _:
                made[name] = value
    return Settings(made)


def _made(value: cst.BaseExpression, constant: Constants) -> Settings | None:
    """Return the object that such a class makes, with what it is given at once."""
    if not isinstance(value, cst.Call):
        return None
    if (dotted(value.func) or "").rpartition(".")[2] not in CLASSES:
        return None
    given: dict[str, Value] = {}
    for argument in value.args:
        if argument.keyword is not None:
            given[argument.keyword.value] = constant(argument.value)
        elif isinstance(argument.value, cst.Dict):
            for entry in argument.value.elements:
                if isinstance(entry, cst.DictElement) and isinstance(entry.key, cst.SimpleString):
                    given[str(entry.key.evaluated_value)] = constant(entry.value)
    return Settings(given)


def _fill(settings: Settings, path: list[str], value: Value) -> None:
    defaults = settings.defaults
    for part in path[:-1]:
        inner = defaults.get(part)
        if not isinstance(inner, Settings):
            return
        defaults = inner.defaults
    known = defaults.get(path[-1])
    defaults[path[-1]] = value if known is None else Opaque(path[-1])

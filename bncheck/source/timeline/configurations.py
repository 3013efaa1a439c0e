"""Configuration objects that the top of a module fills: yacs's, EasyDict's and the like."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import libcst as cst

from bncheck.source.module import SourceModule, dotted, statements
from bncheck.source.project import Project
from bncheck.source.timeline.values import Opaque, Settings, Value

CLASSES = frozenset(
    """
    CfgNode CN EasyDict edict AttrDict ConfigDict SimpleNamespace Namespace Munch DotMap
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

    Nothing is known of it where a file is merged into it: that gives the values which count.
    """
    if any(read in module.text for read in _READS):
        return None
    found: Settings | None = None
    for statement in statements(module.tree.body):
        match statement:
            case cst.Assign(targets=[cst.AssignTarget(target=target)], value=value):
                bound = dotted(target) or ""
                if bound == name and isinstance(value, cst.Name):
                    return of_module(project, module, value.value, constant)
                if bound == name:
                    found = _made(value, constant)
                elif found is not None and bound.startswith(f"{name}."):
                    _fill(found, bound.split(".")[1:], _made(value, constant) or constant(value))
    return None if found is None or _MERGES & project.said.called_on_others else found


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

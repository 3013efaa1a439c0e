"""What Hydra gives a script's `main`: a settings file, composed of those that its defaults name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

import libcst as cst

from bncheck.source import plain_files
from bncheck.source.module import SourceModule, dotted
from bncheck.source.plain_files import Format
from bncheck.source.project import External, Project
from bncheck.source.timeline import files, options
from bncheck.source.timeline.arguments import Arguments
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.syntax import string
from bncheck.source.timeline.values import Constant, Opaque, Value

_DEFAULTS = re.compile(r"^defaults:[ \t]*\n((?:[ \t]*(?:-[^\n]*|#[^\n]*)?\n)+)", re.MULTILINE)
_ENTRY = re.compile(r"^[ \t]*-[ \t]*(?:(?:override[ \t]+)?([\w/]+)[ \t]*:[ \t]*)?([\w./-]+)[ \t]*$")


def settings(run: Run, function: cst.FunctionDef) -> Value | None:
    """Return what `@hydra.main` gives a function where no option says otherwise; None: nothing.

    https://hydra.cc/docs/advanced/defaults_list/
    """
    module = run.frame.module
    for decorator in function.decorators:
        match decorator.decorator:
            case cst.Call(func=func, args=args) if _is_main(run.project, dotted(func), module):
                given = {a.keyword.value: a.value for a in args if a.keyword is not None}
                placed = (a.value for a in args if a.keyword is None)
                given |= dict(zip(_PARAMETERS, placed, strict=False))
                folder, name = (string(given.get(parameter)) for parameter in _PARAMETERS)
                path = PurePosixPath(folder or ".") / (name or "config")
                found = _composed(run.project, module, path)
                return options.nested(run, files.as_value("settings", found)) if found else None
    return None


def call(run: Run, name: str, arguments: Arguments) -> Value | None:
    """Follow `initialize(config_path=...)` and `compose(config_name=...)`; None: another call.

    https://hydra.cc/docs/advanced/compose_api/
    """
    match name.removeprefix("hydra.").removeprefix("experimental."):
        case "initialize" if name != "initialize":
            folder = arguments.get(None, "config_path")
            run.heap.set(_FOLDER, _FOLDER, folder or Constant("."))
            return Opaque(name)
        case "compose" if name != "compose" and not arguments.get(None, "overrides"):
            folder = run.heap.get(_FOLDER, _FOLDER)
            match folder, arguments.get(0, "config_name"):
                case Constant(value=str(below)), Constant(value=str(chosen)):
                    path = PurePosixPath(below) / chosen
                    found = _composed(run.project, run.frame.module, path)
                    return options.nested(run, files.as_value("settings", found)) if found else None
    return None


_FOLDER = "hydra's config_path"


_PARAMETERS = ("config_path", "config_name")


def _is_main(project: Project, name: str | None, module: SourceModule) -> bool:
    meanings = project.resolve(name, module) if name else []
    return any(isinstance(found, External) and found.name == "hydra.main" for found in meanings)


def _composed(
    project: Project, module: SourceModule, path: PurePosixPath
) -> dict[object, object] | None:
    """Return a file's settings on top of those of the files that its list of defaults names."""
    text = project.text_near(f"{path.with_suffix('')}.yaml", module)
    found = plain_files.read(text, Format.YAML) if text else None
    if text is None or found is None:
        return None
    whole: dict[object, object] = {}
    for group, name in _defaults(text):
        below = project.text_near(f"{path.parent / group / name}.yaml", module)
        part = plain_files.read(below, Format.YAML) if below else None
        for package in reversed(group.split("/") if group else []):
            part = {package: part or {}}
        _put(whole, part or {})
    _put(whole, found)
    return whole


def _defaults(text: str) -> Iterator[tuple[str, str]]:
    """Yield the group, empty for none, and the name of each file that a list of defaults names."""
    block = _DEFAULTS.search(text.replace("\r\n", "\n"))
    for line in block[1].splitlines() if block else ():
        entry = _ENTRY.match(line.partition("#")[0])
        if entry is not None and entry[2] != "_self_":
            yield entry[1] or "", entry[2].removesuffix(".yaml")


def _put(whole: dict[object, object], part: dict[object, object]) -> None:
    for key, value in part.items():
        below = whole.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            _put(below, value)
        else:
            whole[key] = value

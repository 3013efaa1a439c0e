"""Settings files: `yaml.safe_load(open("config.yaml"))`, and those that a command line names."""

from __future__ import annotations

from bncheck.source import plain_files, settings_files
from bncheck.source.plain_files import Format
from bncheck.source.timeline import options
from bncheck.source.timeline.arguments import Arguments
from bncheck.source.timeline.configurations import plain
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.values import Constant, Container, File, Opaque, Value

_TOML = ("toml", "tomllib", "tomli", "pytoml")
_OPENS = frozenset({"open", "io.open", "codecs.open", "pathlib.Path"})
_READERS = {
    **dict.fromkeys(("json.load", "json.loads"), Format.JSON),
    **dict.fromkeys(
        (
            *("yaml.load", "yaml.safe_load", "yaml.full_load", "yaml.unsafe_load"),
            *("ruamel.yaml.load", "ruamel.yaml.safe_load", "ruamel.yaml.YAML.load"),
        ),
        Format.YAML,
    ),
    **dict.fromkeys(
        (f"{package}.{name}" for package in _TOML for name in ("load", "loads")), Format.TOML
    ),
}
_LOAD = "omegaconf.OmegaConf.load"


def call(run: Run, name: str, arguments: Arguments) -> Value | None:
    """Follow the opening and reading of a file; None: it is something else, or not known."""
    first = arguments.positional[0] if arguments.positional else None
    if name in _OPENS:
        return _opened(first)
    written = _READERS.get(name)
    if written is Format.TOML and isinstance(first, Constant):
        first = _opened(first)  # toml.load() is given a path
    if written is not None and isinstance(first, File | Opaque):
        found = _read(run, first, written)
        made_by_hand = "object_hook" in arguments.keywords  # such as into a SimpleNamespace
        return options.nested(run, found) if made_by_hand else found
    if name == _LOAD and first is not None:
        return options.nested(run, _read(run, _opened(first) or first, Format.YAML))
    return None


def _opened(path: Value | None) -> File | None:
    match path:
        case File():
            return path
        case Constant(value=str(name)):
            return File(name)
    return None


def _read(run: Run, file: Value, written: Format) -> Value:
    """Return the settings of a file, or what all files agree on that it may be."""
    module = run.frame.module
    text = run.project.text_beside(file.path, module) if isinstance(file, File) else None
    found = plain_files.read(text, written) if text else None
    if found is None:
        found = settings_files.agreed_in_project(run.project, module, written)
    return as_value("settings", found) if found else Opaque("settings")


def as_value(name: str, found: object) -> Value:
    """Return what was read as values, which someone may edit."""
    if isinstance(found, dict):
        values = tuple(as_value(str(key), value) for key, value in found.items())
        return Container(values, tuple(found))
    return plain(name, found)

"""Settings in INI files: `config = ConfigParser()`, `config.read("train.ini")`, `config.getint`."""

from __future__ import annotations

import configparser
from ast import literal_eval
from collections.abc import Mapping

from bncheck.source.plain_files import LONGEST
from bncheck.source.timeline.arguments import Arguments
from bncheck.source.timeline.configurations import plain
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.values import Constant, File, Settings, Value

_PARSERS = frozenset({"ConfigParser", "RawConfigParser", "SafeConfigParser"})
_GETTERS = frozenset({"get", "getint", "getfloat"})


class Sections(Settings):
    """What a parser of INI files has read, or one section of it."""


def made(name: str) -> Sections | None:
    """Return a parser that has read nothing yet; None: a call makes something else."""
    module, _, last = name.rpartition(".")
    return Sections({}) if last in _PARSERS and module.lower() == "configparser" else None


def method(run: Run, sections: Sections, name: str, arguments: Arguments) -> Value | None:
    """Follow the reading of a file, or of an entry; None: it is something else, or not known."""
    if name == "read" and arguments.positional:
        return _read(run, sections, arguments.positional[0])
    if name not in _GETTERS:
        return None
    found: Value | None = sections
    for key in arguments.positional:
        if isinstance(found, Sections) and isinstance(key, Constant):
            found = found.defaults.get(str(key.value))
    return found if not isinstance(found, Sections) else None


def _read(run: Run, sections: Sections, path: Value) -> Value | None:
    match path:
        case File(path=name) | Constant(value=str(name)):
            text = run.project.text_beside(name, run.frame.module)
            for section, entries in _parsed(text or "").items():
                named = {key: plain(key, value) for key, value in entries.items()}
                sections.defaults[section] = Sections(named)
            return sections
    return None


class _AsWritten(configparser.ConfigParser):
    def optionxform(self, optionstr: str) -> str:
        return optionstr


def _parsed(text: str) -> dict[str, Mapping[str, object]]:
    """Return the entries of each section, by the key as it is written and in lower case."""
    parser = _AsWritten(interpolation=None, strict=False)
    try:
        parser.read_string(text if len(text) <= LONGEST else "")
    except configparser.Error:
        return {}
    return {
        name: {k: _value(v) for key, v in parser[name].items() for k in (key, key.lower())}
        for name in parser.sections()
    }


def _value(text: str) -> object:
    try:
        found = literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return found if isinstance(found, int | float) else text

"""Settings that are merged, changed and handed on: `EasyDict(cfg)`, `cfg.update(vars(args))`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bncheck.source import settings_files
from bncheck.source.module import dotted
from bncheck.source.timeline import classes, ini
from bncheck.source.timeline.arguments import Arguments
from bncheck.source.timeline.configurations import CLASSES, below, files_for, replaced
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.values import NONE, Class, Constant, Container, Opaque, Settings, Value

Entries = Mapping[str, Value]
"""What a dict or settings object holds, by name."""

_CREATES = frozenset(
    """
    OmegaConf.create omegaconf.OmegaConf.create addict.Dict addict.addict.Dict munch.munchify
    munch.Munch.fromDict munch.DefaultMunch.fromDict
    """.split()  # noqa: SIM905
)


def entries(run: Run, value: Value | None) -> Entries | None:
    """Return what a dict or settings object holds, by name; None: it is no such thing."""
    match value:
        case Settings(defaults=defaults):
            return {**defaults, **run.heap.of(value)}
        case Container(elements=elements, keys=tuple(keys)) if all(
            isinstance(key, str) for key in keys
        ):
            return dict(zip(map(str, keys), elements, strict=True))
    return None


def dict_of(run: Run, arguments: Arguments) -> Container | None:
    """Return what `dict(...)` makes; None where not all of it is known."""
    given = arguments.positional[0] if arguments.positional else Container((), ())
    held = entries(run, given)
    if held is None or (isinstance(given, Container) and given.changed):
        return None
    known = {**held, **arguments.keywords}
    known.pop("*", None)
    return Container(tuple(known.values()), tuple(known), changed=not arguments.complete)


def made(run: Run, name: str, arguments: Arguments) -> Settings | None:
    """Return the object of known entries that a class or function makes of them; None: none."""
    if (sections := ini.made(name)) is not None:
        return sections
    if name.rpartition(".")[2] not in CLASSES and name not in _CREATES:
        return None
    given = [
        *arguments.positional,
        Container(tuple(arguments.keywords.values()), (*arguments.keywords,)),
    ]
    known: dict[str, Value] = {}
    for value in given:
        held = entries(run, value)
        if held is None:
            return None
        known.update(held)
    return _settings(run, known)


def of_own_class(run: Run, cls: Class, arguments: Arguments) -> Settings | None:
    """Return what a project's own class of dicts makes of one; None: it is no such class."""
    family = classes.ancestry(run.project, cls)
    bases = {dotted(base.value) for own in family.project for base in own.node.bases}
    if _DICTS.isdisjoint(family.external) and "dict" not in bases:
        return None
    match arguments.positional:
        case [Container() as given] if held := entries(run, given):
            return _settings(run, held)
    return None


_DICTS = frozenset(
    """
    collections.OrderedDict collections.UserDict easydict.EasyDict addict.Dict munch.Munch
    """.split()  # noqa: SIM905
)


def nested(run: Run, value: Value) -> Value:
    """Return a dict, and those in it, as settings."""
    held = entries(run, value) if isinstance(value, Container) else None
    return _settings(run, held) if held else value


def _settings(run: Run, known: Entries) -> Settings:
    made = Settings({})
    for name, value in known.items():
        if isinstance(value, Constant):
            made.defaults[name] = Constant(value.value, fixed=False)
        elif name != "*":
            run.heap.set(made, name, nested(run, value))
    return made


def put(run: Run, settings: Settings, name: str, value: Value) -> None:
    """Set one of the settings."""
    before = settings.defaults.get(name)
    if before is not None and run.heap.get(settings, name) is None:
        run.heap.at_the_bottom(settings, name, before)
    if isinstance(value, Constant):
        value = Constant(value.value, fixed=False)
    run.heap.set(settings, name, value)


def forget(run: Run, settings: Settings) -> None:
    """Note that any of the settings may have been given another value."""
    for name, value in (entries(run, settings) or {}).items():
        if isinstance(value, Settings):
            forget(run, value)
        elif isinstance(value, Constant):
            put(run, settings, name, Opaque(name))


def merge_file(run: Run, settings: Settings) -> None:
    """Follow `settings.merge_from_file(name)`, where the name comes from a command line."""
    keys = (entries(run, settings) or {}).keys()
    trees = files_for(run.project, run.frame.module, keys)
    if trees:
        _merge(run, settings, trees)
    else:
        forget(run, settings)


def _merge(run: Run, settings: Settings, trees: Sequence[settings_files.Tree]) -> None:
    for name, value in (entries(run, settings) or {}).items():
        if isinstance(value, Settings):
            _merge(run, value, below(name, trees))
        elif isinstance(value, Constant):
            put(run, settings, name, replaced(name, value, trees))


def update(run: Run, settings: Settings, arguments: Arguments) -> None:
    """Follow `settings.update(...)`."""
    for given in arguments.positional:
        held = entries(run, given)
        if held is None:
            forget(run, settings)
        for name, value in (held or {}).items():
            put(run, settings, name, value)
    if not arguments.complete:
        forget(run, settings)
    for name, value in arguments.keywords.items():
        if name != "*":
            put(run, settings, name, value)


def method(run: Run, settings: Settings, name: str, arguments: Arguments) -> Value:
    """Follow `settings.name(...)`, where that is no function that was put into them."""
    if isinstance(settings, ini.Sections):
        return ini.method(run, settings, name, arguments) or Opaque(name)
    match name:
        case "update" | "merge_update":
            update(run, settings, arguments)
        case "get" | "pop" if arguments.positional:
            key, *default = arguments.positional
            held = entries(run, settings) or {}
            if isinstance(key, Constant) and key.value in held:
                return held[str(key.value)]
            return Opaque(holds=tuple(run.reachable(default[0]))) if default else NONE
        case "copy" | "clone":
            return _settings(run, entries(run, settings) or {})
        case "merge_from_file":
            merge_file(run, settings)
        case "merge_from_list" if not isinstance(arguments.get(0, "cfg_list"), Container):
            pass  # of a command line, which gives none by default
        case _ if name.startswith(("merge", "load", "parse", "read", "override", "set_")):
            forget(run, settings)
    return Opaque(name)

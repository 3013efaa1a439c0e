"""Command lines made of classes or of flags: absl's, tyro's, transformers', OmegaConf's."""

from __future__ import annotations

import libcst as cst

from bncheck.source.timeline import calls, construction, options, told
from bncheck.source.timeline.arguments import Arguments
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.values import (
    Class,
    Constant,
    Container,
    Function,
    Instance,
    Opaque,
    Settings,
    Value,
)

_FLAGS = "absl.flags.FLAGS"
_DEFINES = "absl.flags.DEFINE_"
_OF_A_CLASS = frozenset(
    """
    tyro.cli draccus.parse pyrallis.parse simple_parsing.parse chz.entrypoint
    omegaconf.OmegaConf.structured
    """.split()  # noqa: SIM905
)
"""What makes an object of a class, with the defaults of its fields where nobody says otherwise."""
_CALLS_BACK = frozenset({"fire.Fire", "typer.run", "jsonargparse.CLI", "defopt.run", "plac.call"})
"""What calls a function with what a command line says, and its defaults else."""
_PARSER = "HfArgumentParser"
_MERGES = "omegaconf.OmegaConf.merge"
_NOTHING_GIVEN = "omegaconf.OmegaConf.from_cli"


def call(run: Run, node: cst.Call, name: str, arguments: Arguments) -> Value | None:
    """Follow a call that defines or reads a command line; None: it does neither."""
    first = arguments.get(0, "config_class")
    if name.startswith(_DEFINES):
        return _define(run, first, arguments.get(1, "default"))
    if name in _OF_A_CLASS and isinstance(first, Class):
        return construction.construct(run, node, first, Arguments())
    if name in _CALLS_BACK and isinstance(first, Function):
        return calls.call_value(run, node, first, Arguments())
    if name.endswith(_PARSER):
        given = first or arguments.get(None, "dataclass_types")
        listed = given.elements if isinstance(given, Container) else (given,)
        return Container(tuple(cls for cls in listed if isinstance(cls, Class)))
    if name == _NOTHING_GIVEN:
        return Settings({})
    if name == _MERGES:
        return _merged(run, arguments)
    return None


def parsed(run: Run, node: cst.Call, parser: Container, method: str) -> Value | None:
    """Return what transformers' parser makes of its classes; None: it is no such call."""
    if method != "parse_args_into_dataclasses":
        return None
    made = [
        construction.construct(run, node, cls, Arguments())
        for cls in parser.elements
        if isinstance(cls, Class)
    ]
    return Container(tuple(made))


def flag(run: Run, owner: str, name: str) -> Value | None:
    """Return what an absl flag is by default; None: it is none, or was not seen to be defined."""
    return run.heap.get(_FLAGS, name) if owner == _FLAGS else None


def _define(run: Run, name: Value | None, default: Value | None) -> Value:
    if isinstance(name, Constant):
        value = Constant(default.value, fixed=False) if isinstance(default, Constant) else Opaque()
        run.heap.set(_FLAGS, str(name.value), value)
    return Opaque()


def _merged(run: Run, arguments: Arguments) -> Value:
    """Return settings that are put on top of each other; what is unknown may change any."""
    made = Settings({})
    for value in arguments.positional:
        held = (
            told.fields(run, value) if isinstance(value, Instance) else options.entries(run, value)
        )
        if held is None:
            options.forget(run, made)
        else:
            _put(run, made, held)
    return made


def _put(run: Run, settings: Settings, held: options.Entries) -> None:
    before = options.entries(run, settings) or {}
    for name, value in held.items():
        below, inner = before.get(name), options.entries(run, value)
        if isinstance(below, Settings) and inner is not None:
            _put(run, below, inner)
        else:
            options.put(run, settings, name, options.nested(run, value))

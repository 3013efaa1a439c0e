"""Command lines: what argparse, click and typer say that an option is by default."""

from __future__ import annotations

import re
from functools import lru_cache

import libcst as cst

from bncheck.events import Number
from bncheck.graph import UNKNOWN
from bncheck.source import shell_scripts
from bncheck.source.module import dotted
from bncheck.source.timeline.arguments import Arguments
from bncheck.source.timeline.constants import module_constant
from bncheck.source.timeline.joining import join
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.syntax import string
from bncheck.source.timeline.values import Constant, Container, Opaque, Parser, Settings, Value


def parser_method(
    run: Run, parser: Parser, node: cst.Call, name: str, arguments: Arguments
) -> Value:
    """Follow the building of an argparse command line."""
    match name:
        case "add_argument":
            default = arguments.keywords.get("default")
            destination = arguments.keywords.get("dest")
            key = _destination(node)
            if isinstance(destination, Constant):
                key = str(destination.value)
            if isinstance(default, Constant):
                # `action="store_true", default=True` leaves nothing to choose.
                action = _ONLY.get(str(default.value))
                fixed = action is not None and arguments.keywords.get("action") == Constant(action)
                parser.defaults[key] = Constant(default.value, fixed)
            elif key:
                acts = arguments.keywords.get("action")
                switch = _SWITCHES.get(acts.value) if isinstance(acts, Constant) else None
                unset = Opaque(
                    key, texts=_texts(default), at_most=_given_by_scripts(run, key, default)
                )
                parser.defaults[key] = switch or unset
        case "set_defaults":
            for key, value in arguments.keywords.items():
                if isinstance(value, Constant):
                    parser.defaults[key] = Constant(value.value, fixed=False)
        case "parse_args":
            return Settings(_parsed(parser))
        case "parse_known_args":
            return Container((Settings(_parsed(parser)), Opaque()))
        case "add_argument_group" | "add_mutually_exclusive_group" | "add_subparsers":
            return parser
        case "add_parser":
            command = made(arguments)
            parser.commands.append(command)
            return command
    return Opaque()


def made(arguments: Arguments) -> Parser:
    """Return a new parser, with what its `parents` are told."""
    parents = arguments.keywords.get("parents")
    parser = Parser()
    for parent in parents.elements if isinstance(parents, Container) else ():
        if isinstance(parent, Parser):
            parser.defaults.update(parent.defaults)
    return parser


def _parsed(parser: Parser) -> dict[str, Value]:
    """Return what a command line leaves at its default, whichever subcommand it names."""
    told = [_parsed(command) for command in parser.commands]
    every = dict.fromkeys(key for one in told for key in one)
    chosen = {key: join([one[key] for one in told if key in one]) for key in every}
    return {**parser.defaults, **chosen}


_BATCH_SIZE = re.compile(r"batch_?(?:size|sz)|^bs$", re.IGNORECASE)


def _given_by_scripts(run: Run, key: str, default: Value | None) -> Number:
    """Return the largest batch that the project's shell scripts ask for, where none is default."""
    if default is not None or not _BATCH_SIZE.search(key):
        return UNKNOWN
    given = shell_scripts.largest_given(run.project, run.frame.module, key)
    return UNKNOWN if given is None else given


def _texts(default: Value | None) -> tuple[str, ...]:
    """Return the texts of a list that an option is by default."""
    elements = default.elements if isinstance(default, Container) else ()
    texts = [element.value for element in elements if isinstance(element, Constant)]
    return tuple(text for text in texts if isinstance(text, str))


_SWITCHES: dict[object, Constant] = {
    "store_true": Constant(False, fixed=False),
    "store_false": Constant(True, fixed=False),
}
"""What the actions that set a switch leave it at."""
_ONLY = {"True": "store_true", "False": "store_false"}
"""The action that sets nothing but what the default is already."""


def _destination(node: cst.Call) -> str:
    """Return the name that an option's value goes by."""
    flags = [string(argument.value) for argument in node.args if not argument.keyword]
    named = [flag for flag in flags if flag]
    long = next((flag for flag in named if flag.startswith("--")), named[0] if named else "")
    return long.lstrip("-").replace("-", "_")


@lru_cache(maxsize=1024)
def option_defaults(function: cst.FunctionDef) -> dict[str, Value]:
    """Return the defaults of the options that click's decorators give to a function."""
    found: dict[str, Value] = {}
    for decorator in function.decorators:
        match decorator.decorator:
            case cst.Call(func=func, args=arguments) as call if (dotted(func) or "").rpartition(
                "."
            )[2] == "option":
                for argument in arguments:
                    if argument.keyword is not None and argument.keyword.value == "default":
                        found[_destination(call)] = module_constant(argument.value)
    return found

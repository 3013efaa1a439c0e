"""What the converting commands have in common: their options, and what they print."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bncheck.errors import BNCheckError

if TYPE_CHECKING:
    from bncheck.convert.files import Conversions

Function = TypeVar("Function", bound=Callable[..., Any])

trust_option = click.option(
    "--trust",
    multiple=True,
    metavar="NAME",
    help="Allow a pickle the classes of this package, or this class or function; it is imported.",
)
architecture_option = click.option(
    "--arch",
    "architecture",
    metavar="PACKAGE.MODULE:CALLABLE",
    help="What builds the model that a state dict belongs to; it is imported and called.",
)
input_option = click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="SHAPE",
    help="Shape of an example input, such as 1,3,224,224 or 1,16:int64; repeat for several.",
)
format_option = click.option(
    "--format",
    "output_format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
)


def conversion_options(function: Function) -> Function:
    """Add MODEL and the options of every conversion."""
    for option in (
        format_option,
        click.option(
            "--as-module", is_flag=True, help="Store a state dict's model as a pickled module."
        ),
        click.option("--dry-run", is_flag=True, help="Convert and verify, but write nothing."),
        trust_option,
        architecture_option,
        input_option,
        click.option(
            "-o", "--output", type=click.Path(path_type=Path), help="Where the result goes."
        ),
        click.argument("model", type=click.Path(path_type=Path)),
    ):
        function = option(function)
    return function


def run_conversion(
    context: click.Context,
    conversions: Callable[[], Conversions],
    done: str,
    *,
    model: Path,
    output: Path | None,
    inputs: tuple[str, ...],
    architecture: str | None,
    trust: tuple[str, ...],
    dry_run: bool,
    as_module: bool,
    output_format: str,
    evaluate: bool = False,
) -> None:
    """Convert a file and report; exit with 1 where verification fails."""
    if output is None and not dry_run:
        raise BNCheckError("say where the result goes with -o, or give --dry-run")
    from bncheck.convert.files import Request, convert_file
    from bncheck.report import conversion as report

    request = Request(
        path=model,
        output=None if dry_run else output,
        inputs=inputs,
        architecture=architecture,
        trust=trust,
        evaluate=evaluate,
        as_module=as_module,
    )
    with warnings.catch_warnings():
        if not context.find_root().obj:  # --debug shows them
            warnings.simplefilter("ignore")
        try:
            outcome = convert_file(request, conversions())
        except (BNCheckError, OSError, MemoryError):
            raise
        except Exception as problem:
            lines = str(problem).strip().splitlines() or [""]
            raise BNCheckError(
                f"{model} could not be {done}, and nothing was written: {type(problem).__name__}: "
                f"{lines[0]} (--debug shows where; this is a bug of bncheck's, please report it)"
            ) from problem
    if output_format == "json":
        click.echo(report.as_json(outcome))
    else:
        for line in report.as_text(outcome, done):
            click.echo(line)
    verification = outcome.result.verification
    context.exit(1 if verification is not None and not verification.passed else 0)

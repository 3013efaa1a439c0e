"""`bncheck verify`: whether two models compute the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bncheck.commands._conversion import format_option, input_option, trust_option
from bncheck.errors import BNCheckError


@click.command("verify")
@click.argument("original", type=click.Path(path_type=Path))
@click.argument("converted", type=click.Path(path_type=Path))
@input_option
@click.option(
    "--arch",
    "architectures",
    multiple=True,
    metavar="PACKAGE.MODULE:CALLABLE",
    help="What builds the model of a state dict; given twice, the second is CONVERTED's.",
)
@trust_option
@format_option
@click.pass_context
def command(
    context: click.Context,
    original: Path,
    converted: Path,
    inputs: tuple[str, ...],
    architectures: tuple[str, ...],
    trust: tuple[str, ...],
    output_format: str,
) -> None:
    """Compare CONVERTED with ORIGINAL in eval mode on the same inputs, against float64.

    It passes where its error is no more than a small multiple of the original's own rounding
    error. Exits with 0 if it passes, 1 if not, and 2 where a model cannot be read or run.
    """
    if len(architectures) > 2:
        raise BNCheckError("--arch is given once for both models, or twice")
    import json

    from bncheck.model.inputs import example_inputs
    from bncheck.model.kinds import Kind
    from bncheck.model.load import load
    from bncheck.report.conversion import verdict_as_text, verification_object
    from bncheck.verification.compare import verify

    chosen = iter((*architectures, *architectures))
    models: list[Any] = []
    for path in (original, converted):
        try:
            loaded = load(path, trust=trust)
        except BNCheckError:
            if not architectures:
                raise
            loaded = load(path, architecture=next(chosen), trust=trust)
        if loaded.kind in (Kind.STATE_DICT, Kind.SAFETENSORS):
            loaded.model.eval()
        models.append(loaded.model)
    args, kwargs, note = example_inputs(models[0], inputs)
    verification = verify(models[0], models[1], args, kwargs)
    if output_format == "json":
        click.echo(json.dumps(verification_object(verification), indent=2))
    else:
        click.echo(verdict_as_text(verification))
        if note:
            click.echo(f"Note: {note}.")
    context.exit(0 if verification.passed else 1)

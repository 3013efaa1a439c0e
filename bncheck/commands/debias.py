"""`bncheck debias`: a checkpoint without the biases that BatchNorm subtracts again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from bncheck.commands._conversion import conversion_options, run_conversion
from bncheck.errors import BNCheckError

if TYPE_CHECKING:
    from bncheck.convert.files import Conversions


def _pairs(
    _: click.Context, __: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[str, str], ...]:
    pairs = []
    for text in (text for value in values for text in value.split(",")):
        layer, colon, batch_norm = (part.strip() for part in text.partition(":"))
        if not (layer and colon and batch_norm):
            raise BNCheckError(f"--pairs {text} is not LAYER:BATCHNORM, such as conv1:bn1")
        pairs.append((layer, batch_norm))
    return tuple(pairs)


@click.command("debias")
@conversion_options
@click.option(
    "--eval", "evaluate", is_flag=True, help="Switch a model in train mode to eval mode first."
)
@click.option(
    "--model",
    "named",
    metavar="PACKAGE.MODULE:CALLABLE",
    help="The same as --arch.",
)
@click.option(
    "--pairs",
    multiple=True,
    callback=_pairs,
    metavar="LAYER:BATCHNORM",
    help="With a state dict alone: which BatchNorm alone reads which layer, such as conv1:bn1.",
)
@click.pass_context
def command(
    context: click.Context,
    /,
    pairs: tuple[tuple[str, str], ...],
    named: str | None,
    **options: Any,
) -> None:
    """Remove the biases of MODEL that a BatchNorm subtracts again (BN101), and verify.

    MODEL is a pickled module, or a state dict (also safetensors) with --arch, the model as it was
    when it was saved. Each bias goes into the running mean of its BatchNorm and its key leaves the
    state dict, which then fits the source that BN101's fix makes. With --pairs a state dict needs
    no model: the pairs are taken at their word, and nothing can be verified.
    """
    options["architecture"] = options["architecture"] or named
    if pairs:
        _debias_pairs(pairs, **options)
    else:
        run_conversion(context, _conversions, "debiased", **options)


def _conversions() -> Conversions:
    from bncheck.convert.debias import debias
    from bncheck.convert.files import Conversions
    from bncheck.model.kinds import Kind

    def debiased(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return debias(model, args, kwargs)

    graph = "its layers cannot be changed; give the model that it was made from"
    return Conversions(
        "debias",
        {Kind.MODULE: debiased, Kind.STATE_DICT: debiased, Kind.SAFETENSORS: debiased},
        {Kind.TORCHSCRIPT: graph, Kind.EXPORTED: graph},
        in_eval_only=True,
        without_model=", or the pairs with --pairs conv1:bn1",
    )


def _debias_pairs(pairs: tuple[tuple[str, str], ...], **options: Any) -> None:
    """Change a state dict that comes without its model."""
    unused = [
        name
        for name, value in (
            ("--arch", options["architecture"]),
            ("--input", options["inputs"]),
            ("--as-module", options["as_module"]),
        )
        if value
    ]
    if unused:
        raise BNCheckError(f"--pairs is for a state dict without its model; leave {unused[0]} out")
    if options["output"] is None and not options["dry_run"]:
        raise BNCheckError("say where the result goes with -o, or give --dry-run")
    from bncheck.convert.debias_state import debias_state_file
    from bncheck.report import conversion as report

    output = None if options["dry_run"] else options["output"]
    outcome = debias_state_file(options["model"], output, pairs, options["trust"])
    if options["output_format"] == "json":
        click.echo(report.as_json(outcome))
    else:
        for line in report.as_text(outcome, "debiased"):
            click.echo(line)

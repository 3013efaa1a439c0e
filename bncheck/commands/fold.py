"""`bncheck fold`: BatchNorm into the layers around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from bncheck.commands._conversion import conversion_options, run_conversion

if TYPE_CHECKING:
    from bncheck.convert.files import Conversions


@click.command("fold")
@conversion_options
@click.option(
    "--eval", "evaluate", is_flag=True, help="Switch a model in train mode to eval mode first."
)
@click.pass_context
def command(context: click.Context, /, **options: Any) -> None:
    """Fold every BatchNorm of MODEL that can be folded exactly, verify, and write the result.

    MODEL is a pickled module, a TorchScript archive, an exported program, or a state dict (also
    safetensors) with --arch; the result is of the same kind. Exits with 1, writing nothing, where
    verification fails, and with 2 where MODEL cannot be read.
    """
    run_conversion(context, _conversions, "folded", **options)


def _conversions() -> Conversions:
    from bncheck.convert.files import Conversions
    from bncheck.convert.fold import fold
    from bncheck.convert.torchscript import fold_torchscript
    from bncheck.model.kinds import Kind

    def folded(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return fold(model, args, kwargs)

    return Conversions(
        "fold",
        {
            Kind.MODULE: folded,
            Kind.STATE_DICT: folded,
            Kind.SAFETENSORS: folded,
            Kind.TORCHSCRIPT: fold_torchscript,
        },
        {
            Kind.EXPORTED: "give the model that it was made from",
        },
        in_eval_only=True,
    )

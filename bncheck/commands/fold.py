"""`bncheck fold`: BatchNorm into the layers around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from bncheck.commands._conversion import Function, conversion_options, run_conversion
from bncheck.errors import BNCheckError

if TYPE_CHECKING:
    from bncheck.convert.files import Conversions


FOLD_OPTIONS = {
    "partial": "Turn each BatchNorm that cannot go into one multiply-add.",
    "duplicate_shared": "Give each use of shared parameters its own copy where they must differ.",
    "bake_parametrizations": "Fold into computed weights (weight_norm and the like): fix them.",
    "keep_class": "Leave a BatchNorm that only a torch.fx.GraphModule could do without.",
}


def _fold_options(function: Function) -> Function:
    for name, text in reversed(FOLD_OPTIONS.items()):
        function = click.option(f"--{name.replace('_', '-')}", is_flag=True, help=text)(function)
    return function


@click.command("fold")
@conversion_options
@click.option(
    "--eval", "evaluate", is_flag=True, help="Switch a model in train mode to eval mode first."
)
@_fold_options
@click.pass_context
def command(context: click.Context, /, **options: Any) -> None:
    """Fold every BatchNorm of MODEL that can be folded exactly, verify, and write the result.

    MODEL is a pickled module, a TorchScript archive, an exported program, or a state dict (also
    safetensors) with --arch; the result is of the same kind. Exits with 1, writing nothing, where
    verification fails, and with 2 where MODEL cannot be read.
    """
    wanted = {name for name in FOLD_OPTIONS if options.pop(name)}
    run_conversion(context, lambda: _conversions(wanted), "folded", **options)


def _conversions(wanted: set[str]) -> Conversions:
    from bncheck.convert.files import Conversions
    from bncheck.convert.fold import fold, fold_exported
    from bncheck.convert.torchscript import fold_torchscript
    from bncheck.model.kinds import Kind

    def folding(function: Callable[..., Any], *allowed: str, **more: bool) -> Callable[..., Any]:
        def convert(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            for name in sorted(wanted - set(allowed)):
                raise BNCheckError(
                    f"--{name.replace('_', '-')} does not apply to this kind of file; leave it out"
                )
            return function(model, args, kwargs, **(dict.fromkeys(wanted, True) | more))

        return convert

    # A state dict belongs to a class, which a graph module is not.
    weights = folding(
        fold, "bake_parametrizations", "duplicate_shared", "keep_class", keep_class=True
    )
    return Conversions(
        "fold",
        {
            Kind.MODULE: folding(fold, *FOLD_OPTIONS),
            Kind.STATE_DICT: weights,
            Kind.SAFETENSORS: weights,
            Kind.TORCHSCRIPT: folding(
                fold_torchscript, "bake_parametrizations", "duplicate_shared", "partial"
            ),
            Kind.EXPORTED: folding(fold_exported, "bake_parametrizations", "duplicate_shared"),
        },
        {},
        in_eval_only=True,
    )

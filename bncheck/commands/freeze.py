"""`bncheck freeze`: BatchNorm to a layer that training does not move."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from bncheck.commands._conversion import conversion_options, run_conversion

if TYPE_CHECKING:
    from bncheck.convert.files import Conversions


@click.command("freeze")
@conversion_options
@click.pass_context
def command(context: click.Context, /, **options: Any) -> None:
    """Replace each BatchNorm of MODEL by a layer whose statistics and parameters are buffers.

    Neither train() nor an optimizer moves them. The layer is bncheck.frozen.FrozenBatchNorm, so
    the result needs bncheck where it is loaded. Verified by training a copy for three steps.
    """
    run_conversion(context, _conversions, "frozen", **options)


def _conversions() -> Conversions:
    from bncheck.convert.files import of_layers
    from bncheck.convert.freeze import freeze

    return of_layers(
        "freeze",
        freeze,
        weights="its names and values would be the same frozen; load it into a model that was "
        "frozen",
        graph="its layers cannot be replaced; freeze the model that it was made from",
    )

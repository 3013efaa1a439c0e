"""`bncheck sync`: BatchNorm to SyncBatchNorm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from bncheck.commands._conversion import conversion_options, run_conversion

if TYPE_CHECKING:
    from bncheck.convert.files import Conversions


@click.command("sync")
@conversion_options
@click.pass_context
def command(context: click.Context, /, **options: Any) -> None:
    """Replace each BatchNorm of MODEL by SyncBatchNorm, verify, and write the result.

    SyncBatchNorm takes its statistics over all processes of a distributed training. A BatchNorm
    subclass that also does something else stays, and is named.
    """
    run_conversion(context, _conversions, "converted", **options)


def _conversions() -> Conversions:
    from bncheck.convert.files import of_layers
    from bncheck.convert.sync import sync

    return of_layers(
        "sync",
        sync,
        weights="its names and values would be the same with SyncBatchNorm; load it into a model "
        "that was converted",
        graph="its layers are fixed and cannot be trained; convert the model that it was made from",
    )

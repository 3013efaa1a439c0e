"""The command line. Each command imports what it needs inside itself, so that `--help` is quick."""

from __future__ import annotations

import click

from bncheck import __version__


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="bncheck")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def main(context: click.Context, debug: bool) -> None:
    """Find Batch Normalization mistakes in PyTorch code and models, and convert with proof."""
    context.obj = {"debug": debug}

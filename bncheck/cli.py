"""The command line: every module of `bncheck.commands` is a command, imported when it is needed.

A command module imports click and light modules of bncheck only, and what it works with inside
its function, so that `--help` is quick and linting never meets torch.
"""

from __future__ import annotations

import importlib
import pkgutil
import traceback

import click

from bncheck import __version__, commands
from bncheck.errors import BNCheckError


def _show_tracebacks(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        context.find_root().obj = {"debug": True}


_debug = click.Option(
    ["--debug"],
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_tracebacks,
    help="Show the traceback of an error.",
)


class Commands(click.Group):
    """A group whose commands are the modules of `bncheck.commands`, each with its `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the modules; one that begins with `_` is no command."""
        names = (module.name for module in pkgutil.iter_modules(commands.__path__))
        return sorted(name for name in names if not name.startswith("_"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command; every command takes `--debug`."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command = importlib.import_module(f"{commands.__name__}.{cmd_name}").command
        if not isinstance(command, click.Command):
            raise TypeError(f"bncheck.commands.{cmd_name} has no click command named `command`")
        if _debug not in command.params:
            command.params.append(_debug)
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; what goes wrong ends as one sentence on stderr and exit code 2."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # click ends quietly
        except (BNCheckError, OSError, ImportError, RecursionError, MemoryError) as problem:
            if (ctx.obj or {}).get("debug"):
                traceback.print_exc()
            click.echo(f"bncheck: {_sentence(problem)}", err=True)
            ctx.exit(2)


def _sentence(problem: Exception) -> str:
    if isinstance(problem, OSError) and problem.filename is not None:
        return f"{problem.filename}: {problem.strerror}"
    if isinstance(problem, ModuleNotFoundError) and problem.name in {"torch", "safetensors"}:
        return f"{problem.name} is needed for models; install it with pip install 'bncheck[torch]'"
    if isinstance(problem, BNCheckError | OSError):
        return str(problem)
    return f"{type(problem).__name__}: {problem} (--debug shows where)"


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="bncheck")
def main() -> None:
    """Find Batch Normalization mistakes in PyTorch code and models, and convert with proof."""


main.params.append(_debug)

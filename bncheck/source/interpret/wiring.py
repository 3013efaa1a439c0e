"""Ties the look-up of global names to what runs the code behind them.

Names are looked up while code is run, and code is run to look them up: here the two meet.
"""

from __future__ import annotations

from bncheck.source.interpret.calls import call
from bncheck.source.interpret.classes import make_class
from bncheck.source.interpret.expressions import expression
from bncheck.source.interpret.machine import Frame
from bncheck.source.interpret.names import Names
from bncheck.source.interpret.statements import function_maker, sequence
from bncheck.source.interpret.values import Arguments
from bncheck.source.project import Project


def names_of(project: Project) -> Names:
    """Return the global names of a project's files, of which nothing is run yet."""
    return Names(
        project,
        lambda frame, node: function_maker(node)(frame),
        make_class,
        lambda frame, node: expression(node)(frame),
        lambda machine, module: Frame(machine, module, is_module=True),
        lambda frame, node: sequence([node])(frame),
        lambda machine, function, value: call(machine, function, Arguments([value]), None),
    )

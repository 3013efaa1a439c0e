"""Networks of libraries that a constructor picks by a name that it is given."""

from __future__ import annotations

import libcst as cst

from bncheck.source.module import dotted
from bncheck.source.project import External
from bncheck.source.timeline import expressions, functions, model_libraries, zoo
from bncheck.source.timeline.arguments import Arguments
from bncheck.source.timeline.classes import kept, members
from bncheck.source.timeline.frames import in_frame
from bncheck.source.timeline.ingredients import meanings
from bncheck.source.timeline.mentioned import mentioned_in
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.values import Class, Constant, Frame, Value


def picks_batch_norm(run: Run, cls: Class, arguments: Arguments) -> bool:
    """Tell whether `__init__` keeps a library's network with BatchNorm, by its name.

    `self.encoder = timm.create_model(settings.encoder)`, where it is known what is given.
    """
    init = members(cls.node).get("__init__")
    if not isinstance(init, cst.FunctionDef):
        return False
    mentioned = mentioned_in(init)
    for _, value in kept(init):
        match value:
            case cst.Call(func=func, args=[first, *_]):
                libraries = [
                    meaning.name
                    for meaning in meanings(run.project, mentioned, dotted(func) or "", cls.module)
                    if isinstance(meaning, External)
                    and model_libraries.zoo_model(meaning.name, None) is not None
                ]
                name = _within(run, cls, init, arguments, first.value) if libraries else None
                if any(zoo.holds(library, name) is True for library in libraries):
                    return True
    return False


def _within(
    run: Run,
    cls: Class,
    init: cst.FunctionDef,
    arguments: Arguments,
    expression: cst.BaseExpression,
) -> Value:
    """Return what an expression is in a constructor."""
    frame = Frame(cls.module, f"{cls.node.name.value}.__init__")
    functions.bind_parameters(run, frame, init, Constant(None), arguments)
    with in_frame(run, frame), run.block():
        return expressions.evaluate(run, expression)

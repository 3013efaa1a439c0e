"""Statements that look as though they switched a model's mode: `model.eval`, `training = False`."""

from __future__ import annotations

import libcst as cst

from bncheck.events import Mode, ModeNotCalled
from bncheck.source.module import dotted
from bncheck.source.timeline import classes, constructors, expressions
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.values import (
    Class,
    Constant,
    Members,
    Models,
    Opaque,
    Value,
    truth,
)


def only_named(run: Run, node: cst.BaseExpression) -> None:
    """Note a statement that names a method which switches modes, and does not call it."""
    match node:
        case cst.Attribute(value=owner, attr=cst.Name(value="eval" | "train" as name)):
            text = dotted(owner)
        case _:
            return
    receiver = expressions.evaluate(run, owner) if text is not None else None
    if isinstance(receiver, Opaque) and run.looks_like_a_model(receiver):
        receiver = run.promote(receiver)
    if isinstance(receiver, Members) and receiver.one:
        receiver = Models((receiver.model,))
    for model in receiver.models if isinstance(receiver, Models) else ():
        mode = Mode.EVAL if name == "eval" else Mode.TRAIN
        run.emit(ModeNotCalled(run.site(node), model, mode, False, f"{text}.{name}"))


def assigned(run: Run, node: cst.Attribute, models: Models, value: Value) -> bool:
    """Tell whether an assignment to an attribute of a model means its mode; note it if so.

    `model.train = False` hides the method, unless the class keeps a flag of its own by that name.
    """
    name = node.attr.value
    if name not in {"training", "train", "eval"}:
        return False
    known = truth(value)
    if name != "training" and not (isinstance(value, Constant) and isinstance(known, bool)):
        return False
    for model in models.models:
        cls = run.classes.get(model)
        if name != "training" and (cls is None or _keeps(run, cls, name)):
            continue
        mode = Mode.UNKNOWN
        if isinstance(known, bool):
            mode = Mode.TRAIN if known is (name != "eval") else Mode.EVAL
        label = dotted(node) or name
        run.emit(ModeNotCalled(run.site(node), model, mode, True, label))
    return True


def _keeps(run: Run, cls: Class, name: str) -> bool:
    """Tell whether a class may have something of its own under the name of the method."""
    family = classes.ancestry(run.project, cls)
    return bool(family.unknown) or any(
        name in constructors.assigned_in_init(one.node) or name in classes.members(one.node)
        for one in family.project
    )

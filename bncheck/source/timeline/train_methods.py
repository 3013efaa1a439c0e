"""What a network's own `train` method makes of its mode."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import libcst as cst

from bncheck.events import Fact
from bncheck.graph import UNKNOWN, Site
from bncheck.source.module import SourceModule, dotted
from bncheck.source.timeline import classes, known
from bncheck.source.timeline.syntax import identifiers
from bncheck.source.walk import walk, walk_kinds
from bncheck.timeline import TrainOverride

_RESULT_USED = re.compile(r"(?:=|return)\s*[\w.]+(?:\([^()]*\))?\.(?:eval|train)\(\w*\)")


def train_override(
    module: SourceModule, owner: cst.ClassDef, method: cst.FunctionDef
) -> TrainOverride:
    """Return what is to be known of a class's `train` method."""
    parameters = method.params.params[1:]
    star = isinstance(method.params.star_arg, cst.Param) or method.params.star_kwarg is not None
    mode = parameters[0].name.value if parameters else ""
    names = identifiers(method.body)
    trains = bool(
        names & {"backward", "zero_grad", "DataLoader", "dataloader", "train_loader", "criterion"}
        or {"optimizer", "epoch"} & names
        or {"epochs", "n_epochs", "num_epochs"} & names
        or len(parameters) > 1
    )
    calls_super = _calls_super(method)
    return TrainOverride(
        Site(module.path, method.name),
        owner.name.value,
        takes_mode=bool(parameters) or star,
        passes_mode=_uses(method, mode, star),
        returns_self=_returns_self(method),
        calls_super=calls_super,
        result_used=bool(_RESULT_USED.search(module.text)),
        forces_training=_forces_training(method),
        trains_a_model=trains,
        speaks_of_batch_norm=_speaks_of_batch_norm(owner, names),
    )


def _speaks_of_batch_norm(owner: cst.ClassDef, names: frozenset[str]) -> bool:
    """Tell whether names, or the methods of the class among them, name a BatchNorm class."""
    methods = classes.members(owner)
    called = (methods[name] for name in names & methods.keys() - {"train"})
    return any(part & known.BATCH_NORMS for part in (names, *map(identifiers, called)))


def _uses(method: cst.FunctionDef, mode: str, star: bool) -> Fact:
    if not mode:
        return UNKNOWN if star else False
    if not _times(method.body, mode) or _trains_regardless(method, mode):
        return False
    return not _only_when_training(method, mode)


def _trains_regardless(method: cst.FunctionDef, mode: str) -> bool:
    """Tell whether it says `super().train()` before all else, and hands its mode to no method."""
    match next(iter(_statements(method)), None):
        case cst.Expr(
            value=cst.Call(
                func=cst.Attribute(
                    value=cst.Call(func=cst.Name(value="super")), attr=cst.Name(value="train")
                ),
                args=given,
            )
        ) if _all_true(given):
            return not any(
                _times(argument.value, mode)
                for call in walk_kinds(method.body, (cst.Call,))
                for argument in call.args
            ) and not identifiers(method.body) & {"eval", "training"}
    return False


def _statements(method: cst.FunctionDef) -> Iterator[cst.CSTNode]:
    """Yield a method's first statements, but for its docstring, up to one that holds others."""
    for line in method.body.body:
        if not isinstance(line, cst.SimpleStatementLine):
            return
        for statement in line.body:
            text = isinstance(statement, cst.Expr) and statement.value
            if not isinstance(text, cst.SimpleString | cst.ConcatenatedString):
                yield statement


def _all_true(arguments: Sequence[cst.Arg]) -> bool:
    """Tell whether every argument is True; there may be none."""
    values = (argument.value for argument in arguments)
    return all(isinstance(value, cst.Name) and value.value == "True" for value in values)


def _only_when_training(method: cst.FunctionDef, mode: str) -> bool:
    """Tell whether the mode decides only of what is done besides in train mode: `if mode: ...`."""
    asked = 0
    for node in walk(method.body):
        if not isinstance(node, cst.If) or mode not in identifiers(node.test):
            continue
        if node.orelse is not None or "train" in identifiers(node.body):
            return False
        if any(isinstance(part, cst.Not) for part in walk(node.test)):
            return False
        asked += _times(node.test, mode)
    return asked == _times(method.body, mode)


def _times(node: cst.CSTNode, name: str) -> int:
    """Tell how often a name stands there, but as the keyword of an argument, as in `mode=True`."""
    keywords = {id(argument.keyword) for argument in walk_kinds(node, (cst.Arg,))}
    names = walk_kinds(node, (cst.Name,))
    return sum(part.value == name and id(part) not in keywords for part in names)


def _returns_self(method: cst.FunctionDef) -> Fact:
    returns = [node for node in walk(method.body) if isinstance(node, cst.Return)]
    if not returns:
        return False
    for node in returns:
        match node.value:
            case None | cst.Name(value="None"):
                return False
            case cst.Name(value="self"):
                continue
            case _:
                return UNKNOWN
    return True


def _calls_super(method: cst.FunctionDef) -> Fact:
    names = identifiers(method.body)
    for node in walk(method.body):
        match node:
            case cst.Call(func=cst.Attribute(value=base, attr=cst.Name(value="train"))):
                if isinstance(base, cst.Call) and dotted(base.func) == "super":
                    return True
                if not isinstance(base, cst.Name) or base.value != "self":
                    return True
    return (
        True
        if {"children", "modules", "training"} & names
        else UNKNOWN
        if "train" in names
        else False
    )


def _forces_training(method: cst.FunctionDef) -> bool:
    """Tell whether it calls `train()` with no mode, or with True, of its base or of a part."""
    for node in walk(method.body):
        match node:
            case cst.Call(
                func=cst.Attribute(value=owner, attr=cst.Name(value="train")), args=arguments
            ):
                if isinstance(owner, cst.Attribute) and owner.attr.value == "Module":
                    arguments = arguments[1:]  # nn.Module.train(self, mode)
                elif not _is_own(owner):
                    continue
                if _all_true(arguments):
                    return True
    return False


def _is_own(owner: cst.BaseExpression) -> bool:
    """Recognise `super()` and `self.part`."""
    match owner:
        case cst.Call(func=cst.Name(value="super")):
            return True
        case cst.Attribute(value=cst.Name(value="self")):
            return True
    return False

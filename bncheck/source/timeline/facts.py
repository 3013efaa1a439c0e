"""What a file says of models without being followed: its networks and its freezing tests."""

from __future__ import annotations

import re
from collections.abc import Iterator

import libcst as cst

from bncheck.events import Fact
from bncheck.graph import UNKNOWN, Site
from bncheck.source.module import Imported, SourceModule, dotted
from bncheck.source.project import Project
from bncheck.source.timeline import (
    classes,
    ingredients,
    known,
)
from bncheck.source.timeline.stops import stops_gradients
from bncheck.source.timeline.syntax import identifiers, string
from bncheck.source.timeline.values import Class
from bncheck.source.walk import inside, walk, walk_kinds
from bncheck.timeline import FreezeTest, ModuleClass, TrainOverride

_FREEZES = re.compile(r"\.(?:eval\b|requires_grad|train\(False)")
_RESULT_USED = re.compile(r"(?:=|return)\s*[\w.]+(?:\([^()]*\))?\.(?:eval|train)\(\w*\)")


def module_classes(module: SourceModule, project: Project) -> Iterator[ModuleClass]:
    """Yield the network classes at the top of a file."""
    for bindings in module.bindings.values():
        for binding in bindings:
            if not isinstance(binding, cst.ClassDef):
                continue
            cls = Class(binding, module)
            if classes.is_network(project, cls) is not True:
                continue
            holds, kinds = ingredients.holds(project, cls)
            method = classes.members(binding).get("train")
            yield ModuleClass(
                binding.name.value,
                Site(module.path, binding.name),
                holds,
                kinds,
                _train_override(module, binding, method)
                if isinstance(method, cst.FunctionDef) and "eval" not in classes.members(binding)
                else None,
                classes.framework(project, cls),
                classes.own_train(project, cls) or UNKNOWN
                if classes.ancestry(project, cls).unknown
                else classes.own_train(project, cls),
            )


def _train_override(
    module: SourceModule, owner: cst.ClassDef, method: cst.FunctionDef
) -> TrainOverride:
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
    if mode not in identifiers(method.body) or _trains_regardless(method, mode):
        return False
    return not _only_when_training(method, mode)


def _trains_regardless(method: cst.FunctionDef, mode: str) -> bool:
    """Tell whether it says `super().train()` before all else, and hands its mode to no method."""
    first = method.body.body[0] if isinstance(method.body, cst.IndentedBlock) else None
    match first:
        case cst.SimpleStatementLine(
            body=[
                cst.Expr(
                    value=cst.Call(
                        func=cst.Attribute(
                            value=cst.Call(func=cst.Name(value="super")),
                            attr=cst.Name(value="train"),
                        ),
                        args=[],
                    )
                )
            ]
        ):
            return not any(
                mode in identifiers(argument)
                for call in walk_kinds(method.body, (cst.Call,))
                for argument in call.args
            ) and not identifiers(method.body) & {"eval", "training"}
    return False


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
    return sum(isinstance(part, cst.Name) and part.value == name for part in walk(node))


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
                given = [argument.value for argument in arguments]
                if isinstance(owner, cst.Attribute) and owner.attr.value == "Module":
                    given = given[1:]  # nn.Module.train(self, mode)
                elif not _is_own(owner):
                    continue
                if all(isinstance(value, cst.Name) and value.value == "True" for value in given):
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


def freeze_tests(module: SourceModule) -> Iterator[FreezeTest]:
    """Yield the tests for a class in a file whose body freezes what passes them."""
    text = module.text
    if "BatchNorm" not in text or not _FREEZES.search(text):
        return
    stack: list[tuple[cst.CSTNode, cst.FunctionDef | None, str]] = [(module.tree, None, "")]
    while stack:
        node, function, owner = stack.pop()
        match node:
            case cst.ClassDef(name=cst.Name(value=name)):
                owner = name
            case cst.FunctionDef():
                function = node
            case cst.If(test=test, body=body) if not isinstance(test, cst.UnaryOperation):
                yield from _freeze_test(module, test, body, function, owner)
            case cst.For(iter=over, body=body):
                yield from _freeze_test(module, over, body, function, owner)
            case cst.SimpleStatementLine(body=[cst.Expr(value=cst.ListComp(elt=body) as listed)]):
                yield from _freeze_test(module, listed.for_in, body, function, owner)
        for child in inside(node):
            if isinstance(child, _STATEMENTS):
                stack.append((child, function, owner))


_STATEMENTS = (cst.BaseCompoundStatement, cst.BaseSuite, cst.Else, cst.SimpleStatementLine)


def _freeze_test(
    module: SourceModule,
    test: cst.CSTNode,
    body: cst.CSTNode,
    function: cst.FunctionDef | None,
    owner: str,
) -> Iterator[FreezeTest]:
    tested = list(_tested_classes(module, test))
    evals = [part for part in walk(body) if _puts_in_eval(part)] if tested else []
    stops = bool(tested) and any(stops_gradients(part) for part in walk(body))
    for mark, names, text in tested if evals or stops else ():
        yield FreezeTest(
            Site(module.path, mark),
            names,
            text,
            bool(evals),
            stops,
            function.name.value if function is not None else "",
            owner,
            Site(module.path, evals[0]) if evals else None,
            function is not None and _sets_requires_grad(function),
        )


def _puts_in_eval(node: cst.CSTNode) -> bool:
    match node:
        case cst.Call(func=cst.Attribute(attr=cst.Name(value="eval"))):
            return True
        case cst.Call(
            func=cst.Attribute(attr=cst.Name(value="train")),
            args=[cst.Arg(value=cst.Name(value="False"))],
        ):
            return True
    return False


_ONE_KIND = re.compile(r"BatchNorm[123]d$")


def _tested_classes(
    module: SourceModule, test: cst.CSTNode
) -> Iterator[tuple[cst.CSTNode, tuple[str, ...], str]]:
    """Yield where a test names classes, their qualified names, and how one may be written anew."""
    for part in walk(test):
        match part:
            case cst.Call(func=cst.Name(value="isinstance"), args=[_, second]):
                named = tuple(_qualified(module, second.value))
                yield second.value, named, dotted(second.value) or ""
            case cst.Comparison(
                left=cst.Call(func=cst.Name(value="type"))
                | cst.Attribute(attr=cst.Name(value="__class__")),
                comparisons=[cst.ComparisonTarget(comparator=named_class)],
            ):
                yield named_class, tuple(_qualified(module, named_class)), ""
            case cst.SimpleString() if _ONE_KIND.match(string(part) or ""):
                yield part, (f"torch.nn.{string(part)}",), ""


def _sets_requires_grad(function: cst.FunctionDef) -> bool:
    for part in walk(function.body):
        match part:
            case cst.AssignTarget(target=cst.Attribute(attr=cst.Name(value="requires_grad"))):
                return True
            case cst.Call(func=cst.Attribute(attr=cst.Name(value="requires_grad_"))):
                return True
    return False


def _qualified(module: SourceModule, node: cst.BaseExpression) -> Iterator[str]:
    match node:
        case cst.Tuple(elements=elements) | cst.List(elements=elements):
            for element in elements:
                yield from _qualified(module, element.value)
            return
        case cst.BinaryOperation(left=left, right=right):
            yield from _qualified(module, left)
            yield from _qualified(module, right)
            return
    name = dotted(node)
    if name is None:
        yield "?"
        return
    head, _, rest = name.partition(".")
    for binding in module.bindings.get(head, ()):
        if isinstance(binding, Imported):
            origin = ".".join(filter(None, (binding.module, binding.attribute)))
            yield f"{origin}.{rest}" if rest else origin
            return
    yield name

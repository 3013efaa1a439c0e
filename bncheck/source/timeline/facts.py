"""What a file says of models without being followed: its networks and its freezing tests."""

from __future__ import annotations

import re
from collections.abc import Iterator

import libcst as cst

from bncheck.graph import UNKNOWN, Site
from bncheck.source.module import Imported, SourceModule, dotted
from bncheck.source.project import Project
from bncheck.source.timeline import (
    classes,
    ingredients,
)
from bncheck.source.timeline.stops import stops_gradients
from bncheck.source.timeline.syntax import mentions, string
from bncheck.source.timeline.train_methods import train_override
from bncheck.source.timeline.values import Class
from bncheck.source.timeline.while_made import freezes_while_made, switch_of
from bncheck.source.walk import inside, walk
from bncheck.timeline import FreezeTest, ModuleClass

_FREEZES = re.compile(r"\.(?:eval\b|requires_grad|train\(False)")


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
                train_override(module, binding, method)
                if isinstance(method, cst.FunctionDef) and "eval" not in classes.members(binding)
                else None,
                classes.framework(project, cls),
                classes.own_train(project, cls) or UNKNOWN
                if classes.ancestry(project, cls).unknown
                else classes.own_train(project, cls),
            )


def freeze_tests(module: SourceModule) -> Iterator[FreezeTest]:
    """Yield the tests for a class in a file whose body freezes what passes them."""
    text = module.text
    if "BatchNorm" not in text or not _FREEZES.search(text):
        return
    stack: list[tuple[cst.CSTNode, cst.FunctionDef | None, cst.ClassDef | None]]
    stack = [(module.tree, None, None)]
    while stack:
        node, function, owner = stack.pop()
        match node:
            case cst.ClassDef():
                owner = node
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
    owner: cst.ClassDef | None,
) -> Iterator[FreezeTest]:
    tested = list(_tested_classes(module, test))
    evals = [part for part in walk(body) if _puts_in_eval(part)] if tested else []
    stops = [part for part in walk(body) if stops_gradients(part)] if tested else []
    for mark, names, text in tested if evals or stops else ():
        yield FreezeTest(
            Site(module.path, mark),
            names,
            text,
            bool(evals),
            function.name.value if function is not None else "",
            owner.name.value if owner is not None else "",
            Site(module.path, evals[0]) if evals else None,
            Site(module.path, stops[-1]) if stops else None,
            function is not None and _sets_requires_grad(function),
            function is not None and owner is not None and _is_run_in_forward(owner, function),
            function is not None and owner is not None and freezes_while_made(owner, function),
            switch_of(owner, function, mark) if function is not None and owner is not None else "",
        )


def _is_run_in_forward(owner: cst.ClassDef, function: cst.FunctionDef) -> bool:
    return any(
        "forward" in name and function.name.value in mentions(method)
        for name, method in classes.members(owner).items()
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
    """Tell whether a function says which parameters take no gradient, not only which do."""
    for part in walk(function.body):
        match part:
            case cst.Assign(
                targets=[cst.AssignTarget(target=cst.Attribute(attr=cst.Name("requires_grad")))],
                value=value,
            ):
                if not _is_true(value):
                    return True
            case cst.Call(func=cst.Attribute(attr=cst.Name("requires_grad_")), args=args):
                if args and not _is_true(args[0].value):
                    return True
    return False


def _is_true(node: cst.BaseExpression) -> bool:
    return isinstance(node, cst.Name) and node.value == "True"


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

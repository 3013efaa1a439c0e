"""Loops over the modules or parameters of a model: what they do to which of them."""

from __future__ import annotations

import re
from dataclasses import replace

import libcst as cst

from bncheck.events import Mode, ModeChange, RequiresGrad, SetMomentum, Target
from bncheck.graph import UNKNOWN
from bncheck.source.module import dotted
from bncheck.source.timeline import expressions, shares, turning
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.shares import Refined
from bncheck.source.timeline.syntax import identifiers
from bncheck.source.timeline.values import Constant, Members, Opaque, Outside, Value, Weights, truth
from bncheck.source.walk import walk


def tested(run: Run, test: cst.BaseExpression) -> Refined | None:
    """Return what an `if` on a member of a model means; None: it is on something else."""
    turned = turning.tested(run, test)
    if turned is not None:
        return turned
    names = identifiers(test)
    for name, value in run.frame.names.items():
        if name in names and isinstance(value, Members) and value.one:
            break
    else:
        return None
    together = tuple(other for other, bound in run.frame.names.items() if bound == value)
    classes = _classes(run, test, name)
    if classes is None:
        return shares.tested(run, test, together, value)
    passed = replace(value, classes=classes)
    norms = target(passed) is Target.NORMS
    part = shares.without_norms(value) if norms else shares.some(value)
    if isinstance(test, cst.UnaryOperation):
        return Refined(together, part, passed, leaves=True)
    simple = isinstance(test, cst.Call | cst.Comparison)
    if not simple and not _only_or(test):
        passed = shares.some(passed)
    return Refined(together, passed, part)


def _only_or(test: cst.BaseExpression) -> bool:
    return not any(isinstance(node, cst.And | cst.Not) for node in walk(test))


def _classes(run: Run, test: cst.BaseExpression, name: str) -> tuple[str, ...] | None:
    found: list[str] = []
    for node in walk(test):
        match node:
            case cst.Call(func=cst.Name(value="isinstance"), args=[first, second]) if (
                dotted(first.value) == name
            ):
                found += class_names(run, second.value)
            case cst.Comparison(left=cst.Call(func=cst.Name(value="type")), comparisons=[right]):
                found += class_names(run, right.comparator)
    return tuple(sorted(found)) if found else None


def class_names(run: Run, node: cst.BaseExpression) -> list[str]:
    """Return the qualified names of a class or a tuple of them."""
    match node:
        case cst.Tuple(elements=elements) | cst.List(elements=elements):
            return [name for element in elements for name in class_names(run, element.value)]
        case cst.BinaryOperation(left=left, right=right):
            return class_names(run, left) + class_names(run, right)
    name = dotted(node)
    if name is None:
        return ["?"]
    head, _, rest = name.partition(".")
    value = run.look_up(head)
    if isinstance(value, Outside):
        return [f"{value.name}.{rest}" if rest else value.name]
    if _NORM_LAYER.search(name):
        kept = expressions.evaluate(run, node)
        return [kept.name if isinstance(kept, Outside) else "NormLayer"]
    return [name]


_NORM_LAYER = re.compile(r"(?:^|[._])(?:norm|bn|batch_?norm)_?(?:layer|class|cls|type|func|fn)s?$")
"""Names that a network keeps its norm's class under."""


_LEAVES = frozenset(
    f"torch.nn.{name}"
    for name in ("Conv1d", "Conv2d", "Conv3d", "ConvTranspose2d", "Linear", "Embedding", "PReLU")
)
"""Layers that hold no others."""


_ACTIVATED = re.compile(r"(?:InPlace)?ABN(?:Sync)?")
"""BatchNorms of inplace_abn, each with its activation."""


def target(members: Members) -> Target:
    """Return what of the model its members are."""
    last = [name.rpartition(".")[2] for name in members.classes]
    if last and all("Norm" in name or _ACTIVATED.fullmatch(name) for name in last):
        return Target.NORMS
    if last and all("Drop" in name for name in last):
        return Target.DROPOUTS
    if members.rest or (members.classes and _LEAVES.issuperset(members.classes)):
        return Target.REST
    return Target.PART if last or members.part else Target.WHOLE


def assign(run: Run, node: cst.CSTNode, members: Members, name: str, value: Value) -> None:
    """Follow `m.name = value` on the members of a model."""
    site = run.site(node)
    known = truth(value)
    match name:
        case "requires_grad":
            set_gradient(run, node, members, value)
        case "momentum":
            constant = value.value if isinstance(value, Constant) else Opaque()
            saved = any(_reads_momentum(code) for code in run.stack[-2:])
            run.emit(SetMomentum(site, members.model, constant, members.classes, saved))
        case "training":
            mode = Mode.UNKNOWN if known is None else Mode.TRAIN if known else Mode.EVAL
            run.emit(ModeChange(site, members.model, mode, target(members), members.classes))
        case "track_running_stats" if known is not True:
            # What train mode does to statistics is settled here by hand.
            kind, classes = target(members), members.classes
            run.emit(ModeChange(site, members.model, Mode.UNKNOWN, kind, classes))


def _reads_momentum(code: cst.CSTNode) -> bool:
    """Recognise `m.backup_momentum = m.momentum`."""
    return any(
        isinstance(node, cst.Assign)
        and isinstance(node.value, cst.Attribute)
        and node.value.attr.value == "momentum"
        for node in walk(code)
    )


def set_gradient(run: Run, node: cst.CSTNode, members: Members, value: Value) -> None:
    """Follow `requires_grad = value` on the members of a model."""
    known = truth(value)
    site, frame = run.site(node), run.frame
    # Helpers may call helpers: the finding stands where one of them is told which network.
    while (
        frame.use is not None
        and run.project.said.call_in_several_places(frame.function)
        and any(members.model.within(m) for v in frame.use.given for m in run.reachable(v))
    ):
        site, frame = frame.use.site, frame.use.within
    event = RequiresGrad(
        site,
        members.model,
        UNKNOWN if known is None else known,
        target(members),
        members.classes,
        said=run.site(node),
    )
    run.emit(event)


TESTS = (cst.Comparison, cst.IfExp, cst.UnaryOperation, cst.BooleanOperation, cst.Call, cst.Name)
"""Expressions that may ask for the name of a member."""


def set_by_test(run: Run, node: cst.Assign) -> bool:
    """Follow `p.requires_grad = "fc" in name`; tell whether it is such a statement."""
    match node:
        case cst.Assign(
            targets=[
                cst.AssignTarget(
                    target=cst.Attribute(value=owner, attr=cst.Name(value="requires_grad")) as mark
                )
            ],
            value=value,
        ):
            test, body, orelse = value, True, False
            if isinstance(value, cst.IfExp):
                sides = (_literal(value.body), _literal(value.orelse))
                if sides not in {(True, False), (False, True)}:
                    return False
                test, (body, orelse) = value.test, sides
            refined = tested(run, test)
            subject = expressions.evaluate(run, owner)
            if refined is None or not isinstance(subject, Members):
                return False
            # What is turned on first: it says nothing of the others.
            for one, on in sorted(((refined.passed, body), (refined.rest, orelse)), key=_off):
                set_gradient(run, mark, replace(one, parameters=True), Constant(on))
            return True
    return False


def _off(pair: tuple[Members, bool]) -> bool:
    return not pair[1]


def _literal(node: cst.BaseExpression) -> bool | None:
    match node:
        case cst.Name(value="True" | "False" as text):
            return text == "True"
    return None


_TENSORS = frozenset("detach clone cpu cuda to float double mul div numpy data".split())  # noqa: SIM905
"""Methods of a parameter that give a tensor."""


def call(run: Run, node: cst.Call, members: Members, name: str, arguments: list[Value]) -> Value:
    """Follow `m.name(...)` on the members of a model."""
    first = arguments[0] if arguments else Constant(True)
    match name:
        case "lower" | "upper":
            return members
        case "eval" | "train":
            known = False if name == "eval" else truth(first)
            mode = Mode.UNKNOWN if known is None else Mode.TRAIN if known else Mode.EVAL
            statement = run.site(run.statement) if run.statement is not None else None
            run.emit(
                ModeChange(
                    run.site(node),
                    members.model,
                    mode,
                    target(members),
                    members.classes,
                    statement,
                )
            )
            return members
        case "requires_grad_":
            set_gradient(run, node, members, first)
            return members
        case "parameters" | "named_parameters" | "modules" | "children" | "named_modules":
            return replace(members, one=False, parameters="parameters" in name)
        case "named_children" | "values" | "items" | "keys":
            return replace(members, one=False)
    if members.parameters and members.one and name in _TENSORS:
        return Weights((members.model,))
    return Opaque()

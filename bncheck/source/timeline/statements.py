"""Executes statements while a script is followed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import libcst as cst

from bncheck.events import Exit
from bncheck.graph import UNKNOWN
from bncheck.source.module import dotted, imports
from bncheck.source.timeline import (
    contexts,
    counts,
    defaults,
    expressions,
    joining,
    loops,
    members,
    narrowing,
    options,
    placing,
    unswitched,
    weights,
)
from bncheck.source.timeline.owning import is_nameless, take_in
from bncheck.source.timeline.run import MAX_STATEMENTS, Run
from bncheck.source.timeline.shares import Refined
from bncheck.source.timeline.syntax import names_in_order
from bncheck.source.timeline.values import (
    Class,
    Constant,
    Container,
    Data,
    Frame,
    Function,
    Instance,
    Members,
    Models,
    Opaque,
    Outside,
    Package,
    Settings,
    Tensor,
    Turned,
    Value,
    Weights,
    truth,
)
from bncheck.timeline import Branch


def run_body(run: Run, body: Sequence[cst.CSTNode]) -> None:
    """Execute the statements of a body, in order."""
    for position, statement in enumerate(body):
        if run.dead:
            return
        if run.statements > MAX_STATEMENTS:
            # What would be done from here on is not known of any model.
            run.escape(statement, [Models(tuple(run.models))], "")
            return
        run.statements += 1
        rest = contexts.rest_of_body(run, statement)
        if rest is not None:
            contexts.within(run, statement, [rest], partial(run_body, run, body[position + 1 :]))
            return
        _statement(run, statement)
        if isinstance(statement, cst.If) and narrowing.leaves_where_it_trains(run, statement):
            with narrowing.evaluating(run, True):
                run_body(run, body[position + 1 :])
            return


def _statement(run: Run, node: cst.CSTNode) -> None:
    match node:
        case cst.SimpleStatementLine(body=small):
            run.statement = node
            for part in small:
                if run.dead:
                    return
                _small(run, part)
        case cst.If():
            _if(run, node)
        case cst.For():
            with placing.around(run, node):
                loops.for_loop(run, node)
        case cst.While():
            with placing.around(run, node):
                loops.while_loop(run, node)
        case cst.With():
            with placing.around(run, node):
                contexts.with_statement(run, node, lambda: run_body(run, node.body.body))
        case cst.Try() | cst.TryStar():
            _try(run, node)
        case cst.FunctionDef(name=cst.Name(value=name)):
            function = Function(node, run.frame.module, name, outer=_closure(run))
            _set_name(run, name, function)
        case cst.ClassDef(name=cst.Name(value=name)):
            _set_name(run, name, Class(node, run.frame.module))
        case cst.Match():
            expressions.evaluate(run, node.subject)
            ways: list[Callable[[], None]] = [
                (lambda case=case: run_body(run, case.body.body))  # type: ignore[misc]
                for case in node.cases
            ]
            run.branch(node, ways, " ".join(names_in_order(node.subject)))
        case cst.BaseSmallStatement():
            # On the line of its `if` or `for`: no line can be put before it.
            run.statement = None
            _small(run, node)


def _closure(run: Run) -> Frame | None:
    return run.frame if run.frame.function else None


def _throws_away(target: cst.BaseExpression) -> bool:
    """Recognise `_ = model(images)`."""
    return isinstance(target, cst.Name) and target.value == "_"


def _small(run: Run, node: cst.CSTNode) -> None:
    match node:
        case cst.Expr(value=value):
            run.discarded = value
            expressions.evaluate(run, value)
            run.discarded = None
            if isinstance(value, cst.Attribute):
                unswitched.only_named(run, value)
        case cst.Assign(targets=targets, value=value):
            if value.__class__ in members.TESTS and members.set_by_test(run, node):
                return
            first = targets[0].target
            if isinstance(first, cst.Tuple) and isinstance(value, cst.Call):
                run.unpacked = value, len(first.elements)
            run.discarded = value if _throws_away(first) else None
            result = expressions.evaluate(run, value)
            run.discarded = None
            for target in targets:
                bind(run, target.target, result)
                if isinstance(target.target, cst.Name):
                    run.frame.assigned[target.target.value] = value
        case cst.AnnAssign(target=target, value=cst.BaseExpression() as value):
            bind(run, target, expressions.evaluate(run, value))
        case cst.AugAssign(target=target, value=value):
            before = expressions.evaluate(run, target)
            added = expressions.evaluate(run, value)
            made = weights.combined(before, node.operator, added)
            if made is not None and not isinstance(before, Members):
                bind(run, target, made)
            elif not isinstance(before, Container | Tensor | Models):
                bind(run, target, Opaque())
            elif isinstance(before, Container) and isinstance(added, Container):
                if before.keys is None and not before.instead:
                    before.elements += added.elements  # Python extends the list itself.
                else:
                    bind(run, target, Container(before.elements + added.elements))
        case cst.Return(value=value):
            run.frame.returned.append(
                expressions.evaluate(run, value) if value is not None else Constant(None)
            )
            run.leave(node, Exit.RETURN)
        case cst.Raise(exc=exc):
            if exc is not None:
                expressions.evaluate(run, exc)
            run.leave(node, Exit.RAISE)
        case cst.Break():
            run.leave(node, Exit.BREAK)
        case cst.Continue():
            run.leave(node, Exit.CONTINUE)
        case cst.Assert(test=test):
            known = truth(expressions.evaluate(run, test))
            if known is False:
                run.leave(node, Exit.RAISE)
        case cst.Import() | cst.ImportFrom():
            module = run.frame.module
            for name, imported in imports(node, module.name, module.is_package):
                if name != "*" and run.frame.function:
                    run.frame.names[name] = _imported(run, imported.module, imported.attribute)
        case cst.Global(names=names):
            frame = run.module_frame(run.frame.module)
            run.frame.outside.update({item.name.value: frame for item in names})
        case cst.Nonlocal(names=names) if run.frame.outer is not None:
            outer = run.frame.outer
            run.frame.outside.update({item.name.value: outer for item in names})


def _imported(run: Run, module: str, attribute: str | None) -> Value:
    found = run.project.find(module, run.frame.module)
    if found is None and attribute is not None:
        found = run.project.find_in_folder(module, attribute, run.frame.module)
        return Outside(f"{module}.{attribute}") if found is None else Package(found)
    if found is None:
        return Outside(module)
    if attribute is None:
        return Package(found)
    value = run.module_level(attribute, found)
    if value is None:
        submodule = run.project.find(f"{module}.{attribute}", run.frame.module)
        return Package(submodule) if submodule is not None else Opaque(attribute)
    return value


def _set_name(run: Run, name: str, value: Value) -> None:
    frame = run.frame.outside.get(name, run.frame)
    if not isinstance(frame.names.get(name), Turned):
        frame.names[name] = value


def bind(run: Run, target: cst.BaseExpression, value: Value) -> None:
    """Give a target what it is assigned."""
    match target:
        case cst.Name(value=name):
            _name_it(name, value)
            _set_name(run, name, value)
        case cst.Attribute(value=owner, attr=attr):
            _bind_attribute(run, target, expressions.evaluate(run, owner), attr.value, value)
        case cst.Tuple(elements=elements) | cst.List(elements=elements):
            _unpack(run, elements, value)
        case cst.Subscript(value=base):
            holder = expressions.evaluate(run, base)
            index = expressions.index(run, target)
            key = index.value if isinstance(index, Constant) else UNKNOWN
            match holder:
                case Container():
                    joining.put(holder, key, value)
                case Settings() if isinstance(key, str):
                    options.put(run, holder, key, value)
                case Settings():
                    options.forget(run, holder)
                case Opaque(model=None) if key is not UNKNOWN:
                    run.heap.set(holder, f"[{key!r}]", value)
                case Weights() if isinstance(value, Weights):
                    holder.mixed = holder.mixed or value.mixed
                case Constant(value=None) | Opaque(model=None) if isinstance(value, Weights):
                    bind(run, base, value)  # A dict, made on another path or not followed.


def _unpack(run: Run, elements: Sequence[cst.BaseElement], value: Value) -> None:
    parts = joining.of_length(value, len(elements)) if isinstance(value, Container) else None
    for position, element in enumerate(elements):
        match value:
            case Container() if parts is not None:
                bind(run, element.value, parts[position])
            case Container():
                bind(run, element.value, Opaque(holds=tuple(run.reachable(value))))
            case Data(loader=loader):
                bind(run, element.value, Tensor(loader.batch_size, loader=loader))
            case Tensor() | Members() | Models() | Weights():
                bind(run, element.value, value)
            case Opaque():
                name = dotted(element.value) or ""
                bind(
                    run,
                    element.value,
                    Opaque(name, value.site, f"{value.type_name}[]", holds=value.holds),
                )
            case _:
                bind(run, element.value, Opaque())


def _bind_attribute(run: Run, target: cst.Attribute, owner: Value, name: str, value: Value) -> None:
    label = dotted(target) or name
    _name_it(label, value)
    match owner:
        case Models(models=models):
            if unswitched.assigned(run, target, owner, value):
                return
            for model in models:
                take_in(run, model, name, value)
        case Members():
            members.assign(run, target, owner, name, value)
        case Settings():
            options.put(run, owner, name, value)
        case Instance() | Class() | Opaque():
            if isinstance(value, Constant):
                value = Constant(value.value, fixed=False)
            run.heap.set(owner, name, value)


def _name_it(name: str, value: Value) -> None:
    """Call a value by the first name that it is given."""
    match value:
        case Models(models=models):
            for model in models:
                if is_nameless(model):
                    model.name = name
                else:
                    model.called_later.append(name)
        case Data(loader=loader) if not loader.name:
            loader.name = name
        case Opaque(model=None, parameter=False):
            value.name = name


def _if(run: Run, node: cst.If) -> None:
    if _asks_for_main(node.test):
        if run.runs_main:
            run_body(run, node.body.body)
        return
    refined = members.tested(run, node.test)
    value = expressions.evaluate(run, node.test)
    orelse = node.orelse
    if refined is not None:
        _if_on_members(run, node, refined)
        return
    known = truth(value)
    counted = counts.counted(run, node)
    narrowed = narrowing.no_network(run, node.test)
    evaluated = narrowing.evaluates(run, node.test)

    def then() -> None:
        narrowing.forget(run, narrowed, True)
        with run.counting(counted.body), narrowing.evaluating(run, evaluated is True):
            run_body(run, node.body.body)

    def otherwise() -> None:
        narrowing.forget(run, narrowed, False)
        with run.counting(counted.rest), narrowing.evaluating(run, evaluated is False):
            if isinstance(orelse, cst.If):
                _if(run, orelse)
            elif orelse is not None:
                run_body(run, orelse.body.body)

    if known is not None:
        then() if known else otherwise()
    else:
        chosen = defaults.outcome(value)
        taken = None if chosen is None else int(not chosen)
        run.branch(node, [then, otherwise], " ".join(names_in_order(node.test)), taken)
    if counted.goes_on:
        run.start_counting(counted.rest)


def _asks_for_main(test: cst.BaseExpression) -> bool:
    """Recognise `__name__ == "__main__"`; `type(m).__name__` is something else."""
    match test:
        case cst.Comparison(left=left, comparisons=[right]):
            return any(
                isinstance(side, cst.Name) and side.value == "__name__"
                for side in (left, right.comparator)
            )
    return False


def _if_on_members(run: Run, node: cst.If, refined: Refined) -> None:
    """Follow both ways: each runs for some members of a model."""
    before = {name: run.frame.names[name] for name in refined.names}
    was_dead = run.dead
    run.frame.names.update(dict.fromkeys(refined.names, refined.passed))
    run_body(run, node.body.body)
    run.dead = was_dead
    run.frame.names.update(dict.fromkeys(refined.names, refined.rest))
    if isinstance(node.orelse, cst.If):
        _if(run, node.orelse)
    elif node.orelse is not None:
        run_body(run, node.orelse.body.body)
    if not refined.leaves:
        run.frame.names.update(before)
    run.dead = was_dead


def _try(run: Run, node: cst.Try | cst.TryStar) -> None:
    ways: list[Callable[[], None]] = [
        (lambda handler=handler: run_body(run, handler.body.body))  # type: ignore[misc]
        for handler in node.handlers
    ]
    with run.block() as steps:
        loops.begin_iterators(run, node)
        run_body(run, node.body.body)
        if node.orelse is not None:
            run_body(run, node.orelse.body.body)
    if not run.dead:
        run.steps.extend(steps)
        if ways:
            run.branch(node, [lambda: None, *ways], "")
    elif ways:
        run.dead = False
        with run.block() as handled:
            run.branch(node, ways, "")
        leaves, run.dead = run.dead, False
        run.emit(Branch(run.site(node), (tuple(steps), tuple(handled))))
        run.dead = leaves
    else:
        run.steps.extend(steps)
    if node.finalbody is not None:
        leaves, run.dead = run.dead, False
        run_body(run, node.finalbody.body.body)
        run.dead = run.dead or leaves

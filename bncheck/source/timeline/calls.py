"""Follows calls: functions and methods of the project, constructors, and everything else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import libcst as cst

from bncheck.events import BackwardCall, OptimizerStep
from bncheck.source.timeline import (
    choices,
    classes,
    commandline,
    construction,
    contexts,
    defaults,
    expressions,
    external,
    loaders,
    members,
    networks,
    sequences,
    statements,
)
from bncheck.source.timeline.following import is_harmless_callback, worth_following
from bncheck.source.timeline.relevance import may_switch
from bncheck.source.timeline.run import MAX_DEPTH, MAX_STATEMENTS, Run, module_constant
from bncheck.source.timeline.syntax import is_shared
from bncheck.source.timeline.values import (
    AnyPackage,
    Class,
    Constant,
    Container,
    Data,
    Frame,
    Function,
    Instance,
    Members,
    Method,
    Models,
    Opaque,
    Optimizer,
    Outside,
    Package,
    Parser,
    Settings,
    Tensor,
    Use,
    Value,
    join,
)
from bncheck.source.walk import walk
from bncheck.timeline import Call, ContextKind, matters

_TENSOR_METHODS = frozenset(
    """
    to cuda cpu float half double contiguous detach clone requires_grad_ permute transpose type
    requires_grad long data pin_memory bfloat16 squeeze
    """.split()  # noqa: SIM905
)


@dataclass
class Arguments:
    """Evaluated arguments."""

    positional: list[Value] = field(default_factory=list)
    keywords: dict[str, Value] = field(default_factory=dict)
    complete: bool = True
    """Whether there is no `*args` and no `**kwargs` among them."""

    def all(self) -> list[Value]:
        """Return every value, positional first."""
        return [*self.positional, *self.keywords.values()]

    def get(self, position: int | None, keyword: str) -> Value | None:
        """Return the argument given by keyword or at a position."""
        if keyword in self.keywords:
            return self.keywords[keyword]
        if position is not None and position < len(self.positional):
            return self.positional[position]
        return None


def call(run: Run, node: cst.Call) -> Value:
    """Evaluate a call and follow what it does."""
    func = node.func
    if isinstance(func, cst.Attribute):
        if isinstance(func.value, cst.Call) and _is_super(func.value):
            return _super_call(run, node, func.attr.value, _arguments(run, node))
        receiver = _receiver(run, func)
        return method(run, node, receiver, func.attr.value, _arguments(run, node))
    callee = expressions.evaluate(run, func)
    if isinstance(callee, Outside) and callee.name == "isinstance":
        return Opaque()
    return call_value(run, node, callee, _arguments(run, node))


def _receiver(run: Run, func: cst.Attribute) -> Value:
    """Evaluate what a method is called on: what is detached at once takes no gradient."""
    if func.attr.value != "detach" or not isinstance(func.value, cst.Call):
        return expressions.evaluate(run, func.value)
    found: list[Value] = []
    detached = contexts.Entered(ContextKind.NO_GRAD)
    contexts.within(
        run, func, [detached], lambda: found.append(expressions.evaluate(run, func.value))
    )
    return found[0]


def _arguments(run: Run, node: cst.Call) -> Arguments:
    outer, run.discarded = run.discarded, None
    arguments = Arguments()
    for argument in node.args:
        value = expressions.evaluate(run, argument.value)
        if argument.star == "*" and isinstance(value, Container) and value.keys is None:
            arguments.positional.extend(value.elements)
        elif argument.star == "**" and isinstance(value, Container) and value.keys:
            arguments.complete = arguments.complete and not value.changed
            for key, element in zip(value.keys, value.elements, strict=True):
                if isinstance(key, str):
                    arguments.keywords[key] = element
                else:
                    arguments.complete = False
        elif argument.star:
            arguments.complete = False
            arguments.keywords.setdefault("*", value)
        elif argument.keyword is not None:
            arguments.keywords[argument.keyword.value] = value
        else:
            arguments.positional.append(value)
    run.discarded = outer
    return arguments


def _is_super(node: cst.Call) -> bool:
    return isinstance(node.func, cst.Name) and node.func.value == "super"


def _super_call(run: Run, node: cst.Call, name: str, arguments: Arguments) -> Value:
    receiver, owner = run.frame.receiver, run.frame.owner
    if owner is None or receiver is None:
        return Opaque()
    cls = networks.class_of(run, receiver)
    found = classes.find_above(run, cls, owner, name) if cls is not None else None
    if isinstance(found, Function):
        return follow(run, node, classes.bound(found, receiver), arguments)
    if name == "__init__" and isinstance(receiver, Instance):
        loaders.construct_above(run, node, receiver, arguments)
    if name != "__init__" and isinstance(receiver, Models):
        return networks.method(run, node, receiver.models[0], name, arguments, inherited=True)
    return Opaque()


def call_value(run: Run, node: cst.Call, callee: Value, arguments: Arguments) -> Value:
    """Follow a call of a value."""
    match callee:
        case Models():
            return networks.forward(run, node, callee, arguments)
        case Function():
            return follow(run, node, callee, arguments)
        case Class():
            return construction.construct(run, node, callee, arguments)
        case Outside(name=name):
            return external.call(run, node, name, arguments)
        case Method(value=value, name=name):
            return method(run, node, value, name, arguments)
        case Instance(cls=cls):
            found = classes.find(run, cls, "__call__")
            if isinstance(found, Function):
                return follow(run, node, classes.bound(found, callee), arguments)
        case Opaque():
            if callee.model is not None or (
                run.looks_like_a_model(callee) and arguments.all() and not callee.type_name
            ):
                return networks.forward(run, node, run.promote(callee), arguments)
            if callee.type_name.startswith("torch.nn."):
                return Tensor()
            if any(isinstance(value, Optimizer) for value in arguments.all()):
                run.emit(BackwardCall(run.site(node)))
            return unknown_call(run, node, callee.name, [callee, *arguments.all()])
    return unknown_call(run, node, "", [callee, *arguments.all()])


def unknown_call(run: Run, node: cst.Call, name: str, values: Sequence[Value]) -> Opaque:
    """Follow a call of something unknown: it may change every model that it can get at.

    What it is given to call back does no more than it does anywhere.
    """
    values = [value for value in values if not is_harmless_callback(run, value)]
    run.escape(node, values, name)
    holds = dict.fromkeys(model for value in values for model in run.reachable(value))
    return Opaque(name, run.site(node), name, holds=tuple(holds))


def method(run: Run, node: cst.Call, receiver: Value, name: str, arguments: Arguments) -> Value:
    """Follow `receiver.name(...)`."""
    match receiver:
        case Models(models=models):
            return join([networks.method(run, node, m, name, arguments) for m in models])
        case Members():
            return members.call(run, node, receiver, name, arguments.all())
        case Optimizer():
            if name == "step":
                run.emit(OptimizerStep(run.site(node), run.every))
            return Opaque()
        case Tensor():
            return _tensor_method(run, node, receiver, name, arguments)
        case Instance(cls=cls):
            return _instance_method(run, node, receiver, cls, name, arguments)
        case Class():
            found = classes.find(run, receiver, name)
            if isinstance(found, Function):
                static = "staticmethod" in classes.decorators(found.node)
                by_class = "classmethod" in classes.decorators(found.node)
                if by_class and not static:
                    found = classes.bound(found, receiver)
                return follow(run, node, found, arguments)
            if name == "load_from_checkpoint":
                return construction.construct(run, node, receiver, Arguments(complete=False))
            return external.method_of_unknown(run, node, receiver, name, arguments)
        case Outside(name=outside):
            return external.call(run, node, f"{outside}.{name}", arguments)
        case Package(module=module):
            value = run.member(module, name) or Opaque(name)
            return call_value(run, node, value, arguments)
        case AnyPackage():
            chosen = choices.of_any_package(run, name)
            return call_value(run, node, chosen, arguments)
        case Settings() if (kept := run.heap.get(receiver, name)) is not None:
            return call_value(run, node, kept, arguments)
        case Parser():
            return commandline.parser_method(receiver, node, name, arguments)
        case Container():
            return sequences.method(run, receiver, name, arguments)
        case Data(made=Instance(cls=cls) as made) if classes.find(run, cls, name) is not None:
            return _instance_method(run, node, made, cls, name, arguments)
        case Data(loader=loader):
            return Tensor(loader=loader) if name in {"next", "__next__"} else Opaque()
        case Opaque():
            return external.method_of_unknown(run, node, receiver, name, arguments)
    if name == "backward":
        run.emit(BackwardCall(run.site(node)))
    return Opaque()


def _tensor_method(
    run: Run, node: cst.Call, receiver: Tensor, name: str, arguments: Arguments
) -> Value:
    if name == "backward":
        run.emit(BackwardCall(run.site(node)))
    elif name in _TENSOR_METHODS:
        return receiver
    elif makes_batch_of_one(name, arguments):
        return Tensor(1, receiver.made_up, receiver.loader)
    return Tensor(made_up=receiver.made_up, loader=receiver.loader)


def makes_batch_of_one(method: str, arguments: Arguments) -> bool:
    """Recognise `x.unsqueeze(0)`, and `x.view(1, -1)` or `x.reshape(1, ...)`."""
    match method:
        case "unsqueeze":
            return arguments.get(0, "dim") == Constant(0)
        case "view" | "reshape":
            first = arguments.get(0, "shape")
            if isinstance(first, Container) and first.elements:
                first = first.elements[0]
            return first == Constant(1)
    return False


def _instance_method(
    run: Run, node: cst.Call, receiver: Instance, cls: Class, name: str, arguments: Arguments
) -> Value:
    found = classes.find(run, cls, name)
    if isinstance(found, Function):
        return follow(run, node, classes.bound(found, receiver), arguments)
    known = run.heap.get(receiver, name) or found
    if known is not None:
        return call_value(run, node, known, arguments)
    return unknown_call(run, node, name, [receiver, *arguments.all()])


def get_property(run: Run, node: cst.BaseExpression, function: Function) -> Value:
    """Return a method that is read, or the value of a property."""
    if isinstance(function.node, cst.FunctionDef):
        names = classes.decorators(function.node)
        if "property" in names or "cached_property" in names:
            return follow(run, node, function, Arguments())
    return function


def follow(run: Run, node: cst.BaseExpression, function: Function, arguments: Arguments) -> Value:
    """Follow a call of a function of the project, unless that can't matter or goes too deep."""
    code = function.node
    receiver = [] if function.receiver is None else [function.receiver]
    given = [*receiver, *arguments.all()]
    declared = run.declared(f"{function.module.name}.{function.name}", function.name)
    if declared is not None and function.receiver is None:
        return run.make_declared(node, function.name, declared)
    if isinstance(code, cst.Lambda):
        return _run_lambda(run, function, code, arguments)
    if not worth_following(run, function, given):
        run.followed.add(code)
        return Opaque(function.name, run.site(node), function.name)
    unknown_decorator = any(
        name not in external.HARMLESS_DECORATORS
        and name not in {"no_grad", "inference_mode", "enable_grad", "set_grad_enabled"}
        for name in classes.decorators(code)
    )
    if (
        unknown_decorator
        or len(run.stack) >= MAX_DEPTH
        or (code in run.stack and not _opens_a_list(run, code, arguments))
        or run.statements > MAX_STATEMENTS
        or run.is_managed(function)
    ):
        if run.is_managed(function):
            run.followed.add(code)
        # What a recursion does is followed already, but for the modes that it may switch deeper.
        if code not in run.stack or may_switch(run.project, function.module, code):
            run.escape(node, [*given, function], function.name)
        holds = tuple(m for value in given for m in run.reachable(value))
        return Opaque(function.name, run.site(node), function.name, holds=holds)
    return _run_function(run, node, function, code, arguments)


def _opens_a_list(run: Run, code: cst.FunctionDef, arguments: Arguments) -> bool:
    """Tell whether a function that was given a list of networks calls itself for one of them."""
    first = code.params.params[0].name.value if code.params.params else ""
    return (
        run.stack.count(code) == 1
        and isinstance(run.frame.names.get(first), Container)
        and bool(arguments.positional)
        and isinstance(arguments.positional[0], Models)
    )


def _run_lambda(run: Run, function: Function, code: cst.Lambda, arguments: Arguments) -> Value:
    frame = Frame(function.module, "<lambda>", outer=function.outer)
    for parameter, value in zip(code.params.params, arguments.positional, strict=False):
        frame.names[parameter.name.value] = value
    outer, run.frame = run.frame, frame
    value = expressions.evaluate(run, code.body)
    run.frame = outer
    return value


def _run_function(
    run: Run,
    node: cst.BaseExpression,
    function: Function,
    code: cst.FunctionDef,
    arguments: Arguments,
) -> Value:
    site = run.site(node)
    frame = Frame(
        function.module,
        function.name,
        outer=function.outer,
        owner=function.owner,
        receiver=function.receiver,
        use=Use(site, tuple(arguments.all())) if _is_shared(run, function) else None,
    )
    _bind_parameters(frame, code, function.receiver, arguments)
    outer, run.frame = run.frame, frame
    discarded, statement, every = run.discarded, run.statement, run.every
    run.discarded, run.every = None, 1
    run.stack.append(code)
    run.followed.add(code)
    entered = contexts.of_decorators(run, code)
    with run.block() as steps:
        contexts.within(run, node, entered, lambda: statements.run_body(run, code.body.body))
    run.dead = False
    run.stack.pop()
    if frame.settled is not None:
        defaults.instead(frame.settled, frame.returned)
    run.frame = outer
    run.discarded, run.statement, run.every = discarded, statement, every
    if any(matters(step) for step in steps):
        run.emit(Call(site, function.name, tuple(steps)))
    if {"contextmanager", "asynccontextmanager"} & set(classes.decorators(code)):
        given = [*([] if function.receiver is None else [function.receiver]), *arguments.all()]
        reached = [m for value in given for m in run.reachable(value)]
        return Opaque(function.name, site, function.name, holds=tuple(reached))
    return join(frame.returned) if frame.returned else _generated(run, code, arguments)


def _is_shared(run: Run, function: Function) -> bool:
    """Tell whether a function that stands by itself is called from several places."""
    if function.owner is not None or function.outer is not None:
        return False
    return is_shared(function.name, run.frame.module.text, function.module.text)


def _generated(run: Run, code: cst.FunctionDef, arguments: Arguments) -> Value:
    """Return the loader that a generator goes over."""
    loaders = [value for value in arguments.all() if isinstance(value, Data)]
    if loaders and any(isinstance(part, cst.Yield) for part in walk(code.body)):
        return loaders[0]
    return Constant(None)


def _bind_parameters(
    frame: Frame, code: cst.FunctionDef, receiver: Value | None, arguments: Arguments
) -> None:
    given = [*([] if receiver is None else [receiver]), *arguments.positional]
    parameters = [*code.params.posonly_params, *code.params.params]
    for position, parameter in enumerate([*parameters, *code.params.kwonly_params]):
        name = parameter.name.value
        if position < len(given) and position < len(parameters):
            frame.names[name] = given[position]
        elif name in arguments.keywords:
            frame.names[name] = arguments.keywords[name]
        elif parameter.default is not None and arguments.complete:
            frame.names[name] = default_of(parameter.default)
        elif code.decorators and arguments.complete:
            options = commandline.option_defaults(code)
            frame.names[name] = options.get(name) or Opaque(name)
        else:
            frame.names[name] = Opaque(name)
    star = code.params.star_arg
    if isinstance(star, cst.Param):
        frame.names[star.name.value] = Container(tuple(given[len(parameters) :]))
    if code.params.star_kwarg is not None:
        name = code.params.star_kwarg.name.value
        more = {k: value for k, value in arguments.keywords.items() if k not in frame.names}
        known = Container(tuple(more.values()), tuple(more)) if arguments.complete else None
        frame.names[name] = known or Opaque(name)


def default_of(node: cst.BaseExpression) -> Value:
    """Return what a parameter is when nothing is given for it."""
    match node:
        case cst.Name(value="True" | "False" as text):
            return Constant(text == "True")
        case cst.Name(value="None"):
            return Constant(None)
        case cst.Call(func=cst.Attribute(attr=cst.Name(value="Option")), args=[first, *_]):
            return module_constant(first.value)  # typer's
    value = module_constant(node)
    return Constant(value.value) if isinstance(value, Constant) else Opaque()

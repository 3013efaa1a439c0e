"""Follows functions of the project: what they are given, what they do, and what they return."""

from __future__ import annotations

import re
from collections.abc import Callable

import libcst as cst

from bncheck.source.module import SourceModule, dotted
from bncheck.source.timeline import (
    classes,
    commandline,
    contexts,
    defaults,
    expressions,
    external,
    hydra,
    statements,
    wrapping,
)
from bncheck.source.timeline.arguments import Arguments
from bncheck.source.timeline.constants import module_constant
from bncheck.source.timeline.following import is_managed, worth_following
from bncheck.source.timeline.frames import in_frame
from bncheck.source.timeline.frozen_norms import freezes_for_good, without_norms
from bncheck.source.timeline.joining import join
from bncheck.source.timeline.relevance import may_switch
from bncheck.source.timeline.run import MAX_DEPTH, MAX_STATEMENTS, Run
from bncheck.source.timeline.values import (
    Class,
    Constant,
    Container,
    Data,
    Frame,
    Function,
    Models,
    Opaque,
    Outside,
    Use,
    Value,
)
from bncheck.source.walk import walk
from bncheck.timeline import Call, matters


def is_property(function: Function) -> bool:
    """Tell whether a method is called where it is read."""
    code = function.node
    names = classes.decorators(code) if isinstance(code, cst.FunctionDef) else ()
    return "property" in names or "cached_property" in names


def follow(run: Run, node: cst.BaseExpression, function: Function, arguments: Arguments) -> Value:
    """Follow a call of a function of the project, unless that can't matter or goes too deep."""
    return _follow(run, node, function, arguments, _is_harmless)


def enter(run: Run, node: cst.BaseExpression, function: Function, arguments: Arguments) -> Value:
    """Follow a function that nothing in its file calls: a decorator hands it to what does.

    `@app.route("/predict")`
    """
    return _follow(run, node, function, arguments, _registers)


def _follow(
    run: Run,
    node: cst.BaseExpression,
    function: Function,
    arguments: Arguments,
    leaves_alone: Callable[[Run, Function, str], bool],
) -> Value:
    code = function.node
    receiver = [] if function.receiver is None else [function.receiver]
    given = [*receiver, *arguments.all()]
    declared = run.declared(f"{function.module.name}.{function.name}", function.name)
    if declared is not None and function.receiver is None:
        return run.make_declared(node, function.name, declared)
    if isinstance(code, cst.Lambda):
        if code in run.lambdas:  # flat = lambda m: sum(map(flat, m.children()), [])
            return Opaque(function.name, run.site(node), function.name)
        return _run_lambda(run, function, code, arguments)
    if any(isinstance(value, Models) for value in given) and freezes_for_good(code):
        return without_norms(run, given) or Opaque(function.name, run.site(node), function.name)
    converted = wrapping.convert(run, node, function, arguments)
    if converted is not None:
        run.followed.add(code)
        return converted
    if not worth_following(run, function, given):
        run.followed.add(code)
        return Opaque(function.name, run.site(node), function.name)
    if (
        any(not leaves_alone(run, function, name) for name in classes.decorators(code))
        or len(run.stack) >= MAX_DEPTH
        or (code in run.stack and not _opens_a_list(run, code, arguments))
        or run.statements > MAX_STATEMENTS
        or is_managed(run, function)
    ):
        if is_managed(run, function):
            run.followed.add(code)
        # What a recursion does is followed already, but for the modes that it may switch deeper.
        if code not in run.stack or may_switch(run.project, function.module, code):
            run.escape(node, [*given, function], function.name)
        holds = tuple(m for value in given for m in run.reachable(value))
        return Opaque(function.name, run.site(node), function.name, holds=holds)
    if _KEEP_RESULTS.isdisjoint(classes.decorators(code)):
        return _run_function(run, node, function, code, arguments)
    key = f"{function.name}({', '.join(map(_told_apart, arguments.all()))})"
    owner = code if function.receiver is None else function.receiver
    kept = run.heap.get(owner, key)
    if kept is None:
        kept = _run_function(run, node, function, code, arguments)
        run.heap.set(owner, key, kept)
    return kept


_KEEP_RESULTS = frozenset(
    """
    cached_property lru_cache cache cached cache_resource experimental_singleton memo memoize
    """.split()  # noqa: SIM905
)
"""A function with one of these decorators makes what it returns once."""


def _told_apart(value: Value) -> str:
    """Return what an argument is told from others by; a name stands for what it names."""
    match value:
        case Constant(value=constant):
            return repr(constant)
        case Opaque(name=name):
            return name
    return value.__class__.__name__


_GRADIENT_MODES = frozenset({"no_grad", "inference_mode", "enable_grad", "set_grad_enabled"})


def _is_harmless(run: Run, function: Function, decorator: str) -> bool:
    """Tell whether a decorator calls what it decorates, and changes no mode around that."""
    if (
        decorator in external.HARMLESS_DECORATORS
        or decorator in _GRADIENT_MODES
        or decorator.startswith("register")
    ):
        return True
    wrapper = contexts.own_decorator(run, function, decorator)
    return wrapper is not None and not may_switch(run.project, wrapper.module, wrapper.node)


def _registers(run: Run, function: Function, decorator: str) -> bool:
    """Tell whether a decorator changes no mode, as far as a name tells of one from elsewhere."""
    if _is_harmless(run, function, decorator):
        return True
    found = run.module_level(decorator, function.module)
    return isinstance(found, Outside | None) and not _MODES.search(decorator)


_MODES = re.compile(r"eval|train|mode|infer|grad|patch|mock", re.IGNORECASE)


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
    run.lambdas.add(code)
    try:
        with in_frame(run, frame):
            return expressions.evaluate(run, code.body)
    finally:
        run.lambdas.remove(code)


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
        use=None
        if function.owner or function.outer
        else Use(site, tuple(arguments.all()), run.frame),
        evaluates=run.frame.evaluates,
    )
    bind_parameters(run, frame, code, function.receiver, arguments)
    outer, run.frame = run.frame, frame
    discarded, statement = run.discarded, run.statement
    run.discarded = None
    run.stack.append(code)
    run.followed.add(code)
    entered = contexts.of_decorators(run, function, code)
    with run.block() as steps:
        contexts.within(run, node, entered, lambda: statements.run_body(run, code.body.body))
    run.dead = False
    run.stack.pop()
    settled = frame.settled
    if settled is None and frame.unusual:
        settled = tuple(v for at, v in enumerate(frame.returned) if at not in frame.unusual)
    if settled is not None:
        defaults.instead(settled, frame.returned)
    run.frame = outer
    run.discarded, run.statement = discarded, statement
    if any(matters(step) for step in steps):
        run.emit(Call(site, function.name, tuple(steps)))
    if {"contextmanager", "asynccontextmanager"} & set(classes.decorators(code)):
        given = [*([] if function.receiver is None else [function.receiver]), *arguments.all()]
        reached = [m for value in given for m in run.reachable(value)]
        return Opaque(function.name, site, function.name, holds=tuple(reached))
    if not frame.returned:
        return _generated(run, code, arguments)
    returned = frame.returned
    if run.unpacked is not None and run.unpacked[0] is node:
        returned = _of_length(returned, run.unpacked[1])
    usual = settled[-1] if settled else None
    return join(returned, usual if any(value is usual for value in returned) else None)


def _of_length(values: list[Value], length: int) -> list[Value]:
    """Return the tuples of a length among what is returned on several paths; all if there is none.

    `model, optimizer = make(args)`, of a function that returns the model alone to evaluate it.
    """
    fitting: list[Value] = [
        value
        for value in values
        if isinstance(value, Container) and value.keys is None and len(value.elements) == length
    ]
    return fitting or values


def _generated(run: Run, code: cst.FunctionDef, arguments: Arguments) -> Value:
    """Return the loader that a generator goes over."""
    loaders = [value for value in arguments.all() if isinstance(value, Data)]
    if loaders and any(isinstance(part, cst.Yield) for part in walk(code.body)):
        return loaders[0]
    return Constant(None)


def bind_parameters(
    run: Run,
    frame: Frame,
    code: cst.FunctionDef,
    receiver: Value | None,
    arguments: Arguments,
) -> None:
    """Give a function's parameters their names in its frame."""
    given = [*([] if receiver is None else [receiver]), *arguments.positional]
    parameters = [*code.params.posonly_params, *code.params.params]
    for position, parameter in enumerate([*parameters, *code.params.kwonly_params]):
        name = parameter.name.value
        if position < len(given) and position < len(parameters):
            frame.names[name] = given[position]
        elif name in arguments.keywords:
            frame.names[name] = arguments.keywords[name]
        elif parameter.default is not None and arguments.complete:
            frame.names[name] = _default(run, frame.module, parameter.default)
        elif isinstance(usual := _usual(parameter), Constant):
            frame.names[name] = usual
        elif code.decorators and arguments.complete:
            options = commandline.option_defaults(code)
            given_by = options.get(name) or (None if options else hydra.settings(run, code))
            frame.names[name] = given_by or Opaque(name)
        else:
            frame.names[name] = Opaque(name)
    star = code.params.star_arg
    if isinstance(star, cst.Param):
        frame.names[star.name.value] = Container(tuple(given[len(parameters) :]))
    if code.params.star_kwarg is not None:
        name = code.params.star_kwarg.name.value
        more = {k: v for k, v in arguments.keywords.items() if k not in frame.names and k != "*"}
        known = Container(tuple(more.values()), tuple(more), changed=not arguments.complete)
        frame.names[name] = known if more or arguments.complete else Opaque(name)


def _usual(parameter: cst.Param) -> Value | None:
    """Return what a switch is where `**settings` is given that may turn it: what it is by default.

    A number or a text is what settings are there to say.
    """
    value = None if parameter.default is None else default_of(parameter.default)
    match value:
        case Constant(value=bool() as switch):
            return Constant(switch, fixed=False)
    return None


def _default(run: Run, module: SourceModule, node: cst.BaseExpression) -> Value:
    """Return what a parameter is by default, a function, a class or `Settings()` too."""
    value = default_of(node)
    match node:
        case cst.Name() | cst.Attribute() if isinstance(value, Opaque):
            found = run.module_level(dotted(node) or "", module)
            return found if isinstance(found, Function | Outside | Class) else value
        case cst.Call(func=cst.Name(value=name)) if isinstance(value, Opaque):
            if isinstance(run.module_level(name, module), Class):
                with in_frame(run, Frame(module, "")):
                    return expressions.evaluate(run, node)
    return value


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

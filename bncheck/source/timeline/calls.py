"""Follows calls: functions and methods of the project, constructors, and everything else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import libcst as cst

from bncheck.events import LoadWeights, OptimizerStep
from bncheck.graph import UNKNOWN
from bncheck.source.timeline import (
    accessors,
    batches_of_one,
    choices,
    classes,
    commandline,
    construction,
    contexts,
    expressions,
    external,
    functions,
    handed_on,
    kinds,
    known,
    lightning,
    loaders,
    members,
    namesakes,
    networks,
    optimizers,
    options,
    registry_calls,
    sequences,
    strings,
    sums,
    typed_options,
    weights,
    wrapping,
)
from bncheck.source.timeline.arguments import Arguments
from bncheck.source.timeline.following import is_harmless_callback
from bncheck.source.timeline.joining import join
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.values import (
    AnyPackage,
    Class,
    Constant,
    Container,
    Data,
    File,
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
    Partial,
    Settings,
    StateDict,
    Tensor,
    Value,
    Weights,
)
from bncheck.timeline import ContextKind

_TENSOR_METHODS = frozenset(
    """
    to cuda cpu float half double contiguous detach clone requires_grad_ permute transpose type
    requires_grad long data pin_memory bfloat16 squeeze
    """.split()  # noqa: SIM905
)

_ITSELF = frozenset({"to", "cuda", "cpu", "parse_args"})
"""Methods that return the object, where its class does not say otherwise: they move what it keeps
to a device, or are typed-argument-parser's."""


def call(run: Run, node: cst.Call) -> Value:
    """Evaluate a call and follow what it does."""
    func = node.func
    if isinstance(func, cst.Attribute):
        if isinstance(func.value, cst.Call) and _is_super(func.value):
            return _super_call(run, node, func.attr.value, _arguments(run, node))
        receiver = _receiver(run, func)
        arguments = _arguments(run, node)
        value = method(run, node, receiver, func.attr.value, arguments)
    else:
        callee = expressions.evaluate(run, func)
        if isinstance(callee, Outside) and callee.name == "isinstance":
            return kinds.is_instance(run, node)
        arguments = _arguments(run, node)
        value = call_value(run, node, callee, arguments)
    if isinstance(value, Models):
        networks.note_synchronised(value, arguments)
    return value


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
    outer = run.discarded
    run.discarded = node.args[0].value if _only_looks(node) else None
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
        elif argument.star == "**" and isinstance(value, Settings):
            arguments.complete = False
            arguments.keywords.update(options.entries(run, value) or {})
        elif argument.star:
            arguments.complete = False
            arguments.keywords.setdefault("*", value)
        elif argument.keyword is not None:
            arguments.keywords[argument.keyword.value] = value
        else:
            arguments.positional.append(value)
    run.discarded = outer
    return arguments


def _only_looks(node: cst.Call) -> bool:
    """Tell whether a call asks no more of what it is given than its shape, or draws its graph."""
    if not isinstance(node.func, cst.Attribute) or not node.args:
        return False
    name = node.func.attr.value
    return name == "add_graph" or (name in known.OF_THE_SHAPE and len(node.args) == 1)


def _is_super(node: cst.Call) -> bool:
    return isinstance(node.func, cst.Name) and node.func.value == "super"


def _super_call(run: Run, node: cst.Call, name: str, arguments: Arguments) -> Value:
    receiver, owner = run.frame.receiver, run.frame.owner
    if owner is None or receiver is None:
        return Opaque()
    cls = networks.class_of(run, receiver)
    found = classes.find_above(run, cls, owner, name) if cls is not None else None
    if isinstance(found, Function):
        return functions.follow(run, node, classes.bound(found, receiver), arguments)
    if name == "__init__" and isinstance(receiver, Instance):
        loaders.construct_above(run, node, receiver, arguments)
        _keep_above(run, receiver, arguments)
    elif isinstance(receiver, Instance):
        return unknown_call(run, node, name, [receiver, *arguments.all()])
    if name != "__init__" and isinstance(receiver, Models):
        return networks.method(run, node, receiver.models[0], name, arguments, inherited=True)
    return Opaque()


def _keep_above(run: Run, receiver: Instance, arguments: Arguments) -> None:
    """Note that a base class from elsewhere keeps the networks that its constructor is given."""
    for position, value in enumerate(arguments.positional):
        if isinstance(value, Models):
            run.heap.set(receiver, f"[{position}]", value)
    for keyword, value in arguments.keywords.items():
        if isinstance(value, Models):
            run.heap.set(receiver, keyword, value)


def call_value(run: Run, node: cst.Call, callee: Value, arguments: Arguments) -> Value:
    """Follow a call of a value."""
    match callee:
        case Models():
            return networks.forward(run, node, callee, arguments)
        case Function():
            return functions.follow(run, node, callee, arguments)
        case Class():
            return construction.construct(run, node, callee, arguments)
        case Outside(name=name) if own := namesakes.own(run, name):
            return call_value(run, node, own, arguments)
        case Outside(name=name):
            return external.call(run, node, name, arguments)
        case Method(value=value, name=name):
            return method(run, node, value, name, arguments)
        case Partial(value=value):
            return call_value(run, node, value, arguments.after(callee))
        case Members(parameters=False) if not any(run.reachable(v) for v in arguments.all()):
            return Tensor()
        case Instance(cls=cls):
            found = classes.find(run, cls, "__call__")
            if isinstance(found, Function):
                return functions.follow(run, node, classes.bound(found, callee), arguments)
        case Opaque():
            if callee.model is not None or (
                run.looks_like_a_model(callee) and arguments.all() and not callee.type_name
            ):
                return networks.forward(run, node, run.promote(callee), arguments)
            if callee.type_name.startswith("torch.nn."):
                return Tensor()
            if any(isinstance(value, Optimizer) for value in arguments.all()):
                run.emit(sums.backward(run, node))
            return unknown_call(run, node, callee.name, [callee, *arguments.all()])
    return unknown_call(run, node, "", [callee, *arguments.all()])


def unknown_call(run: Run, node: cst.Call, name: str, values: Sequence[Value]) -> Opaque:
    """Follow a call of something unknown: it may change every model that it can get at.

    What it is given to call back does no more than it does anywhere, and by its name it may do
    nothing to a model's mode.
    """
    handed_on.note(run, values)
    values = [value for value in values if not is_harmless_callback(run, value)]
    if not known.LEAVES_MODES.match(name.rpartition(".")[2]):
        run.escape(node, values, name)
    holds = dict.fromkeys(model for value in values for model in run.reachable(value))
    return Opaque(name, run.site(node), name, holds=tuple(holds))


def method(run: Run, node: cst.Call, receiver: Value, name: str, arguments: Arguments) -> Value:
    """Follow `receiver.name(...)`."""
    match receiver:
        case Models(models=models):
            result = join([networks.method(run, node, m, name, arguments) for m in models])
            return wrapping.after_method(receiver, result)
        case Members():
            return members.call(run, node, receiver, name, arguments.all())
        case Weights():
            return weights.of_method(receiver, name, arguments)
        case StateDict(model=model):
            if name == "copy_":
                run.emit(LoadWeights(run.site(node), model, UNKNOWN))
            return Opaque()
        case Optimizer():
            match arguments.get(0, "closure"):
                case Function() as closure if name == "step":
                    functions.follow(run, node, closure, Arguments())
            if name == "step":
                run.emit(OptimizerStep(run.site(node), run.count))
            return Opaque()
        case Tensor():
            return _tensor_method(run, node, receiver, name, arguments)
        case Instance(cls=cls) if name == "__class__":
            return call_value(run, node, cls, arguments)
        case Instance(cls=cls):
            return _instance_method(run, node, receiver, cls, name, arguments)
        case Class():
            found = classes.find(run, receiver, name)
            if isinstance(found, Function):
                static = "staticmethod" in classes.decorators(found.node)
                by_class = "classmethod" in classes.decorators(found.node)
                if by_class and not static:
                    found = classes.bound(found, receiver)
                return functions.follow(run, node, found, arguments)
            if isinstance(found, Class):
                return call_value(run, node, found, arguments)
            if name == "load_from_checkpoint":
                return construction.construct_loaded(run, node, receiver)
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
        case Settings():
            return options.method(run, receiver, name, arguments)
        case Parser():
            return commandline.parser_method(run, receiver, node, name, arguments)
        case File():
            return receiver if name in {"read", "read_text", "open"} else Opaque()
        case Container() if settings := typed_options.parsed(run, node, receiver, name):
            return settings
        case Container() if built := registry_calls.chosen(run, receiver, name, arguments):
            return call_value(run, node, built.value, built.arguments)
        case Container():
            return sequences.method(run, receiver, name, arguments)
        case Constant(value=str()):
            return strings.method(receiver, name, arguments.positional, bool(arguments.keywords))
        case Data(made=Instance(cls=cls) as made) if classes.find(run, cls, name) is not None:
            return _instance_method(run, node, made, cls, name, arguments)
        case Data(loader=loader):
            if name == "__iter__":
                return receiver
            return Tensor(loader=loader) if name in {"next", "__next__"} else Opaque()
        case Opaque(type_name="ruamel.yaml.YAML"):
            return external.call(run, node, f"{receiver.type_name}.{name}", arguments)
        case Opaque():
            return external.method_of_unknown(run, node, receiver, name, arguments)
    if name == "backward":
        run.emit(sums.backward(run, node))
    return Opaque()


def _tensor_method(
    run: Run, node: cst.Call, receiver: Tensor, name: str, arguments: Arguments
) -> Value:
    if name == "backward":
        run.emit(sums.backward(run, node))
    elif (made := batches_of_one.reshaped(node, name, arguments)) is not None:
        unpacked = made.unpacked or (receiver.unpacked and made.batch_size is UNKNOWN)
        return replace(receiver, batch_size=made.batch_size, unpacked=unpacked)
    elif name in _TENSOR_METHODS:
        return receiver
    return receiver.of_size(UNKNOWN)


def _instance_method(
    run: Run, node: cst.Call, receiver: Instance, cls: Class, name: str, arguments: Arguments
) -> Value:
    found = classes.find(run, cls, name)
    if name == "step" and _is_optimizer(run, cls):
        run.emit(OptimizerStep(run.site(node), run.count))
    if isinstance(found, Function):
        method = classes.bound(found, receiver)
        if functions.is_property(method):
            return call_value(run, node, accessors.get_property(run, node, method), arguments)
        return functions.follow(run, node, method, arguments)
    known = run.heap.get(receiver, name) or found
    if known is not None:
        return call_value(run, node, known, arguments)
    if name == "save_hyperparameters":
        lightning.save_hyperparameters(run, receiver, arguments)
    if name in _ITSELF:
        return receiver
    return unknown_call(run, node, name, [receiver, *arguments.all()])


def _is_optimizer(run: Run, cls: Class) -> bool:
    """Tell whether a class of the project's derives from an optimizer of torch's."""
    return any(map(optimizers.is_of_torch, classes.ancestry(run.project, cls).external))

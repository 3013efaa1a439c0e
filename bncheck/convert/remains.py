"""What is left of a module that normalises and does something else, without the normalisation."""

from __future__ import annotations

import copy
import inspect
import warnings

from torch import fx, nn

from bncheck.convert.replacements import SurgeryFails
from bncheck.graph import Kind
from bncheck.model.operations import describe
from bncheck.model.trace_fx import LayerTracer, has_hooks

_LAYER_OF = {
    "relu": nn.ReLU, "relu6": nn.ReLU6, "leaky_relu": nn.LeakyReLU, "elu": nn.ELU,
    "celu": nn.CELU, "selu": nn.SELU, "gelu": nn.GELU, "silu": nn.SiLU, "mish": nn.Mish,
    "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "hardswish": nn.Hardswish,
    "hardsigmoid": nn.Hardsigmoid, "hardtanh": nn.Hardtanh, "softplus": nn.Softplus,
}  # fmt: skip


def what_remains(module: nn.Module) -> nn.Module:
    """Return a module that does what a normalising module does besides normalising.

    It is in the mode that the module is in. Raises SurgeryFails where that is not the normalisation
    of its input followed by its own child modules and activation functions.
    """
    remains = _in_any_mode(module)
    remains.training = module.training
    return remains


def _in_any_mode(module: nn.Module) -> nn.Module:
    if type(module).__module__.startswith("torch.nn.modules."):
        return nn.Identity()
    if has_hooks(module):
        raise SurgeryFails(f"{type(module).__name__} has hooks")
    tracer = LayerTracer()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = tracer.trace(module)
    except Exception as problem:
        raise SurgeryFails(f"{type(module).__name__} cannot be traced") from problem
    children = _chain_to_batch_norm(graph, dict(module.named_modules()))
    if children is None:
        raise SurgeryFails(f"{type(module).__name__} does more than its child modules say")
    kept = [copy.deepcopy(c) for c in children if type(c) is not nn.Identity]
    match kept:
        case []:
            return nn.Identity()
        case [one]:
            return one
    return nn.Sequential(*kept).train(module.training)


def _chain_to_batch_norm(graph: fx.Graph, modules: dict[str, nn.Module]) -> list[nn.Module] | None:
    """Return the layers between the normalisation and the output, in order; None for more."""
    output = next(n for n in graph.nodes if n.op == "output")
    node = output.args[0]
    chain: list[nn.Module] = []
    while isinstance(node, fx.Node):
        if describe(node, modules).kind is Kind.BATCH_NORM:
            first = node.args[0]
            plain = isinstance(first, fx.Node) and first.op == "placeholder"
            return chain[::-1] if plain else None
        layer = _as_layer(node, modules)
        if layer is None:
            return None
        chain.append(layer)
        node = node.args[0]
    return None


def _as_layer(node: fx.Node, modules: dict[str, nn.Module]) -> nn.Module | None:
    """Return the layer that does what a call with one tensor does."""
    if len(node.all_input_nodes) != 1 or not node.args:
        return None
    if node.op == "call_module":
        return modules[str(node.target)] if len(node.args) == 1 and not node.kwargs else None
    call = describe(node, modules)
    kind = _LAYER_OF.get(call.name)
    if kind is None:
        return None
    accepted = inspect.signature(kind).parameters
    try:
        function = inspect.signature(node.target) if callable(node.target) else None
    except ValueError:
        function = None
    if function is not None:
        given = dict(function.bind(*node.args, **node.kwargs).arguments)
        given.pop(next(iter(function.parameters)))
    elif len(node.args) == 1:
        given = dict(node.kwargs)
    else:
        return None
    if any(name not in accepted for name in given):
        return None
    if call.in_place and "inplace" in accepted:
        given["inplace"] = True
    layer: nn.Module = kind(**given)
    return layer

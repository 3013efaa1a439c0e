"""`torch.*`, `torch.nn.functional.*` and other functions outside the project."""

from __future__ import annotations

import libcst as cst

from bncheck.graph import Kind, Layer, Site
from bncheck.source.interpret.facts import boolean, given_tensor, plain
from bncheck.source.interpret.layers import bind_arguments
from bncheck.source.interpret.machine import Machine
from bncheck.source.interpret.operations import tensor_of
from bncheck.source.interpret.tensors import operate
from bncheck.source.interpret.values import (
    MISSING,
    UNKNOWN,
    Arguments,
    Parameter,
    Tensor,
    tensors_in,
)
from bncheck.source.module import dotted
from bncheck.source.walk import ancestors, walk, walk_kinds


def _parameters(text: str) -> tuple[tuple[str, object], ...]:
    found: list[tuple[str, object]] = []
    for part in text.split():
        name, given, default = part.partition("=")
        known = {"None": None, "True": True, "False": False}
        found.append((name, known.get(default, default) if given else MISSING))
    return tuple(found)


_CONV = _parameters("input weight bias=None stride padding dilation groups")
_PRODUCING = {
    **{f"conv{d}d": (Kind.CONVOLUTION, d) for d in (1, 2, 3)},
    **{f"conv_transpose{d}d": (Kind.TRANSPOSED_CONVOLUTION, d) for d in (1, 2, 3)},
    "linear": (Kind.LINEAR, None),
}
_NORMS = {
    "batch_norm": (
        Kind.BATCH_NORM,
        _parameters(
            "input running_mean running_var weight=None bias=None training=False momentum eps"
        ),
    ),
    "instance_norm": (
        Kind.INSTANCE_NORM,
        _parameters(
            "input running_mean=None running_var=None weight=None bias=None use_input_stats=True"
        ),
    ),
    "layer_norm": (Kind.LAYER_NORM, _parameters("input normalized_shape weight=None bias=None")),
    "group_norm": (Kind.GROUP_NORM, _parameters("input num_groups weight=None bias=None")),
}
_TORCH_BATCH_NORM = _parameters(
    "input weight bias running_mean running_var training momentum eps cudnn_enabled"
)
"""`torch.batch_norm`, which takes the same in another order, and has no defaults."""
_NUMBERS = {"momentum": 0.1, "eps": 1e-5}


def torch_function(machine: Machine, name: str, arguments: Arguments, site: Site | None) -> object:
    """Return what a function of torch gives, adding its node when it reads tensors."""
    short = name.rpartition(".")[2]
    if short in _PRODUCING and not _reads(machine, arguments, "input", site):
        return _from_parameters(arguments)
    if short in _PRODUCING:
        return _produce(machine, short, arguments, site)
    if short in _NORMS and _reads(machine, arguments, "input", site):
        return _normalise(machine, name, arguments, site)
    values = list(arguments.values())
    if not any(True for value in values for _ in tensors_in(value)):
        return _from_parameters(arguments)
    given = _method_like(arguments)
    if "pool" in short and _pools_everything(site):
        given = Arguments(given.positional, {**given.keywords, "output_size": 1}, given.open)
    result = operate(machine, short.rstrip("_"), values, given, site)
    if (short.endswith("_") or arguments.keywords.get("inplace") is True) and values:
        first = values[0]
        if isinstance(first, Tensor) and isinstance(result, Tensor):
            first.node = result.node
    return result


def _pools_everything(site: Site | None) -> bool:
    """Recognise `avg_pool2d(x, x.size()[2:])`: the kernel is as large as the image."""
    match site.mark if site is not None else None:
        case cst.Call(args=[first, kernel, *_]):
            pooled, asked = dotted(first.value), kernel.value
            sides = [asked]
            if isinstance(asked, cst.List | cst.Tuple):
                sides = [element.value for element in asked.elements]
            return (
                pooled is not None
                and all(_is_extent(side, pooled) for side in sides)
                and not any(walk_kinds(asked, (cst.BinaryOperation,)))
            )
    return False


def _is_extent(side: cst.BaseExpression, pooled: str) -> bool:
    """Tell whether an expression asks for the size of what is pooled."""
    return any(
        part.attr.value in {"size", "shape"} and dotted(part.value) == pooled
        for part in walk_kinds(side, (cst.Attribute,))
    )


def _method_like(arguments: Arguments) -> Arguments:
    return Arguments(arguments.positional[1:], arguments.keywords, arguments.open)


def _from_parameters(arguments: Arguments) -> object:
    for value in arguments.values():
        if isinstance(value, Parameter):
            return value.computed
    return Parameter()


def _reads(machine: Machine, arguments: Arguments, name: str, site: Site | None) -> Tensor | None:
    value = arguments.positional[0] if arguments.positional else arguments.keywords.get(name)
    return tensor_of(machine, value, site)


def _produce(machine: Machine, name: str, arguments: Arguments, site: Site | None) -> object:
    kind, dimensions = _PRODUCING[name]
    bound = bind_arguments(_CONV, arguments)
    tensor = _reads(machine, arguments, "input", site)
    assert tensor is not None
    weight, bias = bound["weight"], bound["bias"]
    layer = weight.layer if isinstance(weight, Parameter) else None
    if layer is None and isinstance(bias, Parameter) and bias.role == "bias":
        layer = bias.layer  # whose weight was computed in a way that is not followed
    attributes: dict[str, object] = {"bias": given_tensor(bias), "functional": True}
    if dimensions is not None:
        attributes["dimensions"] = dimensions
    inputs = [tensor, *tensors_in(weight), *tensors_in(bias)]
    if len(inputs) > 1:
        layer = None
    return machine.add(kind, name, site, inputs, attributes, layer)


def _normalise(machine: Machine, name: str, arguments: Arguments, site: Site | None) -> object:
    kind, parameters = _NORMS[name.rpartition(".")[2]]
    if name == "torch.batch_norm":
        parameters = _TORCH_BATCH_NORM
    bound = bind_arguments(parameters, arguments)
    tensor = _reads(machine, arguments, "input", site)
    assert tensor is not None
    attributes: dict[str, object] = {"functional": True}
    if "running_mean" in bound:
        attributes["track_running_stats"] = given_tensor(bound["running_mean"])
        attributes["running_statistics"] = _kept(bound["running_mean"], site)
    attributes["affine"] = given_tensor(bound["weight"])
    if "training" in bound:
        attributes["training"] = boolean(bound["training"])
        kept = attributes.get("running_statistics") is True
        if kept and attributes["training"] is True:
            by_attribute = isinstance(_given_at(site, 5, "training"), cst.Attribute)
            if by_attribute or _looks_at_mode(machine, site):
                attributes["training"] = UNKNOWN
        attributes["training_given"] = (
            UNKNOWN
            if arguments.open
            else "training" in arguments.keywords or len(arguments.positional) > 5
        )
    if "use_input_stats" in bound:
        attributes["use_input_stats"] = boolean(bound["use_input_stats"])
    for key, default in _NUMBERS.items():
        place = {"momentum": 6, "eps": 7}[key]
        given = arguments.positional[place] if len(arguments.positional) > place else default
        attributes[key] = plain(arguments.keywords.get(key, given))
    return machine.add(kind, name.rpartition(".")[2], site, [tensor], attributes, _owner(bound))


def _looks_at_mode(machine: Machine, site: Site | None) -> bool:
    """Tell whether the function around a call decides anything by `training`.

    Then a constant may be the right one where it stands: `if self.training: ... else: ...`.
    """
    if site is None or not isinstance(site.mark, cst.Call):
        return False
    tree = machine.names.project.module(site.path).tree
    around = [n for n in ancestors(site.mark, tree) if isinstance(n, cst.FunctionDef)]
    return any(
        isinstance(name, cst.Name) and name.value == "training"
        for function in around[-1:]
        for node in walk(function)
        if isinstance(node, cst.If | cst.IfExp)
        for name in walk(node.test)
    )


def _kept(running_mean: object, site: Site | None) -> object:
    """Return whether a functional norm's running mean is one that the module keeps."""
    if running_mean is None:
        return False
    if isinstance(running_mean, Parameter):
        return True if running_mean.role != "tensor" else UNKNOWN
    given = _given_at(site, 1, "running_mean")
    named = dotted(given) if given is not None else None
    return True if (named or "").startswith("self.") else UNKNOWN


def _given_at(site: Site | None, place: int, name: str) -> cst.BaseExpression | None:
    """Return the expression that a call gives for an argument."""
    call = site.mark if site is not None else None
    for number, argument in enumerate(call.args if isinstance(call, cst.Call) else ()):
        keyword = argument.keyword.value if argument.keyword is not None else None
        if keyword == name or (keyword is None and number == place):
            return argument.value
    return None


def _owner(bound: dict[str, object]) -> Layer | None:
    for key in ("running_mean", "weight"):
        value = bound.get(key)
        if isinstance(value, Parameter) and value.layer is not None:
            return value.layer
    return None

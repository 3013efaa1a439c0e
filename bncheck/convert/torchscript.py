"""Folds the BatchNorms of a TorchScript module; the result is one too.

TorchScript has no modules to replace: the graph is rewritten. A BatchNorm goes into the
convolution or linear layer before it, where nothing else reads that layer's output or weight.
What the graph does not say, the number of dimensions, is seen while the model runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bncheck.convert.algebra import Weights, batch_norm_map, rounding_problem, scale_output
from bncheck.convert.outcome import Conversion, Refusal, Step
from bncheck.convert.state import left_as_it_was, restore
from bncheck.errors import BNCheckError
from bncheck.model.script_graph import (
    Attribute,
    InputShapes,
    attribute,
    graphs,
    inlined,
    is_none,
    reloaded,
    simplified,
)
from bncheck.model.script_graph import nodes as all_nodes
from bncheck.verification.compare import as_arguments
from bncheck.verification.compare import verify as compare
from bncheck.verification.inputs import draw, map_tensors

BATCH_NORM = "aten::batch_norm"
CONVOLUTIONS = {
    "aten::conv1d": 1,
    "aten::conv2d": 2,
    "aten::conv3d": 3,
    "aten::_convolution_mode": 0,  # as many as its stride has
    "aten::conv_transpose1d": 1,
    "aten::conv_transpose2d": 2,
    "aten::conv_transpose3d": 3,
    "aten::_convolution": 0,
    "aten::convolution": 0,
}
READS_SHAPE = {"aten::dim", "aten::size", "aten::len", "prim::dtype", "prim::device"}
"""Operations that a fold does not change, since they look at no value."""


class _StaysError(Exception):
    """Why a BatchNorm stays."""


@dataclass
class _Script:
    """The module that is rewritten, and what its graphs and a run of it tell."""

    module: Any
    block: dict[Any, int]
    readers: Counter[int]
    """How many operations read each tensor, by the address of its memory."""
    shapes: Mapping[int, set[tuple[int, ...]]]
    """Shapes that reached each BatchNorm, by the address of its running mean."""


def fold_torchscript(
    module: Any,
    example_inputs: Any,
    example_kwargs: Mapping[str, Any] | None = None,
    *,
    verify: bool = True,
) -> Conversion:
    """Return a copy of a `ScriptModule` without each BatchNorm that can go backward.

    Parameters keep their names. A layer that had no bias gets one as a parameter of the root,
    named after the layer. The module given is left as it was.

    Raises BNCheckError where there is no BatchNorm, one is in train mode, or the module does not
    run on the inputs.
    """
    arguments = (as_arguments(example_inputs), dict(example_kwargs or {}))
    _require_eval(module)
    with left_as_it_was(module) as before:
        folded, steps, refusals = _folded(module, arguments)
        verification = compare(module, folded, *arguments) if verify else None
    restore(folded, before)
    return Conversion(folded, tuple(steps), tuple(refusals), verification)


def _require_eval(module: Any) -> None:
    """Raise BNCheckError for a BatchNorm in train mode, which the rewritten graph would not be."""
    for name, part in module.named_modules():
        if "running_mean" in dict(part.named_buffers(recurse=False)) and part.training:
            raise BNCheckError(f"{name or 'the module'} is in train mode: call eval() first")


def _folded(module: Any, arguments: Any) -> tuple[Any, list[Step], list[Refusal]]:
    script = _read(module, arguments)
    forward = script.module._c._get_method("forward").graph
    found = [node for node in _in_order(forward) if node.kind() == BATCH_NORM]
    if not found:
        raise BNCheckError(
            "the TorchScript archive holds no BatchNorm, so there is nothing to fold"
        )
    steps: list[Step] = []
    refusals: list[Refusal] = []
    for number, node in enumerate(found):
        statistics = attribute(script.module, node.inputsAt(3))
        owner = statistics.name.rpartition(".")[0] if statistics else ""
        name = owner or f"batch_norm_{number}"
        try:
            steps.append(Step(name, _fold_one(script, node, statistics), "backward"))
        except _StaysError as reason:
            refusals.append(Refusal(name, str(reason)))
    return reloaded(simplified(script.module)), steps, refusals


def _read(module: Any, arguments: Any) -> _Script:
    copied = inlined(module)
    block: dict[Any, int] = {}
    readers: Counter[int] = Counter()
    for graph in graphs(copied):
        for node, number in all_nodes(graph):
            block[node] = number
            for value in node.inputs():
                read = attribute(copied, value) if _is_tensor(value) else None
                if read is not None:
                    readers[_memory(read.tensor)] += 1
    observed = InputShapes()
    args, kwargs = map_tensors(draw(arguments, torch.Generator().manual_seed(0)), _clone)
    again = reloaded(inlined(module))  # what has run was optimised, and is not rewritten
    try:
        with torch.no_grad():
            again(*args, **kwargs)
    except Exception as problem:
        lines = [line for line in str(problem).splitlines() if line.strip()]
        raise BNCheckError(
            f"the original model does not run on the example input: {lines[-1] if lines else ''}"
        ) from problem
    with torch.no_grad(), observed:  # an error in here, torch does not survive
        again(*args, **kwargs)
    return _Script(copied, block, readers, _by_address(copied, again, observed))


def _by_address(copied: Any, again: Any, observed: InputShapes) -> dict[int, set[tuple[int, ...]]]:
    """Return the shapes by the addresses that the statistics have in the other copy."""
    pairs = zip(_running_means(copied), _running_means(again), strict=True)
    return {
        first.data_ptr(): observed.seen.get(second.data_ptr(), set()) for first, second in pairs
    }


def _running_means(module: Any) -> list[Any]:
    found = []
    for graph in graphs(module):
        for node, _ in all_nodes(graph):
            read = attribute(module, node.inputsAt(3)) if node.kind() == BATCH_NORM else None
            if read is not None:
                found.append(read.tensor)
    return found


def _in_order(graph: Any) -> list[Any]:
    return [node for node, _ in all_nodes(graph)]


def _fold_one(script: _Script, norm: Any, statistics: Attribute | None) -> str:
    """Fold one BatchNorm into its producer and return that layer's name."""
    module = script.module
    mean, variance = statistics, attribute(module, norm.inputsAt(4))
    training, eps = norm.inputsAt(5).toIValue(), norm.inputsAt(7).toIValue()
    if training is not False:
        raise _StaysError("it takes the statistics of the batch: it was traced in train mode")
    if mean is None or variance is None or eps is None:
        raise _StaysError("its statistics are computed while the model runs")
    producer, weight, bias = _producer(script, norm)
    scale_by = _optional(module, norm.inputsAt(1), "its scale")
    shift_by = _optional(module, norm.inputsAt(2), "its shift")
    layer = _layer(script, producer, weight, bias, mean)
    exact = scale_output(
        layer,
        *batch_norm_map(
            mean.tensor.detach(),
            variance.tensor.detach(),
            None if scale_by is None else scale_by.tensor.detach(),
            None if shift_by is None else shift_by.tensor.detach(),
            float(eps),
        ),
    )
    dtype = weight.tensor.dtype
    problem = rounding_problem(exact, dtype)
    if problem is not None:
        raise _StaysError(f"in {dtype} channel {problem[0]} of the result {problem[1]}")
    with torch.no_grad():
        weight.tensor.copy_(exact.weight)
        assert exact.bias is not None
        if bias is not None:
            bias.tensor.copy_(exact.bias)
        else:
            _add_bias(module, producer, weight.name, exact.bias.to(weight.tensor))
    norm.output().replaceAllUsesWith(norm.inputsAt(0))
    norm.destroy()
    return weight.name.rpartition(".")[0] or weight.name or producer.kind().removeprefix("aten::")


def _producer(script: _Script, norm: Any) -> tuple[Any, Attribute, Attribute | None]:
    """Return the layer that computes a BatchNorm's input, its weight and its bias."""
    value = norm.inputsAt(0)
    producer = value.node()
    kind = producer.kind()
    if kind not in CONVOLUTIONS and kind != "aten::linear":
        raise _StaysError(f"its input comes from {kind.removeprefix('aten::')}")
    if script.block.get(producer) != script.block.get(norm):
        raise _StaysError("it runs under a condition or in a loop that its layer is outside of")
    others = [u.user for u in value.uses() if u.user != norm and u.user.kind() not in READS_SHAPE]
    if others:
        raise _StaysError(f"the output before it is also read by {others[0].kind()}")
    weight = attribute(script.module, producer.inputsAt(1))
    if weight is None:
        raise _StaysError("the weight of the layer before it is computed while the model runs")
    bias = _optional(script.module, producer.inputsAt(2), "the bias of the layer before it")
    for tensor in (weight, bias):
        if tensor is not None and script.readers[_memory(tensor.tensor)] != 1:
            raise _StaysError(f"{tensor.name or 'the weight before it'} is also used elsewhere")
    return producer, weight, bias


def _optional(module: Any, value: Any, what: str) -> Attribute | None:
    """Return a tensor that may be None; refuse one that is computed."""
    if is_none(value):
        return None
    found = attribute(module, value)
    if found is None and _attribute_is_none(module, value):
        return None
    if found is None:
        raise _StaysError(f"{what} is computed while the model runs")
    return found


def _attribute_is_none(module: Any, value: Any) -> bool:
    """Tell whether an attribute of type `Optional[Tensor]` is None."""
    path: list[str] = []
    node = value.node()
    while node.kind() == "prim::GetAttr":
        path.insert(0, node.s("name"))
        node = node.inputsAt(0).node()
    owner = module
    for name in path:
        owner = getattr(owner, name, None)
    return bool(path) and owner is None


def _layer(
    script: _Script, producer: Any, weight: Attribute, bias: Attribute | None, mean: Attribute
) -> Weights:
    kind = producer.kind()
    shapes = script.shapes.get(mean.tensor.data_ptr(), set())
    if not shapes:
        raise _StaysError("it did not run on the example input")
    groups, layout, dimensions = 1, "linear", 0
    if kind != "aten::linear":
        # conv and _convolution_mode: weight, bias, stride, padding, dilation, groups; convolution
        # and _convolution have transposed and output_padding before groups; conv_transpose:
        # weight, bias, stride, padding, output_padding, groups, dilation
        long = kind in ("aten::_convolution", "aten::convolution")
        transposed = "transpose" in kind or (long and producer.inputsAt(6).toIValue())
        at = 8 if long else 6
        groups = producer.inputsAt(at).toIValue()
        layout = "transposed" if transposed else "convolution"
        dimensions = CONVOLUTIONS[kind] or weight.tensor.dim() - 2
    if {len(shape) for shape in shapes} != {dimensions + 2}:
        raise _StaysError(
            f"its input has {sorted(map(len, shapes))[0]} dimensions, so its channels are not the "
            "outputs of the layer before it"
        )
    outputs = weight.tensor.shape[1] * groups if layout == "transposed" else weight.tensor.shape[0]
    if outputs != mean.tensor.numel() or not weight.tensor.is_floating_point():
        raise _StaysError("its channels are not the outputs of the layer before it")
    return Weights(
        weight.tensor.detach().double(),
        None if bias is None else bias.tensor.detach().double(),
        layout,
        int(groups),
    )


class _Bias(nn.Module):
    """Holds the bias of a layer that had none."""

    def __init__(self, bias: Any) -> None:
        super().__init__()
        self.bias = nn.Parameter(bias, requires_grad=False)


def _add_bias(module: Any, producer: Any, weight_name: str, bias: Any) -> None:
    """Give a layer a bias: in its own place, where it has one that is None, or from the root.

    A traced layer without a bias has no such place, and layers share their types, so that only
    the root, which is the one of its type, can be given more.
    """
    owner, _, _ = weight_name.rpartition(".")
    if producer.inputsAt(2).node().kind() == "prim::GetAttr":
        layer = module
        for part in owner.split("."):
            layer = getattr(layer, part)
        layer._c.setattr("bias", bias)
        return
    name = f"{owner.replace('.', '_') or 'constant'}_folded"
    while module._c.hasattr(name):
        name += "_"
    child: Any = torch.jit.trace_module(_Bias(bias), {})._c  # type: ignore[no-untyped-call]
    module._c._register_attribute(name, child._type(), child)
    graph = module._c._get_method("forward").graph
    value = next(graph.inputs())
    for part, kind in ((name, child._type()), ("bias", torch._C.TensorType.get())):
        read = graph.create("prim::GetAttr", [value], 1)
        read.s_("name", part)
        read.output().setType(kind)
        read.insertBefore(producer)
        value = read.output()
    producer.replaceInput(2, value)


def _is_tensor(value: Any) -> bool:
    return value.node().kind() in ("prim::GetAttr", "prim::Constant")


def _memory(tensor: Any) -> int:
    address: int = tensor.untyped_storage().data_ptr()
    return address


def _clone(tensor: Any) -> Any:
    return tensor.clone()

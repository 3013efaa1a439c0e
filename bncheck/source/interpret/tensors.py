"""Attributes and methods of tensors."""

from __future__ import annotations

from typing import Final

from bncheck.graph import Kind, Site
from bncheck.source.interpret.machine import Machine
from bncheck.source.interpret.values import (
    UNKNOWN,
    Arguments,
    List,
    Native,
    Tensor,
    Unknown,
    tensors_in,
)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


RESHAPES: Final = _words(
    "view reshape flatten permute transpose squeeze unsqueeze expand expand_as repeat "
    "view_as reshape_as unflatten swapaxes swapdims movedim moveaxis t ravel "
    "contiguous_view rearrange pixel_shuffle pixel_unshuffle channel_shuffle"
)
ACTIVATIONS: Final = _words(
    "relu relu6 leaky_relu prelu rrelu elu selu celu gelu silu mish sigmoid tanh hardswish "
    "hardsigmoid hardtanh hardshrink softshrink tanhshrink softplus softsign softmax "
    "log_softmax logsigmoid threshold glu clamp"
)
_IDENTITIES: Final = _words(
    "contiguous clone requires_grad_ float half to cuda cpu type_as type double bfloat16"
)
_SAME: Final = frozenset({"data", "real", "detach", "requires_grad_", "retain_grad"})
_SIZES: Final = _words(
    "size dim numel ndimension shape ndim dtype device layout stride is_contiguous "
    "element_size requires_grad is_cuda grad itemsize nelement is_floating_point "
    "get_device item tolist numpy is_sparse is_quantized storage grad_fn names is_nested "
    "data_ptr"
)
_SEVERAL: Final = _words("chunk split unbind tensor_split split_with_sizes topk sort")


def tensor_attribute(machine: Machine, value: Tensor, name: str, site: Site | None) -> object:
    """Return an attribute of a tensor, such as a bound method."""
    if name in {"data", "real"}:
        return value
    if name in {"T", "mT", "H"}:
        return machine.add(Kind.RESHAPE, name, site, [value])
    if name in {"shape", "dtype", "device", "ndim", "requires_grad", "is_cuda", "grad", "layout"}:
        return UNKNOWN
    return Native(name, lambda m, a, s: tensor_method(m, value, name, a, s))


def tensor_method(
    machine: Machine, value: Tensor, name: str, arguments: Arguments, site: Site | None
) -> object:
    """Return what a tensor's method gives."""
    if name in _SIZES:
        return UNKNOWN
    if name in _SAME:
        return value
    result = operate(machine, name.rstrip("_"), [value, *arguments.values()], arguments, site)
    if name.endswith("_") and not name.endswith("__") and isinstance(result, Tensor):
        value.node = result.node
    return result


def operate(
    machine: Machine, name: str, values: list[object], arguments: Arguments, site: Site | None
) -> object:
    """Add the node for a tensor operation known by name, and return its result."""
    inputs = [tensor for given in values for tensor in tensors_in(given)]
    if any(isinstance(given, Unknown) for given in values) and name in {"add", "sub", "cat"}:
        inputs.append(machine.add(Kind.OPAQUE, "unknown value", site, []))
    kind = operation_kind(name)
    if kind is Kind.IDENTITY and len(inputs) > 1:
        inputs = inputs[:1]
    if name in _SEVERAL:
        count = _count(name, arguments)
        parts = machine.add(Kind.OPERATION, name, site, inputs)
        return (
            List(
                None
                if count is None
                else [machine.add(Kind.OPERATION, "part", site, [parts]) for _ in range(count)]
            )
            if count is not None
            else parts
        )
    return machine.add(kind, name, site, inputs, _shape_facts(kind, name, arguments))


def _shape_facts(kind: Kind, name: str, arguments: Arguments) -> dict[str, object]:
    """Return the dimension of a concatenation, and the rank that a reshape surely gives."""
    given = arguments.positional
    if arguments.open:
        return {}
    if kind is Kind.CONCAT:
        dimension = arguments.keywords.get("dim", given[0] if given else 0)
        return {"dimension": dimension} if type(dimension) is int else {}
    if name == "flatten" and not {*arguments.keywords} - {"start_dim"} and len(given) <= 1:
        start = arguments.keywords.get("start_dim", given[0] if given else 0)
        return {"rank": start + 1} if type(start) is int and start >= 0 else {}
    if name in {"view", "reshape"} and len(given) > 1:
        return {"rank": len(given)}
    return {}


def operation_kind(name: str) -> Kind:
    """Return the kind of a tensor operation, method or function, by its name."""
    if name in RESHAPES:
        return Kind.RESHAPE
    if name in ACTIVATIONS:
        return Kind.ACTIVATION
    if name in _IDENTITIES:
        return Kind.IDENTITY
    if name in {"add", "sub", "subtract", "iadd"}:
        return Kind.ADD
    if name in {"cat", "concat", "concatenate"}:
        return Kind.CONCAT
    if "pool" in name:
        return Kind.POOLING
    if "dropout" in name:
        return Kind.DROPOUT
    if name == "pad":
        return Kind.PADDING
    if name in {"interpolate", "upsample", "upsample_nearest", "upsample_bilinear", "grid_sample"}:
        return Kind.UPSAMPLING
    if name in {"scaled_dot_product_attention", "multi_head_attention_forward"}:
        return Kind.ATTENTION
    return Kind.OPERATION


def _count(name: str, arguments: Arguments) -> int | None:
    if name in {"topk", "sort"}:
        return 2
    given = arguments.positional[0] if arguments.positional else None
    given = arguments.keywords.get("chunks", given)
    if name == "chunk" and isinstance(given, int) and 0 < given < 100:
        return given
    sizes = arguments.keywords.get("split_size_or_sections", given)
    sizes = arguments.keywords.get("split_size", sizes)
    if isinstance(sizes, List) and sizes.state is not None:
        return len(sizes.state)
    if isinstance(sizes, tuple):
        return len(sizes)
    return None

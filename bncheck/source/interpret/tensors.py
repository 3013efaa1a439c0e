"""Attributes and methods of tensors."""

from __future__ import annotations

from typing import Final

from bncheck.graph import Kind, Site
from bncheck.source.interpret.facts import plain
from bncheck.source.interpret.machine import Machine
from bncheck.source.interpret.values import (
    UNKNOWN,
    Arguments,
    Branches,
    Either,
    List,
    Native,
    Symbol,
    Tensor,
    Unknown,
    tensors_in,
)
from bncheck.source.joined_samples import joins_samples


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
    "log_softmax logsigmoid threshold clamp"
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
_ELEMENTWISE: Final = _words(
    "add sub subtract iadd mul multiply div divide true_divide pow square sqrt rsqrt exp log "
    "log1p abs neg maximum minimum clip nan_to_num where masked_fill"
)
_REDUCING: Final = _words("mean sum amax amin logsumexp std var prod")
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
        change: dict[str, object] = {"rank_change": -1 if name == "unbind" else 0}
        parts = machine.add(Kind.OPERATION, name, site, inputs, change)
        return (
            List(
                None
                if count is None
                else [
                    machine.add(Kind.OPERATION, "part", site, [parts], {"rank_change": 0})
                    for _ in range(count)
                ]
            )
            if count is not None
            else parts
        )
    complete = kind is not Kind.CONCAT or not any(map(_holds_unknown, values))
    facts = _shape_facts(kind, name, arguments, complete=complete)
    if kind is Kind.RESHAPE and site is not None and joins_samples(name, site.mark):
        facts = {**facts, "rows_of_a_sample": True}
    return machine.add(kind, name, site, inputs, facts)


def _holds_unknown(value: object) -> bool:
    """Tell whether a list of tensors may hold others than are known, or more."""
    if isinstance(value, List):
        return value.state is None or any(map(_holds_unknown, value.state))
    if isinstance(value, tuple):
        return any(map(_holds_unknown, value))
    return isinstance(value, (Unknown, Branches, Either, Symbol))


def _shape_facts(
    kind: Kind, name: str, arguments: Arguments, *, complete: bool
) -> dict[str, object]:
    """Return what an operation surely makes of the shape of its input; `Node` says how."""
    if arguments.open:
        return {}
    if kind is Kind.CONCAT:
        dimension = _argument(arguments, 0, "dim", 0)
        return {"dimension": dimension} if type(dimension) is int and complete else {}
    if kind is Kind.POOLING and name[-2:] in {"1d", "2d", "3d"}:
        default = arguments.at(0) if name.startswith("adaptive") else UNKNOWN
        size = plain(arguments.keywords.get("output_size", default))
        return {"dimensions": int(name[-2]), "output_size": size}
    if name in _ELEMENTWISE:
        return {"elementwise": True}
    if name == "flatten" and not {*arguments.keywords} - {"start_dim"}:
        start = _argument(arguments, 0, "start_dim", 0)
        known = type(start) is int and start >= 0 and len(arguments.positional) <= 1
        return {"rank": start + 1, "flattened_from": start} if known and type(start) is int else {}
    if name == "pixel_shuffle":
        return {"upscale_factor": plain(_argument(arguments, 0, "upscale_factor", UNKNOWN))}
    if name in {"view", "reshape", "permute"}:
        return _sizes_given(arguments)
    if name in _REDUCING:
        return _reduced(arguments)
    if name == "narrow":
        dimension = _argument(arguments, 0, "dim", UNKNOWN)
        return {"rank_change": 0, "cropped": (dimension,)} if type(dimension) is int else {}
    if kind is Kind.PADDING:
        return _padded(arguments)
    change = {"transpose": 0, "swapaxes": 0, "swapdims": 0, "unsqueeze": 1, "glu": 0}.get(name)
    return {} if change is None else {"rank_change": change}


def _argument(arguments: Arguments, place: int, name: str, default: object) -> object:
    return arguments.keywords.get(name, arguments.at(place, default))


def _sizes_given(arguments: Arguments) -> dict[str, object]:
    """Return the rank of what is given one number for each of its dimensions.

    Where the first is what the others leave, and one of those is not known, what was several
    values of one sample may be rows of their own: `x.reshape(-1, channels * bins)`.
    """
    given = arguments.positional
    if len(given) == 1 and isinstance(given[0], (tuple, List)):
        sizes = given[0].state if isinstance(given[0], List) else given[0]
        if not sizes or any(isinstance(size, Branches) for size in sizes):
            return {}
    elif len(given) > 1 and not arguments.keywords:
        sizes = given
    else:
        return {}
    rows = sizes[0] == -1 and not all(type(size) is int for size in sizes)
    return {"rank": len(sizes), "rows_of_a_sample": True} if rows else {"rank": len(sizes)}


def _reduced(arguments: Arguments) -> dict[str, object]:
    """Return by how many dimensions a mean or a sum over some of them lowers the rank."""
    dimensions = _argument(arguments, 0, "dim", arguments.keywords.get("axis", None))
    kept = _argument(arguments, 1, "keepdim", arguments.keywords.get("keepdims", False))
    if isinstance(dimensions, List):
        dimensions = tuple(dimensions.state) if dimensions.state is not None else None
    if type(dimensions) is int:
        dimensions = (dimensions,)
    if not isinstance(dimensions, tuple) or not all(type(d) is int for d in dimensions):
        return {}
    if not dimensions or type(kept) is not bool:
        return {}
    return {"rank_change": 0, "reduced": dimensions} if kept else {"rank_change": -len(dimensions)}


def _padded(arguments: Arguments) -> dict[str, object]:
    """Return which dimensions a padding by less than nothing crops; it has the last one first."""
    sizes = _argument(arguments, 0, "pad", UNKNOWN)
    if isinstance(sizes, List):
        sizes = tuple(sizes.state) if sizes.state is not None else UNKNOWN
    if not isinstance(sizes, tuple) or not all(type(s) is int and s <= 0 for s in sizes):
        return {}
    return {"cropped": tuple(-1 - place // 2 for place, size in enumerate(sizes) if size)}


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

"""What each node of a TorchScript graph computes, as a function of Python."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from bncheck.errors import BNCheckError
from bncheck.model.script_graph import attribute_path

SILENT = frozenset({"prim::RaiseException", "prim::Print", "aten::warn"})
"""What says or raises something and computes nothing: the module given does so as well."""

_ATTRIBUTES_WORDS = """
    dtype device layout is_cuda is_cpu is_quantized is_sparse is_complex requires_grad data
    itemsize is_mkldnn is_meta
"""
_ATTRIBUTES = frozenset(_ATTRIBUTES_WORDS.split())


class UnreadableScriptError(BNCheckError):
    """Something in a TorchScript graph has no counterpart in Python."""


def structural(node: Any, arguments: Sequence[Any]) -> tuple[Any, ...] | None:
    """Return the results of a node that only packs and unpacks; None for other nodes."""
    first = arguments[0] if arguments else None
    match node.kind():
        case "prim::ListConstruct":
            return (list(arguments),)
        case "prim::TupleConstruct":
            return (tuple(arguments),)
        case "prim::DictConstruct":
            return (dict(zip(arguments[::2], arguments[1::2], strict=True)),)
        case "prim::ListUnpack" | "prim::TupleUnpack" if isinstance(first, list | tuple):
            return tuple(first)
        case "prim::TupleIndex" if isinstance(first, tuple):
            return (first[arguments[1]],)
        case "prim::Uninitialized":
            return (None,)
        case "prim::unchecked_cast" | "aten::_unwrap_optional" | "prim::unchecked_unwrap_optional":
            return (first,)
    return None


def operator_of(node: Any) -> Callable[..., Any]:
    """Return the function that a node calls, with `arguments_of` it.

    Raises UnreadableScriptError where there is none.
    """
    kind = str(node.kind())
    namespace, _, name = kind.partition("::")
    if namespace == "prim" and name in _ATTRIBUTES:
        return getattr
    if kind in _PLAIN:
        return _PLAIN[kind]
    if kind in CONTAINERS and reads_container(node):
        return CONTAINERS[kind]
    if kind == "aten::_convolution":
        return _convolution
    if kind == "aten::_convolution_mode":
        return _convolution_padded_by_name(node)
    return _overload(node, namespace, name)


def arguments_of(node: Any, inputs: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return what the function of a node is called with for these inputs of the node."""
    namespace, _, name = str(node.kind()).partition("::")
    if namespace == "prim" and name in _ATTRIBUTES:
        return (inputs[0], name), {}
    if node.kind() == "aten::_convolution":  # the rest are flags of a backend
        return tuple(inputs[:9]), {}
    keywords = {
        one.name: value
        for one, value in zip(_schema_arguments(node), inputs, strict=False)
        if one.kwarg_only
    }
    return tuple(inputs[: len(inputs) - len(keywords)]), keywords


def reads_container(node: Any) -> bool:
    """Tell whether a list, dict or tuple is among the inputs of a node."""
    kinds = {value.type().kind() for value in node.inputs()}
    return not kinds.isdisjoint({"ListType", "DictType", "TupleType"})


def written(node: Any) -> list[Any]:
    """Return the inputs that a node writes to."""
    pairs = zip(_schema_arguments(node), node.inputs(), strict=False)
    return [value for one, value in pairs if one.alias_info and one.alias_info.is_write]


def _schema_arguments(node: Any) -> list[Any]:
    try:
        return list(torch._C.parse_schema(node.schema()).arguments)
    except RuntimeError:  # nodes of `prim` have none
        return []


def constant(module: Any, node: Any) -> Any:
    """Return the value of a constant, or of an attribute.

    Raises UnreadableScriptError for one that Python cannot have.
    """
    value: Any = module
    try:
        if node.kind() == "prim::Constant":
            return node.output().toIValue()
        for name in attribute_path(node.output()):
            value = getattr(value, name)
    except (RuntimeError, AttributeError) as problem:
        raise UnreadableScriptError(
            f"the TorchScript has a constant of type {node.output().type()}, which is not "
            "understood"
        ) from problem
    return value


def is_module(value: Any) -> bool:
    """Tell whether a value is a module, whose attributes are read by their paths."""
    return value.type().kind() in ("ClassType", "InterfaceType")


def _overload(node: Any, namespace: str, name: str) -> Callable[..., Any]:
    try:
        schema = torch._C.parse_schema(node.schema())
        packet = getattr(getattr(torch.ops, namespace), name)
        found: Callable[..., Any] = getattr(packet, schema.overload_name or "default")
    except (AttributeError, RuntimeError) as problem:
        raise UnreadableScriptError(
            f"the TorchScript calls {node.kind()}, which is not understood"
        ) from problem
    return found


def _convolution_padded_by_name(node: Any) -> Callable[..., Any]:
    packet = getattr(torch.ops.aten, f"conv{len(node.inputsAt(3).toIValue() or ())}d", None)
    if packet is None:
        raise UnreadableScriptError("the TorchScript has a convolution of unknown dimensions")
    found: Callable[..., Any] = packet.padding
    return found


def _slice(items: Any, start: Any = None, end: Any = None, step: Any = None) -> Any:
    return items[start:end:step]


def _tensor(data: Any, *, dtype: Any = None, device: Any = None, **_: Any) -> torch.Tensor:
    """Make a tensor of numbers; a graph of torch.fx holds them in lists of its own kind."""
    if isinstance(dtype, int):  # as TorchScript counts dtypes
        dtype = torch.ops.aten.empty.memory_format([0], dtype=dtype).dtype
    return torch.tensor(_plain_lists(data), dtype=dtype, device=device)


def _plain_lists(data: Any) -> Any:
    return [_plain_lists(item) for item in data] if isinstance(data, list | tuple) else data


def _keys(mapping: Any) -> Any:
    return list(mapping.keys())


def _values(mapping: Any) -> Any:
    return list(mapping.values())


def _items(mapping: Any) -> Any:
    return list(mapping.items())


def _format(text: str, *values: Any) -> str:
    return text.format(*values)


_convolution: Callable[..., Any] = torch.ops.aten.convolution.default

_PLAIN: Mapping[str, Callable[..., Any]] = {
    "aten::__is__": operator.is_,
    "aten::__isnot__": operator.is_not,
    "aten::format": _format,
    "aten::tensor": _tensor,
    "prim::NumToTensor": torch.tensor,
    "prim::TupleIndex": operator.getitem,
    "prim::max": max,
    "prim::min": min,
}

CONTAINERS: Mapping[str, Callable[..., Any]] = {
    "aten::__getitem__": operator.getitem,
    "aten::len": len,
    "aten::slice": _slice,
    "aten::add": operator.add,
    "aten::list": list,
    "aten::copy": list,
    "aten::append": list.append,
    "aten::extend": list.extend,
    "aten::insert": list.insert,
    "aten::pop": list.pop,
    "aten::_set_item": operator.setitem,
    "aten::keys": _keys,
    "aten::values": _values,
    "aten::items": _items,
}
"""Operators on lists and dicts of whatever type, which torch.ops cannot call."""

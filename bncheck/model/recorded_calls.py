"""How a call that was seen as it ran is written in a torch.fx graph."""

from __future__ import annotations

import operator
from typing import Any

import torch

_OPERATOR_WORDS = """
    add sub mul truediv floordiv mod pow matmul neg pos abs invert getitem setitem
    lt le gt ge eq ne iadd isub imul itruediv ifloordiv imod ipow iand ior ixor
    lshift rshift xor contains
"""
_OPERATORS = {
    **{f"__{name}__": getattr(operator, name) for name in _OPERATOR_WORDS.split()},
    "__and__": operator.and_,
    "__or__": operator.or_,
    "__bool__": bool,
}
_REVERSED_WORDS = "add sub mul truediv floordiv mod pow matmul lshift rshift xor"
_REVERSED = {
    **{f"__r{name}__": getattr(operator, name) for name in _REVERSED_WORDS.split()},
    "__rdiv__": operator.truediv,
    "__rand__": operator.and_,
    "__ror__": operator.or_,
}

_HARMLESS_WORDS = """
    __len__ __hash__ __repr__ __str__ __format__ __dir__ __class__ __get__ is_shared
    is_inference is_same_size grad requires_grad_ is_leaf grad_fn output_nr _version
    is_meta is_nested is_mkldnn is_sparse_csr is_conj is_neg is_signed is_mps is_xpu is_cpu
    retains_grad nelement dense_dim sparse_dim can_cast result_type promote_types
"""
_HARMLESS = frozenset(_HARMLESS_WORDS.split())


def harmless(name: str) -> bool:
    """Tell whether a call tells nothing of a tensor's values but to the reader of a text."""
    return name in _HARMLESS


def as_node_call(function: Any, args: tuple[Any, ...]) -> tuple[str, Any, tuple[Any, ...]]:
    """Return the operation, target and positional arguments of the node for a call.

    Methods and operators of tensors get the form in which torch.fx traces them.
    """
    name = getattr(function, "__name__", "")
    if isinstance(function, torch._ops.OpOverload):
        return "call_function", function, args
    if name in {"__get__", "__set__", "__delete__"}:
        attribute = function.__self__.__name__
        accessor = {"__get__": getattr, "__set__": setattr, "__delete__": delattr}[name]
        return "call_function", accessor, (args[0], attribute, *args[1:])
    if getattr(torch.Tensor, name, None) == function or _is_tensor_method(function):
        if name in _OPERATORS:
            return "call_function", _OPERATORS[name], args
        if name in _REVERSED:
            return "call_function", _REVERSED[name], (args[1], args[0])
        return "call_method", name, args
    return "call_function", function, args


def _is_tensor_method(function: Any) -> bool:
    owner = getattr(function, "__objclass__", None)
    return isinstance(owner, type) and issubclass(torch.Tensor, owner)

"""The arguments of traced calls by name, however the call was spelled."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn

from bncheck.model.operations import Call

_CONVOLUTION = "input weight bias stride padding dilation groups"
_TRANSPOSED = "input weight bias stride padding output_padding groups dilation"
_AVERAGE = "input kernel_size stride padding ceil_mode count_include_pad divisor_override"
_MAXIMUM = "input kernel_size stride padding dilation ceil_mode return_indices"
_PARAMETERS: dict[str, str] = {
    **{f"conv{n}d": _CONVOLUTION for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": _TRANSPOSED for n in (1, 2, 3)},
    "convolution": "input weight bias stride padding dilation transposed output_padding groups",
    "linear": "input weight bias",
    "_native_batch_norm_legit_no_training": (
        "input weight bias running_mean running_var momentum eps"
    ),
    "native_batch_norm": "input weight bias running_mean running_var training momentum eps",
    **{f"avg_pool{n}d": _AVERAGE for n in (1, 2, 3)},
    **{f"max_pool{n}d": _MAXIMUM for n in (1, 2, 3)},
    **{f"adaptive_avg_pool{n}d": "input output_size" for n in (1, 2, 3)},
    **{f"adaptive_max_pool{n}d": "input output_size return_indices" for n in (1, 2, 3)},
    "mean": "input dim keepdim dtype",
    "sum": "input dim keepdim dtype",
    "amax": "input dim keepdim",
    "amin": "input dim keepdim",
    "pad": "input pad mode value",
    "constant_pad_nd": "input pad value",
    "add": "input other alpha",
    "sub": "input other alpha",
    "rsub": "input other alpha",
    "mul": "input other",
    "div": "input other rounding_mode",
    "matmul": "input other",
    "mm": "input other",
    "bmm": "input other",
    "addmm": "input mat1 mat2 beta alpha",
    "baddbmm": "input mat1 mat2 beta alpha",
    "einsum": "equation input other",
    "tensordot": "input other dims dims_other",
    "lerp": "input end weight",
    "where": "condition input other",
    "addcmul": "input tensor1 tensor2 value",
    "addcdiv": "input tensor1 tensor2 value",
    "cat": "tensors dim",
    "concat": "tensors dim",
    "concatenate": "tensors dim",
    "softmax": "input dim",
    "prelu": "input weight",
    "getitem": "input index",
    "narrow": "input dim start length",
    "dropout": "input p training",
}
_BATCH_NORM_FUNCTIONAL = "input running_mean running_var weight bias training momentum eps"
_BATCH_NORM_ATEN = "input weight bias running_mean running_var training momentum eps cudnn_enabled"
_SYNONYMS = {"self": "input", "a": "input", "b": "other", "x": "input", "axis": "dim",
             "use_input_stats": "training"}  # fmt: skip

PARAMETER_ROLES: dict[str, tuple[str, ...]] = {
    **{f"conv{n}d": ("weight", "bias") for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": ("weight", "bias") for n in (1, 2, 3)},
    "convolution": ("weight", "bias"),
    "linear": ("weight", "bias"),
    "batch_norm": ("running_mean", "running_var", "weight", "bias"),
    "instance_norm": ("running_mean", "running_var", "weight", "bias"),
    "native_batch_norm": ("running_mean", "running_var", "weight", "bias"),
    "_native_batch_norm_legit_no_training": ("running_mean", "running_var", "weight", "bias"),
    "prelu": ("weight",),
}


DEFAULTS: dict[str, Any] = {
    "stride": 1, "padding": 0, "dilation": 1, "groups": 1, "output_padding": 0, "eps": 1e-5,
}  # fmt: skip
"""What the functions take where a call leaves a setting out, whatever its module has."""


def named_arguments(node: fx.Node, call: Call) -> dict[str, Any]:
    """Return the arguments of a function, method or ATen call of a known operation by name."""
    found = dict(zip(argument_names(node, call), node.args, strict=False))
    found.update({_SYNONYMS.get(name, name): value for name, value in node.kwargs.items()})
    return found


def argument_names(node: fx.Node, call: Call) -> list[str]:
    """Return the names of what a call of a known operation takes by position, in order."""
    if call.name in {"batch_norm", "instance_norm"}:
        functional = getattr(node.target, "__module__", "") == "torch.nn.functional"
        return (_BATCH_NORM_FUNCTIONAL if functional else _BATCH_NORM_ATEN).split()
    if call.name in _PARAMETERS:
        return _PARAMETERS[call.name].split()
    if isinstance(node.target, torch._ops.OpOverload):
        return [argument.name for argument in node.target._schema.arguments]
    return ["input"]


_MODULE_ATTRIBUTES_WORDS = """
    stride padding dilation groups output_padding padding_mode eps momentum kernel_size
    ceil_mode count_include_pad divisor_override return_indices output_size in_channels
    out_channels in_features out_features num_features num_groups num_channels affine
    track_running_stats p
"""
_MODULE_ATTRIBUTES = _MODULE_ATTRIBUTES_WORDS.split()


def module_arguments(module: nn.Module) -> dict[str, Any]:
    """Return the settings of a torch.nn layer under the names that its function has."""
    found = {name: getattr(module, name) for name in _MODULE_ATTRIBUTES if hasattr(module, name)}
    if "affine" in found:  # instance and batch normalisation
        tracks = getattr(module, "running_mean", None) is not None
        found["training"] = module.training or not tracks
    if type(module).__name__.startswith(("ZeroPad", "ConstantPad")):
        found["pad"], found["value"] = module.padding, getattr(module, "value", 0.0)
        found["mode"] = "constant"
    return found


def plain(arguments: dict[str, Any]) -> dict[str, object]:
    """Return the arguments that are numbers, texts or sequences."""
    return {
        name: value
        for name, value in arguments.items()
        if isinstance(value, bool | int | float | str | tuple | list)
    }

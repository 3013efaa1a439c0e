"""What each traced call does: from an fx node's target to a `Kind` and one plain name.

A layer module, a function of `torch.nn.functional`, a tensor method and an ATen overload that do
the same thing get the same name (`conv2d`, `batch_norm`, `flatten`), so that everything after
this module asks about operations and never about where a call came from.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import fx, nn

from bncheck.graph import Kind

_NAMES: dict[Kind, str] = {
    Kind.CONVOLUTION: "conv1d conv2d conv3d convolution",
    Kind.TRANSPOSED_CONVOLUTION: "conv_transpose1d conv_transpose2d conv_transpose3d",
    Kind.LINEAR: "linear",
    Kind.BATCH_NORM: "batch_norm native_batch_norm _native_batch_norm_legit_no_training",
    Kind.INSTANCE_NORM: "instance_norm",
    Kind.LAYER_NORM: "layer_norm native_layer_norm rms_norm",
    Kind.GROUP_NORM: "group_norm native_group_norm",
    Kind.ACTIVATION: (
        "relu relu6 leaky_relu prelu rrelu elu celu selu gelu silu mish sigmoid tanh hardswish "
        "hardsigmoid hardtanh softplus softsign softmax log_softmax threshold clamp clamp_min "
        "clamp_max logsigmoid tanhshrink softshrink hardshrink glu"
    ),
    Kind.DROPOUT: (
        "dropout dropout1d dropout2d dropout3d alpha_dropout feature_dropout feature_alpha_dropout"
    ),
    Kind.IDENTITY: "identity clone contiguous alias detach lift_fresh_copy positive",
    Kind.POOLING: (
        "avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d "
        "adaptive_avg_pool3d max_pool1d max_pool2d max_pool3d adaptive_max_pool1d "
        "adaptive_max_pool2d adaptive_max_pool3d lp_pool1d lp_pool2d lp_pool3d mean sum "
        "amax amin"
    ),
    Kind.PADDING: "pad constant_pad_nd reflection_pad replication_pad circular_pad zero_pad",
    Kind.UPSAMPLING: (
        "interpolate upsample upsample_nearest1d upsample_nearest2d upsample_nearest3d "
        "upsample_linear1d upsample_bilinear2d upsample_bicubic2d upsample_trilinear3d "
        "_upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d "
        "upsample_nearest upsample_bilinear"
    ),
    Kind.RESHAPE: (
        "view reshape flatten unflatten permute transpose t movedim moveaxis swapaxes swapdims "
        "unsqueeze squeeze expand select slice narrow getitem split split_with_sizes chunk unbind "
        "index tensor_split index_select pixel_shuffle pixel_unshuffle channel_shuffle roll "
        "native_channel_shuffle reshape_as view_as expand_as "
        "flip ravel unfold repeat tile repeat_interleave rot90 _unsafe_view mT T H mH adjoint "
        "stack hstack vstack dstack"
    ),
    Kind.ADD: "add iadd sub isub",
    Kind.CONCAT: "cat concat concatenate",
    Kind.RECURRENT: "lstm gru rnn rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell",
    Kind.ATTENTION: "multi_head_attention_forward scaled_dot_product_attention multihead_attention",
}

TUPLES = frozenset({"native_batch_norm", "_native_batch_norm_legit_no_training"})
"""Normalisations that give their statistics besides, so that what is read is a member."""

KIND_OF: dict[str, Kind] = {name: kind for kind, names in _NAMES.items() for name in names.split()}

_MODULE_NAMES: dict[str, str] = {
    **{f"Conv{n}d": f"conv{n}d" for n in (1, 2, 3)},
    **{f"ConvTranspose{n}d": f"conv_transpose{n}d" for n in (1, 2, 3)},
    **{f"BatchNorm{n}d": "batch_norm" for n in (1, 2, 3)},
    **{f"InstanceNorm{n}d": "instance_norm" for n in (1, 2, 3)},
    **{f"{a}{n}d": f"{b}{n}d" for n in (1, 2, 3) for a, b in [
        ("AvgPool", "avg_pool"), ("MaxPool", "max_pool"), ("LPPool", "lp_pool"),
        ("AdaptiveAvgPool", "adaptive_avg_pool"), ("AdaptiveMaxPool", "adaptive_max_pool"),
    ]},
    **{f"ZeroPad{n}d": "zero_pad" for n in (1, 2, 3)},
    **{f"ConstantPad{n}d": "constant_pad_nd" for n in (1, 2, 3)},
    **{f"ReflectionPad{n}d": "reflection_pad" for n in (1, 2, 3)},
    **{f"ReplicationPad{n}d": "replication_pad" for n in (1, 2, 3)},
    **{f"CircularPad{n}d": "circular_pad" for n in (1, 2, 3)},
    "SyncBatchNorm": "batch_norm",
    "Linear": "linear",
    "Dropout": "dropout", "Dropout1d": "dropout", "Dropout2d": "dropout", "Dropout3d": "dropout",
    "AlphaDropout": "dropout", "FeatureAlphaDropout": "dropout",
    "Identity": "identity",
    "LayerNorm": "layer_norm", "GroupNorm": "group_norm", "RMSNorm": "rms_norm",
    "Flatten": "flatten", "Unflatten": "unflatten",
    "PixelShuffle": "pixel_shuffle", "PixelUnshuffle": "pixel_unshuffle",
    "ChannelShuffle": "channel_shuffle",
    "Upsample": "interpolate", "UpsamplingNearest2d": "interpolate",
    "UpsamplingBilinear2d": "interpolate",
    "ReLU": "relu", "ReLU6": "relu6", "LeakyReLU": "leaky_relu", "PReLU": "prelu",
    "RReLU": "rrelu", "ELU": "elu", "CELU": "celu", "SELU": "selu", "GELU": "gelu",
    "SiLU": "silu", "Mish": "mish", "Sigmoid": "sigmoid", "Tanh": "tanh",
    "Hardswish": "hardswish", "Hardsigmoid": "hardsigmoid", "Hardtanh": "hardtanh",
    "Softplus": "softplus", "Softsign": "softsign", "Softmax": "softmax",
    "Softmax2d": "softmax", "LogSoftmax": "log_softmax", "Threshold": "threshold",
    "LogSigmoid": "logsigmoid", "Tanhshrink": "tanhshrink", "Softshrink": "softshrink",
    "Hardshrink": "hardshrink", "GLU": "glu",
    "LSTM": "lstm", "GRU": "gru", "RNN": "rnn", "LSTMCell": "lstm_cell", "GRUCell": "gru_cell",
    "MultiheadAttention": "multihead_attention",
}  # fmt: skip

_ALIASES_WORDS = """
    view reshape flatten unflatten permute transpose t movedim moveaxis swapaxes swapdims
    unsqueeze squeeze expand select slice narrow getitem split split_with_sizes chunk unbind
    tensor_split ravel unfold _unsafe_view mT T H mH adjoint identity contiguous alias detach
    dropout dropout1d dropout2d dropout3d alpha_dropout feature_dropout feature_alpha_dropout
    to float half type_as expand_as view_as reshape_as getattr diagonal as_strided positive
    real imag squeeze_ unsqueeze_ data chunk
"""
ALIASES = frozenset(_ALIASES_WORDS.split())
"""Operations whose result may share memory with their input."""

_METADATA_WORDS = """
    size dim numel ndimension stride shape ndim device dtype is_cuda is_floating_point
    element_size nelement get_device is_contiguous requires_grad layout is_complex sym_size
    sym_numel sym_stride storage_offset is_sparse is_quantized names itemsize nbytes
"""
METADATA = frozenset(_METADATA_WORDS.split())
"""What is asked of a tensor without reading its values."""

LIKE_ANOTHER = frozenset(
    {
        "reshape_as", "view_as", "expand_as",
        "zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like",
        "new_zeros", "new_ones", "new_full", "new_empty",
    }
)  # fmt: skip
"""Operations that ask a tensor for nothing but its shape and dtype: the first of the list the
second argument, the others their only one."""

STACKS = frozenset({"stack", "hstack", "vstack", "dstack"})
"""Movements of data that take several tensors, as concatenations do."""

PIECES = frozenset({"split", "split_with_sizes", "chunk", "unbind", "tensor_split"})
"""Movements of data that give several tensors."""

EXTREMES = {"max": "amax", "min": "amin"}
"""Reductions that give places besides values, and those that give values alone."""

MEMBERS = {"values": 0, "indices": 1}
"""Names of the members of what they give."""

CASTS = frozenset({"to", "type_as"})
"""Operations that ask their second argument, where it is a tensor, for its dtype and device."""

_SPELLINGS = {
    "truediv": "div",
    "itruediv": "div",
    "true_divide": "div",
    "divide": "div",
    "imul": "mul",
    "multiply": "mul",
    "subtract": "sub",
    "isub": "sub",
    "iadd": "add",
    "silu_": "silu",
    "adaptive_avg_pool2d_": "adaptive_avg_pool2d",
    "_adaptive_avg_pool2d": "adaptive_avg_pool2d",
    "_adaptive_avg_pool3d": "adaptive_avg_pool3d",
    "cudnn_batch_norm": "batch_norm",
    "_to_copy": "to",
    **{f"max_pool{n}d_with_indices": f"max_pool{n}d" for n in (1, 2, 3)},
    **{f"adaptive_max_pool{n}d_with_indices": f"adaptive_max_pool{n}d" for n in (1, 2, 3)},
}

_IN_PLACE_OPERATORS = frozenset({"iadd", "isub", "imul", "itruediv", "ipow", "ifloordiv", "iand"})


@dataclass(frozen=True)
class Call:
    """What a traced call does."""

    name: str
    """Plain name of the operation, such as `conv2d`."""
    kind: Kind
    in_place: bool = False
    """Whether it writes its result over its first input."""


def describe(node: fx.Node, modules: dict[str, nn.Module]) -> Call:
    """Tell what an fx call node does; a call that is not known here is `Kind.OPERATION`."""
    if node.op == "call_module":
        module = modules[str(node.target)]
        if not type(module).__module__.startswith("torch.nn.modules."):
            return Call(type(module).__name__, Kind.OPAQUE)
        name = _MODULE_NAMES.get(type(module).__name__, type(module).__name__)
        kind = KIND_OF.get(name, Kind.OPERATION)
        if type(module).__name__ in {"Transformer", "TransformerEncoder", "TransformerDecoder"}:
            kind = Kind.OPAQUE
        return Call(name, kind, bool(getattr(module, "inplace", False)))
    name = _raw_name(node.target)
    if name == "detach_":
        return Call("detach", Kind.IDENTITY)  # nothing is written
    in_place = name in _IN_PLACE_OPERATORS or _writes_first_argument(node.target, name)
    if not in_place and kwarg_or_position(node, "inplace") is True:
        in_place = True
    plain = _SPELLINGS.get(name, name)
    if plain not in KIND_OF and plain.endswith("_") and not plain.endswith("__"):
        plain = plain[:-1]
    plain = _SPELLINGS.get(plain, plain)
    return Call(plain, KIND_OF.get(plain, Kind.OPERATION), in_place)


def _raw_name(target: Any) -> str:
    if isinstance(target, str):
        return target
    if isinstance(target, torch._ops.OpOverload):
        return str(target._schema.name).split("::")[-1]
    return str(getattr(target, "__name__", type(target).__name__))


def _writes_first_argument(target: Any, name: str) -> bool:
    if isinstance(target, torch._ops.OpOverload):
        first = target._schema.arguments[:1]
        return bool(first and first[0].alias_info is not None and first[0].alias_info.is_write)
    if name == "setitem":
        return True
    return name.endswith("_") and not name.endswith("__")


@cache
def _signature(target: Any) -> inspect.Signature | None:
    try:
        return inspect.signature(target)
    except (TypeError, ValueError):
        return None


def kwarg_or_position(node: fx.Node, name: str) -> Any:
    """Return an argument of a Python-level function call by its name; None where not given."""
    if name in node.kwargs:
        return node.kwargs[name]
    if node.op != "call_function" or isinstance(node.target, torch._ops.OpOverload):
        return None
    signature = _signature(node.target)
    if signature is None or name not in signature.parameters:
        return None
    position = list(signature.parameters).index(name)
    return node.args[position] if position < len(node.args) else None

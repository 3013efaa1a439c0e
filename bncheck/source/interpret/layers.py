"""torch.nn's layers: their kinds, constructor parameters and defaults."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from functools import cache
from typing import Final

import libcst as cst

from bncheck.graph import UNKNOWN, Kind, Layer, Site
from bncheck.source.interpret.facts import boolean, plain
from bncheck.source.interpret.values import (
    MISSING,
    Arguments,
    Either,
    External,
    Instance,
)
from bncheck.source.interpret.values import (
    UNKNOWN as NOT_KNOWN,
)

_TAIL = "device=None, dtype=None"
_CONV = (
    "in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1, "
    f"bias=True, padding_mode='zeros', {_TAIL}"
)
_TRANSPOSED = (
    "in_channels, out_channels, kernel_size, stride=1, padding=0, output_padding=0, groups=1, "
    f"bias=True, dilation=1, padding_mode='zeros', {_TAIL}"
)
_BATCH_NORM = (
    f"num_features, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True, {_TAIL}"
)
_SYNC = (
    "num_features, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True, "
    f"process_group=None, {_TAIL}"
)
_INSTANCE_NORM = (
    f"num_features, eps=1e-05, momentum=0.1, affine=False, track_running_stats=False, {_TAIL}"
)


_DROPOUTS = "Dropout Dropout1d Dropout2d Dropout3d AlphaDropout FeatureAlphaDropout"


def _without_first(signature: str) -> str:
    return signature.partition(", ")[2]


_SIGNATURES: Final[dict[str, tuple[Kind, str]]] = {
    **{f"Conv{d}d": (Kind.CONVOLUTION, _CONV) for d in (1, 2, 3)},
    **{f"LazyConv{d}d": (Kind.CONVOLUTION, _without_first(_CONV)) for d in (1, 2, 3)},
    **{f"ConvTranspose{d}d": (Kind.TRANSPOSED_CONVOLUTION, _TRANSPOSED) for d in (1, 2, 3)},
    **{
        f"LazyConvTranspose{d}d": (Kind.TRANSPOSED_CONVOLUTION, _without_first(_TRANSPOSED))
        for d in (1, 2, 3)
    },
    "Linear": (Kind.LINEAR, f"in_features, out_features, bias=True, {_TAIL}"),
    "LazyLinear": (Kind.LINEAR, f"out_features, bias=True, {_TAIL}"),
    **{f"BatchNorm{d}d": (Kind.BATCH_NORM, _BATCH_NORM) for d in (1, 2, 3)},
    **{f"LazyBatchNorm{d}d": (Kind.BATCH_NORM, _without_first(_BATCH_NORM)) for d in (1, 2, 3)},
    "SyncBatchNorm": (Kind.BATCH_NORM, _SYNC),
    **{f"InstanceNorm{d}d": (Kind.INSTANCE_NORM, _INSTANCE_NORM) for d in (1, 2, 3)},
    **{
        f"LazyInstanceNorm{d}d": (Kind.INSTANCE_NORM, _without_first(_INSTANCE_NORM))
        for d in (1, 2, 3)
    },
    "Flatten": (Kind.RESHAPE, "start_dim=1, end_dim=-1"),
    "PixelShuffle": (Kind.RESHAPE, "upscale_factor"),
    "LayerNorm": (
        Kind.LAYER_NORM,
        f"normalized_shape, eps=1e-05, elementwise_affine=True, bias=True, {_TAIL}",
    ),
    "RMSNorm": (
        Kind.LAYER_NORM,
        f"normalized_shape, eps=None, elementwise_affine=True, {_TAIL}",
    ),
    "GroupNorm": (Kind.GROUP_NORM, f"num_groups, num_channels, eps=1e-05, affine=True, {_TAIL}"),
    "LocalResponseNorm": (Kind.OPERATION, "size, alpha=0.0001, beta=0.75, k=1.0"),
    **dict.fromkeys(_DROPOUTS.split(), (Kind.DROPOUT, "p=0.5, inplace=False")),
    **{
        f"Adaptive{how}Pool{d}d": (Kind.POOLING, "output_size")
        for how in ("Avg", "Max")
        for d in (1, 2, 3)
    },
}

_NAMED: Final[dict[Kind, str]] = {
    Kind.IDENTITY: "Identity",
    Kind.ACTIVATION: (
        "ReLU ReLU6 LeakyReLU PReLU RReLU ELU SELU CELU GELU SiLU Mish Sigmoid Tanh Hardswish "
        "Hardsigmoid Hardtanh Hardshrink Softshrink Tanhshrink Softplus Softsign Softmax Softmin "
        "Softmax2d LogSoftmax LogSigmoid Threshold"
    ),
    Kind.UPSAMPLING: "Upsample UpsamplingNearest2d UpsamplingBilinear2d",
    Kind.RESHAPE: "Unflatten Fold Unfold PixelUnshuffle ChannelShuffle",
    Kind.RECURRENT: "RNN LSTM GRU RNNCell LSTMCell GRUCell",
    Kind.ATTENTION: (
        "MultiheadAttention Transformer TransformerEncoder TransformerEncoderLayer "
        "TransformerDecoder TransformerDecoderLayer"
    ),
    Kind.OPERATION: "GLU Embedding EmbeddingBag Bilinear CosineSimilarity PairwiseDistance",
}
_KINDS: Final = {name: kind for kind, names in _NAMED.items() for name in names.split()}

LAYER_CALL: Final = re.compile(
    r"(?<!class )\b(?:Lazy)?(?:Conv(?:Transpose)?[123]d|(?:Batch|Instance)Norm[123]d"
    r"|SyncBatchNorm)\s*\("
)
"""Code that constructs a convolution, or a norm that may use batch statistics."""

CONTAINERS: Final = frozenset(
    {"Module", "Sequential", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict"}
)


def is_layer_call(node: object) -> bool:
    """Tell whether a node is a call that `LAYER_CALL` finds in its text."""
    if node.__class__ is not cst.Call:
        return False
    called = node.func.attr if isinstance(node.func, cst.Attribute) else node.func
    return isinstance(called, cst.Name) and LAYER_CALL.match(f"{called.value}(") is not None


def layer_kind(name: str) -> Kind | None:
    """Return the kind of `torch.nn.<name>`; None for what is not a layer with a forward."""
    if name in _SIGNATURES:
        return _SIGNATURES[name][0]
    if name in _KINDS:
        return _KINDS[name]
    if "Pool" in name:
        return Kind.POOLING
    if "Pad" in name:
        return Kind.PADDING
    return Kind.OPERATION if name.endswith("Loss") else None


@cache
def signature(name: str) -> tuple[tuple[str, object], ...]:
    """Return a layer's parameters in order, each with its default, MISSING without one."""
    _, text = _SIGNATURES.get(name, (None, ""))
    found: list[tuple[str, object]] = []
    for part in filter(None, text.split(", ")):
        parameter, given, default = part.partition("=")
        found.append((parameter, ast.literal_eval(default) if given else MISSING))
    return tuple(found)


def bind_arguments(
    parameters: tuple[tuple[str, object], ...], arguments: Arguments
) -> dict[str, object]:
    """Return each parameter's value: as given, its default, or UNKNOWN."""
    given: dict[str, object] = {}
    for (parameter, _), value in zip(parameters, arguments.positional, strict=False):
        given[parameter] = value
    given.update(arguments.keywords)
    bound: dict[str, object] = {}
    for parameter, default in parameters:
        value = given.get(parameter, MISSING)
        if value is MISSING:
            value = UNKNOWN if arguments.open or default is MISSING else default
        bound[parameter] = value
    return bound


def make_layer(name: str, kind: Kind, arguments: Arguments, site: Site | None) -> Layer:
    """Return the layer that `torch.nn.<name>(...)` constructs."""
    bound = bind_arguments(signature(name), arguments)
    attributes: dict[str, object] = {key: plain(value) for key, value in bound.items()}
    for key in ("bias", "affine", "track_running_stats"):
        if key in bound:
            attributes[key] = boolean(bound[key])
    if kind is Kind.LINEAR:
        attributes["in_channels"] = attributes.get("in_features", UNKNOWN)
        attributes["out_channels"] = attributes["out_features"]
    if kind is Kind.GROUP_NORM:
        attributes["num_features"] = attributes["num_channels"]
    if name[-2:] in {"1d", "2d", "3d"}:
        attributes["dimensions"] = int(name[-2])
    if name == "Flatten" and type(attributes["start_dim"]) is int and attributes["end_dim"] == -1:
        attributes["rank"] = attributes["start_dim"] + 1
        attributes["flattened_from"] = attributes["start_dim"]
    attributes.pop("device", None)
    attributes.pop("dtype", None)
    return Layer(kind, f"torch.nn.{name}", "", site, attributes)


_MOST_PICKED: Final = 8


def any_layer(items: Sequence[object]) -> object:
    """Return any of a few layers, for an index or a key that is not known; else UNKNOWN.

    `[nn.ReLU(), nn.Tanh()][settings.bounded]`: no BatchNorm is made, whichever it is. Where one of
    them is a BatchNorm, what is picked stays unknown.
    """
    if not 1 < len(items) <= _MOST_PICKED or not all(map(_is_plain_layer, items)):
        return NOT_KNOWN
    return Either(tuple(items))


def _is_plain_layer(value: object) -> bool:
    match value:
        case Instance(cls=None, layer=Layer(kind=kind)):
            return kind is not Kind.BATCH_NORM
        case External(name=name) if name.startswith("torch.nn.") and name.count(".") == 2:
            return layer_kind(name.rpartition(".")[2]) not in {None, Kind.BATCH_NORM}
    return False

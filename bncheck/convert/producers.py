"""What the planner knows of layers that can take up an affine map: axes, weights, users."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import torch

from bncheck.convert.algebra import Weights
from bncheck.convert.labels import Blocked
from bncheck.convert.products import Product
from bncheck.graph import PRODUCERS, Kind, Node
from bncheck.model.trace import TracedModel
from bncheck.model.trace_fx import computes_weight, has_hooks
from bncheck.model.traced_call import TracedCall
from bncheck.verification.precision import in_float64

_BAKE = "--bake-parametrizations (bake_parametrizations=True)"


def display_name(node: Node) -> str:
    """Return the module path of a node, or its name in the graph where it has none."""
    if node.layer is not None and node.layer.name:
        return node.layer.name
    tensor = node.parameters.get("running_mean") or node.parameters.get("weight") or ""
    return tensor.rpartition(".")[0] or node.name


def describe_node(node: Node) -> str:
    """Return what a node is, for the text of a refusal."""
    what = str(node.attributes.get("operation", node.kind.value))
    name = display_name(node)
    match node.kind:
        case Kind.INPUT:
            return f"the model's input {node.name}"
        case Kind.OUTPUT:
            return "the model's output"
        case Kind.OPAQUE if what == "read":
            return f"code that reads its values ({name})"
        case _:
            return f"{name} ({what})" if what not in name else name


def spatial_dimensions(node: Node, weight: torch.Tensor) -> int:
    """Return how many axes follow the channel axis of a producer's input and output."""
    return 0 if node.kind is Kind.LINEAR else weight.dim() - 2


class Producers:
    """The convolutions and linear layers of a traced model and who else uses their parameters."""

    def __init__(self, traced: TracedModel, bake: bool = False) -> None:
        self.traced = traced
        self.bake = bake
        self.modules = dict(traced.model.named_modules(remove_duplicate=False))
        self._users: dict[int, list[Node]] = {}
        for node, call in traced.calls.items():
            names = set(call.reads) | set(node.parameters.values())
            for key in {tensor_key(t) for t in map(self.find, names) if t is not None}:
                self._users.setdefault(key, []).append(node)

    def find(self, name: str) -> torch.Tensor | None:
        """Return a parameter or buffer of the model by name."""
        return self.traced.tensors.get(name)

    def weight(self, node: Node) -> torch.Tensor:
        """Return the weight of a producer, computed where it is computed from parameters."""
        weight = self.find(node.parameters.get("weight", ""))
        if weight is None:
            computed = self.traced.calls[node].computed["weight"]
            weight = self.traced.value(computed)
            assert isinstance(weight, torch.Tensor)
        return weight

    def require_plain(self, node: Node) -> None:
        """Raise Blocked where the weight and bias of a producer cannot be replaced."""
        call = self.traced.calls[node]
        name = display_name(node)
        layer = self.modules.get(node.layer.name) if node.layer is not None else None
        if layer is not None and has_hooks(layer):
            raise Blocked(f"needs to change {name}, which has hooks{_bake_advice(layer)}")
        if call.computed:
            self._require_bakeable(node, call, name)
            return
        weight = self.find(node.parameters.get("weight", ""))
        problem = None
        if weight is None:
            problem = "is not a parameter of the model"
        elif type(weight) not in (torch.nn.Parameter, torch.Tensor):
            problem = f"is a {type(weight).__name__}"
        elif not weight.dtype.is_floating_point or weight.is_quantized:
            problem = f"is of dtype {weight.dtype}"
        elif weight.device.type == "meta":
            problem = "is on the meta device and has no values"
        elif node.kind is not Kind.LINEAR and weight.dim() < 3:
            problem = "was not understood"
        if problem is not None:
            raise Blocked(f"needs to change {name}, whose weight {problem}")
        if "bias" in node.parameters and self.find(node.parameters["bias"]) is None:
            raise Blocked(f"needs to change {name}, whose bias is not a parameter of the model")

    def _require_bakeable(self, node: Node, call: TracedCall, name: str) -> None:
        if len(node.inputs) > 1 or any(not c.reads for c in call.computed.values()):
            raise Blocked(f"needs to change {name}, whose weight is computed from the input")
        if not self.bake or "bias" in call.computed:
            raise Blocked(
                f"needs to change {name}, whose weight is computed when the model runs (a "
                "parametrization, weight standardisation or a mask); "
                f"{_BAKE} fixes it at its value"
            )

    def other_users(self, node: Node) -> Iterator[Node]:
        """Yield the other nodes that read a weight or bias of this producer."""
        seen = {node}
        if "weight" not in node.parameters and node.kind in PRODUCERS:
            return  # what is baked in is its own
        for role in ("weight", "bias"):
            name = node.parameters.get(role, "")
            tensor = self.find(name)
            for user in self._users.get(tensor_key(tensor), []) if tensor is not None else []:
                if user not in seen:
                    seen.add(user)
                    yield user

    def require_own_parameters(self, uses: Collection[Node]) -> None:
        """Raise Blocked unless nothing but these uses of a BatchNorm reads its weight and bias."""
        for use in uses:
            for other in self.other_users(use):
                if other not in uses:
                    raise Blocked(
                        f"needs to change {display_name(use)}, which shares its parameters with "
                        f"{describe_node(other)}"
                    )

    def require_same_layer(self, node: Node, other: Node) -> None:
        """Raise Blocked unless `other` uses the parameters of `node` in the same way."""
        for role in ("weight", "bias"):
            mine, theirs = (self.find(n.parameters.get(role, "")) for n in (node, other))
            alike = node.kind is other.kind and self._product(node) == self._product(other)
            if mine is not theirs or not alike or other.kind not in PRODUCERS:
                raise Blocked(
                    f"needs to change {display_name(node)}, which shares its parameters with "
                    f"{describe_node(other)}"
                )

    def require_copyable(self, node: Node) -> None:
        """Raise Blocked where a use of a producer cannot be given parameters of its own."""
        if self._product(node) is not None:
            raise Blocked(f"would give {display_name(node)}, which is spelled out, its own copy")

    def output_axes(self, node: Node) -> tuple[int, ...]:
        """Return the channel axes of a producer's output, mostly one."""
        assert node.shape is not None
        product = self._product(node)
        if product is not None:
            return product.output_axes
        return (len(node.shape) - 1 - self._spatial(node),)

    def input_axes(self, node: Node) -> tuple[int, ...]:
        """Return the channel axes of a producer's input, mostly one."""
        shape = node.inputs[0].shape
        if shape is None:
            raise Blocked(f"the shape of the input of {display_name(node)} is not known")
        product = self._product(node)
        if product is not None:
            return product.input_axes
        return (len(shape) - 1 - self._spatial(node),)

    def _product(self, node: Node) -> Product | None:
        found: Product | None = self.traced.calls[node].product
        return found

    def _spatial(self, node: Node) -> int:
        return spatial_dimensions(node, self.weight(node))

    def _exactly(self, node: Node, role: str) -> torch.Tensor:
        """Return a parameter of a producer in float64 on the CPU, computed where it is computed."""
        name = node.parameters.get(role, "")
        tensor = self.find(name)
        if tensor is not None:
            return self.traced.unrounded.get(name, tensor).detach().cpu().double()
        computed = self.traced.calls[node].computed[role]
        try:
            with in_float64(self.weight(node).dtype):
                value: torch.Tensor = self.traced.value(computed).detach().cpu()
        except Exception as problem:  # whatever keeps a computation from float64
            raise Blocked(
                f"needs to change {display_name(node)}, whose {role} cannot be computed in float64"
            ) from problem
        return value

    def weights(self, node: Node) -> Weights:
        """Return the weight and bias of a producer in float64."""
        weight = self._exactly(node, "weight")
        bias = self._exactly(node, "bias") if "bias" in node.parameters else None
        product = self._product(node)
        if product is not None:
            bias = None if bias is None else product.channels(bias)
            return Weights(product.matrix(weight), bias, "transposed", product.groups)
        groups: Any = (
            self.traced.calls[node].setting("groups") if node.kind is not Kind.LINEAR else 1
        )
        return Weights(
            weight,
            bias,
            "transposed" if node.kind is Kind.TRANSPOSED_CONVOLUTION else "convolution",
            groups if isinstance(groups, int) else 1,
        )

    def tensors(self, node: Node, layer: Weights) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return weight and bias of a producer as its parameters are to hold them, in float64."""
        product = self._product(node)
        if product is None:
            return layer.weight, layer.bias
        weight, bias = product.parameter(layer.weight), layer.bias
        if bias is None or product.bias_view is not None:
            return weight, None if bias is None else product.bias(bias)
        if product.is_linear:
            return weight, bias
        if bool((bias != 0).any()):
            raise Blocked(
                f"needs to change {display_name(node)}, which has no bias to take up a shift"
            )
        return weight, None

    def require_no_border(self, node: Node) -> None:
        """Raise Blocked where some outputs of a producer do not see its whole kernel."""
        if node.kind is Kind.LINEAR:
            return
        call = self.traced.calls[node]
        padding: Any = call.setting("padding")
        if node.kind is Kind.TRANSPOSED_CONVOLUTION:
            weight = self.weight(node)
            stride, around, out, dilation = (
                each(call.setting(name), weight.dim() - 2)
                for name in ("stride", "padding", "output_padding", "dilation")
            )
            spread = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
            if (
                any(s != 1 for s in stride)
                or any(out)
                or any(a < b for a, b in zip(around, spread, strict=True))
            ):
                raise Blocked(f"would have to shift into the border of {display_name(node)}")
            return
        mode = call.arguments.get("padding_mode", "zeros")
        padded = padding != "valid" if isinstance(padding, str) else _any(padding)
        if padding == "same":
            padded = any(size > 1 for size in self.weight(node).shape[2:])
        if padded and mode == "zeros":
            raise Blocked(
                f"would have to shift into {display_name(node)}, whose zero padding has no shift"
            )


def tensor_key(tensor: torch.Tensor) -> int:
    """Return what two names have in common exactly when they stand for one parameter.

    Parameters that merely share memory are not tied: each gets its own new value.
    """
    return id(tensor)


def each(value: Any, rank: int) -> list[int]:
    """Return a setting of a convolution for each spatial axis."""
    if isinstance(value, int):
        return [value] * rank
    if isinstance(value, tuple | list):
        found = [int(v) for v in value]
        return found * rank if len(found) == 1 else found
    raise Blocked("has a neighbour with a setting that was not understood")


def _any(padding: Any) -> bool:
    if isinstance(padding, tuple | list):
        return any(padding)
    return bool(padding) if isinstance(padding, int) else False


def _bake_advice(module: torch.nn.Module) -> str:
    computing = [h for h in module._forward_pre_hooks.values() if computes_weight(h)]
    if not computing:
        return ""
    return f" ({type(computing[0]).__name__} computes its weight; {_BAKE} ends that)"

"""Removes biases that a BatchNorm subtracts again, and keeps what the model computes in eval mode.

BN101 finds them on the traced graph, by the same check that finds them in source. The bias goes
into the BatchNorm's running mean: the statistics that BatchNorm would have gathered without it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from bncheck.checks import all_checks
from bncheck.checks.bias_before_norm import subtracts_mean
from bncheck.convert.debias_state import MOVED, exact_difference
from bncheck.convert.labels import Blocked
from bncheck.convert.outcome import Conversion, Refusal, Step
from bncheck.graph import (
    BATCH_STATISTICS,
    PRODUCERS,
    Kind,
    LayerGraph,
    Node,
    direct_producer,
    readers,
)
from bncheck.model.trace import TracedModel, trace
from bncheck.model.trace_fx import has_hooks
from bncheck.verification.compare import as_arguments
from bncheck.verification.compare import verify as compare
from bncheck.verification.inputs import draw

DROPPED = "it keeps no running mean, so the bias is gone with nothing to change"


def debias(
    model: nn.Module,
    example_inputs: Any = None,
    example_kwargs: Mapping[str, Any] | None = None,
    *,
    verify: bool = True,
) -> Conversion:
    """Return a copy of `model` whose layers straight before a BatchNorm have no bias.

    The copy computes the same in eval mode, up to rounding, and its state dict fits the source
    that BN101's fix makes. `example_inputs` is a tensor or a sequence of positional arguments;
    shapes are what matters. The model given is left as it was.

    Raises BNCheckError for a model that no tracer can read or inputs that it does not run on.
    """
    inputs = draw(as_arguments(example_inputs), torch.Generator().manual_seed(0))
    keywords = draw(dict(example_kwargs or {}), torch.Generator().manual_seed(1))
    traced = trace(model, inputs, keywords)
    changed = copy.deepcopy(model)
    steps: list[Step] = []
    refusals: list[Refusal] = []
    exact: dict[int, torch.Tensor] = {}
    for layer in redundant_biases(traced.graph):
        uses = [n for n in traced.graph.nodes if n.layer is not None and n.layer.name == layer]
        norms = list(dict.fromkeys(_name(norm) for use in uses for norm in readers(use)))
        try:
            means = _running_means(traced, layer, uses)
        except Blocked as reason:
            refusals += [Refusal(norm, f"the bias of {layer} stays: {reason}") for norm in norms]
            continue
        exact |= _move(changed, layer, means)
        moved = {name.rpartition(".")[0] for name in means}
        steps += [Step(norm, layer, MOVED if norm in moved else DROPPED) for norm in norms]
    refusals += _read_elsewhere(traced.graph)
    values = {name: exact[id(b)].clone for name, b in changed.named_buffers() if id(b) in exact}
    verification = None
    if verify and steps:
        verification = compare(model, changed, inputs, keywords, exact=values)
    notes = [] if steps else ["no bias that a BatchNorm subtracts again was removed"]
    unseen = _not_traced(traced)
    if unseen:
        notes.append(
            f"not seen at work, and left as they are: {len(unseen)} BatchNorms that the forward "
            f"pass does not apply or that a scripted part holds, such as {unseen[0]}; name their "
            "biases with --pairs"
        )
    return Conversion(changed, tuple(steps), tuple(refusals), verification, tuple(notes))


def _not_traced(traced: TracedModel) -> list[str]:
    """Return the names of the modules with running statistics that no node applies."""
    applied = {node.layer.name for node in traced.graph.nodes if node.layer is not None}
    applied |= {
        name.rpartition(".")[0]
        for node, call in traced.calls.items()
        for name in call.reads | set(node.parameters.values())
    }
    return [
        name
        for name, module in traced.model.named_modules(remove_duplicate=False)
        if isinstance(getattr(module, "running_mean", None), torch.Tensor) and name not in applied
    ]


def redundant_biases(graph: LayerGraph) -> Iterator[str]:
    """Yield the module path of each layer that BN101 objects to."""
    for match in all_checks()["BN101"].function(graph):
        yield str(match.site.mark)


def _read_elsewhere(graph: LayerGraph) -> Iterator[Refusal]:
    """Yield each BatchNorm whose input has a bias that something else reads as well."""
    for norm in graph.of_kind(Kind.BATCH_NORM):
        first = direct_producer(norm)
        if (
            norm.layer is not None
            and first is not None
            and first.kind in PRODUCERS
            and first.layer is not None
            and first.get("bias") is True
            and not all(_normalises(reader) for reader in readers(first))
        ):
            reason = "what it computes is also read elsewhere"
            yield Refusal(norm.layer.name, f"the bias of {first.layer.name} stays: {reason}")


def _normalises(reader: Node) -> bool:
    return reader.kind in BATCH_STATISTICS or subtracts_mean(reader)


def _name(norm: Node) -> str:
    return norm.layer.name if norm.layer is not None else norm.name


def _running_means(traced: TracedModel, layer: str, uses: list[Node]) -> list[str]:
    """Return the names of the running means of what a layer computes, or refuse.

    There are none where InstanceNorm, or BatchNorm with track_running_stats=False, subtracts the
    mean of what it is given: the bias is gone with nothing else to change.
    """
    if has_hooks(traced.model.get_submodule(layer)):
        raise Blocked("it has hooks or parametrizations")
    found: dict[str, None] = {}
    for use in uses:
        _require_plain(traced, use)
        if _dropped_out(use):
            raise Blocked("a dropout stands between, so the bias acts in training")
        for norm in readers(use):
            if "running_mean" in norm.parameters:
                _require_plain_norm(traced, norm, uses)
                found[norm.parameters["running_mean"]] = None
    return list(found)


def _dropped_out(node: Node) -> bool:
    """Tell whether a dropout, which is an identity in eval mode, stands between node and norm."""
    return any(
        reader.attributes.get("operation") == "dropout" or _dropped_out(reader)
        for reader in node.consumers
        if _leaves_channels(reader)
    )


def _leaves_channels(node: Node) -> bool:
    """Tell whether a node between a layer and a norm gives on what it is given, or a part of it."""
    return node.kind is Kind.IDENTITY or isinstance(node.get("cropped"), tuple)


def _require_plain(traced: TracedModel, use: Node) -> None:
    if traced.calls[use].observed:
        raise Blocked("a hook sees what it computes")
    bias = use.parameters.get("bias", "")
    tensor = traced.tensors.get(bias)
    if tensor is None or traced.calls[use].computed:
        raise Blocked("its weight or bias is computed when the model runs")
    if tensor.device.type == "meta":
        raise Blocked("it is on the meta device and has no values")
    if not bool(torch.isfinite(tensor).all()):
        raise Blocked("its bias holds NaN or infinity")
    weight = traced.tensors.get(use.parameters.get("weight", ""))
    batched = 2 if use.kind is Kind.LINEAR or weight is None else weight.dim()
    if use.shape is not None and len(use.shape) != batched:
        raise Blocked("its channels are not those that the norm takes the mean of")
    for other, call in traced.calls.items():
        if other.layer is not use.layer and bias in call.reads | set(other.parameters.values()):
            raise Blocked(f"its bias is also used by {other.name}")


def _require_plain_norm(traced: TracedModel, norm: Node, uses: list[Node]) -> None:
    name = norm.parameters["running_mean"]
    batch_norm = name.rpartition(".")[0]
    if norm.get("training") is True:
        raise Blocked(f"{batch_norm} is in train mode: call eval() first")
    if traced.calls[norm].computed:
        raise Blocked(f"{batch_norm} has statistics that are computed when the model runs")
    for other, call in traced.calls.items():
        if other is norm or name not in call.reads | set(other.parameters.values()):
            continue
        source = other.inputs[0] if other.inputs else None
        while source is not None and _leaves_channels(source) and source.inputs:
            source = source.inputs[0]
        if source not in uses:
            raise Blocked(f"{batch_norm} is also applied to something else")
    tensor = traced.tensors.get(name)
    if tensor is None:
        raise Blocked(f"{batch_norm} has a running mean that is no buffer of the model")
    if not bool(torch.isfinite(tensor).all()):
        raise Blocked(f"the running mean of {batch_norm} holds NaN or infinity")


def _move(model: nn.Module, layer: str, means: list[str]) -> dict[int, torch.Tensor]:
    """Take a bias away; return the running means, by id, before they are rounded."""
    module = model.get_submodule(layer)
    bias = module.bias
    assert isinstance(bias, torch.Tensor)
    exact: dict[int, torch.Tensor] = {}
    for name in means:
        mean = model.get_buffer(name)
        difference = exact_difference(mean, bias)
        with torch.no_grad():
            mean.copy_(difference)
        exact[id(mean)] = difference
    module.register_parameter("bias", None)
    return exact

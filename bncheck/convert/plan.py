"""Which BatchNorms of a traced model go, where to, and why the others stay. The plan is data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

from bncheck.convert import algebra
from bncheck.convert.labels import Blocked, LabelTable
from bncheck.convert.outcome import Refusal, Step
from bncheck.convert.producers import Producers, display_name
from bncheck.graph import Kind, Node
from bncheck.model.trace import TracedModel

Map = tuple[torch.Tensor, torch.Tensor]
How = Literal["backward", "forward", "sideways", "around", "partly"]
RESTS_ON_SIZE = "is in code that depends on the input's size"
ATTEMPTS = 5000
"""How many moves are tried in one group of BatchNorms that depend on each other."""


@dataclass
class BatchNorm:
    """One BatchNorm, by the statistics that it reads, and every place that applies it."""

    name: str
    nodes: list[Node]
    map: Map | None = None
    """Scale and shift that it now stands for, float64."""
    labels: torch.Tensor | None = None
    problem: str | None = None
    """Why it cannot go anywhere, nor take another one up."""
    stays: str | None = None
    """Why it is not to go, though it could."""
    fixed: bool = False
    """Whether it has no parameters of its own that could take up another one."""
    reasons: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Absorption:
    """An affine map that a layer takes up on one side."""

    side: Literal["output", "input", "identity"]
    scale: torch.Tensor
    shift: torch.Tensor
    centre: tuple[int, ...] = ()


@dataclass(frozen=True)
class FoldOptions:
    """What a fold may do beyond replacing modules and parameters one for one."""

    bake_parametrizations: bool = False
    """Replace weights that are computed when the model runs by their values."""
    duplicate_shared: bool = False
    """Give each use of shared parameters its own copy where the uses want different values."""
    keep_class: bool = False
    """Refuse what would make the model a `torch.fx.GraphModule`."""
    partial: bool = False
    """Turn BatchNorms that cannot go into one multiply-add."""
    attempts: int = ATTEMPTS
    """How many moves are tried in one group of BatchNorms before the best so far are taken; fewer
    where the group's tensors are large."""


@dataclass(frozen=True)
class Move:
    """One BatchNorm, and the way it goes."""

    batch_norm: str
    way: str


@dataclass
class Plan:
    """What to do to a model: layers with their new parameters, BatchNorms that go or change."""

    traced: TracedModel
    producers: Producers
    options: FoldOptions = FoldOptions()
    table: LabelTable = field(default_factory=LabelTable)
    batch_norms: list[BatchNorm] = field(default_factory=list)
    removed: set[Node] = field(default_factory=set)
    absorptions: dict[Node, list[Absorption]] = field(default_factory=dict)
    """By the first node that uses the layer."""
    folded: dict[Node, tuple[torch.Tensor, torch.Tensor | None]] = field(default_factory=dict)
    """The layer's new weight and bias, in its dtype."""
    own_copy: set[Node] = field(default_factory=set)
    """Layers that get parameters of their own, since other uses of them want others."""
    baked: set[Node] = field(default_factory=set)
    """Layers whose computed weight becomes a parameter."""
    rest: dict[Node, Map] = field(default_factory=dict)
    """BatchNorm nodes that become one multiply-add, or one addition where every scale is 1."""
    kept: dict[Node, Map] = field(default_factory=dict)
    """The same in the BatchNorm's dtype, in the shape that its input asks for."""
    passed: dict[str, frozenset[Node]] = field(default_factory=dict)
    """By the name of a BatchNorm that goes: the nodes whose results its removal changes."""
    changed: set[str] = field(default_factory=set)
    """Names of BatchNorms that stay but took up another one."""
    affine: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)
    """By the name of a BatchNorm that took up another one: its new weight and bias."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """BatchNorms that were to stay from the start, each with the reason."""
    barred: Mapping[Move, str] = field(default_factory=dict)
    """Moves that are not to be made, since the model would be wrong, each with the reason."""
    moves: list[Move] = field(default_factory=list)
    """What was done, in order; one move may take other BatchNorms along."""
    steps: list[Step] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    cut_short: list[tuple[str, ...]] = field(default_factory=list)
    """Groups of BatchNorms in which not every order of moves was tried, though some are left."""

    def batch_norm_of(self, node: Node) -> BatchNorm | None:
        """Return the BatchNorm that a node applies and that is still there."""
        if node.kind is not Kind.BATCH_NORM or node in self.removed:
            return None
        return next((b for b in self.batch_norms if node in b.nodes), None)

    @property
    def removed_names(self) -> set[str]:
        """The names of the BatchNorms that go."""
        return {b.name for b in self.batch_norms if self.removed.intersection(b.nodes)}

    def labels(self, batch_norm: BatchNorm) -> torch.Tensor:
        """Return the labels of its channels."""
        if batch_norm.labels is None:
            assert batch_norm.map is not None
            batch_norm.labels = self.table.add(*batch_norm.map)
        return batch_norm.labels

    def take(
        self,
        changes: dict[Node, Absorption],
        maps: dict[str, Map],
        gone: list[BatchNorm],
        how: How,
        passed: Iterable[Node],
        own_copy: frozenset[Node] = frozenset(),
    ) -> None:
        """Make these changes together; Blocked, and nothing made, where a layer cannot hold one."""
        for batch_norm in gone:
            for node in batch_norm.nodes:
                require_no_overwriting(self, node)
        for node in own_copy:
            self.producers.require_copyable(node)
        folded = {node: self._fold(node, change) for node, change in changes.items()}
        for batch_norm in self.batch_norms:
            if batch_norm.name in maps:
                self._require_affine_holds(batch_norm, maps[batch_norm.name])
        for node, change in changes.items():
            self.absorptions.setdefault(node, []).append(change)
            self.folded[node] = folded[node]
            if "weight" not in node.parameters:
                self.baked.add(node)
        self.own_copy |= own_copy
        targets = [display_name(node) for node in changes]
        for batch_norm in self.batch_norms:
            if batch_norm.name in maps:
                batch_norm.map, batch_norm.labels = maps[batch_norm.name], None
                self.changed.add(batch_norm.name)
                targets.append(batch_norm.name)
        for batch_norm in gone:
            self.removed.update(batch_norm.nodes)
            self.changed.discard(batch_norm.name)
            self.passed[batch_norm.name] = frozenset(passed)
            self.record(batch_norm, ", ".join(dict.fromkeys(targets)), how)

    def record(self, batch_norm: BatchNorm, into: str, how: How) -> None:
        """Note what becomes of a BatchNorm."""
        self.steps.append(Step(batch_norm.name, into, how))

    def exact(self, node: Node) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the new weight and bias of a layer before they are rounded, in float64."""
        return self.producers.tensors(node, self._with(node, self.absorptions.get(node, [])))

    def _with(self, node: Node, changes: Sequence[Absorption]) -> algebra.Weights:
        layer = self.producers.weights(node)
        for one in changes:
            match one.side:
                case "output":
                    layer = algebra.scale_output(layer, one.scale, one.shift)
                case "input":
                    layer = algebra.scale_input(layer, one.scale, one.shift)
                case "identity":
                    layer = algebra.add_identity(layer, one.scale, one.shift, one.centre)
        return layer

    def _fold(self, node: Node, change: Absorption) -> tuple[torch.Tensor, torch.Tensor | None]:
        layer = self._with(node, [*self.absorptions.get(node, []), change])
        original = self.producers.weight(node)
        _require_holds(layer, original.dtype, display_name(node), change.side == "input")
        exact, bias = self.producers.tensors(node, layer)
        weight = torch.empty_like(original).copy_(exact)
        return weight, None if bias is None else bias.to(original)

    def exact_affine(self, node: Node, to: Map) -> Map:
        """Return the weight and bias, float64, with which a BatchNorm computes a map."""
        mean, variance = (
            self.traced.tensors[node.parameters[role]].detach()
            for role in ("running_mean", "running_var")
        )
        scale, shift = (value.to(mean.device) for value in to)
        eps = float(self.traced.calls[node].setting("eps"))
        return algebra.affine_parameters(scale, shift, mean, variance, eps)

    def affine_dtype(self, node: Node) -> torch.dtype:
        """Return the dtype of the weight and bias that a BatchNorm has, or is given."""
        names = node.parameters
        return self.traced.tensors[names.get("weight", names["running_mean"])].dtype

    def _require_affine_holds(self, batch_norm: BatchNorm, to: Map) -> None:
        node = batch_norm.nodes[0]
        weight, bias = self.exact_affine(node, to)
        layer = algebra.Weights(weight.unsqueeze(1), bias)
        _require_holds(layer, self.affine_dtype(node), batch_norm.name)


def _require_holds(
    layer: algebra.Weights, dtype: torch.dtype, name: str, inputs: bool = False
) -> None:
    """Raise Blocked where `dtype` overflows, or loses more of some channel than it rounds."""
    for by_input in (True, False) if inputs else (False,):
        problem = algebra.rounding_problem(layer, dtype, by_input)
        if problem is not None:
            raise Blocked(
                f"needs parameters of {name} whose {'input ' * by_input}channel {problem[0]} "
                f"{problem[1]} in {str(dtype).removeprefix('torch.')}"
            )


def require_no_overwriting(plan: Plan, node: Node) -> None:
    """Raise Blocked where a tensor that others read would be overwritten without this BatchNorm.

    A BatchNorm makes a new tensor. What comes after it may write over that; what comes before it
    may have other readers, or be the caller's.
    """
    if not _is_overwritten(plan, node):
        return
    source = node.inputs[0]
    while True:
        call = plan.traced.calls[source]
        if source.kind is Kind.INPUT or len(source.consumers) > 1 or call.observed:
            raise Blocked("is followed by an operation that writes over a tensor others read")
        alias = source.kind in {Kind.IDENTITY, Kind.RESHAPE} or source in plan.removed
        if not (alias or call.call.in_place) or not source.inputs:
            return
        source = source.inputs[0]


def _is_overwritten(plan: Plan, node: Node) -> bool:
    for reader in node.consumers:
        if plan.traced.calls[reader].call.in_place and reader.inputs[0] is node:
            return True
        alias = reader.kind in {Kind.IDENTITY, Kind.RESHAPE} or reader in plan.removed
        if alias and _is_overwritten(plan, reader):
            return True
    return False


def unfinished(plan: Plan) -> Iterator[BatchNorm]:
    """Yield the BatchNorms that may still go, the last that runs first."""
    for batch_norm in reversed(plan.batch_norms):
        if (
            batch_norm.stays is None
            and batch_norm.problem is None
            and plan.removed.isdisjoint(batch_norm.nodes)
            and plan.rest.keys().isdisjoint(batch_norm.nodes)
        ):
            yield batch_norm

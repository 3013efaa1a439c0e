"""BN105: a BatchNorm that nothing applies."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.checks import check
from bncheck.findings import Confidence, Match
from bncheck.graph import Kind, LayerGraph, Site


@check("BN105", LayerGraph, unapplied=True)
def unused_norm(graph: LayerGraph) -> Iterator[Match]:
    """Yield each BatchNorm that is an attribute which no forward and no other code uses."""
    applied = {id(node.layer) for node in graph.nodes if node.layer is not None}
    containers: dict[str, Site] = {}
    held = [(layer.name, layer) for layer in graph.layers] + list(graph.apart.items())
    for name, layer in held:
        if (
            layer.kind is Kind.BATCH_NORM
            and layer.site is not None
            and name
            and id(layer) not in applied
            and layer.get("mentioned") is False
        ):
            container = _container(name)
            if container and containers.setdefault(container, layer.site) != layer.site:
                continue  # One finding for all that it holds.
            yield Match(
                layer.site,
                f"{container or name} is constructed, but the forward pass never applies it",
                "apply it or remove it; its running statistics stay at their initial values",
                Confidence.PROVEN if graph.complete else Confidence.LIKELY,
            )


def _container(name: str) -> str:
    """Return the attribute of a Sequential or list that holds a layer; empty where none does."""
    steps = name.split(".")
    while steps and steps[-1].isdigit():
        steps.pop()
    holder = ".".join(steps)
    return holder if holder != name else ""

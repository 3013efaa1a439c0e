"""BN110: a BatchNorm of what another normalisation has just normalised."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.checks import check
from bncheck.findings import Confidence, Match
from bncheck.graph import NORMS, UNKNOWN, Kind, LayerGraph, direct_producer, only_consumer


@check("BN110", LayerGraph)
def norm_after_norm(graph: LayerGraph) -> Iterator[Match]:
    """Yield each BatchNorm that alone reads the output of another normalisation."""
    for norm in graph.of_kind(Kind.BATCH_NORM):
        if norm.layer is None or norm.layer.site is None:
            continue
        first = direct_producer(norm)
        if first is None or first.kind not in NORMS or only_consumer(first) is not norm:
            continue
        features = (first.get("num_features"), norm.get("num_features"))
        if UNKNOWN not in features and features[0] != features[1]:
            continue
        yield Match(
            norm.layer.site,
            f"BatchNorm normalises what a {_name(first.kind)} has just normalised",
            "keep one of the two",
            # LayerNorm is over other dimensions: both have an effect.
            Confidence.POSSIBLE if first.kind is Kind.LAYER_NORM else Confidence.PROVEN,
        )


def _name(kind: Kind) -> str:
    return "".join(word.capitalize() for word in kind.value.split())

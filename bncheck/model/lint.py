"""Runs the structure rules on a saved model: the same checks, on the graph that tracing gives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from bncheck.checks import all_checks
from bncheck.config import Settings
from bncheck.errors import BNCheckError
from bncheck.findings import Confidence, Finding, Match
from bncheck.graph import NORMS, PRODUCERS, Layer, LayerGraph, Site
from bncheck.graph import Kind as NodeKind
from bncheck.model.inputs import example_inputs
from bncheck.model.kinds import Kind
from bncheck.model.load import load
from bncheck.model.trace import trace, trace_program
from bncheck.pages import Page, all_pages
from bncheck.verification.inputs import draw


def lint_model(
    path: str,
    settings: Settings,
    *,
    inputs: Sequence[str] = (),
    architecture: str | None = None,
    trust: Sequence[str] = (),
) -> list[Finding]:
    """Return the findings in a saved model, each with the name of the layer that it is about.

    Raises BNCheckError for a file that can't be loaded or a model that can't be traced.
    """
    graph = _graph(path, inputs, architecture, trust)
    findings = []
    for code, check in all_checks().items():
        page = all_pages()[code]
        wanted = check.subject is LayerGraph and "model" in page.reads
        if wanted and settings.enables(code, page.default):
            found = {match.site: match for match in check.function(graph)}
            findings += [
                _finding(match, page, path)
                for match in found.values()
                if settings.pedantic or match.confidence is not Confidence.POSSIBLE
            ]
    return findings


def _graph(
    path: str, inputs: Sequence[str], architecture: str | None, trust: Sequence[str]
) -> LayerGraph:
    loaded = load(path, architecture=architecture, trust=trust)
    if loaded.kind is Kind.EXPORTED:
        return _as_in_source(trace_program(loaded.model).graph)
    if loaded.kind is Kind.TORCHSCRIPT:
        raise BNCheckError(
            f"{path} is a TorchScript archive, whose layers can't be told apart from operations; "
            "lint the model that it was made from"
        )
    loaded.model.eval()
    args, kwargs, _ = example_inputs(loaded.model, inputs)
    args, kwargs = draw((args, kwargs), torch.Generator().manual_seed(0))
    return _as_in_source(trace(loaded.model, args, kwargs).graph)


def _as_in_source(graph: LayerGraph) -> LayerGraph:
    """Make a graph that was traced in eval mode what the source reader would have made of it.

    Dropout stands between layers, and the operations of an exported program are applications of
    the layers whose parameters they use.
    """
    layers: dict[str, Layer] = {}
    for node in graph.nodes:
        if node.get("operation") == "dropout":
            node.kind = NodeKind.DROPOUT
        owned = node.parameters.get("running_mean", node.parameters.get("weight"))
        if node.layer is not None or owned is None or node.kind not in PRODUCERS | NORMS:
            continue
        name = owned.rpartition(".")[0]
        if name not in layers:
            site = Site(node.site.path if node.site is not None else graph.name, name)
            layers[name] = Layer(node.kind, node.kind.value, name, site, node.attributes)
        node.layer = layers[name]
    graph.layers += layers.values()
    return graph


def _finding(match: Match, page: Page, path: str) -> Finding:
    """Put the finding at the beginning of the file, which has no lines, and name the layer."""
    return Finding(
        code=page.code,
        name=page.name,
        path=str(Path(path)),
        line=1,
        column=1,
        end_line=1,
        end_column=1,
        message=f"{match.site.mark}: {match.message}",
        hint=match.hint,
        severity=match.severity or page.severity,
        confidence=match.confidence,
    )

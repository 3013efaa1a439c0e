"""Tiny batches: the configured limit, the certain crash, and what a batch's variance is worth."""

from __future__ import annotations

import pytest

from bncheck.batches import variance_error
from bncheck.config import Settings
from bncheck.findings import Confidence, Finding, Severity
from bncheck.graph import Kind, Layer, LayerGraph, Node
from bncheck.linting import lint
from bncheck.one_sample import fails_on_one_sample

TRAINING = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def train():
    model = {model}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    data = TensorDataset(torch.randn({length}, 20), torch.zeros({length}))
    model.train()
    for x, y in DataLoader(data, batch_size={size}):
        loss = (model(x).mean(1) - y).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""
FLAT = "nn.Sequential(nn.Linear(20, 8, bias=False), nn.BatchNorm1d(8))"
MAPS = "nn.Sequential(nn.Conv1d(20, 8, 3, bias=False), nn.BatchNorm1d(8))"


def found(model: str, length: int, size: int, **settings: int) -> list[Finding]:
    text = TRAINING.format(model=model, length=length, size=size).encode()
    return lint({"train.py": text}, Settings(**settings)).findings


@pytest.mark.parametrize(
    ("size", "settings", "codes"),
    [
        (4, {}, ["BN301"]),
        (8, {}, []),
        (4, {"minimum_batch_size": 4}, []),
        (8, {"minimum_batch_size": 16}, ["BN301"]),
    ],
)
def test_the_limit_is_configured(size: int, settings: dict[str, int], codes: list[str]) -> None:
    assert [finding.code for finding in found(MAPS, 64, size, **settings)] == codes


def test_batches_of_one_fail_where_a_norm_sees_one_value() -> None:
    (finding,) = found(FLAT, 64, 1)
    assert (finding.code, finding.severity) == ("BN301", Severity.ERROR)
    assert finding.confidence is Confidence.PROVEN
    (finding,) = found(MAPS, 64, 1)
    assert (finding.code, finding.severity) == ("BN301", Severity.WARNING)


@pytest.mark.parametrize(
    ("model", "length", "codes"),
    [(FLAT, 65, ["BN302"]), (FLAT, 64, []), (FLAT, 66, []), (MAPS, 65, [])],
)
def test_a_certain_last_batch_of_one_is_an_error(model: str, length: int, codes: list[str]) -> None:
    findings = found(model, length, 16)
    assert [finding.code for finding in findings] == codes
    assert all(finding.severity is Severity.ERROR for finding in findings)


@pytest.mark.parametrize(
    ("samples", "error"), [(1, 1.0), (2, 0.866), (4, 0.661), (8, 0.484), (32, 0.248)]
)
def test_variance_error(samples: int, error: float) -> None:
    assert variance_error(samples) == pytest.approx(error, abs=5e-4)


@pytest.mark.parametrize(
    ("source", "attributes", "dimensions", "fails"),
    [
        (Kind.LINEAR, {}, 1, True),
        (Kind.LINEAR, {}, 2, False),
        (Kind.POOLING, {"output_size": 1}, 2, True),
        (Kind.POOLING, {"output_size": (1, 1)}, 2, True),
        (Kind.POOLING, {"output_size": 7}, 2, False),
        (Kind.POOLING, {}, 2, False),
        (Kind.OPAQUE, {}, 1, False),
    ],
)
def test_what_fails_on_one_sample(
    source: Kind, attributes: dict[str, object], dimensions: int, fails: bool
) -> None:
    graph = LayerGraph("network")
    first = graph.add(Node(source, "first", None, attributes=attributes))
    relu = graph.add(Node(Kind.ACTIVATION, "relu", None, inputs=[first]))
    layer = Layer(Kind.BATCH_NORM, "torch.nn.BatchNorm", "bn", None, {"dimensions": dimensions})
    graph.add(Node(Kind.BATCH_NORM, "bn", None, layer, inputs=[relu]))
    assert fails_on_one_sample(graph) is fails

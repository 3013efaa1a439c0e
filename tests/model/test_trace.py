"""Both tracers read the same graph, and neither is believed where the model says otherwise."""

import pytest

pytest.importorskip("torch")

import torch
from torch import nn

from bncheck.errors import BNCheckError
from bncheck.graph import Kind
from bncheck.model.trace import tensors_of, trace
from bncheck.model.trace_export import trace_export


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.act = nn.ReLU(inplace=True)
        self.drop = nn.Dropout()
        self.left, self.right = nn.Conv2d(2, 2, 1), nn.ConvTranspose2d(2, 2, 1)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        x = self.drop(self.act(self.norm(self.conv(x))))
        a, b = x.chunk(2, 1)
        x = torch.cat([self.left(a), self.right(b) + b], 1)
        return self.head(x.mean((2, 3)))


class OnlyExport(Network):
    def forward(self, x):
        if x.shape[1] != 3:
            raise ValueError
        return super().forward(x)


def through_identities(graph):
    """Return the kinds that compute something, in order, with their parameters."""
    return [
        (node.kind, sorted(node.parameters.values()))
        for node in graph.nodes
        if node.kind is not Kind.IDENTITY
    ]


def test_fx_and_export_give_the_same_layers():
    x = torch.randn(2, 3, 8, 8)
    one, other = trace(Network().eval(), (x,)), trace(OnlyExport().eval(), (x,))
    assert (one.how, other.how) == ("fx", "export")
    assert other.notes[0].startswith("fx: ")
    assert through_identities(one.graph) == through_identities(other.graph)
    for traced in (one, other):
        norm = next(traced.graph.of_kind(Kind.BATCH_NORM))
        assert norm.layer.name == "norm"
        assert norm.layer.type_name == "torch.nn.BatchNorm2d"
        assert norm.inputs[0].kind is Kind.CONVOLUTION
        assert norm.inputs[0].shape == (2, 4, 6, 6)
        assert norm.parameters["running_mean"] == "norm.running_mean"
        pieces = [n for n in traced.graph.of_kind(Kind.RESHAPE) if n.shape == (2, 2, 6, 6)]
        assert len(pieces) == 2
        assert pieces[0].inputs == pieces[1].inputs


class Overwriting(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x):
        x = self.conv(x)
        nn.functional.relu_(x)
        return self.norm(x)


@pytest.mark.parametrize("tracer", ["fx", "export"])
def test_what_reads_after_an_in_place_operation_reads_its_result(tracer):
    model, x = Overwriting().eval(), torch.randn(2, 3, 8, 8)
    traced = trace(model if tracer == "fx" else trace_export(model, (x,), {}), (x,))
    norm = next(traced.graph.of_kind(Kind.BATCH_NORM))
    assert norm.inputs[0].kind is Kind.ACTIVATION
    assert norm.inputs[0].inputs[0].kind is Kind.CONVOLUTION


class Misled(nn.Module):
    """fx takes the branch for None on a proxy, which is not None, without a word."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x):
        y = self.conv(x)
        return self.norm(y) if isinstance(x, torch.Tensor) else torch.relu(self.norm(y))


def test_a_trace_that_answers_otherwise_is_not_used():
    model = Misled().eval()
    traced = trace(model, (torch.randn(2, 3, 4, 4),))
    assert traced.how == "export"
    assert "something else" in traced.notes[0]
    assert not list(traced.graph.of_kind(Kind.ACTIVATION))


def test_an_input_that_does_not_fit_is_said_so():
    with pytest.raises(BNCheckError, match="does not run on the example inputs"):
        trace(Network().eval(), (torch.randn(2, 5, 8, 8),))


def test_tied_tensors_are_found_under_every_name():
    layer = nn.Linear(2, 2)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    assert tensors_of(model)["0.weight"] is tensors_of(model)["2.weight"]

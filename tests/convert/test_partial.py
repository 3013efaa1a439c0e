"""What stays of a BatchNorm that cannot go, where that is asked for."""

import pytest

pytest.importorskip("torch")

import torch
from observe import difference, operations, outputs
from torch import nn

from bncheck.convert.fold import fold
from fixtures.models.adversarial import Net, bn, conv, randomise
from fixtures.models.sentences import PARTLY, before, positive


@pytest.mark.parametrize("name", PARTLY)
def test_the_scale_goes_forward_where_it_can(name):
    kept, between = PARTLY[name]
    torch.manual_seed(0)
    model = before(between, last=conv(), act=nn.PReLU(4))().eval()
    randomise(model)
    positive(model)
    model.double()
    x = torch.randn(2, 4, 8, 8, dtype=torch.float64)
    assert not fold(model, x).steps

    result = fold(model, x, partial=True)

    assert [(step.into, step.how) for step in result.steps] == [(kept, "partly")]
    assert not operations(result.model, (x,)).batch_norms
    for factor in (1, -3):
        assert (
            difference(outputs(model, (x * factor,)), outputs(result.model, (x * factor,))) < 1e-9
        )


@pytest.mark.parametrize("name", PARTLY)
def test_a_negative_scale_stays_before_an_activation(name):
    _, between = PARTLY[name]
    torch.manual_seed(0)
    model = before(between, last=conv(), act=nn.PReLU(4))().eval()
    randomise(model)
    with torch.no_grad():
        model.norm.weight[1] = -0.5
    x = torch.randn(2, 4, 8, 8)
    result = fold(model, x, partial=True)
    assert [step.into for step in result.steps] == ["one multiply-add"]
    assert result.verification.passed


def test_uses_on_tensors_of_other_ranks_have_maps_of_their_own():
    """Nothing is rounded in float64, and the maps of both uses are the same numbers."""
    model = Net(
        lambda m, x: torch.sigmoid(m.norm(torch.relu(x))).mean(-1) + m.norm(x.amax(-1).tanh()),
        norm=bn(4, 1),
    ).eval()
    randomise(model)
    x = torch.randn(2, 4, 5, dtype=torch.float64)
    result = fold(model.double(), x, partial=True)
    assert [step.how for step in result.steps] == ["partly"]
    assert result.verification.passed, result.verification

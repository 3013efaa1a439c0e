"""Weights that the model computes: folded by their values, and proven in float64."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

import bncheck
from bncheck.convert.torchscript import fold_torchscript
from fixtures.models.adversarial import randomise


class Standardised(nn.Conv2d):
    """Its weight has mean 0 and variance 1, as the forward computes it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean, variance = (f(self.weight, (1, 2, 3), keepdim=True) for f in (torch.mean, torch.var))
        weight = (self.weight - mean) / (variance + 1e-5).sqrt()
        return F.conv2d(x, weight, self.bias, padding=self.padding)


def pruned(layer: nn.Module) -> nn.Module:
    prune.random_unstructured(layer, "weight", 0.4)
    return layer


COMPUTED = {
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "older weight_norm": weight_norm,
    "older spectral_norm": spectral_norm,
    "pruning": pruned,
    "weight standardisation": lambda layer: standardised(layer),
}


def standardised(layer: nn.Conv2d) -> nn.Module:
    made = Standardised(layer.in_channels, layer.out_channels, 3, padding=1)
    made.load_state_dict(layer.state_dict())
    return made


def network(name: str) -> nn.Module:
    """The last computed weight has no BatchNorm to take in, and is fixed all the same."""
    torch.manual_seed(0)
    convs = [COMPUTED[name](nn.Conv2d(4, 4, 3, padding=1)) for _ in range(3)]
    model = nn.Sequential(
        convs[0], nn.BatchNorm2d(4), nn.ReLU(), convs[1], nn.BatchNorm2d(4), nn.ReLU(), convs[2]
    )
    randomise(model)
    return model.eval()


@pytest.mark.parametrize("name", COMPUTED)
@pytest.mark.filterwarnings("ignore")
def test_baked_weights_are_proven_before_they_are_rounded(name: str) -> None:
    model = network(name)
    x = torch.randn(2, 4, 8, 8)
    model(x)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    result = bncheck.fold(model, x, bake_parametrizations=True)
    assert len(result.steps) == 2, result.refusals
    proof = result.verification
    assert proof is not None
    assert proof.passed, proof
    assert proof.exact_with == "exact values"
    assert proof.error_exact is not None
    assert proof.error_exact < 1e-12
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert getattr(model[0], "weight").dtype is torch.float32  # noqa: B009


@pytest.mark.filterwarnings("ignore")
def test_a_baked_weight_that_is_not_what_was_computed_shows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from bncheck.convert import exact

    compute = exact._Layers.value
    monkeypatch.setattr(
        exact._Layers, "value", lambda layers, *which: compute(layers, *which) * (1 + 1e-9)
    )
    model = network("weight_norm")
    proof = bncheck.fold(model, torch.randn(2, 4, 8, 8), bake_parametrizations=True).verification
    assert proof is not None
    assert not proof.passed
    assert "is not what was computed for it" in proof.reason
    assert proof.error_exact is not None
    assert proof.error_exact > 1e-10


@pytest.mark.parametrize("form", ["program", "trace"])
@pytest.mark.filterwarnings("ignore")
def test_graphs_with_computed_weights(form: str) -> None:
    model = network("weight standardisation")
    x = torch.randn(2, 4, 8, 8)
    if form == "trace":
        result = fold_torchscript(torch.jit.trace(model, x), x, bake_parametrizations=True)
    else:
        program = torch.export.export(model, (x,))
        result = bncheck.fold_exported(program, x, bake_parametrizations=True)
    assert len(result.steps) == 2, result.refusals
    proof = result.verification
    assert proof is not None
    assert proof.passed, proof
    assert proof.error_exact is not None
    assert proof.error_exact < 1e-12

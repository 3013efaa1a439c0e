"""A BatchNorm whose fold would make a tensor overflow in half precision stays, and it alone."""

import io

import pytest

pytest.importorskip("torch")

import torch
from hypothesis import HealthCheck, given, seed, settings
from networks import networks
from torch import nn

from bncheck.convert.fold import fold, fold_exported
from bncheck.convert.torchscript import fold_torchscript
from fixtures.models.adversarial import Net, bn, conv

REASON = "would make channel 2 of what conv computes overflow in "


def scaled(factor):
    """What the first layer computes is made small, and channel 2 has a shift that is not."""

    def run(m, x):
        return m.n2(m.c2(torch.relu(m.norm(m.conv(x) * factor))))

    torch.manual_seed(0)
    model = Net(run, conv=conv(), norm=bn(), c2=conv(), n2=bn()).eval()
    for norm in (model.norm, model.n2):
        norm.running_var.uniform_(0.5, 2)
        norm.weight.data.uniform_(0.5, 2)
    return model


def nearly_full(dtype):
    """The folded bias fits, and what is added to it does not."""
    largest, factor = torch.finfo(dtype).max, 2.0**-10 if dtype is torch.float16 else 2.0**-110
    model = scaled(factor)
    with torch.no_grad():
        model.norm.running_var.fill_(1.0)
        model.norm.weight.fill_(1.0)
        model.norm.bias[2] = largest * factor * 0.999
        model.conv.weight[2].mul_(largest * 0.05)
    return model.to(dtype)


def example(dtype):
    return torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", ["module", "program", "script"])
@pytest.mark.filterwarnings("ignore")
def test_only_what_overflows_stays(dtype, kind):
    model, x = nearly_full(dtype), example(dtype)
    match kind:
        case "module":
            result = fold(model, (x,))
        case "program":
            result = fold_exported(torch.export.export(model, (x,)))
        case "script":
            result = fold_torchscript(reloaded(torch.jit.trace(model, (x,))), (x,))
    assert [step.batch_norm for step in result.steps] == ["n2"]
    assert [refusal.batch_norm for refusal in result.refusals] == ["norm"]
    reason = result.refusals[0].reason
    wanted = REASON if kind != "script" else "would make channel 2 of the result of "
    assert wanted in reason or REASON in reason, reason
    assert str(dtype).removeprefix("torch.") in reason
    assert result.verification.passed


def reloaded(script):
    """Return a module without the memory of what it was traced from."""
    buffer = io.BytesIO()
    torch.jit.save(script, buffer)
    buffer.seek(0)
    return torch.jit.load(buffer)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_what_fits_is_folded(dtype):
    model = scaled(2.0**-10).to(dtype)
    result = fold(model, (example(dtype),))
    assert [step.batch_norm for step in result.steps] == ["norm", "n2"]
    assert result.verification.passed


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.filterwarnings("ignore")
def test_another_way_is_taken_where_one_overflows(dtype):
    """The layer behind takes in what the layer before cannot."""
    model, x = nearly_full(dtype), example(dtype)
    model.run = lambda m, x: torch.relu(m.c2(m.norm(m.conv(x) * 2.0**-10)))
    model.n2 = nn.Identity()
    with torch.no_grad():
        model.norm.bias[2] = 60.0
        model.conv.weight[2] *= 0.5
    result = fold(model, (x,))
    assert [step.batch_norm for step in result.steps] == ["norm"]
    assert result.verification.passed


def test_what_overflows_before_it_is_folded_is_left_to_the_comparison():
    model, x = nearly_full(torch.float16), example(torch.float16)
    with torch.no_grad():
        model.conv.bias.fill_(60000.0)
    assert not torch.isfinite(model.conv(x)).all()
    result = fold(model, (x,), verify=False)
    assert {step.batch_norm for step in result.steps} >= {"n2"}


@settings(max_examples=30, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@seed(0)
@given(network=networks(more=True))
@pytest.mark.filterwarnings("ignore")
def test_no_network_of_half_precision_fails_its_verification(network):
    if any(layer.type_name.endswith("3d") for layer in network.layers):
        return  # some kernels of half precision are missing on the CPU
    for dtype in (torch.float16, torch.bfloat16):
        x = network.input(0).to(dtype)
        result = fold(network.model().to(dtype), (x,))
        assert result.verification.passed, (result.verification, result.steps)

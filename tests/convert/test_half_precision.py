"""What a dtype cannot hold is refused with its channel named; the rest is right against float64."""

import re

import pytest

pytest.importorskip("torch")

import torch
from torch import nn

from bncheck.convert.fold import fold
from fixtures.models.adversarial import Net, bn, conv

DTYPES = [torch.float16, torch.bfloat16, torch.float32]
TARGETS = {
    "linear": (lambda: nn.Linear(8, 8), 1),
    "convolution": (lambda: nn.Conv2d(8, 8, 3), 2),
    "grouped convolution": (lambda: nn.Conv2d(8, 8, 3, groups=4), 2),
    "depthwise convolution": (lambda: nn.Conv1d(8, 8, 3, groups=8), 1),
    "convolution 3d": (lambda: nn.Conv3d(8, 8, 2), 3),
    "transposed convolution": (lambda: nn.ConvTranspose2d(8, 8, 3, padding=2), 2),
    "grouped transposed convolution": (
        lambda: nn.ConvTranspose2d(8, 8, 3, groups=4, padding=2), 2
    ),
    "BatchNorm": (lambda: bn(8), 2),
}  # fmt: skip


def before(kind):
    """Return a layer and the BatchNorm behind it."""
    build, rank = TARGETS[kind]
    return Net(lambda m, x: m.norm(m.target(x)), target=build(), norm=bn(8, rank))


def after(kind):
    """Return a BatchNorm that only the layer behind it can take in."""
    build, rank = TARGETS[kind]
    return Net(lambda m, x: m.target(m.norm(torch.relu(x))), target=build(), norm=bn(8, rank))


def beside(kind):
    """Return a BatchNorm on an identity branch."""
    return Net(
        lambda m, x: torch.relu(m.target(x) + m.norm(torch.dropout(x, 0.5, False))),
        target=conv(8, 8, padding=1),
        norm=bn(8),
    )


MODELS = [(before, kind) for kind in TARGETS] + [
    (after, kind) for kind in TARGETS if kind != "BatchNorm"
]
MODELS.append((beside, "convolution"))
IDS = [f"{place.__name__}-{kind.replace(' ', '-')}" for place, kind in MODELS]


def model_of(place, kind, dtype):
    torch.manual_seed(3)
    model = place(kind).eval()
    with torch.no_grad():
        for norm in model.modules():
            if isinstance(norm, nn.modules.batchnorm._BatchNorm):
                norm.running_mean.normal_()
                norm.running_var.uniform_(0.5, 2)
                norm.weight.uniform_(0.5, 2)
                norm.bias.normal_()
    return model.to(dtype)


def example(kind, dtype):
    rank = TARGETS[kind][1]
    space = () if kind == "linear" else (5,) * rank
    return torch.randn(3, 8, *space, generator=torch.Generator().manual_seed(5)).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("place", "kind"), MODELS, ids=IDS)
def test_what_the_dtype_holds_is_folded_as_well_as_the_model_rounds(place, kind, dtype):
    model = model_of(place, kind, dtype)
    result = fold(model, (example(kind, dtype),))
    assert [step.batch_norm for step in result.steps] == ["norm"], result.refusals
    assert result.verification.passed, result.verification
    assert result.verification.error_exact < 1e-9
    assert all(parameter.dtype == dtype for parameter in result.model.parameters())


PROBLEMS = {"overflow": "overflows", "loss": "loses more than rounding", "bias": "overflows"}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize(("place", "kind"), MODELS, ids=IDS)
def test_what_the_dtype_does_not_hold_is_refused_with_its_channel(place, kind, problem, dtype):
    if place is beside and problem == "loss":
        return  # added to a tap of the kernel, a small scale loses nothing
    model = model_of(place, kind, dtype)
    spoil(model, problem, dtype)
    result = fold(model, (example(kind, dtype),), verify=False)
    assert not result.steps
    reason = result.refusals[0].reason
    name = re.escape(str(dtype).removeprefix("torch."))
    channel = r"(input )?channel \d+" if problem == "bias" else "(input )?channel 6"
    assert re.search(f"(target|norm) whose {channel} {PROBLEMS[problem]} in {name}", reason), reason


def spoil(model, problem, dtype):
    """Give channel 6 of `norm` a map, and of `target` values, that no parameter can hold."""
    limits = torch.finfo(dtype)
    with torch.no_grad():
        norm = model.norm
        if problem == "overflow":
            norm.weight[6], norm.running_var[6] = limits.max / 2, 1e-6
            norm.running_mean[6] = 0
        elif problem == "bias":
            norm.running_mean[6], norm.running_var[6] = limits.max / 2, 1e-4
        else:
            norm.weight[6], norm.running_var[6] = limits.tiny / 100, 1e4
            norm.running_mean[6] = 0
        if problem == "loss" and isinstance(model.target, nn.modules.batchnorm._BatchNorm):
            model.target.weight[6] = 1e-4

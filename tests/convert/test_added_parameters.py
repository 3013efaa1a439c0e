"""A layer that had no bias gets one, wherever it is used."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import bncheck
from bncheck.convert.torchscript import fold_torchscript
from fixtures.models.adversarial import randomise


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)


class Twice(Network):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm(self.conv(torch.relu(self.norm(self.conv(x))))))


class Functional(Network):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(2):
            x = torch.relu(self.norm(F.conv2d(x, self.conv.weight, padding=1)))
        return x


class Tied(Network):
    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.other.weight = self.conv.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm(self.conv(x))) + torch.relu(self.norm(self.other(-x)))


class FunctionalNorm(Network):
    """The second BatchNorm goes into the first, which is a call and has no scale and shift."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.BatchNorm2d(4, affine=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.batch_norm(torch.relu(x), self.first.running_mean, self.first.running_var)
        return torch.relu(self.norm(x))


class SharedStatistics(Network):
    """The same, of one layer's statistics."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.batch_norm(torch.relu(x), self.norm.running_mean, self.norm.running_var)
        return torch.relu(self.norm(x))


@pytest.mark.parametrize("form", ["module", "program", "trace"])
@pytest.mark.parametrize("network", [Twice, Functional, Tied, FunctionalNorm, SharedStatistics])
@pytest.mark.filterwarnings("ignore")
def test_every_use_reads_what_was_added(network: type[Network], form: str) -> None:
    model = network().eval()
    randomise(model)
    x = torch.randn(2, 4, 6, 6)
    match form:
        case "module":
            result = bncheck.fold(model, x)
        case "program":
            result = bncheck.fold_exported(torch.export.export(model, (x,)), x)
        case _:
            result = fold_torchscript(torch.jit.trace(model, x), x)
    assert len(result.steps) == 1, result.refusals
    assert result.verification is not None
    assert result.verification.passed, result.verification
    assert result.verification.error_exact is not None

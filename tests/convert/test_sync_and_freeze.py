import copy
from typing import Any

import pytest
import torch
from torch import nn

from bncheck.convert.freeze import freeze
from bncheck.convert.sync import sync
from bncheck.errors import BNCheckError
from bncheck.frozen import FrozenBatchNorm
from fixtures.models.real import randomize_statistics

NETWORKS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "1d": (lambda: nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 2)), (5, 4)),
    "2d": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), (2, 3, 8, 8)),
    "3d": (lambda: nn.Sequential(nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4)), (2, 1, 5, 5, 5)),
    "without affine": (lambda: nn.Sequential(nn.BatchNorm1d(4, affine=False)), (5, 4)),
    "alone": (lambda: nn.BatchNorm1d(4), (5, 4)),
    "own eps": (lambda: nn.Sequential(nn.BatchNorm1d(4, eps=0.1, momentum=None)), (5, 4)),
}


def network(name: str) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    model = NETWORKS[name][0]()
    randomize_statistics(model)
    return model.train(), torch.randn(NETWORKS[name][1])


@pytest.mark.parametrize("name", NETWORKS)
def test_freeze(name: str) -> None:
    model, x = network(name)
    state = copy.deepcopy(model.state_dict())
    result = freeze(model, x)
    assert [step.how for step in result.steps] == ["parameters become buffers"]
    assert result.verification is not None
    assert result.verification.passed
    assert result.model.training
    with torch.no_grad():
        assert torch.equal(result.model.train()(x), copy.deepcopy(model).eval()(x))
    assert result.model.state_dict().keys() == state.keys()
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    model.load_state_dict(result.model.state_dict())
    frozen = {n for n, m in result.model.named_modules() if isinstance(m, FrozenBatchNorm)}
    assert not any(n.rpartition(".")[0] in frozen for n, _ in result.model.named_parameters())


def test_a_layer_that_moves_is_found_by_training_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def drifting(self: Any, x: torch.Tensor) -> torch.Tensor:
        y = forward(self, x)
        if self.training:
            self.running_mean.data.add_(1e-6)
        return y

    forward = FrozenBatchNorm.forward
    monkeypatch.setattr(FrozenBatchNorm, "forward", drifting)
    result = freeze(*network("2d"))
    assert result.verification is not None
    assert not result.verification.passed
    assert "after 3 training steps" in result.verification.reason


class EvalOnly(nn.Sequential):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            raise ValueError("targets are missing")
        return super().forward(x)


def test_a_model_that_does_not_train_on_its_inputs_alone_says_so() -> None:
    result = freeze(EvalOnly(nn.BatchNorm2d(3)), torch.randn(2, 3, 4, 4))
    assert result.verification is not None
    assert result.verification.passed
    assert "targets are missing" in result.notes[0]


@pytest.mark.parametrize("name", NETWORKS)
def test_sync(name: str) -> None:
    model, x = network(name)
    result = sync(model, x)
    assert [step.into for step in result.steps] == ["torch.nn.modules.batchnorm.SyncBatchNorm"]
    assert result.verification is not None
    assert result.verification.passed
    assert result.verification.error_original == result.verification.error_converted
    assert torch.equal(result.model.eval()(x), copy.deepcopy(model).eval()(x))
    again = freeze(result.model, x)
    assert len(again.steps) == 1


class Activating(nn.BatchNorm2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).relu()


class Renamed(nn.BatchNorm2d):
    """Adds nothing but a name and a default."""

    def __init__(self, size: int) -> None:
        super().__init__(size, eps=1e-3)


def hooked() -> nn.Module:
    norm = nn.BatchNorm2d(3)
    norm.register_forward_hook(lambda *_: None)
    return norm


@pytest.mark.parametrize("convert", [sync, freeze])
@pytest.mark.parametrize(
    ("norm", "reason"),
    [
        (Activating(3), "Activating changes forward of BatchNorm2d"),
        (hooked(), "hooks"),
    ],
)
def test_a_batch_norm_that_does_more_is_refused_by_name(
    convert: Any, norm: nn.Module, reason: str
) -> None:
    model = nn.Sequential(norm, nn.BatchNorm2d(3)).eval()
    result = convert(model, torch.randn(2, 3, 4, 4))
    assert [step.batch_norm for step in result.steps] == ["1"]
    assert [refusal.batch_norm for refusal in result.refusals] == ["0"]
    assert reason in result.refusals[0].reason
    assert type(result.model[0]) is type(norm)
    assert result.verification.passed


def test_a_shared_layer_stays_shared_and_a_subclass_that_adds_nothing_is_converted() -> None:
    norm = Renamed(3)
    result = freeze(nn.Sequential(norm, nn.ReLU(), norm), torch.randn(2, 3, 4, 4))
    assert result.model[0] is result.model[2]
    assert (len(result.steps), len(result.refusals)) == (1, 0)
    assert result.model[0].eps == 1e-3


def test_what_cannot_be_frozen() -> None:
    with pytest.raises(BNCheckError, match="holds no BatchNorm"):
        freeze(nn.Sequential(nn.Linear(2, 2)), torch.randn(2, 2))
    result = freeze(nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False)))
    assert "keeps no running statistics" in result.refusals[0].reason

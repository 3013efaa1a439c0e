import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bncheck.convert.torchscript import fold_torchscript
from bncheck.errors import BNCheckError
from bncheck.model.script_graph import reloaded
from fixtures.models.real import randomize_statistics

IMAGE = (2, 4, 8, 8)


def scripted(model: nn.Module, x: torch.Tensor) -> Any:
    return torch.jit.script(model)


def traced(model: nn.Module, x: torch.Tensor) -> Any:
    return torch.jit.trace(model, x)


def archive(
    make: Callable[[nn.Module, torch.Tensor], Any], model: nn.Module, shape: tuple[int, ...]
) -> tuple[Any, torch.Tensor]:
    torch.manual_seed(0)
    randomize_statistics(model)
    x = torch.randn(shape)
    return make(model.eval(), x), x


FOLDABLE: dict[str, tuple[Callable[[], list[nn.Module]], tuple[int, ...]]] = {
    "1d": (lambda: [nn.Conv1d(4, 6, 3), nn.BatchNorm1d(6)], (2, 4, 9)),
    "2d without bias": (lambda: [nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6)], IMAGE),
    "3d": (lambda: [nn.Conv3d(2, 4, 3), nn.BatchNorm3d(4)], (2, 2, 5, 5, 5)),
    "grouped": (lambda: [nn.Conv2d(4, 8, 3, groups=4), nn.BatchNorm2d(8)], IMAGE),
    "transposed": (
        lambda: [nn.ConvTranspose2d(4, 6, 3, groups=2, bias=False), nn.BatchNorm2d(6)],
        IMAGE,
    ),
    "same padding": (lambda: [nn.Conv2d(4, 6, 3, padding="same"), nn.BatchNorm2d(6)], IMAGE),
    "reflected": (
        lambda: [nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), nn.BatchNorm2d(6)],
        IMAGE,
    ),
    "linear": (lambda: [nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU()], (5, 4)),
    "without affine": (lambda: [nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, affine=False)], IMAGE),
    "inplace after": (
        lambda: [nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU(inplace=True)],
        IMAGE,
    ),
}


@pytest.mark.parametrize("make", [scripted, traced])
@pytest.mark.parametrize("name", FOLDABLE)
def test_folds(make: Any, name: str) -> None:
    layers, shape = FOLDABLE[name]
    module, x = archive(make, nn.Sequential(*layers()), shape)
    wanted = module(x)
    state = copy.deepcopy(module.state_dict())
    result = fold_torchscript(module, x)
    assert [(step.batch_norm, step.into) for step in result.steps] == [("1", "0")]
    assert result.refusals == ()
    assert result.verification is not None
    assert result.verification.passed, result.verification
    assert result.verification.error_exact is not None
    assert result.verification.error_exact < 1e-12
    assert isinstance(result.model, torch.jit.ScriptModule)
    assert "batch_norm" not in str(result.model.inlined_graph)
    names = dict(result.model.named_parameters())
    assert names.keys() - {"0_folded.bias"} <= {"0.weight", "0.bias"}
    assert len(names) == 2
    torch.testing.assert_close(result.model(x), wanted)
    result.model.double()(x.double())  # every parameter moves with the module
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    assert torch.equal(module(x), wanted)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)


class Twice(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x)) + self.conv(x * 2)


class Read(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return self.norm(y) + y


class After(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(F.relu(self.conv(x)))


class Tied(Net):
    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Conv2d(4, 4, 3, padding=1)
        self.other.weight = self.conv.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x)) + self.other(x)


class Computed(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(F.conv2d(x, self.conv.weight * 2, padding=1))


class Overwritten(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        z = self.norm(y)
        y.add_(1)
        return z + y


class Loop(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        for _ in range(int(x.sum() * 0) + 2):
            y = self.norm(y)
        return y


class Batch(Net):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(4, track_running_stats=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x))


class Sequence(Net):
    """The channels of this BatchNorm are dimension 1, the outputs of its layer dimension 2."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x))


@pytest.mark.parametrize("make", [scripted, traced])
@pytest.mark.parametrize(
    ("model", "shape", "reason"),
    [
        (Twice, IMAGE, "parameters are used more than once"),
        (Read, IMAGE, "also read|reads|add"),
        (After, IMAGE, "meets relu, which a shift cannot pass"),
        (Tied, IMAGE, "shares its parameters with"),
        (Computed, IMAGE, "computed when the model runs"),
        (Overwritten, IMAGE, "read|over"),
        (Batch, IMAGE, "train mode|statistics"),
        (Sequence, (3, 4, 4), "channels that are not the output channels of conv"),
    ],
)
def test_refuses(make: Any, model: Any, shape: tuple[int, ...], reason: str) -> None:
    module, x = archive(make, model(), shape)
    result = fold_torchscript(module, x)
    assert result.steps == ()
    assert pytest.importorskip("re").search(reason, result.refusals[0].reason)
    assert result.verification is not None
    assert result.verification.passed
    torch.testing.assert_close(result.model(x), module(x))


class Picked(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.norm(self.conv(x)[:, [2, 0, 3, 1]]))


class Mixed(Net):
    """An order that is in part a size."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        order = torch.tensor([1, 0, 3, x.shape[0]], dtype=torch.int64)
        return F.relu(self.norm(self.conv(x)[:, order]))


class Filled(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x) * torch.tensor([1.0, -2.0, 3.0, 4.0]).view(4, 1, 1)
        return F.relu(self.norm(y))


class CastHead(Net):
    """A weight and a bias that are brought to the dtype of the input, as in timm's heads."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(F.relu(self.conv(x))).mean([2, 3])
        return F.linear(y, self.head.weight.to(dtype=y.dtype), self.head.bias.to(dtype=y.dtype))


@pytest.mark.parametrize("make", [scripted, traced])
@pytest.mark.parametrize("model", [Picked, Filled, CastHead])
def test_folds_through_constants_that_the_code_spells_out(make: Any, model: Any) -> None:
    module, x = archive(make, model(), IMAGE)
    result = fold_torchscript(module, x)
    assert [step.batch_norm for step in result.steps] == ["norm"]
    assert result.verification is not None
    assert result.verification.error_exact is not None
    assert result.verification.error_exact < 1e-12
    torch.testing.assert_close(result.model(x), module(x))


def test_an_order_that_is_in_part_a_size_is_none() -> None:
    module, x = archive(scripted, Mixed(), IMAGE)
    result = fold_torchscript(module, x)
    assert result.steps == ()
    torch.testing.assert_close(result.model(x), module(x))


def test_a_batch_norm_in_a_loop_stays() -> None:
    module, x = archive(scripted, Loop(), IMAGE)
    result = fold_torchscript(module, x)
    assert [refusal.batch_norm for refusal in result.refusals] == ["norm"]


class Dense(nn.Module):
    """Grows a list, checks shapes, branches on a size, and asks for a dtype."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(4 + 3 * i, 3, 3, padding=1) for i in range(3)])
        self.norms = nn.ModuleList([nn.BatchNorm2d(3) for _ in range(3)])
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.last = nn.BatchNorm2d(13)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = [x]
        for conv, norm in zip(self.convs, self.norms, strict=False):
            found.append(torch.relu(norm(conv(torch.cat(found, 1)))))
        y = self.pool(torch.cat(found, 1)).to(torch.float32)
        if y.shape[0] > 3:
            for i in range(y.shape[1]):
                y = y + i
        else:
            y = self.last(y)
        y = y * torch.linspace(0, 1, 2, dtype=torch.float32)
        return F.interpolate(y, scale_factor=2.0, mode="nearest")


def test_lists_checks_branches_loops_and_dtypes() -> None:
    module, x = archive(scripted, Dense(), IMAGE)
    result = fold_torchscript(module, x)
    assert {step.batch_norm for step in result.steps} == {f"norms.{i}" for i in range(3)}
    reasons = {refusal.batch_norm: refusal.reason for refusal in result.refusals}
    assert reasons == {"last": "it runs under a condition or in a loop"}
    assert result.verification is not None
    assert result.verification.reference == "float64"
    assert result.verification.error_exact is not None
    assert result.verification.error_exact < 1e-12
    for samples in (1, 2, 5):
        y = torch.randn(samples, 4, 9, 7)
        torch.testing.assert_close(result.model(y), module(y))


class Changed(Net):
    """Writes over a tensor under a condition."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.conv(x))
        if x.shape[0] > 1:
            y.add_(1)
        return y


def test_what_a_graph_cannot_say_is_refused_by_its_operator() -> None:
    module, x = archive(scripted, Changed(), IMAGE)
    with pytest.raises(BNCheckError, match="calls aten::add_ under a condition"):
        fold_torchscript(module, x)


def test_half_precision_that_overflows_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)).half()
    model[1].weight.data[2] = 6e4
    model[1].running_var.fill_(1e-3)
    x = torch.randn(IMAGE).half() * 1e-3
    result = fold_torchscript(torch.jit.trace(model.eval(), x), x)
    assert "channel 2 overflows in float16" in result.refusals[0].reason


def test_nothing_to_fold_and_an_input_that_does_not_fit() -> None:
    module, x = archive(scripted, nn.Sequential(nn.Conv2d(4, 4, 3)), IMAGE)
    with pytest.raises(BNCheckError, match="holds no BatchNorm"):
        fold_torchscript(module, x)
    with pytest.raises(BNCheckError, match="does not run on the example input"):
        fold_torchscript(module, x[:, :3])


def test_module_with_a_norm_in_train_mode_is_refused_and_left_as_it_was():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    network[1].train()
    module = torch.jit.script(network)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with pytest.raises(BNCheckError, match="1 is in train mode"):
        fold_torchscript(module, torch.randn(2, 3, 6, 6))
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


@pytest.mark.filterwarnings("ignore")
def test_what_torch_cannot_read_again_is_refused_in_a_sentence() -> None:
    module, x = archive(scripted, Read(), IMAGE)
    with pytest.raises(BNCheckError, match="cannot be stored and read again"):
        fold_torchscript(torch.jit.optimize_for_inference(module), x)


class TwoMethods(nn.Module):
    """Has a method beside `forward` that uses its convolution, and one that does not."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.other, self.after = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(self.other(torch.relu(self.norm(self.conv(x)))))

    @torch.jit.export
    def features(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x))

    @torch.jit.export
    def doubled(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


@pytest.mark.parametrize("copies", [False, True])
@pytest.mark.filterwarnings("ignore")
def test_what_other_methods_read_is_not_changed(copies: bool) -> None:
    module, x = archive(scripted, TwoMethods(), IMAGE)
    result = fold_torchscript(module, x, duplicate_shared=copies)
    assert {step.batch_norm for step in result.steps} == {"after"} | ({"norm"} if copies else set())
    assert all("the method features" in refusal.reason for refusal in result.refusals)
    for method in ("forward", "features", "doubled"):
        found, wanted = getattr(result.model, method)(x), getattr(module, method)(x)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


class Described(nn.Module):
    """Says what it is made for, and reads some of it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.names, self.strides, self.half = {0: "cat", 1: "dog"}, [8, 16], True
        self.kind, self.size, self.factor = "detector", (2, 3.5), 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x)) * self.factor


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.filterwarnings("ignore")
def test_plain_attributes_stay(again: bool) -> None:
    module, x = archive(scripted, Described(), IMAGE)
    module = reloaded(module) if again else module
    result = fold_torchscript(module, x)
    assert len(result.steps) == 1
    stored = reloaded(result.model)
    for name in ("names", "strides", "half", "kind", "size", "factor"):
        assert stored._c.getattr(name) == module._c.getattr(name)

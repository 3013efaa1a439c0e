import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from bncheck import BNCheckError  # noqa: E402
from bncheck.convert.debias_state import debias_state_dict, exact_difference  # noqa: E402


class Net(nn.Module):
    """A convolution applied before two BatchNorms, a linear layer before one."""

    def __init__(self, bias):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1, bias=bias)
        self.first = nn.BatchNorm2d(3)
        self.second = nn.BatchNorm2d(3)
        self.fc = nn.Linear(3, 5, bias=bias)
        self.flat = nn.BatchNorm1d(5)
        self.head = nn.Linear(5, 2)

    def forward(self, x):
        x = self.second(self.conv(self.first(self.conv(x)).relu()))
        return self.head(self.flat(self.fc(x.mean((2, 3)))))


PAIRS = [("conv", "first"), ("conv", "second"), ("fc", "flat")]


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = Net(bias=True).eval()
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if name.endswith("bias") or "mean" in name:
                tensor.normal_(0, 2)
            elif "var" in name:
                tensor.uniform_(0.5, 2)
    return net


def _error(net, state, x):
    without = Net(bias=False).eval()
    without.load_state_dict(state)
    with torch.no_grad():
        return float((net(x) - without(x)).abs().max() / net(x).abs().max())


def test_the_model_without_biases_computes_the_same(net):
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    state, steps = debias_state_dict(net.state_dict(), PAIRS)
    x = torch.randn(4, 3, 8, 8)
    assert _error(net, state, x) < 4e-6
    assert [(step.batch_norm, step.into) for step in steps] == [
        ("first", "conv"),
        ("second", "conv"),
        ("flat", "fc"),
    ]
    assert set(before) - set(state) == {"conv.bias", "fc.bias"}
    assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in before.items())


def test_dropping_the_bias_alone_changes_the_output(net):
    state, _ = debias_state_dict(net.state_dict(), PAIRS)
    for name in ("first", "second", "flat"):
        state[f"{name}.running_mean"] = net.state_dict()[f"{name}.running_mean"]
    assert _error(net, state, torch.randn(4, 3, 8, 8)) > 0.1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_mean_is_rounded_once(dtype):
    mean = torch.linspace(-3, 3, 101, dtype=torch.float64).to(dtype)
    bias = torch.linspace(1000, 1001, 101, dtype=torch.float64).to(torch.float32)
    reduced = exact_difference(mean, bias).to(mean.dtype)
    assert reduced.dtype is dtype
    assert torch.equal(reduced, (mean.double() - bias.double()).to(dtype))


@pytest.mark.parametrize(
    ("pairs", "reason"),
    [
        ([("convolution", "first")], "nothing named convolution"),
        ([("onv", "first")], "did you mean conv"),
        ([("conv", "head")], "head has no running_mean"),
        ([("first", "second")], "first is not a convolution or linear layer"),
        ([("conv", "first"), ("fc", "first")], "first is named in two pairs"),
        ([("conv", "flat")], "3 output channels and flat has 5"),
    ],
)
def test_pairs_that_do_not_fit_are_refused(net, pairs, reason):
    with pytest.raises(BNCheckError, match=reason):
        debias_state_dict(net.state_dict(), pairs)


def test_values_that_are_not_finite_are_refused(net):
    state = net.state_dict()
    state["conv.bias"] = torch.full((3,), float("nan"))
    with pytest.raises(BNCheckError, match="bias of conv holds NaN"):
        debias_state_dict(state, PAIRS)


def test_integers_are_refused(net):
    state = net.state_dict()
    state["conv.bias"] = torch.zeros(3, dtype=torch.int64)
    with pytest.raises(BNCheckError, match="bias of conv is int64"):
        debias_state_dict(state, PAIRS)


def test_a_layer_without_a_bias_is_refused():
    with pytest.raises(BNCheckError, match="conv has no bias"):
        debias_state_dict(Net(bias=False).state_dict(), PAIRS)

"""What fold does with a model around the algebra: tracers, copies, names, state dicts."""

import copy
import re
import sys

import pytest

pytest.importorskip("torch")

import torch
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

import bncheck
from bncheck.convert import algebra
from bncheck.convert.fold import fold
from fixtures.models.adversarial import randomise


def block(inputs=3, outputs=4, **options):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, **options), nn.BatchNorm2d(outputs), nn.ReLU()
    )


def prepared(model):
    model = model.eval().double()
    randomise(model)
    return model


class Branching(nn.Module):
    """Takes a branch by a value: no tracer can read the whole."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = block(), block(4), block(4)
        self.loose = nn.BatchNorm2d(4)

    def forward(self, x):
        x = self.first(x)
        x = self.second(x) if x.mean() > 0 else self.third(x)
        return self.loose(x) if x.sum() > 0 else x


def test_what_is_no_module_is_refused_in_a_sentence():
    with pytest.raises(bncheck.BNCheckError, match="not int"):
        fold(3)


def test_every_path_is_recorded_where_no_tracer_can_read_the_model():
    model = prepared(Branching())
    x = torch.randn(2, 3, 9, 9).double()
    result = bncheck.fold(model, x)
    assert result.traced_by == "record"
    assert result.verification.passed
    assert {step.batch_norm: step.into for step in result.steps} == {
        "first.1": "first.0", "second.1": "second.0", "third.1": "third.0",
    }  # fmt: skip
    assert {r.batch_norm for r in result.refusals} == {"loose"}
    assert type(result.model) is Branching
    for sign in (1, -1, 5):
        torch.testing.assert_close(result.model(sign * x), model(sign * x))


def convolutions(shared):
    model = nn.ModuleDict(
        {"a": nn.Conv2d(3, 3, 1), "b": nn.Conv2d(3, 3, 1), "norm": nn.BatchNorm2d(3)}
    )
    if shared:
        model["b"].weight = model["a"].weight
    return model


class Uses(nn.Module):
    def __init__(self, run, shared=False):
        super().__init__()
        self.layers, self.run = convolutions(shared), run

    def forward(self, x):
        return self.run(self.layers, x)


OTHER_USES = {
    "called twice": (
        lambda: Uses(lambda m, x: m["norm"](m["a"](m["a"](x).relu()))), "used more than once"
    ),
    "a parameter of two layers": (
        lambda: Uses(lambda m, x: m["b"](m["norm"](m["a"](x)).relu()), shared=True),
        "needs to change layers.a, which shares its parameters with layers.b",
    ),
    "its output is read twice": (
        lambda: Uses(lambda m, x: (m["norm"](y := m["a"](x)), y.relu())), "relu.* also reads"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", OTHER_USES)
def test_the_reason_names_the_other_use_of_a_convolution(case):
    make, reason = OTHER_USES[case]
    (refusal,) = fold(prepared(make()), torch.randn(2, 3, 6, 6).double()).refusals
    assert re.search(reason, refusal.reason), refusal.reason


def test_an_input_is_guessed_where_none_is_given():
    result = fold(prepared(nn.Sequential(block(), nn.Flatten(), nn.Linear(4 * 62 * 62, 2))))
    assert len(result.steps) == 1
    assert result.verification.passed
    with pytest.raises(bncheck.BNCheckError, match="give example inputs"):
        fold(prepared(nn.Sequential(block(), nn.Flatten(), nn.Linear(17, 2))))


COMPUTED = {
    "parametrization": lambda conv: parametrizations.weight_norm(conv),
    "spectral parametrization": lambda conv: parametrizations.spectral_norm(conv),
    "weight norm": lambda conv: weight_norm(conv),
    "spectral norm": lambda conv: spectral_norm(conv),
    "pruning": lambda conv: prune.random_unstructured(conv, "weight", 0.5),
}


@pytest.mark.parametrize("kind", COMPUTED)
@pytest.mark.filterwarnings("ignore")
def test_computed_weights_are_baked_when_that_is_allowed(kind):
    model = block()
    model[0] = COMPUTED[kind](model[0])
    model = prepared(model)
    x = torch.randn(2, 3, 6, 6).double()
    expected = model(x)

    refused = fold(model, x)
    assert not refused.steps
    assert "--bake-parametrizations (bake_parametrizations=True)" in refused.refusals[0].reason

    result = fold(model, x, bake_parametrizations=True)
    assert len(result.steps) == 1
    assert result.kept_class
    assert type(result.model[0]) is nn.Conv2d
    torch.testing.assert_close(result.model(x), expected)
    torch.testing.assert_close(model(x), expected)


class Normalised(nn.BatchNorm2d):
    def __init__(self, channels):
        super().__init__(channels)
        self.act = nn.LeakyReLU(0.2)

    def forward(self, x):
        return self.act(super().forward(x))


def test_a_folded_state_dict_loads_into_the_same_architecture():
    def build():
        return prepared(
            nn.Sequential(
                nn.Conv2d(3, 4, 3, bias=False), Normalised(4), nn.BatchNorm2d(4, affine=False),
                nn.ReLU(), nn.BatchNorm2d(4),
            )
        )  # fmt: skip

    model, x = build(), torch.randn(2, 3, 6, 6).double()
    result = fold(model, x, keep_class=True)
    assert [step.batch_norm for step in result.steps] == ["1"]
    fresh = bncheck.remove_folded(build(), result.model.state_dict())
    fresh.load_state_dict(result.model.state_dict())
    torch.testing.assert_close(fresh.eval()(x), model(x))


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.tail = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), block(4)

    def forward(self, x):
        x = self.conv(x)
        norm = self.norm
        x = nn.functional.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)
        return self.tail(x.relu())


def test_the_class_is_kept_or_the_graph_is_rewritten():
    model, x = prepared(Functional()), torch.randn(2, 3, 9, 9).double()
    result = fold(model, x)
    assert len(result.steps) == 2
    assert not result.kept_class
    assert isinstance(result.model, torch.fx.GraphModule)
    assert not [name for name in result.model.state_dict() if "norm" in name or ".1." in name]
    torch.testing.assert_close(result.model(x), model(x))

    kept = fold(model, x, keep_class=True)
    assert type(kept.model) is Functional
    assert [step.batch_norm for step in kept.steps] == ["tail.1"]
    assert "keep_class" in kept.refusals[0].reason


def test_formats_flags_ties_and_names_are_kept():
    model = prepared(nn.Sequential(block(), block(4), nn.Conv2d(4, 4, 1)))
    model = model.to(memory_format=torch.channels_last).float()
    model[0][0].weight.requires_grad_(False)
    model[2].weight = nn.Parameter(model[2].weight.detach())
    tied = nn.ModuleDict({"net": model, "again": model[2]})
    model.register_buffer("note", torch.ones(3), persistent=False)

    class Root(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = tied

        def forward(self, x):
            return self.parts["again"](self.parts["net"](x))

    root = Root().eval()
    result = fold(root, torch.randn(2, 3, 9, 9))
    folded = result.model
    assert len(result.steps) == 2
    assert folded.parts["net"][2] is folded.parts["again"]
    first = folded.parts["net"][0][0]
    assert first.weight.is_contiguous(memory_format=torch.channels_last)
    assert not first.weight.requires_grad
    assert folded.parts["net"][1][0].weight.requires_grad
    assert torch.equal(folded.parts["net"].note, torch.ones(3))
    gone = {n for n, _ in root.named_parameters() if ".0.1." in n or ".1.1." in n}
    kept = [n for n, _ in root.named_parameters() if n not in gone]
    assert [n for n, _ in folded.named_parameters()] == kept


def test_a_folded_model_can_be_copied_pickled_and_trained():
    model = prepared(nn.Sequential(block(), block(4)))
    folded = copy.deepcopy(fold(model, torch.randn(2, 3, 9, 9).double()).model).train()
    folded(torch.randn(2, 3, 9, 9).double()).sum().backward()
    assert all(p.grad is not None for p in folded.parameters())


class PreActivation(nn.Module):
    """The first scale is positive and can pass the ReLU, the second is not."""

    def __init__(self):
        super().__init__()
        self.first, self.conv = nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3, padding=1)
        self.second, self.last = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3)

    def forward(self, x):
        y = self.conv(self.first(x.sigmoid()).relu()).relu()
        return self.last(self.second(y).relu())


def test_what_cannot_go_becomes_one_addition_or_one_multiply_add():
    model, x = prepared(PreActivation()), torch.randn(2, 3, 9, 9).double()
    with torch.no_grad():
        model.first.weight.abs_()
        model.second.weight[0] = -1.0
    assert not fold(model, x).steps
    result = fold(model, x, partial=True)
    assert {step.batch_norm: (step.into, step.how) for step in result.steps} == {
        "first": ("one addition", "partly"), "second": ("one multiply-add", "partly"),
    }  # fmt: skip
    assert not result.refusals
    assert result.verification.passed
    assert isinstance(result.model, torch.fx.GraphModule)
    torch.testing.assert_close(result.model(x), model(x))
    calls = [getattr(n.target, "__name__", n.target) for n in result.model.graph.nodes]
    assert calls.count("add") == 1
    assert calls.count("addcmul") == 1
    rounded = fold(model.float(), x.float(), partial=True).verification
    assert rounded.passed
    assert rounded.error_exact < 1e-9


def test_a_hook_on_a_container_keeps_what_it_sees_as_it_was():
    model = prepared(nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3)), nn.BatchNorm2d(4)))
    seen = []
    model[0].register_forward_hook(lambda module, args, output: seen.append(output))
    result = fold(model, torch.randn(2, 3, 6, 6).double())
    assert not result.steps
    assert "hook" in result.refusals[0].reason


class OtherSettings(nn.Module):
    """Calls the functions with other settings than its modules have."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1, stride=2)
        self.norm, self.tail = nn.BatchNorm2d(3, eps=0.5), nn.BatchNorm2d(4, eps=0.1)

    def forward(self, x):
        n, t = self.norm, self.tail
        x = nn.functional.batch_norm(x, n.running_mean, n.running_var, n.weight, n.bias)
        x = nn.functional.conv2d(x, self.conv.weight, self.conv.bias)
        return nn.functional.batch_norm(x, t.running_mean, t.running_var, t.weight, t.bias)


def test_settings_are_those_of_the_call_not_of_the_module():
    model, x = prepared(OtherSettings()), torch.randn(2, 3, 9, 9).double()
    result = fold(model, x)
    assert {step.how for step in result.steps} == {"backward", "forward"}
    torch.testing.assert_close(result.model(x), model(x))


class Branches(nn.Module):
    """A block as RepVGG is trained: two convolutions and an identity, each with a BatchNorm."""

    def __init__(self, channels, groups=1):
        super().__init__()
        self.wide = nn.Conv2d(channels, channels, 3, padding=1, groups=groups, bias=False)
        self.narrow = nn.Conv2d(channels, channels, 1, groups=groups, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(3))

    def forward(self, x):
        a, b, c = self.norms
        return torch.relu(a(self.wide(x)) + b(self.narrow(x)) + (0 + c(x)))


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_an_identity_branch_goes_sideways(groups):
    torch.manual_seed(0)  # a small scale beside an identity costs digits, in float64 too
    model = prepared(nn.Sequential(Branches(4, groups), Branches(4, groups)))
    x = torch.randn(2, 4, 6, 6).double()
    result = fold(model, x)
    assert [step.how for step in result.steps] == ["backward", "backward", "sideways"] * 2
    assert result.kept_class
    assert result.verification.passed
    torch.testing.assert_close(result.model(x), model(x))


class Difference(nn.Module):
    """FastViT's token mixer: what a BatchNorm makes of the input is taken off a convolution."""

    def __init__(self, formula):
        super().__init__()
        self.wide, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.formula = formula

    def forward(self, x):
        return x + torch.relu(self.formula(self.wide(x), self.norm(x)))


DIFFERENCES = {
    "second": lambda conv, norm: conv - norm,
    "first": lambda conv, norm: norm - conv,
    "after a constant": lambda conv, norm: conv - (0.5 + norm),
    "twice": lambda conv, norm: 1.5 - (norm - conv),
    "by factor": lambda conv, norm: torch.sub(norm, conv, alpha=-1),
}


@pytest.mark.parametrize("formula", DIFFERENCES.values(), ids=DIFFERENCES)
def test_a_difference_takes_a_batch_norm_sideways(formula):
    model, x = prepared(Difference(formula)), torch.randn(2, 4, 6, 6).double()
    result = fold(model, x)
    assert [(step.into, step.how) for step in result.steps] == [("wide", "sideways")]
    torch.testing.assert_close(result.model(x), model(x))


class Chosen(nn.Module):
    """CondenseNet's: channels are picked by an index that is a buffer."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 1), nn.BatchNorm2d(4)
        self.register_buffer("index", torch.tensor([4, 0, 3, 1]))

    def forward(self, x):
        return torch.relu(self.norm(torch.index_select(self.conv(x), 1, self.index)))


def test_channels_that_a_buffer_picks_are_traced_back():
    model, x = prepared(Chosen()), torch.randn(2, 3, 5, 5).double()
    result = fold(model, x)
    assert [step.into for step in result.steps] == ["conv"]
    torch.testing.assert_close(result.model(x), model(x))


class Flattened(nn.Module):
    """LeViT's: samples and positions are one axis for the BatchNorm, and two again after it."""

    def __init__(self):
        super().__init__()
        self.linear, self.norm, self.out = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)

    def forward(self, x):
        x = self.linear(x)
        x = self.norm(x.flatten(0, 1)).reshape_as(x)
        return self.out(torch.nn.functional.hardswish(x))


def test_what_only_the_shape_is_read_of_has_no_other_reader():
    model, x = prepared(Flattened()), torch.randn(2, 5, 6).double()
    result = fold(model, x)
    assert [step.into for step in result.steps] == ["linear"]
    torch.testing.assert_close(result.model(x), model(x))


@pytest.mark.parametrize(
    "between",
    [
        lambda y: y * 2.0,
        lambda y: 3.0 + y,
        lambda y: y / 4.0 - 1.0,
        lambda y: y + y,
        lambda y: -y,
        lambda y: torch.cat([y[:, 2:], y[:, :2]], 1),
        lambda y: y.unflatten(1, (2, 2)).transpose(1, 2).flatten(1, 2),
        lambda y: nn.functional.interpolate(y, scale_factor=2, mode="bilinear"),
        lambda y: nn.functional.avg_pool2d(nn.functional.pad(y, (1, 1, 1, 1), "reflect"), 2),
    ],
    ids=["times", "plus", "both", "doubled", "negated", "rolled", "shuffled", "larger", "pooled"],
)
def test_scales_pass_what_computes_nothing_of_its_own(between):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.out = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()

        def forward(self, x):
            return self.out(self.norm(between(self.conv(x))))

    model, x = prepared(Net()), torch.randn(2, 3, 6, 6).double()
    result = fold(model, x)
    assert [step.into for step in result.steps] == ["conv"]
    assert result.kept_class
    torch.testing.assert_close(result.model(x), model(x))


def deep(depth=24):
    """A network in float32 that amplifies rounding, so that its own error hides small mistakes."""
    torch.manual_seed(0)
    layers = []
    for _ in range(depth):
        layers += [nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU6()]
    model = nn.Sequential(*layers, nn.Conv2d(4, 4, 1)).eval()
    with torch.no_grad():
        for norm in model:
            if isinstance(norm, nn.BatchNorm2d):
                norm.running_var.uniform_(0.02, 0.2)
                norm.bias.uniform_(0.5, 1.5)
    return model


@pytest.mark.parametrize("off_by", [0.0, 1e-7, 1e-5])
def test_what_is_not_the_same_in_real_arithmetic_is_seen_through_rounding(off_by, monkeypatch):
    right = algebra.batch_norm_map

    def slightly_wrong(*arguments):
        scale, shift = right(*arguments)
        return scale * (1 + off_by), shift

    monkeypatch.setattr(algebra, "batch_norm_map", slightly_wrong)
    result = bncheck.fold(deep(), torch.randn(2, 4, 5, 5))
    assert len(result.steps) == 24
    assert result.verification.passed == (off_by == 0.0), str(result.verification)
    assert result.verification.error_exact is not None
    assert (result.verification.error_exact < 1e-12) == (off_by == 0.0)


def test_a_parameter_that_is_not_what_was_computed_is_seen(monkeypatch):
    folding = sys.modules["bncheck.convert.fold"]

    def carelessly(plan, arguments):
        plan, folded = carry_out(plan, arguments)
        with torch.no_grad():
            folded[0].bias[0] += 1e-6
        return plan, folded

    carry_out = folding.carry_out
    monkeypatch.setattr(folding, "carry_out", carelessly)
    result = bncheck.fold(deep(), torch.randn(2, 4, 5, 5))
    assert not result.verification.passed
    assert "0.bias" in result.verification.reason

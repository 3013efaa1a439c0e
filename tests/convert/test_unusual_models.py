"""Models that are unusual as Python objects: what they hold, keep, count, or are made under."""

import threading
from collections import namedtuple

import pytest

pytest.importorskip("torch")

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.module import register_module_forward_hook

import bncheck
from bncheck.errors import BNCheckError
from fixtures.models.adversarial import randomise


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x):
        return torch.relu(self.norm(self.conv(x)))


def made(kind=Block):
    torch.manual_seed(0)
    model = kind()
    randomise(model)
    return model.eval()


def example(samples=2):
    return torch.randn(samples, 4, 6, 6, generator=torch.Generator().manual_seed(1))


def holding(**attributes):
    model = made()
    for name, value in attributes.items():
        object.__setattr__(model, name, value)
    return model


def with_norm(norm):
    model = made()
    model.norm = norm.eval()
    return model


def with_statistic(change):
    model = made()
    change(model.norm)
    return model


def plain_variance(norm):
    variance = norm._buffers.pop("running_var")
    object.__setattr__(norm, "running_var", variance)


def mean_on_meta(norm):
    norm.running_mean = norm.running_mean.to("meta")


REFUSED = {
    "holds a lock": (lambda: holding(lock=threading.Lock()), "cannot be copied"),
    "holds a generator": (lambda: holding(steps=iter(i for i in [1])), "cannot be copied"),
    "lazy statistics": (lambda: with_norm(nn.LazyBatchNorm2d(affine=False)), "not initialised"),
    "one statistic on meta": (lambda: with_statistic(mean_on_meta), "on the meta device"),
    "TorchScript": (lambda: torch.jit.script(made()), "TorchScript"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore")
def test_refused_in_a_sentence(name):
    make, message = REFUSED[name]
    with pytest.raises(BNCheckError, match=message) as raised:
        bncheck.fold(make(), example())
    assert "\n" not in str(raised.value)


def test_statistics_that_are_plain_attributes_stay():
    result = bncheck.fold(with_statistic(plain_variance), example())
    (refusal,) = result.refusals
    assert "no parameters or buffers of the model" in refusal.reason


def test_a_hook_on_all_modules_is_one_on_each():
    hook = register_module_forward_hook(
        lambda module, inputs, out: out * 2 if isinstance(module, nn.Conv2d) else None
    )
    try:
        result = bncheck.fold(made(), example())
    finally:
        hook.remove()
    assert result.steps == ()
    assert "hooks" in result.refusals[0].reason


class Counting(Block):
    """Counts its calls in a buffer, and in an attribute."""

    def __init__(self):
        super().__init__()
        self.calls = 0
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        self.count += 1
        return super().forward(x)


class CountingOutOfPlace(Counting):
    def forward(self, x):
        self.count = self.count + 1
        return Block.forward(self, x)


class CountingBesideAFunction(Counting):
    def forward(self, x):
        self.count += 1
        norm = self.norm
        x = F.batch_norm(
            self.conv(x), norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
        )
        return torch.relu(x)


@pytest.mark.parametrize("kind", [Counting, CountingOutOfPlace, CountingBesideAFunction])
@pytest.mark.filterwarnings("ignore")
def test_counters_are_as_they_were_and_go_on_counting(kind):
    model = made(kind)
    count = model.count
    result = bncheck.fold(model, example())
    assert [step.batch_norm for step in result.steps] == ["norm"]
    assert model.count is count
    assert (float(count), model.calls) == (0, 0)
    assert float(result.model.count) == 0
    assert getattr(result.model, "calls", 0) == 0  # a graph has no such attribute
    torch.testing.assert_close(result.model(example()), model(example()))
    assert float(result.model.count) == 1


class Keeping(Block):
    """Keeps what it has computed, as models do whose features are read later."""

    def forward(self, x):
        self.features = {"conv": self.conv(x)}
        self.last = torch.relu(self.norm(self.features["conv"]))
        return self.last


def test_what_a_model_keeps_is_no_proxy():
    model = made(Keeping)
    before = set(vars(model))
    result = bncheck.fold(model, example())
    assert len(result.steps) == 1
    assert set(vars(model)) == before
    assert set(vars(result.model)) == before
    torch.testing.assert_close(result.model(example()), model(example()))
    assert isinstance(result.model.last, torch.Tensor)


def test_planning_does_not_follow_the_default_device():
    model, x = made(), example()
    torch.set_default_device("meta")
    try:
        result = bncheck.fold(model, x)
    finally:
        torch.set_default_device("cpu")
    assert len(result.steps) == 1
    assert result.verification.passed


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_the_mode_of_autograd_does_not_matter(mode):
    model = made()
    with mode():
        result = bncheck.fold(model, example())
    assert len(result.steps) == 1
    assert result.verification.passed
    torch.testing.assert_close(result.model(example()), model(example()))
    result.model(example()).sum().backward()


Answer = namedtuple("Answer", "logits nothing mean")


class Naming(Block):
    def forward(self, x):
        x = super().forward(x)
        return Answer(x, None, x.mean())


class OnlyByKeyword(Block):
    def forward(self, *, images, factor=2.0):
        return super().forward(images["left"]) * factor


class AnyNumber(Block):
    def forward(self, *images):
        return torch.cat([super(AnyNumber, self).forward(x) for x in images])


@pytest.mark.parametrize(
    ("kind", "arguments", "keywords"),
    [
        (Naming, (example(),), {}),
        (OnlyByKeyword, (), {"images": {"left": example()}}),
        (AnyNumber, (example(), example(1)), {}),
    ],
)
def test_inputs_and_outputs_of_other_forms(kind, arguments, keywords):
    model = made(kind)
    result = bncheck.fold(model, arguments, keywords)
    assert len(result.steps) == 1
    wanted, found = model(*arguments, **keywords), result.model(*arguments, **keywords)
    assert type(found) is type(wanted)
    torch.testing.assert_close(found, wanted)

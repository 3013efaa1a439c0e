import copy
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bncheck.convert.copies import copy_of
from bncheck.errors import BNCheckError
from bncheck.report.conversion import verdict_as_text
from bncheck.verification.compare import verify
from bncheck.verification.inputs import InputSpec, tensors
from bncheck.verification.precision import full_precision

IMAGE = InputSpec((2, 3, 8, 8))


def small() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3)
    )
    norm = model[1]
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    return model.eval()


def folded(model: nn.Sequential) -> nn.Sequential:
    fused = torch.nn.utils.fuse_conv_bn_eval(model[0], model[1])
    return nn.Sequential(fused, nn.Identity(), *model[2:]).eval()


class Rounds(nn.Module):
    """Asks for float32 within, and makes float32 tables, whatever it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.body = small()

    def forward(self, x: Any) -> Any:
        table = torch.arange(x.shape[-1], dtype=torch.float32) / 7
        return self.body((x.float() + table).to(torch.float32)).to(x.dtype)


class Prelu(nn.Module):
    """PReLU compares the dtypes of its input and its weight before any kernel runs."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(small(), nn.PReLU(5))

    def forward(self, x: Any) -> Any:
        return self.body(x)


class Stubborn(Prelu):
    """Cannot run in float64 at all."""

    def forward(self, x: Any) -> Any:
        if x.dtype is not torch.float32:
            raise TypeError("float32 only")
        return self.body(x)


@pytest.mark.parametrize(
    ("make", "reference"),
    [(small, "float64"), (Rounds, "float64"), (Prelu, "float64"), (Stubborn, "perturbed")],
)
def test_right_fold_passes_and_small_error_does_not(make: Any, reference: str) -> None:
    original = make().eval()
    right = copy.deepcopy(original)
    for module in right.modules():
        if isinstance(module, nn.Sequential) and isinstance(module[0], nn.Conv2d):
            module[0] = nn.utils.fuse_conv_bn_eval(module[0], module[1])
            module[1] = nn.Identity()
    good = verify(original, right, [IMAGE])
    assert good.passed, good
    assert reference in good.reference
    assert 0 < good.error_original < 1e-5
    assert 0 < good.error_converted <= good.allowed < 1e-4
    wrong = copy.deepcopy(right)
    with torch.no_grad():
        next(wrong.parameters()).mul_(1 + 1e-4)
    bad = verify(original, wrong, [IMAGE])
    assert not bad.passed
    assert bad.error_converted > bad.allowed
    assert "more than rounding" in bad.reason


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_dtypes(dtype: torch.dtype) -> None:
    original = small().to(dtype)
    result = verify(original, folded(small().double()).to(dtype), [InputSpec((2, 3, 8, 8), dtype)])
    assert result.passed, result
    assert result.dtype == str(dtype).removeprefix("torch.")


def test_leaves_models_and_random_state_alone() -> None:
    original, converted = small().train(), folded(small())
    converted.train()
    before = copy.deepcopy(original.state_dict())
    torch.manual_seed(3)
    random.seed(3)
    state = torch.get_rng_state()
    precision = torch.get_float32_matmul_precision()
    assert verify(original, converted, [IMAGE]).passed
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_float32_matmul_precision() == precision
    assert not torch.backends.cuda.matmul.allow_tf32
    assert all(module.training for module in [*original.modules(), *converted.modules()])
    assert all(torch.equal(before[name], value) for name, value in original.state_dict().items())


SETTINGS: dict[str, Callable[[], object]] = {
    "untouched": lambda: None,
    "older flags on": lambda: setattr(torch.backends.cuda.matmul, "allow_tf32", True),
    "older flags off": lambda: setattr(torch.backends.cudnn, "allow_tf32", False),
    "medium": lambda: torch.set_float32_matmul_precision("medium"),
    "newer flag": lambda: setattr(torch.backends.cuda.matmul, "fp32_precision", "tf32"),
}


def precision_settings() -> list[Any]:
    """Return all settings of precision, of which torch refuses some where others contradict."""
    cuda: Any = torch.backends.cuda
    cudnn: Any = torch.backends.cudnn
    reads: list[Callable[[], Any]] = [
        torch.get_float32_matmul_precision,
        lambda: cuda.matmul.allow_tf32,
        lambda: cudnn.allow_tf32,
        lambda: cuda.matmul.fp32_precision,
        lambda: cudnn.conv.fp32_precision,
        lambda: cudnn.rnn.fp32_precision,
        lambda: torch.backends.mkldnn.matmul.fp32_precision,
    ]
    found = []
    for read in reads:
        try:
            found.append(read())
        except RuntimeError:
            found.append("refused")
    return found


def reset_precision() -> None:
    """Set what torch has at its start."""
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cuda.matmul.fp32_precision = "none"
    torch.backends.mkldnn.matmul.fp32_precision = "none"


@pytest.mark.skipif(not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="older torch")
@pytest.mark.parametrize("setting", SETTINGS)
def test_every_setting_of_precision_says_the_same_and_is_put_back(setting: str) -> None:
    reset_precision()  # other tests may have left the same settings in another of their forms
    before = precision_settings()
    try:
        SETTINGS[setting]()
        changed = precision_settings()
        with torch.autocast("cpu", dtype=torch.bfloat16), full_precision():
            inside = precision_settings()
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is torch.float32
        assert inside == ["highest", False, False, "ieee", "ieee", "ieee", "ieee"]
        assert precision_settings() == changed
    finally:
        reset_precision()
    assert precision_settings() == before


def test_verifies_in_float32_under_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = verify(small(), folded(small()), [IMAGE])
    assert result.passed
    assert (result.dtype, result.reference) == ("float32", "float64")
    assert result.error_original < 1e-6


@dataclass
class Answer:
    logits: torch.Tensor
    hidden: tuple[torch.Tensor, ...]


class Nested(nn.Module):
    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.scale = scale
        with torch.no_grad():
            self.layer.weight.copy_(torch.arange(12).view(3, 4))

    def forward(self, x: torch.Tensor, *, mask: dict[str, torch.Tensor]) -> Any:
        y = self.layer(x * mask["keep"])
        return {"out": Answer(F.relu(y), (y, y * self.scale)), "best": y.argmax(1), "note": "text"}


def test_nested_outputs_several_inputs_and_keywords() -> None:
    mask = {"mask": {"keep": InputSpec((5, 4), torch.bool)}}
    torch.manual_seed(0)
    original = Nested()
    assert verify(original, original, InputSpec((5, 4)), mask).passed
    other = copy.deepcopy(original)
    other.scale = 1.001
    bad = verify(original, other, InputSpec((5, 4)), mask)
    assert (bad.passed, bad.output) == (False, "['out'].hidden[1]")


@pytest.mark.parametrize("make", [small, Prelu])
def test_float64_needs_no_copy_of_the_parameters(make: Any) -> None:
    from bncheck.verification.runs import Reference

    model = make().eval()
    x = torch.randn(2, 3, 8, 8)
    reference = Reference(model)
    with torch.no_grad():
        exact = reference._widened(((x,), {}), 0, {})
        wanted = tensors(copy.deepcopy(model).double()(x.double()))
    for name, value in wanted.items():
        assert exact[name].dtype is torch.float64
        assert float((exact[name] - value).abs().max()) < 1e-14


class Returns(nn.Module):
    def __init__(self, change: Any) -> None:
        super().__init__()
        self.change = change

    def forward(self, x: torch.Tensor) -> Any:
        return self.change(x)


def with_nan(x: torch.Tensor) -> torch.Tensor:
    return torch.cat([x[:, 1:], x[:, :1] * torch.nan], 1)


@pytest.mark.parametrize(
    ("original", "converted", "reason"),
    [
        (lambda x: x, with_nan, "holds NaN or infinity where"),
        (with_nan, lambda x: x, "is finite where"),
        (lambda x: x * torch.nan, lambda x: x * torch.nan, "proves nothing"),
        (lambda x: x / 0, lambda x: -x / 0, "holds NaN or infinity where"),
        (lambda x: x, lambda x: x[:1], "float32[1, 3, 8, 8] in the converted"),
        (lambda x: x, lambda x: x.double(), "float64[2, 3, 8, 8] in the converted"),
        (lambda x: x, lambda x: (x, x), "structure"),
        (lambda x: x > 0, lambda x: x > 0.1, "more than rounding"),
        (lambda x: x.sum() * 0, lambda x: x.sum() * 0 + 1e-3, "more than rounding"),
        (lambda x: x, lambda x: x @ x[0, 0, :3], "the converted model does not run"),
    ],
)
def test_failures_say_why(original: Any, converted: Any, reason: str) -> None:
    result = verify(Returns(original), Returns(converted), [IMAGE])
    assert not result.passed
    assert reason in result.reason
    assert reason in str(result)


def test_the_same_nan_on_both_sides_is_no_failure() -> None:
    assert verify(Returns(with_nan), Returns(with_nan), [IMAGE]).passed


def test_random_numbers_in_the_forward_are_the_same_for_all() -> None:
    model = Returns(
        lambda x: x + torch.randn(2, 3, 8, 8) + torch.rand_like(x) + torch.bernoulli(x * 0)
    )
    result = verify(model, model, [IMAGE])
    assert result.passed
    assert result.error_original < 1e-6


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        (small(), (2, 4, 8, 8), "the original model does not run on the example input"),
        (Returns(lambda x: "text"), (2, 4), "returns no tensor"),
    ],
)
def test_what_cannot_be_compared(model: Any, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(BNCheckError, match=message):
        verify(model, model, InputSpec(shape))


@pytest.mark.parametrize("kind", ["script", "trace", "freeze", "export"])
def test_other_kinds_of_model(kind: str) -> None:
    def build(model: nn.Module) -> Any:
        example = torch.randn(2, 3, 8, 8)
        match kind:
            case "script":
                return torch.jit.script(model)
            case "trace":
                return torch.jit.trace(model, example)
            case "freeze":
                return torch.jit.freeze(torch.jit.trace(model, example))
            case _:
                return torch.export.export(model, (example,))

    result = verify(build(small()), build(folded(small())), [IMAGE])
    assert result.passed, result
    assert result.reference == "float64", result
    assert 0 < result.error_original < 1e-5
    wrong = folded(small())
    with torch.no_grad():
        wrong[0].bias += 1e-3
    assert not verify(build(small()), build(wrong), [IMAGE]).passed


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_runs_on_cuda_without_tf32_and_leaves_the_models_on_the_cpu() -> None:
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    model = nn.Sequential(nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.Conv2d(64, 64, 3)).eval()
    result = verify(model, model, [InputSpec((4, 3, 32, 32))])
    assert result.passed
    assert result.device.startswith("cuda")
    assert result.error_original < 1e-5
    assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    assert next(model.parameters()).device.type == "cpu"


class Through(nn.Module):
    """Computes with another's parameters, with an error that float32 hides."""

    def __init__(self, body: nn.Module, error: float) -> None:
        super().__init__()
        self.body = body
        self.error = error

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.body(x)
        return y + self.error * y[:1]


@pytest.mark.parametrize("kind", ["module", "script", "program"])
@pytest.mark.filterwarnings("ignore")
def test_models_of_the_same_parameters_agree_in_float64(kind: str) -> None:
    def build(error: float) -> Any:
        model, x = Through(small(), error).eval(), torch.randn(2, 3, 8, 8)
        match kind:
            case "script":
                return torch.jit.script(model)
            case "program":
                return torch.export.export(model, (x,))
        return model

    right = verify(small(), build(0.0), [IMAGE])
    assert right.passed, right
    assert (right.exact_with, right.error_float64) == ("same parameters", None)
    assert right.error_exact is not None
    assert right.error_exact < 1e-12
    wrong = verify(small(), build(1e-8), [IMAGE])
    assert wrong.error_converted < wrong.allowed
    assert not wrong.passed
    assert "in float64, with the same parameters as the original" in wrong.reason


def test_rounded_parameters_are_compared_as_they_are_and_decide_nothing() -> None:
    result = verify(small(), folded(small()), [IMAGE])
    assert result.passed
    assert (result.exact_with, result.error_exact) == ("", None)
    assert result.error_float64 is not None
    assert 1e-9 < result.error_float64 < 1e-6


def test_computed_weights_are_left_in_the_dtype_that_they_had() -> None:
    layer = nn.utils.weight_norm(nn.Conv2d(3, 4, 3))
    layer(torch.randn(2, 3, 8, 8))
    before = layer.weight
    assert verify(layer, copy.deepcopy(nn.utils.remove_weight_norm(copy_of(layer))), [IMAGE]).passed
    assert layer.weight is before


@pytest.mark.parametrize(
    ("shift", "samples", "blind"), [(-9.0, 3, True), (0.0, 3, False), (-9.0, 1, False)]
)
def test_outputs_that_are_the_same_for_every_sample_prove_little(
    shift: float, samples: int, blind: bool
) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        model[0].bias.add_(shift)
    result = verify(model, copy.deepcopy(model), torch.rand(samples, 3))
    assert (result.passed, result.blind) == (True, blind)
    assert ("proves little" in verdict_as_text(result)) is blind

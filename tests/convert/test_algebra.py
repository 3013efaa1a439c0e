"""The algebra against float64 runs of the layers themselves, on a grid of kinds."""

import itertools

import pytest

pytest.importorskip("torch")

import torch
from torch import nn
from torch.nn import functional

from bncheck.convert import algebra

LAYERS = {
    "linear": lambda groups, bias: nn.Linear(8, 12, bias=bias),
    "conv1d": lambda groups, bias: nn.Conv1d(8, 12, 3, 2, groups=groups, bias=bias),
    "conv2d": lambda groups, bias: nn.Conv2d(8, 12, (3, 1), groups=groups, bias=bias),
    "conv3d": lambda groups, bias: nn.Conv3d(8, 12, 2, groups=groups, bias=bias),
    "conv_transpose1d": lambda groups, bias: nn.ConvTranspose1d(8, 12, 3, groups=groups, bias=bias),
    "conv_transpose2d": lambda groups, bias: nn.ConvTranspose2d(
        8, 12, 3, 2, 1, 1, groups=groups, bias=bias
    ),
    "conv_transpose3d": lambda groups, bias: nn.ConvTranspose3d(8, 12, 2, groups=groups, bias=bias),
}
GRID = [
    (kind, groups, bias)
    for kind, groups, bias in itertools.product(LAYERS, (1, 2, 4), (False, True))
    if kind != "linear" or groups == 1
]


def rank(kind):
    return 0 if kind == "linear" else int(kind[-2])


def weights(layer, kind, groups):
    return algebra.Weights(
        layer.weight.detach().double(),
        None if layer.bias is None else layer.bias.detach().double(),
        "transposed" if "transpose" in kind else "convolution",
        groups,
    )


def put(layer, folded, dtype):
    layer.weight = nn.Parameter(folded.weight.to(dtype))
    layer.bias = None if folded.bias is None else nn.Parameter(folded.bias.to(dtype))
    return layer


def channels(value, dimensions):
    return value.view(-1, *(1,) * dimensions)


@pytest.mark.parametrize(("kind", "groups", "bias"), GRID)
@pytest.mark.parametrize("affine", [False, True])
def test_output_side_is_batch_norm_after_the_layer(kind, groups, bias, affine):
    torch.manual_seed(0)
    layer = LAYERS[kind](groups, bias).double()
    x = torch.randn(3, 8, *(6,) * rank(kind), dtype=torch.float64)
    mean, variance = torch.randn(12), torch.rand(12) + 0.1
    weight, shift = (torch.randn(12), torch.randn(12)) if affine else (None, None)
    values = [None if v is None else v.double() for v in (mean, variance, weight, shift)]
    expected = functional.batch_norm(layer(x), *values, eps=1e-3)

    scale = algebra.batch_norm_map(mean, variance, weight, shift, 1e-3)
    folded = algebra.scale_output(weights(layer, kind, groups), *scale)

    torch.testing.assert_close(put(layer, folded, torch.float64)(x), expected)


@pytest.mark.parametrize(("kind", "groups", "bias"), GRID)
def test_input_side_is_the_map_before_the_layer(kind, groups, bias):
    torch.manual_seed(0)
    layer = LAYERS[kind](groups, bias).double()
    x = torch.randn(3, 8, *(6,) * rank(kind), dtype=torch.float64)
    scale, shift = torch.randn(8).double(), torch.randn(8).double()
    if "transpose" in kind:
        shift = torch.zeros_like(shift)  # what lies past the border has no shift
    expected = layer(x * channels(scale, rank(kind)) + channels(shift, rank(kind)))

    folded = algebra.scale_input(weights(layer, kind, groups), scale, shift)

    torch.testing.assert_close(put(layer, folded, torch.float64)(x), expected)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize(("kernel", "padding", "dilation"), [(1, 0, 1), (3, 1, 1), (3, 2, 2)])
def test_an_identity_branch_is_a_tap_of_the_kernel(
    dimensions, kind, groups, kernel, padding, dilation
):
    torch.manual_seed(0)
    settings = {"padding": padding, "dilation": dilation, "groups": groups}
    layer = getattr(nn, f"{kind}{dimensions}d")(8, 8, kernel, **settings).double()
    x = torch.randn(2, 8, *(5,) * dimensions, dtype=torch.float64)
    scale, shift = torch.randn(8).double(), torch.randn(8).double()
    expected = layer(x) + x * channels(scale, dimensions) + channels(shift, dimensions)

    folded = algebra.add_identity(
        weights(layer, kind.replace("T", "_t"), groups),
        scale,
        shift,
        (padding // dilation,) * dimensions,
    )

    torch.testing.assert_close(put(layer, folded, torch.float64)(x), expected)


def test_a_linear_layer_takes_an_identity_branch():
    layer, x = nn.Linear(8, 8).double(), torch.randn(2, 8, dtype=torch.float64)
    scale, shift = torch.randn(8).double(), torch.randn(8).double()
    folded = algebra.add_identity(weights(layer, "linear", 1), scale, shift, ())
    expected = layer(x) + x * scale + shift
    torch.testing.assert_close(put(layer, folded, torch.float64)(x), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_casting_once_rounds_once(dtype):
    torch.manual_seed(0)
    layer = nn.Conv2d(8, 12, 3).to(dtype)
    folded = algebra.scale_output(
        weights(layer, "conv2d", 1), torch.randn(12).double() * 10, torch.randn(12).double()
    )
    assert algebra.rounding_problem(folded, dtype) is None
    error = (folded.weight.to(dtype).double() - folded.weight).abs()
    assert bool((error <= torch.finfo(dtype).eps * folded.weight.abs()).all())


@pytest.mark.parametrize(
    ("value", "dtype", "problem"),
    [
        (1e6, torch.float16, "overflows"),
        (1e-7, torch.float16, "loses more than rounding"),
        (1e6, torch.bfloat16, None),
        (1e39, torch.float32, "overflows"),
        (1e-45, torch.float32, "loses more than rounding"),
        (0.0, torch.float16, None),
    ],
)
def test_what_a_dtype_cannot_hold_is_named_by_channel(value, dtype, problem):
    exact = torch.ones(4, 2, 3, 3, dtype=torch.float64)
    exact[2] = value
    for bias in (None, torch.zeros(4, dtype=torch.float64)):
        found = algebra.rounding_problem(algebra.Weights(exact, bias), dtype)
        assert found == (None if problem is None else (2, problem))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_what_sums_alone_show_to_be_held_is_held_channel_by_channel(dtype):
    generator = torch.Generator().manual_seed(0)
    held = 0
    for power in range(-60, 60):
        size = torch.finfo(dtype).tiny * 2.0**power
        spread = torch.exp2(torch.randint(-8, 8, (16, 40), generator=generator).double())
        exact = size * spread * torch.randn(16, 40, generator=generator, dtype=torch.float64)
        sums = exact.abs().sum(1)
        sure = algebra._surely_held(sums, 40, dtype)
        lost = (exact - exact.to(dtype).double()).abs().sum(1)
        assert bool((lost <= torch.finfo(dtype).eps * sums)[sure].all())
        held += int(sure.sum())
    assert held > 100


def test_digits_of_the_bias_below_the_rounding_of_the_weights_may_go():
    bias = torch.full((4,), 1e-7, dtype=torch.float64)
    layer = algebra.Weights(torch.ones(4, 2, 3, 3, dtype=torch.float64), bias)
    assert algebra.rounding_problem(layer, torch.float16) is None


@pytest.mark.parametrize("groups", [1, 2])
def test_a_transposed_layer_without_border_takes_a_shift(groups):
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(8, 12, 3, padding=2, groups=groups).double()
    x = torch.randn(2, 8, 5, 5, dtype=torch.float64)
    scale, shift = torch.randn(8).double(), torch.randn(8).double()
    expected = layer(x * channels(scale, 2) + channels(shift, 2))
    folded = algebra.scale_input(weights(layer, "transpose", groups), scale, shift)
    torch.testing.assert_close(put(layer, folded, torch.float64)(x), expected)


def test_maps_compose():
    outer, inner = [(torch.randn(3), torch.randn(3)) for _ in range(2)]
    x = torch.randn(3)
    scale, shift = algebra.compose(outer, inner)
    expected = outer[0] * (inner[0] * x + inner[1]) + outer[1]
    torch.testing.assert_close(scale * x + shift, expected)

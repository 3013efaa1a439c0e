"""The independent rule of `benchmarks/foldable.py` on networks that once misled it."""

import pytest

pytest.importorskip("torch")

import torch
from foldable import foldable
from torch import nn

from fixtures.models.adversarial import Net, bn, randomise


def fixed_view():
    """Of two samples of length 3, the view makes one sample whose channels are the samples.

    Of four, it makes two, to which four cannot be added.
    """
    return Net(
        lambda m, x: m.linear(torch.relu(m.norm(m.conv(x).view(-1, 2, 4)))) + x[..., :3],
        conv=nn.Conv1d(2, 2, 2), norm=bn(2, 1), linear=nn.Linear(4, 3),
    )  # fmt: skip


def view_of_any_length():
    return Net(
        lambda m, x: torch.relu(m.norm(m.conv(x).reshape(len(x), 2, -1))),
        conv=nn.Conv1d(2, 2, 2), norm=bn(2, 1),
    )  # fmt: skip


def lost_beside_others():
    """One channel passes tiny scales until what comes out is as nothing beside the others."""
    model = Net(
        lambda m, x: m.last(m.last(torch.cat([m.norm(torch.relu(m.conv(x))), x], 1))),
        conv=nn.Conv1d(2, 2, 1), norm=bn(2, 1), last=bn(4, 1),
    )  # fmt: skip
    randomise(model)
    with torch.no_grad():
        model.last.weight[:2] = 1e-6
        model.last.running_mean.zero_()
        model.last.bias.zero_()
    return model


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (fixed_view, {}),
        (view_of_any_length, {"norm": "backward"}),
        (lost_beside_others, {}),
    ],
)
def test_rule(build, expected):
    torch.manual_seed(5)
    model = build().eval()
    if build is not lost_beside_others:
        randomise(model)
    assert foldable(model.double(), torch.randn(1, 2, 5, dtype=torch.float64)) == expected


@pytest.mark.parametrize("seed", [7, 9])
def test_what_varies_by_rounding_alone_is_constant(seed):
    """The rectifier lets nothing of the example through, and two BatchNorms follow."""
    torch.manual_seed(seed)
    model = Net(
        lambda m, x: m.last(m.second(m.other(m.norm(torch.relu(m.conv(x) - 1))).sigmoid())),
        conv=nn.Conv1d(2, 1, 1), norm=bn(1, 1), other=bn(1, 1), second=nn.Conv1d(1, 2, 1),
        last=bn(2, 1),
    ).eval()  # fmt: skip
    randomise(model)
    found = foldable(model.double(), torch.randn(1, 2, 5, dtype=torch.float64))
    assert found == {"other": "backward", "last": "backward"}

"""BN101 through crops of the image, which leave each channel its bias; `# yes` marks findings."""

from __future__ import annotations

import pytest

from bncheck.config import Settings
from bncheck.worker import lint_source

NET = """
import torch
import torch.nn as nn
import torch.nn.functional as F

class Net(nn.Module):
    def __init__(self, channels, padding):
        super().__init__()
        self.conv = nn.Conv{dimensions}d(3, channels, 3)
        self.bn = nn.BatchNorm{dimensions}d(channels)
        self.padding = padding
        self.part = (slice(None), slice(1, 2))
    def forward(self, x, h, w):
        x = self.conv(x)
        return self.bn({crop})
"""

CROPS = [
    (1, "x[..., :-self.padding]"),
    (1, "x[:, :, :-self.padding].contiguous()"),
    (2, "x[:, :, 1:-1, 1:-1]"),
    (2, "x[:, :, :h, :w]"),
    (2, "x[..., 1:, :]"),
    (2, "x[:h, :, ::2]"),
    (2, "x[:]"),
    (2, "x.narrow(2, 0, h)"),
    (2, "torch.narrow(x, dim=-1, start=0, length=w)"),
    (2, "F.pad(x, (0, -1))"),
    (2, "F.pad(x, [-1, -1, 0, -2])"),
    (3, "x[:, :, 1:][..., :w]"),
]

OTHERS = [
    (1, "x[..., 1:, :]"),
    (2, "x[:, 1:]"),
    (2, "x[:, :, 0]"),
    (2, "x[:, :, None, 1:]"),
    (2, "x[..., 1:, :, :]"),
    (2, "x[self.part]"),
    (2, "x[:, :, h]"),
    (2, "x.narrow(1, 0, 4)"),
    (2, "x.narrow(h, 0, 4)"),
    (2, "F.pad(x, (0, 1))"),
    (2, "F.pad(x, (0, -1, 0, 0, 0, -1))"),
    (2, "F.pad(x[:, :, 1:], (0, h))"),
    (2, "x[:, :, 1:] + x[:, :, :-1]"),
    (2, "F.relu(x[:, :, 1:])"),
]

SUBCLASS = """
from torch import nn

class Causal(nn.Conv1d):
    def forward(self, x):
        return super().forward(x)[..., : -self.padding[0]]

class Wide(nn.Conv1d):
    def forward(self, x):
        return super().forward(x)[:, ::2]

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(
            Causal(3, 8, 3, padding=2), nn.BatchNorm1d(8), nn.ReLU(),  # yes
            Wide(8, 16, 3), nn.BatchNorm1d(8),
        )
"""

PARTS = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.both = nn.Conv1d(3, 8, 3)  # yes
        self.one = nn.Conv1d(8, 8, 3)
        self.left = nn.BatchNorm1d(8)
        self.right = nn.BatchNorm1d(8)
    def forward(self, x):
        x = self.both(x)
        left, right = self.left(x[:, :, :4]), self.right(x[:, :, 4:])
        y = self.one(left + right)
        return self.left(y[:, :, :4]), y[:, :, 4:]
"""


def lines(source: str) -> list[int]:
    found = lint_source(source, settings=Settings(select=("BN101",)))
    return [finding.line for finding in found]


@pytest.mark.parametrize(("dimensions", "crop"), CROPS)
def test_a_crop_leaves_each_channel_its_bias(dimensions: int, crop: str) -> None:
    assert lines(NET.format(dimensions=dimensions, crop=crop)) == [9]


@pytest.mark.parametrize(("dimensions", "crop"), OTHERS)
def test_what_is_more_than_a_crop_stands_between(dimensions: int, crop: str) -> None:
    assert lines(NET.format(dimensions=dimensions, crop=crop)) == []


@pytest.mark.parametrize("source", [SUBCLASS, PARTS])
def test_crops_in_layers_and_several_of_one_image(source: str) -> None:
    wanted = [n for n, line in enumerate(source.split("\n"), 1) if line.endswith("# yes")]
    assert lines(source) == wanted

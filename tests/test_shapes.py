"""Ranks and channels that source says, asked of what the forward gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from bncheck.graph import UNKNOWN, Kind
from bncheck.shapes import Shapes
from bncheck.source.lift import graphs
from bncheck.source.project import Project

PROGRAM = """
import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.conv1d = nn.Conv1d(4, 8, 3)
        self.conv = nn.Conv2d(4, 8, 3)
        self.other = nn.Conv2d(4, 6, 3)
        self.gate = nn.Conv2d(4, 1, 3)
        self.linear = nn.Linear(8, 5)
        self.glu = nn.GLU(dim=1)

    def forward(self, x, more: list):
        return {expression}
"""


@pytest.mark.parametrize(
    ("expression", "rank", "channels"),
    [
        ("x", None, UNKNOWN),
        ("self.conv(x)", 4, 8),
        ("self.conv1d(x)", 3, 8),
        ("self.conv(x) * 2", 4, 8),
        ("-self.conv(x) / self.scale + 1", 4, 8),
        ("self.gate(x) * self.scale", 4, UNKNOWN),
        ("self.conv(x) + self.conv(x)", 4, 8),
        ("self.conv(x) * self.conv(x).sigmoid()", 4, 8),
        ("self.conv(x) * self.gate(x)", 4, UNKNOWN),
        ("self.conv(x) + x", None, UNKNOWN),
        ("torch.cat([self.conv(x), self.other(x)], dim=1)", 4, 14),
        ("torch.cat([self.conv(x), self.other(x)], 2)", 4, UNKNOWN),
        ("torch.cat([self.conv(x), unknown(x)], dim=1)", None, UNKNOWN),
        ("F.max_pool2d(x, 2)", 4, UNKNOWN),
        ("F.interpolate(self.conv(x), scale_factor=2)", 4, 8),
        ("F.pad(self.conv(x), (0, 0, 0, 0, 2, 2))", 4, UNKNOWN),
        ("F.glu(self.conv(x), dim=1)", 4, UNKNOWN),
        ("self.glu(self.conv(x))", None, UNKNOWN),
        ("self.conv(x).mean((2, 3))", 2, UNKNOWN),
        ("self.conv(x).mean([2, 3], keepdim=True)", 4, UNKNOWN),
        ("self.conv(x).mean(-1)", 3, UNKNOWN),
        ("self.conv(x).mean()", None, UNKNOWN),
        ("self.linear(self.conv(x).mean((2, 3)))", 2, 5),
        ("self.linear(self.conv(x))", 4, UNKNOWN),
        ("self.conv(x).unsqueeze(2)", 5, UNKNOWN),
        ("self.conv(x).squeeze()", None, UNKNOWN),
        ("self.conv(x).transpose(1, 2)", 4, UNKNOWN),
        ("x.permute(0, 2, 1)", 3, UNKNOWN),
        ("x.view((2, 3, 4))", 3, UNKNOWN),
        ("x.view(x.shape)", None, UNKNOWN),
        ("torch.permute(x, (0, 2, 1))", 3, UNKNOWN),
        ("self.conv(x).chunk(2, dim=1)[0]", 4, UNKNOWN),
        ("self.conv(x).unbind(1)[0]", None, UNKNOWN),
        ("self.conv(x).flatten(2)", 3, UNKNOWN),
    ],
)
def test_what_is_known_of_a_shape(expression: str, rank: int | None, channels: object) -> None:
    source = PROGRAM.replace("{expression}", expression)
    project = Project(texts={Path("net.py"): source})
    (graph,) = graphs(project.module("net.py"), project)
    (output,) = graph.of_kind(Kind.OUTPUT)
    (given,) = output.inputs
    shapes = Shapes()
    assert (shapes.rank(given), shapes.channels(given)) == (rank, channels)


def test_a_long_chain_of_branches_is_asked_once_each() -> None:
    steps = "\n        ".join(["x = x.relu() if more else x * 2", "x = x + x.sigmoid()"] * 60)
    source = PROGRAM.replace(
        "return {expression}", f"x = self.conv(x)\n        {steps}\n        return x"
    )
    project = Project(texts={Path("net.py"): source})
    (graph,) = graphs(project.module("net.py"), project)
    (output,) = graph.of_kind(Kind.OUTPUT)
    shapes = Shapes()
    assert (shapes.rank(output.inputs[0]), shapes.channels(output.inputs[0])) == (4, 8)

"""Networks of which a BatchNorm sees one value per channel and sample, and their look-alikes."""

import pytest

from bncheck.worker import lint_source

SCRIPT = """
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 64, 3)
        self.project = nn.Conv2d(64, 64, 1, bias=False)
        self.norm = nn.BatchNorm2d(64)
        self.flat_norm = nn.BatchNorm1d(64)
        self.pool = nn.AdaptiveAvgPool2d({size})
        self.head = nn.Linear(64, 2)

    def image_pool(self, x, size):
        return nn.AdaptiveAvgPool2d(size)(x)

    def forward(self, x):
        x = self.conv(x)
        {forward}


def train(dataset):
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model.train()
    for x, y in DataLoader(dataset, batch_size=16, shuffle=True):
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
"""


@pytest.mark.parametrize(
    ("forward", "fails"),
    [
        ("return self.norm(self.project(self.pool(x)))", True),
        ("return self.norm(self.project(self.image_pool(x, 1)))", True),
        ("return self.norm(self.project(self.image_pool(x, 2)))", False),
        ("return self.norm(self.project(F.adaptive_avg_pool2d(x, 1)))", True),
        ("return self.norm(self.project(F.adaptive_avg_pool2d(x, (1, 1))))", True),
        ("return self.norm(self.project(F.adaptive_avg_pool2d(x, output_size=2)))", False),
        ("return self.norm(self.project(F.avg_pool2d(x, x.size()[2:])))", True),
        ("return self.norm(self.project(F.max_pool2d(x, kernel_size=x.shape[2:])))", True),
        ("return self.norm(self.project(F.avg_pool2d(x, x.size(2) // 2)))", False),
        ("return self.norm(self.project(F.max_pool2d(x, [1, x.size(3)])))", False),
        ("return self.norm(self.project(F.max_pool2d(x, [x.size(2), x.size(3)])))", True),
        ("return self.norm(self.project(F.avg_pool2d(x, 7)))", False),
        ("return self.norm(self.project(x.mean((2, 3), keepdim=True)))", True),
        ("return self.norm(self.project(torch.mean(x, [-1, -2], keepdim=True)))", True),
        ("return self.norm(self.project(x.mean(3, keepdim=True)))", False),
        ("return self.head(self.flat_norm(self.pool(x).view(x.size(0), -1)))", True),
        ("return self.head(self.flat_norm(self.pool(x).flatten(1)))", True),
        ("return self.head(self.flat_norm(torch.squeeze(self.pool(x))))", True),
        ("return self.head(self.flat_norm(self.pool(x).view(4, 64, -1)).mean(2))", False),
        ("return self.head(self.flat_norm(x.flatten(2)).mean(2))", False),
        ("return self.head(self.norm(x).mean((2, 3)))", False),
    ],
)
def test_where_one_sample_is_one_value(forward: str, fails: bool) -> None:
    found = {f.code for f in lint_source(SCRIPT.format(size=1, forward=forward))}
    assert ("BN302" in found) is fails


def test_what_is_pooled_to_more_is_no_single_value() -> None:
    forward = "return self.norm(self.project(self.pool(x)))"
    assert "BN302" not in {f.code for f in lint_source(SCRIPT.format(size=2, forward=forward))}

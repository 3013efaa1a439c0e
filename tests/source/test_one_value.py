"""Networks of which a BatchNorm sees one value per channel and sample, and their look-alikes."""

import pytest

from bncheck.worker import lint_source

TRAIN = """
def train(dataset):
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model.train()
    for x, y in DataLoader(dataset, batch_size=16, shuffle=True):
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
"""
SCRIPT = (
    """
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


"""
    + TRAIN
)


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
        ("return self.head(self.flat_norm(x.mean((2, 3))))", True),
        ("return self.flat_norm(x.mean(3).mean(2))", True),
        ("return self.flat_norm(x.mean(3))", False),
        ("return self.head(self.norm(x).flatten(1))", True),
        ("return self.head(self.norm(x).flatten(2).mean(2))", False),
        ("return self.flat_norm(self.head(self.pool(x).flatten(1)).unsqueeze(-1))", False),
    ],
)
def test_where_one_sample_is_one_value(forward: str, fails: bool) -> None:
    found = {f.code for f in lint_source(SCRIPT.format(size=1, forward=forward))}
    assert ("BN302" in found) is fails


def test_what_is_pooled_to_more_is_no_single_value() -> None:
    forward = "return self.norm(self.project(self.pool(x)))"
    assert "BN302" not in {f.code for f in lint_source(SCRIPT.format(size=2, forward=forward))}


NETWORK = (
    """
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
import torchvision
from einops import rearrange
from torch import nn
from torch.utils.data import DataLoader
{network}

"""
    + TRAIN
)

DEPTHWISE = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 512, 3, 2, 1)
        self.whole = nn.Conv2d(512, 512, {kernel}, groups=512, bias=False)
        self.norm = nn.BatchNorm2d(512)
        self.project = nn.Conv2d(512, 128, 1, bias=False)
        self.last = nn.BatchNorm2d(128)

    def forward(self, x):
        x = self.norm(self.whole(self.stem(x)))
        return {result}
"""

FRAMES = """
class Net(nn.Module):
    def __init__(self, channels=64):
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.norm = nn.BatchNorm1d(channels)
        self.head = nn.Linear(channels, 2)

    def forward(self, x):
        b, t, c, h, w = x.size()
        x = {frames}
        return self.head(self.norm(self.pool(self.conv(x)).flatten(1)))
"""

ROWS = """
class Net(nn.Module):
    def __init__(self, width={width}, fields=(3, 4), dim=16):
        super().__init__()
        self.embed = nn.Embedding(100, dim)
        self.conv = nn.Conv2d(3, width, 3)
        self.wide = width * 25
        self.embedded = len(fields) * dim
        self.lstm = nn.LSTM(8, 64, batch_first=True)
        self.point = nn.Linear(64, 64)
        self.norm = nn.BatchNorm1d(64)
        self.linear = nn.Linear({inputs}, 64)
        self.head = nn.Linear(64, 2)

    def forward(self, x):
        {forward}
"""

LIBRARY = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = {made}

    def forward(self, x):
        return self.model(x)
"""

EMBEDDED = "return self.norm(self.linear(self.embed(x).view(-1, self.embedded)))"


@pytest.mark.parametrize(
    ("network", "fails"),
    [
        (DEPTHWISE.format(kernel="(7, 6)", result="self.last(self.project(x)).flatten(1)"), True),
        (DEPTHWISE.format(kernel=3, result="self.last(self.project(x)).flatten(1)"), False),
        (DEPTHWISE.format(kernel=7, result="self.last(self.project(x))"), False),
        (DEPTHWISE.format(kernel="7, padding=3", result="x.flatten(1)"), False),
        (FRAMES.format(frames="x[:, 0]"), True),
        (FRAMES.format(frames="x.view(b * t, c, h, w)"), False),
        (FRAMES.format(frames="x.view(b * t, c, h, w).view(b, -1, h, w)[:, :3]"), True),
        (FRAMES.format(frames="torch.reshape(x, (b * t, c, h, w))"), False),
        (FRAMES.format(frames="x.view(-1, c, h, w)"), False),
        (FRAMES.format(frames="x.view(-1, *x.shape[2:])"), False),
        (FRAMES.format(frames="x.flatten(0, 1)"), False),
        (FRAMES.format(frames="torch.cat([x[:, 0], x[:, 1]], dim=0)"), False),
        (FRAMES.format(frames="rearrange(x, 'b t c h w -> (b t) c h w')"), False),
        (
            ROWS.format(
                width="16",
                inputs="self.wide",
                forward="return self.norm(self.linear(self.conv(x).view(-1, self.wide)))",
            ),
            True,
        ),
        (ROWS.format(width="16", inputs="self.embedded", forward=EMBEDDED), True),
        (
            ROWS.format(
                width="16",
                inputs="8",
                forward="return self.head(self.norm(self.lstm(x)[0][:, -1]))",
            ),
            True,
        ),
        (ROWS.format(width="16", inputs="8", forward="return self.head(self.norm(x))"), True),
        (ROWS.format(width="16", inputs="8", forward="return self.norm(x)"), False),
        (
            ROWS.format(
                width="16",
                inputs="8",
                forward="return self.norm(self.point(x).unsqueeze(-1)).squeeze(-1)",
            ),
            True,
        ),
        (LIBRARY.format(made="smp.DeepLabV3Plus('resnet34', classes=2)"), True),
        (LIBRARY.format(made="smp.Unet('resnet34', classes=2)"), False),
        (
            LIBRARY.format(made="torchvision.models.segmentation.deeplabv3_resnet50()"),
            True,
        ),
        (LIBRARY.format(made="torchvision.models.segmentation.fcn_resnet50()"), False),
        ("def Net():\n    return smp.create_model('deeplabv3plus', 'resnet34')\n", True),
        ("def Net():\n    return smp.create_model('unet', 'resnet34')\n", False),
    ],
)
def test_networks_in_which_one_sample_is_one_value(network: str, fails: bool) -> None:
    found = {f.code for f in lint_source(NETWORK.format(network=network))}
    assert ("BN302" in found) is fails


UNKNOWN_SIZES = """
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader
from elsewhere import sizes


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(sizes[0])
        self.head = nn.Linear(sizes[1], 2)

    def forward(self, x):
        return self.head(self.norm(x))

"""


def test_sizes_that_are_not_known_are_not_taken_for_the_same() -> None:
    assert not lint_source(UNKNOWN_SIZES + TRAIN)

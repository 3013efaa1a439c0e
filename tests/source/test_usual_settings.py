"""What a run does with the settings as they are: a freeze that only another one makes is none."""

from bncheck.worker import lint_source

SCRIPT = """
import argparse

import torch
import torchvision
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

parser = argparse.ArgumentParser()
parser.add_argument("--batch", default=64, type=int)
parser.add_argument("--gpus", default=1, type=int)
parser.add_argument("--switch", action="store_true")
args = parser.parse_args()


def freeze_norms(model):
    for module in model.modules():
        if not isinstance(module, nn.modules.batchnorm._BatchNorm):
            continue
        module.eval()


def train(dataset, epochs):
    model = torchvision.models.resnet18()
    {before}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loader = DataLoader(dataset, batch_size=args.batch, shuffle=True)
    for _ in range(epochs):
        model.train()
        {each}
        for x, y in loader:
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()


train([], 2)
"""


def _codes(
    batch: int = 2, before: str = "pass", each: str = "pass", *, switch: bool = False
) -> list[str]:
    text = SCRIPT.replace("{before}", before).replace("{each}", each)
    text = text.replace("default=64", f"default={batch}")
    if switch:
        text = text.replace("store_true", "store_false")
    return [finding.code for finding in lint_source(text)]


def test_a_freeze_that_is_off_by_default_does_not_hide_tiny_batches() -> None:
    freeze = "freeze_norms(model) if args.switch else None"
    assert _codes(each="if args.switch: freeze_norms(model)") == ["BN301"]
    assert _codes(each="if args.switch: freeze_norms(model)", switch=True) == []
    assert _codes(each=freeze) == ["BN301"]
    assert _codes(each="freeze_norms(model)") == []


def test_a_number_that_is_made_a_switch_is_as_the_number_is() -> None:
    smaller = "if bool(args.gpus - 1): args.batch = 2"
    assert _codes(64, smaller) == []
    assert _codes(64, smaller.replace("- 1", "+ 1")) == ["BN301"]


def test_a_number_that_only_another_setting_makes_small_is_not_small() -> None:
    smaller = "if args.gpus > 1: args.batch = int(args.batch / 32)"
    assert _codes(64, smaller) == []
    assert _codes(4, "if args.gpus > 1: args.batch = 64") == ["BN301"]
    assert _codes(64, "args.batch = max(round(args.batch / 32), 1)") == ["BN301"]


def test_a_conversion_that_is_off_by_default_is_enough_to_be_silent() -> None:
    convert = "if args.switch: model = nn.SyncBatchNorm.convert_sync_batchnorm(model)"
    assert _codes(before=convert) == []


CHOSEN = """
import torch
import torchvision
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

NETWORKS = {"vgg": torchvision.models.vgg11, "resnet": torchvision.models.resnet18}
NAME = "vgg"


def train(dataset, epochs):
    model = NETWORKS[NAME]()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loader = DataLoader(dataset, batch_size=2, shuffle=True)
    for _ in range(epochs):
        model.train()
        for x, y in loader:
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()
"""


def test_a_small_batch_is_for_the_network_that_the_settings_pick() -> None:
    assert [finding.code for finding in lint_source(CHOSEN)] == []
    picked = lint_source(CHOSEN.replace('NAME = "vgg"', 'NAME = "resnet"'))
    assert [finding.code for finding in picked] == ["BN301"]

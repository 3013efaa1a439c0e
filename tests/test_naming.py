"""What messages call a network."""

import pytest

from bncheck.events import Model, Origin
from bncheck.graph import Site
from bncheck.naming import called

CASES = [
    ("model", Origin.PROJECT, "nets.sam.Sam", "`model` (Sam)"),
    ("model", Origin.PROJECT, "torch.nn.Sequential", "`model`"),
    ("self", Origin.SELF, "nets.blocks.Bottleneck", "`Bottleneck`"),
    ("self.blocks.[]", Origin.UNKNOWN, "", "`self.blocks[...]`"),
    ("net", Origin.ZOO, "torchvision.models.resnet18", "`net` (resnet18 of torchvision)"),
    ("net.layer1", Origin.ZOO, "", "`net.layer1`"),
    ("net", Origin.ZOO, "timm.unknown", "`net`"),
    ("net.layer1", Origin.ZOO, "", "`net.layer1`"),
    ("net", Origin.LOADED, "torch.load", "`net`"),
    ("", Origin.PROJECT, "nets.Unet", "`Unet`"),
    ("", Origin.UNKNOWN, "", "a network"),
]


@pytest.mark.parametrize(("name", "origin", "made_by", "expected"), CASES)
def test_called(name: str, origin: Origin, made_by: str, expected: str) -> None:
    assert called(Model(name, origin, made_by, Site("net.py", "net"))) == expected

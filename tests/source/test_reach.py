"""A definition that may come to a BatchNorm is never passed over; most others are."""

from __future__ import annotations

from pathlib import Path

import pytest

from bncheck.source.project import Project
from bncheck.source.reach import Reach
from bncheck.worker import lint_source

LIBRARY = """
from torch import nn
from torch.nn import BatchNorm2d as Short
import torch.nn.functional as F

TABLE = {"plain": nn.Identity}
TABLE["norm"] = nn.BatchNorm2d
NORMAL = nn.LayerNorm
REGISTRY = {}

def register(name):
    return REGISTRY.setdefault(name, name)

@REGISTRY.fill
class Filled(nn.Module):
    norm = Short

class Other(nn.Module):
    '''Says TABLE and Filled.'''
    norm = nn.LayerNorm  # not Short

class Child(Filled):
    pass

def functional(x):
    return F.instance_norm(x)

def put_together(kind):
    return getattr(nn, f"{kind}Norm2d")

BY_NAME = dict(batchnorm=nn.BatchNorm2d, layernorm=nn.LayerNorm)
BY_KIND = {"batch_norm_2d": Short, "bn": nn.BatchNorm2d}
FUSED = {Short, nn.BatchNorm2d, nn.LayerNorm}

def widened(module):
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, nn.BatchNorm2d(2 * child.num_features))
    return module

def initialised(module):
    '''Fill each BatchNorm.'''
    if isinstance(module, (nn.Conv2d, nn.BatchNorm2d)):
        nn.init.ones_(module.weight)  # of a BatchNorm
    return module

def normalised(module):
    if isinstance(module, nn.Conv2d):
        return nn.Sequential(module, nn.BatchNorm2d(module.out_channels))
    return module

def either(module):
    if isinstance(module, (nn.Conv2d, nn.BatchNorm2d)):
        return nn.Sequential(module, nn.BatchNorm2d(8))
    return module
"""

USERS = {
    "import library\ndef f():\n    return library.Other()": False,
    "import library\ndef f():\n    return library.Filled()": True,
    "import library\ndef f():\n    return getattr(library, 'Fil' + 'led')()": True,
    "from library import Other as Filled\ndef f():\n    return Filled()": False,
    "from library import Child\ndef f():\n    return Child()": True,
    "from library import Short\nx = Short\nf = [x]": True,
    "from library import TABLE\ndef f(k):\n    return TABLE[k]()": True,
    "from library import REGISTRY\ndef f(k):\n    return REGISTRY[k]()": True,
    "from library import BY_NAME\ndef f(k):\n    return BY_NAME[k](8)": False,
    "from library import BY_NAME\ndef f(k='batchnorm'):\n    return BY_NAME[k](8)": True,
    "from library import BY_KIND\ndef f(k):\n    return BY_KIND[k](8)": True,
    "from library import FUSED\ndef f(k):\n    return k if k in FUSED else None": False,
    "from library import widened as w\ndef f(m):\n    return w(m)": False,
    "from library import initialised as i\ndef f(m):\n    return i(m)": False,
    "from library import normalised as n\ndef f(m):\n    return n(m)": True,
    "from library import either as e\ndef f(m):\n    return e(m)": True,
    "from library import NORMAL\ndef f():\n    return NORMAL(8)": False,
    "from library import *\ndef f():\n    return Child()": True,
    "from library import *\ndef f():\n    return Other()": False,
    "def f():\n    from library import Child as Kid\n    return Kid()": True,
    "def f():\n    from library import Other\n    return Other()": False,
    "def f():\n    import library\n    return library": True,
    "from library import functional as g\nf = lambda x: g(x)": True,
    "from library import put_together\ndef f():\n    return put_together('Batch')": True,
    "from torch.nn import SyncBatchNorm as S\nclass f:\n    def g(self):\n        S(8)": True,
    "def f():\n    return f'{g()}'\ndef g():\n    return h\nfrom library import Child as h": True,
    "def f():\n    return 'g'\ndef g():\n    return h\nfrom library import Child as h": False,
    "def f():\n    return 1\ndef f():\n    import torch\n    return torch.nn.BatchNorm1d": True,
    "def f():\n\x0c    return 1\nx = 'batch_norm'": True,
}


@pytest.mark.parametrize(("source", "expected"), USERS.items())
def test_reach(source: str, expected: bool) -> None:
    project = Project(texts={Path("library.py"): LIBRARY, Path("user.py"): source})
    module = project.module("user.py")
    assert Reach.of([module], project).norms(module, "f") is expected


USED_BOTH_WAYS = """
from torch import nn

def conv(inputs, outputs):
    return nn.Conv2d(inputs, outputs, 3)

class Normal(nn.Sequential):
    def __init__(self):
        super().__init__(conv(3, 8), nn.BatchNorm2d(8))

class Plain(nn.Sequential):
    def __init__(self):
        super().__init__(conv(3, 8), nn.ReLU())
"""


def test_networks_without_a_norm_count_where_they_construct_the_same_layer() -> None:
    """The bias is right in one of two networks, so there is no finding by default."""
    assert lint_source(USED_BOTH_WAYS) == []
    alone = USED_BOTH_WAYS.partition("class Plain")[0]
    assert [finding.code for finding in lint_source(alone)] == ["BN101"]


INITIALISED = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.{name}()

    def {name}(self):
        {body}

    def forward(self, x):
        return self.norm(self.conv(x))
"""


@pytest.mark.parametrize(
    ("name", "body", "codes"),
    [
        ("init_weights", "raise NotImplementedError", ["BN101"]),
        ("set_up", "raise NotImplementedError", []),
        ("init_weights", "self.norm = nn.Identity()", []),
        ("initialize", "setattr(self, 'norm', nn.Identity())", []),
    ],
)
def test_initialisers_are_passed_over_unless_they_build(
    name: str, body: str, codes: list[str]
) -> None:
    found = lint_source(INITIALISED.format(name=name, body=body))
    assert [finding.code for finding in found] == codes

"""BN101 on layers that mmcv builds from configurations; `# yes` marks the findings."""

from __future__ import annotations

import pytest

from bncheck.config import Settings
from bncheck.findings import Finding
from bncheck.worker import lint_source

HEAD = """
import torch.nn as nn
from mmcv.cnn import build_activation_layer, build_conv_layer, build_norm_layer
from mmengine.model import BaseModule, Sequential
from mmengine.registry import MODELS as PARENT
from mmengine.registry import Registry

MODELS = Registry("model", parent=PARENT, locations=["models"])
"""

CASES = {
    "a norm from a configuration": """
class Block(BaseModule):
    def __init__(self, channels, norm_cfg=dict(type="BN"), act_cfg=dict(type="ReLU")):
        super().__init__(init_cfg=None)
        self.conv = nn.Conv2d(3, channels, 3)  # yes
        self.norm_name, norm = build_norm_layer(norm_cfg, channels, postfix=1)
        self.add_module(self.norm_name, norm)
        self.act = build_activation_layer(act_cfg)
        self.last = nn.Conv2d(channels, channels, 3)
        self.norm2 = build_norm_layer(dict(type="LN"), channels)[1]
    @property
    def norm1(self):
        return getattr(self, self.norm_name)
    def forward(self, x):
        return self.norm2(self.last(self.act(self.norm1(self.conv(x)))))
""",
    "a convolution from a configuration": """
class Block(nn.Module):
    def __init__(self, channels, conv_cfg=None, norm_cfg=dict(type="SyncBN", requires_grad=True)):
        super().__init__()
        self.conv = build_conv_layer(conv_cfg, 3, channels, 3)  # yes
        self.clean = build_conv_layer(conv_cfg, channels, channels, 3, bias=False)
        self.norm1 = build_norm_layer(norm_cfg, channels)[1]
        self.norm2 = build_norm_layer(norm_cfg, channels)[1]
    def forward(self, x):
        return self.norm2(self.clean(self.norm1(self.conv(x))))
""",
    "a project's own builder and registry": """
@MODELS.register_module("Own")
class Own(nn.Module):
    def forward(self, x):
        return x

def build(cfg, channels):
    settings = cfg.copy()
    kind = settings.pop("type")
    layer = MODELS.get(kind)
    if layer is None:
        raise KeyError(kind)
    settings.setdefault("eps", 1e-5)
    made = layer(channels, **settings)
    for parameter in made.parameters():
        parameter.requires_grad = True
    return made

class Block(Sequential):
    def __init__(self, channels, norm_cfg=dict(type="BN")):
        super().__init__(
            nn.Conv2d(3, channels, 3),  # yes
            build(norm_cfg, channels),
            nn.Conv2d(channels, channels, 3),
            build(dict(type="Own"), channels),
        )
""",
    "a configuration that nobody knows": """
class Block(nn.Module):
    def __init__(self, channels, norm_cfg):
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3)
        self.norm = build_norm_layer(norm_cfg, channels)[1]
    def forward(self, x):
        return self.norm(self.conv(x))
""",
}


def lint(source: str) -> list[Finding]:
    return lint_source(source, settings=Settings(select=("BN101",)))


@pytest.mark.parametrize("name", CASES)
def test_findings_are_exactly_the_marked_lines(name: str) -> None:
    source = HEAD + CASES[name]
    expected = [n for n, line in enumerate(source.splitlines(), 1) if line.endswith("# yes")]
    assert [finding.line for finding in lint(source)] == expected

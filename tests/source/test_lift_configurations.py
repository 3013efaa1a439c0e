"""BN101 where the defaults of a configuration say what a layer is; `# yes` marks the findings."""

from __future__ import annotations

from pathlib import Path

import pytest

from bncheck.config import Settings
from bncheck.source.project import Project
from bncheck.worker import lint_files

DEFAULTS = """
from yacs.config import CfgNode as CN

_C = CN()
_C.MODEL = CN()
_C.MODEL.NORM = "BN"
_C.MODEL.WITH_NORM = True
_C.MODEL.HEAD = CN(dict(NORM="GN"))
_C.MODEL.WIDTH = 0
"""
DERIVED = """
from yacs.config import CfgNode as Base

class CfgNode(Base):
    def merge_from_file(self, name):
        return super().merge_from_file(name)
"""
NETWORK = """
from torch import nn

def get_norm(norm, channels):
    if not norm:
        return None
    return {"BN": nn.BatchNorm2d, "GN": lambda channels: nn.GroupNorm(4, channels)}[norm](channels)

class Net(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        layers = []
        if cfg.MODEL.WIDTH > 0:
            layers.append(nn.Conv2d(3, cfg.MODEL.WIDTH, 1, bias=False))
        layers.append(nn.Conv2d(3, 8, 3))  # yes
        if cfg["MODEL"]["WITH_NORM"]:
            layers.append(get_norm(cfg.MODEL.NORM, 8))
        layers.append(nn.Conv2d(8, 8, 3))
        layers.append(get_norm(cfg.MODEL.HEAD.NORM, 8))
        self.body = nn.Sequential(*layers)

    def forward(self, x):
        return self.body(x)
"""
BUILDER = (
    NETWORK.replace("def __init__(self, cfg):", "def __init__(self, model):")
    .replace("cfg.MODEL", "model")
    .replace('cfg["MODEL"]', "model")
    + """

def build(cfg):
    depth = {"BN": 1}[cfg.MODEL.NORM]
    net = Net(cfg.MODEL)
    return net
"""
)
TAKEN_OUT = """
from torch import nn
from detectron2.config import configurable

class Head(nn.Module):
    @configurable
    def __init__(self, *, width, norm):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3)  # yes
        self.norm = nn.BatchNorm2d(width) if norm == "BN" else nn.GroupNorm(4, width)

    @classmethod
    def from_config(cls, cfg):
        return {"width": cfg.MODEL.WIDTH, "norm": cfg.MODEL.NORM}

    def forward(self, x):
        return self.norm(self.conv(x))
"""
NOT_FOUND = NETWORK.replace("  # yes", "")
CASES = {
    "yacs": {"defaults": DEFAULTS, "net": NETWORK},
    "a class derived from yacs's": {
        "node": DERIVED,
        "defaults": DEFAULTS.replace("yacs.config import CfgNode as", "node import CfgNode as")
        .replace('CN(dict(NORM="GN"))', 'CN()\n_C.MODEL.HEAD.NORM = "GN"'),
        "net": NETWORK,
    },
    "easydict": {
        "defaults": DEFAULTS.replace("yacs.config import CfgNode", "easydict import EasyDict"),
        "net": NETWORK,
    },
    "filled in another file too": {
        "defaults": DEFAULTS.replace('_C.MODEL.NORM = "BN"', '_C.MODEL.NORM = ""'),
        "more": "from yacs.config import CfgNode as CN\nfrom defaults import _C\n"
        '_C.MODEL.NORM = "BN"\n',
        "net": NETWORK,
    },
    "another default": {"defaults": DEFAULTS.replace('"BN"', '"GN"'), "net": NOT_FOUND},
    "two configurations": {"defaults": DEFAULTS, "others": DEFAULTS, "net": NOT_FOUND},
    "two, of which one has what is read": {
        "defaults": DEFAULTS, "others": DEFAULTS.replace(".NORM", ".DATA"), "net": NETWORK,
    },
    "what a builder hands on": {"defaults": DEFAULTS, "net": BUILDER},
    "what a class method takes out": {"defaults": DEFAULTS, "net": TAKEN_OUT},
}  # fmt: skip


@pytest.mark.parametrize("files", CASES.values(), ids=CASES)
def test_a_configuration_with_defaults(files: dict[str, str], tmp_path: Path) -> None:
    texts = {tmp_path / f"{name}.py": text.encode() for name, text in files.items()}
    for path, text in texts.items():
        path.write_bytes(text)
    project = Project(texts=dict(texts))
    report = lint_files([str(tmp_path / "net.py")], project, Settings(select=("BN101",)))
    assert [(Path(f.path).name, f.line) for f in report.findings] == [
        ("net.py", number)
        for number, line in enumerate(files["net"].split("\n"), 1)
        if "# yes" in line
    ]

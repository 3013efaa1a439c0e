"""How bad BN502 is, by the switch that asks for checkpointing."""

from pathlib import Path

import pytest

from bncheck.config import Settings
from bncheck.findings import Finding, Severity
from bncheck.linting import lint, read_sources

NETWORK = """
import torch.utils.checkpoint as cp
from torch import nn


class Block(nn.Module):
    def __init__(self, width=8, with_cp=False):
        super().__init__()
        self.with_cp = with_cp
        self.conv = nn.Sequential(nn.Conv2d(3, width, 3, bias=False), nn.BatchNorm2d(width))

    def forward(self, x):
"""
INSIDE = """        if self.with_cp and x.requires_grad:
            return cp.checkpoint(self.conv, x)
        return self.conv(x)
"""
BEHIND = """        if not self.with_cp:
            return self.conv(x)
        return cp.checkpoint(self.conv, x)
"""
CHOSEN = """        return cp.checkpoint(self.conv, x) if self.with_cp else self.conv(x)
"""
CALLED = """        if self.with_cp and x.requires_grad:
            return self.again(x)
        return self.conv(x)

    def again(self, x):
        return cp.checkpoint(self.conv, x)
"""
ALWAYS = """        if x.requires_grad:
            return cp.checkpoint(self.conv, x)
        return self.conv(x)
"""


def found(folder: Path, files: dict[str, str]) -> list[Finding]:
    """Return what BN502 finds in a project of these files."""
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    paths = [str(folder / name) for name in files if name.endswith(".py")]
    return lint(read_sources(paths), Settings(select=("BN502",))).findings


@pytest.mark.parametrize("forward", [INSIDE, BEHIND, CHOSEN, CALLED])
def test_a_switch_that_nothing_turns_on_makes_a_note(tmp_path: Path, forward: str) -> None:
    (finding,) = found(tmp_path, {"network.py": NETWORK + forward, "README.md": ""})
    assert finding.severity is Severity.NOTE
    assert "once `with_cp` is on" in finding.message


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("train.py", "from network import Block\n\nnetwork = Block(with_cp=True)\n"),
        ("config.py", "model = {'width': 8, 'with_cp': True}\n"),
        ("train.py", "model.set_with_cp(True)\n"),
        ("train.py", "parser.add_argument('--with-cp', type=bool, default=True)\n"),
        ("settings.yaml", "model:\n  width: 8\n  with_cp: true\n"),
        ("train.sh", "python train.py --width 8 --with-cp\n"),
    ],
)
def test_what_turns_it_on_makes_a_warning(tmp_path: Path, name: str, text: str) -> None:
    files = {"network.py": NETWORK + INSIDE, "README.md": "", name: text}
    (finding,) = found(tmp_path, files)
    assert finding.severity is Severity.WARNING
    assert "with_cp" not in finding.message


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("train.py", "parser.add_argument('--with-cp', action='store_true')\n"),
        ("train.py", "# Block(with_cp=True)\n"),
        ("settings.yaml", "model:\n  with_cp: false\n  # with_cp: true\n"),
        ("train.py", "parser.add_argument('--set', help='such as model.with_cp=True')\n"),
        ("tests/test_network.py", "network = Block(with_cp=True)\n"),
    ],
)
def test_what_leaves_it_off_keeps_the_note(tmp_path: Path, name: str, text: str) -> None:
    files = {"network.py": NETWORK + INSIDE, "README.md": "", name: text}
    (finding,) = found(tmp_path, files)
    assert finding.severity is Severity.NOTE


def test_what_is_always_checkpointed_is_a_warning(tmp_path: Path) -> None:
    (finding,) = found(tmp_path, {"network.py": NETWORK + ALWAYS})
    assert finding.severity is Severity.WARNING


SCRIPT = """
import argparse
import timm
import torch

parser = argparse.ArgumentParser()
parser.add_argument('--grad-checkpointing', action='store_true')


def main(args, loader):
    model = timm.create_model('resnet50', pretrained=True)
    if args.grad_checkpointing:
        model.set_grad_checkpointing(enable=True)
    model.train()
    for images, labels in loader:
        torch.nn.functional.cross_entropy(model(images), labels).backward()
"""


def test_a_flag_that_nobody_gives_makes_a_note(tmp_path: Path) -> None:
    (finding,) = found(tmp_path, {"train.py": SCRIPT, "README.md": ""})
    assert finding.severity is Severity.NOTE
    given = {
        "train.py": SCRIPT,
        "README.md": "",
        "train.sh": "python train.py --grad-checkpointing\n",
    }
    (finding,) = found(tmp_path, given)
    assert finding.severity is Severity.WARNING

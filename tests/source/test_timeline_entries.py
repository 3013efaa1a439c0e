"""What is passed by unfollowed: decided on the words in texts, which must miss no name."""

from pathlib import Path

import libcst as cst
import pytest

import bncheck
from bncheck.config import Settings
from bncheck.source.module import SourceModule
from bncheck.source.project import Project
from bncheck.source.timeline import timelines
from bncheck.source.timeline.syntax import identifiers, mentions

NETWORK = """
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, bias=False)
        self.{norm}
        self.pool = nn.AvgPool2d(2)

    def forward(self, x):
        return self.pool(self.norm(self.conv(x)))

    def reset_pool(self):
        self.pool = nn.MaxPool2d(2)
        self.pool.train(self.training)

    @torch.no_grad()
    def scale(self):
        self.conv.weight.mul_(2)

    @torch.no_grad()
    def encode(self, x):
        return self.conv(x)

    def cheap(self, x):
        return checkpoint(self.norm, x)
"""

STRINGS = """
def f(x):
    # train it's a comment
    a = f"{x.eval()}" + backward + "load"
    b = \'\'\'step "one\'\'\' + rf\'{trace}\' + \'it\\\'s\' + export
    c = f"{x['script']}" + momentum + 'zip'
    return a, b, c
"""


def read(text: str, path: str = "/nowhere/net.py") -> tuple[SourceModule, Project]:
    project = Project(texts={Path(path): text})
    return project.module(path), project


def definitions(module: SourceModule) -> list[cst.CSTNode]:
    return [n for n in module.tree.body if isinstance(n, cst.FunctionDef | cst.ClassDef)]


@pytest.mark.parametrize(
    "path", sorted(Path(bncheck.__file__).parent.glob("source/timeline/*.py")), ids=lambda p: p.stem
)
def test_words_of_a_text_miss_no_name(path: Path) -> None:
    module, _ = read(path.read_text(), str(path))
    for node in definitions(module):
        words = mentions(node)
        assert identifiers(node) <= words


def test_strings_and_comments_say_nothing_but_their_expressions() -> None:
    module, _ = read(STRINGS)
    (function,) = definitions(module)
    words = mentions(function)
    assert {"eval", "backward", "trace", "export", "momentum"} <= words
    assert not words & {"train", "load", "step", "one", "zip"}
    assert identifiers(function) <= words


@pytest.mark.parametrize(
    ("norm", "followed"),
    [
        ("norm = nn.BatchNorm2d(8)", {"Net.encode", "Net.cheap"}),
        ("norm = nn.LayerNorm(8)", {"Net.encode"}),
    ],
)
def test_methods_that_no_rule_could_speak_of_are_passed_by(norm: str, followed: set[str]) -> None:
    module, project = read(NETWORK.format(norm=norm))
    found = {timeline.name for timeline in timelines(module, project, Settings())}
    assert {name for name in found if name.startswith("Net.")} == followed


def test_of_many_factories_that_call_one_builder_four_are_followed() -> None:
    makers = "\n\n".join(
        f"def make{i}(**options):\n    return build(Net, **options)\n\n"
        f"def public{i}():\n    return make{i}(width={i})"
        for i in range(6)
    )
    builder = "def build(cls, **options):\n    net = cls()\n    net.eval()\n    return net\n\n"
    module, project = read(NETWORK.format(norm="norm = nn.BatchNorm2d(8)") + builder + makers)
    found = [timeline.name for timeline in timelines(module, project, Settings())]
    assert len([name for name in found if name.startswith(("make", "public"))]) == 4

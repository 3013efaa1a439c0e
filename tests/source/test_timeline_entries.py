"""What is passed by unfollowed: decided on the words in texts, which must miss no name."""

from pathlib import Path

import libcst as cst
import pytest

import bncheck
from bncheck.config import Settings
from bncheck.source.module import SourceModule
from bncheck.source.project import Project
from bncheck.source.timeline import timelines
from bncheck.source.timeline.entries import is_named_again
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


def test_of_many_factories_that_call_one_builder_two_are_followed() -> None:
    makers = "\n\n".join(
        f"def make{i}(**options):\n    return build(Net, **options)\n\n"
        f"def public{i}():\n    return make{i}(width={i})"
        for i in range(6)
    )
    builder = "def build(cls, **options):\n    net = cls()\n    net.eval()\n    return net\n\n"
    module, project = read(NETWORK.format(norm="norm = nn.BatchNorm2d(8)") + builder + makers)
    found = [timeline.name for timeline in timelines(module, project, Settings())]
    assert len([name for name in found if name.startswith(("make", "public"))]) == 2


UNIT_TESTS = """
from layers import {layer}


def test_eval():
    net = {layer}()
    assert net.eval() is net
"""


@pytest.mark.parametrize(
    ("path", "layer", "pedantic", "is_followed"),
    [
        ("tests/test_net.py", "Block", False, False),
        ("tests/test_net.py", "Block", True, True),
        ("tests/test_net.py", "BatchNormBlock", False, True),
        ("tests/test_net.py", "sync_batchnorm_block", False, True),
        ("net.py", "Block", False, True),
    ],
)
def test_unit_tests_that_name_no_batch_norm_are_passed_by(
    path: str, layer: str, pedantic: bool, is_followed: bool
) -> None:
    module, project = read(UNIT_TESTS.format(layer=layer), f"/nowhere/{path}")
    found = {timeline.name for timeline in timelines(module, project, Settings(pedantic=pedantic))}
    assert ("test_eval" in found) is is_followed


BUILDER = """
import torch
from torch import nn


def build(cls, path, keep=None):
    model = cls()
    model.load_state_dict(torch.load(path))
    return model.eval()
"""
FACTORY = """
import torch
from builder import build

SETTINGS = {"momentum": 0.1}


class Net(torch.nn.Module):
    pass


def keep(state, train=False):
    torch.save(state, train)
    return state


def make(path):
    return build(Net, path, keep=keep)


def tiny(path):
    return make(path)


def small():
    return make("small.pt")
"""


def test_of_factories_in_many_files_a_few_are_followed_whatever_they_pass_on() -> None:
    files = {Path(f"/nowhere/net{number}.py"): FACTORY for number in range(6)}
    project = Project(texts={Path("/nowhere/builder.py"): BUILDER, **files})
    found = {path.stem: timelines(project.module(str(path)), project) for path in files}
    followed = [stem for stem, each in found.items() if "make" in {line.name for line in each}]
    assert followed == ["net0", "net1"]


@pytest.mark.parametrize(
    ("text", "is_again"),
    [
        ("def run(): pass", False),
        ("def run(): pass\nrun()", True),
        ("run", False),
        ("run run", True),
        ("def run(): return rerun + runs + _run", False),
        ("runs, run, run2, run", True),
    ],
)
def test_a_function_is_named_again_as_a_whole_word(text: str, is_again: bool) -> None:
    assert is_named_again("run", text) is is_again

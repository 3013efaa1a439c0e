"""BN101's fix is not made where code of the run relies on there being a bias, and says where."""

from __future__ import annotations

from pathlib import Path

import pytest

from bncheck.config import Settings
from bncheck.fixing import fix
from bncheck.source.project import Project
from bncheck.worker import lint_files

NETWORK = """\
import torch
from torch import nn
from torch.nn import init

{before}

class Net(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.conv = nn.Conv2d(3, n, 3)
        self.bn = nn.BatchNorm2d(n)
        self.fc = nn.Linear(n, 10)
{inside}

    def forward(self, x):
        return self.fc(self.bn(self.conv(x)).mean((2, 3)))
{after}
"""


def _inside(*lines: str) -> str:
    return "\n".join(f"        {line}" for line in lines)


LOOP = ("for m in self.modules():", "    if isinstance(m, {types}):", "        {line}")


def _loop(line: str, types: str = "nn.Conv2d") -> str:
    return _inside(*(text.format(types=types, line=line) for text in LOOP))


def _applied(*lines: str) -> dict[str, str]:
    before = "\n    ".join(["def weights_init(m):", *lines]) + "\n"
    return {"before": before, "inside": _inside("self.apply(weights_init)")}


RELYING = {
    "a loop over modules": {"inside": _loop("m.bias.data.fill_(0.01)")},
    "a loop, with init": {"inside": _loop("nn.init.constant_(m.bias, 0)")},
    "a loop, with a name of init": {"inside": _loop("init.zeros_(tensor=m.bias)")},
    "one of several types": {"inside": _loop("m.bias.data.zero_()", "(nn.Conv2d, nn.Linear)")},
    "its base class": {"inside": _loop("m.bias.data.zero_()", "nn.modules.conv._ConvNd")},
    "that it exists says nothing": {
        "inside": _loop("if hasattr(m, 'bias'): m.bias.data.zero_()"),
    },
    "directly": {"inside": _inside("self.conv.bias.data.zero_()")},
    "directly, with init": {"inside": _inside("nn.init.zeros_(self.conv.bias)")},
    "an attribute of the bias": {"inside": _inside("self.conv.bias.weight_decay = 0.0")},
    "a function that is applied": _applied("if isinstance(m, nn.Conv2d):", "    m.bias.data *= 0"),
    "a function that looks at names": _applied(
        "name = m.__class__.__name__",
        "if name.find('Conv') != -1:",
        "    m.bias.data.fill_(0)",
    ),
    "a function that is applied from outside": {
        "before": "def weights_init(m):\n    if isinstance(m, nn.Conv2d): m.bias.data.zero_()\n",
        "after": "\n\nnet = Net(8)\nnet.apply(weights_init)",
    },
    "a method of the base class": {
        "before": "class Base(nn.Module):\n    def start(self):\n"
        "        for m in self.modules():\n"
        "            if isinstance(m, nn.Conv2d):\n                m.bias.data.zero_()\n",
        "replaced": ("class Net(nn.Module)", "class Net(Base)"),
    },
    "a network around it": {
        "after": "\n\nclass Whole(nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n        self.net = Net(8)\n"
        "        self.net.conv.bias.data.zero_()\n",
    },
}
NOT_RELYING = {
    "no initialisation": {},
    "asked for": {"inside": _loop("if m.bias is not None: m.bias.data.zero_()")},
    "asked for together with the type": {
        "inside": _inside(
            "for m in self.modules():",
            "    if isinstance(m, nn.Conv2d) and m.bias is not None:",
            "        nn.init.zeros_(m.bias)",
        )
    },
    "where there is more than a weight": {
        "inside": _loop("if len(list(m.parameters())) > 1: nn.init.zeros_(m.bias)")
    },
    "left before": {
        "inside": _inside(
            "for m in self.modules():",
            "    if getattr(m, 'bias', None) is None:",
            "        continue",
            "    m.bias.data.zero_()",
        )
    },
    "of another type": {"inside": _loop("m.bias.data.zero_()", "nn.BatchNorm2d")},
    "of another type by its name": _applied(
        "name = m.__class__.__name__",
        "if name.find('BatchNorm') != -1:",
        "    nn.init.constant_(m.bias.data, 0.0)",
    ),
    "of another attribute": {"inside": _inside("self.fc.bias.data.zero_()")},
    "of a loop variable's weight": {"inside": _loop("m.weight.data.zero_()")},
    "in another network": {
        "after": "\n\nclass Other(nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n        self.conv = nn.Conv2d(3, 8, 3)\n"
        "        for m in self.modules():\n            m.bias.data.zero_()\n",
    },
    "an error that is caught": {
        "inside": _inside("try:", "    self.conv.bias.data.zero_()", "except AttributeError: pass")
    },
}


def _source(case: dict[str, object]) -> str:
    texts = {key: case.get(key, "") for key in ("before", "inside", "after")}
    return NETWORK.format(**texts).replace(*case.get("replaced", ("", "")))  # type: ignore[arg-type]


@pytest.mark.parametrize("case", RELYING.values(), ids=RELYING)
def test_a_bias_that_code_relies_on_is_kept(case: dict[str, object]) -> None:
    source = _source(case).encode()
    made = fix({"m.py": source}, Settings(select=("BN101",)), unsafe=True)
    assert made.sources["m.py"] == source
    (finding,) = made.report.findings
    assert finding.fix is None
    assert "not done by --fix, since `" in finding.hint
    assert "of m.py) may rely on it" in finding.hint


@pytest.mark.parametrize("case", NOT_RELYING.values(), ids=NOT_RELYING)
def test_other_uses_of_a_bias_do_not_stand_in_the_way(case: dict[str, object]) -> None:
    source = _source(case).encode()
    made = fix({"m.py": source}, Settings(select=("BN101",)), unsafe=True)
    assert b"nn.Conv2d(3, n, 3, bias=False)" in made.sources["m.py"]


def test_other_files_of_the_run_are_looked_into(tmp_path: Path) -> None:
    files = {
        "net.py": _source({}),
        "weights.py": "from torch import nn\n\n\ndef set_weights(m):\n"
        "    if isinstance(m, nn.Conv2d):\n        m.bias.data.zero_()\n",
        "train.py": "from net import Net\nfrom weights import set_weights\n\n\n"
        "def main():\n    net = Net(8)\n    net.apply(set_weights)\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    texts = {tmp_path / name: text for name, text in files.items()}
    settings = Settings(select=("BN101",))
    (found,) = lint_files(map(str, texts), Project(texts=dict(texts)), settings).findings
    assert found.fix is None
    assert "line 6 of weights.py" in found.hint
    del texts[tmp_path / "train.py"]
    (found,) = lint_files(map(str, texts), Project(texts=dict(texts)), settings).findings
    assert found.fix is not None

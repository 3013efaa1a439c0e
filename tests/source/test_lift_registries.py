"""BN101 where a registry that other files fill says what a layer is; `# yes` marks the findings."""

from __future__ import annotations

from pathlib import Path

import pytest

from bncheck.config import Settings
from bncheck.source.project import Project
from bncheck.worker import lint_files

OWN = """
class Registry:
    def __init__(self, name):
        self.name, self.known = name, {}

    def register(self, name=None):
        def put(value):
            self.known[name or value.__name__] = value
            return value
        return put

    def get(self, name):
        if name not in self.known:
            raise KeyError(name)
        return self.known[name]

NORMS = Registry("norms")
"""
FUNCTION = """
NORMS = {}

def register_norm(name):
    def put(value):
        NORMS[name] = value
        return value
    return put
"""
LAYERS = """
from torch import nn
from registry import NORMS

@NORMS.register("batch")
class Batch(nn.BatchNorm2d):
    pass

@NORMS.register("group")
def group(channels):
    return nn.GroupNorm(4, channels)
"""
NETWORK = """
from torch import nn
from registry import NORMS

class Net(nn.Module):
    def __init__(self, norm="batch"):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3){yes}
        self.norm1 = {norm}
        self.second = nn.Conv2d(8, 8, 3)
        self.norm2 = {other}

    def forward(self, x):
        return self.norm2(self.second(self.norm1(self.first(x))))
"""
GET = {"norm": "NORMS.get(norm)(8)", "other": 'NORMS.get("group")(8)', "yes": "  # yes"}
NOT_KNOWN = {"norm": 'NORMS.get("instance")(8)', "other": "NORMS.get(unknown)(8)", "yes": ""}
BUILD = {
    "norm": 'NORMS.build(dict(type="Batch", num_features=8))',
    "other": 'NORMS.build(dict(type="group", channels=8))',
    "yes": "  # yes",
}
FVCORE = "from fvcore.common.registry import Registry\nNORMS = Registry('NORMS')\n"
OPENMMLAB = "from mmengine.registry import Registry\nNORMS = Registry('norms')\n"
BY_CLASS = LAYERS.replace('register("batch")', "register_module()").replace(
    'register("group")', 'register_module(name="group")'
)
STATEMENTS = """
from torch import nn
from registry import NORMS

NORMS.register_module("batch", module=nn.BatchNorm2d)
NORMS.register_module("group", module=nn.Identity)
"""

CASES = {
    "a class of the project": {"registry": OWN, "layers": LAYERS, "net": NETWORK.format(**GET)},
    "a class, and a key that it lacks": {
        "registry": OWN, "layers": LAYERS, "net": NETWORK.format(**NOT_KNOWN),
    },
    "a dictionary that a decorator fills": {
        "registry": FUNCTION,
        "layers": LAYERS.replace("NORMS.register", "register_norm").replace(
            "import NORMS", "import register_norm"
        ),
        "net": NETWORK.format(**{key: text.replace(".get", "") for key, text in GET.items()})
        .replace("NORMS(norm)", "NORMS[norm]").replace('NORMS("group")', 'NORMS["group"]'),
    },
    "a dictionary that a file fills": {
        "registry": "NORMS = {}\n",
        "layers": "from torch import nn\nfrom registry import NORMS\n"
        'NORMS["batch"] = nn.BatchNorm2d\nNORMS["group"] = nn.Identity\n',
        "net": NETWORK.format(**GET),
    },
    "fvcore's": {"registry": FVCORE, "layers": LAYERS, "net": NETWORK.format(**GET)},
    "fvcore's, and a key that it lacks": {
        "registry": FVCORE, "layers": LAYERS, "net": NETWORK.format(**NOT_KNOWN),
    },
    "OpenMMLab's, by configuration": {
        "registry": OPENMMLAB, "layers": BY_CLASS, "net": NETWORK.format(**BUILD),
    },
    "OpenMMLab's, filled by statements": {
        "registry": OPENMMLAB, "layers": STATEMENTS, "net": NETWORK.format(**GET),
    },
    "one of the same name in another place": {
        "registry": OWN,
        "layers": "from torch import nn\nNORMS = {}\n"
        'NORMS["batch"] = nn.BatchNorm2d\nNORMS["group"] = nn.Identity\n',
        "net": NETWORK.format(**(GET | {"yes": ""})),
    },
}  # fmt: skip


@pytest.mark.parametrize("files", CASES.values(), ids=CASES)
def test_a_registry_that_other_files_fill(files: dict[str, str], tmp_path: Path) -> None:
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

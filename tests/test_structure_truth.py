"""The measurement of BN101 against running models: the truth it takes is itself held by tests."""

import sys

import pytest

torch = pytest.importorskip("torch")

from structure_truth import score  # noqa: E402
from truth.anything import of_folder  # noqa: E402
from truth.collect import as_json, collect, from_json  # noqa: E402
from truth.models import Model, images  # noqa: E402
from truth.mutate import mutated_copy  # noqa: E402
from truth.reading import Reading  # noqa: E402

SOURCE = """\
import torch
import torch.nn as nn
import torch.nn.functional as F


def conv3x3(width):
    return nn.Conv2d(width, width, 3, padding=1)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.plain = conv3x3(3)
        self.seen_twice = nn.Conv2d(3, 3, 1)
        self.modified = nn.Conv2d(3, 3, 1)
        self.in_place = nn.Conv2d(3, 3, 1)
        self.dropped = nn.Conv2d(3, 3, 1)
        self.clean = nn.Conv2d(3, 3, 1, bias=False)
        self.functional = nn.Conv2d(3, 3, 1)
        self.through_identity = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Identity(), self.norm())
        self.mixed = nn.ModuleList([nn.Conv2d(3, 3, 1) for _ in range(2)])
        self.per_token = nn.Linear(5, 5)
        self.per_image = nn.Linear(5, 5)
        self.answer = nn.Linear(5, 2)
        self.cropped = nn.Conv2d(3, 3, 1)
        self.turned = nn.Conv2d(3, 3, 1)
        self.norms = nn.ModuleList([self.norm() for _ in range(6)])
        self.tokens = nn.BatchNorm1d(3)
        self.flat = nn.BatchNorm1d(5)

    def norm(self):
        return nn.BatchNorm2d(3)

    def forward(self, x):
        x = self.norms[0](self.plain(x))
        y = self.seen_twice(x)
        x = self.norms[1](y) + y.mean()
        x = self.norms[2](F.relu(self.modified(x)))
        y = self.in_place(x)
        F.relu_(y)
        x = self.norms[3](y)
        x = self.norms[4](F.dropout(self.dropped(x), 0.1, self.training))
        x = self.norms[5](self.clean(x))
        y = self.functional(x)
        assert y.shape[1] == 3
        x = F.batch_norm(y, self.flat.running_mean[:3], self.flat.running_var[:3])
        x = self.through_identity(x)
        x = self.mixed[1](self.norms[0](self.mixed[0](x)))
        x = self.norms[0](self.cropped(x)[..., :8, 1:].narrow(2, 0, 7).contiguous())
        x = self.norms[0](self.turned(x)[:, [2, 1, 0]])
        x = self.tokens(self.per_token(x.flatten(2)[:, :, :5]))
        return self.answer(self.flat(self.per_image(x[:, 0])))
"""
LABELS = {
    "nn.Conv2d(width": "true",
    "self.seen_twice =": "false",
    "self.modified =": "false",
    "self.in_place =": "false",
    "self.dropped =": "false",
    "self.clean =": "false",
    "self.functional =": "true",
    "self.through_identity =": "true",
    "self.mixed =": "mixed",
    "self.per_token =": "false",
    "self.per_image =": "true",
    "self.answer =": "false",
    "self.cropped =": "true",
    "self.turned =": "false",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "truthful_package"
    folder.mkdir()
    (folder / "__init__.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    sys.modules.pop("truthful_package", None)


def _truth(folder):
    import truthful_package

    model = Model("Net", "Net", truthful_package.Net, images((2, 3, 8, 8)))
    return collect([model], folder)


def _labels(truth, text):
    lines = text.splitlines()
    found = {}
    for (path, line, column), seen in truth.sites.items():
        assert path == "truthful_package/__init__.py"
        assert lines[line - 1][column - 1 :].startswith(("nn.Conv2d(", "nn.Linear("))
        for start in LABELS:
            if start in lines[line - 1]:
                found[start] = seen.label
    return found


def test_sites_are_labelled_by_what_ran(package):
    truth = _truth(package)
    assert truth.models == {"Net": "ok"}
    assert _labels(truth, SOURCE) == LABELS
    assert len(truth.edges) == 8
    assert from_json(as_json(truth)) == truth


def test_a_model_that_cannot_be_built_is_counted(package):
    truth = collect([Model("broken", "broken", lambda: 1 / 0, images((1, 3)))], package)
    assert truth.models == {"broken": "ZeroDivisionError: division by zero"}


def test_a_stripped_copy_has_the_bias(package, tmp_path, monkeypatch):
    into = tmp_path / "copy"
    into.mkdir()
    copy = mutated_copy(package, into, "strip")
    monkeypatch.syspath_prepend(str(into))
    sys.modules.pop("truthful_package", None)
    text = (copy / "__init__.py").read_text()
    assert "self.clean = nn.Conv2d(3, 3, 1)\n" in text
    assert _labels(_truth(copy), text) == LABELS | {"self.clean =": "true"}


def test_score_counts_only_sites_that_ran(package):
    truth = _truth(package)
    true = [position for position, seen in truth.sites.items() if seen.label == "true"]
    false = [position for position, seen in truth.sites.items() if seen.label == "false"]
    elsewhere = ("truthful_package/other.py", 1, 1)
    reading = Reading(findings=dict.fromkeys([true[0], false[0], elsewhere], "proven"))
    result = score(truth, reading)
    assert (result.found, result.labels["true"]) == (1, 5)
    assert (result.findings, result.unjudged, result.right) == (3, 1, 1)
    assert (result.recall, result.precision) == ("20.0 %", "50.0 %")


def test_networks_of_a_repository_are_found_whichever_folder_its_imports_start_from(tmp_path):
    (tmp_path / "one" / "models").mkdir(parents=True)
    (tmp_path / "two").mkdir()
    block = "import torch.nn as nn\ndef block(width, bias):\n    return nn.Conv2d(3, width, 1{})\n"
    network = (
        "import torch.nn as nn\nfrom {} import block\nclass Net(nn.Module):\n"
        "    def __init__(self, width):\n        super().__init__()\n"
        "        self.layers = nn.Sequential(block(width, True), nn.BatchNorm2d(width))\n"
        "    def forward(self, x):\n        return self.layers(x)\n"
        "if __name__ == '__main__':\n    Net(8)\n"
    )
    (tmp_path / "one" / "models" / "layers.py").write_text(block.format(", bias=bias"))
    (tmp_path / "one" / "models" / "net.py").write_text(network.format("models.layers"))
    (tmp_path / "two" / "layers.py").write_text(block.format(""))
    (tmp_path / "two" / "net.py").write_text(network.format("layers"))
    (tmp_path / "train.py").write_text("raise SystemExit('nn.Module')\n")
    before = list(sys.path), set(sys.modules)
    truth = collect(of_folder(tmp_path), tmp_path)
    for name in set(sys.modules) - before[1]:
        del sys.modules[name]
    assert sys.path == before[0]
    assert truth.models == {"models.net.Net": "ok", "net.Net": "ok"}
    assert {(path.partition("/")[2], seen.label) for (path, _, _), seen in truth.sites.items()} == {
        ("one/models/layers.py", "true"),
        ("two/layers.py", "true"),
    }

"""Scripts that the timeline reader follows: what is flagged, and the look-alikes that are not."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bncheck.config import Settings
from bncheck.findings import Confidence
from bncheck.worker import lint_source

HEADER = """
import copy

import torch
import torchvision
from torch import nn
from torch.utils.data import DataLoader


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        return self.head(self.bn(self.conv(x)).mean((2, 3)))


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        return self.head(x)


"""


@dataclass(frozen=True)
class Case:
    """A script behind the header; lines that end in `# BNxxx` are flagged, and no others."""

    name: str
    script: str
    settings: Settings = field(default_factory=Settings)


CASES = [
    Case(
        "eval in a helper counts",
        """
def prepare(model):
    model.eval()


def main(x):
    model = Net()
    model.load_state_dict(torch.load("a"))
    prepare(model)
    with torch.no_grad():
        return model(x)
""",
    ),
    Case(
        "eval on one branch only: not on every path in train mode",
        """
def main(x, flag):
    model = Net()
    model.load_state_dict(torch.load("a"))
    if flag:
        model.eval()
    with torch.no_grad():
        return model(x)
""",
    ),
    Case(
        "an early return keeps eval from the rest",
        """
def main(x, flag):
    model = Net()
    model.load_state_dict(torch.load("a"))
    if flag:
        model.eval()
        return model(x)
    with torch.no_grad():
        return model(x)  # BN201
""",
    ),
    Case(
        "train(False) is eval",
        """
def main(x):
    model = Net()
    model.load_state_dict(torch.load("a"))
    model.train(False)
    with torch.no_grad():
        return model(x)
""",
    ),
    Case(
        "eval on a wrapped model reaches it",
        """
def main(x):
    model = nn.DataParallel(Net())
    model.module.load_state_dict(torch.load("a"))
    model.eval()
    with torch.no_grad():
        return model.module(x)
""",
    ),
    Case(
        "a constant argument chooses the branch",
        """
def run(model, x, training):
    model.train(training)
    if training:
        return model(x)
    with torch.no_grad():
        return model(x)


def main(x):
    model = Net()
    model.load_state_dict(torch.load("a"))
    run(model, x, training=False)
""",
    ),
    Case(
        "a model without BatchNorm",
        """
def main(x):
    model = Plain()
    model.load_state_dict(torch.load("a"))
    with torch.no_grad():
        return model(x)
""",
    ),
    Case(
        "code that is not followed may have called eval",
        """
from elsewhere import ready


def main(x):
    model = Net()
    model.load_state_dict(torch.load("a"))
    ready(model)
    with torch.no_grad():
        return model(x)
""",
    ),
    Case(
        "a decorated function runs without gradients",
        """
@torch.inference_mode()
def predict(model, x):
    return model(x)  # BN201


def main(x):
    model = torchvision.models.resnet18(weights="DEFAULT")
    return predict(model, x)
""",
    ),
    Case(
        "a zoo model by the default of a command line",
        """
import argparse


def main(x):
    parser = argparse.ArgumentParser()
    parser.add_argument("--arch", default="resnet18")
    args = parser.parse_args()
    model = torchvision.models.__dict__[args.arch](pretrained=True)
    with torch.no_grad():
        return model(x)  # BN201
""",
    ),
    Case(
        "a zoo model without BatchNorm",
        """
def main(x):
    model = torchvision.models.vit_b_16(weights="DEFAULT")
    with torch.no_grad():
        return model(x)
""",
    ),
    Case(
        "a predictor class: the constructor loads, the method infers",
        """
class Predictor:
    def __init__(self, path):
        self.model = Net()
        self.model.load_state_dict(torch.load(path))
        self.criterion = nn.CrossEntropyLoss()

    @torch.no_grad()
    def predict(self, x):
        return self.model(x)  # BN201
""",
    ),
    Case(
        "a derived predictor class calls eval",
        """
class Predictor:
    def __init__(self, path):
        self.model = Net()
        self.model.load_state_dict(torch.load(path))


class Right(Predictor):
    def __init__(self, path):
        super().__init__(path)
        self.model.eval()

    @torch.no_grad()
    def again(self, x):
        return self.model(x)
""",
    ),
    Case(
        "shapes are probed with made-up input",
        """
class Bigger(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = Net()
        with torch.no_grad():
            self.width = self.features(torch.zeros(1, 3, 32, 32)).shape[1]

    def forward(self, x):
        return self.features(x)


def main():
    return Bigger()
""",
    ),
    Case(
        "phases of one loop: which is which is known",
        """
def main(loaders, optimizer):
    model = Net()
    for epoch in range(10):
        for phase in ["train", "val"]:
            if phase == "train":
                model.train()
            else:
                model.eval()
            for images, labels in loaders[phase]:
                with torch.set_grad_enabled(phase == "train"):
                    loss = nn.functional.cross_entropy(model(images), labels)
                    if phase == "train":
                        loss.backward()
                        optimizer.step()
""",
    ),
    Case(
        "evaluation under a condition in the loop",
        """
def main(loader, tests, optimizer):
    model = Net()
    model.train()
    for index, (images, labels) in enumerate(loader):
        loss = nn.functional.cross_entropy(model(images), labels)  # BN202
        loss.backward()
        optimizer.step()
        if index % 100 == 0:
            model.eval()
            with torch.no_grad():
                model(tests)
""",
    ),
    Case(
        "a frozen part is in eval mode in every round",
        """
def main(loader, optimizer):
    backbone = torchvision.models.resnet18(weights="DEFAULT")
    model = Net()
    for images, labels in loader:
        backbone.eval()
        loss = nn.functional.cross_entropy(model(backbone(images)), labels)
        loss.backward()
        optimizer.step()
""",
    ),
    Case(
        "a mean teacher is a copy",
        """
def main(loader, optimizer):
    student = Net()
    teacher = copy.deepcopy(student)
    for images, labels in loader:
        with torch.no_grad():
            wanted = teacher(images)
        loss = nn.functional.mse_loss(student(images), wanted)
        loss.backward()
        optimizer.step()
""",
    ),
    Case(
        "context managers switch the mode and back",
        """
from contextlib import contextmanager


@contextmanager
def evaluating(model):
    model.eval()
    yield model
    model.train()


class Evaluating:
    def __init__(self, model):
        self.model = model

    def __enter__(self):
        self.model.eval()

    def __exit__(self, *error):
        self.model.train()


def main(x):
    model = Net()
    model.load_state_dict(torch.load("a"))
    with evaluating(model), torch.no_grad():
        first = model(x)
    with Evaluating(model):
        with torch.no_grad():
            return first, model(x)
""",
    ),
    Case(
        "a decorator of the project manages the mode",
        """
def in_eval_mode(function):
    def inner(self, *args):
        self.model.eval()
        return function(self, *args)

    return inner


class Predictor:
    def __init__(self, path):
        self.net = Net()
        self.net.load_state_dict(torch.load(path))

    @in_eval_mode
    @torch.no_grad()
    def predict(self, x):
        return self.net(x)
""",
    ),
    Case(
        "a trainer class: the script hands it the model",
        """
class Base:
    def __init__(self, model, optimizer):
        self.model = model
        self.optimizer = optimizer

    def fit(self, loader, tests):
        for epoch in range(3):
            self.train_epoch(loader)
            self.validate(tests)


class Trainer(Base):
    def train_epoch(self, loader):
        for images, labels in loader:
            loss = nn.functional.cross_entropy(self.model(images), labels)  # BN202
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()

    def validate(self, tests):
        self.model.eval()
        with torch.no_grad():
            for images, labels in tests:
                print(self.model(images))


def main(loader, tests):
    model = Net()
    model.train()
    trainer = Trainer(model, torch.optim.SGD(model.parameters(), lr=0.1))
    trainer.fit(loader, tests)
""",
    ),
    Case(
        "a class that is used elsewhere: its test leaves eval mode to its training",
        """
class Solver:
    def __init__(self, loader, tests):
        self.loader, self.tests = loader, tests
        self.net = Net()
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.1)

    def fit(self):
        for _ in range(3):
            for images, labels in self.loader:
                loss = nn.functional.cross_entropy(self.net(images), labels)  # BN202
                loss.backward()
                self.optimizer.step()
            self.score()

    def score(self):
        self.net.eval()
        with torch.no_grad():
            return [self.net(images) for images, _ in self.tests]
""",
    ),
    Case(
        "train in one function, infer in another, on a model at module level",
        """
net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)


def fit(loader):
    if True: net.train()
    for images, labels in loader:
        nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()


def score(loader):
    with torch.no_grad():
        return [net(images) for images, _ in loader]  # BN201


if __name__ == "__main__":
    for _ in range(3):
        fit(DataLoader([]))
        print(score(DataLoader([])))
""",
    ),
    Case(
        "Lightning drives the mode",
        """
import pytorch_lightning as pl


class System(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = Net()
        self.net.load_state_dict(torch.load("a"))

    def predict_step(self, batch):
        with torch.no_grad():
            return self.net(batch)
""",
    ),
    Case(
        "a method named without its call, on the way out of a loop",
        """
def main(loader):
    model = Net()
    model.load_state_dict(torch.load("a"))
    model.eval  # BN203
    model.eval()
    return [model(images) for images in loader]
""",
    ),
    Case(
        "exports of a model in eval mode, and by exporters that see to it",
        """
def main(x):
    model = torchvision.models.resnet18(weights="DEFAULT")
    torch.onnx.export(model, x, "a.onnx")
    compiled = torch.compile(model)
    torch.export.export(model, (x,))  # BN204
    model.eval()
    torch.jit.trace(model, x)
    return compiled
""",
    ),
    Case(
        "a scripted model is saved in train mode",
        """
def main():
    model = torchvision.models.resnet18(weights="DEFAULT")
    scripted = torch.jit.script(model)  # BN204
    scripted.save("a.pt")
""",
    ),
    Case(
        "settings: a factory that makes models without BatchNorm",
        """
def main(x):
    model = build()
    model.load_state_dict(torch.load("a"))
    with torch.no_grad():
        return model(x)


def build():
    return Net()
""",
        Settings(norm_free_models=("build",)),
    ),
    Case(
        "settings: a function that manages the mode",
        """
def main(x):
    model = Net()
    model.load_state_dict(torch.load("a"))
    ready(model)
    with torch.no_grad():
        return model(x)


def ready(model):
    print(model)
""",
        Settings(mode_managed_by=("ready",)),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_flagged_exactly_where_marked(case: Case) -> None:
    text = HEADER + case.script
    expected = {
        (number, line.rpartition("# ")[2])
        for number, line in enumerate(text.splitlines(), start=1)
        if "# BN" in line
    }
    found = {
        (finding.line, finding.code)
        for finding in lint_source(text, settings=case.settings)
        if finding.code.startswith("BN2")
    }
    assert found == expected


def test_an_unknown_model_is_only_possible() -> None:
    text = (
        "import torch\nfrom elsewhere import Network\n\n\ndef main(x):\n"
        "    model = Network()\n    model.load_state_dict(torch.load('a'))\n"
        "    with torch.no_grad():\n        return model(x)\n"
    )
    assert lint_source(text) == []
    pedantic = lint_source(text, settings=Settings(pedantic=True))
    assert [(f.code, f.line, f.confidence) for f in pedantic] == [("BN201", 9, Confidence.POSSIBLE)]


def test_a_model_is_followed_into_other_files(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(HEADER)
    (tmp_path / "helper.py").write_text("def ready(model):\n    return model.eval()\n")
    script = (
        "import torch\nfrom helper import ready\nfrom net import Net\n\n"
        "model = Net()\nmodel.load_state_dict(torch.load('a'))\n{}"
        "with torch.no_grad():\n    print(model(torch.load('x')))\n"
    )
    path = tmp_path / "script.py"
    found = {
        ready: [f.code for f in lint_source(script.format(ready), path=str(path))]
        for ready in ("", "ready(model)\n")
    }
    assert found == {"": ["BN201"], "ready(model)\n": []}

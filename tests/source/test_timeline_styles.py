"""The ways in which scripts keep their models and hand them on, each mistaken and right."""

from dataclasses import dataclass

import pytest

from bncheck.worker import lint_source

HEADER = """
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        return self.head(self.bn(self.conv(x)).mean((2, 3)))


"""


@dataclass(frozen=True)
class Case:
    """A script behind the header; lines that end in `# BNxxx` are flagged, and no others."""

    name: str
    script: str


CASES = [
    Case(
        "settings in a dictionary",
        """
def test(settings):
    network = settings["model"]
    with torch.no_grad():
        for x, y in settings["test_loader"]:
            print(network(x), settings["model"](x))  # BN201


def train(settings):
    for x, y in settings["train_loader"]:
        loss = cross_entropy(settings["model"](x), y)
        settings["optimizer"].zero_grad()
        loss.backward()
        settings["optimizer"].step()
    test(settings)


settings = {}
settings["model"] = Net().cuda()
settings["train_loader"] = DataLoader([], 32, shuffle=True, drop_last=True)
settings["test_loader"] = DataLoader([], 32)
settings["optimizer"] = torch.optim.Adam(settings["model"].parameters())
train(settings)
""",
    ),
    Case(
        "settings in a dictionary, put in eval mode there",
        """
def test(settings):
    settings["model"].eval()
    with torch.no_grad():
        for x, y in settings["test_loader"]:
            print(settings["model"](x))


settings = {"model": None}
settings["model"] = Net()
settings["model"].load_state_dict(torch.load("a"))
settings["test_loader"] = DataLoader([], 32)
test(settings)
""",
    ),
    Case(
        "a model on the command line's namespace",
        """
from argparse import ArgumentParser


def predict(args, x):
    with torch.no_grad():
        return args.model(x)  # BN201


parser = ArgumentParser()
parser.add_argument("--weights")
args = parser.parse_args()
args.model = Net()
args.model.load_state_dict(torch.load(args.weights))
predict(args, torch.load("x"))
""",
    ),
    Case(
        "a server's function on a model of the file",
        """
from flask import Flask, jsonify, request

app = Flask(__name__)
model = Net()
model.load_state_dict(torch.load("a"))


def predict_class(x):
    return model.forward(x).argmax(1)  # BN201


@app.route("/predict", methods=["POST"])
def predict():
    return jsonify(predict_class(request.files["file"].read()))
""",
    ),
    Case(
        "a server's function on a model in eval mode",
        """
from flask import Flask, jsonify, request

app = Flask(__name__)
model = Net()
model.load_state_dict(torch.load("a"))
model.eval()


def predict_class(x):
    return model.forward(x).argmax(1)


@app.route("/predict", methods=["POST"])
def predict():
    return jsonify(predict_class(request.files["file"].read()))
""",
    ),
    Case(
        "a method that is handed out to be called back",
        """
import rospy


class Detector:
    def __init__(self):
        self.net = Net()
        self.net.load_state_dict(torch.load("a"))
        rospy.Subscriber("/camera", object, self.on_image)

    def on_image(self, message):
        print(self.net(torch.from_numpy(message.data)))  # BN201


Detector()
""",
    ),
    Case(
        "a method that is handed out, of a class that switches modes",
        """
import rospy


class Detector:
    def __init__(self):
        self.net = Net()
        self.net.load_state_dict(torch.load("a"))
        rospy.Subscriber("/camera", object, self.on_image)
        rospy.Subscriber("/ready", object, self.on_ready)

    def on_ready(self, message):
        self.net.eval()

    def on_image(self, message):
        print(self.net(torch.from_numpy(message.data)))


Detector()
""",
    ),
    Case(
        "recursion changes nothing that it does not name",
        """
def collect(node):
    for child in node.children:
        collect(child)
    node.ready = True


class Node:
    def __init__(self, model):
        self.model = model
        self.children = []


def main(loader):
    model = Net()
    model.load_state_dict(torch.load("a"))
    tree = Node(model)
    collect(tree)
    with torch.no_grad():
        for x in loader:
            print(tree.model(x))  # BN201
""",
    ),
    Case(
        "recursion that may switch modes",
        """
def prepare(node, ready):
    if ready:
        node.model.eval()
    else:
        prepare(node, True)


class Node:
    def __init__(self, model):
        self.model = model


def main(loader):
    model = Net()
    model.load_state_dict(torch.load("a"))
    tree = Node(model)
    prepare(tree, False)
    with torch.no_grad():
        for x in loader:
            print(tree.model(x))
""",
    ),
    Case(
        "modes that are kept in a list and given back",
        """
class Entry:
    def __init__(self, model):
        self.model = model


class Runner:
    def __init__(self):
        self.first, self.second = Entry(Net()), Entry(Net())
        self.entries = [self.first, self.second]
        self.optimizer = torch.optim.Adam(self.second.model.parameters())

    def run(self, loader):
        for entry in self.entries:
            entry.model.train()
        for epoch in range(3):
            for x, y in loader:
                loss = cross_entropy(self.second.model(x), y)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
            self.evaluate(loader)

    def evaluate(self, loader):
        modes = []
        for entry in self.entries:
            modes.append(entry.model.training)
            entry.model.eval()
        with torch.no_grad():
            for x, y in loader:
                print(self.second.model(x))
        for entry, training in zip(self.entries, modes):
            if training:
                entry.model.train()
""",
    ),
    Case(
        "models beside their names in a list",
        """
def main(x):
    one, other = Net(), Net()
    for name, model in [("one", one), ("other", other)]:
        model.load_state_dict(torch.load(name))
        model.eval()
    with torch.no_grad():
        return one(x), other(x)
""",
    ),
    Case(
        "a scripted model that is saved for phones",
        """
model = torch.hub.load("pytorch/vision", "resnet18", pretrained=True)
scripted = torch.jit.script(model)  # BN204
scripted._save_for_lite_interpreter("a.ptl")
""",
    ),
    Case(
        "a frozen network under a new head is what is trained",
        """
import torchvision


def tune(loader):
    model = torchvision.models.resnet18(weights="DEFAULT")
    for parameter in model.parameters():
        parameter.requires_grad = False
    model.fc = nn.Linear(512, 10)
    optimizer = torch.optim.SGD(model.fc.parameters(), lr=0.1)
    model.train()
    for images, labels in loader:
        loss = cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
""",
    ),
    Case(
        "a frozen network whose optimizer is given a list",
        """
import torchvision


def tune(loader):
    model = torchvision.models.resnet18(weights="DEFAULT")
    for parameter in model.parameters():
        parameter.requires_grad = False
    model.fc = nn.Linear(512, 10)
    wanted = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            wanted.append(parameter)
    optimizer = torch.optim.SGD(wanted, lr=0.1)
    for images, labels in loader:
        loss = cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
""",
    ),
    Case(
        "a network of MONAI's that is asked for BatchNorm",
        """
from monai.networks.layers import Norm
from monai.networks.nets import FlexibleUNet, UNet


def predict(x):
    plain = UNet(spatial_dims=3, in_channels=1, out_channels=2)
    normed = UNet(spatial_dims=3, in_channels=1, out_channels=2, norm=Norm.BATCH)
    flexible = FlexibleUNet(3, 2, "efficientnet-b0", pretrained=True)
    plain.load_state_dict(torch.load("a"))
    normed.load_state_dict(torch.load("b"))
    with torch.no_grad():
        plain(x)[0]
        found = normed(x)  # BN201
        return found + flexible(x)  # BN201
""",
    ),
    Case(
        "a flag that can only be what its default is",
        """
from argparse import ArgumentParser
from copy import deepcopy

parser = ArgumentParser()
parser.add_argument("--use-average", action="store_true", default=True)
args = parser.parse_args()


def test(model, loader):
    with torch.no_grad():
        for x, y in loader:
            model.eval()
            print(model(x))


def main(loader, test_loader):
    model = Net()
    average = deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.train()
    for epoch in range(10):
        for x, y in loader:
            loss = cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if args.use_average:
            tested = average
        else:
            tested = model
        test(tested, test_loader)


main(DataLoader([], 32, shuffle=True), DataLoader([], 32))
""",
    ),
    Case(
        "eval() of each by a map",
        """
def main(x):
    networks = [Net(), Net()]
    for network in networks:
        network.load_state_dict(torch.load("a"))
    list(map(lambda network: network.eval(), networks))
    with torch.no_grad():
        return networks[0](x), networks[1](x)
""",
    ),
    Case(
        "a lambda that calls itself for each part",
        """
flat = lambda net: sum(map(flat, net.children()), []) if list(net.children()) else [net]


def main(x):
    net = Net()
    net.load_state_dict(torch.load("a"))
    print(len(flat(net)))
    with torch.no_grad():
        return net(x)  # BN201
""",
    ),
    Case(
        "an object that computes a loss for somebody's training",
        """
class Wrapper:
    def __init__(self, weights):
        self.net = Net()
        self.net.load_state_dict(torch.load(weights))

    def loss(self, batch):
        return cross_entropy(self.net(batch[0]), batch[1])

    def features(self, x):
        return self.net(x)

    def parameters(self):
        return self.net.parameters()
""",
    ),
    Case(
        "a function on a model that the file trains",
        """
model = Net()
model.load_state_dict(torch.load("a"))
optimizer = torch.optim.Adam(model.parameters())


def scores(x):
    return model(x)
""",
    ),
    Case(
        "a teacher whose result is detached at once",
        """
def distil(args, loader):
    teacher, student = Net(), Net()
    teacher.load_state_dict(torch.load(args.teacher))
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    student.train()
    for x, y in loader:
        wanted = teacher(x).softmax(1).detach()  # BN205
        loss = cross_entropy(student(x), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
""",
    ),
    Case(
        "a generator whose samples are detached for the other network",
        """
def play(generator_weights, loader):
    generator, critic = Net(), Net()
    generator.load_state_dict(torch.load(generator_weights))
    one = torch.optim.Adam(generator.parameters())
    other = torch.optim.Adam(critic.parameters())
    for x, y in loader:
        loss = critic(generator(x).detach()).mean() - critic(x).mean()
        other.zero_grad()
        loss.backward()
        other.step()
        loss = -critic(generator(x)).mean()
        one.zero_grad()
        loss.backward()
        one.step()
""",
    ),
    Case(
        "a constructor that looks at shapes with made-up input",
        """
class Pair(nn.Module):
    def __init__(self, weights):
        super().__init__()
        self.one, self.other = Net(), Net()
        self.load_state_dict(torch.load(weights))
        with torch.no_grad():
            self.forward(torch.randn(2, 3, 8, 8))

    def forward(self, x):
        return self.other(self.one(x))
""",
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
    found = {(f.line, f.code) for f in lint_source(text) if f.code.startswith("BN20")}
    assert found == expected


def test_a_run_that_is_cut_short_knows_no_mode() -> None:
    body = "".join(f"        steps.append({number})\n" for number in range(6100))
    text = HEADER + (
        "def evaluate(model, loader, steps):\n"
        "    model.eval()\n"
        "    for x, y in loader:\n"
        "        model(x)\n"
        f"{body}"
        "    model.train()\n\n\n"
        "def main(loader, steps):\n"
        "    model = Net()\n"
        "    optimizer = torch.optim.Adam(model.parameters())\n"
        "    model.train()\n"
        "    for epoch in range(3):\n"
        "        for x, y in loader:\n"
        "            loss = cross_entropy(model(x), y)\n"
        "            loss.backward()\n"
        "            optimizer.step()\n"
        "        evaluate(model, loader, steps)\n"
    )
    assert [f for f in lint_source(text) if f.code == "BN202"] == []

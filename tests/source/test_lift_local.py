"""BN101 in networks that a function makes for itself; `# yes` marks the findings."""

from __future__ import annotations

import pytest

from bncheck.config import Settings
from bncheck.worker import lint_source

HEAD = "import argparse\nimport unknown\nfrom torch import nn\n"
CASES = {
    "in a script's main part": """
def main():
    options = argparse.ArgumentParser().parse_args()
    width = 8
    net = nn.Sequential(
        nn.Conv2d(3, width, 3),  # yes
        nn.BatchNorm2d(width),
        nn.Conv2d(width, width, 3),
    )
    for epoch in range(options.epochs):
        unknown.train(net, epoch)

main()
""",
    "from a list, inside another": """
def train(loader, width):
    layers = [nn.Linear(3, width), nn.BatchNorm1d(width)]  # yes
    net = nn.Sequential(nn.Sequential(*layers), nn.Linear(width, 1))
    for images in loader:
        unknown.step(net(images))
""",
    "in a method of no network": """
class TestTraining:
    def test_loss(self):
        from torch.nn import Sequential
        self.net = Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))  # yes
        assert unknown.loss(self.net) > 0
""",
    "changed afterwards": """
def main():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    net[1] = nn.Identity()
    unknown.train(net)
""",
    "without what is redundant": """
def main(bias):
    clean = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8))
    asked = nn.Sequential(nn.Conv2d(3, 8, 3, bias=bias), nn.BatchNorm2d(8))
    between = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.BatchNorm2d(8))
    unknown.train(clean, asked, between)
""",
    "before the code raises": """
def main():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))  # yes
    unknown.train(net)
    raise SystemExit
""",
}


@pytest.mark.parametrize("source", CASES.values(), ids=CASES)
def test_networks_of_a_function(source: str) -> None:
    text = HEAD + source
    findings = lint_source(text, settings=Settings(select=("BN101",)))
    wanted = [n for n, line in enumerate(text.split("\n"), 1) if "# yes" in line]
    assert [finding.line for finding in findings] == wanted

"""Where the fix of BN201 puts `eval()`, and `train()` after it."""

from __future__ import annotations

import pytest

from bncheck.config import Settings
from bncheck.fixing import fix

HEAD = """\
import torch
import torchvision

net = torchvision.models.resnet18()
"""

LOADED = HEAD + 'net.load_state_dict(torch.load("net.pt"))\n'

TRAINED = (
    HEAD
    + """\
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for epoch in range(10):
    for images, labels in train_loader:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()
"""
)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            LOADED + "with torch.no_grad():\n    for x in loader:\n        print(net(x))\n",
            LOADED
            + "net.eval()\nwith torch.no_grad():\n    for x in loader:\n        print(net(x))\n",
        ),
        (
            LOADED + "for other in [net]:\n    with torch.no_grad():\n        print(other(x))\n",
            LOADED
            + "for other in [net]:\n    other.eval()\n    with torch.no_grad():\n"
            + "        print(other(x))\n",
        ),
        (
            TRAINED + "    for x in test_loader:\n        print(net(x))\n",
            TRAINED
            + "    net.eval()\n    for x in test_loader:\n        print(net(x))\n    net.train()\n",
        ),
        (
            TRAINED.replace("    for images", "    net.train()\n    for images")
            + "    for x in test_loader:\n        print(net(x))\n",
            TRAINED.replace("    for images", "    net.train()\n    for images")
            + "    net.eval()\n    for x in test_loader:\n        print(net(x))\n",
        ),
        (
            LOADED + "with torch.no_grad():\n    torch.nn.parallel.data_parallel(net, x).sum()\n",
            None,
        ),
    ],
    ids=["before the blocks", "a name of the loop's", "and back", "back already", "no name"],
)
def test_where_eval_is_put(before: str, after: str | None) -> None:
    made = fix({"run.py": before.encode()}, Settings(select=("BN201", "BN202")), unsafe=True)
    assert made.sources["run.py"].decode() == (before if after is None else after)
    assert [finding.code for finding in made.report.findings] == ["BN201"] * (after is None)

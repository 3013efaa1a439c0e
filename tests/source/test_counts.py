"""The ways in which gradients of several batches are added up, and what only looks like them."""

import pytest

from bncheck.worker import lint_source

BEFORE = """
import torch
import torchvision
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader


def update(optimizer):
    optimizer.step()
    optimizer.zero_grad()


def train(dataset, epochs, scheduler, every=8):
    model = torchvision.models.resnet18()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loader = DataLoader(dataset, batch_size=2, shuffle=True)
    scaler = torch.amp.GradScaler()
    gathered = last = 0
    left = every
    for epoch in range(epochs):
        model.train()
        for i, (x, y) in enumerate(loader):
            loss = cross_entropy(model(x), y)
"""

ACCUMULATED = [
    """
            loss.backward()
            if (i + 1) % every == 0 or i + 1 == len(loader):
                optimizer.step()
""",
    """
            loss.backward()
            if not (i + 1) % every:
                optimizer.step()
""",
    """
            loss.backward()
            if (i + 1) % every != 0:
                continue
            optimizer.step()
""",
    """
            loss.backward()
            if (i + 1) % every:
                pass
            else:
                optimizer.step()
""",
    """
            enough = (i + 1) % every == 0
            scaler.scale(loss).backward()
            if enough or i + 1 == len(loader):
                scaler.step(optimizer)
""",
    """
            loss.backward()
            gathered += 1
            if gathered >= every:
                optimizer.step()
                gathered = 0
""",
    """
            loss.backward()
            left -= 1
            if left == 0:
                optimizer.step()
                left = every
""",
    """
            loss.backward()
            step = i + epoch * len(loader)
            if step - last >= every:
                optimizer.step()
                last = step
""",
    """
            loss.backward()
            if (i + 1) % every == 0:
                update(optimizer)
""",
]

EACH_BATCH = [
    """
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if (i + 1) % every == 0:
                scheduler.step()
""",
    """
            loss.backward()
            if (i + 1) % 1 == 0:
                optimizer.step()
""",
    """
            if i % every == 0:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
""",
    """
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if i % every == 0:
                cross_entropy(model(x), y).backward()
                update(optimizer)
""",
    """
            if i % every != 0:
                continue
            loss.backward()
            optimizer.step()
""",
]


def _accumulations(rest: str) -> list[str]:
    return [f.code for f in lint_source(BEFORE + rest.lstrip("\n")) if f.code == "BN303"]


@pytest.mark.parametrize("rest", ACCUMULATED)
def test_steps_that_wait_for_a_count_accumulate(rest: str) -> None:
    assert _accumulations(rest) == ["BN303"]


@pytest.mark.parametrize("rest", EACH_BATCH)
def test_steps_for_each_backward_pass_do_not(rest: str) -> None:
    assert _accumulations(rest) == []


def test_a_loop_that_runs_in_some_epochs_only_steps_for_each_batch() -> None:
    rest = """
            loss.backward()
            optimizer.step()
"""
    text = (BEFORE + rest.lstrip("\n")).replace(
        "        for i, (x, y) in enumerate(loader):\n",
        "        if epoch % 5 == 0:\n         for i, (x, y) in enumerate(loader):\n",
    )
    assert [f.code for f in lint_source(text) if f.code == "BN303"] == []

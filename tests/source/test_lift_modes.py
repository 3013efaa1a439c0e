"""BN101 before a BatchNorm that a network's own methods keep in eval mode, or do not."""

from __future__ import annotations

import pytest

from bncheck.config import Settings
from bncheck.worker import lint_source

HEAD = """
import torch.nn as nn

class Block(nn.Sequential):
    def __init__(self, inputs, outputs):
        super().__init__(nn.Conv2d(inputs, outputs, 3), nn.BatchNorm2d(outputs), nn.ReLU())

def freeze(module):
    if module.__class__.__name__.find("BatchNorm") != -1:
        module.eval()

class Net(nn.Module):
    def __init__(self, norm_eval=True, partly=False, levels=1):
        super().__init__()
        self.norm_eval, self.partly = norm_eval, partly
        self.levels = levels
        self.stem = Block(3, 8)
        self.body = nn.ModuleList([Block(8, 8), Block(8, 8)])
    def forward(self, x):
        x = self.stem(x)
        for block in self.body:
            x = block(x)
        return x
"""

IN_EVAL = {
    "all BatchNorms of a loop": """
    def train(self, mode=True):
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self
""",
    "torch's base class, under an option that is on": """
    def train(self, mode=True):
        super(Net, self).train(mode)
        if mode and self.norm_eval:
            for name, module in self.named_modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self
""",
    "a function for all modules": """
    def train(self, mode=True):
        super().train(mode)
        return self.apply(freeze)
""",
    "a method of its own, some of the blocks": """
    def freeze_stages(self):
        self.stem.eval()
        for block in self.body[: self.levels]:
            block.train(False)
    def train(self, mode=True):
        super().train(mode)
        self.freeze_stages()
        return self
""",
    "all but the first": """
    def train(self, mode=True):
        super().train(mode)
        count = 0
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                count += 1
                if count >= 2:
                    module.eval()
        return self
""",
    "a network around it": """
class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = Net()
        self.head = nn.Linear(8, 2)
    def forward(self, x):
        return self.head(self.backbone(x).mean((2, 3)))
    def train(self, mode=True):
        super().train(mode)
        self.backbone.eval()
        return self
""",
    "a part that no forward reaches": """
    def forward(self, x):
        return x.relu()
    def train(self, mode=True):
        super().train(mode)
        for block in (self.stem, *self.body):
            block.eval()
        return self
""",
    "nothing that is known": """
    def train(self, mode=True):
        super().train(mode)
        if frozen_by_settings():
            self.eval_norms()
        return self
    def eval_norms(self):
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
""",
    "in the forward": """
    def forward(self, x):
        for block in self.body:
            block[1].eval()
            x = block(x)
        return x
""",
}

IN_TRAINING = {
    "an option that is off": """
    def train(self, mode=True):
        super().train(mode)
        if self.partly:
            self.stem.eval()
        return self
""",
    "a part without a BatchNorm": """
    def train(self, mode=True):
        super().train(mode)
        self.stem[2].eval()
        return self
""",
    "every part in its turn": """
    def train(self, mode=True):
        self.training = mode
        for module in self.children():
            module.train(mode)
        return self
""",
    "eval, and train again": """
    def train(self, mode=True):
        self.eval()
        return super().train(mode)
""",
    "a method that trains": """
    def train(self, epochs=10):
        for epoch in range(epochs):
            self.stem.eval()
""",
    "in the constructor": """
class Part(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = Net().eval()
    def forward(self, x):
        return self.net(x)
""",
}


def found(methods: str) -> int:
    return len(lint_source(HEAD + methods, settings=Settings(select=("BN101",))))


@pytest.mark.parametrize("name", IN_EVAL)
def test_a_norm_in_eval_mode_uses_no_batch(name: str) -> None:
    assert found(IN_EVAL[name]) == 0


@pytest.mark.parametrize("name", IN_TRAINING)
def test_a_norm_in_train_mode_subtracts_the_bias(name: str) -> None:
    assert found(IN_TRAINING[name]) == 1


def test_statistics_that_are_not_kept_are_those_of_the_batch() -> None:
    source = HEAD + IN_EVAL["all BatchNorms of a loop"]
    assert not lint_source(source, settings=Settings(select=("BN101",)))
    own = source.replace("BatchNorm2d(outputs)", "BatchNorm2d(outputs, track_running_stats=False)")
    assert lint_source(own, settings=Settings(select=("BN101",)))

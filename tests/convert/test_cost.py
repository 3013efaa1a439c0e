"""What a fold runs, computes and holds: the reasons why it costs what it does."""

from __future__ import annotations

import subprocess
import sys
import weakref
from collections import Counter

import torch
from torch import fx, nn

from bncheck.convert.fold import fold
from bncheck.convert.plan import Plan


def network() -> nn.Module:
    torch.manual_seed(0)
    blocks = [nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU()) for _ in range(4)]
    return nn.Sequential(*blocks).eval()


def test_the_models_run_seven_times(monkeypatch):
    runs: Counter[tuple[int, torch.dtype]] = Counter()
    forward = nn.Conv2d.forward

    def counted(layer, x):
        if not isinstance(x, fx.Proxy):
            runs[layer.padding_mode, x.dtype] += 1
        return forward(layer, x)

    monkeypatch.setattr(nn.Conv2d, "forward", counted)
    model = network()
    model[0][0].padding_mode = "reflect"  # one layer to count, in the copy as well
    result = fold(model, torch.randn(1, 8, 12, 12))
    assert len(result.steps) == 4
    assert result.verification.passed
    # The model and its trace, what it was rewritten to; then both, as they are and in float64.
    assert runs["reflect", torch.float32] == 5
    assert runs["reflect", torch.float64] == 2


def test_exact_values_are_computed_twice_a_layer_and_held_for_one(monkeypatch):
    alive: list[weakref.ref[torch.Tensor]] = []
    exact = Plan.exact

    def watched(plan, node):
        assert not any(ref() is not None for ref in alive)
        found = exact(plan, node)
        alive.append(weakref.ref(found[0]))
        return found

    monkeypatch.setattr(Plan, "exact", watched)
    result = fold(network(), torch.randn(1, 8, 12, 12))
    assert result.verification.exact_with == "exact values"
    assert len(alive) == 2 * len(result.steps)


def test_a_fold_does_not_load_the_compiler():
    program = (
        "import sys, torch\nfrom torch import nn\nfrom bncheck.convert.fold import fold\n"
        "model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()\n"
        "assert fold(model, torch.randn(1, 3, 8, 8)).verification.passed\n"
        "print('torch._dynamo' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["False"]

"""Models on a GPU are folded there, as far as a machine without one can tell."""

import pytest

pytest.importorskip("torch")

import torch
from observe import outputs
from pretended_gpu import pretended_gpu

from bncheck.convert.fold import fold
from fixtures.models import adversarial, around

NAMES = [
    "no convolution bias",
    "BatchNorm of a BatchNorm",
    "identity branch beside convolutions",
    "a constant added between",
    "pixel shuffle",
    "dictionary output",
    "sum of two calls of one convolution",
    "weight norm, baked",
    "float16",
    "compiled",
    "ConvMixer's block",
    "a BatchNorm before zero padding, its shift into the residual",
]
CASES = {case.name: case for case in (*adversarial.CASES, *around.CASES)}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore")
def test_no_operation_mixes_devices(name):
    case = CASES[name]
    on_cpu = fold(case.model(), case.inputs(1), verify=False, **case.options)
    with pretended_gpu() as gpu:
        model = case.model()
        gpu.put([*model.parameters(), *model.buffers()])
        result = fold(model, gpu.put(case.inputs(1)), **case.options)
        for tensor in (*result.model.parameters(), *result.model.buffers()):
            assert gpu.holds(tensor)
            assert str(tensor.device) == "cuda:0"
    assert result.verification.passed, result.verification
    assert [(s.batch_norm, s.how) for s in result.steps] == [
        (s.batch_norm, s.how) for s in on_cpu.steps
    ]
    x = case.inputs(2)
    for one, other in zip(outputs(on_cpu.model, x), outputs(result.model, x), strict=True):
        assert torch.equal(one, other)


def test_the_pretended_gpu_refuses_what_one_would():
    with pretended_gpu() as gpu:
        there, here = gpu.put(torch.ones(3)), torch.ones(3)
        with pytest.raises(RuntimeError, match="same device"):
            there + here
        assert gpu.holds(there * 2)
        assert gpu.holds(here.to(there.device))
        assert not gpu.holds(there.cpu() + here)

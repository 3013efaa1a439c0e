"""Traces of the adversarial networks: what goes from a module goes from its trace."""

import io

import pytest

pytest.importorskip("torch")

import torch
from observe import difference, operations, outputs

from bncheck.convert.torchscript import fold_torchscript
from fixtures.models import adversarial, around, averaged, largest, mixtures, products

ROUNDING = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.02}
"""Where the verdict is not float64's, which the verification has given."""

CASES = {
    case.name: case
    for cases in (adversarial, around, averaged, largest, products, mixtures)
    for case in cases.CASES
    if not case.error
}

SEEN_OTHERWISE = {
    "one convolution, two BatchNorms, copies allowed": 0,  # both calls become one
    "two parameters that share storage": 0,  # an archive does not tell this from a tied one
    "a deep copy that shares storage, without its BatchNorm": 0,
    "control flow on values": 2,  # a trace has taken one way
    "control flow on the batch size": 1,
    "control flow on the spatial size": 1,
    "control flow on the batch size, without a layer for the BatchNorm": 1,
    "untraceable whole that also reads a BatchNorm's weight": 1,
    "forward hook that only looks": 1,  # a trace has no hooks
    "ConvMixer's block with a hook on the residual": 1,
    "tensor subclass": 1,  # and plain tensors
}
"""How many BatchNorms go where that is not what a module can do."""

NOT_FOLDED = {
    "one BatchNorm in train mode": "train mode",
    "quantized": "not understood",
}
OPTIONS = {"bake_parametrizations", "duplicate_shared", "partial"}


@pytest.mark.parametrize("name", CASES, ids=lambda name: name.replace(" ", "-"))
@pytest.mark.filterwarnings("ignore")
def test_trace(name):
    case = CASES[name]
    model, arguments = case.model(), case.inputs(1)
    if case.keywords or case.batch == 0:
        pytest.skip("a trace has no keywords")
    try:
        module = stored(torch.jit.trace(model, arguments, check_trace=False, strict=False))
    except Exception as problem:
        pytest.skip(f"torch.jit does not trace or store it: {type(problem).__name__}")
    options = {name: value for name, value in case.options.items() if name in OPTIONS}
    if name in NOT_FOLDED:
        with pytest.raises(Exception, match=NOT_FOLDED[name]):
            fold_torchscript(module, arguments, **options)
        return

    result = fold_torchscript(module, arguments, **options)

    assert result.verification.passed, result.verification
    for seed in (1, 2):
        x = case.inputs(seed)
        wanted, found = outputs(module, x), outputs(result.model, x)
        assert difference(wanted, found) <= max(ROUNDING.get(one.dtype, 1e-9) for one in wanted)
    removed = operations(module, arguments).batch_norms
    removed -= operations(result.model, arguments).batch_norms
    assert removed == SEEN_OTHERWISE.get(name, case.folded), result.refusals


def stored(module):
    return torch.jit.load(io.BytesIO(module.save_to_buffer()))

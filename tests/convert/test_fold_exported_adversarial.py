"""Exported programs of the adversarial networks: they fold, stay programs, and load again."""

import io

import pytest

pytest.importorskip("torch")

import torch
from observe import difference, operations, outputs
from test_adversarial import CASES

from bncheck.convert.fold import fold_exported

NAMES = {
    "no convolution bias": 1,
    "no affine parameters": 1,
    "pixel shuffle": 1,
    "BatchNorm of a BatchNorm": 2,
    "BatchNorm's statistics returned": 1,
    "dictionary output": 1,
    "channels permuted by index": 1,
    "channels in an order that was computed": 0,
    "channels in an order of numbers": 1,
    "BatchNorm as one of three results": 1,
    "pieces stacked": 1,
    "zeros in a mean": 1,
    "largest values, by max": 1,
    "pooling whose places are used again": 1,
    "pooling whose places are used again, negative scales": 0,
    "the max of two halves": 1,
    "a maximum of one element, in rows of any length": 1,
    "shape of the tensor itself": 1,
    "a parameter concatenated behind": 1,
    "identity branch beside a transposed convolution": 1,
    "pair called twice in a row": 2,
    "identity branch beside convolutions": 3,
    "shared convolution, BatchNorm on one path": 0,
    "in-place activation on the convolution's output": 0,
    "two convolutions sharing one parameter, one normalised": 0,
    "linear, then BatchNorm over positions": 0,
}
"""BatchNorm applications that must be gone, by the case."""


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore")
def test_exported_program(name):
    case = next(case for case in CASES if case.name == name)
    model, arguments = case.model(), case.inputs(1)
    program = torch.export.export(model, arguments, strict=False)

    folded = fold_exported(program, arguments).model

    stored = io.BytesIO()
    torch.export.save(folded, stored)
    stored.seek(0)
    again = torch.export.load(stored).module()
    for seed in (1, 2):
        x = case.inputs(seed)
        assert difference(outputs(model, x), outputs(again, x)) <= 1e-9
    removed = operations(model, arguments).batch_norms - operations(again, arguments).batch_norms
    assert removed == NAMES[name]

"""The three networks of the BatchNorm note fold completely, and so agree."""

import pytest

pytest.importorskip("torch")

import torch
from observe import assert_untouched, difference, operations, outputs, snapshot

from bncheck.convert.fold import fold
from fixtures.models.adversarial import randomise
from fixtures.models.note import ConvBNReLU, ImageClassifier, ResNetBlock

NETWORKS = {
    "ConvBNReLU": (lambda: ConvBNReLU(3, 8), (3, 8, 8), 1),
    "ResNetBlock": (lambda: ResNetBlock(4, 4), (4, 8, 8), 2),
    "ResNetBlock, projected": (lambda: ResNetBlock(4, 8, stride=2), (4, 8, 8), 3),
    "ImageClassifier": (lambda: ImageClassifier(width=8), (3, 16, 16), 5),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_note_folds_completely(name):
    build, shape, norms = NETWORKS[name]
    torch.manual_seed(0)
    model = build().eval()
    randomise(model)
    model.double()
    before = snapshot(model)
    example = torch.randn(2, *shape, dtype=torch.float64)

    result = fold(model, example)

    assert_untouched(before, model)
    assert type(result.model) is type(model)
    assert not result.refusals
    assert result.verification is not None
    assert result.verification.passed
    assert operations(model, (example,)).batch_norms == norms
    assert operations(result.model, (example,)).batch_norms == 0
    for factor in (1, -2):
        x = torch.randn(3, *shape, dtype=torch.float64) * factor
        assert difference(outputs(model, (x,)), outputs(result.model, (x,))) < 1e-9

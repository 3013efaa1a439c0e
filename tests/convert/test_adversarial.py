"""Networks on which folding goes wrong silently: each with exactly what must happen."""

import re
import warnings

import pytest

pytest.importorskip("torch")

import torch
from observe import assert_untouched, difference, operations, outputs, snapshot

import bncheck
from bncheck.convert.fold import fold
from fixtures.models import (
    adversarial,
    around,
    averaged,
    beside,
    constants,
    largest,
    like_another,
    mixed_operands,
    mixtures,
    pieces,
    products,
    recorded,
    sentences,
    several_uses,
    whole_slices,
)
from fixtures.models.situations import SITUATIONS

SETS = (adversarial, recorded, around, several_uses, beside, like_another, mixed_operands,
        whole_slices, constants,
        averaged, pieces, sentences, largest, products,
        mixtures)  # fmt: skip
CASES = [case for cases in SETS for case in cases.CASES]

ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.02}
"""What a right fold may differ by from the original in that dtype, relative to the output's
largest value; the scales here reach a hundred, so that half precision is coarse. Nothing is
judged by these in float32 and below that float64 does not judge first."""


@pytest.mark.parametrize("situation", SITUATIONS)
def test_every_situation_has_networks(situation):
    names = [case.name for case in CASES]
    assert SITUATIONS[situation]
    assert all(names.count(name) == 1 for name in SITUATIONS[situation])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
@pytest.mark.filterwarnings("ignore")
def test_adversarial(case):
    model = case.model()
    before = snapshot(model)
    arguments, keywords = call(case, 1)
    if case.error:
        with pytest.raises(bncheck.BNCheckError, match=f"(?i){case.error}") as raised:
            fold(model, arguments, keywords, **case.options)
        assert "\n" not in str(raised.value).strip()
        assert_untouched(before, model)
        return

    result = fold(model, arguments, keywords, **case.options)

    assert_untouched(before, model)
    assert_same(case, model, result.model)
    arguments, keywords = call(case, 1, case.batch or 2)
    original = operations(model, arguments, keywords)
    folded = operations(result.model, arguments, keywords)
    removed = original.batch_norms - folded.batch_norms
    reasons = {refusal.batch_norm: refusal.reason for refusal in result.refusals}
    assert removed == case.folded, (removed, result.steps, reasons)
    assert reasons or not folded.batch_norms
    assert folded.computing <= original.computing - removed - case.fewer_operations, (
        original.counts,
        folded.counts,
    )
    if case.refused:
        assert any(re.search(case.refused, reason, re.IGNORECASE) for reason in reasons.values()), (
            reasons
        )


EVERYTHING = {"partial": True, "duplicate_shared": True, "bake_parametrizations": True}


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if not case.error],
    ids=lambda case: case.name.replace(" ", "-"),
)
@pytest.mark.filterwarnings("ignore")
def test_nothing_wrong_with_every_option(case):
    model = case.model()
    before = snapshot(model)
    arguments, keywords = call(case, 1)

    result = fold(model, arguments, keywords, verify=False, **EVERYTHING)

    assert_untouched(before, model)
    assert_same(case, model, result.model)


def call(case, seed, batch=None, shapes=None):
    inputs = case.inputs(seed, batch, shapes)
    return ((), dict(zip(case.keywords, inputs, strict=True))) if case.keywords else (inputs, None)


def assert_same(case, model, folded):
    """Compare on the example, on other values and signs, and with another batch size."""
    bound = 0.1 if "autocast" in case.name else ROUNDING.get(case.dtype, 1e-3)
    tried = [(1, 1, None), (2, 1, None), (3, -1, None), (4, 3, None), (5, 1, 3)]
    sizes = [(*one, None) for one in tried] + [(6, 1, None, other) for other in case.other_shapes]
    for seed, sign, batch, shapes in sizes:
        arguments, keywords = call(case, seed, batch, shapes)
        arguments = tuple(argument * sign for argument in arguments)
        expected = outputs(model, arguments, keywords)
        try:
            actual = outputs(folded, arguments, keywords)
        except Exception:
            # A graph of fixed shapes may refuse another batch; it may not compute it wrongly.
            assert shapes or batch not in (None, case.batch)
            warnings.warn(f"{case.name}: no other size", stacklevel=1)
            continue
        assert difference(expected, actual) <= bound, (seed, difference(expected, actual))

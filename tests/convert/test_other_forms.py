"""Random networks as exported programs, as TorchScript, and with operations in place."""

import io

import pytest

pytest.importorskip("torch")

import networks
import torch
from hypothesis import HealthCheck, assume, given, seed, settings
from in_place import IN_PLACE, on_what_was_computed
from observe import assert_untouched, difference, outputs, snapshot

from bncheck.convert.fold import fold, fold_exported
from bncheck.convert.torchscript import fold_torchscript

drawn = settings(
    max_examples=25, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


@drawn
@seed(1)
@given(network=networks.networks(more=True, products=True))
@pytest.mark.filterwarnings("ignore")
def test_every_form_loses_as_many(network):
    model, x = network.model(), network.input(0)
    steps = fold(model, (x,), verify=False).steps
    program = fold_exported(torch.export.export(model, (x,), strict=False), verify=False)
    script = fold_torchscript(reloaded(torch.jit.trace(model, (x,))), (x,), verify=False)
    for form, folded in ((program, program.model.module()), (script, script.model)):
        assert len(form.steps) >= len(steps), form.refusals
        for number in (0, 1):
            x = network.input(number)
            assert difference(outputs(model, (x,)), outputs(folded, (x,))) <= 1e-8


def reloaded(script):
    """Return a module without the memory of what it was traced from."""
    buffer = io.BytesIO()
    torch.jit.save(script, buffer)
    buffer.seek(0)
    return torch.jit.load(buffer)


@drawn
@seed(2)
@given(network=networks.networks(more=True, products=True))
@pytest.mark.filterwarnings("ignore")
def test_what_is_written_over_is_never_wrong(network):
    with pytest.MonkeyPatch.context() as patch:
        for kind in IN_PLACE:
            patch.setitem(networks.OPERATIONS, kind, on_what_was_computed(kind))
        model, x = network.model(), network.input(0)
        try:
            outputs(model, (x,))
        except RuntimeError:  # a write to a tensor of which several elements share memory
            assume(False)
        before = snapshot(model)
        result = fold(model, (x,), verify=False)
        assert_untouched(before, model)
        for number, factor in enumerate((1, 3, -1)):
            x = network.input(number) * factor
            assert difference(outputs(model, (x,)), outputs(result.model, (x,))) <= 1e-8


OPTIONS = [
    {"duplicate_shared": True},
    {"keep_class": True},
    {"partial": True},
    {"partial": True, "duplicate_shared": True},
]


@drawn
@seed(3)
@given(network=networks.networks(more=True, products=True))
@pytest.mark.filterwarnings("ignore")
def test_every_option_passes_its_verification(network):
    model, x = network.model(), network.input(0)
    for options in OPTIONS:
        result = fold(model, (x,), **options)
        assert result.verification.passed, (options, result.verification)
        other = network.input(1)
        assert difference(outputs(model, (other,)), outputs(result.model, (other,))) <= 1e-8

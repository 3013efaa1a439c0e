"""Folds the BatchNorms of a TorchScript module; the result is one too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch

from bncheck.convert.carry_out import carry_out_script
from bncheck.convert.exact import exact_parameters
from bncheck.convert.fold import FoldResult, result_of, unchanged
from bncheck.convert.outcome import Refusal
from bncheck.convert.plan import FoldOptions
from bncheck.convert.planner import make_plan
from bncheck.convert.state import left_as_it_was, restore
from bncheck.errors import BNCheckError
from bncheck.model.trace_script import trace_script
from bncheck.verification.compare import as_arguments
from bncheck.verification.compare import verify as compare
from bncheck.verification.inputs import draw


def fold_torchscript(
    module: Any,
    example_inputs: Any,
    example_kwargs: Mapping[str, Any] | None = None,
    *,
    verify: bool = True,
    partial: bool = False,
    bake_parametrizations: bool = False,
    duplicate_shared: bool = False,
) -> FoldResult:
    """Return a copy of a `ScriptModule` without each BatchNorm that can be folded exactly.

    Parameters keep their names. A layer that had no bias gets one as a parameter of the root,
    named after the layer. The module given is left as it was.

    Raises BNCheckError where there is no BatchNorm, one is in train mode, or the module does not
    run on the inputs.
    """
    options = FoldOptions(bake_parametrizations, duplicate_shared, partial=partial)
    _require_eval(module)
    with left_as_it_was(module) as before:
        inputs = draw(as_arguments(example_inputs), torch.Generator().manual_seed(0))
        keywords = draw(dict(example_kwargs or {}), torch.Generator().manual_seed(1))
        traced, hidden = trace_script(module, inputs, keywords)
        plan = make_plan(traced, options)
        if not plan.batch_norms and not hidden:
            raise BNCheckError(
                "the TorchScript archive holds no BatchNorm, so there is nothing to fold"
            )
        plan, rewritten = carry_out_script(plan, module, (inputs, keywords))
        folded = rewritten.module
        kept = unchanged(before, {"": plan})
        restore(module, before)
        restore(folded, kept)
        verification = None
        if verify:
            exact = {} if rewritten.nameless else exact_parameters([plan], rewritten.tensors)
            verification = compare(module, folded, inputs, keywords, exact=exact)
            restore(folded, kept)
    result = result_of(plan, folded)
    notes = (*result.notes, *_notes_on_names(module, rewritten.tensors))
    stay = (Refusal(name, "it runs under a condition or in a loop") for name in hidden)
    refusals = (*result.refusals, *stay)
    return replace(result, refusals=refusals, verification=verification, notes=notes)


def _notes_on_names(module: Any, tensors: Mapping[str, torch.Tensor]) -> Iterator[str]:
    """Say which names are new, as those of biases that traced layers had no place for."""
    places = {path for path, _ in module.named_modules()}
    new = [name for name in tensors if name.rpartition(".")[0] not in places]
    if new:
        more = f" and {len(new) - 3} more" if len(new) > 3 else ""
        yield f"parameters that layers had no place for: {', '.join(new[:3])}{more}"


def _require_eval(module: Any) -> None:
    """Raise BNCheckError for a BatchNorm in train mode, which the rewritten graph would not be."""
    for name, part in module.named_modules():
        if "running_mean" in dict(part.named_buffers(recurse=False)) and part.training:
            raise BNCheckError(f"{name or 'the module'} is in train mode: call eval() first")

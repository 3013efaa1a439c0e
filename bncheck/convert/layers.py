"""Replaces the BatchNorm layers of a model by other layers, one for one, in a copy of it."""

from __future__ import annotations

import copy
from collections.abc import Callable

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from bncheck.convert.outcome import Refusal, Step
from bncheck.errors import BNCheckError

Replace = Callable[[_BatchNorm], nn.Module]


def replace_batch_norms(
    model: nn.Module, replace: Replace, refuse: Callable[[_BatchNorm], str], how: str
) -> tuple[nn.Module, tuple[Step, ...], tuple[Refusal, ...]]:
    """Return a copy with each BatchNorm replaced, but for those that `refuse` has a reason for.

    A layer that is registered in several places is replaced by one layer in all of them.
    Raises BNCheckError where there is no BatchNorm, or the model cannot be copied.
    """
    try:
        converted = copy.deepcopy(model)
    except Exception as problem:
        lines = str(problem).strip().splitlines() or [type(problem).__name__]
        raise BNCheckError(f"the model cannot be copied: {lines[0]}") from problem
    steps: list[Step] = []
    refusals: list[Refusal] = []
    for name, module in list(converted.named_modules()):
        if not isinstance(module, _BatchNorm):
            continue
        reason = _does_more(module) or refuse(module)
        if reason:
            refusals.append(Refusal(name, reason))
            continue
        layer = replace(module)
        steps.append(Step(name, f"{type(layer).__module__}.{type(layer).__qualname__}", how))
        if module is converted:
            converted = layer
            break
        for parent in list(converted.modules()):
            for key, child in parent._modules.items():
                if child is module:
                    parent._modules[key] = layer
    if not steps and not refusals:
        raise BNCheckError(f"{type(model).__name__} holds no BatchNorm, so there is nothing to do")
    return converted, tuple(steps), tuple(refusals)


def _does_more(norm: _BatchNorm) -> str:
    """Say what a BatchNorm does beside normalising, which a replacement would drop; or nothing."""
    kind = type(norm)
    own = next(c for c in kind.__mro__ if c.__module__.startswith("torch.nn.modules."))
    added = [
        name
        for base in kind.__mro__[: kind.__mro__.index(own)]
        for name, value in vars(base).items()
        if callable(value) and name in vars(nn.Module) | vars(_BatchNorm) and name != "__init__"
    ]
    if added:
        return f"{kind.__qualname__} changes {', '.join(added)} of {own.__qualname__}"
    if norm._modules:
        return f"{kind.__qualname__} holds layers of its own ({', '.join(norm._modules)})"
    hooks = (
        norm._forward_hooks,
        norm._forward_pre_hooks,
        norm._backward_hooks,
        norm._backward_pre_hooks,
    )
    if any(hooks):
        return "it has hooks, which would be lost"
    return ""

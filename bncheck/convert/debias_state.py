"""Moves biases of a state dict into the running means that follow, for pairs that are named."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from bncheck.convert.files import Outcome, device_note
from bncheck.convert.names import Names
from bncheck.convert.outcome import Conversion, Step
from bncheck.errors import BNCheckError
from bncheck.model.checkpoints import PREFIXES, open_checkpoint
from bncheck.model.kinds import Kind, container_kind
from bncheck.model.load import Loaded
from bncheck.model.save import require_name, save_state_dict

MOVED = "its running mean is less by the bias"
"""What is said of a BatchNorm that took up a bias."""


def exact_difference(running_mean: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Return, in float64, the running mean of what a layer computes without its bias.

    BatchNorm gives `(x + bias - mean) / std`, which is `(x - (mean - bias)) / std`. Both tensors
    have shape (channels,); the result is rounded once, to the dtype of `running_mean`.
    """
    return running_mean.detach().double() - bias.detach().double().to(running_mean.device)


def debias_state_dict(
    state: Mapping[str, Any], pairs: Sequence[tuple[str, str]]
) -> tuple[Any, tuple[Step, ...]]:
    """Return a state dict without the biases of the layers named, and what was done.

    Each pair names a layer and the BatchNorm that alone reads its output, as the state dict does
    (`layer1.0.conv1`, `layer1.0.bn1`). A layer applied several times has a pair for each of its
    BatchNorms. The result is of the type of `state`, which is left as it was, and shares the
    tensors that do not change.

    Raises BNCheckError where a name is not in the state dict, where a layer has no bias or a
    BatchNorm no running mean, where their channels differ, and where a BatchNorm is named twice.
    """
    changed: Any = copy.copy(state)  # with the `_metadata` that torch gives a state dict
    by_layer: dict[str, list[str]] = {}
    used: set[str] = set()
    for layer, batch_norm in pairs:
        if batch_norm in used:
            raise BNCheckError(
                f"{batch_norm} is named in two pairs; its running mean can follow one layer only"
            )
        used.add(batch_norm)
        by_layer.setdefault(layer, []).append(batch_norm)
    steps = []
    for layer, batch_norms in by_layer.items():
        bias = _tensor(state, layer, "bias")
        if not _has_computed_weight(state, layer) and _tensor(state, layer, "weight").dim() < 2:
            raise BNCheckError(
                f"{layer} is not a convolution or linear layer; name the layer before the BatchNorm"
            )
        for batch_norm in batch_norms:
            mean = _tensor(state, batch_norm, "running_mean")
            if mean.shape != bias.shape:
                raise BNCheckError(
                    f"{layer} has {bias.numel()} output channels and {batch_norm} has "
                    f"{mean.numel()}; they cannot follow one another"
                )
            changed[f"{batch_norm}.running_mean"] = exact_difference(mean, bias).to(mean.dtype)
        del changed[f"{layer}.bias"]
        steps += [Step(batch_norm, layer, MOVED) for batch_norm in batch_norms]
    return changed, tuple(steps)


def _has_computed_weight(state: Mapping[str, Any], layer: str) -> bool:
    """Tell whether weight norm or the like keeps a layer's weight in parts."""
    parts = (f"{layer}.weight_", f"{layer}.parametrizations.weight.")
    return any(name.startswith(parts) for name in state)


def _tensor(state: Mapping[str, Any], owner: str, role: str) -> torch.Tensor:
    value = state.get(f"{owner}.{role}")
    if not isinstance(value, torch.Tensor):
        if any(name.startswith(f"{owner}.") for name in state):
            raise BNCheckError(f"{owner} has no {role} in the state dict")
        close = [n.rpartition(".")[0] for n in state if n.endswith(f"{owner}.{role}")]
        advice = f"; did you mean {close[0]}?" if close else ""
        raise BNCheckError(f"the state dict has nothing named {owner}{advice}")
    if not value.is_floating_point():
        raise BNCheckError(
            f"the {role} of {owner} is {str(value.dtype).removeprefix('torch.')}; only floating "
            "point tensors can be debiased"
        )
    if not bool(torch.isfinite(value).all()):
        raise BNCheckError(f"the {role} of {owner} holds NaN or infinity; mend it first")
    return value


def debias_state_file(
    path: Path, output: Path | None, pairs: Sequence[tuple[str, str]], trust: Sequence[str] = ()
) -> Outcome:
    """Do the same to a file; with `output` None nothing is written.

    The state dict may be an entry of a checkpoint, whose other content is kept. Names may leave
    out the `module.` that a wrapper put before all of them.

    Raises BNCheckError for a file that is missing, damaged or not a state dict, too.
    """
    if not path.exists():
        raise BNCheckError(f"{path} does not exist")
    kind = container_kind(path)
    if kind not in (None, Kind.SAFETENSORS):
        raise BNCheckError(f"{path} is {kind.one}; pairs can be given for a state dict only")
    checkpoint = open_checkpoint(path, kind, trust)
    state = checkpoint.content
    if isinstance(state, torch.nn.Module):
        raise BNCheckError(f"{path} is {Kind.MODULE.one}; its pairs are found without --pairs")
    changed, steps = debias_state_dict(state, _prefixed(state, pairs))
    loaded = Loaded(path, kind or Kind.STATE_DICT, None, checkpoint=checkpoint)
    if output is not None:
        require_name(output, loaded.kind)
        save_state_dict(changed, loaded, output)
    unverified = "nothing was verified, since there is no model to run; give --arch for that"
    return Outcome(
        loaded=loaded,
        result=Conversion(None, steps, (), None),
        notes=tuple(filter(None, (device_note(loaded), unverified))),
        written=output,
        parameters=(_count(state), _count(changed)),
        file_sizes=(path.stat().st_size, output.stat().st_size if output else None),
        seconds=None,
        names=Names(gone=tuple(name for name in state if name not in changed)),
    )


def _prefixed(
    state: Mapping[str, Any], pairs: Sequence[tuple[str, str]]
) -> Sequence[tuple[str, str]]:
    for prefix in ("", *PREFIXES):
        names = [(prefix + layer, prefix + batch_norm) for layer, batch_norm in pairs]
        if all(f"{layer}.bias" in state for layer, _ in names):
            return names
    return pairs


def _count(state: Mapping[str, Any]) -> int:
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    return sum(
        value.numel()
        for name, value in state.items()
        if isinstance(value, torch.Tensor) and not name.endswith(statistics)
    )

"""State dicts and modules inside what people save around them.

Checkpoints hold a state dict under `state_dict` or `model` beside an epoch and an optimizer, and
its names begin with `module.` where the model was wrapped when it was saved. The model is taken
out, and put back in the same wrapping.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from bncheck.convert.remove import remove_folded
from bncheck.errors import BNCheckError
from bncheck.model.kinds import Kind
from bncheck.model.pickles import load_pickle

ENTRIES = [
    "state_dict",
    "model",
    "model_state_dict",
    "state_dict_ema",
    "model_ema",
    "ema",
    "net",
    "network",
    "params",
    "weights",
    "generator",
    "backbone",
]
"""Keys of a checkpoint that hold a model, most likely first, as timm, torchvision, Lightning and
others write them."""

PREFIXES = ("module.", "_orig_mod.", "model.")
"""What DataParallel, torch.compile and Lightning put before each name."""


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint file."""

    content: Any
    """A module, or the tensors of a state dict by the names that the model has for them."""
    around: Any = None
    """The dict that `content` was an entry of; None if it was the whole file."""
    entry: str = ""
    prefix: str = ""
    """What each name in the file begins with, and the model's names do not."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """The metadata of a safetensors file."""
    devices: frozenset[str] = frozenset()
    """Where the tensors were when they were saved."""

    def wrapped(self, content: Any) -> Any:
        """Return what to save for a changed model or state dict."""
        if not isinstance(content, nn.Module) and self.prefix:
            metadata = getattr(content, "_metadata", None)
            content = type(content)((self.prefix + name, v) for name, v in content.items())
            if metadata is not None:
                content._metadata = metadata
        if self.around is None:
            return content
        changed = type(self.around)(self.around)
        changed[self.entry] = content
        return changed


def open_checkpoint(path: Path, kind: Kind | None, trust: Sequence[str]) -> Checkpoint:
    """Read a torch pickle or safetensors file and find the model or state dict in it."""
    if kind is Kind.SAFETENSORS:
        return _open_safetensors(path)
    whole, saved_on = load_pickle(path, trust)
    devices = frozenset(saved_on)
    if isinstance(whole, nn.Module) or _is_state_dict(whole):
        return Checkpoint(whole, devices=devices)
    if isinstance(whole, Mapping):
        for entry in ENTRIES:
            if isinstance(whole.get(entry), nn.Module) or _is_state_dict(whole.get(entry)):
                return Checkpoint(whole[entry], around=whole, entry=entry, devices=devices)
        keys = ", ".join(str(key) for key in list(whole)[:8])
        content = f"it has {keys}" if keys else "it is empty"
        raise BNCheckError(f"{path} is a dict without a model or state dict in it ({content})")
    raise BNCheckError(f"{path} holds a {type(whole).__name__}, not a model or state dict")


def _open_safetensors(path: Path) -> Checkpoint:
    try:
        from safetensors import SafetensorError, safe_open
    except ModuleNotFoundError:
        raise BNCheckError(
            f"{path} is a safetensors file; install safetensors to read it"
        ) from None
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return Checkpoint(tensors, metadata=file.metadata() or {})
    except SafetensorError as problem:
        raise BNCheckError(f"{path} is a damaged safetensors file: {problem}") from problem


def _is_state_dict(value: Any) -> bool:
    """Tell whether this maps names to tensors; `get_extra_state` may add a few other values."""
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(key, str) for key in value)
        and sum(isinstance(item, Tensor) for item in value.values()) * 2 > len(value)
    )


def load_into(
    model: nn.Module, checkpoint: Checkpoint, path: Path, architecture: str
) -> tuple[nn.Module, Checkpoint]:
    """Load a state dict into the model that it belongs to, folded as it was itself.

    The tensors keep the dtype that they have in the file.
    """
    prefix, state = _without_prefix(checkpoint.content, set(model.state_dict()))
    missing, unexpected = _differences(model, state)
    if missing:
        with suppress(BNCheckError):  # where it is not for want of a fold, the names say more
            folded = remove_folded(model, state)
            if not any(_differences(folded, state)):
                model, missing, unexpected = folded, [], []
    if missing or unexpected:
        reasons = [f"the file lacks {_some(missing)}"] if missing else []
        reasons += [f"the model has no place for {_some(unexpected)}"] if unexpected else []
        raise BNCheckError(f"{path} does not fit --arch {architecture}: {' and '.join(reasons)}")
    dtypes = {t.dtype for t in state.values() if isinstance(t, Tensor) and t.is_floating_point()}
    if len(dtypes) == 1:
        model = model.to(dtypes.pop())
    try:
        model.load_state_dict(state, strict=False, assign=True)
    except RuntimeError as problem:
        lines = [line.strip() for line in str(problem).splitlines()[1:]] or [str(problem)]
        raise BNCheckError(f"{path} does not fit --arch {architecture}: {lines[0]}") from problem
    return model, replace(checkpoint, content=state, prefix=prefix)


def _differences(model: nn.Module, state: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return the names that the state dict lacks and those that it has too many."""
    wanted = set(model.state_dict())
    # Files from before torch 0.4.1 have no such counters; they do not matter in eval mode.
    missing = [n for n in wanted - state.keys() if not n.endswith("num_batches_tracked")]
    return sorted(missing), sorted(state.keys() - wanted)


def _without_prefix(state: Mapping[str, Any], wanted: set[str]) -> tuple[str, dict[str, Any]]:
    """Return the state dict under the names that the model has, and the prefix that was cut."""
    prefix = ""
    rest = dict(state)
    while not wanted & rest.keys():
        cut = next((p for p in PREFIXES if all(name.startswith(p) for name in rest)), None)
        if cut is None:
            return "", dict(state)
        prefix += cut
        rest = {name.removeprefix(cut): value for name, value in rest.items()}
    return prefix, rest


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def state_to_save(model: nn.Module, checkpoint: Checkpoint) -> Any:
    """Return the state dict of a changed model, in the order of the file and in its wrapping."""
    state = model.state_dict()
    before = [name for name in checkpoint.content if name in state]
    added = [name for name in state if name not in checkpoint.content]
    in_order = before == [name for name in state if name in checkpoint.content]
    names = list(state) if in_order else before + added
    ordered: Any = type(state)((name, state[name]) for name in names)
    ordered._metadata = getattr(state, "_metadata", {})
    return checkpoint.wrapped(ordered)

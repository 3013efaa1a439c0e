"""What is seen of a model from outside, without asking who converted it: outputs, operations."""

from collections import Counter

import torch
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode

# fmt: off
_FREE = frozenset(
    {
        "alias", "as_strided", "chunk", "detach", "empty", "expand", "permute", "reshape",
        "select", "slice", "split", "split_with_sizes", "squeeze", "t", "transpose", "unbind",
        "unsqueeze", "view", "_unsafe_view", "_reshape_alias", "narrow", "lift_fresh",
        "_local_scalar_dense", "clone",
    }
)
# fmt: on
"""Operations that compute nothing."""


class Operations(TorchDispatchMode):
    """Counts the operations that run, by their name in aten."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Count one operation and run it."""
        name = func.overloadpacket.__name__
        if name in ("native_batch_norm", "_native_batch_norm_legit") and args[5]:
            name = "batch_statistics"  # such as instance_norm, which is made of it
        self.counts[name] += 1
        return func(*args, **(kwargs or {}))

    @property
    def batch_norms(self) -> int:
        """How many BatchNorms ran."""
        return sum(n for name, n in self.counts.items() if "batch_norm" in name)

    @property
    def computing(self) -> int:
        """How many operations ran that compute something."""
        return sum(n for name, n in self.counts.items() if name not in _FREE)


def operations(model, arguments, keywords=None):
    with torch.no_grad(), Operations() as seen:
        model(*arguments, **(keywords or {}))
    return seen


def outputs(model, arguments, keywords=None):
    """Return the tensors that a model returns, in order, whatever holds them."""
    copies = [argument.clone() for argument in arguments]
    with torch.no_grad():
        result = model(*copies, **(keywords or {}))
    return leaves(result)


def leaves(result):
    """Return the tensors in a model's result, in order, whatever holds them."""
    if not isinstance(result, (torch.Tensor, dict, list, tuple)):
        result = vars(result)
    return [leaf for leaf in _pytree.tree_leaves(result) if isinstance(leaf, torch.Tensor)]


def difference(expected, actual):
    """Return the largest difference, relative to the largest magnitude of each output."""
    assert len(expected) == len(actual)
    worst = 0.0
    for one, other in zip(expected, actual, strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        if not one.numel():
            continue
        wide = torch.complex128 if one.is_complex() else torch.float64
        one, other = one.to(wide), other.to(wide)
        same = (one == other) | (one.isnan() & other.isnan())
        error = torch.where(same, 0.0, (one - other).abs())
        scale = one[one.isfinite()].abs().max().item() if one.isfinite().any() else 1.0
        found = error.max().item() / max(scale, 1e-30)
        worst = max(worst, found if found == found else float("inf"))
    return worst


def snapshot(model):
    """Return everything of a model that a conversion of it must leave as it was."""
    modules = [
        (
            name,
            id(module),
            module.training,
            [list(hooks) for key, hooks in sorted(vars(module).items()) if key.endswith("_hooks")],
        )
        for name, module in model.named_modules()
    ]
    tensors = [
        (name, id(tensor), tensor.requires_grad, tensor.dtype, _content(tensor))
        for name, tensor in (*model.named_parameters(), *model.named_buffers())
    ]
    state = [
        (name, _content(value) if isinstance(value, torch.Tensor) else repr(value))
        for name, value in model.state_dict().items()
    ]
    return modules, tensors, state


def _content(tensor):
    """Return the bytes and the layout of a tensor; nothing where it has no values."""
    if isinstance(tensor, torch.nn.parameter.UninitializedTensorMixin) or tensor.is_meta:
        return None
    values = tensor.detach()
    values = values.int_repr() if values.is_quantized else values
    return tensor.stride(), values.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def assert_untouched(before, model):
    for one, other in zip(before, snapshot(model), strict=True):
        assert one == other

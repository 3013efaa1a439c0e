"""A second device for tests: memory of the CPU that counts as a GPU's and may not be mixed with it.

What a machine without a GPU can hold of moves between devices: an operation on tensors of both
raises, as it would there. Values are the CPU's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GPU = torch.device("cuda", 0)
CPU = torch.device("cpu")
MOVES = (torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default)


class Memory:
    """Which memory counts as the GPU's; it is kept, so that none is used for something else."""

    def __init__(self) -> None:
        self.storages: dict[int, Any] = {}

    def holds(self, value: Any) -> bool:
        return isinstance(value, torch.Tensor) and _address(value) in self.storages

    def put(self, value: Any) -> Any:
        for leaf in tree_leaves(value):
            if isinstance(leaf, torch.Tensor):
                self.storages[_address(leaf)] = leaf.untyped_storage()
        return value


def _address(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


@contextmanager
def pretended_gpu() -> Iterator[Memory]:
    """Give the memory of a device that is not there; what is put there is on it in this block."""
    memory = Memory()
    with _Operations(memory), _Functions(memory):
        yield memory


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses operations on tensors of both devices, and puts results where the arguments are."""

    def __init__(self, memory: Memory) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.memory = memory

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        there = [t for t in given if self.memory.holds(t)]
        if there and func not in MOVES and any(t.dim() for t in given if not self.memory.holds(t)):
            raise RuntimeError(f"{func}: expected all tensors to be on the same device")
        result = func(*args, **(kwargs or {}))
        return self.memory.put(result) if there and self.memory.holds(given[0]) else result


class _Functions(TorchFunctionMode):
    """Answers where a tensor is, and moves and makes tensors there."""

    def __init__(self, memory: Memory) -> None:
        super().__init__()
        self.memory = memory

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        there = bool(args) and self.memory.holds(args[0])
        if func == torch.Tensor.device.__get__ and there:  # type: ignore[attr-defined]
            return GPU
        if func is torch.Tensor.__deepcopy__ and there:
            return self.memory.put(func(*args, **kwargs))
        if func is torch.Tensor.cpu:
            return self._moved(args[0], CPU)
        if func is torch.Tensor.to:
            plain = [self._device(value) for value in (*args[1:], *kwargs.values())]
            target = next((device for device in plain if device is not None), None)
            rest = [value for value in args[1:] if self._device(value) is None]
            rest += [v.dtype for v in args[1:] if isinstance(v, torch.Tensor)]
            kwargs = {k: v for k, v in kwargs.items() if self._device(v) is None}
            moved = args[0] if target is None else self._moved(args[0], target)
            return func(moved, *rest, **kwargs) if rest or kwargs else moved
        if self._device(kwargs.get("device")) is not None:
            device = self._device(kwargs["device"])
            made = func(*args, **{**kwargs, "device": CPU})
            return self.memory.put(made) if device == GPU else made
        return func(*args, **kwargs)

    def _device(self, value: Any) -> torch.device | None:
        if isinstance(value, torch.Tensor):
            return GPU if self.memory.holds(value) else CPU
        if isinstance(value, str) and value.partition(":")[0] in ("cpu", "cuda"):
            return GPU if value.startswith("cuda") else CPU
        return value if isinstance(value, torch.device) else None

    def _moved(self, tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
        if self.memory.holds(tensor) == (device == GPU):
            return tensor
        copied = torch.empty_like(tensor, requires_grad=False)
        self.memory.storages.pop(_address(copied), None)
        if device == GPU:
            self.memory.put(copied)
        with torch.no_grad():
            copied.copy_(tensor)
        return copied.requires_grad_(tensor.requires_grad)

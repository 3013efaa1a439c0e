"""Runs of a model at a known precision: in float64, or in float32 with no shortcut on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from bncheck.verification.dispatch import DispatchMode

WIDER = {
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.float32: torch.float64,
    torch.complex32: torch.complex128,
    torch.complex64: torch.complex128,
}

_CONTAINERS = (tuple, list, dict)


def widen(value: Any) -> Any:
    """Return a tensor or dtype in float64 or complex128 where it is real or complex."""
    if isinstance(value, torch.dtype):
        return WIDER.get(value, value)
    if isinstance(value, torch.Tensor) and value.dtype in WIDER:
        return value.to(WIDER[value.dtype])
    return value


Exact = Mapping[int, Callable[[], torch.Tensor]]
"""What computes the value in float64 that a parameter was rounded from, by the parameter's id."""
NOTHING_EXACT: Exact = MappingProxyType({})


@contextmanager
def in_float64(dtype: torch.dtype, exact: Exact = NOTHING_EXACT) -> Iterator[None]:
    """Compute everything in float64 for a while, for a model of `dtype` and inputs in float64.

    Parameters that `exact` has take part with the value that it computes.
    """
    operations = InFloat64(dtype, exact)
    with _AtOneWidth(operations), operations:
        yield


def _widen_exactly(exact: Exact, value: Any) -> Any:
    compute = exact.get(id(value))
    return widen(value) if compute is None else compute()


class _AtOneWidth(TorchFunctionMode):
    """Widens the arguments of calls that mix widths, some of which are refused before they run."""

    def __init__(self, operations: InFloat64) -> None:
        super().__init__()
        self.operations = operations

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if len(set(_narrow_or_not(args, kwargs))) > 1:
            name = getattr(func, "__name__", "")
            if not name.endswith("_") or name.endswith("__"):  # what is written to stays itself
                with self.operations.paused():
                    args = [_mapped(self.operations.widen, value) for value in args]
                    kwargs = {k: _mapped(self.operations.widen, v) for k, v in kwargs.items()}
        return func(*args, **kwargs)


def _narrow_or_not(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[bool]:
    """Yield, for each tensor among the arguments, whether there is a wider dtype than its own."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, torch.Tensor):
            yield value.dtype in WIDER
        elif isinstance(value, _CONTAINERS):
            leaves = tree_leaves(value)
            yield from (leaf.dtype in WIDER for leaf in leaves if isinstance(leaf, torch.Tensor))


def _mapped(change: Callable[[Any], Any], value: Any) -> Any:
    """Return an argument with each leaf changed; most are leaves themselves."""
    return tree_map(change, value) if isinstance(value, _CONTAINERS) else change(value)


class InFloat64(DispatchMode):
    """Computes every operation in float64, whatever dtypes the model asks for.

    A copy of the model in float64 alone is not enough: a forward that says `.float()`, or that
    keeps a table in float32, would round there. Here each operation gets its arguments widened as
    it runs, so that no copy of the parameters is held. Random numbers are drawn in the dtype that
    the model draws them in, since float64 ones of the same seed are others.
    """

    def __init__(self, dtype: torch.dtype, exact: Exact = NOTHING_EXACT) -> None:
        super().__init__()
        self.dtype = dtype
        self.widen = partial(_widen_exactly, exact)
        self._paused = False

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Run operations as they are for a while, such as those that widen something."""
        self._paused = True
        try:
            yield
        finally:
            self._paused = False

    def run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the operation in float64."""
        if self._paused:
            return func(*args, **kwargs)
        if func is torch.ops.aten.view.dtype:
            # torch's word for what a mode cannot do; the run is made in another way then.
            raise NotImplementedError("bits of a tensor are read as another dtype")
        written = {a.name for a in func._schema.arguments if a.alias_info and a.alias_info.is_write}
        names = [argument.name for argument in func._schema.arguments]
        change: Callable[[Any], Any] = self.widen
        if torch.Tag.nondeterministic_seeded in func.tags and not written:
            change = self._narrow
        wide = [
            value if name in written else _mapped(change, value)
            for name, value in zip(names, args, strict=False)
        ]
        named = {
            name: value if name in written else _mapped(change, value)
            for name, value in kwargs.items()
        }
        result = func(*wide, **named)
        return result if written else _mapped(widen, result)

    def _narrow(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor) and value.dtype is torch.float64:
            return value.to(self.dtype)
        return value


@contextmanager
def full_precision() -> Iterator[None]:
    """Turn autocast, TF32, and every other shortcut in float32 arithmetic, off for a while.

    Newer torch has these settings twice, and raises where one is asked for while the other says
    something else, so that both are set.
    """
    with ExitStack() as stack:
        for device in ("cuda", "cpu"):
            stack.enter_context(torch.amp.autocast_mode.autocast(device, enabled=False))
        switches = _switches()
        for backend in switches:
            stack.callback(setattr, backend, "fp32_precision", backend.fp32_precision)
        _set_older(stack)
        for backend in switches:
            backend.fp32_precision = "ieee"
        yield


def _set_older(stack: ExitStack) -> None:
    with suppress(RuntimeError):  # the two differ already, by the newer settings alone
        products = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        stack.callback(torch.set_float32_matmul_precision, products)
    cudnn: Any = torch.backends.cudnn
    with suppress(RuntimeError):
        convolutions = cudnn.allow_tf32
        cudnn.allow_tf32 = False
        stack.callback(setattr, cudnn, "allow_tf32", convolutions)


def _switches() -> list[Any]:
    """Return what has a `fp32_precision`; before torch 2.9 the older flags, as such."""
    cuda = torch.backends.cuda
    cudnn: Any = torch.backends.cudnn
    if hasattr(cuda.matmul, "fp32_precision"):
        mkldnn: Any = torch.backends.mkldnn
        return [cuda.matmul, cudnn.conv, cudnn.rnn, mkldnn.matmul, mkldnn.conv, mkldnn.rnn]
    return [_OldFlag(cuda.matmul), _OldFlag(cudnn)]


class _OldFlag:
    """`allow_tf32` of torch before 2.9 under the newer name."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend

    @property
    def fp32_precision(self) -> str:
        return "tf32" if self.backend.allow_tf32 else "ieee"

    @fp32_precision.setter
    def fp32_precision(self, value: str) -> None:
        self.backend.allow_tf32 = value != "ieee"

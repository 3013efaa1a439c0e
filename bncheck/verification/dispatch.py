"""A mode on torch's dispatcher that does not load torch's compiler.

`TorchDispatchMode` imports `torch._dynamo` on its first operation, to keep it from compiling the
mode's own code: some 800 modules, 70 MB and a second. Where nothing has loaded the compiler yet,
nothing is compiled either, and the mode can do without.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class DispatchMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Hands each operation that reaches the dispatcher to `run`."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()  # type: ignore[no-untyped-call]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._uncompiled: Callable[..., Any] | None = None

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        run = self._uncompiled or self.run
        if self._uncompiled is None and "torch._dynamo" in sys.modules:
            disable: Any = torch.compiler.disable
            run = self._uncompiled = disable(self.run)
        return run(func, tuple(args), dict(kwargs or {}))

    def run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return what the operation is to give."""
        return func(*args, **kwargs)

"""Traces a model with torch.fx: needs no example input, fails on control flow over values."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx, nn
from torch.nn.modules import module as everyones
from torch.nn.utils import prune

from bncheck.model.attributes import attributes_kept, proxied_buffer

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


class LayerTracer(fx.Tracer):
    """Stops at the layers of torch.nn by exact type and traces through everything else.

    A subclass of a layer may do more than the layer, so its forward is traced and recognised by
    the operations in it. `observed` holds the nodes whose values a hook sees.
    """

    proxy_buffer_attributes = True

    def __init__(self) -> None:
        super().__init__()
        self.observed: list[fx.Node] = []
        self._names: dict[int, str] = {}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Tell whether `m` is a layer of torch.nn itself."""
        return type(m).__module__.startswith("torch.nn.modules.") and type(m) not in CONTAINERS

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Trace a call of a module, noting what its hooks are shown."""
        shown = shows_values(m)
        if shown:
            self._observe(args)
        result = super().call_module(m, forward, args, kwargs)
        if shown:
            self._observe(result)
        return result

    def trace(
        self,
        root: torch.nn.Module | Callable[..., Any],
        concrete_args: dict[str, Any] | None = None,
    ) -> fx.Graph:
        """Trace `root` as torch.fx does, BatchNorm subclasses that call `super()` among it."""
        if isinstance(root, nn.Module):
            stored = (*root.named_buffers(), *root.named_parameters())
            self._names = {id(tensor): name for name, tensor in stored}
        with _without_dimension_checks():
            return super().trace(root, concrete_args)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """Return a proxy for a parameter or buffer; torch.fx would search the model for each."""
        name = self._names.get(id(attr_val))
        if name is None or not isinstance(attr_val, torch.Tensor):
            return attr_val
        if name not in parameter_proxy_cache:
            parameter_proxy_cache[name] = self.create_proxy("get_attr", name, (), {})
        return parameter_proxy_cache[name]

    def _observe(self, value: Any) -> None:
        def note(proxy: Any) -> Any:
            if isinstance(proxy, fx.Proxy):
                self.observed.append(proxy.node)
            return proxy

        fx.node.map_aggregate(value, note)


@contextmanager
def _without_dimension_checks() -> Iterator[None]:
    """Leave out the checks of BatchNorm's forward, which would branch on a traced value."""
    kinds: list[Any] = [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm]
    checks = [kind._check_input_dim for kind in kinds]
    try:
        for kind in kinds:
            kind._check_input_dim = lambda self, input: None
        yield
    finally:
        for kind, check in zip(kinds, checks, strict=True):
            kind._check_input_dim = check


def shows_values(module: nn.Module) -> bool:
    """Tell whether a hook is shown what goes in or out; some only compute a weight."""
    if not has_hooks(module):
        return False
    others = any(
        bool(getattr(module, name, None))
        for name in ("_forward_hooks", "_backward_hooks", "_backward_pre_hooks")
    )
    return others or not all(computes_weight(h) for h in module._forward_pre_hooks.values())


def computes_weight(hook: Any) -> bool:
    """Tell whether a forward pre-hook is a weight norm, a spectral norm or a pruning mask."""
    return type(hook).__name__ in {"WeightNorm", "SpectralNorm"} or isinstance(
        hook, prune.BasePruningMethod
    )


def has_hooks(module: nn.Module) -> bool:
    """Tell whether calling the module runs a hook, forward or backward, its own or everyone's."""
    return any(
        bool(getattr(module, name, None)) or bool(getattr(everyones, f"_global{name}", None))
        for name in (
            "_forward_hooks",
            "_forward_pre_hooks",
            "_backward_hooks",
            "_backward_pre_hooks",
        )
    )


def trace_fx(
    model: nn.Module, arguments: Mapping[str, Any] | None
) -> tuple[fx.GraphModule, list[fx.Node]]:
    """Trace `model`; parameters that `arguments` does not name are held at their defaults.

    Returns the graph, whose modules are the model's own, and the nodes that hooks see. Raises
    whatever the model's code raises when it is run on proxies.
    """
    concrete: dict[str, Any] = {}
    for name, parameter in inspect.signature(model.forward).parameters.items():
        given = arguments is not None and name in arguments
        if given and isinstance(arguments[name], (torch.Tensor, list, tuple, dict)):  # type: ignore[index]
            continue
        if given:
            concrete[name] = arguments[name]  # type: ignore[index]
        elif parameter.default is not inspect.Parameter.empty:
            concrete[name] = parameter.default
    tracer = LayerTracer()
    with attributes_kept(model):
        graph = tracer.trace(model, concrete_args=concrete or None)
        if (written := proxied_buffer(model)) is not None:
            raise ValueError(f"the model's code sets {written} to something else")
    graph._tracer_cls = None  # a pickle of the module would name it, and need bncheck to load
    return fx.GraphModule(model, graph, type(model).__name__), tracer.observed


def bind(model: nn.Module, inputs: Sequence[Any], keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `model.forward` by name.

    Raises TypeError when they do not fit.
    """
    return dict(inspect.signature(model.forward).bind(*inputs, **keywords).arguments)

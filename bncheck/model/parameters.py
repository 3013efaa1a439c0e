"""The parameters and buffers that a traced call reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import fx, nn

from bncheck.graph import Node
from bncheck.model.arguments import PARAMETER_ROLES
from bncheck.model.operations import Call
from bncheck.model.traced_call import Constant


def parameters_of(
    source: fx.Node,
    call: Call,
    arguments: Mapping[str, Any],
    modules: Mapping[str, nn.Module],
    constants: Iterable[Constant],
) -> tuple[dict[str, str], dict[str, Constant], frozenset[str]]:
    """Return the names of a call's parameters by role, those computed for it, and all it reads.

    `constants` are those among its arguments.
    """
    names: dict[str, str] = {}
    computed: dict[str, Constant] = {}
    if source.op == "call_module":
        module = modules[str(source.target)]
        tensors = (*module.named_parameters(), *module.named_buffers())
        names = {name: f"{source.target}.{name}" for name, _ in tensors}
        names.pop("num_batches_tracked", None)
        return names, computed, frozenset(names.values())
    for role in PARAMETER_ROLES.get(call.name, ()):
        value = arguments.get(role)
        if isinstance(value, Constant):
            if value.name is not None:
                names[role] = value.name
            else:
                computed[role] = value
        elif isinstance(value, Node):  # a weight that depends on the input
            computed[role] = Constant(source, frozenset(), None)
    return names, computed, frozenset[str]().union(*(c.reads for c in constants))

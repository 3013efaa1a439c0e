"""A traced torch.fx graph as a `LayerGraph`, with the way back from each node to its call.

Three things are put straight on the way: reads after an in-place operation read that operation's
result, the pieces of a split read what was split, and what depends on parameters alone is no node
but a constant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import fx, nn

from bncheck.errors import BNCheckError
from bncheck.graph import Kind, Layer, LayerGraph, Node, Site
from bncheck.model.aliases import Aliases
from bncheck.model.arguments import PARAMETER_ROLES, module_arguments, named_arguments, plain
from bncheck.model.crops import cropped_by
from bncheck.model.fx_nodes import (
    drops_anything,
    gives_pieces,
    is_first_member_or_idle,
    kind_of_attribute,
    member_read,
    module_path,
    owner_of,
)
from bncheck.model.observe import Observation
from bncheck.model.operations import (
    ALIASES,
    CASTS,
    EXTREMES,
    LIKE_ANOTHER,
    MEMBERS,
    METADATA,
    PIECES,
    STACKS,
    TUPLES,
    Call,
    describe,
)
from bncheck.model.parameters import parameters_of
from bncheck.model.replay import evaluate, replay
from bncheck.model.traced_call import NOTHING_STORED, Constant, Stored, TracedCall

_SAME_TENSOR = frozenset({"identity", "dropout", "alias", "detach", "positive"})
_CONVERSIONS = CASTS | {"float", "half", "double", "bfloat16", "cuda", "cpu"}
_OF_ONE = frozenset({Kind.RESHAPE, Kind.IDENTITY, Kind.POOLING, Kind.PADDING, Kind.UPSAMPLING})
"""What has a tensor that it is done to, which comes first."""
_ASKS_NOTHING = METADATA | {
    "_assert",
    "_assert_tensor_metadata",
    "_assert_async",
    "isinstance",
    "len",
    "type",
    "_guards_fn",
}


def normalise(
    graph_module: fx.GraphModule,
    model: nn.Module,
    seen: Observation,
    observed: Sequence[fx.Node] = (),
    stored: Stored = NOTHING_STORED,
) -> tuple[LayerGraph, dict[Node, TracedCall]]:
    """Return the layer graph of a traced model and the call behind each node.

    Sites have the model's class name as their path and the module path as their mark. Raises
    BNCheckError where a call writes its result into a tensor that is there: which later calls read
    it, the graph does not say.
    """
    for node in graph_module.graph.nodes:
        if node.kwargs.get("out") is not None:
            raise BNCheckError(f"{node.name} writes its result into a tensor given as out=")
    builder = _Builder(graph_module, model, seen, frozenset(observed), stored)
    for node in graph_module.graph.nodes:
        builder.visit(node)
    return builder.graph, builder.calls


class _Builder:
    def __init__(
        self,
        graph_module: fx.GraphModule,
        model: nn.Module,
        seen: Observation,
        observed: frozenset[fx.Node],
        stored: Stored,
    ) -> None:
        self.stored = stored
        self.graph_module = graph_module
        self.modules = dict(graph_module.named_modules(remove_duplicate=False))
        self.model_modules = dict(model.named_modules(remove_duplicate=False))
        self.seen = seen
        self.observed = observed
        self.graph = LayerGraph(type(model).__name__)
        self.calls: dict[Node, TracedCall] = {}
        self.environment: dict[fx.Node, Any] = {}
        self.pieces: dict[fx.Node, fx.Node] = {}
        self.aliases = Aliases()
        self.layers: dict[str, Layer] = {}
        self.written: set[str] = set()
        """Parameters and buffers that some call writes over."""

    def visit(self, node: fx.Node) -> None:
        match node.op:
            case "placeholder" if node in self.stored:
                name = self.stored[node][0]
                self.environment[node] = Constant(node, frozenset({name}), name)
            case "placeholder":
                if node not in self.seen.values:
                    self._add(node, Call(str(node.target), Kind.INPUT), [], {})
                else:
                    self.environment[node] = self.seen.values[node]
            case "get_attr":
                name = str(node.target)
                self.environment[node] = Constant(node, frozenset({name}), name)
            case "output":
                self._add(node, Call("output", Kind.OUTPUT), list(self._inputs(node)), {})
            case _:
                self._visit_call(node)

    def _inputs(self, node: fx.Node) -> Iterator[Node]:
        for value in self._leaves(node):
            if isinstance(value, Node):
                yield value

    def _leaves(self, node: fx.Node) -> list[Any]:
        found: list[Any] = []

        def keep(argument: fx.Node) -> fx.Node:
            found.append(self.environment.get(argument))
            return argument

        fx.node.map_arg((node.args, node.kwargs), keep)
        return found

    def _visit_call(self, node: fx.Node) -> None:
        call = describe(node, self.modules)
        if call.name == "getattr" and isinstance(node.args[1], str):
            call = Call(node.args[1], kind_of_attribute(node.args[1]))
        leaves = self._leaves(node)
        inputs = [leaf for leaf in leaves if isinstance(leaf, Node)]
        constants = [leaf for leaf in leaves if isinstance(leaf, Constant)]
        if node in self.seen.values and not call.in_place:
            self.environment[node] = self.seen.values[node]
            if (inputs or constants) and call.name not in _ASKS_NOTHING:
                self._opaque_reader(node, inputs)
            return
        reads_member = call.name == "getitem" or call.name in MEMBERS
        if reads_member and isinstance(node.args[0], fx.Node):
            if node.args[0] in self.pieces:
                self._add_piece(node, node.args[0])
                return
            if node.args[0] not in self.seen.shapes and inputs:
                self._add_member(node, inputs[0])
                return
        if node in self.seen.lengths and inputs and gives_pieces(call):
            self.pieces[node] = node
            self.environment[node] = inputs[0]
            return
        if inputs and call.name in LIKE_ANOTHER | CASTS:
            first = leaves[0]
            if isinstance(first, Constant):
                self._add_like(node, call, first)
                return
            inputs = inputs[: 1 if call.kind is Kind.RESHAPE or call.name in CASTS else 0]
        if not inputs and constants and node.op != "call_module" and not call.in_place:
            reads = frozenset[str]().union(*(c.reads for c in constants))
            same = call.name in _SAME_TENSOR or self._converts_nothing(node, call, constants[0])
            self.environment[node] = Constant(node, reads, constants[0].name if same else None)
            return
        if inputs and constants and (call.kind is Kind.CONCAT or call.name in STACKS):
            self._add_joined(node, call)
            return
        if any(argument in self.pieces for argument in node.all_input_nodes):
            call = Call(call.name, Kind.OPAQUE)  # which piece goes where is not known
        if call.kind in _OF_ONE and inputs and leaves[0] is not inputs[0]:
            call = Call(call.name, Kind.OPERATION)  # of a parameter, such as an entry of a table
        self._add(node, self._refine(node, call), inputs, self._arguments(node, call))
        if call.in_place:
            self._overwrite(node, constants)
        elif call.name in ALIASES and inputs:
            self._alias(node, call)

    def _refine(self, node: fx.Node, call: Call) -> Call:
        """Decide what the operation's name leaves open, from its arguments and result."""
        if call.name in _CONVERSIONS:
            first = node.args[0]
            same = isinstance(first, fx.Node) and (
                self.seen.dtypes.get(first) == self.seen.dtypes.get(node)
            )
            return Call("to", Kind.IDENTITY) if same else call
        if call.kind is Kind.DROPOUT:
            drops = drops_anything(node, self.modules, self._arguments(node, call))
            return Call("dropout", Kind.DROPOUT if drops else Kind.IDENTITY)
        if call.name in TUPLES and not all(map(is_first_member_or_idle, node.users)):
            return Call(call.name, Kind.OPERATION)
        if call.kind is Kind.CONVOLUTION and self._arguments(node, call).get("transposed"):
            return Call("convolution", Kind.TRANSPOSED_CONVOLUTION)
        return call

    def _arguments(self, node: fx.Node, call: Call) -> dict[str, Any]:
        if node.op == "call_module":
            return module_arguments(self.modules[str(node.target)])
        return {name: self._resolve(value) for name, value in named_arguments(node, call).items()}

    def _resolve(self, value: Any) -> Any:
        return fx.node.map_arg(value, lambda argument: self.environment.get(argument))

    def _add(
        self, source: fx.Node, call: Call, inputs: list[Node], arguments: dict[str, Any]
    ) -> Node:
        constants = [leaf for leaf in self._leaves(source) if isinstance(leaf, Constant)]
        names, computed, reads = parameters_of(source, call, arguments, self.modules, constants)
        path = module_path(source)
        if source.op == "call_module":
            path = str(source.target)
        elif names and call.name in PARAMETER_ROLES:
            path = owner_of(names.get("running_mean") or names.get("weight") or path)
        node = Node(
            kind=call.kind,
            name=source.name,
            site=Site(self.graph.name, path),
            attributes={
                **plain(arguments),
                "operation": call.name,
                "bias": "bias" in names,
                "within": module_path(source),
                "cropped": cropped_by(call.name, arguments),
            },
            inputs=list(inputs),
            parameters=names,
            shape=self.seen.shapes.get(source),
        )
        if source.op == "call_module" or (names and call.name in PARAMETER_ROLES):
            node.layer = self._layer(path, node)
        traced = TracedCall(
            source,
            call,
            arguments,
            computed,
            reads,
            from_sizes=any(argument in self.seen.values for argument in source.all_input_nodes),
            observed=source in self.observed,
            entry=self._entry(source),
            _run=self._replay(source),
            _evaluate=self._value,
        )
        self.graph.add(node)
        self.calls[node] = traced
        self.environment[source] = node
        self.aliases.begin(source)
        return node

    def _entry(self, source: fx.Node) -> fx.Node | None:
        for argument in source.all_input_nodes:
            if isinstance(self.environment.get(argument), Node):
                return argument
        return None

    def _layer(self, path: str, node: Node) -> Layer | None:
        module = self.model_modules.get(path)
        if module is None:
            return None
        if path not in self.layers:
            exact = type(module).__module__.startswith("torch.nn.modules.")
            prefix = "torch.nn" if exact else type(module).__module__
            attributes = {**plain(module_arguments(module)), "bias": node.attributes["bias"]}
            layer = Layer(
                node.kind, f"{prefix}.{type(module).__name__}", path, node.site, attributes
            )
            self.layers[path] = layer
            self.graph.layers.append(layer)
        return self.layers[path]

    def _add_piece(self, node: fx.Node, splitter: fx.Node) -> None:
        whole, place = self.environment[splitter], member_read(node)
        call = describe(splitter, self.modules)
        if call.name not in PIECES:
            call = Call(EXTREMES.get(call.name, call.name), Kind.POOLING)
            self._add(node, call, [whole], {**self._arguments(splitter, call), "member": place})
            return
        self._add(node, Call(call.name, Kind.RESHAPE), [whole], {"index": place})
        first = splitter.args[0]
        if isinstance(first, fx.Node):
            self.aliases.share(node, first, whole=False)

    def _add_member(self, node: fx.Node, owner: Node) -> None:
        """Add a member of a result that is a tuple or a mapping of tensors."""
        if owner.kind is Kind.BATCH_NORM and (node.args[1] == 0 or not node.users):
            self.environment[node] = owner
            if node.args[1] == 0:
                owner.shape = self.seen.shapes.get(node)
            return
        kind = Kind.OPERATION if owner.kind is Kind.INPUT else Kind.OPAQUE
        self._add(node, Call("member", kind), [owner], {})

    def _add_joined(self, node: fx.Node, call: Call) -> None:
        """Add an operation that joins tensors some of which are parameters, as nodes here."""
        known = {a: self.environment[a] for a in node.all_input_nodes if a in self.environment}
        for argument, value in known.items():
            if isinstance(value, Constant):
                self.environment[argument] = self._add_parameter(argument, value)
        self._add(node, call, list(self._inputs(node)), self._arguments(node, call))
        self.environment.update(known)

    def _add_parameter(self, source: fx.Node, constant: Constant) -> Node:
        parameter = Node(
            Kind.OPERATION,
            source.name,
            Site(self.graph.name, module_path(source)),
            attributes={"operation": "parameter"},
            shape=self.seen.shapes.get(source),
        )
        self.graph.add(parameter)
        called = Call("parameter", Kind.OPERATION)
        self.calls[parameter] = TracedCall(source, called, {}, reads=constant.reads)
        return parameter

    def _add_like(self, node: fx.Node, call: Call, constant: Constant) -> None:
        """Add a parameter that is brought to the shape or the dtype of a tensor."""
        if self._converts_nothing(node, call, constant):
            self.environment[node] = constant
        else:
            self._add(node, Call(call.name, Kind.OPERATION), [], {})

    def _converts_nothing(self, node: fx.Node, call: Call, constant: Constant) -> bool:
        """Tell whether a call brings a parameter to the dtype that it has."""
        dtypes = self.seen.dtypes
        return call.name in _CONVERSIONS and dtypes.get(constant.source) == dtypes.get(node)

    def _opaque_reader(self, node: fx.Node, inputs: list[Node]) -> None:
        value = self.environment[node]
        self._add(node, Call("read", Kind.OPAQUE), inputs, {})
        self.environment[node] = value

    def _alias(self, node: fx.Node, call: Call) -> None:
        first = node.args[0] if node.args else None
        if isinstance(first, fx.Node):
            whole = call.name in _SAME_TENSOR or call.kind is Kind.DROPOUT
            self.aliases.share(node, first, whole=whole)

    def _overwrite(self, node: fx.Node, constants: list[Constant]) -> None:
        """Let later readers of what was written over read the result."""
        first = node.args[0] if node.args else None
        if not isinstance(first, fx.Node):
            return
        result = self.environment[node]
        if not self.aliases.known(first):
            written = frozenset[str]().union(*(constant.reads for constant in constants[:1]))
            self.calls[result].writes = written
            self.written |= written
            return
        whole = node in self.seen.shapes and describe(node, self.modules).name != "setitem"
        self.aliases.share(node, first, whole=whole)
        same = self.aliases.same(first) if whole else set()
        for member in self.aliases.sharing(first):
            current = self.environment.get(member)
            if member in same:
                self.environment[member] = result
            elif isinstance(current, Node) and member is not node:
                self._add_changed(member, current, result)

    def _add_changed(self, member: fx.Node, current: Node, written: Node) -> None:
        changed = Node(
            Kind.OPAQUE,
            f"{current.name}_changed_by_{written.name}",
            current.site,
            attributes={"operation": "changed"},
            inputs=[current, written],
            shape=current.shape,
        )
        self.graph.add(changed)
        self.calls[changed] = TracedCall(member, Call("changed", Kind.OPAQUE), {})
        self.environment[member] = changed

    def _value(self, constant: Constant) -> Any:
        if self.written.intersection(constant.reads):
            raise BNCheckError("the model writes over what this is computed from")
        return evaluate(self.graph_module, constant.source, self.stored)

    def _replay(self, source: fx.Node) -> Callable[[Sequence[torch.Tensor]], Any]:
        splitter = source.args[0] if source.op == "call_function" and source.args else None
        piece = isinstance(splitter, fx.Node) and splitter in self.pieces
        called = splitter if piece and isinstance(splitter, fx.Node) else source
        environment = {a: self.environment.get(a) for a in called.all_input_nodes}
        shape_only = describe(called, self.modules).name in LIKE_ANOTHER | CASTS
        run = replay(self.graph_module, called, environment, self.stored, shape_only)
        return (lambda inputs: run(inputs)[member_read(source)]) if piece else run

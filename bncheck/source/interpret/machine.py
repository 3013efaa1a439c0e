"""The state of one interpretation: work bound, the graph being built, and branches' joins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from bncheck.graph import Kind, Layer, LayerGraph, Node, Site
from bncheck.source.interpret.effort import Effort
from bncheck.source.interpret.values import (
    MISSING,
    UNKNOWN,
    Branches,
    Class,
    Dictionary,
    Either,
    Heap,
    Instance,
    List,
    Tensor,
    same,
    tensors_in,
)

if TYPE_CHECKING:
    from bncheck.source.interpret.names import Names
    from bncheck.source.interpret.values import Class
    from bncheck.source.module import SourceModule

_MOST_OPTIONS: Final = 6

States = dict[Heap, Any]


@dataclass(slots=True, eq=False)
class Exit:
    """A path that left a function or the round of a loop, while another one went on."""

    status: str
    names: dict[str, object]
    returned: object
    states: States
    """What changed on the way to it, as it was there."""
    parted: int
    """What was born later belongs to the other paths."""


@dataclass(slots=True, eq=False)
class Frame:
    """One running function, or a class or module body."""

    machine: Machine
    module: SourceModule
    outer: Frame | None = None
    owner: Class | None = None
    receiver: object = MISSING
    names: dict[str, object] = field(default_factory=dict)
    returned: object = None
    left: list[Exit] = field(default_factory=list)
    """Paths that returned early."""
    exits: list[Exit] = field(default_factory=list)
    """Paths that left the present round of the innermost loop by `break` or `continue`."""
    loop: int = 0
    """The length of the machine's journal when that loop began."""
    yields: list[object] | None = None
    entry: int = 0
    """The length of the machine's journal when the function began."""
    is_module: bool = False
    """Whether its names are a file's globals."""

    def site(self, node: object) -> Site:
        """Return where a node of this frame's file stands."""
        sites = self.module.sites
        found = sites.get(id(node))
        if found is None:
            found = sites[id(node)] = Site(self.module.path, node)
        return found


@dataclass(eq=False)
class Machine(Effort):
    """What all frames of one interpretation share."""

    names: Names
    depth: int = 0
    forward_from: int = 0
    """What was born later was made by the forward that is being run."""
    uncertain: int = 0
    """How many branches of unknown conditions are being run."""
    graph: LayerGraph | None = None
    """The graph that tensor operations add to; None while networks are constructed."""
    journal: list[States] = field(default_factory=lambda: [{}])
    """For each open branch or call: the states of what changed, as they were before."""
    active: dict[object, int] = field(default_factory=dict)
    """How often each function is being run, for recursion."""
    sequentials: list[Instance] | None = None
    """Those of torch.nn that were made, in order; None where nobody asks for them."""
    modes: dict[Layer, bool] | None = None
    """Whether each layer is surely in train mode; None while nothing asks for it."""
    unfinished: Class | None = None
    """What was being constructed when the work was given up."""
    kept: list[tuple[str, Tensor]] = field(default_factory=list)
    """What the forward that is being run sets attributes of its modules to."""
    lacking: set[Class] = field(default_factory=set)
    """Classes of modules that were asked for an attribute which nothing gives them."""
    guessed: bool = False
    """Whether a number of rounds was assumed, of a loop over what is not known."""
    doubts: dict[str, int] = field(default_factory=dict)
    """Why something was not understood, counted."""

    def doubt(self, reason: str) -> None:
        """Note that something was not understood, which makes the graph incomplete."""
        self.doubts[reason] = self.doubts.get(reason, 0) + 1
        if self.graph is not None:
            self.graph.complete = False

    def abandon(self, opened: int, arguments: Sequence[object]) -> object:
        """End a call in the midst of its work, and return what is known of its result.

        Whatever it has changed is not known, nor what is in the lists and dictionaries that it
        could have changed. `opened` is the length of the journal with the call's own.
        """
        while len(self.journal) > opened:
            self.close_journal()
        for value, before in self.journal[-1].items():
            if not isinstance(value, Instance):
                value.state = None
                continue
            for name, attribute in value.state.items():
                if before.get(name, MISSING) is not attribute:
                    value.state[name] = UNKNOWN
        for argument in arguments:
            held = argument.state.values() if isinstance(argument, Instance) else ()
            for value in (argument, *held):
                if isinstance(value, (List, Dictionary)):
                    self.change(value)
                    value.state = None
        reason = "much work without a layer"
        result = self.opaque(reason, None, arguments)
        if result is UNKNOWN:
            self.doubt(reason)
        return result

    def change(self, value: Heap) -> None:
        """Remember a heap value's state before it is changed."""
        if isinstance(value, Instance) and value.sealed is not None:
            value.sealed.invalidate()
        top = self.journal[-1]
        if value not in top:
            top[value] = state = value.snapshot()
            if state is not None:
                self.step(len(state) // 8)

    def add(
        self,
        kind: Kind,
        name: str,
        site: Site | None,
        inputs: Sequence[Tensor],
        attributes: dict[str, object] | None = None,
        layer: Any = None,
    ) -> Tensor:
        """Add a node to the graph and return the tensor that it computes."""
        if kind is not Kind.JOIN and kind is not Kind.OPAQUE:
            self.layer()
        node = Node(kind, name, site, layer, attributes or {}, [t.node for t in inputs])
        if self.graph is not None:
            self.graph.add(node)
        return Tensor(node)

    def opaque(self, reason: str, site: Site | None, arguments: Sequence[object]) -> object:
        """Return the result of something that is not understood, which reads its arguments."""
        inputs = [tensor for value in arguments for tensor in tensors_in(value)]
        if not inputs or self.graph is None:
            return UNKNOWN
        self.doubt(reason)
        return self.add(Kind.OPAQUE, reason, site, inputs)

    def join(self, one: object, other: object) -> object:
        """Return a value that is one or the other."""
        if one is other or other is MISSING:
            return one
        if one is MISSING:
            return other
        if same(one, other):
            return one
        if isinstance(one, Tensor) and isinstance(other, Tensor):
            return self.add(Kind.JOIN, "join", None, [one, other])
        if isinstance(one, tuple) and isinstance(other, tuple) and len(one) == len(other):
            return tuple(map(self.join, one, other))
        found: list[object] = []
        for option in (*_options(one), *_options(other)):
            self._include(option, found)
        if len(found) == 1:
            return found[0]
        if len(found) > _MOST_OPTIONS:
            return self.opaque("too many possible values", None, found)
        return Either(tuple(found))

    def _include(self, option: object, found: list[object]) -> None:
        for index, known in enumerate(found):
            if known is option or same(known, option):
                return
            if isinstance(known, Tensor) and isinstance(option, Tensor):
                found[index] = self.join(known, option)
                return
        found.append(option)

    def join_all(self, values: Sequence[object]) -> object:
        """Return a value that is one of these."""
        result = values[0]
        for value in values[1:]:
            result = self.join(result, value)
        return result

    def join_names(self, one: dict[str, object], other: dict[str, object]) -> dict[str, object]:
        """Join two paths' local names; one that is bound on one path only keeps that value."""
        joined = dict(one)
        for name, value in other.items():
            joined[name] = self.join(joined.get(name, MISSING), value)
        return joined

    def open_journal(self) -> None:
        """Begin a branch or a call."""
        self.journal.append({})

    def close_journal(self) -> States:
        """End it; what changed in it changed in the enclosing one too. Return the old states."""
        closed = self.journal.pop()
        top = self.journal[-1]
        for value, state in closed.items():
            top.setdefault(value, state)
        return closed

    def join_states(self, old: States, other: States, parted: int) -> None:
        """Join the heap's present states with those of another path.

        `old` has the states at the point where the paths parted, of whatever changed since. What
        was born after that and is not in `other` belongs to the present path alone.
        """
        for value in {**old, **other}:
            before = other.get(value, MISSING)
            if before is MISSING and value.born < parted:
                before = old[value]
            if before is not MISSING:
                value.state = self.join_state(value, before, value.state)

    def join_state(self, value: Heap, one: Any, other: Any) -> Any:
        """Join two states of one heap value."""
        if one is None or other is None:
            return None
        if isinstance(value, List):
            return self._join_items(one, other)
        if isinstance(value, Dictionary):
            return {
                key: self.join(one[key], other[key])
                if key in one and key in other
                else self._maybe(one.get(key, other.get(key)))
                for key in {**one, **other}
            }
        if isinstance(value, Instance) and value.base in {"Sequential", "ModuleList"}:
            return self._join_children(one, other)
        return self.join_names(one, other)

    def _maybe(self, value: object) -> object:
        return Either((*_options(value), MISSING))

    def _join_items(self, one: list[object], other: list[object]) -> list[object]:
        if len(one) == len(other):
            return [self.join(left, right) for left, right in zip(one, other, strict=True)]
        shared = 0
        while shared < min(len(one), len(other)) and one[shared] is other[shared]:
            shared += 1
        return [*one[:shared], Branches((tuple(one[shared:]), tuple(other[shared:])))]

    def _join_children(self, one: dict[str, object], other: dict[str, object]) -> dict[str, object]:
        if list(one) == list(other):
            return {name: self.join(value, other[name]) for name, value in one.items()}
        joined: dict[str, object] = {}
        left, right = list(one.items()), list(other.items())
        shared = 0
        while (
            shared < min(len(left), len(right))
            and left[shared][0] == right[shared][0]
            and left[shared][1] is right[shared][1]
        ):
            shared += 1
        joined.update(left[:shared])
        tails = tuple(
            tuple(v for _, v in tail[shared:] if isinstance(v, (Instance, Either, Branches)))
            for tail in (left, right)
        )
        for name, value in (*left[shared:], *right[shared:]):
            if not isinstance(value, (Instance, Either, Branches)):
                joined[name] = self.join(joined.get(name, MISSING), value)
        if any(tails):
            joined[f"?{shared}"] = Branches(tails)
        return joined


def _options(value: object) -> tuple[object, ...]:
    return value.options if isinstance(value, Either) else (value,)


def alternatives(value: object) -> list[object]:
    """Return the values that `value` may be, without those that cannot be used at all."""
    found = [option for option in _options(value) if option is not None and option is not MISSING]
    return found or [UNKNOWN]

"""What the structure rules make of graphs that their pages do not show."""

from __future__ import annotations

import pytest

from bncheck.graph import UNKNOWN, Kind, Layer, Node, Symbol
from tests.checks.graphs import Network

CONV, NORM = Kind.CONVOLUTION, Kind.BATCH_NORM


@pytest.mark.parametrize(
    ("channels", "features", "wrong"),
    [
        (8, 8, False),
        (8, 16, True),
        (8, UNKNOWN, False),
        (UNKNOWN, 8, False),
        (8, Symbol("c"), False),
        (Symbol("c"), Symbol("c"), False),
        (Symbol("c"), Symbol("d"), False),
        (Symbol("c * 4"), Symbol("4 * c"), False),
        (Symbol("c * 4"), Symbol("c"), True),
        (Symbol("c * d"), Symbol("d * c * 2"), True),
        (Symbol("c + 1"), Symbol("c"), True),
        (Symbol("2*a + 2*b"), Symbol("b + a"), True),
        (Symbol("a + b"), Symbol("b + a"), False),
        (Symbol("2*a"), Symbol("a + b"), False),
        # A flag, which may be 0.
        (Symbol("c + 2*flag"), Symbol("c"), False),
        (Symbol("2*(c // 2)"), Symbol("(c // 2)"), True),
        (Symbol("2*(c // 2)"), Symbol("c"), False),
        (Symbol("2*int((c * 0.5))"), Symbol("int((c * 0.5))"), True),
        (Symbol("c % 4"), Symbol("2*(c % 4)"), False),
        (Symbol("widths[0]"), Symbol("widths[1]"), False),
        (Symbol("4*widths[0]"), Symbol("widths[0]"), True),
        (Symbol("c // 2"), Symbol("c"), False),
        (Symbol("not python ("), Symbol("c"), False),
        (0, 8, False),
        (True, 8, False),
    ],
)
def test_features_differ_only_where_that_is_proven(
    channels: object, features: object, wrong: bool
) -> None:
    net = Network()
    net.chain(
        net.layer(CONV, out_channels=channels),
        Kind.ACTIVATION,
        net.layer(NORM, num_features=features),
    )
    assert net.found("BN102") == (["layer 1"] if wrong else [])


@pytest.mark.parametrize(
    ("dimension", "merge", "wrong"),
    [
        (1, Kind.CONCAT, False),
        (2, Kind.CONCAT, False),
        (None, Kind.CONCAT, False),
        (None, Kind.ADD, True),
        (None, Kind.JOIN, True),
        (None, Kind.OPAQUE, False),
    ],
)
def test_channels_of_what_has_two_inputs(dimension: int | None, merge: Kind, wrong: bool) -> None:
    net = Network()
    parts = [net.call(net.layer(CONV), net.input) for _ in range(2)]
    attributes = {} if dimension is None else {"dimension": dimension}
    both = net.call(merge, *parts, **attributes)
    net.call(net.layer(NORM, num_features=16), both)
    assert net.found("BN102") == (["layer 2"] if wrong else [])


@pytest.mark.parametrize(("rank", "wrong"), [(2, True), (3, False), (UNKNOWN, False)])
def test_a_linear_layer_counts_behind_a_flatten_only(rank: object, wrong: bool) -> None:
    net = Network()
    flat = net.call(Kind.RESHAPE, net.input, rank=rank)
    net.call(net.layer(NORM, num_features=9), net.call(net.layer(Kind.LINEAR), flat))
    assert bool(net.found("BN102")) is wrong


@pytest.mark.parametrize(
    ("before", "own", "wrong"),
    [(2, 1, True), (1, 2, True), (3, 3, False), (UNKNOWN, 1, False), (2, UNKNOWN, False)],
)
def test_dimensions(before: object, own: object, wrong: bool) -> None:
    net = Network()
    net.chain(net.layer(CONV, dimensions=before), Kind.DROPOUT, net.layer(NORM, dimensions=own))
    assert net.found("BN103") == (["layer 1"] if wrong else [])


def test_a_reshape_between_may_change_dimensions() -> None:
    net = Network()
    net.chain(net.layer(CONV), Kind.RESHAPE, net.layer(NORM, dimensions=1))
    assert net.found("BN103") == []


def shared(first: Layer | None, merge: Kind | None) -> Network:
    """One norm after one or two convolutions, side by side and then merged, or in a row."""
    net = Network()
    one = net.layer(CONV)
    other = net.layer(CONV) if first is None else one
    norm = net.layer(NORM)
    left = net.call(norm, net.call(one, net.input))
    right = net.call(norm, net.call(other, net.input if merge else left))
    if merge:
        net.call(Kind.OUTPUT, net.call(merge, left, right))
    return net


@pytest.mark.parametrize(
    ("merge", "wrong"),
    [
        (None, True),
        (Kind.ADD, True),
        (Kind.CONCAT, True),
        (Kind.JOIN, False),
        (Kind.OPAQUE, False),
        (Kind.OUTPUT, False),
    ],
)
def test_a_norm_is_shared_where_both_places_run(merge: Kind | None, wrong: bool) -> None:
    assert bool(shared(None, merge).found("BN104")) is wrong


def test_a_sub_network_that_is_applied_again_is_not_a_shared_norm() -> None:
    net = Network()
    conv, norm = net.layer(CONV), net.layer(NORM)
    net.chain(conv, norm, Kind.ACTIVATION, conv, norm)
    assert net.found("BN104") == []


def test_branches_that_join_and_meet_again_both_run() -> None:
    net = Network()
    one, other, norm = net.layer(CONV), net.layer(CONV), net.layer(NORM)
    first = net.call(norm, net.call(one, net.input))
    joined = net.call(Kind.JOIN, first, net.call(Kind.ACTIVATION, first))
    net.call(norm, net.call(other, joined))
    assert len(net.found("BN104")) == 1


@pytest.mark.parametrize(
    ("complete", "mentioned", "wrong"),
    [(True, False, True), (True, True, False), (True, UNKNOWN, False), (False, UNKNOWN, False)],
)
def test_unused(complete: bool, mentioned: object, wrong: bool) -> None:
    net = Network()
    net.layer(NORM, mentioned=mentioned)
    net.graph.complete = complete
    assert bool(net.found("BN105")) is wrong


@pytest.mark.parametrize(
    ("attributes", "wrong"),
    [
        ({}, False),
        ({"momentum": 0.01}, False),
        ({"momentum": 0.49}, False),
        ({"momentum": 0.5}, True),
        ({"momentum": 0.0}, True),
        ({"momentum": None}, False),
        ({"momentum": UNKNOWN}, False),
        ({"momentum": Symbol("m")}, False),
        ({"momentum": 0.9, "track_running_stats": False}, False),
        ({"momentum": 0.9, "track_running_stats": UNKNOWN}, True),
        ({"eps": 0.0}, True),
        ({"eps": 0.1}, False),
        ({"eps": 0.5}, True),
        ({"eps": True}, True),
        ({"eps": False}, True),
        ({"eps": 0.5, "momentum": 0.9}, True),
    ],
)
def test_momentum_and_eps(attributes: dict[str, object], wrong: bool) -> None:
    net = Network()
    net.chain(net.layer(NORM, **attributes))
    assert bool(net.found("BN107")) is wrong


def test_each_layer_is_objected_to_once_and_a_functional_norm_at_its_call() -> None:
    net = Network()
    norm = net.layer(NORM, momentum=0.9)
    net.chain(norm, norm)
    net.call(NORM, net.input, functional=True, momentum=0.9, eps=1e-5)
    assert net.found("BN107") == ["layer 0", "call 3"]


@pytest.mark.parametrize(
    ("attributes", "wrong"),
    [
        ({"running_statistics": True, "training": True, "training_given": True}, True),
        ({"running_statistics": True, "training": False, "training_given": False}, True),
        ({"running_statistics": True, "training": False, "training_given": True}, False),
        ({"running_statistics": True, "training": UNKNOWN, "training_given": True}, False),
        ({"running_statistics": True, "training": UNKNOWN, "training_given": UNKNOWN}, False),
        ({"running_statistics": False, "training": True, "training_given": True}, False),
        ({"running_statistics": UNKNOWN, "training": True, "training_given": True}, False),
    ],
)
def test_hard_coded_training(attributes: dict[str, object], wrong: bool) -> None:
    net = Network()
    net.call(NORM, net.input, functional=True, **attributes)
    assert bool(net.found("BN108")) is wrong


@pytest.mark.parametrize(
    ("between", "wrong"),
    [
        ((), True),
        ((Kind.ACTIVATION, Kind.POOLING, Kind.RESHAPE), True),
        ((Kind.LAYER_NORM,), False),
        ((Kind.OPAQUE,), False),
        ((Kind.ATTENTION,), False),
    ],
)
def test_dropout_before_norm(between: tuple[Kind, ...], wrong: bool) -> None:
    net = Network()
    net.chain(net.layer(Kind.DROPOUT, p=0.5), *between, net.layer(NORM))
    assert net.found("BN109") == (["layer 0"] if wrong else [])


def test_dropout_that_never_drops() -> None:
    net = Network()
    net.chain(net.layer(Kind.DROPOUT, p=0.0), net.layer(NORM))
    assert net.found("BN109") == []


@pytest.mark.parametrize("first", [Kind.BATCH_NORM, Kind.INSTANCE_NORM, Kind.GROUP_NORM])
def test_norm_after_norm_sees_through_identities(first: Kind) -> None:
    net = Network()
    net.chain(net.layer(first), Kind.IDENTITY, net.layer(NORM))
    assert net.found("BN110") == ["layer 1"]


def _second_reader(net: Network, first: Node) -> None:
    net.call(Kind.ADD, first, net.input)


def test_norm_after_norm_alone() -> None:
    net = Network()
    first = net.call(net.layer(NORM), net.input)
    net.call(net.layer(NORM), first)
    _second_reader(net, first)
    assert net.found("BN110") == []
    net = Network()
    net.chain(net.layer(Kind.LAYER_NORM, num_features=4), net.layer(NORM))
    assert net.found("BN110") == []


def test_batch_norm_beside_instance_norm() -> None:
    net = Network()
    end = net.chain(
        net.layer(CONV), net.layer(Kind.INSTANCE_NORM), net.layer(CONV), net.layer(NORM)
    )
    assert net.found("BN111") == []  # a descriptor (SOSNet): nothing makes an image of it again
    net.call(Kind.UPSAMPLING, end)
    assert net.found("BN111") == ["layer 3"]
    halves = Network()
    parts = [halves.call(halves.layer(kind), halves.input) for kind in (NORM, Kind.INSTANCE_NORM)]
    halves.call(Kind.CONCAT, *parts)
    assert halves.found("BN111") == []  # IBN-Net normalises one half of the channels each

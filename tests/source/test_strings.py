"""Texts that a script puts together: what is computed, and what is too long to be."""

import operator

import libcst as cst
import pytest

from bncheck.graph import UNKNOWN
from bncheck.source.timeline import strings
from bncheck.source.timeline.operators import binary
from bncheck.source.timeline.values import LONGEST_TEXT, Constant, Container, Value

METHODS = [
    ("a.b", "split", ["."], ["a", "b"]),
    ("Net", "lower", [], "net"),
    ("{}-{:03d}", "format", ["net", 7], "net-007"),
    ("a" * 100, "replace", ["a", "b" * 50], "b" * 5000),
    ("{:>1000000}", "format", ["net"], UNKNOWN),
    ("{:{}}", "format", ["net", 10**9], UNKNOWN),
    ("{}", "format", ["a" * LONGEST_TEXT], UNKNOWN),
    ("a" * 1000, "replace", ["a", "b" * 1000], UNKNOWN),
    ("a", "zfill", [10**9], UNKNOWN),
    ("a", "split", [1], UNKNOWN),
]

SUMS = [
    ("=", operator.mul, 20, "=" * 20),
    (20, operator.mul, "=", "=" * 20),
    ("a", operator.add, "b", "ab"),
    ("=", operator.mul, 10**10, UNKNOWN),
    (10**10, operator.mul, "=", UNKNOWN),
    ("a" * LONGEST_TEXT, operator.add, "b", UNKNOWN),
    (10**10, operator.mul, 2, 2 * 10**10),
]
NODES = {operator.mul: cst.Multiply(), operator.add: cst.Add()}


def told(value: Value) -> object:
    match value:
        case Constant(value=constant):
            return constant
        case Container(elements=elements):
            return [told(element) for element in elements]
    return UNKNOWN


@pytest.mark.parametrize(("text", "name", "given", "made"), METHODS)
def test_methods(text: str, name: str, given: list[object], made: object) -> None:
    found = strings.method(Constant(text), name, [*map(Constant, given)], keywords=False)
    assert told(found) == made


JOINED = [
    (["networks", "pose"], "networks.pose"),
    ([], ""),
    (["networks", 1], UNKNOWN),
    (["a" * LONGEST_TEXT, "b"], UNKNOWN),
]


@pytest.mark.parametrize(("parts", "made"), JOINED)
def test_join(parts: list[object], made: object) -> None:
    listed = Container(tuple(map(Constant, parts)))
    assert told(strings.method(Constant("."), "join", [listed], keywords=False)) == made


@pytest.mark.parametrize(("left", "operation", "right", "made"), SUMS)
def test_operators(left: object, operation: object, right: object, made: object) -> None:
    assert told(binary(Constant(left), NODES[operation], Constant(right))) == made

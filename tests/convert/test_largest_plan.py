"""The plan removes as many BatchNorms as any order of moves does."""

import pytest

pytest.importorskip("torch")

import torch
from hypothesis import HealthCheck, assume, given, seed, settings
from hypothesis import strategies as st
from networks import Network, _Builder

from bncheck.convert.fold import fold
from bncheck.convert.plan import FoldOptions, unfinished
from bncheck.convert.planner import empty_plan, make_plan
from bncheck.convert.search import WAYS, copied, try_move
from bncheck.model.trace import trace
from fixtures.models.adversarial import Net, bn, conv, randomise

MOST = 5
"""BatchNorms up to which every order of moves is tried here."""


@st.composite
def networks_of_batch_norms(draw):
    """Draw a network with more BatchNorms than layers, so that they go into each other."""
    rank = draw(st.sampled_from([1, 2]))
    builder = _Builder(draw, (draw(st.sampled_from([2, 4])), *[4] * rank), more=False)
    for _ in range(draw(st.integers(4, 10))):
        newest = len(builder.shapes) - 1
        source = builder.choose(newest, newest, *range(newest + 1))
        kinds = [builder.norm, builder.norm, builder.norm, builder.join, builder.arrange]
        kinds += [builder.elementwise, builder.layer]
        if len(builder.shapes[source]) > 1:
            kinds.append(builder.pool)
        builder.choose(*kinds)(source)
    layers, steps = tuple(builder.layers), tuple(builder.steps)
    drawn = Network(builder.shapes[0], layers, steps, draw(st.integers(0, 99)), draw(st.booleans()))
    assume(2 <= sum(layer.type_name.startswith("BatchNorm") for layer in layers) <= MOST)
    return drawn


@pytest.mark.parametrize("part", range(2))
@pytest.mark.filterwarnings("ignore")
def test_no_order_of_moves_removes_more(part):
    @seed(part)
    @settings(
        max_examples=100, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(network=networks_of_batch_norms())
    def check(network):
        traced = trace(network.model(), (network.input(0),), {})
        assert len(make_plan(traced).removed_names) == most_by_any_order(traced)

    check()


def most_by_any_order(traced):
    """Make every possible move from every state that moves lead to."""
    states, seen, most = [empty_plan(traced, FoldOptions(), {})], set(), 0
    while states:
        plan = states.pop()
        made = frozenset(plan.steps)
        most = max(most, len(made))
        if made in seen:
            continue
        seen.add(made)
        for index, batch_norm in enumerate(plan.batch_norms):
            for way in WAYS:
                after = copied(plan)
                if batch_norm in [*unfinished(plan)] and try_move(
                    after, after.batch_norms[index], way
                ):
                    states.append(after)
    return most


def into_one(count):
    """Return BatchNorms of which all can go into the one behind them, or that into them."""
    layers = {f"norm{i}": bn(2) for i in range(count)}

    def run(m, x):
        parts = [getattr(m, f"norm{i}")(torch.tanh(x * (i + 1))) for i in range(count)]
        return m.last(torch.cat(parts, 1))

    return Net(run, last=bn(2 * count), **layers)


def out_of_one(count):
    """Return BatchNorms of which all can go into the one before them, or that into them."""
    layers = {f"norm{i}": bn(2) for i in range(count)}

    def run(m, x):
        parts = m.first(torch.cat([torch.tanh(x * i) for i in range(count)], 1)).split(2, 1)
        return [torch.tanh(getattr(m, f"norm{i}")(part)) for i, part in enumerate(parts)]

    return Net(run, first=bn(2 * count), **layers)


def shifted_into_padding(count):
    """Return BatchNorms that go into one without a shift, which alone could go forward.

    Into the padded convolution behind it go only maps without a shift.
    """
    model = into_one(count)
    model.run = lambda m, x, run=model.run: torch.relu(m.conv(run(m, x)))
    model.conv = conv(2 * count, 2, padding=1)
    return model


@pytest.mark.parametrize("count", [2, 3, 5, 8, 12])
@pytest.mark.parametrize("build", [into_one, out_of_one, shifted_into_padding])
def test_many_go_where_one_could_have_gone(build, count):
    model = randomised(build, count)
    traced = trace(model, (torch.randn(2, 2, 5, 5).double(),), {})
    plan = make_plan(traced)
    assert len(plan.removed_names) == count, plan.refusals
    if count <= 5:  # of more, there are too many orders to try each
        assert not plan.cut_short


def randomised(build, count):
    model = build(count).eval()
    randomise(model)
    if build is shifted_into_padding:
        with torch.no_grad():
            model.last.bias.copy_(model.last.running_mean * 0)
            model.last.running_mean.zero_()
    return model.double()


@pytest.mark.filterwarnings("ignore")
def test_a_search_that_was_cut_short_is_told():
    model, x = randomised(into_one, 3), torch.randn(2, 2, 5, 5).double()
    whole = fold(model, x)
    assert (len(whole.steps), whole.cut_short, whole.notes) == (3, (), ())

    hurried = fold(model, x, attempts=5)
    assert len(hurried.steps) == 1
    assert hurried.cut_short == (("last", "norm0", "norm1", "norm2"),)
    assert list(hurried.notes) == [
        "there may be a plan in which more BatchNorms go: 4 of them (last, norm0, norm1, ...) go "
        "into each other, and the search for their best order ended after at most 5 moves"
    ]

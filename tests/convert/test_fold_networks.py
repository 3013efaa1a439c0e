"""Random networks: what fold gives computes the same, and leaves nothing that can be folded.

500 networks in the test run, always the same; `make fuzz` sets BNCHECK_NETWORKS to 20,000 and
takes BNCHECK_SEED.
"""

import os

import pytest

pytest.importorskip("torch")

from foldable import foldable
from hypothesis import HealthCheck, given, seed, settings
from networks import PRODUCTS, networks
from observe import assert_untouched, difference, operations, outputs, snapshot

from bncheck.convert.fold import fold

COUNT = int(os.environ.get("BNCHECK_NETWORKS", "500"))
SEED = int(os.environ.get("BNCHECK_SEED", "0"))
PART = 100
"""Networks drawn from one seed, so that two processes can share the work."""


@pytest.mark.parametrize("part", range(-(-COUNT // PART)))
@pytest.mark.filterwarnings("ignore")
def test_random_networks(part):
    @seed(SEED * 1_000_003 + part)
    @settings(
        max_examples=PART, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(network=networks())
    def check(network):
        fold_and_compare(network)

    check()


@settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@seed(SEED)
@given(network=networks(more=True))
@pytest.mark.filterwarnings("ignore")
def test_networks_with_constants_and_sums(network):
    fold_and_compare(network)


@settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@seed(SEED)
@given(network=networks(products=True))
@pytest.mark.filterwarnings("ignore")
def test_networks_with_products_and_mixtures(network):
    fold_and_compare(network)


def fold_and_compare(network):
    model = network.model()
    before = snapshot(model)
    example = network.input(0)

    result = fold(model, (example,), verify=False)

    assert_untouched(before, model)
    for number, factor in enumerate((1, 3, -1)):
        x = network.input(number) * factor
        found = difference(outputs(model, (x,)), outputs(result.model, (x,)))
        assert found <= 1e-8, f"wrong by {found}: {result.steps}"
    if any(step.kind in PRODUCTS for step in network.steps):
        return  # the rule also folds through a product, where it mixes none of the channels
    left = {refusal.batch_norm: refusal.reason for refusal in result.refusals}
    possible = foldable(model, network.input(3, batch=1))
    # One that took in another could itself have gone into that one: either way one is gone.
    took = {name for step in result.steps for name in step.into.split(", ")}
    missed = {n: (way, left[n]) for n, way in possible.items() if n in left and n not in took}
    assert not missed, result.steps
    calls = operations(model, (example,)).batch_norms
    remaining = operations(result.model, (example,)).batch_norms
    assert remaining <= calls - len(possible.keys() - took), (left, possible)

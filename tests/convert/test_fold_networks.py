"""Random networks: what fold gives computes the same, and leaves nothing that can be folded.

500 networks in the test run; `make fuzz` sets BNCHECK_NETWORKS to 20,000 and a seed of its own.
"""

import os

import pytest

pytest.importorskip("torch")
pytest.importorskip("bncheck.convert.fold")

from hypothesis import HealthCheck, given, note, settings
from networks import networks
from observe import assert_untouched, difference, operations, outputs, snapshot

from benchmarks.foldable import foldable
from bncheck.convert.fold import fold

COUNT = int(os.environ.get("BNCHECK_NETWORKS", "500"))


@settings(
    max_examples=COUNT,
    derandomize="BNCHECK_NETWORKS" not in os.environ,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(network=networks())
@pytest.mark.filterwarnings("ignore")
def test_random_networks(network):
    model = network.model()
    before = snapshot(model)
    example = network.input(0)

    result = fold(model, (example,), verify=False)

    assert_untouched(before, model)
    for seed in (0, 1, 2):
        x = network.input(seed) * (1, 3, -1)[seed]
        found = difference(outputs(model, (x,)), outputs(result.model, (x,)))
        assert found <= 1e-8, f"wrong by {found}: {result.steps}"
    left = {refusal.batch_norm: refusal.reason for refusal in result.refusals}
    possible = foldable(model, network.input(3, batch=1))
    note(f"steps {result.steps}\nleft {left}\npossible {possible}")
    missed = {name: (way, left[name]) for name, way in possible.items() if name in left}
    assert not missed
    calls = operations(model, (example,)).batch_norms
    remaining = operations(result.model, (example,)).batch_norms
    assert remaining <= calls - len(possible)

"""BN403: the converted SyncBatchNorm is thrown away."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.checks import check
from bncheck.events import Wrap, WrapKind
from bncheck.findings import Confidence, Match
from bncheck.graph import Site
from bncheck.naming import called
from bncheck.timeline import Timeline


@check("BN403", Timeline)
def sync_result_lost(timeline: Timeline) -> Iterator[Match]:
    """Yield each conversion whose result is not used though it is not the module given."""
    seen: set[Site] = set()
    for _, wrap in timeline.of(Wrap):
        if wrap.kind is not WrapKind.SYNC_BATCH_NORM or wrap.kept is not False or wrap.site in seen:
            continue
        is_a_norm = wrap.model.type_name.rpartition(".")[2].startswith("BatchNorm")
        if not is_a_norm and wrap.model.type_name:
            continue  # Below its root a model is converted in place.
        seen.add(wrap.site)
        yield Match(
            wrap.site,
            f"the result is thrown away, and {called(wrap.model)} "
            + ("is" if is_a_norm else "may be")
            + " a BatchNorm itself, which can't be converted in place",
            f"assign the result: `{wrap.model.name} = ...convert_sync_batchnorm(...)`",
            Confidence.PROVEN if is_a_norm else Confidence.POSSIBLE,
        )

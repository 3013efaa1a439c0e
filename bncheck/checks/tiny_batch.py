"""BN301: a training loader whose batches are too small for BatchNorm."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.batches import Feeding, tiny_feedings, variance_error
from bncheck.checks import check
from bncheck.events import WrapKind
from bncheck.findings import Confidence, Match, Severity
from bncheck.graph import Site
from bncheck.naming import called
from bncheck.timeline import Timeline

_HINT = (
    "raise the batch size, freeze the statistics of a pretrained network, or use GroupNorm; "
    "accumulating gradients does not help"
)


@check("BN301", Timeline)
def tiny_batch(timeline: Timeline) -> Iterator[Match]:
    """Yield each loader with a tiny constant batch that trains BatchNorm in train mode."""
    seen: set[Site] = set()
    for feeding, size, sure in tiny_feedings(timeline):
        if feeding.loader.site in seen or _is_shared(feeding):
            continue
        seen.add(feeding.loader.site)
        if size == 1 and feeding.fails_on_one:
            yield Match(
                feeding.loader.site,
                f"batches of one go into {called(feeding.model)} in train mode: a BatchNorm in it "
                "sees one value per channel and raises ValueError",
                _HINT,
                Confidence.PROVEN,
                severity=Severity.ERROR,
            )
            continue
        yield Match(
            feeding.loader.site,
            f"batches of {size} train the BatchNorm of {called(feeding.model)}: " + _harm(size),
            _HINT,
            # What a unit test trains is thrown away.
            Confidence.POSSIBLE if timeline.is_test else sure,
        )


def _is_shared(feeding: Feeding) -> bool:
    """Tell whether several processes train on it: then it is BN401's case."""
    wrapped = feeding.moment.wrapped(feeding.model, WrapKind.DISTRIBUTED)
    return wrapped is True or (wrapped is None and feeding.loader.distributed is not False)


def _harm(size: int) -> str:
    if size == 1:
        return "each sample is normalised by its own statistics alone"
    return (
        f"the variance of {size} independent samples is off by {variance_error(size):.0%} "
        "(root mean square)"
    )

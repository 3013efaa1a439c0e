"""BN107: a momentum or an eps that means something else than its author thought."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bncheck.checks import check
from bncheck.findings import Confidence, Fix, Match, SetKeyword
from bncheck.graph import Kind, Layer, LayerGraph, Site

_MOMENTUM_POSITION = 2
"""Among the arguments of the constructors in torch.nn."""


@check("BN107", LayerGraph, unapplied=True)
def keras_momentum(graph: LayerGraph) -> Iterator[Match]:
    """Yield each BatchNorm whose constant momentum or eps is out of all sensible range."""
    for layer in graph.layers:
        if layer.kind is Kind.BATCH_NORM:
            site, fixable = _constants(layer)
            if site is not None:
                yield from _objections(site, layer.get, fixable=fixable)
    for node in graph.of_kind(Kind.BATCH_NORM):
        if node.get("functional") is True and node.site is not None:
            updates = node.get("training") is not False
            yield from _objections(node.site, node.get, fixable=False, updates=updates)


def _constants(layer: Layer) -> tuple[Site | None, bool]:
    """Return where a layer's constants are given, and whether that is to torch's own class."""
    initialised_at = layer.get("initialised_at")
    if not isinstance(initialised_at, Site):
        return layer.site, layer.type_name.startswith("torch.nn.")
    # A class of the project's own: its constants stand where it calls torch's class.
    given = layer.get("constants_given") is True and layer.site is not None
    return (layer.site, False) if given else (initialised_at, True)


def _objections(
    site: Site, get: Callable[[str], object], *, fixable: bool, updates: bool = True
) -> Iterator[Match]:
    """Yield what is wrong; a functional call that never `updates` has no use for a momentum."""
    keeps_statistics = get("track_running_stats") is not False
    keeps_statistics = keeps_statistics and get("running_statistics") is not False
    momentum, eps = _number(get("momentum")), _number(get("eps"))
    if isinstance(get("eps"), bool):
        # The author took the second argument for `affine`.
        yield Match(
            site,
            f"eps={get('eps')} counts as {int(get('eps') is True)}: the second argument is eps",
            "pass what is meant by its name, such as affine=False",
        )
    if momentum is not None and keeps_statistics and updates:
        yield from _momentum(site, momentum, fixable=fixable)
    if eps is not None and (eps <= 0 or eps > 0.1):
        yield Match(
            site,
            f"eps={eps:g} "
            + ("divides by zero in a constant channel" if eps <= 0 else "drowns small variances"),
            "the default is 1e-05; the second argument is eps, and momentum is the third",
        )


def _momentum(site: Site, momentum: float, *, fixable: bool) -> Iterator[Match]:
    if momentum == 0:
        yield Match(
            site,
            "momentum=0 never updates the running statistics, and training still normalises by "
            "the batch",
            "freeze a BatchNorm with eval(), or leave momentum at its default",
        )
    elif momentum == 1:
        yield Match(
            site,
            "momentum=1 keeps the statistics of the last batch only",
            "use 0.1, or momentum=None for the average over all batches",
            confidence=Confidence.POSSIBLE,
        )
    elif 0.5 <= momentum < 1:
        torch_momentum = f"{1 - momentum:.10g}"
        change = SetKeyword(site, "momentum", torch_momentum, _MOMENTUM_POSITION)
        fixable = fixable and momentum > 0.5
        yield Match(
            site,
            f"momentum={momentum:g} is the share of the newest batch in PyTorch: the running "
            f"statistics follow the last {_batches(momentum)}",
            f"Keras's {momentum:g} is momentum={torch_momentum} here"
            if momentum > 0.5
            else "the default is 0.1",
            fix=Fix(f"Set momentum={torch_momentum}", (change,), safe=False) if fixable else None,
        )


def _batches(momentum: float) -> str:
    """Return the time constant of the running average in batches, 1 / momentum."""
    return f"{1 / momentum:.1f} batches" if momentum < 0.95 else "batch alone"


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

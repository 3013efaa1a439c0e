"""What the checks say of each construction site, counted over all networks of a run."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

from bncheck.checks import Check
from bncheck.findings import Confidence, Match
from bncheck.graph import PRODUCERS, LayerGraph, Site

_Counts = dict[tuple[bool, Site], int]


def _counts() -> _Counts:
    return defaultdict(int)


def _counted(sites: Collection[Site | None]) -> Iterator[tuple[Site, int]]:
    """Yield each object among the sites, and how often it is there; equal ones each by itself."""
    found = {id(site): site for site in sites if site is not None}
    counts = Counter(map(id, sites))
    return ((site, counts[name]) for name, site in found.items())


@dataclass(eq=False)
class Tally:
    """Which layers were constructed where, and what is wrong with how many of them.

    Networks whose parameters are symbols count only for sites of which no others tell, or of which
    some layers of the network are right and some are not. A layer that no forward applies counts
    only for checks of layers as they are constructed.
    """

    checks: Sequence[Check]
    suspects: set[Site] = field(default_factory=set)
    """Sites of which something is wrong in every network so far."""
    constructed: _Counts = field(default_factory=_counts)
    """How many layers each site constructed, in networks with symbols or without."""
    _applied: _Counts = field(default_factory=_counts)
    _wrong: dict[Site, dict[tuple[Check, bool], list[Match]]] = field(default_factory=dict)
    _mixed: set[tuple[Check, Site]] = field(default_factory=set)
    """Where layers of one network are right and others of it are not."""

    def add(self, graph: LayerGraph) -> None:
        """Run the checks on a network."""
        symbolic = graph.symbolic
        found = list(self._found(graph))
        # Counted by identity first: a site is hashed in Python, and layers of one are many.
        layers = {id(layer): layer for layer in graph.layers if layer.site is not None}.values()
        applied = [layer.site for layer in layers if graph.uses(layer)] + [
            node.site
            for node in graph.of_kind(*PRODUCERS)
            if node.layer is None and node.get("functional") is True
        ]
        sites: set[Site] = set()
        for counts, met in (
            (self.constructed, [layer.site for layer in layers]),
            (self._applied, applied),
        ):
            for site, count in _counted(met):
                counts[symbolic, site] += count
                if site in self._wrong:
                    sites.add(site)
        if symbolic and found:
            for (check, site), count in Counter((check, m.site) for check, m in found).items():
                met = [layer.site for layer in layers] if check.unapplied else applied
                if count < met.count(site):
                    self._mixed.add((check, site))
        for check, match in found:
            self.note(check, symbolic, match)
            sites.add(match.site)
        for site in sites:
            judged = self._judged(site)
            if any(match.confidence is not Confidence.POSSIBLE for _, match in judged):
                self.suspects.add(site)
            else:
                self.suspects.discard(site)

    def _found(self, graph: LayerGraph) -> Iterator[tuple[Check, Match]]:
        """Yield what is wrong in a network, whatever its callers give for what has a default."""
        found = [(check, match) for check in self.checks for match in check.function(graph)]
        if graph.otherwise is None or all(self._is_settled(graph, *one) for one in found):
            yield from found
            return
        other = graph.otherwise()
        there = Counter(
            (check, match.site)
            for check in {check for check, _ in found}
            for match in check.function(other)
        )
        for check, match in found:
            if there[check, match.site]:
                there[check, match.site] -= 1
                yield check, match

    def _is_settled(self, graph: LayerGraph, check: Check, match: Match) -> bool:
        """Tell whether some layer of the site was right before: then it is possible at most."""
        before = self._wrong.get(match.site, {}).get((check, graph.symbolic), ())
        instances = self.constructed if check.unapplied else self._applied
        return bool(before) and len(before) < instances[graph.symbolic, match.site]

    def note(self, check: Check, symbolic: bool, match: Match) -> None:
        """Add one match, of a check that was run elsewhere."""
        found = self._wrong.setdefault(match.site, {})
        found.setdefault((check, symbolic), []).append(match)

    def matches(self) -> list[tuple[str, Match]]:
        """Return what is wrong; where only with some layers of a site, it is only possible.

        Then a fix would change the layers that are right as well.
        """
        return [judged for site in self._wrong for judged in self._judged(site)]

    def _judged(self, site: Site) -> Iterator[tuple[str, Match]]:
        for (check, symbolic), found in self._wrong[site].items():
            instances = self.constructed if check.unapplied else self._applied
            if symbolic and (instances.get((False, site)) or (check, False) in self._wrong[site]):
                # Calls with known arguments construct this layer, and they tell more.
                continue
            match = found[0]
            if len(found) < instances[symbolic, site] or (check, site) in self._mixed:
                hint = match.hint_in_some or match.hint
                match = replace(match, confidence=Confidence.POSSIBLE, hint=hint, fix=None)
            yield check.code, match

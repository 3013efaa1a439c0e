"""What the linter says about a package: BN101's findings, and the layers and edges behind them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bncheck.config import Settings
from bncheck.findings import Confidence
from bncheck.graph import BATCH_STATISTICS, PRODUCERS, Layer, LayerGraph, Site, readers
from bncheck.source.exact import exact
from bncheck.source.lift import networks
from bncheck.source.project import Project
from bncheck.worker import lint_files
from truth.observe import Position


@dataclass
class SiteReading:
    """What the source reader made of one construction site."""

    types: Counter[str] = field(default_factory=Counter)
    biases: Counter[str] = field(default_factory=Counter)
    consumers: Counter[str] = field(default_factory=Counter)
    """Kinds that read the output of one application, joined by ` + `."""
    incomplete: int = 0
    """Networks holding the layer whose forward was not understood fully."""

    def reason(self) -> str:
        """Say in one line why a bias here was, or was not, called redundant."""
        bias = ", ".join(sorted(self.biases))
        consumers = ", ".join(key for key, _ in self.consumers.most_common(3)) or "not applied"
        return f"bias {bias}; read by: {consumers}"


@dataclass
class Reading:
    """Everything that the linter says about one package."""

    findings: dict[Position, Confidence] = field(default_factory=dict)
    sites: dict[Position, SiteReading] = field(default_factory=dict)
    edges: set[tuple[Position, Position]] = field(default_factory=set)
    networks: int = 0
    complete: int = 0
    files: int = 0
    seconds: float = 0.0
    """CPU time of the lint run, this process."""
    statistics: dict[str, int] = field(default_factory=dict)


def read(root: Path) -> Reading:
    """Lint every file under `root` for BN101 and gather what its networks look like."""
    paths = sorted(str(p) for p in root.rglob("*.py"))
    reading = Reading(files=len(paths))
    project = Project(texts={Path(path): Path(path).read_bytes() for path in paths})
    start = time.process_time()
    report = lint_files(paths, project, Settings(select=("BN101",), pedantic=True))
    reading.seconds = time.process_time() - start
    reading.statistics = report.statistics
    for finding in report.findings:
        if finding.code == "BN101":
            where = (_relative(finding.path, root), finding.line, finding.column)
            reading.findings[where] = finding.confidence
    _gather(paths, project, root, reading)
    return reading


def _gather(paths: list[str], project: Project, root: Path, reading: Reading) -> None:
    sites: dict[Site, SiteReading] = {}
    edges: set[tuple[Site, Site]] = set()
    modules = []
    for path in paths:
        try:
            modules.append(project.module(path))
        except Exception:  # reported by lint_files
            continue
    for graph in networks(modules, project):
        reading.networks += 1
        reading.complete += graph.complete
        for layer in graph.layers:
            if layer.kind in PRODUCERS and layer.site is not None:
                _describe(sites.setdefault(layer.site, SiteReading()), layer, graph)
        edges.update(_edges(graph))
    places = _positions(set(sites) | {s for edge in edges for s in edge}, project, root)
    reading.sites = {places[site]: seen for site, seen in sites.items() if site in places}
    reading.edges = {(places[a], places[b]) for a, b in edges if a in places and b in places}


def _describe(seen: SiteReading, layer: Layer, graph: LayerGraph) -> None:
    seen.types[layer.type_name] += 1
    seen.biases[str(layer.get("bias"))] += 1
    seen.incomplete += not graph.complete
    for use in graph.uses(layer):
        kinds = sorted(f"{c.kind.value} {c.name}"[:60] for c in use.consumers)
        seen.consumers[" + ".join(kinds[:3]) or "nothing"] += 1


def _edges(graph: LayerGraph) -> Iterator[tuple[Site, Site]]:
    for node in graph.of_kind(*PRODUCERS):
        if node.layer is None or node.layer.site is None:
            continue
        for reader in readers(node):
            if (
                reader.kind in BATCH_STATISTICS
                and reader.layer is not None
                and reader.layer.site is not None
            ):
                yield node.layer.site, reader.layer.site


def _positions(sites: set[Site], project: Project, root: Path) -> dict[Site, Position]:
    by_path: dict[str, list[Site]] = {}
    for site in sites:
        by_path.setdefault(site.path, []).append(site)
    found: dict[Site, Position] = {}
    for path, own in by_path.items():
        written = exact(project.module(path), [site.mark for site in own])
        ranges = written.ranges(written.nodes.values())
        for site in own:
            where = ranges.get(id(written.nodes.get(id(site.mark))))
            if where is not None:
                found[site] = (_relative(path, root), where.line, where.column)
    return found


def _relative(path: str, root: Path) -> str:
    return str(Path(path).resolve().relative_to(root.parent))

"""Measure BN101 and the source graph against the truth, taken by building and running real models.

Every construction site of a convolution or linear layer in a package is labelled by what was seen:
`true` when every instance had a bias and its output went, alone and unmodified, into a BatchNorm
or InstanceNorm; `mixed` when some instances did; `false` otherwise. Sites that no model reached
are not judged. Then the linter reads the package's source, and its findings are compared.

    python benchmarks/structure_truth.py --package pytorchcv --package timm --misses 20
    python benchmarks/structure_truth.py --package pytorchcv --mutation strip
    python benchmarks/structure_truth.py --repository kuangliu/pytorch-cifar=FOLDER

What models a package has is told by `truth/zoos.py`, and a repository by `truth/repositories.py`;
of one that they do not know, whatever can be built without arguments, or with usual ones, is run
(see `truth/anything.py`).

Public zoos are mostly clean. `--mutation` makes a copy of the package whose layers have the biases
that upstream took away, and builds and runs the models of that copy (see `truth/mutate.py`), so
its thousands of true sites are seen and not inferred.

The truth is kept in `--cache` and taken again only when asked (`--again`), since the source reader
changes more often than the packages do. A finding on a `mixed` site counts as false.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from truth.collect import from_json  # noqa: E402
from truth.mutate import MUTATIONS, mutated_copy  # noqa: E402
from truth.observe import Position, Truth  # noqa: E402
from truth.reading import Reading, read  # noqa: E402

from bncheck.findings import Confidence  # noqa: E402


@dataclass
class Score:
    """Counts of one package, or of all together."""

    models: int = 0
    ran: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    found: int = 0
    findings: int = 0
    unjudged: int = 0
    right: int = 0
    possible: int = 0
    edges_both: int = 0
    edges_trace: int = 0
    edges_source: int = 0

    def __add__(self, other: Score) -> Score:
        return Score(**{name: getattr(self, name) + getattr(other, name) for name in vars(self)})

    @property
    def recall(self) -> str:
        """Share of the true sites that are found."""
        return _share(self.found, self.labels["true"])

    @property
    def precision(self) -> str:
        """Share of the findings at sites that ran which are true."""
        return _share(self.right, self.findings - self.unjudged)

    @property
    def edge_recall(self) -> str:
        """Share of the traced edges that the source graph has."""
        return _share(self.edges_both, self.edges_both + self.edges_trace)


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def score(truth: Truth, reading: Reading) -> Score:
    """Compare what was seen with what the linter says."""
    result = Score(models=len(truth.models))
    result.ran = sum(outcome == "ok" for outcome in truth.models.values())
    shown = {p for p, confidence in reading.findings.items() if confidence != Confidence.POSSIBLE}
    result.possible = len(reading.findings) - len(shown)
    result.findings = len(shown)
    for position, seen in truth.sites.items():
        result.labels[seen.label] += 1
        if position in shown:
            result.found += seen.label == "true"
            result.right += seen.label == "true"
    result.unjudged = len(shown - truth.sites.keys())
    judged = {edge for edge in reading.edges if edge[0] in truth.sites}
    result.edges_both = len(judged & truth.edges.keys())
    result.edges_trace = len(truth.edges.keys() - judged)
    result.edges_source = len(judged - truth.edges.keys())
    return result


def classes(truth: Truth, reading: Reading) -> dict[str, dict[str, list[Position]]]:
    """Group misses, false findings and edge differences by what the reader says of them."""
    groups: dict[str, dict[str, list[Position]]] = {
        name: defaultdict(list)
        for name in ("misses", "false findings", "edges only traced", "edges only in source")
    }
    for position, seen in sorted(truth.sites.items()):
        shown = reading.findings.get(position) not in (None, Confidence.POSSIBLE)
        said = _said(position, reading)
        if seen.label == "true" and not shown:
            groups["misses"][said].append(position)
        if seen.label != "true" and shown:
            models = ", ".join(key for key, _ in seen.consumers.most_common(3))
            label = f"{seen.label}: {seen.biased} of {seen.instances} biased, read by {models}"
            groups["false findings"][label].append(position)
    for producer, norm in sorted(truth.edges.keys() - reading.edges):
        known = "" if norm in {b for _, b in reading.edges} else "; norm in no edge"
        groups["edges only traced"][_said(producer, reading) + known].append(producer)
    for producer, _ in sorted(reading.edges - truth.edges.keys()):
        if producer in truth.sites:
            models = ", ".join(k for k, _ in truth.sites[producer].consumers.most_common(3))
            groups["edges only in source"][f"really read by {models}"].append(producer)
    return groups


def _said(position: Position, reading: Reading) -> str:
    seen = reading.sites.get(position)
    if seen is None:
        return "no layer read at this site"
    possible = "only possible; " if position in reading.findings else ""
    return possible + seen.reason()


def truth_of(
    name: str, folder: Path, mutation: str, arguments: argparse.Namespace
) -> tuple[Truth, Path]:
    """Return the truth about a package and the folder whose source it is about."""
    cache: Path = arguments.cache
    cache.mkdir(parents=True, exist_ok=True)
    if mutation:
        into = cache / mutation
        copy = into / folder.name
        if arguments.again or not copy.is_dir():
            into.mkdir(exist_ok=True)
            mutated_copy(folder, into, mutation)
        folder = copy
    stored = cache / f"{name.replace('/', '+')}{'-' + mutation if mutation else ''}.json"
    if arguments.again or not stored.is_file():
        environment = {
            **os.environ,
            "PYTHONPATH": str(HERE),
            "OMP_NUM_THREADS": "1",
            "PYTORCH_JIT": "0",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        command = [sys.executable, "-m", "truth.collect", name, str(folder)]
        ended = subprocess.run(
            [*command, str(arguments.limit), str(stored.resolve())],
            env=environment,
            stderr=None if arguments.verbose else subprocess.DEVNULL,
        )
        if ended.returncode:
            sys.exit(f"the models of {name} could not be run; --verbose shows why")
    return from_json(json.loads(stored.read_text())), folder


def show(name: str, result: Score, reading: Reading | None = None) -> None:
    cost = f"  {reading.seconds:.0f} s CPU" if reading else ""
    networks = f"  {reading.complete}/{reading.networks} networks complete" if reading else ""
    print(
        f"{name}: {result.ran} of {result.models} models ran; sites {result.labels['true']} true, "
        f"{result.labels['mixed']} mixed, {result.labels['false']} false\n"
        f"    BN101 found {result.found} (recall {result.recall}); {result.findings} findings, "
        f"{result.unjudged} at sites no model reached, precision {result.precision}; "
        f"{result.possible} possible\n"
        f"    edges: {result.edges_both} by both, {result.edges_trace} only traced, "
        f"{result.edges_source} only in source (recall {result.edge_recall}){networks}{cost}",
        flush=True,
    )


def show_classes(groups: dict[str, dict[str, list[Position]]], most: int) -> None:
    for title, group in groups.items():
        for reason, positions in sorted(group.items(), key=lambda item: -len(item[1]))[:most]:
            examples = ", ".join(f"{p}:{line}:{column}" for p, line, column in positions[:3])
            print(f"    {title}: {len(positions)} x {reason}\n        {examples}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--package", action="append", default=[], help="an installed package")
    parser.add_argument(
        "--repository", action="append", default=[], metavar="OWNER/NAME=FOLDER",
        help="a public repository, unpacked in FOLDER",
    )  # fmt: skip
    parser.add_argument("--mutation", choices=("", *MUTATIONS), default="")
    parser.add_argument("--limit", type=int, default=2, help="models per family")
    parser.add_argument("--misses", type=int, default=0, help="classes of misses to list")
    parser.add_argument("--held-out", action="append", default=[], help="list no classes of these")
    parser.add_argument("--cache", type=Path, default=HERE.parent / "build" / "truth")
    parser.add_argument("--again", action="store_true", help="take the truth again")
    parser.add_argument("--verbose", action="store_true", help="show each model's outcome")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    sources: dict[str, Path] = {}
    for name in arguments.package:
        specification = importlib.util.find_spec(name)
        if specification is None or not specification.submodule_search_locations:
            print(f"{name}: not installed")
            continue
        sources[name] = Path(specification.submodule_search_locations[0]).resolve()
    for entry in arguments.repository:
        name, _, folder = entry.partition("=")
        sources[name] = Path(folder).resolve()
    total = Score()
    for name, folder in sources.items():
        truth, source = truth_of(name, folder, arguments.mutation, arguments)
        reading = read(source)
        result = score(truth, reading)
        total += result
        show(name, result, reading)
        if arguments.misses and name not in arguments.held_out:
            show_classes(classes(truth, reading), arguments.misses)
    if len(sources) > 1:
        show("all", total)


if __name__ == "__main__":
    main()

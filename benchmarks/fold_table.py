"""What `fold_zoo.py` found, for people."""

from __future__ import annotations

import statistics
from typing import Any

from fold_tools import SHOWN


def tables(results: dict[str, Any]) -> str:
    """Return the comparison as Markdown: of all models, and of those that every tool was run on."""
    records = results["models"]
    most = max((len(record["tools"]) for record in records.values()), default=0)
    common = {n: r for n, r in records.items() if len(r["tools"]) == most}
    text = table(records)
    if len(common) < len(records):
        text += f"\n\nof which every tool was run on:\n\n{table(common)}"
    return text


def table(records: dict[str, Any]) -> str:
    """Return the comparison of some models as Markdown."""
    total = sum(record["batch_norms"] for record in records.values())
    lines = [
        f"{len(records)} models, {total} BatchNorms",
        "",
        "| tool | models handled | BatchNorms removed | wrong models "
        "| CPU seconds to fold (median) | CPU before / after, batch 1 | batch 32 |",
        "|---|---|---|---|---|---|---|",
    ]
    for tool, shown in SHOWN.items():
        runs = [r["tools"][tool] for r in records.values() if tool in r["tools"]]
        good = [run for run in runs if run["handled"]]
        if not runs:
            continue
        over = sum(r["batch_norms"] for r in records.values() if tool in r["tools"])
        removed = sum(run["removed"] for run in good if not run["wrong"])
        seconds = f"{statistics.median(r['seconds'] for r in good):.2f}" if good else "-"
        lines.append(
            f"| {shown} | {len(good)} of {len(runs)} | {removed} ({removed / max(over, 1):.1%}) "
            f"| {sum(run['wrong'] for run in good)} | {seconds} "
            f"| {_ratio(good, '1')} | {_ratio(good, '32')} |"
        )
    return "\n".join(lines)


def _ratio(runs: list[dict[str, Any]], batch: str) -> str:
    ratios = [r["latency"][batch]["ratio"] for r in runs if (r.get("latency") or {}).get(batch)]
    return f"{statistics.median(ratios):.2f} ({len(ratios)} models)" if ratios else "-"


def left(results: dict[str, Any]) -> str:
    """Return what bncheck leaves, with its reasons, and what it or its result gets wrong."""
    lines = []
    for name, record in results["models"].items():
        run = record["tools"].get("bncheck")
        if run is None:
            continue
        if not run["handled"]:
            lines.append(f"{name}: not handled: {run['error']}")
            continue
        if run["wrong"]:
            lines.append(f"{name}: WRONG by {run['error']:.2e}")
        if run["removed"] < record["batch_norms"]:
            lines.append(f"{name}: {run['removed']} of {record['batch_norms']} removed")
        lines.extend(f"    {norm}: {reason}" for norm, reason in run["left"].items())
    return "\n".join(lines)

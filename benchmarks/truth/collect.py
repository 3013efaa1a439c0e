"""Builds and runs one package's models and writes the truth about its sites as JSON.

Runs as a process of its own (`python -m truth.collect`), so that a mutated copy of the package can
stand in the place of the installed one.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from truth import anything, observe, repositories, zoos
from truth.models import Model, sampled

SECONDS_PER_MODEL = 90


def collect(models: Iterable[Model], root: Path, *, show: bool = False) -> observe.Truth:
    """Build and run the models; one that cannot be is counted with its reason."""
    truth = observe.Truth()
    with observe.construction_sites(root):
        for model in models:
            outcome = _one(model, truth)
            truth.models[model.name] = outcome
            if show:
                print(f"{model.name}: {outcome}", file=sys.stderr, flush=True)
            gc.collect()
    return truth


def _one(model: Model, truth: observe.Truth) -> str:
    problem = ""
    for device in ("meta", "cpu"):
        signal.alarm(SECONDS_PER_MODEL)
        try:
            with torch.device(device):
                network = model.build()
            uses = _run(network, model, torch.device(device))
        except (Exception, SystemExit) as failure:
            lines = str(failure).splitlines()
            problem = f"{type(failure).__name__}: {lines[0][:120] if lines else ''}"
            continue
        finally:
            signal.alarm(0)
        observe.record(truth, uses)
        return "ok"
    return problem


def _run(network: nn.Module, model: Model, device: torch.device) -> list[observe.Use]:
    """Run once in eval mode, and in train mode too where the model can; eval must succeed."""
    problem: Exception | None = None
    for inputs in model.inputs:
        args, kwargs = inputs(device, network)
        try:
            uses = observe.run(network.eval(), args, kwargs)
        except Exception as failure:
            problem = problem or failure
            continue
        with contextlib.suppress(Exception):  # many models want targets in train mode
            uses += observe.run(network.train(), args, kwargs)
        return uses
    assert problem is not None
    raise problem


def as_json(truth: observe.Truth) -> dict[str, Any]:
    return {
        "models": truth.models,
        "sites": [[*site, vars(seen)] for site, seen in sorted(truth.sites.items())],
        "edges": [[*a, *b, count] for (a, b), count in sorted(truth.edges.items())],
    }


def from_json(data: dict[str, Any]) -> observe.Truth:
    truth = observe.Truth(models=data["models"])
    for path, line, column, seen in data["sites"]:
        seen["consumers"] = Counter(seen["consumers"])
        truth.sites[path, line, column] = observe.SiteRecord(**seen)
    for path, line, column, path2, line2, column2, count in data["edges"]:
        truth.edges[(path, line, column), (path2, line2, column2)] = count
    return truth


def _no_download(*args: Any, **kwargs: Any) -> None:
    raise RuntimeError("it wants to download weights")


def _expired(signum: int, frame: Any) -> None:
    raise TimeoutError(f"more than {SECONDS_PER_MODEL} s")


def main(name: str, folder: str, per_family: str, output: str) -> None:
    """Collect for package or repository `name`, whose source lies in `folder`."""
    os.environ.setdefault("PYTORCH_JIT", "0")
    signal.signal(signal.SIGALRM, _expired)
    torch.set_num_threads(1)
    root = Path(folder).resolve()
    torch.hub.download_url_to_file = _no_download
    zoos.torchvision_importable()
    if name in zoos.PACKAGES:
        sys.path.insert(0, str(root.parent))
        models = zoos.PACKAGES[name]()
    elif name in repositories.REPOSITORIES:
        models = repositories.repository(name, root)
    elif "/" in name:
        models = anything.of_folder(root)
    else:
        sys.path.insert(0, str(root.parent))
        models = anything.of_package(name)
    truth = collect(sampled(models, int(per_family)), root, show=True)
    Path(output).write_text(json.dumps(as_json(truth)))


if __name__ == "__main__":
    main(*sys.argv[1:])

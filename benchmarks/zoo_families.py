"""Compare what the linter knows of libraries' models by their names with the models themselves.

    python benchmarks/zoo_families.py [--package timm]...

Every model of torchvision, timm, pytorchcv and transformers that can be made here without weights
is made on the meta device, and searched for a BatchNorm. Printed are, by package, how many models
were made and hold one, and of how many the linter is right, does not know, and is wrong, with the
names of the last. Makes some 3,000 models in ten minutes; see `zoo.py` for how to install them.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import inspect
import logging
import warnings
from collections.abc import Callable, Iterator

import torch
import zoo
from torch import nn

from bncheck.graph import UNKNOWN
from bncheck.source.timeline.model_libraries import zoo_model

Builders = Iterator[tuple[str, Callable[[], nn.Module]]]


def _torchvision() -> Builders:
    models = importlib.import_module("torchvision.models")
    for name in models.list_models():
        builder = models.get_model_builder(name)
        backbone = {"weights_backbone": None} if "weights_backbone" in _keywords(builder) else {}
        yield f"torchvision.models.{name}", lambda b=builder, k=backbone: b(weights=None, **k)


def _keywords(function: Callable[..., object]) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)


def _timm() -> Builders:
    timm = importlib.import_module("timm")
    for name in timm.list_models():
        yield name, lambda n=name: timm.create_model(n)


def _pytorchcv() -> Builders:
    provider = importlib.import_module("pytorchcv.model_provider")
    for name in sorted(provider._models):
        yield name, lambda n=name: provider.get_model(n)


def _transformers() -> Builders:
    transformers = importlib.import_module("transformers")
    automatic = importlib.import_module("transformers.models.auto.modeling_auto")
    for key in transformers.CONFIG_MAPPING:
        config = transformers.CONFIG_MAPPING[key]
        with contextlib.suppress(Exception):  # what no default configuration has
            found = automatic.MODEL_MAPPING[config]
            cls = found[0] if isinstance(found, tuple) else found
            yield f"transformers.{cls.__name__}", lambda c=cls, s=config: c(s())


PACKAGES = {
    "torchvision": (_torchvision, lambda name: zoo_model(name, None)),
    "timm": (_timm, lambda name: zoo_model("timm.create_model", name)),
    "pytorchcv": (
        _pytorchcv,
        lambda name: zoo_model("pytorchcv.model_provider.get_model", name),
    ),
    "transformers": (_transformers, lambda name: zoo_model(name, None)),
}


def main() -> None:
    """Print a line for each package."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--package", action="append", choices=PACKAGES)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable()
    missing = zoo.unavailable()
    for package in arguments.package or PACKAGES:
        if package in missing:
            print(f"{package}: not here ({missing[package]})")
            continue
        builders, known = PACKAGES[package]
        made = held = right = unknown = 0
        wrong = []
        for name, build in builders():
            try:
                with torch.device("meta"):
                    holds = bool(zoo.batch_norms(build()))
            except Exception:  # what needs weights, data or a library that is not here
                continue
            made, held = made + 1, held + holds
            fact = known(name)
            if fact is None or fact is UNKNOWN:
                unknown += holds
            elif fact is holds:
                right += 1
            else:
                wrong.append(name)
        print(
            f"{package}: {made} models, {held} hold BatchNorm; right of {right}, not known of "
            f"{unknown} that hold it, wrong of {len(wrong)}: {', '.join(wrong) or 'none'}",
            flush=True,
        )


if __name__ == "__main__":
    main()

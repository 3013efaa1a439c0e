"""Networks of code of which nothing is known: its classes and factories, tried with guesses.

Every module of a package is imported, and every file of a repository that is no script. Factories
and classes that take no arguments are built and run on inputs that their first layer may take; so
are classes that no other code speaks of, with values that are usual for parameters of such names.
Parts are not built by themselves, since a package may never have them with those arguments. What
can't be built or run is counted and judged no further.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from truth.models import Inputs, Model

_LEFT_OUT = re.compile(
    r"(^|[._])(tests?|testing|examples?|scripts?|cli|tools?|train\w*|demo\w*|data|datasets?|docs|"
    r"benchmarks?|__main__|main|setup|conftest|visuali[sz]ation|hub|export\w*|inference)([._]|$)"
)
_NO_FACTORY = re.compile(
    r"^(_|main|train|test|load|download|register|list|get_|is_|set_|init|run|clean|clear|remove|"
    r"delete|install|check|print|show|plot|update|save|export|seed|exit|sys)"
)
_SECONDS_PER_IMPORT = 20
_GUESSES: tuple[tuple[str, object], ...] = (
    (r"^(norm|norm_layer|norm_type|bn|normalization)$", nn.BatchNorm2d),
    (r"^(act|act_layer|activation|act_fn|nonlinearity)$", nn.ReLU),
    (r"(num|n)_?(class|categor|label|output)", 10),
    (r"kernel|^k$|ksize", 3),
    (r"stride|dilation|groups?$|cardinality|expan|ratio$|^s$|^d$|radix", 1),
    (r"pad", 1),
    (r"drop|prob|^p$|momentum|rate$", 0.1),
    (r"head", 2),
    (r"layers?$|depths?$|blocks?$|^n$|num_|n_|repeat|length|level", 2),
    (r"size$|patch", 16),
    (r"bias|use_|with_|^bn|is_|pretrained|down|up", True),
    (r"chan|chns|dim|plane|feat|width|hidden|embed|filter|^in|^out|inp|oup|^c\d?$|^ch|units|nf|nc",
     8),
)  # fmt: skip
_SIZES = {
    1: ((256,), (1024,), (16_000,)),
    2: ((64, 64), (32, 32), (224, 224), (7, 7)),
    3: ((16, 32, 32), (32, 32, 32), (8, 16, 16)),
}


def of_package(package: str) -> Iterator[Model]:
    """Yield the networks of an installed package."""
    specification = importlib.util.find_spec(package)
    folders = specification.submodule_search_locations if specification is not None else None
    files = [path for folder in folders or () for path in Path(folder).rglob("*.py")]
    yield from _models(_modules(package), _used(files))


def of_folder(root: Path) -> Iterator[Model]:
    """Yield the networks of a repository, whose scripts are left out."""
    files = [
        path
        for path in sorted(root.rglob("*.py"))
        if not _LEFT_OUT.search(".".join(path.relative_to(root).with_suffix("").parts))
    ]
    modules = (imported(path, root) for path in files if b"nn." in path.read_bytes())
    yield from _models((module for module in modules if module is not None), _used(files))


def _models(modules: Iterable[ModuleType], used: set[str]) -> Iterator[Model]:
    seen: dict[int, object] = {}  # kept alive, so that each identity stays its own
    for module in modules:
        for name, value in list(vars(module).items()):
            if getattr(value, "__module__", None) != module.__name__ or id(value) in seen:
                continue
            seen[id(value)] = value
            if inspect.isclass(value) and issubclass(value, nn.Module):
                yield from _model(f"{module.__name__}.{name}", value, guess=name not in used)
            elif (
                inspect.isfunction(value)
                and "nn." in Path(module.__file__ or "").read_text(errors="replace")
                and not _NO_FACTORY.match(name)
            ):
                yield from _model(f"{module.__name__}.{name}", value, guess=False)


def _used(files: Iterable[Path]) -> set[str]:
    """Return the names that code speaks of otherwise than to define or to import them."""
    found: set[str] = set()
    for path in files:
        for line in path.read_text(errors="replace").split("\n"):
            if re.match(r"if __name__", line):  # a file's own trial of its network
                break
            if not re.match(r"\s*(class|from|import|>>>|#|\"|')", line):
                found.update(re.findall(r"(?<![\w'\"`])[A-Z]\w+(?![\w'\"`])", line))
    return found


def _modules(package: str) -> Iterator[ModuleType]:
    try:
        root = importlib.import_module(package)
    except BaseException:
        return
    yield root
    for found in pkgutil.walk_packages(root.__path__, f"{package}.", onerror=lambda name: None):
        if _LEFT_OUT.search(found.name.partition(".")[2]):
            continue
        try:
            yield importlib.import_module(found.name)
        except (Exception, SystemExit):
            continue


def imported(path: Path, root: Path) -> ModuleType | None:
    """Import a file of a repository, from whichever of its folders the imports in it start."""
    *folders, _ = (*path.relative_to(root).parents,)
    for base in (root, *(root / folder for folder in reversed(folders))):
        _forget(root)
        sys.path.insert(0, str(base))
        signal.alarm(_SECONDS_PER_IMPORT)
        try:
            return importlib.import_module(
                ".".join(path.relative_to(base).with_suffix("").parts).removesuffix(".__init__")
            )
        except (Exception, SystemExit):
            continue
        finally:
            signal.alarm(0)
            sys.path.remove(str(base))
    return None


def _forget(root: Path) -> None:
    """Forget the modules of a repository, two of whose folders may have files of one name.

    A file of this folder may have been taken for one of them, too.
    """
    folders = (root, Path(__file__).resolve().parent.parent)
    for name, module in list(sys.modules.items()):
        file = Path(getattr(module, "__file__", None) or "/")
        if root in file.parents or file.parent in folders:
            del sys.modules[name]


def _model(name: str, make: Callable[..., nn.Module], *, guess: bool) -> Iterator[Model]:
    try:
        parameters = inspect.signature(make).parameters.values()
    except (ValueError, TypeError):
        return
    given = {}
    for parameter in parameters:
        if re.search(r"^(pre_?trained|weights?|checkpoint)", parameter.name):
            given[parameter.name] = None
        variable = parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        if variable or parameter.default is not parameter.empty:
            continue
        usual = (value for name, value in _GUESSES if re.search(name, parameter.name.lower()))
        value = next(usual, None) if guess else None
        if value is None:
            return
        given[parameter.name] = value

    def build() -> nn.Module:
        made = make(**given)
        if not isinstance(made, nn.Module):
            raise TypeError(f"{type(made).__name__} is no network")
        return made

    yield Model(name, name, build, tuple(_candidate(place) for place in range(5)))


def _candidate(place: int) -> Inputs:
    """Return the input to try at a place of the order, for whatever layer comes first."""

    def inputs(device: torch.device, network: nn.Module) -> tuple[tuple[Any, ...], dict[str, Any]]:
        shape = list(_shapes(network))[place]
        count = max(1, _required(network.forward))
        return tuple(torch.rand(shape, device=device) for _ in range(count)), {}

    return inputs


def _required(forward: Callable[..., Any]) -> int:
    parameters = inspect.signature(forward).parameters.values()
    return sum(
        p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        for p in parameters
    )


def _shapes(network: nn.Module) -> Iterator[tuple[int, ...]]:
    for layer in network.modules():
        if isinstance(layer, nn.modules.conv._ConvNd):
            dimensions = len(layer.kernel_size)
            for size in _SIZES[dimensions]:
                yield (2, layer.in_channels, *size)
            break
        if isinstance(layer, nn.Linear):
            yield from ((2, layer.in_features), (2, 7, layer.in_features))
            break
    yield from ((2, 3, 224, 224), (2, 8), (2, 8, 32, 32))

"""Torch pickles, read by torch's restricted unpickler, so that no code of the file runs.

The unpickler refuses every class and function that it was not told of. It is told of the module
classes of `torch.nn` and of what the user trusts by name:

- a package or module: the classes that are defined in it or below it, and no functions;
- a class or function by its full name.

Trusting a package imports it. Classes of a trusted package are constructed with arguments of the
file's choosing, as unpickling does.
"""

from __future__ import annotations

import importlib
import io
import pickle
import pickletools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import torch
from torch import nn

from bncheck.errors import BNCheckError

NEVER = frozenset(
    [
        "builtins",
        "_codecs",
        "code",
        "codeop",
        "ctypes",
        "importlib",
        "io",
        "marshal",
        "nt",
        "operator",
        "_operator",
        "os",
        "pdb",
        "pickle",
        "_pickle",
        "posix",
        "pty",
        "runpy",
        "shutil",
        "socket",
        "subprocess",
        "sys",
        "timeit",
        "torch.fx",
        "torch.hub",
        "torch.load",
        "torch.package",
        "torch.serialization",
        "torch.utils.cpp_extension",
    ]
)
"""Modules whose functions and classes can run anything, or are made to."""

HARMLESS = frozenset({"builtins.slice", "builtins.range", "builtins.frozenset", "builtins.object"})
"""Exceptions to `NEVER`, which may be trusted by name."""


def load_pickle(path: Path, trust: Sequence[str]) -> tuple[Any, set[str]]:
    """Return what the file holds, on the CPU, and the devices that its tensors were saved on.

    Raises BNCheckError where it wants more than is allowed.
    """
    devices: set[str] = set()

    def to_cpu(storage: Any, device: str) -> Any:
        devices.add(device)
        return storage

    try:
        wanted = sorted(_globals_of(path))
    except Exception as problem:
        raise BNCheckError(
            f"{path} is damaged, or no pickle of torch: {_first(problem)}"
        ) from problem
    allowed = allowed_globals(wanted, trust)
    with torch.serialization.safe_globals(list(allowed)):
        refused = _refused(wanted, {name for _, name in allowed})
        if refused:
            raise BNCheckError(_refusal(path, refused))
        try:
            # Opened here, since torch takes a path that ends in .safetensors for such a file.
            with path.open("rb") as file:
                return torch.load(file, map_location=to_cpu, weights_only=True), devices
        except pickle.UnpicklingError as problem:
            if "persistent_load of storage" in str(problem):
                raise BNCheckError(
                    f"{path} is a module in the format before torch 1.6, which holds Python source "
                    "and cannot be read safely; load it and torch.save it again"
                ) from problem
            if "Unsupported operand" in str(problem):
                raise BNCheckError(
                    f"{path} is a pickle that torch.save did not write; load it yourself and "
                    "torch.save the model or its state dict"
                ) from problem
            raise BNCheckError(
                f"{path} holds more than torch's safe unpickler reads: {_last(problem)}"
            ) from problem
        except Exception as problem:
            if "magic number" in str(problem):
                raise BNCheckError(
                    f"{path} is a plain pickle; store the model with torch.save"
                ) from problem
            raise BNCheckError(
                f"{path} is damaged, or was saved by a version of its code that differs from the "
                f"installed one: {_first(problem)}"
            ) from problem


def allowed_globals(wanted: Sequence[str], trust: Sequence[str]) -> list[tuple[Any, str]]:
    """Return the classes and functions, of those a file wants, that it may have."""
    own = torch_nn_classes()
    found: list[tuple[Any, str]] = []
    for name in wanted:
        if name in own:
            found.append((own[name], name))
            continue
        for trusted in trust:
            if name == trusted or name.startswith(trusted + "."):
                value = _trusted(name, trusted)
                if value is not None:
                    found.append((value, name))
                    break
    return found


def torch_nn_classes() -> dict[str, Any]:
    """Return the module and parameter classes of `torch.nn`, and bncheck's own, by full name."""
    from bncheck.frozen import FrozenBatchNorm

    homes = [module for name, module in sys.modules.items() if name.startswith("torch.nn.modules.")]
    classes = [
        value
        for home in homes
        for value in vars(home).values()
        if isinstance(value, type)
        and issubclass(value, nn.Module)
        and value.__module__.startswith("torch.nn.modules.")
    ]
    others = [nn.DataParallel, nn.UninitializedParameter, nn.UninitializedBuffer, FrozenBatchNorm]
    return {f"{value.__module__}.{value.__qualname__}": value for value in [*classes, *others]}


def _trusted(name: str, trusted: str) -> Any:
    """Return the object called `name` if trusting `trusted` covers it; None if not."""
    parts = name.split(".")
    if _runs_anything(name) or any(part.startswith("__") for part in parts[:-1]):
        return None  # importing `package.__main__` would run it
    value, module = _import(parts)
    if value is None:
        return None
    home = getattr(value, "__module__", None) or module
    if isinstance(value, type):
        inside = home == trusted or home.startswith(trusted + ".")
        return value if (inside or name == trusted) and not _runs_anything(home) else None
    return value if name == trusted and callable(value) and not _runs_anything(home) else None


def _runs_anything(name: str) -> bool:
    if name in HARMLESS or name == "builtins":
        return False
    return any(name == module or name.startswith(module + ".") for module in NEVER)


def _import(parts: Sequence[str]) -> tuple[Any, str]:
    """Return the object of a dotted name and the module that it was found in."""
    for split in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:split])
        try:
            value: Any = importlib.import_module(name)
        except ModuleNotFoundError as missing:
            if missing.name and (name == missing.name or name.startswith(missing.name + ".")):
                continue
            raise BNCheckError(f"cannot import {name}: {missing}") from missing
        except Exception as problem:
            raise BNCheckError(
                f"cannot import {name}: {type(problem).__name__}: {_first(problem)}"
            ) from problem
        for part in parts[split:]:
            value = getattr(value, part, None)
        return value, name
    raise BNCheckError(
        f"the file needs {'.'.join(parts)}, but there is no module {parts[0]!r}; install it or "
        "run where it can be imported"
    )


def _refused(wanted: Sequence[str], allowed: set[str]) -> list[str]:
    from torch import _weights_only_unpickler

    default = _weights_only_unpickler._get_allowed_globals()
    return [name for name in wanted if name not in allowed and name not in default]


def _refusal(path: Path, refused: Sequence[str]) -> str:
    dangerous = [name for name in refused if _runs_anything(name)]
    shown = ", ".join(refused[:6]) + (f" and {len(refused) - 6} more" if len(refused) > 6 else "")
    if dangerous:
        return (
            f"{path} was not loaded: it wants {shown}, and {dangerous[0]} can run anything, so "
            "no option allows it"
        )
    names = list(dict.fromkeys(_suggested(name) for name in refused))
    options = " ".join(f"--trust {name}" for name in names)
    return (
        f"{path} was not loaded: it wants {shown}; if you trust where it comes from, allow that "
        f"with {options}"
    )


def _suggested(name: str) -> str:
    """Return what to trust for one global: its package, or the name itself if it is a function."""
    package, _, last = name.rpartition(".")
    if not last[:1].isupper() or package.split(".")[0] in ("torch", "numpy", "collections"):
        return name
    return package.split(".")[0]


def _globals_of(path: Path) -> set[str]:
    """Return the full names of the classes and functions that a torch pickle asks for."""
    with path.open("rb") as file:
        if not file.peek(2).startswith(b"PK"):
            # The older format: a magic number, a version, the system, then the object.
            found: set[str] = set()
            for _ in range(4):
                found |= set(_globals_in(file))
                if not file.peek(1)[:1]:  # one plain pickle
                    break
            return found
    record = torch._C.PyTorchFileReader(str(path)).get_record("data.pkl")
    return set(_globals_in(io.BytesIO(record)))


def _globals_in(stream: IO[bytes]) -> Iterator[str]:
    """Yield `module.name` of each GLOBAL, INST and STACK_GLOBAL instruction of one pickle.

    STACK_GLOBAL takes the two strings pushed last; where they come from the memo, they are found
    there. The unpickler of torch does not know that instruction, so this is for the message only.
    """
    strings: list[str] = []
    memo: dict[int, str] = {}
    previous: Any = None
    for opcode, argument, _ in pickletools.genops(stream):
        match opcode.name:
            case "GLOBAL" | "INST":
                yield _modern(*str(argument).split(" ", 1))
            case "STACK_GLOBAL":
                yield _modern(*(strings[-2:] if len(strings) > 1 else ("unknown", "name")))
            case "MEMOIZE":
                if isinstance(previous, str):
                    memo[len(memo)] = previous
                else:
                    memo[len(memo)] = ""
            case "BINPUT" | "LONG_BINPUT" | "PUT":
                memo[int(str(argument))] = previous if isinstance(previous, str) else ""
            case "BINGET" | "LONG_BINGET" | "GET":
                strings.append(memo.get(int(str(argument)), ""))
            case _ if isinstance(argument, str):
                strings.append(argument)
        if opcode.name not in ("MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT"):
            previous = argument


def _modern(module: str, name: str) -> str:
    """Return the full name, with a module of Python 2 under its present name."""
    from torch._utils import IMPORT_MAPPING, NAME_MAPPING

    if (module, name) in NAME_MAPPING:
        module, name = NAME_MAPPING[module, name]
    elif module in IMPORT_MAPPING:
        module = IMPORT_MAPPING[module]
    return f"{module}.{name}"


def _first(problem: BaseException) -> str:
    lines = str(problem).strip().splitlines()
    return lines[0] if lines else type(problem).__name__


def _last(problem: BaseException) -> str:
    """Return the reason from torch's message, which begins with advice on `weights_only`."""
    _, _, reason = str(problem).partition("WeightsUnpickler error:")
    lines = reason.strip().splitlines()
    return lines[0].strip().rstrip(".") if lines else _first(problem)

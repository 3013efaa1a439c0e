"""Exported programs (`.pt2`), read without running anything that the file says.

`torch.export.load` on its own is not safe on a file from a stranger: it unpickles tensors and
custom objects without restriction, evaluates symbolic shapes with `sympify`, which calls `eval`,
writes the names of arguments and nodes into Python source that it executes, and loads compiled
libraries. So the archive is read first with what it may hold spelled out: operators of torch,
plain names, and shape expressions of arithmetic. Anything else is refused.
"""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from bncheck.errors import BNCheckError

_PLAIN = re.compile(r"[\w.+\-/ ]*\Z")
_OPERATOR = re.compile(
    r"(?:torch\.ops\.[a-z]\w*\.\w+(?:\.\w+)?|_operator\.[a-z_]+|math\.[a-z0-9_]+|torch\.sym_\w+"
    r"|torch\._sym_\w+)\Z"
)
_NEVER = {"torch.ops.aten.from_file", "_operator.attrgetter", "_operator.methodcaller"}
_SHAPE_NODES = (
    ast.Expression,
    ast.BinOp,
    ast.UnaryOp,
    ast.Compare,
    ast.BoolOp,
    ast.Call,
    ast.keyword,
    ast.Name,
    ast.Constant,
    ast.operator,
    ast.unaryop,
    ast.cmpop,
    ast.boolop,
    ast.expr_context,
)
_SHAPE_FUNCTIONS = frozenset(
    [
        "Symbol",
        "Integer",
        "Float",
        "Rational",
        "Add",
        "Mul",
        "Pow",
        "Mod",
        "PythonMod",
        "Max",
        "Min",
        "Abs",
        "FloorDiv",
        "CleanDiv",
        "CeilDiv",
        "CeilToInt",
        "FloorToInt",
        "TruncToInt",
        "RoundToInt",
        "IntTrueDiv",
        "FloatTrueDiv",
        "ToFloat",
        "ModularIndexing",
        "Where",
        "Identity",
        "Eq",
        "Ne",
        "Equality",
        "Unequality",
        "Lt",
        "Le",
        "Gt",
        "Ge",
        "And",
        "Or",
        "Not",
        "LessThan",
        "StrictLessThan",
        "GreaterThan",
        "StrictGreaterThan",
        "floor",
        "ceiling",
        "sqrt",
    ]
)


def load_exported(path: Path) -> tuple[Any, dict[str, str]]:
    """Return the program and the extra files of its archive.

    Raises BNCheckError for an archive that could run code, that is damaged, or that is of the
    format before torch 2.8.
    """
    try:
        from torch.export.pt2_archive._package import load_pt2
    except ImportError:
        raise BNCheckError(
            f"{path} is an exported program, which needs torch 2.8 or newer to be read safely"
        ) from None
    try:
        _refuse_code(path)
        # Opened here, since torch complains of a path that does not end in .pt2.
        with _restricted_unpickling(), path.open("rb") as file:
            contents = load_pt2(file)
    except BNCheckError:
        raise
    except Exception as problem:
        lines = str(problem).strip().splitlines() or [type(problem).__name__]
        raise BNCheckError(
            f"{path} is a damaged exported program, or one of another version of torch: {lines[0]}"
        ) from problem
    if len(contents.exported_programs) != 1:
        raise BNCheckError(
            f"{path} holds {len(contents.exported_programs)} exported programs; save the one alone"
        )
    return next(iter(contents.exported_programs.values())), dict(contents.extra_files)


@contextmanager
def _restricted_unpickling() -> Iterator[None]:
    """Make every `torch.load` within one of weights only, through torch's own switch for that."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _refuse_code(path: Path) -> None:
    reader = torch._C.PyTorchFileReader(str(path))
    for name in reader.get_all_records():
        if name.startswith("data/aotinductor/"):
            _refuse(path, f"a compiled library ({name})")
        if name.startswith(("data/constants/opaque_obj", "data/constants/custom_obj")):
            _refuse(path, f"a custom object ({name})")
        if name.startswith("models/") or name.endswith("_config.json"):
            _inspect(json.loads(reader.get_record(name)), path)


def _inspect(value: Any, path: Path, key: str = "") -> None:
    """Refuse what is not a plain name, number, operator or shape expression."""
    match value:
        case dict():
            for name, item in value.items():
                if name in ("__enum__", "default_factory_module", "as_custom_obj"):
                    _refuse(path, f"an object of Python's ({name})")
                if name == "path_name" and str(item).startswith(("opaque_obj", "custom_obj", "..")):
                    _refuse(path, f"a custom object ({item})")
                if not _PLAIN.match(name):
                    _shape(name, path)
                if name != "metadata":  # traces of the source, which are shown and never run
                    _inspect(item, path, name)
        case list():
            for item in value:
                _inspect(item, path, key)
        case str() if key in ("target", "as_operator"):
            overload = value.rpartition(".")[0]
            if not _OPERATOR.match(value) or value in _NEVER or overload in _NEVER:
                _refuse(path, f"a call of {value!r}")
        case str() if key in ("expr_str", "derived"):
            _shape(value, path)
        case str() if key in ("as_string", "as_strings"):
            pass  # written with repr()
        case str() if value[:1] in ("[", "{") or value[:1] == '"':
            _inspect(_parsed(value, path), path, key)
        case str() if not _PLAIN.match(value):
            _refuse(path, f"the name {value!r}")


def _parsed(text: str, path: Path) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return _refuse(path, f"the text {text!r}")


def _shape(text: str, path: Path) -> None:
    """Refuse an expression that is more than arithmetic on symbols."""
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError):
        _refuse(path, f"the shape {text!r}")
        return
    for node in ast.walk(tree):
        called = node.func if isinstance(node, ast.Call) else None
        if (
            not isinstance(node, _SHAPE_NODES)
            or (called is not None and getattr(called, "id", None) not in _SHAPE_FUNCTIONS)
            or (isinstance(node, ast.Name) and "__" in node.id)
            or (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and not node.value.isidentifier()
            )
        ):
            _refuse(path, f"the shape {text!r}")


def _refuse(path: Path, what: str) -> Any:
    raise BNCheckError(f"{path} was not loaded: it holds {what}, which could run code")

"""The plain attributes of a TorchScript module, which freezing drops: names of classes, strides."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from typing import Any

import torch

_DECLARED = re.compile(r"^  (\w+) : (?!__torch__|Tensor)", re.MULTILINE)
_OF_TORCH = frozenset({"training", "_is_full_backward_hook"})


def keep_attributes(module: Any, original: Any) -> Any:
    """Give a module the plain attributes that it lacks of the one that it was made of."""
    for name in _declared(original):
        value = original._c.getattr(name)
        if name in _OF_TORCH or not _is_plain(value) or module._c.hasattr(name):
            continue
        kind = torch._C._jit_try_infer_type(value)
        if kind.success():
            module._c._register_attribute(name, kind.type(), value)
    return module


def _declared(module: Any) -> Iterator[str]:
    """Yield the names of attributes that the class of a module declares in its archive."""
    *path, name = module._c.qualified_name.split(".")
    with zipfile.ZipFile(io.BytesIO(module.save_to_buffer())) as archive:
        place = f"code/{'/'.join(path)}.py"
        files = [file for file in archive.namelist() if file.endswith(place)]
        code = archive.read(files[0]).decode() if files else ""
    declared = re.search(rf"^class {re.escape(name)}\(.*?(?=^  def |^class |\Z)", code,
                         re.MULTILINE | re.DOTALL)  # fmt: skip
    if declared is not None:
        yield from _DECLARED.findall(declared.group())


def _is_plain(value: Any) -> bool:
    match value:
        case bool() | int() | float() | str():
            return True
        case list() | tuple():
            return bool(value) and all(map(_is_plain, value))
        case dict():
            return bool(value) and all(_is_plain(v) for item in value.items() for v in item)
    return False

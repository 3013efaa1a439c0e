"""TorchScript archives.

TorchScript is a language of its own that torch interprets: loading an archive unpickles nothing
with Python and runs no Python. What it can do by itself is compute; the few operators that touch
files are looked for, and refused, before the archive is loaded.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from bncheck.errors import BNCheckError

_TOUCHES_FILES = re.compile(
    rb"\b(?:torch|ops\.\w+)\.(?:save|load|from_file|_load_for_lite\w*|manual_seed_file)\b"
)


def load_torchscript(path: Path) -> tuple[Any, dict[str, Any]]:
    """Return the module, and the files that its archive holds beside it by name."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(".py") and (found := _TOUCHES_FILES.search(archive.read(name))):
                raise BNCheckError(
                    f"{path} was not loaded: its TorchScript calls {found[0].decode()}, which "
                    "reads or writes files"
                )
        extra = [name.partition("/extra/")[2] for name in archive.namelist() if "/extra/" in name]
    extra_files: dict[str, Any] = dict.fromkeys(extra, "")
    try:
        module: Any = torch.jit.load(  # type: ignore[no-untyped-call]
            str(path), map_location="cpu", _extra_files=extra_files
        )
    except Exception as problem:
        line = next((line for line in str(problem).splitlines() if line.strip()), "")
        raise BNCheckError(f"{path} is a damaged TorchScript archive: {line.strip()}") from problem
    return module, extra_files

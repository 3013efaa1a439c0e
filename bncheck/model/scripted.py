"""TorchScript archives.

TorchScript is a language of its own that torch interprets: loading an archive unpickles nothing
with Python and runs no Python. What it can do by itself is compute; the few operators that touch
files are looked for, and refused, before the archive is loaded.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from bncheck.errors import BNCheckError

_TOUCHES_FILES = re.compile(
    rb"\b(?:torch|ops\.\w+)\.(?:save|load|from_file|_load_for_lite\w*|manual_seed_file)\b"
)


def load_torchscript(path: Path) -> tuple[Any, dict[str, Any]]:
    """Return the module, and the files that its archive holds beside it by name."""
    try:
        # torch's own reader: another might see other files in a contrived archive
        archive = torch._C.PyTorchFileReader(str(path))
        names = archive.get_all_records()
        code = {name: archive.get_record(name) for name in names if name.endswith(".py")}
    except RuntimeError as problem:
        raise BNCheckError(f"{path} is a damaged TorchScript archive") from problem
    for text in code.values():
        if found := _TOUCHES_FILES.search(text):
            raise BNCheckError(
                f"{path} was not loaded: its TorchScript calls {found[0].decode()}, which reads "
                "or writes files"
            )
    extra = [name.removeprefix("extra/") for name in names if name.startswith("extra/")]
    extra_files: dict[str, Any] = dict.fromkeys(extra, "")
    try:
        module: Any = torch.jit.load(  # type: ignore[no-untyped-call]
            str(path), map_location="cpu", _extra_files=extra_files
        )
    except Exception as problem:
        line = next((line for line in str(problem).splitlines() if line.strip()), "")
        raise BNCheckError(f"{path} is a damaged TorchScript archive: {line.strip()}") from problem
    return module, extra_files

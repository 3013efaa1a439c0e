"""What a model file is, told by its content."""

from __future__ import annotations

import json
import struct
import zipfile
from enum import Enum
from pathlib import Path

from bncheck.errors import BNCheckError


class Kind(Enum):
    """How a model is stored."""

    MODULE = "pickled module"
    STATE_DICT = "state dict"
    SAFETENSORS = "safetensors file"
    TORCHSCRIPT = "TorchScript archive"
    EXPORTED = "exported program"

    @property
    def one(self) -> str:
        """The kind with its article."""
        return f"{'an' if self is Kind.EXPORTED else 'a'} {self.value}"


PICKLE = b"\x80"
ZIP = b"PK"


def container_kind(path: Path) -> Kind | None:
    """Return the kind of file; None for a torch pickle, which holds a module or a state dict.

    Raises BNCheckError for what is not a model file, with what it seems to be instead.
    """
    if path.is_dir():
        raise BNCheckError(f"{path} is a folder; name the model file in it")
    with path.open("rb") as file:
        head = file.read(9)
    if not head:
        raise BNCheckError(f"{path} is empty; save the model again")
    if _is_safetensors(path, head):  # first: its length may begin as the others do
        return Kind.SAFETENSORS
    if head.startswith(ZIP):
        return _zip_kind(path)
    if head.startswith(PICKLE):
        return None
    raise BNCheckError(
        f"{path} is not a model file: it is neither a torch.save, TorchScript or torch.export "
        f"archive nor a safetensors file{' (it is text)' if _is_text(path) else ''}"
    )


def _zip_kind(path: Path) -> Kind | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.partition("/")[2] for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError, ValueError):
        raise BNCheckError(
            f"{path} is a damaged or truncated zip archive; copy or save it again"
        ) from None
    if "archive_format" in names or any(name.startswith("models/") for name in names):
        return Kind.EXPORTED
    if "constants.pkl" in names:
        return Kind.TORCHSCRIPT
    if ".data/extern_modules" in names:
        raise BNCheckError(
            f"{path} is a torch.package archive, which holds Python code; load it yourself and "
            "save its state dict"
        )
    if "data.pkl" in names:
        return None
    raise BNCheckError(f"{path} is a zip archive with no model of torch in it")


def _is_safetensors(path: Path, head: bytes) -> bool:
    """Tell whether the file begins with a length and a JSON object of that length."""
    if len(head) < 9 or head[8:9] != b"{":
        return False
    (length,) = struct.unpack("<Q", head[:8])
    if length > path.stat().st_size - 8:
        if head.startswith((PICKLE, ZIP)):
            return False
        raise BNCheckError(f"{path} is a truncated safetensors file; copy or save it again")
    with path.open("rb") as file:
        file.seek(8)
        try:
            return isinstance(json.loads(file.read(length)), dict)
        except ValueError:
            return False


def _is_text(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(1024)
    return b"\0" not in start and start.isascii()

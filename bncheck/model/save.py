"""Stores a changed model as the kind that was read, all of it or nothing."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import torch

from bncheck.errors import BNCheckError
from bncheck.model.checkpoints import Checkpoint, state_to_save
from bncheck.model.kinds import Kind
from bncheck.model.load import Loaded

_OF_TORCH = frozenset({".pt", ".pth", ".pt2", ".ckpt", ".bin"})


def save(
    model: Any, loaded: Loaded, path: str | os.PathLike[str], *, as_module: bool = False
) -> None:
    """Write `model` to `path` as the kind that `loaded` is; `as_module`: as a pickled module.

    The file is complete before it gets its name, so whatever happens on the way leaves an older
    file of that name as it was; it may be the file that was read.

    Raises BNCheckError where the folder does not exist or the model cannot be stored so.
    """
    kind = Kind.MODULE if as_module else loaded.kind
    with _storing(path, kind) as file:
        _write(model, loaded, kind, file)


def save_state_dict(state: Mapping[str, Any], loaded: Loaded, path: str | os.PathLike[str]) -> None:
    """Write a state dict in the place of the one in `loaded`, whole or not at all, as `save`."""
    assert loaded.checkpoint is not None
    with _storing(path, loaded.kind) as file:
        _write_state(loaded.checkpoint.wrapped(state), loaded.checkpoint, loaded.kind, file)


@contextmanager
def _storing(path: str | os.PathLike[str], kind: Kind) -> Iterator[IO[bytes]]:
    with replacing(Path(path)) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield file
        except OSError:
            raise
        except Exception as problem:
            lines = str(problem).strip().splitlines() or [type(problem).__name__]
            raise BNCheckError(
                f"the result cannot be stored as a {kind.value}: {lines[0]}"
            ) from problem


def _write(model: Any, loaded: Loaded, kind: Kind, file: IO[bytes]) -> None:
    checkpoint = loaded.checkpoint
    match kind:
        case Kind.MODULE:
            wrapped = kind is loaded.kind and checkpoint is not None
            torch.save(checkpoint.wrapped(model) if wrapped and checkpoint else model, file)
        case Kind.STATE_DICT | Kind.SAFETENSORS:
            assert checkpoint is not None
            _write_state(state_to_save(model, checkpoint), checkpoint, kind, file)
        case Kind.TORCHSCRIPT:
            file.write(model.save_to_buffer(_extra_files=dict(loaded.extra_files)))
        case Kind.EXPORTED:
            torch.export.save(model, file, extra_files=dict(loaded.extra_files) or None)


def _write_state(state: Any, checkpoint: Checkpoint, kind: Kind, file: IO[bytes]) -> None:
    if kind is not Kind.SAFETENSORS:
        torch.save(state, file)
        return
    from safetensors.torch import save as to_bytes

    plain = {name: value.contiguous() for name, value in state.items()}
    file.write(to_bytes(_unshared(plain), dict(checkpoint.metadata) or None))


def _unshared(tensors: dict[str, Any]) -> dict[str, Any]:
    """Copy tensors that share memory with an earlier one, which safetensors does not store."""
    seen: set[int] = set()
    separate = {}
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage().data_ptr()
        separate[name] = tensor.clone() if storage in seen and tensor.numel() else tensor
        seen.add(storage)
    return separate


def require_place(path: Path) -> None:
    """Raise BNCheckError where no file can be written to `path`, before any work is done."""
    if path.is_dir():
        raise BNCheckError(f"{path} is a folder; name a file for the result")
    if path.exists() and not path.is_file():  # a device would be replaced by a file
        raise BNCheckError(f"{path} is no file; name a file for the result")
    if path.parent.exists() and not path.parent.is_dir():
        raise BNCheckError(f"{path.parent} is no folder; choose another one")
    if not path.parent.is_dir():
        raise BNCheckError(f"{path.parent} does not exist; make that folder first")
    if not os.access(path.parent, os.W_OK):
        raise BNCheckError(f"{path.parent} cannot be written to; choose another folder")


def require_name(path: Path, kind: Kind) -> None:
    """Raise BNCheckError where the name of a result would mislead about what it holds."""
    named = path.suffix == ".safetensors"
    if named is not (kind is Kind.SAFETENSORS) and (named or path.suffix in _OF_TORCH):
        raise BNCheckError(
            f"the result is {kind.one}, as what was read; give {path} another suffix"
        )


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Give a file in the same folder that takes the name `path` when the block ends well."""
    require_place(path)
    path = path.resolve()  # a link stays a link, and its target is replaced
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, _mode(path))  # noqa: PTH101
        os.replace(temporary, path)  # noqa: PTH105
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)  # noqa: PTH108
        raise


def _mode(path: Path) -> int:
    """Return the permissions for the result: those of the file that it replaces, or the usual."""
    if path.exists():
        return path.stat().st_mode & 0o7777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask

"""Finds Batch Normalization mistakes in PyTorch code and models, fixes them, converts with proof.

Importing this package imports neither torch nor libcst; what needs them is loaded when it is
first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from bncheck.errors import BNCheckError

if TYPE_CHECKING:
    from bncheck.convert.debias import debias as debias
    from bncheck.convert.debias_state import debias_state_dict as debias_state_dict
    from bncheck.convert.fold import FoldResult as FoldResult
    from bncheck.convert.fold import fold as fold
    from bncheck.convert.fold import fold_exported as fold_exported
    from bncheck.convert.freeze import freeze as freeze
    from bncheck.convert.outcome import Conversion as Conversion
    from bncheck.convert.remove import remove_folded as remove_folded
    from bncheck.convert.sync import sync as sync
    from bncheck.findings import Finding as Finding
    from bncheck.verification.compare import Verification as Verification
    from bncheck.verification.compare import verify as verify
    from bncheck.worker import lint_source as lint_source

__version__ = "0.1.0"

_HOMES = {
    "Conversion": "bncheck.convert.outcome",
    "Finding": "bncheck.findings",
    "FoldResult": "bncheck.convert.fold",
    "debias": "bncheck.convert.debias",
    "debias_state_dict": "bncheck.convert.debias_state",
    "fold": "bncheck.convert.fold",
    "fold_exported": "bncheck.convert.fold",
    "freeze": "bncheck.convert.freeze",
    "remove_folded": "bncheck.convert.remove",
    "sync": "bncheck.convert.sync",
    "Verification": "bncheck.verification.compare",
    "lint_source": "bncheck.worker",
    "verify": "bncheck.verification.compare",
}

__all__ = [
    "BNCheckError",
    "Conversion",
    "Finding",
    "FoldResult",
    "Verification",
    "__version__",
    "debias",
    "debias_state_dict",
    "fold",
    "fold_exported",
    "freeze",
    "lint_source",
    "remove_folded",
    "sync",
    "verify",
]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'bncheck' has no attribute {name!r}")

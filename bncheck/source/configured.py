"""Norms that OpenMMLab's projects write as configurations: `dict(type="BN")`."""

from __future__ import annotations

from typing import Final

import libcst as cst

from bncheck.source.literals import literal

NORMS: Final = {
    "BN": "BatchNorm2d", "BN1d": "BatchNorm1d", "BN2d": "BatchNorm2d", "BN3d": "BatchNorm3d",
    "SyncBN": "SyncBatchNorm", "GN": "GroupNorm", "LN": "LayerNorm", "IN": "InstanceNorm2d",
    "IN1d": "InstanceNorm1d", "IN2d": "InstanceNorm2d", "IN3d": "InstanceNorm3d",
}  # fmt: skip
"""What mmcv registers (mmcv/cnn/bricks/norm.py), to the layer of torch.nn."""


def configured_batch_norm(node: cst.CSTNode) -> str | None:
    """Return the BatchNorm that `dict(type="BN")` or `{"type": "BN"}` stands for."""
    kind: cst.BaseExpression | None = None
    match node:
        case cst.Call(func=cst.Name(value="dict"), args=args):
            for argument in args:
                if argument.keyword is not None and argument.keyword.value == "type":
                    kind = argument.value
        case cst.Dict(elements=elements):
            for element in elements:
                match element:
                    case cst.DictElement(key=cst.SimpleString() as key, value=value):
                        if literal(key) == "type":
                            kind = value
    if not isinstance(kind, cst.SimpleString):
        return None
    layer = NORMS.get(str(literal(kind)), "")
    return layer if "BatchNorm" in layer else None

"""Tells reshapes by which several rows of one sample become samples of their own."""

from __future__ import annotations

import libcst as cst


def joins_samples(name: str, mark: object) -> bool:
    """Tell whether a reshape's call says that the first dimension is a product of several.

    `x.view(b * t, c, h, w)`, `x.view(-1, *x.shape[2:])`, `x.flatten(0, 1)`.
    """
    if not isinstance(mark, cst.Call):
        return False
    given = [argument.value for argument in mark.args if not argument.star]
    if name == "flatten":
        match given[-2:]:
            case [cst.Integer(value="0"), cst.Integer()]:
                return True
        return False
    if name not in {"view", "reshape"}:
        return False
    sizes = given[0] if given else None
    # A function is given the tensor first: `torch.reshape(x, (b * t, c))`.
    if len(given) > 1 and isinstance(given[1], cst.Tuple | cst.List):
        sizes = given[1]
    if isinstance(sizes, cst.Tuple | cst.List):
        sizes = sizes.elements[0].value if sizes.elements else None
    match sizes:
        case cst.BinaryOperation(operator=cst.Multiply()):
            return True
        case cst.UnaryOperation(operator=cst.Minus()):
            starred = any(argument.star == "*" for argument in mark.args)
            return starred or _to_images(given) or _is_last_size(given[-1])
    return False


def _to_images(sizes: list[cst.BaseExpression]) -> bool:
    """Tell whether what is left over is given three sizes or more.

    Images of one channel by numbers alone may have been rows: `x.view(-1, 1, 28, 28)`.
    """
    match sizes:
        case [_, cst.Integer(value="1"), *rest]:
            return len(rest) > 1 and not all(isinstance(size, cst.Integer) for size in rest)
    return len(sizes) > 3


def _is_last_size(node: cst.BaseExpression) -> bool:
    """Recognise `x.size(-1)` and `x.shape[-1]`: only what stands before is joined."""
    match node:
        case cst.Call(func=cst.Attribute(attr=cst.Name(value="size")), args=[given]):
            index = given.value
        case cst.Subscript(
            value=cst.Attribute(attr=cst.Name(value="shape")),
            slice=[cst.SubscriptElement(slice=cst.Index(value=index))],
        ):
            pass
        case _:
            return False
    return isinstance(index, cst.UnaryOperation)

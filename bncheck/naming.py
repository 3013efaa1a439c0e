"""What messages call a network."""

from __future__ import annotations

from bncheck.events import Model, Origin


def called(model: Model) -> str:
    """Return a network's name in the source, and what makes it where that is known.

    A name alone, such as `model`, does not tell whoever reads the message which network is meant.
    """
    package, _, own = model.type_name.rpartition(".")
    if not model.name or (model.name == "self" and own):
        return f"`{own}`" if own else "a network"
    name = f"`{model.name.replace('.[]', '[...]')}`"
    if model.origin is Origin.ZOO and own not in {"", "unknown"}:
        return f"{name} ({own} of {package.partition('.')[0]})"
    tells = own and package.partition(".")[0] != "torch"
    return f"{name} ({own})" if tells and model.origin is Origin.PROJECT else name

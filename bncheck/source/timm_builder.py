"""What projects call of timm to make networks of their own: `build_model_with_cfg(Net, name, ...)`.

It makes `Net(**kwargs)` of the arguments that are not its own, as timm/models/_builder.py says.
"""

from __future__ import annotations

from typing import Final, TypeVar

TIMM_BUILDERS: Final = frozenset(
    f"timm.models.{place}build_model_with_cfg" for place in ("", "_builder.", "helpers.")
)

_ITS_OWN: Final = frozenset(
    {
        "model_cls", "variant", "pretrained", "default_cfg", "pretrained_cfg",
        "pretrained_cfg_overlay", "model_cfg", "feature_cfg", "pretrained_strict",
        "pretrained_filter_fn", "pretrained_custom_load", "cache_dir", "kwargs_filter",
        "pretrained_model_args", "features_only", "out_indices",
    }
)  # fmt: skip


Value = TypeVar("Value")


def of_the_network(keywords: dict[str, Value]) -> dict[str, Value]:
    """Return the keyword arguments that the network's constructor is given."""
    given = {keyword: value for keyword, value in keywords.items() if keyword not in _ITS_OWN}
    if "model_cfg" in keywords:
        given["cfg"] = keywords["model_cfg"]
    return given

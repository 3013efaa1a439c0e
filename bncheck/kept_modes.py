"""Whether the code of a run, told from its texts, keeps parts of networks in eval mode to train.

No file is parsed for it. What may be such a habit counts as one: it is asked before a freeze is
told of whose network is not followed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_OFF = rb"\.(?:eval\(\)|train\((?:mode=)?False\))"
_PART = re.compile(
    rb"\b\w*(?:backbone|encoder|extractor|feature|trunk|stem|bottom|resnet|vgg|cnn|frozen|body|bn|"
    rb"norm|layer|stage|block)\w*(?:\[[^\]\n]*\]|\(\))*" + _OFF,
    re.IGNORECASE,
)
"""`model.backbone.eval()`: not `model.eval()`."""
_MEMBER = re.compile(rb"\b(m|mod|modul|module|l|child|c)" + _OFF)
"""`module.eval()`, in a loop over modules or a function that is applied to each."""
_OVERRIDES = re.compile(rb"super\([^)\n]*\)\.train\(|Module\.train\(self")
_FUNCTION = re.compile(rb"^[ \t]*(?:async )?def ", re.MULTILINE)
_NAME = re.compile(rb"(?:async )?def (\w+)")
_TESTS = re.compile(
    rb"val|test|infer|pred|caption|demo|sample|visual|export|generat", re.IGNORECASE
)
_BY_SETTING = re.compile(
    rb"^[ \t]*(?:el)?if (?![^\n]*\b\w*(?:phase|train|val|mode|split|test|stage)\w*\b)[^\n]*:\s*\n"
    rb"\s*[\w.]+\.(?:eval|train)\(\)[^\n]*\n(?:[ \t]*\n)*[ \t]*(?:else|elif)\b[^\n]*:\s*\n"
    rb"\s*[\w.]+\.(?:eval|train)\(",
    re.MULTILINE,
)
"""`if args.freeze: model.eval()` and `else: model.train()`, where a phase asks for neither."""
COMMENTS = re.compile(rb"#[^\n]*")


def keep_parts_in_eval(texts: Iterable[bytes]) -> bool:
    """Tell whether any text has a training step with something in eval mode."""
    return any(map(_keeps, texts))


def _keeps(text: bytes) -> bool:
    if b"def train(" not in text and b".eval(" not in text and b".train(" not in text:
        return False
    code = COMMENTS.sub(b"", text)
    if (
        any(_may_train(code, found) for found in _PART.finditer(code))
        or _OVERRIDES.search(code)
        or _switches_members(code)
    ):
        return True
    if b".backward(" not in code:
        return False
    if _BY_SETTING.search(code):
        return True
    return any(
        b".backward(" in function
        and b".step(" in function
        and b".eval()" in function
        and b".train(" not in function
        for function in _FUNCTION.split(code)
    )


def _may_train(code: bytes, found: re.Match[bytes]) -> bool:
    """Tell whether what stands somewhere may run while a network trains: not to validate or test.

    What stands in no function counts if its file trains.
    """
    above = code[: found.start()].split(b"\n")
    left = len(above[-1]) - len(above[-1].lstrip())
    for line in reversed(above[:-1]):
        stripped = line.lstrip()
        if stripped and len(line) - len(stripped) < left:
            left = len(line) - len(stripped)
            function = _NAME.match(stripped)
            if function is not None:
                return not _TESTS.search(function[1])
    return b".train(" in code or b".backward(" in code


def _switches_members(code: bytes) -> bool:
    """Tell whether code puts the members of a network in eval mode, one by one."""
    for found in _MEMBER.finditer(code):
        bound = re.compile(
            rb"for [^\n]*\b%s\b[^\n]* in |(?:def \w+\(|lambda )%s\b" % ((found[1],) * 2)
        )
        if bound.search(code, max(found.start() - 300, 0), found.start()):
            return True
    return False

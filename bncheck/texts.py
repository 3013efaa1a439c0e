"""What the files of a run say, told from their texts: no file is parsed for it.

Each question goes through all files, and is answered once, when it is first asked.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, islice
from pathlib import Path

from bncheck.kept_modes import COMMENTS, keep_parts_in_eval
from bncheck.other_files import OtherFiles
from bncheck.synchronising import around, around_script
from bncheck.told_switches import is_left_at_one, is_left_off, is_turned_off, is_turned_on

_NORM_LINES = re.compile(rb"^[^#\n]*(?:BatchNorm|syncbn|sync_batchnorm).*$", re.MULTILINE)
_NORMS = re.compile(
    rb"(?<=\.)BatchNorm[123]d|BatchNorm[123]d(?=\s*[(),\]])|\bSyncBatchNorm\b|convert_sync\w+"
    rb"|(?<!_)\bSync\w+BatchNorm\w*(?=\s*\()"
)
"""In code, not in prose."""
_CHOOSES_NORMS = re.compile(rb"(?i)norm_(?:cfg|layer|type|name|func|fn)|(?:build|get)_norm")
_CONVERTS = re.compile(rb"^(?![ \t]*def )[^#\n]*\bconvert_sync\w+\(", re.MULTILINE)
_TESTS = (b"isinstance", b"type(", b"__class__")
"""What tests for a class and does not use it."""
_LIBRARIES = re.compile(
    rb"\btorchvision\.models\b(?!\.video)|\bfrom torchvision import .*\bmodels\b"
    rb"|\btimm\.create_model\b|\bimport segmentation_models_pytorch\b"
)
"""Whose networks for images hold BatchNorm2d."""
_TEST_FOLDERS = frozenset({"test", "tests"})
_FREEZES = re.compile(rb"BatchNorm\w*[^\n]*:[ \t]*\n[ \t]*\w+\.eval\(\)")
_REPLACED = re.compile(rb"^[ \t]*(?!self\.)\w[^#\n=(]*\.BatchNorm\w*[ \t]*=[^=]", re.MULTILINE)
"""`module.BatchNorm2d = torch.nn.BatchNorm2d`"""
_CONVERTER = re.compile(rb"^[ \t]*def convert_sync(?:_batchnorm|bn_model)\(", re.MULTILINE)
_FUNCTIONS = re.compile(rb"^[ \t]*def (\w+)", re.MULTILINE)
_DEAD = re.compile(rb"^([ \t]*)if (?:False|0):[^\n]*\n(?:\1[ \t]+[^\n]*\n|[ \t]*\n)*", re.MULTILINE)
"""What never runs."""
_CALLED = re.compile(rb"(?<!\bself)\.([a-zA-Z_]\w*)\(")
_TRAINED = re.compile(
    rb"^[^#\n]*?\b(?:\w*(?:model|net|encoder|decoder|backbone|generator|classifier|student|module|"
    rb"detector|extractor|learner|segmentor|head)\w*|[mDG])(?:\.\w+\([^()\n]*\))*\.train\(",
    re.IGNORECASE | re.MULTILINE,
)
"""`model.train()`, `net.cuda().train()`: not `solver.train()`, which is a procedure."""


@dataclass(eq=False)
class Texts:
    """The texts of a run's files, by path, and of the others that their project has."""

    texts: Mapping[Path, str | bytes]
    others: OtherFiles = field(default_factory=OtherFiles)
    _calls: dict[str, int] = field(default_factory=dict)
    _defining: dict[str, list[Path]] = field(default_factory=dict)
    _deriving: dict[str, list[Path]] = field(default_factory=dict)
    _turned_off: dict[tuple[str, str], bool] = field(default_factory=dict)

    def _encoded(self) -> Iterator[tuple[Path, bytes]]:
        for path, text in self.texts.items():
            yield path, text.encode() if isinstance(text, str) else text
        yield from self.others.texts.items()

    @cached_property
    def called_on_others(self) -> frozenset[str]:
        """The methods that the files call on something but `self`."""
        code = (COMMENTS.sub(b"", text) for _, text in self._encoded())
        found = (name for text in code for name in set(_CALLED.findall(text)))
        return frozenset(name.decode() for name in found)

    @cached_property
    def train_networks(self) -> bool:
        """Whether any file calls `train()` on what is named as a network."""
        return any(b".train(" in text and _TRAINED.search(text) for _, text in self._encoded())

    @cached_property
    def keep_parts_in_eval(self) -> bool:
        """Whether any file keeps a part of a network in eval mode, or may train one so."""
        return keep_parts_in_eval(text for _, text in self._encoded())

    @cached_property
    def norm_kinds(self) -> frozenset[str]:
        """The BatchNorm classes that the files use, not only test for."""
        found: set[str] = set()
        for _, text in self._encoded():
            if _LIBRARIES.search(text):
                found.add("BatchNorm2d")
            found.update(_used_norms(text))
        return frozenset(found)

    def synchronise_around(self, path: str) -> bool:
        """Tell whether a file that has to do with the one at `path` synchronises BatchNorm."""
        return around(self._synchronising, Path(path), self._is_package)

    def synchronise_for(self, function: str, path: str) -> bool:
        """Tell the same for a function of the file: of the files that ask for it, if any do.

        A script beside the one that asks for it is another program.
        """
        word = function.encode()
        every = ((other, text) for other, text in self._encoded() if str(other) != path)
        asking = [(other, text) for other, text in every if word in text] if word else []
        if not asking:
            return self.synchronise_around(path)
        return any(
            around_script(self._synchronising, other)
            if b"__main__" in text
            else self.synchronise_around(str(other))
            for other, text in asking
        )

    def may_hold_others_at(self, path: str) -> bool:
        """Tell whether settings choose norms in a file, or any file converts what it is given."""
        own = any(str(other) == path and _CHOOSES_NORMS.search(t) for other, t in self._encoded())
        return own or any(_CONVERTS.search(text) for _, text in self._synchronising)

    def _is_package(self, folder: Path) -> bool:
        return folder / "__init__.py" in self.texts or (folder / "__init__.py").is_file()

    @cached_property
    def _synchronising(self) -> tuple[tuple[Path, bytes], ...]:
        every = self._encoded()
        return tuple((path, text) for path, text in every if "SyncBatchNorm" in _used_norms(text))

    @cached_property
    def scripts_that_freeze_norms(self) -> frozenset[str]:
        """The files that define no network and put BatchNorm layers in eval mode."""
        return frozenset(
            str(path)
            for path, text in self._encoded()
            if b"BatchNorm" in text and b"nn.Module)" not in text and b"def forward" not in text
            if any(self._is_used(path, text[: found.start()]) for found in _FREEZES.finditer(text))
        )

    @cached_property
    def scripts_that_replace_norms(self) -> frozenset[str]:
        """The files that put another class in a BatchNorm's place in some module."""
        return frozenset(
            str(path)
            for path, text in self._encoded()
            if b".BatchNorm" in text and _REPLACED.search(text)
        )

    @cached_property
    def convert_by_themselves(self) -> bool:
        """Whether any file defines a converter to norms that synchronise."""
        return any(
            b"def convert_sync" in text and _CONVERTER.search(text) for _, text in self._encoded()
        )

    def _is_used(self, path: Path, before: bytes) -> bool:
        """Tell whether a file's text goes on inside a function that trains, or is spoken of."""
        functions = list(_FUNCTIONS.finditer(before))
        if not functions or b".train(" in before[functions[-1].end() :]:
            return True
        # Not its definition, an option of that name, or a method of something else.
        name, of_module = functions[-1][1], re.escape(path.stem.encode())
        used = re.compile(rb"(?<!def )(?<![\w.\-'\"])%s\b|\b%s\.%s\b" % (name, of_module, name))
        return any(used.search(text) for _, text in self._encoded())

    def call_in_several_places(self, name: str) -> bool:
        """Tell whether the files call a function of that name more than once."""
        return self._calls_of(name) > 1

    def call_somewhere(self, name: str) -> bool:
        """Tell whether the files call a function or method of that name."""
        return self._calls_of(name) > 0

    def turn_on(self, switch: str) -> bool:
        """Tell whether the files set a switch that is off by default, or a setting of its name."""
        return is_turned_on((text for _, text in self._encoded()), switch)

    def leave_off(self, switch: str) -> bool:
        """Tell whether a file says that a switch is off, as by default, and none that it is on.

        Nobody trains with what unit tests turn on.
        """
        every = self._encoded()
        return is_left_off((text for path, text in every if not self._is_in_tests(path)), switch)

    def _is_in_tests(self, path: Path) -> bool:
        return not _TEST_FOLDERS.isdisjoint(Path(os.path.relpath(path, self._folder)).parent.parts)

    @cached_property
    def _folder(self) -> str:
        """The folder that holds all files of the run."""
        return os.path.commonpath([path.parent.absolute() for path in self.texts] or [Path.cwd()])

    def leave_at_one(self, number: str) -> bool:
        """Tell whether a file gives a number that is 1, as by default, and none another one."""
        return is_left_at_one((text for _, text in self._encoded()), number)

    def speak_of(self, name: str) -> bool:
        """Tell whether the files name a function beside its definition: a call, or an argument."""
        word = name.encode()
        named = re.compile(rb"(?<!def )(?<![\w'\"\-])%s\b" % re.escape(word))
        return any(
            word in text and named.search(_without_dead_code(text)) for _, text in self._encoded()
        )

    def _calls_of(self, name: str) -> int:
        """Count the calls of a name, as far as two."""
        if name not in self._calls:
            calls = chain.from_iterable(
                _call_of(name).finditer(text) for _, text in self._encoded()
            )
            self._calls[name] = len(list(islice(calls, 2)))
        return self._calls[name]

    def turn_off(self, name: str, option: str) -> bool:
        """Tell whether an option of a class is off by default, and all that give it say False."""
        if (name, option) not in self._turned_off:
            every = (text for _, text in self._encoded())
            self._turned_off[name, option] = is_turned_off(every, name, option)
        return self._turned_off[name, option]

    def defining(self, name: str) -> list[Path]:
        """Return the files that define a function or class of that name at module level."""
        if name not in self._defining:
            defined = re.compile(rb"^(?:def|class)\s+%s\b" % name.encode(), re.MULTILINE)
            self._defining[name] = self._matching(name, defined)
        return self._defining[name]

    def put_in_eval(self, part: str) -> bool:
        """Tell whether a file calls `eval()` on an attribute of that name: `net.encoder.eval()`."""
        call = f".{part}.eval(".encode()
        return any(call in text for _, text in self._encoded())

    def calling(self, name: str) -> list[Path]:
        """Return the files that call a function or class of that name."""
        call = _call_of(name)
        return [path for path, text in self._encoded() if call.search(text)]

    def deriving(self, name: str) -> list[Path]:
        """Return the files in which a class at module level names another as its base."""
        if name not in self._deriving:
            derived = re.compile(rb"^class\s+\w+\([^)]*\b%s\b" % name.encode(), re.MULTILINE)
            self._deriving[name] = self._matching(name, derived)
        return self._deriving[name]

    def _matching(self, name: str, pattern: re.Pattern[bytes]) -> list[Path]:
        """Return the files that a pattern of a name is found in."""
        word = name.encode()
        return [path for path, text in self._encoded() if word in text and pattern.search(text)]


def _call_of(name: str) -> re.Pattern[bytes]:
    """Return a pattern for the calls of a name."""
    # The name comes first: for what a pattern begins with, whole texts are scanned.
    return re.compile(b"%b(?<!def %b)(?<!\\w%b)" % ((re.escape(f"{name}(".encode()),) * 3))


def _without_dead_code(text: bytes) -> bytes:
    text = COMMENTS.sub(b"", text)
    return _DEAD.sub(b"", text) if b"if False" in text or b"if 0" in text else text


def _used_norms(text: bytes) -> Iterator[str]:
    """Yield the BatchNorm classes that a file uses; what shares statistics is `SyncBatchNorm`."""
    for line in _NORM_LINES.findall(text):
        if not any(word in line for word in _TESTS):
            for name in _NORMS.findall(line):
                yield "SyncBatchNorm" if b"sync" in name.lower() else name.decode()

"""Calls that look something up by its name: `getattr`, `import_module`, `globals`, `eval`."""

from __future__ import annotations

import re
from dataclasses import replace

import libcst as cst

from bncheck.source.timeline import (
    attributes,
    choices,
    evaluated,
    known,
    members,
    networks,
    operators,
    options,
)
from bncheck.source.timeline.arguments import Arguments
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.syntax import identifiers, last_name
from bncheck.source.timeline.values import (
    AnyPackage,
    Constant,
    Container,
    Instance,
    Members,
    Models,
    Opaque,
    Outside,
    Package,
    Settings,
    Value,
)


def call(
    run: Run, node: cst.Call, name: str, first: Value | None, arguments: Arguments
) -> Value | None:
    """Return what a look-up finds; None: the function is no look-up, or not of what is known."""
    last = name.rpartition(".")[2]
    if last in known.IMPORTERS:
        return _imported(run, first) if last == "import_module" else AnyPackage()
    if (number := operators.computed(name, arguments.all())) is not None:
        return number
    match name:
        case "int" if isinstance(first, Opaque) and isinstance(first.at_most, int):
            return first
        case "os.environ.get" | "os.getenv":
            default = arguments.get(1, "default")
            return replace(default, fixed=False) if isinstance(default, Constant) else None
        case "wandb.init" if (config := arguments.get(None, "config")) is not None:
            run.heap.set(
                attributes.WANDB_CONFIG, attributes.WANDB_CONFIG, options.nested(run, config)
            )
            return Opaque(name)
        case "len" if any(_DEVICES.search(part) for part in identifiers(node)):
            return _length(first)
        case "globals":
            return Package(run.frame.module)
        case "eval":
            return evaluated.evaluated(run, node)
        case "type" if isinstance(first, Instance | Models):
            return networks.class_of(run, first)
        case "vars" if isinstance(first, Settings | Package):
            return first
        case "setattr" if isinstance(first, Settings):
            key = arguments.get(1, "name")
            if isinstance(key, Constant):
                options.put(run, first, str(key.value), arguments.get(2, "value") or Opaque())
            else:
                options.forget(run, first)
            return Opaque()
        case "setattr" if isinstance(first, Members):
            key, given = arguments.get(1, "name"), arguments.get(2, "value")
            if isinstance(key, Constant) and given is not None:
                members.assign(run, node, first, str(key.value), given)
            return Opaque()
        case "getattr":
            return _attribute(run, node, first, arguments.get(1, "name"))
    return None


_DEVICES = re.compile(r"gpu|device", re.IGNORECASE)


def _length(listed: Value | None) -> Value | None:
    """Return how many devices settings list: `"0,1".split(",")`, or "0" by itself."""
    match listed:
        case Constant(value=str(text)):
            return Constant(len(text), fixed=False)
        case Container(elements=elements) if elements and not listed.changed:
            known = all(isinstance(element, Constant) for element in elements)
            return Constant(len(elements), fixed=False) if known else None
    return None


def _imported(run: Run, name: Value | None) -> Value:
    """Return the module of a name, or any of the project's where the name is not known."""
    if isinstance(name, Constant):
        found = run.project.find(str(name.value).lstrip("."), run.frame.module)
        if found is not None or name.fixed:
            return Package(found) if found is not None else Opaque("import_module")
    return AnyPackage()


def _attribute(run: Run, node: cst.Call, owner: Value | None, name: Value | None) -> Value | None:
    text = name.value if isinstance(name, Constant) and isinstance(name.value, str) else None
    match owner:
        case Package():
            if name is None:
                return owner
            asked_by = last_name(node.args[1].value) if len(node.args) > 1 else ""
            return choices.of_package(run, owner, name, asked_by)
        case AnyPackage():
            texts = name.texts if isinstance(name, Opaque) else ()
            return choices.of_any_package(run, *((text,) if text is not None else texts))
        case Outside(name=outside):
            return Outside(f"{outside}.{text or 'unknown'}")
        case Models() | Opaque() if text is not None:
            return attributes.attribute(run, owner, text, node)
        case Models(models=models):
            return Models((run.part(models[0], "[]"),))
    return None

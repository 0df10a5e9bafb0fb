"""Variants of a function: an overlay that goes before its file, as `gpu` and `cpu` do.

One folder holds all variants of all functions, in place of a copy of each function for each of
them. An overlay is written as function.yaml is and read by the same reader; it may set anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from fnbuild.errors import Diagnostic, Report
from fnbuild.function.decoder import Decoder
from fnbuild.function.merge import merge_functions
from fnbuild.function.quantities import parse_quantity
from fnbuild.function.suggestions import closest
from fnbuild.function.types import Function, Trigger

VARIANTS_FOLDER = Path("function-specs", "variants")
_SUFFIXES = (".yaml", ".yml")
# The ones that come with fnbuild: function-specs/variants of the source tree.
_PACKAGED_VARIANTS = Path(__file__).with_name("variants")


def find_variant(name: str, folder: Path, report: Report) -> Path | None:
    """The overlay that a name means for the function in `folder`; None when the report says why.

    The name is a file, else NAME.yaml in function-specs/variants of the folder or of one around it
    up to the top of its repository, else one that comes with fnbuild.
    """
    if name.endswith(_SUFFIXES) or "/" in name:
        for path in (Path(name), folder / name):
            if path.is_file():
                return path
        _report_error(report, f"the variant {name} is not there", _variant_hint(name, folder))
        return None
    for place in _variant_folders(folder):
        for suffix in _SUFFIXES:
            if (path := place / f"{name}{suffix}").is_file():
                return path
    _report_error(report, f"there is no variant {name!r}", _variant_hint(name, folder))
    return None


def variant_names(folder: Path) -> list[str]:
    """The names of the variants that the function in the folder has."""
    found = {
        path.stem
        for place in _variant_folders(folder)
        if place.is_dir()
        for path in place.iterdir()
        if path.suffix in _SUFFIXES
    }
    return sorted(found)


def apply_overlay(overlay: Function, base: Function) -> tuple[Function, str | None]:
    """The function in its variant, and the name of the http trigger that the overlay's became.

    The overlay's http trigger is laid over the function's own, whatever either is called, for a
    function has at most one. A limit of 0 takes the resource away.
    """
    overlay, renamed = _with_trigger_of_base(overlay, base)
    made = merge_functions(overlay, base)
    gone = {name for name, text in overlay.spec.resources.limits.items() if _is_zero(text)}
    if gone:
        resources = msgspec.structs.replace(
            made.spec.resources,
            limits=_without(made.spec.resources.limits, gone),
            requests=_without(made.spec.resources.requests, gone),
        )
        spec = msgspec.structs.replace(made.spec, resources=resources)
        made = msgspec.structs.replace(made, spec=spec)
    return made, renamed


def rename_trigger_paths(decoder: Decoder, overlay: Function, name: str) -> None:
    """Let findings about the trigger of that name point at the overlay's http trigger."""
    own = overlay.http_trigger()
    assert own is not None
    old, new = ("spec", "triggers", own[0]), ("spec", "triggers", name)
    for path in [path for path in decoder.places if path[:3] == old]:
        decoder.places[(*new, *path[3:])] = decoder.places[path]


def _with_trigger_of_base(overlay: Function, base: Function) -> tuple[Function, str | None]:
    ours, theirs = overlay.http_trigger(), base.http_trigger()
    if ours is None or theirs is None or ours[0] == theirs[0]:
        return overlay, None
    name = theirs[0]
    triggers: dict[str, Trigger] = {
        (name if key == ours[0] else key): msgspec.structs.replace(trigger, name="")
        if key == ours[0]
        else trigger
        for key, trigger in overlay.spec.triggers.items()
    }
    spec = msgspec.structs.replace(overlay.spec, triggers=triggers)
    return msgspec.structs.replace(overlay, spec=spec), name


def _without(quantities: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: text for name, text in quantities.items() if name not in names}


def _is_zero(text: str) -> bool:
    try:
        return parse_quantity(text) == 0
    except ValueError:
        return False  # no quantity: reported where it was read


def _variant_folders(folder: Path) -> Iterator[Path]:
    """The folders to look into, the nearest first."""
    here = folder.resolve()
    around = [here, *here.parents]
    tops = [index for index, each in enumerate(around) if (each / ".git").exists()]
    # Outside a repository, what lies further up belongs to anybody.
    for each in around[: tops[0] + 1 if tops else 1]:
        yield each / VARIANTS_FOLDER
    yield _PACKAGED_VARIANTS


def _variant_hint(name: str, folder: Path) -> str:
    names = variant_names(folder)
    word = closest(Path(name).stem, names)
    meant = f"did you mean {word}? " if word and word != name else ""
    return f"{meant}known here: {', '.join(names)}; others are files in {VARIANTS_FOLDER}"


def _report_error(report: Report, message: str, hint: str) -> None:
    report.add(Diagnostic("error", "variant", message, hint=hint))

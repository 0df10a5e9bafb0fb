"""Variants of a function: overlays such as `gpu` and `cpu` that take precedence over its file.

One folder holds the variants for all functions. An overlay has the format of function.yaml, is read
by the same reader and may set any value.
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
# function-specs/variants of the source tree, as installed with fnbuild.
_PACKAGED_VARIANTS = Path(__file__).with_name("variants")


def find_variant(name: str, folder: Path, report: Report) -> Path | None:
    """Return the overlay file for a name, or None after reporting an error.

    The name is a file, or NAME.yaml in function-specs/variants of the function's folder or its
    parents up to the top of the repository, or a variant that comes with fnbuild.
    """
    if name.endswith(_SUFFIXES) or "/" in name:
        candidates = [Path(name), folder / name]
        message = f"the variant {name} does not exist"
    else:
        folders = _variant_folders(folder)
        candidates = [parent / f"{name}{suffix}" for parent in folders for suffix in _SUFFIXES]
        message = f"there is no variant {name!r}"
    for path in candidates:
        if path.is_file():
            return path
    report.add(Diagnostic("error", "variant", message, hint=_variant_hint(name, folder)))
    return None


def variant_names(folder: Path) -> list[str]:
    """Return the names of the variants that are available to the function in the folder."""
    names = {
        path.stem
        for variants in _variant_folders(folder)
        if variants.is_dir()
        for path in variants.iterdir()
        if path.suffix in _SUFFIXES
    }
    return sorted(names)


def apply_overlay(overlay: Function, base: Function) -> tuple[Function, str | None]:
    """Return the function with the overlay applied, and the new name of the overlay's http trigger.

    A function has at most one http trigger, so the overlay's http trigger is merged with the
    function's, whatever their names. A limit of 0 removes the resource.
    """
    overlay, renamed = _with_trigger_of_base(overlay, base)
    merged = merge_functions(overlay, base)
    removed = {name for name, text in overlay.spec.resources.limits.items() if _is_zero(text)}
    if removed:
        resources = msgspec.structs.replace(
            merged.spec.resources,
            limits=_without(merged.spec.resources.limits, removed),
            requests=_without(merged.spec.resources.requests, removed),
        )
        spec = msgspec.structs.replace(merged.spec, resources=resources)
        merged = msgspec.structs.replace(merged, spec=spec)
    return merged, renamed


def alias_trigger_paths(decoder: Decoder, overlay: Function, name: str) -> None:
    """Make the nodes of the overlay's http trigger available as the trigger `name`, too.

    Diagnostics about that trigger then point at the overlay.
    """
    trigger = overlay.http_trigger()
    assert trigger is not None
    old, new = ("spec", "triggers", trigger[0]), ("spec", "triggers", name)
    for path in [path for path in decoder.nodes if path[:3] == old]:
        decoder.nodes[(*new, *path[3:])] = decoder.nodes[path]


def _with_trigger_of_base(overlay: Function, base: Function) -> tuple[Function, str | None]:
    overlay_trigger, base_trigger = overlay.http_trigger(), base.http_trigger()
    if overlay_trigger is None or base_trigger is None or overlay_trigger[0] == base_trigger[0]:
        return overlay, None
    name = base_trigger[0]
    triggers: dict[str, Trigger] = {
        (name if key == overlay_trigger[0] else key): msgspec.structs.replace(trigger, name="")
        if key == overlay_trigger[0]
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
        return False  # reported by the decoder


def _variant_folders(folder: Path) -> Iterator[Path]:
    """Yield the folders to search, the nearest first."""
    start = folder.resolve()
    candidates = [start, *start.parents]
    tops = [index for index, parent in enumerate(candidates) if (parent / ".git").exists()]
    # Outside of a repository, parent folders may belong to anyone.
    for parent in candidates[: tops[0] + 1 if tops else 1]:
        yield parent / VARIANTS_FOLDER
    yield _PACKAGED_VARIANTS


def _variant_hint(name: str, folder: Path) -> str:
    names = variant_names(folder)
    word = closest(Path(name).stem, names)
    suggestion = f"did you mean {word}? " if word and word != name else ""
    return f"{suggestion}available: {', '.join(names)}; add others in {VARIANTS_FOLDER}"

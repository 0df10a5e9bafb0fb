"""Unified diffs of a plan and the running function, and of revisions.

Configurations are compared as YAML, code is compared file by file.
"""

from __future__ import annotations

import difflib
import filecmp
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from fnbuild.builder.staging import FileEntry, FileTree, printable_path
from fnbuild.function.secrets import (
    REDACTED,
    map_variables,
    mask_values,
    mask_variables,
    secret_values,
    secret_variables,
)
from fnbuild.function.types import Raw
from fnbuild.platforms import Change, Manifest, Plan

_LARGEST_TEXT = 64 << 10
_UNITS = ("bytes", "KiB", "MiB", "GiB")

SideNames = tuple[str, str]
"""The names of the two sides, the older first."""

_DEPLOY_SIDES: SideNames = ("running", "planned")


@dataclass(frozen=True, slots=True)
class Difference:
    """A plan and its differences from what runs, as a unified diff; empty if there are none."""

    plan: Plan
    text: str


def compare_plan(plan: Plan, running: FileTree | None, planned: FileTree) -> Difference:
    """Compare a plan with what runs. `running` is the running code, None if it is not available."""
    parts = list(_diff_configuration(plan, hashes=running is None))
    if running is not None:
        # The code includes configuration files, which may contain secrets.
        values = {value for change in plan.changes for value in _secret_values(change)}
        parts.append(mask_values(diff_code(running, planned), tuple(sorted(values, key=len)[::-1])))
    return Difference(plan, "".join(parts))


def masked_change(change: Change) -> Change:
    """Return a change for display, with marks instead of the values of secret variables."""
    before, after = change.before, change.after
    if after is not None:
        after = _masked_manifest(before or {}, after)
    if before is not None:
        before = mask_variables(before, secrets_only=True)
    return Change(change.verb, change.target, before, after)


def _masked_manifest(before: Manifest, after: Manifest) -> Manifest:
    old = dict(secret_variables(before))
    changed = {name for name, value in secret_variables(after) if old.get(name, value) != value}

    def mark(variable: Raw) -> Raw:
        other = variable.get("value") == REDACTED and variable.get("name") in changed
        return {**variable, "value": f"{REDACTED} (another value)"} if other else variable

    return map_variables(mask_variables(after, secrets_only=True), mark)


def _secret_values(change: Change) -> set[str]:
    return {*secret_values(change.before or {}), *secret_values(change.after or {})}


def diff_code(old: FileTree, new: FileTree, sides: SideNames = _DEPLOY_SIDES) -> str:
    """Return the unified diff of the files; "" if they are equal."""
    paths = sorted({*old.entries, *new.entries})
    return "".join(
        line
        for path in paths
        for line in _diff_file(
            printable_path(path), old.entries.get(path), new.entries.get(path), sides
        )
    )


def diff_values(name: str, old: Manifest, new: Manifest, sides: SideNames) -> str:
    """Return the unified diff of two values as YAML, under the heading `name`."""
    lines = _yaml_lines(old, hashes=True), _yaml_lines(new, hashes=True)
    return "".join(difflib.unified_diff(*lines, *_headers(name, sides)))


def _diff_configuration(plan: Plan, *, hashes: bool) -> Iterator[str]:
    for change in map(masked_change, plan.effective_changes):
        if change.verb == "replace":
            continue
        before, after = (_yaml_lines(side, hashes=hashes) for side in (change.before, change.after))
        yield from difflib.unified_diff(before, after, *_headers(change.target, _DEPLOY_SIDES))


def _headers(name: str, sides: SideNames) -> tuple[str, str]:
    return f"{name} ({sides[0]})", f"{name} ({sides[1]})"


def _yaml_lines(manifest: Manifest | None, *, hashes: bool) -> list[str]:
    if manifest is None:
        return []
    # The hash of the code is redundant if the files are compared.
    kept = {key: value for key, value in manifest.items() if hashes or key != "code"}
    # Sorted, since the two sides come from different sources with different orders.
    text: str = yaml.safe_dump(kept, sort_keys=True, allow_unicode=True)
    return text.splitlines(keepends=True)


def _is_same(old: FileEntry | None, new: FileEntry | None) -> bool:
    if old is None or new is None:
        # A folder appears and disappears with its content.
        return all(entry is None or entry.kind == "folder" for entry in (old, new))
    if (old.kind, old.executable, old.target) != (new.kind, new.executable, new.target):
        return False
    if isinstance(old.source, Path) and isinstance(new.source, Path):
        # Revisions share unchanged large files.
        return (
            old.kind != "file"
            or old.source.samefile(new.source)
            or filecmp.cmp(old.source, new.source, shallow=False)
        )
    return _entry_bytes(old) == _entry_bytes(new)


def _diff_file(
    path: str, old: FileEntry | None, new: FileEntry | None, sides: SideNames
) -> Iterator[str]:
    if _is_same(old, new):
        return
    before, after = _text_lines(old), _text_lines(new)
    if before is not None and after is not None and before != after:
        yield from difflib.unified_diff(before, after, *_headers(path, sides))
    elif old is None:
        yield f"+{path}: added ({_describe_entry(new)})\n"
    elif new is None:
        yield f"-{path}: removed ({_describe_entry(old)})\n"
    else:
        yield f"-{path}: {_describe_entry(old)}\n+{path}: changed ({_describe_entry(new)})\n"


def _text_lines(entry: FileEntry | None) -> list[str] | None:
    """Return the lines of a text file, None if it is too large or not a text; [] without a file."""
    if entry is None:
        return []
    if entry.kind != "file" or _entry_size(entry) > _LARGEST_TEXT:
        return None
    try:
        text = _entry_bytes(entry).decode("utf-8")
    except UnicodeDecodeError:
        return None
    if "\0" in text:
        return None
    lines = io.StringIO(text, newline="\n").readlines()
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n\\ No newline at end of file\n"
    return lines


def _describe_entry(entry: FileEntry | None) -> str:
    if entry is None or entry.kind == "folder":
        return "folder"
    if entry.kind == "link":
        return f"link to {printable_path(entry.target)}"
    size, unit = float(_entry_size(entry)), 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    number = f"{size:.0f}" if unit == 0 else f"{size:.1f}"
    return f"{number} {_UNITS[unit]}{', executable' if entry.executable else ''}"


def _entry_size(entry: FileEntry) -> int:
    return entry.source.stat().st_size if isinstance(entry.source, Path) else len(entry.source)


def _entry_bytes(entry: FileEntry) -> bytes:
    return entry.source.read_bytes() if isinstance(entry.source, Path) else entry.source

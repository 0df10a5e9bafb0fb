"""What a kubeconfig says, read as kubectl reads it: KUBECONFIG may list several files, and of two
entries of the same name the first file's counts (client-go, tools/clientcmd/loader.go).

Nothing of a user's entry may get into a message: it holds tokens and keys.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fnbuild.errors import UnavailableError
from fnbuild.function.types import Raw

CONTEXT_VARIABLE = "FNBUILD_CONTEXT"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DEFAULT_FILE = Path("~/.kube/config")
_PATH_KEYS = (
    "certificate-authority",
    "client-certificate",
    "client-key",
    "tokenFile",
)


@dataclass(frozen=True, slots=True)
class KubeContext:
    """One context with what it names. `file` is where the context is from."""

    name: str
    file: Path
    namespace: str
    cluster: Raw
    user: Raw

    @property
    def plugin(self) -> str:
        """The program that gives credentials, "" when none does."""
        found = self.user.get("exec")
        return str(found.get("command", "")) if isinstance(found, dict) else ""

    def as_config(self) -> Raw:
        """A kubeconfig of this context alone."""
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": self.name,
            "contexts": [{"name": self.name, "context": {"cluster": "only", "user": "only"}}],
            "clusters": [{"name": "only", "cluster": self.cluster}],
            "users": [{"name": "only", "user": self.user}],
        }


@dataclass(slots=True)
class _MergedConfig:
    files: list[Path]
    current: str = ""
    contexts: dict[str, tuple[Path, Raw]] = field(default_factory=dict)
    clusters: dict[str, tuple[Path, Raw]] = field(default_factory=dict)
    users: dict[str, tuple[Path, Raw]] = field(default_factory=dict)


def candidate_files() -> list[Path]:
    """The files that are looked for, whether or not they exist."""
    listed = os.environ.get("KUBECONFIG", "")
    names = [Path(name) for name in listed.split(os.pathsep) if name] or [_DEFAULT_FILE]
    return [name.expanduser() for name in names]


def existing_files() -> list[Path]:
    """Those of them that there are."""
    return [file for file in candidate_files() if file.exists()]


def missing_context() -> str:
    """What is wrong with each of the files that are looked for, when there is no context."""
    return ", ".join(f"{file} {_file_problem(file)}" for file in candidate_files())


def _file_problem(file: Path) -> str:
    if not file.exists():
        return "does not exist"
    return "has no contexts" if _read_file(file) else "is empty"


def current_context() -> KubeContext | None:
    """The context that FNBUILD_CONTEXT names, or else the current one; None without a kubeconfig.

    Raises `UnavailableError` for files that cannot be read and for a context that is not there.
    """
    found = existing_files()
    if not found:
        return None
    merged = _merge(found)
    asked = os.environ.get(CONTEXT_VARIABLE, "")
    name = asked or merged.current
    if not name and not merged.contexts:
        return None
    if name not in merged.contexts:
        raise _context_not_found(name, merged)
    return _context(name, merged)


def _context_not_found(name: str, merged: _MergedConfig) -> UnavailableError:
    where = ", ".join(map(str, merged.files))
    known = ", ".join(sorted(merged.contexts))
    if not name:
        message = f"no context is the current one in {where}"
    else:
        message = f'there is no context "{name}" in {where}'
    return UnavailableError(
        message, hint=f"`--context` with one of: {known}" if known else "it has no contexts at all"
    )


def _context(name: str, merged: _MergedConfig) -> KubeContext:
    file, entry = merged.contexts[name]
    cluster = _entry_of_context(
        "cluster", str(entry.get("cluster") or ""), merged.clusters, name, file
    )
    if not cluster.get("server"):
        raise UnavailableError(
            f'the cluster of context "{name}" in {file} has no server',
            hint=f"`kubectl config set-cluster {entry.get('cluster')} --server=https://…`",
        )
    who = str(entry.get("user") or "")
    user = _entry_of_context("user", who, merged.users, name, file) if who else {}
    if user.get("as"):
        raise UnavailableError(
            f'the user of context "{name}" in {file} acts as somebody else (`as`), which fnbuild'
            " does not do",
            hint="use a context whose user has the rights itself",
        )
    return KubeContext(name, file, str(entry.get("namespace") or ""), cluster, user)


def _entry_of_context(
    what: str, name: str, entries: dict[str, tuple[Path, Raw]], context: str, file: Path
) -> Raw:
    """A cluster's or user's entry, with paths that no longer depend on the file's folder."""
    if name not in entries:
        raise UnavailableError(
            f'context "{context}" in {file} names {what} "{name}", which is not there',
            hint="`kubectl config view` shows what the kubeconfig has",
        )
    own_file, entry = entries[name]
    folder = own_file.absolute().parent
    result = dict(entry)
    for key in _PATH_KEYS:
        if isinstance(path := result.get(key), str) and path:
            result[key] = str(folder / path)
    plugin = result.get("exec")
    if isinstance(plugin, dict) and "/" in str(plugin.get("command", "")):
        result["exec"] = {**plugin, "command": str(folder / plugin["command"])}
    return result


def missing_plugin_error(context: KubeContext) -> UnavailableError | None:
    """The error of a credential plugin that is not installed."""
    if not context.plugin or shutil.which(context.plugin):
        return None
    own = context.user["exec"].get("installHint")
    return UnavailableError(
        f'context "{context.name}" in {context.file} gets its credentials from the program'
        f" {context.plugin}, which is not installed",
        hint=str(own).strip() if own else f"install {context.plugin}, or use another context",
    )


def _merge(found: list[Path]) -> _MergedConfig:
    merged = _MergedConfig(found)
    for file in found:
        config = _read_file(file)
        merged.current = merged.current or str(config.get("current-context") or "")
        for key, inner, target in (
            ("contexts", "context", merged.contexts),
            ("clusters", "cluster", merged.clusters),
            ("users", "user", merged.users),
        ):
            for name, entry in _entries(config.get(key), key, inner, file):
                target.setdefault(name, (file, entry))
    return merged


def _entries(listed: Any, key: str, inner: str, file: Path) -> Iterator[tuple[str, Raw]]:
    if not isinstance(listed, list | None):
        raise UnavailableError(f"{file} is no kubeconfig: `{key}` is no list")
    for one in listed or []:
        entry = one.get(inner) if isinstance(one, dict) else None
        if not isinstance(one, dict) or not isinstance(entry, dict | None) or "name" not in one:
            raise UnavailableError(
                f"{file} is no kubeconfig: `{key}` has an entry without `name` or `{inner}`"
            )
        yield str(one["name"]), entry or {}


def _read_file(file: Path) -> Raw:
    try:
        found = yaml.load(file.read_bytes(), _LOADER)  # noqa: S506 (it is a safe one)
    except OSError as error:
        raise UnavailableError(
            f"the kubeconfig {file} cannot be read: {error.strerror}",
            hint="KUBECONFIG names another one",
        ) from error
    except (yaml.YAMLError, ValueError) as error:
        # The error's own text quotes the file, which has keys and tokens.
        mark = getattr(error, "problem_mark", None)
        place = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else str(file)
        raise UnavailableError(
            f"the kubeconfig {place} is no YAML", hint="`kubectl config view` reads it too"
        ) from None
    if not isinstance(found, dict | None):
        raise UnavailableError(f"{file} is no kubeconfig: it holds no mapping")
    return found or {}

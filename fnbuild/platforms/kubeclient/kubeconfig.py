"""The kubeconfig, with the rules of kubectl (client-go, tools/clientcmd/loader.go).

KUBECONFIG may list several files; of two entries with the same name, the first file's is used.
Messages never contain parts of a user's entry, which holds tokens and keys.
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
from fnbuild.platforms.base import ConnectOptions

_CONTEXT_VARIABLE = "FNBUILD_CONTEXT"
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
    """A context with its cluster and user.

    `file` defines the context; `all_files` are the files that were read.
    """

    name: str
    file: Path
    namespace: str
    cluster: Raw
    user: Raw
    all_files: tuple[Path, ...]

    @property
    def plugin(self) -> str:
        """The credential plugin (a program), or ""."""
        exec_config = self.user.get("exec")
        return str(exec_config.get("command", "")) if isinstance(exec_config, dict) else ""

    def as_config(self) -> Raw:
        """Return a kubeconfig with this context only."""
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


def _candidate_files(options: ConnectOptions) -> list[Path]:
    """Return the files that are to be used, whether or not they exist."""
    items = options.kubeconfig or os.environ.get("KUBECONFIG", "")
    names = [Path(name) for name in items.split(os.pathsep) if name] or [_DEFAULT_FILE]
    return [name.expanduser() for name in names]


def existing_files(options: ConnectOptions) -> list[Path]:
    """Return the candidate files that exist."""
    return [file for file in _candidate_files(options) if file.exists()]


def missing_context(options: ConnectOptions) -> str:
    """Describe why none of the candidate files has a context."""
    return ", ".join(f"{file} {_file_problem(file)}" for file in _candidate_files(options))


def _file_problem(file: Path) -> str:
    if not file.exists():
        return "does not exist"
    return "has no contexts" if _read_file(file) else "is empty"


def current_context(options: ConnectOptions) -> KubeContext | None:
    """Return the requested context, or the current one; None without a kubeconfig.

    Raises `UnavailableError` for files that cannot be read and for a context that does not exist.
    """
    files = existing_files(options)
    if not files:
        return None
    merged = _merge(files)
    requested = options.context or os.environ.get(_CONTEXT_VARIABLE, "")
    name = requested or merged.current
    if not name and not merged.contexts:
        return None
    if name not in merged.contexts:
        raise _context_not_found_error(name, merged)
    return _context(name, merged)


def _context_not_found_error(name: str, merged: _MergedConfig) -> UnavailableError:
    where = ", ".join(map(str, merged.files))
    names = ", ".join(sorted(merged.contexts))
    wanted = f'context "{name}"' if name else "current context"
    return UnavailableError(
        f"there is no {wanted} in {where}",
        hint=f"`--context` with one of: {names}" if names else "it has no contexts",
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
    user_name = str(entry.get("user") or "")
    user = _entry_of_context("user", user_name, merged.users, name, file) if user_name else {}
    if user.get("as"):
        raise UnavailableError(
            f'the user of context "{name}" in {file} impersonates another one (`as`), which fnbuild'
            " does not support",
            hint="use a context whose user has the permissions itself",
        )
    namespace = str(entry.get("namespace") or "")
    return KubeContext(name, file, namespace, cluster, user, tuple(merged.files))


def _entry_of_context(
    entry_kind: str, name: str, entries: dict[str, tuple[Path, Raw]], context: str, file: Path
) -> Raw:
    """Return the entry of a cluster or user, with paths resolved against the file's folder."""
    if name not in entries:
        raise UnavailableError(
            f'context "{context}" in {file} names {entry_kind} "{name}", which does not exist',
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
    """Return the error for a credential plugin that is not installed, or None."""
    if not context.plugin or shutil.which(context.plugin):
        return None
    install_hint = context.user["exec"].get("installHint")
    return UnavailableError(
        f'context "{context.name}" in {context.file} needs the credential plugin {context.plugin},'
        " which is not installed",
        hint=str(install_hint).strip()
        if install_hint
        else f"install {context.plugin}, or use another context",
    )


def _merge(files: list[Path]) -> _MergedConfig:
    merged = _MergedConfig(files)
    for file in files:
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


def _entries(items: Any, key: str, inner: str, file: Path) -> Iterator[tuple[str, Raw]]:
    if not isinstance(items, list | None):
        raise UnavailableError(f"{file} is not a kubeconfig: `{key}` is not a list")
    for item in items or []:
        entry = item.get(inner) if isinstance(item, dict) else None
        if not isinstance(item, dict) or not isinstance(entry, dict | None) or "name" not in item:
            raise UnavailableError(
                f"{file} is not a kubeconfig: `{key}` has an entry without `name` or `{inner}`"
            )
        yield str(item["name"]), entry or {}


def _read_file(file: Path) -> Raw:
    try:
        config = yaml.load(file.read_bytes(), _LOADER)  # noqa: S506 (it is a safe one)
    except OSError as error:
        raise UnavailableError(
            f"the kubeconfig {file} cannot be read: {error.strerror}",
            hint="choose another file with KUBECONFIG",
        ) from error
    except (yaml.YAMLError, ValueError) as error:
        # The error's own message quotes the file, which contains keys and tokens.
        mark = getattr(error, "problem_mark", None)
        place = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else str(file)
        raise UnavailableError(
            f"the kubeconfig {place} is not valid YAML", hint="`kubectl config view` reads it too"
        ) from None
    if not isinstance(config, dict | None):
        raise UnavailableError(f"{file} is not a kubeconfig: it is not a mapping")
    return config or {}

"""The Secret that holds the values of a function's secret variables.

Every value has its own key, made of the variable's name and a keyed digest of the value. A stored
value never changes. Configurations, the Deployment, its annotations and the record of revisions
refer to these keys instead of holding values. A different value is a different reference: pods
restart, and an older revision still finds its value. The digest's key is kept in the Secret as
well, so that a value cannot be guessed from its reference.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from fnbuild.errors import ConflictError, ForbiddenError, PreconditionError
from fnbuild.function.secret_references import managed_secret_key, managed_secret_name
from fnbuild.function.secrets import map_variables, secret_variables
from fnbuild.function.types import Raw
from fnbuild.names import FUNCTION_LABEL, PROJECT_LABEL
from fnbuild.platforms.base import FunctionKey
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.errors import StaleError
from fnbuild.platforms.kubeclient.ownership import MANAGED_BY, MANAGER, RECORD

_DIGEST_KEY = "digest-key"
_MAX_ATTEMPTS = 5
_MAX_NAME_LENGTH = 200


@dataclass(slots=True)
class _Content:
    """The Secret as it was read (None if it does not exist), and the values to add to it."""

    live: Raw | None
    digest_key: bytes
    values: dict[str, str]
    added: dict[str, str] = field(default_factory=dict)


class SecretStore:
    """The Secret of one function, read on first use: most functions need none."""

    def __init__(self, cluster: Cluster, key: FunctionKey):
        self._cluster = cluster
        self._key = key
        self._name = managed_secret_name(key.name)

    @cached_property
    def _content(self) -> _Content:
        live = self._cluster.get(kinds.SECRET, self._key.namespace, self._name)
        if live is None:
            return _Content(None, secrets.token_bytes(32), {})
        if (live["metadata"].get("labels") or {}).get(MANAGED_BY) != MANAGER:
            raise ConflictError(
                f"Secret {self._name} in namespace {self._key.namespace} is not managed by fnbuild",
                hint="give the function or the Secret another name",
            )
        values = {name: _decode(text) for name, text in (live.get("data") or {}).items()}
        digest_key = values.pop(_DIGEST_KEY, b"") or secrets.token_bytes(32)
        return _Content(live, digest_key, {k: v.decode("utf-8") for k, v in values.items()})

    def with_references(self, config: Raw) -> Raw:
        """Return a configuration with references in place of secret values.

        The values are kept here until `save`.
        """
        pairs = set(secret_variables(config))
        if not pairs:
            return config

        def refer(variable: Raw) -> Raw:
            value = variable.get("value")
            if not value or (str(variable.get("name")), str(value)) not in pairs:
                return variable
            reference = {name: content for name, content in variable.items() if name != "value"}
            key = self._add_value(str(variable["name"]), str(value))
            return {**reference, "valueFrom": {"secretKeyRef": {"name": self._name, "key": key}}}

        return map_variables(config, refer)

    def _add_value(self, name: str, value: str) -> str:
        """Return the key of a value; add the value if it is new."""
        content = self._content
        digest = hmac.digest(content.digest_key, f"{name}\0{value}".encode(), hashlib.sha256).hex()
        key = f"{re.sub(r'[^-._a-zA-Z0-9]', '_', name)[:_MAX_NAME_LENGTH]}.{digest[:16]}"
        if key not in content.values:
            content.values[key] = content.added[key] = value
        return key

    def with_values(self, config: Raw) -> Raw:
        """Return a configuration with values in place of references to them.

        Raises `PreconditionError` for a value that no longer exists.
        """

        def reveal(variable: Raw) -> Raw:
            key = managed_secret_key(variable, self._key.name)
            if not key:
                return variable
            if key not in self._content.values:
                raise PreconditionError(
                    f"Secret {self._name} has no value for {variable.get('name')} ({key})",
                    hint=f"`--secret-env {variable.get('name')}=VALUE` sets it",
                )
            reference = {name: content for name, content in variable.items() if name != "valueFrom"}
            return {**reference, "value": self._content.values[key]}

        return map_variables(config, reveal)

    def save(self, labels: dict[str, str]) -> None:
        """Write the added values to the cluster."""
        if "_content" not in self.__dict__ or not self._content.added:
            return
        self._write(lambda values: values | self._content.added, labels)
        self._content.added.clear()

    def prune(self, configs: Iterable[Raw], earlier: Iterable[Raw]) -> None:
        """Remove the values that no configuration on record refers to.

        `earlier` are the configurations that were on record before. If neither has references,
        there is no Secret.
        """
        kept = {key for config in configs for key in _referenced_keys(config, self._key.name)}
        if not kept and not any(has_references(config, self._key.name) for config in earlier):
            return
        if self._content.live is not None and self._content.values.keys() - kept:
            self._write(lambda values: {k: v for k, v in values.items() if k in kept}, {})

    def delete(self, *, needed: bool) -> None:
        """Remove the Secret. Raises `ForbiddenError` without the right to only if `needed`."""
        try:
            self._cluster.delete(kinds.SECRET, self._key.namespace, self._name)
        except ForbiddenError:
            if needed:
                raise

    def _write(
        self, change: Callable[[dict[str, str]], dict[str, str]], function_labels: dict[str, str]
    ) -> None:
        for _ in range(_MAX_ATTEMPTS):
            content = self._content
            data = {
                name: base64.b64encode(value.encode()).decode()
                for name, value in change(content.values).items()
            }
            data[_DIGEST_KEY] = base64.b64encode(content.digest_key).decode()
            metadata: Raw = dict((content.live or {}).get("metadata") or {})
            metadata.pop("managedFields", None)
            metadata |= {
                "name": self._name,
                "namespace": self._key.namespace,
                "labels": (metadata.get("labels") or {})
                | {key: function_labels[key] for key in (PROJECT_LABEL,) if key in function_labels}
                | {
                    MANAGED_BY: MANAGER,
                    RECORD: "secrets",
                    FUNCTION_LABEL: self._key.name,
                },
            }
            manifest = kinds.SECRET.manifest(metadata, type="Opaque", data=data)
            try:
                write = self._cluster.replace if content.live else self._cluster.create
                content.live = write(manifest)
            except StaleError:
                self._reload()
            else:
                content.values = change(content.values)
                return
        raise ConflictError(
            f"Secret {self._name} is constantly changed by another client", hint="try again"
        )

    def _reload(self) -> None:
        """Read what another client has written, such as labels; keep the values to add."""
        before = self._content
        del self.__dict__["_content"]
        self._content.values |= before.added
        self._content.added = before.added


def has_references(config: Raw, name: str) -> bool:
    """Return True if the configuration refers to values in the function's Secret."""
    return bool(_referenced_keys(config, name))


def _referenced_keys(config: Raw, name: str) -> set[str]:
    keys: set[str] = set()

    def note(variable: Raw) -> Raw:
        keys.add(managed_secret_key(variable, name))
        return variable

    map_variables(config, note)
    return keys - {""}


def _decode(text: Any) -> bytes:
    try:
        return base64.b64decode(str(text))
    except (binascii.Error, ValueError):
        return b""

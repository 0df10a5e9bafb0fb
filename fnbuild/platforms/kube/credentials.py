"""The login of a registry as a Secret, with which nodes pull images."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field

from fnbuild.builder.image import references
from fnbuild.platforms.cluster import connection, kinds
from fnbuild.spec.types import Raw

_TYPE = "kubernetes.io/dockerconfigjson"
_FILE = ".dockerconfigjson"
# Docker Hub has several names, and logins to it are found by this one alone
# (Kubernetes: pkg/credentialprovider/keyring.go).
_HUB = "https://index.docker.io/v1/"
_OF_HUB = re.compile(r"((index|registry|registry-1|registry\.hub|hub)\.)?docker\.(io|com)(/v\d)?")


@dataclass(frozen=True, slots=True)
class Login:
    """A user of a registry; `registry` is its address with or without scheme and path."""

    registry: str
    username: str
    password: str = field(repr=False)
    email: str = ""

    @property
    def server(self) -> str:
        """The registry as nodes look it up. Raises `InputError` for what can be none."""
        bare = re.sub(r"\Ahttps?://", "", self.registry.strip()).rstrip("/")
        if _OF_HUB.fullmatch(bare):
            return _HUB
        references.with_registry(bare, "image", "--registry")
        return bare


def store(namespace: str, name: str, login: Login, *, force_conflicts: bool = False) -> bool:
    """Put the login into the cluster as a Secret; False when there was one of that name already.

    Raises `FieldConflictError` when somebody else has written it, unless `force_conflicts`.
    """
    cluster = connection.connect()
    new = cluster.get(kinds.SECRET, namespace, name) is None
    cluster.apply(_manifest(namespace, name, login), force=force_conflicts)
    return new


def _manifest(namespace: str, name: str, login: Login) -> Raw:
    pair = f"{login.username}:{login.password}".encode()
    entry = {
        "username": login.username,
        "password": login.password,
        **({"email": login.email} if login.email else {}),
        "auth": base64.b64encode(pair).decode(),
    }
    text = json.dumps({"auths": {login.server: entry}})
    return {
        "apiVersion": kinds.SECRET.api,
        "kind": kinds.SECRET.name,
        "metadata": {"name": name, "namespace": namespace},
        "type": _TYPE,
        "data": {_FILE: base64.b64encode(text.encode()).decode()},
    }

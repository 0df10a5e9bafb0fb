"""The Secret with a registry login, with which nodes pull images."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field

from fnbuild.builder.image import references
from fnbuild.function.types import Raw
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster

_DOCKER_CONFIG_TYPE = "kubernetes.io/dockerconfigjson"
_DOCKER_CONFIG = ".dockerconfigjson"
# Docker Hub has several names, and logins to it are found by this one alone
# (Kubernetes: pkg/credentialprovider/keyring.go).
_DOCKER_HUB = "https://index.docker.io/v1/"
_DOCKER_HUB_NAMES = re.compile(
    r"((index|registry|registry-1|registry\.hub|hub)\.)?docker\.(io|com)(/v\d)?"
)


@dataclass(frozen=True, slots=True)
class RegistryLogin:
    """The login to a registry; `registry` is its address with or without scheme and path."""

    registry: str
    username: str
    password: str = field(repr=False)
    email: str = ""

    @property
    def server(self) -> str:
        """The registry name that nodes look up. Raises `InputError` for an invalid one."""
        bare = re.sub(r"\Ahttps?://", "", self.registry.strip()).rstrip("/")
        if _DOCKER_HUB_NAMES.fullmatch(bare):
            return _DOCKER_HUB
        references.with_registry(bare, "image", "--registry")
        return bare


def store_registry_secret(
    cluster: Cluster,
    namespace: str,
    name: str,
    login: RegistryLogin,
    *,
    force_conflicts: bool = False,
) -> bool:
    """Store the login as a Secret; return False if it already existed.

    Raises `FieldConflictError` if another manager has written it, unless `force_conflicts`.
    """
    new = cluster.get(kinds.SECRET, namespace, name) is None
    cluster.apply(_secret_manifest(namespace, name, login), force=force_conflicts)
    return new


def _secret_manifest(namespace: str, name: str, login: RegistryLogin) -> Raw:
    pair = f"{login.username}:{login.password}".encode()
    entry = {
        "username": login.username,
        "password": login.password,
        **({"email": login.email} if login.email else {}),
        "auth": base64.b64encode(pair).decode(),
    }
    text = json.dumps({"auths": {login.server: entry}})
    data = {_DOCKER_CONFIG: base64.b64encode(text.encode()).decode()}
    metadata = {"name": name, "namespace": namespace}
    return kinds.SECRET.manifest(metadata, type=_DOCKER_CONFIG_TYPE, data=data)

"""The way to the engine: through the docker SDK, which is slow to import, so late."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fnbuild.errors import UnavailableError
from fnbuild.platforms.docker import contexts
from fnbuild.platforms.docker.engine import Engine
from fnbuild.platforms.docker.faults import of_connection
from fnbuild.runtime import sockets
from fnbuild.spec.types import Raw

_SECONDS = 60


def connect() -> Engine:
    """The engine that DOCKER_HOST, DOCKER_CONTEXT or Docker's current context names, as for the
    program `docker`. Raises `UnavailableError`.
    """
    try:
        import docker
    except ImportError as error:
        raise UnavailableError(
            "the Docker platform needs the Python package docker", hint="`pip install docker`"
        ) from error
    host, settings = _address(docker)
    try:
        _knock(host)
        api = _client()(base_url=host, version="auto", timeout=_SECONDS, **settings)
    except (OSError, docker.errors.DockerException) as error:
        raise of_connection(error, host) from error
    return Engine(api, host)


def _client() -> Any:
    """The SDK's client, a class that stands on one which is imported late."""
    import docker

    class Client(docker.APIClient):  # type: ignore[misc]
        def merge_environment_settings(
            self, url: str, proxies: Any, stream: Any, verify: Any, cert: Any
        ) -> Any:
            # REQUESTS_CA_BUNDLE is not about the engine, whose authority is its own.
            own = self.verify if verify is None else verify
            return super().merge_environment_settings(url, proxies, stream, own, cert)

    return Client


def _knock(host: str) -> None:
    """See that somebody listens on a socket of this machine: the SDK leaves one open when not."""
    if host.startswith("unix://"):
        sockets.connect_unix(Path(host.removeprefix("unix://")), _SECONDS).close()


def _address(docker: Any) -> tuple[str, Raw]:
    """The engine's address, and what else is needed to get there."""
    if host := os.environ.get("DOCKER_HOST"):
        settings = docker.utils.kwargs_from_env()
        settings.pop("base_url", None)
    else:
        found = contexts.place()
        host = found.host.removeprefix("http+")
        settings = {"tls": _tls(docker, found.tls)} if found.tls else {}
    if host.startswith("ssh://"):
        settings["use_ssh_client"] = True
    return host, settings


def _tls(docker: Any, material: contexts.Material) -> Any:
    return docker.tls.TLSConfig(
        client_cert=material.own, ca_cert=material.ca or None, verify=material.verify
    )

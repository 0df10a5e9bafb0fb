"""The connection to the engine that the program `docker` would use.

DOCKER_HOST, DOCKER_CONTEXT or the current context of Docker's configuration name the engine.
Contexts are read from Docker's own folder, as the program stores them (docker/cli,
cli/context/store): the SDK requires a config.json beside them, which need not exist. The SDK is
imported late because it is slow to import.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fnbuild.errors import UnavailableError
from fnbuild.function.types import Raw
from fnbuild.platforms.docker.engine import Engine
from fnbuild.platforms.docker.errors import connection_error
from fnbuild.runtime import sockets

_DEFAULT_HOST = "unix:///var/run/docker.sock"
_DEFAULT_CONTEXT = "default"
_CONTEXTS_HINT = "`docker context ls` lists those there are"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """What a context has for TLS: the file of an authority ("" for none), the files of an own
    certificate and its key (None for none), and whether the server has to prove itself.
    """

    ca: str = ""
    own: tuple[str, str] | None = None
    verify: bool = True


@dataclass(frozen=True, slots=True)
class EngineEndpoint:
    """The address of an engine, and what its TLS needs; None for none."""

    host: str
    tls: TlsFiles | None = None


def find_endpoint() -> EngineEndpoint:
    """What DOCKER_CONTEXT, or else the current context of Docker's configuration, names.

    Raises `UnavailableError` when there is no such context, or it cannot be read.
    """
    name = os.environ.get("DOCKER_CONTEXT") or _current_context()
    if name == _DEFAULT_CONTEXT:
        return EngineEndpoint(_DEFAULT_HOST)
    # A context's folder is called after its name's hash.
    own = hashlib.sha256(name.encode()).hexdigest()
    file = _config_folder() / "contexts/meta" / own / "meta.json"
    if not file.is_file():
        raise UnavailableError(f"there is no Docker context {name}", hint=_CONTEXTS_HINT)
    try:
        endpoint = (_read_object(file).get("Endpoints") or {}).get("docker")
    except (OSError, ValueError) as error:
        raise UnavailableError(
            f"the Docker context {name} cannot be read: {error}", hint=f"{file} holds it"
        ) from error
    if not isinstance(endpoint, dict):
        raise UnavailableError(f"the Docker context {name} names no engine", hint=_CONTEXTS_HINT)
    host = str(endpoint.get("Host") or _DEFAULT_HOST)
    return EngineEndpoint(
        host, _find_tls_files(_config_folder() / "contexts/tls" / own / "docker", host, endpoint)
    )


def _find_tls_files(folder: Path, host: str, endpoint: Raw) -> TlsFiles | None:
    ca, certificate, key = (folder / name for name in ("ca.pem", "cert.pem", "key.pem"))
    own = (str(certificate), str(key)) if certificate.is_file() and key.is_file() else None
    unverified = bool(endpoint.get("SkipTLSVerify"))
    if not host.startswith("tcp://") or not (ca.is_file() or own or unverified):
        return None
    return TlsFiles(str(ca) if ca.is_file() else "", own, verify=not unverified)


def _config_folder() -> Path:
    """Docker's own folder."""
    return Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")


def _current_context() -> str:
    try:
        found = _read_object(_config_folder() / "config.json")
    except (OSError, ValueError):  # as for the program, which only warns
        return _DEFAULT_CONTEXT
    return str(found.get("currentContext") or _DEFAULT_CONTEXT)


def _read_object(file: Path) -> Raw:
    found = json.loads(file.read_bytes())
    if not isinstance(found, dict):
        raise ValueError("it holds no object")
    return found


_TIMEOUT_SECONDS = 60


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
    host, settings = _engine_address(docker)
    try:
        _check_socket(host)
        api = _client_class()(base_url=host, version="auto", timeout=_TIMEOUT_SECONDS, **settings)
    except (OSError, docker.errors.DockerException) as error:
        raise connection_error(error, host) from error
    return Engine(api, host)


def _client_class() -> Any:
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


def _check_socket(host: str) -> None:
    """See that somebody listens on a socket of this machine: the SDK leaves one open when not."""
    if host.startswith("unix://"):
        sockets.connect_unix(Path(host.removeprefix("unix://")), _TIMEOUT_SECONDS).close()


def _engine_address(docker: Any) -> tuple[str, Raw]:
    """The engine's address, and what else is needed to get there."""
    if host := os.environ.get("DOCKER_HOST"):
        settings = docker.utils.kwargs_from_env()
        settings.pop("base_url", None)
    else:
        found = find_endpoint()
        host = found.host.removeprefix("http+")
        settings = {"tls": _tls_config(docker, found.tls)} if found.tls else {}
    if host.startswith("ssh://"):
        settings["use_ssh_client"] = True
    return host, settings


def _tls_config(docker: Any, material: TlsFiles) -> Any:
    return docker.tls.TLSConfig(
        client_cert=material.own, ca_cert=material.ca or None, verify=material.verify
    )

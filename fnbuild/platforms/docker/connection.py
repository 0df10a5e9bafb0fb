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
from pathlib import Path
from typing import Any

from fnbuild.errors import UnavailableError
from fnbuild.function.types import Raw
from fnbuild.platforms.docker.engine import Engine
from fnbuild.platforms.docker.errors import connection_error
from fnbuild.runtime import sockets

_DEFAULT_HOST = "unix:///var/run/docker.sock"
_DEFAULT_CONTEXT = "default"
_CONTEXTS_HINT = "`docker context ls` lists the contexts"
_TIMEOUT_SECONDS = 60


def connect() -> Engine:
    """Connect to the engine that the program `docker` would use. Raises `UnavailableError`."""
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
    """Return a subclass of the SDK's client, whose class is imported late."""
    import docker

    class Client(docker.APIClient):  # type: ignore[misc]
        def merge_environment_settings(
            self, url: str, proxies: Any, stream: Any, verify: Any, cert: Any
        ) -> Any:
            # REQUESTS_CA_BUNDLE does not apply to the engine, which has its own CA.
            verify = self.verify if verify is None else verify
            return super().merge_environment_settings(url, proxies, stream, verify, cert)

    return Client


def _check_socket(host: str) -> None:
    """Connect to a local socket once, because the SDK leaks a descriptor if that fails."""
    if host.startswith("unix://"):
        sockets.connect_unix(Path(host.removeprefix("unix://")), _TIMEOUT_SECONDS).close()


def _engine_address(docker: Any) -> tuple[str, Raw]:
    """Return the address of the engine, and further arguments of the SDK's client."""
    if host := os.environ.get("DOCKER_HOST"):
        settings = docker.utils.kwargs_from_env()
        settings.pop("base_url", None)
    else:
        host, settings = _context_address(docker)
    if host.startswith("ssh://"):
        settings["use_ssh_client"] = True
    return host, settings


def _context_address(docker: Any) -> tuple[str, Raw]:
    """Return the address and settings of DOCKER_CONTEXT, or of the current context.

    Raises `UnavailableError` if the context does not exist or cannot be read.
    """
    name = os.environ.get("DOCKER_CONTEXT") or _current_context()
    if name == _DEFAULT_CONTEXT:
        return _DEFAULT_HOST, {}
    # The folder of a context is named for the hash of its name.
    digest = hashlib.sha256(name.encode()).hexdigest()
    file = _config_folder() / "contexts/meta" / digest / "meta.json"
    if not file.is_file():
        raise UnavailableError(f"there is no Docker context {name}", hint=_CONTEXTS_HINT)
    try:
        endpoint = (_read_object(file).get("Endpoints") or {}).get("docker")
    except (OSError, ValueError) as error:
        raise UnavailableError(
            f"the Docker context {name} cannot be read: {error}", hint=f"check {file}"
        ) from error
    if not isinstance(endpoint, dict):
        raise UnavailableError(f"the Docker context {name} names no engine", hint=_CONTEXTS_HINT)
    host = str(endpoint.get("Host") or _DEFAULT_HOST)
    settings: Raw = {}
    if host.startswith("tcp://"):
        folder = _config_folder() / "contexts/tls" / digest / "docker"
        settings = _tls_settings(docker, folder, verify=not endpoint.get("SkipTLSVerify"))
    return host.removeprefix("http+"), settings


def _tls_settings(docker: Any, folder: Path, *, verify: bool) -> Raw:
    """Return the TLS settings of a context with this folder; empty if it has none."""
    ca, certificate, key = (folder / name for name in ("ca.pem", "cert.pem", "key.pem"))
    has_client_cert = certificate.is_file() and key.is_file()
    client_cert = (str(certificate), str(key)) if has_client_cert else None
    ca_cert = str(ca) if ca.is_file() else None
    if verify and not ca_cert and not client_cert:
        return {}
    return {"tls": docker.tls.TLSConfig(client_cert=client_cert, ca_cert=ca_cert, verify=verify)}


def _config_folder() -> Path:
    """Return the folder of Docker's configuration."""
    return Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")


def _current_context() -> str:
    try:
        config = _read_object(_config_folder() / "config.json")
    except (OSError, ValueError):  # the program `docker` only warns, too
        return _DEFAULT_CONTEXT
    return str(config.get("currentContext") or _DEFAULT_CONTEXT)


def _read_object(file: Path) -> Raw:
    value = json.loads(file.read_bytes())
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    return value

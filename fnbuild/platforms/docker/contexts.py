"""Where the engine is: the same place that the program `docker` would go to, since it builds.

Contexts are read from Docker's own folder as the program keeps them (docker/cli,
cli/context/store), for the SDK looks for them beside a config.json, which need not be there.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from fnbuild.errors import UnavailableError
from fnbuild.spec.types import Raw

_DEFAULT_HOST = "unix:///var/run/docker.sock"
_DEFAULT = "default"
_LIST_HINT = "`docker context ls` lists those there are"


@dataclass(frozen=True, slots=True)
class Material:
    """What a context has for TLS: the file of an authority ("" for none), the files of an own
    certificate and its key (None for none), and whether the server has to prove itself.
    """

    ca: str = ""
    own: tuple[str, str] | None = None
    verify: bool = True


@dataclass(frozen=True, slots=True)
class Place:
    """The address of an engine, and what its TLS needs; None for none."""

    host: str
    tls: Material | None = None


def place() -> Place:
    """What DOCKER_CONTEXT, or else the current context of Docker's configuration, names.

    Raises `UnavailableError` when there is no such context, or it cannot be read.
    """
    name = os.environ.get("DOCKER_CONTEXT") or _current()
    if name == _DEFAULT:
        return Place(_DEFAULT_HOST)
    # A context's folder is called after its name's hash.
    own = hashlib.sha256(name.encode()).hexdigest()
    file = _folder() / "contexts/meta" / own / "meta.json"
    if not file.is_file():
        raise UnavailableError(f"there is no Docker context {name}", hint=_LIST_HINT)
    try:
        endpoint = (_read(file).get("Endpoints") or {}).get("docker")
    except (OSError, ValueError) as error:
        raise UnavailableError(
            f"the Docker context {name} cannot be read: {error}", hint=f"{file} holds it"
        ) from error
    if not isinstance(endpoint, dict):
        raise UnavailableError(f"the Docker context {name} names no engine", hint=_LIST_HINT)
    host = str(endpoint.get("Host") or _DEFAULT_HOST)
    return Place(host, _material(_folder() / "contexts/tls" / own / "docker", host, endpoint))


def _material(folder: Path, host: str, endpoint: Raw) -> Material | None:
    ca, certificate, key = (folder / name for name in ("ca.pem", "cert.pem", "key.pem"))
    own = (str(certificate), str(key)) if certificate.is_file() and key.is_file() else None
    unverified = bool(endpoint.get("SkipTLSVerify"))
    if not host.startswith("tcp://") or not (ca.is_file() or own or unverified):
        return None
    return Material(str(ca) if ca.is_file() else "", own, verify=not unverified)


def _folder() -> Path:
    """Docker's own folder."""
    return Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")


def _current() -> str:
    try:
        found = _read(_folder() / "config.json")
    except (OSError, ValueError):  # as for the program, which only warns
        return _DEFAULT
    return str(found.get("currentContext") or _DEFAULT)


def _read(file: Path) -> Raw:
    found = json.loads(file.read_bytes())
    if not isinstance(found, dict):
        raise ValueError("it holds no object")
    return found

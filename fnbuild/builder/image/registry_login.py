"""The logins of this user's engines, from the files and credential helpers of docker and podman."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_HELPER_SECONDS = 30.0
_HUB_KEY = "https://index.docker.io/v1/"
_HUB_NAMES = ("docker.io", "registry-1.docker.io", "index.docker.io")
# The user name that marks an identity token of a helper.
_TOKEN_USER = "<token>"  # noqa: S105 - not a password


@dataclass(frozen=True, slots=True)
class Login:
    """A user name and password, or an `identity` token instead of both."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """Return the value of an Authorization header."""
        pair = f"{self.username}:{self.password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"


def find_login(registry: str) -> Login | None:
    """Return the login that this user's engine would use for the registry, or None."""
    names = (_HUB_KEY, *_HUB_NAMES) if registry in _HUB_NAMES else (registry,)
    for file in _config_files():
        config = _read_config(file)
        for name in names:
            if (login := _helper_login(config, name) or _stored_login(config, name)) is not None:
                return login
    return None


def _config_files() -> list[Path]:
    """Return the configuration files of docker and podman; the first one with a login wins."""
    configured = os.environ.get("REGISTRY_AUTH_FILE")
    docker = os.environ.get("DOCKER_CONFIG")
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    files = [Path(configured)] if configured else []
    files.append(Path(docker, "config.json") if docker else Path.home() / ".docker/config.json")
    if runtime:
        files.append(Path(runtime, "containers/auth.json"))
    return files


def _read_config(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def _stored_login(config: dict[str, Any], name: str) -> Login | None:
    logins = config.get("auths")
    if not isinstance(logins, dict):
        return None
    for key in (name, f"https://{name}", f"http://{name}", f"https://{name}/v2/"):
        entry = logins.get(key)
        if not isinstance(entry, dict):
            continue
        if entry.get("identitytoken"):
            return Login(identity=str(entry["identitytoken"]))
        if entry.get("auth"):
            return _decode_login(str(entry["auth"]))
        if entry.get("username"):
            return Login(str(entry["username"]), str(entry.get("password", "")))
    return None


def _decode_login(pair: str) -> Login | None:
    try:
        username, _, password = base64.b64decode(pair).decode().partition(":")
    except ValueError:
        return None
    return Login(username, password.rstrip("\0"))


def _helper_login(config: dict[str, Any], name: str) -> Login | None:
    """Ask the credential helper for the login, as docker does."""
    helpers = config.get("credHelpers")
    helper = (helpers.get(name) if isinstance(helpers, dict) else None) or config.get("credsStore")
    if not helper or "/" in str(helper):
        return None
    try:
        result = subprocess.run(
            [f"docker-credential-{helper}", "get"],
            input=name,
            capture_output=True,
            text=True,
            timeout=_HELPER_SECONDS,
            check=False,
        )
        output = json.loads(result.stdout) if result.returncode == 0 else {}
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    if not output.get("Username"):
        return None
    if output["Username"] == _TOKEN_USER:
        return Login(identity=str(output.get("Secret", "")))
    return Login(str(output["Username"]), str(output.get("Secret", "")))

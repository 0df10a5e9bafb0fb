"""The `function.yaml` of a staged copy."""

from __future__ import annotations

from pathlib import Path

import msgspec
import yaml

from fnbuild.function.file_redaction import redact_access_secrets
from fnbuild.function.reader import LoadedFunction
from fnbuild.function.types import Function, to_dict

CONFIG_NAME = "function.yaml"


def config_source(loaded: LoadedFunction) -> Path | bytes:
    """Return the configuration file; its bytes if it is a new one, or one without its secrets.

    Passwords of the function itself are stored as hashes.
    """
    path = loaded.config_path
    if path is None:
        return redact_access_secrets(_config_bytes(loaded.function), CONFIG_NAME)
    try:
        data = path.read_bytes()
    except OSError:
        return path
    redacted = redact_access_secrets(data, path.name)
    return path if redacted == data else redacted


def _config_bytes(function: Function) -> bytes:
    """Return the configuration as a file, for code that came without one."""
    build = msgspec.structs.replace(function.spec.build, function_source_code="")
    spec = msgspec.structs.replace(function.spec, build=build)
    config = to_dict(msgspec.structs.replace(function, spec=spec))
    return yaml.safe_dump(config, allow_unicode=True, sort_keys=False).encode()

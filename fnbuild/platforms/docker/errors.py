"""Errors of fnbuild for the errors of the engine and its SDK, each with a remedy."""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator
from typing import NamedTuple

from fnbuild.errors import (
    ConflictError,
    FnbuildError,
    InputError,
    NotFoundError,
    PlatformError,
    PreconditionError,
    UnavailableError,
)

_PORT_PATTERN = re.compile(r"(?:Bind for|listen \w+) (\[?[0-9a-f.:]+\]?:\d+)")
_NETWORK_PATTERN = re.compile(r"network (\S+) not found")

_START_HINT = (
    "start it (`systemctl start docker`), set DOCKER_HOST to one that runs, or use"
    " `--platform process`, which needs no engine"
)
_TOOLKIT_HINT = (
    "install the NVIDIA Container Toolkit, then `nvidia-ctk runtime configure --runtime=docker` and"
    " restart the engine; without the limit nvidia.com/gpu the function runs on the CPU"
)


class PortTakenError(ConflictError):
    """A port was free when it was chosen, and in use when the container started."""


class ObjectNotFound(Exception):  # noqa: N818 (a result, which callers handle)
    """The requested object does not exist on the engine."""


@contextlib.contextmanager
def translating_errors(action: str, host: str) -> Iterator[None]:
    """Translate errors of the SDK to errors of fnbuild, and "not found" to `ObjectNotFound`.

    `action` completes the sentence "the engine could not …".
    """
    # The SDK is slow to import, and the caller has imported it.
    import requests
    import urllib3
    from docker import errors

    try:
        yield
    except errors.NotFound as error:
        if explained := _explained_error(str(error.explanation or "")):
            raise explained from error
        raise ObjectNotFound(str(error.explanation or error)) from error
    except errors.APIError as error:
        raise engine_error(action, str(error.explanation or error)) from error
    except (requests.Timeout, urllib3.exceptions.ReadTimeoutError) as error:
        raise UnavailableError(
            f"the engine at {host} does not respond in time",
            hint="check the load of its machine and disk",
        ) from error
    except (requests.RequestException, errors.DockerException, OSError) as error:
        raise connection_error(error, host) from error


def connection_error(error: BaseException, host: str) -> UnavailableError:
    """Return the error for an unreachable engine, from the chain of causes."""
    if _has_cause(error, PermissionError):
        return UnavailableError(
            f"this user may not access the container engine at {host}",
            hint="run `sudo usermod -aG docker $USER`, then log in again",
        )
    if _has_cause(error, FileNotFoundError):
        return UnavailableError(
            f"no container engine answers at {host}: the socket does not exist", hint=_START_HINT
        )
    if _has_cause(error, ConnectionRefusedError):
        return UnavailableError(
            f"no container engine answers at {host}: the connection is refused", hint=_START_HINT
        )
    return UnavailableError(
        f"no container engine answers at {host}", hint=_START_HINT, detail=str(error) or None
    )


def _has_cause(error: BaseException | None, kind: type[OSError]) -> bool:
    """Return True if the chain has an error of that kind, which the SDK may wrap as text."""
    numbers = {PermissionError: errno.EACCES, FileNotFoundError: errno.ENOENT}
    text = f"{kind.__name__}({numbers.get(kind, errno.ECONNREFUSED)},"
    while error is not None:
        if isinstance(error, kind) or text in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def engine_error(action: str, explanation: str) -> FnbuildError:
    """Return the error for an action that the engine has rejected."""
    return _explained_error(explanation) or PlatformError(
        f"the engine could not {action}: {explanation}"
    )


def _explained_error(text: str) -> FnbuildError | None:
    if match := _NETWORK_PATTERN.search(text):
        return PreconditionError(
            f"there is no network {match[1]}", hint="`docker network ls` lists the networks"
        )
    if "port is already allocated" in text or "address already in use" in text:
        return _port_taken_error(text)
    if "No such image" in text:
        return NotFoundError(text[:1].lower() + text[1:])
    for explanation in _EXPLANATIONS:
        if explanation.substring in text:
            detail = text if explanation.quoted else None
            return explanation.error(explanation.message, hint=explanation.hint, detail=detail)
    return None


def _port_taken_error(text: str) -> FnbuildError:
    name = "the port of the function"
    if match := _PORT_PATTERN.search(text):
        host, _, port = match[1].rpartition(":")
        name = f"port {port} on {host}"
    return PortTakenError(
        f"{name} is taken",
        hint="stop the program that uses it, or set spec.triggers.<name>.attributes.port",
    )


class _Explanation(NamedTuple):
    """The error for a message of the engine with this substring, which is `quoted` as detail."""

    substring: str
    error: type[FnbuildError]
    message: str
    hint: str
    quoted: bool = True


_EXPLANATIONS = (
    _Explanation(
        "cannot assign requested address",
        InputError,
        "the function listens on an address that this machine does not have",
        "see `--listen` and spec.platform.attributes.listen",
    ),
    _Explanation(
        "could not select device driver",
        PreconditionError,
        "the function asks for a GPU, and the engine cannot give one to containers",
        _TOOLKIT_HINT,
        quoted=False,
    ),
    _Explanation(
        "nvidia-container-cli",
        PreconditionError,
        "the function asks for a GPU, and NVIDIA's container runtime could not give it one",
        "run `nvidia-smi` on the engine's machine to check the driver",
    ),
    _Explanation(
        "no space left on device",
        PlatformError,
        "no space left on the engine's disk",
        "`docker system df` shows the usage, `docker image prune` removes unused images",
        quoted=False,
    ),
    _Explanation(
        "is already in use by container",
        ConflictError,
        "another deploy of this function is in progress",
        "try again when it has ended",
    ),
    _Explanation(
        "memory limit",
        InputError,
        "the engine does not support the limit in spec.resources.limits.memory",
        "use a quantity such as 512Mi or 4Gi",
    ),
    _Explanation(
        "Range of CPUs",
        InputError,
        "spec.resources.limits.cpu exceeds the CPUs of the engine's machine",
        "use a quantity such as 500m or 2",
    ),
    _Explanation(
        "bind source path does not exist",
        InputError,
        "a folder of spec.volumes does not exist on the engine's machine",
        "create it, or set hostPath.type to DirectoryOrCreate",
    ),
    _Explanation(
        "error gathering device information",
        InputError,
        "a device of spec.devices does not exist on the engine's machine",
        "`ls /dev` lists the devices",
    ),
    _Explanation(
        "executable file not found",
        PreconditionError,
        "the image has no program `processor`, so it is not an image of a function",
        "build it with `fnbuild build`, or deploy from the folder",
    ),
)

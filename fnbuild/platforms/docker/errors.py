"""Errors of fnbuild for the errors of the engine and its SDK, each with a remedy."""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Callable, Iterator

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
    if _NETWORK_PATTERN.search(text):
        return _network_not_found(text)
    for substring, make_error in _EXPLANATIONS:
        if substring in text:
            return make_error(text)
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


def _network_not_found(text: str) -> FnbuildError:
    match = _NETWORK_PATTERN.search(text)
    return PreconditionError(
        f"there is no network {match[1] if match else ''}".rstrip(),
        hint="`docker network ls` lists the networks",
    )


def _fixed_error(
    kind: type[FnbuildError], message: str, hint: str, *, quoted: bool = False
) -> Callable[[str], FnbuildError]:
    def make_error(text: str) -> FnbuildError:
        return kind(message, hint=hint, detail=text if quoted else None)

    return make_error


_EXPLANATIONS: tuple[tuple[str, Callable[[str], FnbuildError]], ...] = (
    ("port is already allocated", _port_taken_error),
    ("address already in use", _port_taken_error),
    (
        "cannot assign requested address",
        _fixed_error(
            InputError,
            "the function listens on an address that this machine does not have",
            "see `--listen` and spec.platform.attributes.listen",
            quoted=True,
        ),
    ),
    (
        "could not select device driver",
        _fixed_error(
            PreconditionError,
            "the function asks for a GPU, and the engine cannot give one to containers",
            _TOOLKIT_HINT,
        ),
    ),
    (
        "nvidia-container-cli",
        _fixed_error(
            PreconditionError,
            "the function asks for a GPU, and NVIDIA's container runtime could not give it one",
            "run `nvidia-smi` on the engine's machine to check the driver",
            quoted=True,
        ),
    ),
    (
        "no space left on device",
        _fixed_error(
            PlatformError,
            "no space left on the engine's disk",
            "`docker system df` shows the usage, `docker image prune` removes unused images",
        ),
    ),
    ("No such image", lambda text: NotFoundError(text[:1].lower() + text[1:])),
    (
        "is already in use by container",
        _fixed_error(
            ConflictError,
            "another deploy of this function is in progress",
            "try again when it has ended",
            quoted=True,
        ),
    ),
    (
        "memory limit",
        _fixed_error(
            InputError,
            "the engine does not support the limit in spec.resources.limits.memory",
            "use a quantity such as 512Mi or 4Gi",
            quoted=True,
        ),
    ),
    (
        "Range of CPUs",
        _fixed_error(
            InputError,
            "spec.resources.limits.cpu exceeds the CPUs of the engine's machine",
            "use a quantity such as 500m or 2",
            quoted=True,
        ),
    ),
    (
        "bind source path does not exist",
        _fixed_error(
            InputError,
            "a folder of spec.volumes does not exist on the engine's machine",
            "create it, or set hostPath.type to DirectoryOrCreate",
            quoted=True,
        ),
    ),
    (
        "error gathering device information",
        _fixed_error(
            InputError,
            "a device of spec.devices does not exist on the engine's machine",
            "`ls /dev` lists the devices",
            quoted=True,
        ),
    ),
    (
        "executable file not found",
        _fixed_error(
            PreconditionError,
            "the image has no program `processor`, so it is not an image of a function",
            "build it with `fnbuild build`, or deploy from the folder",
            quoted=True,
        ),
    ),
)

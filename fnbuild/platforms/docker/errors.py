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
    " `--platform process`, which needs none"
)
_TOOLKIT_HINT = (
    "install the NVIDIA Container Toolkit, then `nvidia-ctk runtime configure --runtime=docker` and"
    " restart the engine; without the limit nvidia.com/gpu the function runs on the CPU"
)


class PortTakenError(ConflictError):
    """A port was free when it was chosen, and is somebody else's when the container starts."""


class ObjectNotFound(Exception):  # noqa: N818 (an answer, not a failure of the program)
    """The engine does not have the thing that was asked for."""


@contextlib.contextmanager
def translating_errors(doing: str, host: str) -> Iterator[None]:
    """Raise what the SDK raises as errors of fnbuild, and `Missing` where something is not there.

    `doing` completes the sentence "the engine could not …".
    """
    # The SDK is slow to import; whoever gets here has it already.
    import requests
    import urllib3
    from docker import errors

    try:
        yield
    except errors.NotFound as error:
        if meaning := _explained_error(str(error.explanation or "")):
            raise meaning from error
        raise ObjectNotFound(str(error.explanation or error)) from error
    except errors.APIError as error:
        raise engine_error(doing, str(error.explanation or error)) from error
    except (requests.Timeout, urllib3.exceptions.ReadTimeoutError) as error:
        raise UnavailableError(
            f"the engine at {host} does not answer in time", hint="is it overloaded, or its disk?"
        ) from error
    except (requests.RequestException, errors.DockerException, OSError) as error:
        raise connection_error(error, host) from error


def connection_error(error: BaseException, host: str) -> UnavailableError:
    """No engine could be reached; what stands in the way is somewhere in the chain of causes."""
    if _has_cause(error, PermissionError):
        return UnavailableError(
            f"this user may not talk to the container engine at {host}",
            hint="`sudo usermod -aG docker $USER` and a new login allow it",
        )
    if _has_cause(error, FileNotFoundError):
        return UnavailableError(
            f"no container engine answers at {host}: there is no such socket", hint=_START_HINT
        )
    if _has_cause(error, ConnectionRefusedError):
        return UnavailableError(
            f"no container engine answers at {host}: the connection is refused", hint=_START_HINT
        )
    return UnavailableError(
        f"no container engine answers at {host}", hint=_START_HINT, detail=str(error) or None
    )


def _has_cause(error: BaseException | None, kind: type[OSError]) -> bool:
    """Whether an error of that kind is behind this one; the SDK wraps some as text only."""
    numbers = {PermissionError: errno.EACCES, FileNotFoundError: errno.ENOENT}
    text = f"{kind.__name__}({numbers.get(kind, errno.ECONNREFUSED)},"
    while error is not None:
        if isinstance(error, kind) or text in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def engine_error(doing: str, explanation: str) -> FnbuildError:
    """What the engine refused to do, and why."""
    return _explained_error(explanation) or PlatformError(
        f"the engine could not {doing}: {explanation}"
    )


def _explained_error(text: str) -> FnbuildError | None:
    if _NETWORK_PATTERN.search(text):
        return _network_not_found(text)
    for mark, make in _EXPLANATIONS:
        if mark in text:
            return make(text)
    return None


def _port_taken_error(text: str) -> FnbuildError:
    found = _PORT_PATTERN.search(text)
    place = f"port {found[1].rpartition(':')[2]} on {found[1].rpartition(':')[0]}" if found else ""
    return PortTakenError(
        f"{place or 'the port of the function'} is taken",
        hint="end what has it, or set another port: spec.triggers.<name>.attributes.port",
    )


def _network_not_found(text: str) -> FnbuildError:
    found = _NETWORK_PATTERN.search(text)
    return PreconditionError(
        f"there is no network {found[1] if found else ''}".rstrip(),
        hint="`docker network ls` lists those there are",
    )


def _fixed_error(
    kind: type[FnbuildError], message: str, hint: str, *, quoted: bool = False
) -> Callable[[str], FnbuildError]:
    def make(text: str) -> FnbuildError:
        return kind(message, hint=hint, detail=text if quoted else None)

    return make


_EXPLANATIONS: tuple[tuple[str, Callable[[str], FnbuildError]], ...] = (
    ("port is already allocated", _port_taken_error),
    ("address already in use", _port_taken_error),
    (
        "cannot assign requested address",
        _fixed_error(
            InputError,
            "the function is to listen on an address that this machine does not have",
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
            "`nvidia-smi` on the engine's machine tells whether the driver works",
            quoted=True,
        ),
    ),
    (
        "no space left on device",
        _fixed_error(
            PlatformError,
            "no space left on the engine's disk",
            "`docker system df` shows what takes it, `docker image prune` removes unused images",
        ),
    ),
    ("No such image", lambda text: NotFoundError(text[:1].lower() + text[1:])),
    (
        "is already in use by container",
        _fixed_error(
            ConflictError,
            "another deploy of this function is under way",
            "try again when it is done",
            quoted=True,
        ),
    ),
    (
        "memory limit",
        _fixed_error(
            InputError,
            "spec.resources.limits.memory is not a limit that the engine can keep",
            "a quantity such as 512Mi or 4Gi",
            quoted=True,
        ),
    ),
    (
        "Range of CPUs",
        _fixed_error(
            InputError,
            "spec.resources.limits.cpu is not a number of CPUs that the engine's machine has",
            "a quantity such as 500m or 2",
            quoted=True,
        ),
    ),
    (
        "bind source path does not exist",
        _fixed_error(
            InputError,
            "a folder of spec.volumes does not exist on the engine's machine",
            "make it, or let hostPath.type be DirectoryOrCreate",
            quoted=True,
        ),
    ),
    (
        "error gathering device information",
        _fixed_error(
            InputError,
            "a device of spec.devices does not exist on the engine's machine",
            "`ls /dev` there shows those there are",
            quoted=True,
        ),
    ),
    (
        "executable file not found",
        _fixed_error(
            PreconditionError,
            "the image has no program `processor`, so it is no image of a function",
            "build it with `fnbuild build`, or deploy from the folder",
            quoted=True,
        ),
    ),
)

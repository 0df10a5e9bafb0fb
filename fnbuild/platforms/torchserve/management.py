"""A client of TorchServe's management API: models and their versions, workers, defaults, metrics.

A function sends the requests, so that the client does not know how a server is reached. Models are
registered by the name of a file in the model store: TorchServe deletes the archive of a model that
was registered by a URL when it is unregistered.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from fnbuild.bridges.torchserve.server_config import ModelSettings
from fnbuild.errors import (
    ConflictError,
    FnbuildError,
    NotFoundError,
    PlatformError,
    PreconditionError,
    UnauthorizedError,
    UsageError,
)
from fnbuild.platforms import Platform, Statistics
from fnbuild.platforms.base import WorkerStatus

T = TypeVar("T")

_FAILURES: dict[int, tuple[type[FnbuildError], str]] = {
    403: (PreconditionError, "`fnbuild torchserve set-default` makes another version the default"),
    404: (
        NotFoundError,
        "`fnbuild torchserve models` lists models and versions; archives are in the model store",
    ),
    409: (ConflictError, "`fnbuild torchserve unregister` removes the registered version"),
}

# TorchServe says this if it cannot run `kill`.
_CLEANING = "Interrupted while cleaning resources"
_PAGE_SIZE = 100
_WORKER_STATES = {"READY": "ready", "LOADING": "starting", "UNLOADING": "stopping"}
_METRIC = re.compile(r"(?P<name>\w+)\{(?P<labels>[^}]*)\} (?P<value>[\d.eE+-]+)")
_REQUESTS = "ts_inference_requests_total"
_LATENCY = "ts_inference_latency_microseconds"
_ERRORS = "Requests5XX"
_REPLY_SECONDS = 10.0
# TorchServe's default for replies and for the start of workers.
_MODEL_SECONDS = 120


class ManagementReply(NamedTuple):
    """The reply of a server: the HTTP status and the body."""

    status: int
    body: bytes


Send = Callable[[str, str, float], ManagementReply]
"""Sends a request without a body: method, path with query, time limit in seconds."""


class _Reply(msgspec.Struct, frozen=True, rename="camel"):
    """Base of the replies; unknown fields are ignored."""


class ModelWorker(_Reply, frozen=True):
    """A worker process. `status` is READY, LOADING or UNLOADING."""

    id: str
    status: str
    pid: int = 0
    memory_usage: int = 0
    gpu: bool = False

    @property
    def is_ready(self) -> bool:
        return self.status == "READY"


class JobQueue(_Reply, frozen=True):
    remaining_capacity: int = 0
    pending_requests: int = 0


class ModelVersion(_Reply, frozen=True):
    """A version of a model on a server. Times are in milliseconds and seconds."""

    model_name: str
    model_version: str
    model_url: str
    min_workers: int
    max_workers: int
    batch_size: int = 1
    max_batch_delay: int = 0
    response_timeout: int = 0
    workers: list[ModelWorker] = []
    job_queue_status: JobQueue = JobQueue()

    @property
    def ready_workers(self) -> int:
        return sum(worker.is_ready for worker in self.workers)

    @property
    def is_ready(self) -> bool:
        """True if requests are served, by as many workers as are required."""
        return self.ready_workers >= max(1, self.min_workers)


class _ListedModel(_Reply, frozen=True):
    model_name: str


class _ModelPage(_Reply, frozen=True):
    models: list[_ListedModel]
    next_page_token: str = ""


class _Failure(_Reply, frozen=True):
    type: str = ""
    message: str = ""


# Decoders are created at import, which runs in one thread: see `processor_status`.
_PAGE_DECODER = msgspec.json.Decoder(_ModelPage)
_VERSIONS_DECODER = msgspec.json.Decoder(list[ModelVersion])
_FAILURE_DECODER = msgspec.json.Decoder(_Failure)


@dataclass(frozen=True, slots=True)
class ManagementClient:
    """The management API of one server. `replica` names the server in messages."""

    send: Send
    replica: str = ""

    def models(self) -> list[ModelVersion]:
        """Return all versions of all models, sorted by name."""
        names: list[str] = []
        position = "0"
        while position:
            query = urlencode({"limit": _PAGE_SIZE, "next_page_token": position})
            page = _decode(self._call("GET", f"/models?{query}"), _PAGE_DECODER)
            names += [model.model_name for model in page.models]
            position = page.next_page_token
        return [version for name in sorted(names) for version in self.describe(name)]

    def describe(self, model: str, version: str = "all") -> list[ModelVersion]:
        """Return the versions of a model; raise `NotFoundError` if there is none."""
        return _decode(self._call("GET", _path(model, version)), _VERSIONS_DECODER)

    def register(self, model: str, settings: ModelSettings) -> None:
        """Register an archive of the model store, and wait until its workers are ready.

        Raises `PlatformError` if they do not start.
        """
        file = settings.mar_name
        if "/" in file or file in ("", ".", ".."):
            raise UsageError(
                f"{file!r} is not the name of a file in the model store",
                hint="copy the archive to the store: TorchServe deletes archives of URLs when "
                "their models are unregistered",
            )
        workers, seconds = settings.min_workers, int(settings.startup_timeout or _MODEL_SECONDS)
        values = {
            "url": file,
            "model_name": model,
            "initial_workers": workers,
            "batch_size": settings.batch_size,
            "max_batch_delay": settings.max_batch_delay,
            "response_timeout": int(settings.response_timeout or _MODEL_SECONDS),
            "startup_timeout": seconds,
            "synchronous": "true",
        }
        self._call("POST", f"/models?{urlencode(values)}", seconds + _REPLY_SECONDS)
        for version in self.describe(model):
            # The number in the archive's model-config.yaml has precedence.
            if version.model_url == file and version.min_workers != workers:
                self.scale(model, version.model_version, workers, settings.max_workers, seconds)

    def scale(self, model: str, version: str, minimum: int, maximum: int, seconds: float) -> None:
        """Set the number of workers and wait until they run."""
        query = urlencode({"min_worker": minimum, "max_worker": maximum, "synchronous": "true"})
        self._call("PUT", f"{_path(model, version)}?{query}", seconds)

    def set_default(self, model: str, version: str) -> None:
        """Let a version serve the requests that name none."""
        self._call("PUT", f"{_path(model, version)}/set-default")

    def unregister(self, model: str, version: str) -> None:
        """Unregister a version, but not one whose archive TorchServe would delete."""
        for described in self.describe(model, version):
            if ":/" in described.model_url:
                raise PreconditionError(
                    f"{model} {version} was registered from {described.model_url}, so TorchServe"
                    " would delete its archive from the model store",
                    hint="copy the archive elsewhere, and unregister it with TorchServe's own API",
                )
        self._call("DELETE", _path(model, version))

    def _call(self, method: str, path: str, seconds: float = _REPLY_SECONDS) -> bytes:
        status, body = self.send(method, path, seconds)
        if status < 300:
            return body
        raise _error(self.replica, status, body)


class ManagedPlatform(Platform, Protocol):
    """A platform whose functions have TorchServe servers."""

    def management(
        self, namespace: str, name: str, participle: str = ""
    ) -> AbstractContextManager[list[ManagementClient]]:
        """Provide the management API of each server of the function that runs, during the block.

        With a `participle`, such as "managed", other changes of the function are refused meanwhile.
        """


def worker_statuses(workers: Iterable[ModelWorker]) -> tuple[WorkerStatus, ...]:
    """Return the workers of a server in the form of the platform protocol."""
    return tuple(
        WorkerStatus(worker.id, _WORKER_STATES.get(worker.status, worker.status), worker.pid)
        for worker in workers
    )


def parse_statistics(
    metrics: str, model: str, restarts: int, workers: dict[str, int]
) -> Statistics:
    """Return the statistics of a model from the server's metrics.

    TorchServe has no histogram of durations, so only their number is known.
    """
    sums = {_ERRORS: 0.0, _REQUESTS: 0.0, _LATENCY: 0.0}
    for match in _METRIC.finditer(metrics):
        of_model = f'model_name="{model}"' in match["labels"]
        if match["name"] in sums and (of_model or match["name"] == _ERRORS):
            sums[match["name"]] += float(match["value"])
    count = int(sums[_REQUESTS])
    return Statistics(
        requests=count,
        errors=int(sums[_ERRORS]),
        durations=((math.inf, count),),
        total_milliseconds=sums[_LATENCY] / 1000,
        workers=workers,
        restarts=restarts,
    )


def _path(model: str, version: str) -> str:
    path = f"/models/{quote(model, safe='')}"
    return f"{path}/{quote(version, safe='')}" if version else path


def _decode(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    try:
        return decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise PlatformError(f"TorchServe's reply cannot be read: {error}") from None


def _error(replica: str, status: int, body: bytes) -> FnbuildError:
    """Return the error that a reply means; TorchServe reports a missing token as 400."""
    try:
        failure = _FAILURE_DECODER.decode(body)
    except msgspec.MsgspecError:
        failure = _Failure(message=body.decode(errors="replace").strip()[:500])
    server = f"TorchServe in {replica}" if replica else "TorchServe"
    message = f"{server} answered {status}: {failure.message or failure.type or 'no reason'}"
    if failure.type == "InvalidKeyException":
        return UnauthorizedError(
            f"{server} does not accept the token of its management API",
            hint="its file key_file.json has the token; `fnbuild redeploy` starts the server again",
        )
    if status == 405:
        return PreconditionError(
            f"the model API of {server} is off, so models cannot be registered or unregistered",
            hint="it needs `tokens: true`, or `enable_model_api=true` in config.properties",
        )
    kind, hint = _FAILURES.get(status, (PlatformError, None))
    if _CLEANING in failure.message:
        hint = "its image needs the command `kill` (procps), by which TorchServe ends workers"
    return kind(message, hint=hint)

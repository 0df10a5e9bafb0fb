"""The values that platforms take and return, besides plans: deployments, revisions, projects …"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, Self

import msgspec

from fnbuild.builder.artifact import Artifact
from fnbuild.errors import UsageError
from fnbuild.function.types import Function, Metadata
from fnbuild.names import PROJECT_LABEL
from fnbuild.platforms.plans import Plan
from fnbuild.platforms.sleep_status import SleepStatus
from fnbuild.progress import Progress

_DNS_1123 = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")

FunctionState = Literal[
    "building", "ready", "unhealthy", "error", "imported", "scaledToZero", "standby", "stopped"
]
"""Nuclio's function states, and `stopped` for a function whose processes are down on purpose."""


SleepAction = Literal["sleep", "wake"]
RecordingAction = Literal["list", "export", "clear"]


@dataclass(frozen=True, slots=True)
class ConnectOptions:
    """The location of a cluster: a kubeconfig file and one of its contexts.

    Without them, the environment and the current context decide.
    """

    kubeconfig: str = ""
    context: str = ""


NO_CONNECT_OPTIONS = ConnectOptions()


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """The status of a function that an inference service of the platform runs.

    `url` is the service's own, which may need a gateway; `ready` is True, False or Unknown, as in
    Kubernetes. The newest revision gets `latest_traffic` percent of the requests and the one before
    it the rest; `created` is an ISO 8601 time.
    """

    url: str
    ready: str
    latest_revision: str = ""
    latest_traffic: int = 100
    previous_revision: str = ""
    previous_traffic: int = 0
    created: str = ""


class WorkerStatus(msgspec.Struct, frozen=True):
    """A worker, as its processor reports it. `reason` and `message` say why it is down.

    `device` is the GPU that was assigned to it, if any.
    """

    id: int | str
    state: str = ""
    pid: int | None = None
    restarts: int = 0
    reason: str = ""
    message: str = ""
    device: str = ""


@dataclass(frozen=True, slots=True)
class Deployment:
    """The current state of a function on a platform.

    `function` is the stored configuration. `revision` counts from 1. `replicas` is
    (available, desired). `http_port` and `grpc_port` are open ports on this machine or node, 0 if
    there is none; under KServe, `grpc_port` is that of its Service. `ongoing_change` describes a
    change by another process, such as "being deployed from HOST:DIR"; it is "" if there is none.

    `image` is the image that the function runs, if the platform runs images: a deploy of the same
    code needs its digest, and its id or pinned reference. `processors` are unique names of the
    processors that may answer with this revision, and `workers` those of its only processor, where
    the platform knows them. `foreground` is True for a function that `fnbuild run` serves.
    `sleep` is that of its only processor, or of the first asleep one, where the platform knows it.
    `service` is the status of an inference service; `host` is the host by which a gateway finds the
    function, "" if its URL needs none. `details` are shown to users, and no code reads them.
    """

    function: Function
    platform: str
    state: FunctionState
    message: str = ""
    revision: int = 0
    http_port: int = 0
    grpc_port: int = 0
    internal_urls: tuple[str, ...] = ()
    external_urls: tuple[str, ...] = ()
    replicas: tuple[int, int] = (0, 0)
    image: Artifact | None = None
    processors: tuple[str, ...] = ()
    workers: tuple[WorkerStatus, ...] = ()
    foreground: bool = False
    sleep: SleepStatus | None = None
    service: ServiceStatus | None = None
    host: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    ongoing_change: str = ""

    def with_ongoing_change(self, description: str) -> Deployment:
        """Return the deployment as `building` during a change by another process, if any.

        `description` is that of `ongoing_change`.
        """
        if not description:
            return self
        message = f"it is {description}"
        return replace(self, state="building", message=message, ongoing_change=description)

    @property
    def name(self) -> str:
        return self.function.metadata.name

    @property
    def pinned_image(self) -> str:
        """The exact reference of the image that the function runs; "" if it has none."""
        return self.image.pinned if self.image else ""

    @property
    def url(self) -> str:
        """The URL of the function from this machine; "" if there is none."""
        for address in (*self.external_urls, *self.internal_urls):
            return address if "://" in address else f"http://{address}"
        return f"http://127.0.0.1:{self.http_port}" if self.http_port else ""


@dataclass(frozen=True, slots=True)
class Revision:
    """One recorded deploy of a function. `created` is an ISO 8601 time in UTC.

    An `active` revision serves, a `pending` one is starting, a `failed` one never became ready.
    """

    number: int
    created: str
    state: Literal["active", "pending", "superseded", "failed"]
    digest: str
    function: Function
    message: str = ""


@dataclass(frozen=True, slots=True)
class Project:
    """A group of functions. `name` is a DNS-1123 label (Nuclio's pkg/platform/abstract/project)."""

    name: str
    namespace: str
    description: str = ""
    owner: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _DNS_1123.fullmatch(self.name) or len(self.name) > 63:
            raise UsageError(
                f"{self.name!r} cannot be the name of a project",
                hint="lower-case letters, digits and '-', 63 at most, as in 'street-cameras'",
            )


@dataclass(frozen=True, slots=True)
class Statistics:
    """Counters of one processor since its start, and the present states of its workers.

    `requests` counts all requests, `errors` those that failed, timed out, were refused or found no
    worker. `durations` is a cumulative histogram of the time that events took in a worker: upper
    bounds in milliseconds, the last one infinite, each with its count; `total_milliseconds` is the
    sum of all these times. `workers` counts workers by state. `gpu_memory` is in bytes, None if it
    is unknown.
    """

    requests: int = 0
    errors: int = 0
    durations: tuple[tuple[float, int], ...] = ()
    total_milliseconds: float = 0.0
    workers: Mapping[str, int] = field(default_factory=dict)
    restarts: int = 0
    gpu_memory: int | None = None


@dataclass(frozen=True, slots=True)
class Restarts:
    """The number of times that a function's processes or containers were restarted.

    `reason` describes the last end, and `time` is its time in ISO 8601; both may be "".
    """

    count: int
    reason: str = ""
    time: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check of the system, as `fnbuild doctor` prints it.

    `area` is one of `checks.AREAS`, or the name of the object that was checked. `remedy` is "" if
    nothing needs to be done.
    """

    area: str
    state: Literal["ok", "warning", "failure", "skipped"]
    message: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Reservation:
    """The exclusive right to deploy one function, see `Platform.reserve`.

    `apply` applies a plan like `Platform.apply`, under this right.
    """

    apply: Callable[[Plan, Progress], Deployment]


class FunctionKey(NamedTuple):
    """The identity of a function: its namespace and name."""

    namespace: str
    name: str

    @classmethod
    def of(cls, function: Function) -> Self:
        return cls(function.metadata.namespace, function.metadata.name)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Leftover:
    """An object that no revision on record needs.

    `reason` says why it exists; `function` is the name of the function that it was made for, "" if
    that is unknown. `size` is in bytes, 0 if that is unknown.
    """

    kind: Literal["container", "image", "registry tag", "environment", "staging"]
    name: str
    reason: str
    function: str = ""
    size: int = 0


@dataclass(frozen=True, slots=True)
class ImageUse:
    """The images that the revisions on a platform need.

    `references` are names, exact references and ids. `repositories` are the names, without a tag,
    to which this machine pushes. `changing_functions` are the functions that are being deployed
    now, whose image may not be on record yet.
    """

    references: frozenset[str] = frozenset()
    repositories: frozenset[str] = frozenset()
    changing_functions: frozenset[str] = frozenset()

    def __or__(self, other: ImageUse) -> ImageUse:
        return ImageUse(
            self.references | other.references,
            self.repositories | other.repositories,
            self.changing_functions | other.changing_functions,
        )


def placeholder_function(key: tuple[str, str], project: str) -> Function:
    """Return a function with only a name and a project, for an unreadable configuration."""
    namespace, name = key
    labels = {PROJECT_LABEL: project}
    return Function(metadata=Metadata(name=name, namespace=namespace, labels=labels))

"""Objects of the Kubernetes API: their JSON, with typed accessors for the fields that are read.

Every class is a mapping, so that an object is sent, compared and printed as it was received.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from fnbuild.function.types import Raw


class _Mapping(dict[str, Any]):
    """A JSON object. Sections and lists that are absent or null are empty."""

    def section(self, name: str) -> _Mapping:
        return _Mapping(self.get(name) or {})

    def items_of(self, name: str) -> list[_Mapping]:
        return [_Mapping(item) for item in self.get(name) or []]

    def text(self, name: str) -> str:
        return str(self.get(name) or "")

    def number(self, name: str) -> int:
        return int(self.get(name) or 0)


M = TypeVar("M", bound=_Mapping)


class _Field:
    """A field at a path in an object's JSON."""

    def __init__(self, *path: str):
        *self._sections, self._name = path

    def _section(self, instance: _Mapping) -> _Mapping:
        for name in self._sections:
            instance = instance.section(name)
        return instance


class _Text(_Field):
    """A text; "" if it is absent."""

    def __get__(self, instance: _Mapping, _: type) -> str:
        return self._section(instance).text(self._name)


class _Number(_Field):
    """A whole number; 0 if it is absent."""

    def __get__(self, instance: _Mapping, _: type) -> int:
        return self._section(instance).number(self._name)


class _Section(_Field):
    """A JSON object; empty if it is absent."""

    def __get__(self, instance: _Mapping, _: type) -> _Mapping:
        return self._section(instance).section(self._name)


class _Items(_Field, Generic[M]):
    """A list of JSON objects of one class; empty if it is absent."""

    def __init__(self, kind: type[M], *path: str):
        super().__init__(*path)
        self._kind = kind

    def __get__(self, instance: _Mapping, _: type) -> list[M]:
        return list(map(self._kind, self._section(instance).items_of(self._name)))


class Condition(_Mapping):
    """A condition of an object's status; all fields are "" if the object does not have it."""

    status = _Text("status")
    reason = _Text("reason")
    message = _Text("message")
    last_transition = _Text("lastTransitionTime")

    @property
    def is_true(self) -> bool:
        return self.status == "True"


class KubeObject(_Mapping):
    """An object with metadata, a spec and a status."""

    metadata = _Section("metadata")
    name = _Text("metadata", "name")
    namespace = _Text("metadata", "namespace")
    uid = _Text("metadata", "uid")
    labels = _Section("metadata", "labels")
    annotations = _Section("metadata", "annotations")
    created = _Text("metadata", "creationTimestamp")
    spec = _Section("spec")
    status = _Section("status")

    @property
    def is_terminating(self) -> bool:
        return "deletionTimestamp" in self.metadata

    def apply_entry(self, manager: str) -> _Mapping:
        """Return the entry of a field manager's server-side apply; empty if there is none."""
        for entry in self.metadata.items_of("managedFields"):
            if entry.get("manager") == manager and entry.get("operation") == "Apply":
                return entry
        return _Mapping()

    @property
    def is_ready(self) -> bool:
        return self.condition("Ready").is_true

    def condition(self, condition_type: str) -> Condition:
        """Return the condition of this type, an empty one if there is none."""
        conditions = map(Condition, self.status.items_of("conditions"))
        return next(
            (item for item in conditions if item.get("type") == condition_type), Condition()
        )


class Container(_Mapping):
    """A container in the spec of a pod."""

    name = _Text("name")
    image = _Text("image")
    limits = _Section("resources", "limits")
    requests = _Section("resources", "requests")

    @property
    def restarts_always(self) -> bool:
        """True for an init container that keeps running, a sidecar."""
        return self.get("restartPolicy") == "Always"


class Termination(_Mapping):
    """The end of a container; false if the container has not ended."""

    exit_code = _Number("exitCode")
    reason = _Text("reason")
    message = _Text("message")
    finished = _Text("finishedAt")

    @property
    def out_of_memory(self) -> bool:
        return self.reason == "OOMKilled"


class ContainerStatus(_Mapping):
    """The status of a container; empty before the kubelet reports one."""

    name = _Text("name")
    restarts = _Number("restartCount")
    waiting = _Section("state", "waiting")
    """Reason and message of a container that is not running yet."""

    @property
    def is_ready(self) -> bool:
        return bool(self.get("ready"))

    @property
    def is_running(self) -> bool:
        return "running" in self.section("state")

    @property
    def termination(self) -> Termination | None:
        """The end of a container that does not run; None for any other."""
        end = self.section("state").get("terminated")
        return None if end is None else Termination(end)

    @property
    def last_termination(self) -> Termination:
        return Termination(self.section("lastState").section("terminated"))


class Pod(KubeObject):
    """A pod, or the template of one."""

    node_name = _Text("spec", "nodeName")
    phase = _Text("status", "phase")
    reason = _Text("status", "reason")
    start_time = _Text("status", "startTime")
    """The time at which a kubelet accepted the pod, or ""."""
    containers = _Items(Container, "spec", "containers")
    init_containers = _Items(Container, "spec", "initContainers")
    container_statuses = _Items(ContainerStatus, "status", "containerStatuses")
    init_container_statuses = _Items(ContainerStatus, "status", "initContainerStatuses")

    @property
    def has_ended(self) -> bool:
        return self.phase in ("Succeeded", "Failed")

    @property
    def is_active(self) -> bool:
        """True if the pod has not ended and is not terminating."""
        return not self.has_ended and not self.is_terminating

    @property
    def restarts(self) -> int:
        """The number of restarts of its containers, without init containers."""
        return sum(status.restarts for status in self.container_statuses)


class Node(KubeObject):
    architecture = _Text("status", "nodeInfo", "architecture")
    capacity = _Section("status", "capacity")
    allocatable = _Section("status", "allocatable")

    @property
    def is_cordoned(self) -> bool:
        return bool(self.spec.get("unschedulable"))

    def addresses(self, address_type: str) -> list[str]:
        """Return the addresses of a type, such as `ExternalIP`."""
        listed = self.status.items_of("addresses")
        return [
            str(address["address"]) for address in listed if address.get("type") == address_type
        ]


class KubeDeployment(KubeObject):
    """A Deployment of the API."""

    available_replicas = _Number("status", "availableReplicas")
    updated_replicas = _Number("status", "updatedReplicas")

    @property
    def template(self) -> Pod:
        return Pod(self.spec["template"])

    @property
    def desired_replicas(self) -> int:
        return int(self.spec.get("replicas", 1))

    @property
    def recreates_pods(self) -> bool:
        """True if the strategy ends old pods before new ones start."""
        return self.spec.section("strategy").get("type") == "Recreate"

    @property
    def is_observed(self) -> bool:
        """True if the status is that of the current spec."""
        return self.status.number("observedGeneration") >= int(self.metadata["generation"])

    @property
    def is_rolled_out(self) -> bool:
        """True if all desired pods are new and available, and no old one is left.

        These are the criteria of `kubectl rollout status`.
        """
        updated = self.updated_replicas
        return (
            self.is_observed
            and updated >= self.desired_replicas
            and self.status.number("replicas") <= updated
            and self.available_replicas >= updated
        )


class KubeEvent(KubeObject):
    """An event about an object."""

    reason = _Text("reason")
    message = _Text("message")
    subject = _Section("involvedObject")
    """A reference to the object that the event is about."""

    @property
    def time_fields(self) -> tuple[str, str, str]:
        """The fields that may hold the time of the last occurrence, the best first."""
        series = self.section("series")
        return series.text("lastObservedTime"), self.text("lastTimestamp"), self.text("eventTime")


def pod_objects(pods: Iterable[Pod]) -> list[Raw]:
    """Return the pods for people: name, component, state and restarts."""
    return [
        {
            "name": pod.name,
            "component": pod.labels.get("component", ""),
            "state": "Ready" if pod.is_ready else pod.phase,
            "node": pod.node_name,
            "restarts": pod.restarts,
        }
        for pod in pods
    ]

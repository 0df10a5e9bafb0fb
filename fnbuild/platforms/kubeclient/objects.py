"""Objects of the Kubernetes API: their JSON, with typed accessors for the fields that are read.

Every class is a mapping, so that an object is sent, compared and printed as it was received.
"""

from __future__ import annotations

from typing import Any


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


class Condition(_Mapping):
    """A condition of an object's status; all fields are "" if the object does not have it."""

    @property
    def status(self) -> str:
        return self.text("status")

    @property
    def is_true(self) -> bool:
        return self.status == "True"

    @property
    def reason(self) -> str:
        return self.text("reason")

    @property
    def message(self) -> str:
        return self.text("message")

    @property
    def last_transition(self) -> str:
        return self.text("lastTransitionTime")


class KubeObject(_Mapping):
    """An object with metadata, a spec and a status."""

    @property
    def metadata(self) -> _Mapping:
        return self.section("metadata")

    @property
    def name(self) -> str:
        return self.metadata.text("name")

    @property
    def namespace(self) -> str:
        return self.metadata.text("namespace")

    @property
    def uid(self) -> str:
        return self.metadata.text("uid")

    @property
    def labels(self) -> dict[str, str]:
        return self.metadata.section("labels")

    @property
    def annotations(self) -> dict[str, str]:
        return self.metadata.section("annotations")

    @property
    def created(self) -> str:
        return self.metadata.text("creationTimestamp")

    @property
    def is_terminating(self) -> bool:
        return "deletionTimestamp" in self.metadata

    @property
    def spec(self) -> _Mapping:
        return self.section("spec")

    @property
    def status(self) -> _Mapping:
        return self.section("status")

    def condition(self, kind: str) -> Condition:
        """Return the condition of this type, an empty one if there is none."""
        conditions = map(Condition, self.status.items_of("conditions"))
        return next((item for item in conditions if item.get("type") == kind), Condition())


class Container(_Mapping):
    """A container in the spec of a pod."""

    @property
    def name(self) -> str:
        return self.text("name")

    @property
    def image(self) -> str:
        return self.text("image")

    @property
    def restarts_always(self) -> bool:
        """True for an init container that keeps running, a sidecar."""
        return self.get("restartPolicy") == "Always"

    @property
    def limits(self) -> _Mapping:
        return self.section("resources").section("limits")

    @property
    def requests(self) -> _Mapping:
        return self.section("resources").section("requests")


class Termination(_Mapping):
    """The end of a container; false if the container has not ended."""

    @property
    def exit_code(self) -> int:
        return self.number("exitCode")

    @property
    def reason(self) -> str:
        return self.text("reason")

    @property
    def message(self) -> str:
        return self.text("message")

    @property
    def finished(self) -> str:
        return self.text("finishedAt")

    @property
    def out_of_memory(self) -> bool:
        return self.reason == "OOMKilled"


class ContainerStatus(_Mapping):
    """The status of a container; empty before the kubelet reports one."""

    @property
    def name(self) -> str:
        return self.text("name")

    @property
    def restarts(self) -> int:
        return self.number("restartCount")

    @property
    def is_ready(self) -> bool:
        return bool(self.get("ready"))

    @property
    def is_running(self) -> bool:
        return "running" in self.section("state")

    @property
    def waiting(self) -> _Mapping:
        """Reason and message of a container that is not running yet."""
        return self.section("state").section("waiting")

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

    @property
    def node_name(self) -> str:
        return self.spec.text("nodeName")

    @property
    def phase(self) -> str:
        return self.status.text("phase")

    @property
    def reason(self) -> str:
        return self.status.text("reason")

    @property
    def start_time(self) -> str:
        """The time at which a kubelet accepted the pod, or ""."""
        return self.status.text("startTime")

    @property
    def is_ready(self) -> bool:
        return self.condition("Ready").is_true

    @property
    def has_ended(self) -> bool:
        return self.phase in ("Succeeded", "Failed")

    @property
    def is_active(self) -> bool:
        """True if the pod has not ended and is not terminating."""
        return not self.has_ended and not self.is_terminating

    @property
    def containers(self) -> list[Container]:
        return list(map(Container, self.spec.items_of("containers")))

    @property
    def init_containers(self) -> list[Container]:
        return list(map(Container, self.spec.items_of("initContainers")))

    @property
    def container_statuses(self) -> list[ContainerStatus]:
        return list(map(ContainerStatus, self.status.items_of("containerStatuses")))

    @property
    def init_container_statuses(self) -> list[ContainerStatus]:
        return list(map(ContainerStatus, self.status.items_of("initContainerStatuses")))

    @property
    def restarts(self) -> int:
        """The number of restarts of all containers."""
        return sum(status.restarts for status in self.container_statuses)


class Node(KubeObject):
    @property
    def is_ready(self) -> bool:
        return self.condition("Ready").is_true

    @property
    def is_cordoned(self) -> bool:
        return bool(self.spec.get("unschedulable"))

    @property
    def architecture(self) -> str:
        return self.status.section("nodeInfo").text("architecture")

    @property
    def capacity(self) -> _Mapping:
        return self.status.section("capacity")

    @property
    def allocatable(self) -> _Mapping:
        return self.status.section("allocatable")

    def addresses(self, kind: str) -> list[str]:
        """Return the addresses of a type, such as `ExternalIP`."""
        listed = self.status.items_of("addresses")
        return [str(address["address"]) for address in listed if address.get("type") == kind]


class KubeDeployment(KubeObject):
    """A Deployment of the API."""

    @property
    def template(self) -> Pod:
        return Pod(self.spec["template"])

    @property
    def desired_replicas(self) -> int:
        return int(self.spec.get("replicas", 1))

    @property
    def available_replicas(self) -> int:
        return self.status.number("availableReplicas")

    @property
    def updated_replicas(self) -> int:
        return self.status.number("updatedReplicas")

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

    @property
    def reason(self) -> str:
        return self.text("reason")

    @property
    def message(self) -> str:
        return self.text("message")

    @property
    def subject(self) -> _Mapping:
        """A reference to the object that the event is about."""
        return self.section("involvedObject")

    @property
    def times(self) -> tuple[str, str, str]:
        """The time of the last occurrence, in one of the fields that reporters use."""
        series = self.section("series")
        return series.text("lastObservedTime"), self.text("lastTimestamp"), self.text("eventTime")

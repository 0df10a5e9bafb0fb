"""Containers of pods: why they are not ready, and how often they have restarted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from fnbuild.platforms import Restarts
from fnbuild.platforms.kubeclient.objects import (
    Container,
    ContainerStatus,
    KubeEvent,
    Node,
    Pod,
    Termination,
)
from fnbuild.platforms.kubernetes import labels
from fnbuild.platforms.kubernetes.diagnosis import image_pulls, kubelet
from fnbuild.platforms.kubernetes.labels import CONTAINER
from fnbuild.platforms.kubernetes.pod_status import (
    MOUNT_GRACE_SECONDS,
    PodFinding,
    is_waiting_for_volumes,
    parse_timestamp,
)
from fnbuild.platforms.processor_status import ProcessorStatus

_RECENT_SECONDS = 600.0
"""The running time after which earlier terminations of a container no longer count."""

_STATUS_CODE = re.compile(r"statuscode: (\d+)")


@dataclass(frozen=True, slots=True)
class Observations:
    """Facts besides the pods; see `rollout_status`.

    `since` is the time of the last change of the function, in seconds since the epoch: it may have
    fixed earlier problems. `missing_references` are missing objects that volumes need, by pod.
    """

    events: Sequence[KubeEvent]
    now: float
    nodes: list[Node] | None
    statuses: Mapping[str, ProcessorStatus]
    since: float = 0.0
    missing_references: Mapping[str, PodFinding] = field(default_factory=dict)

    def events_of(self, pod: Pod) -> list[KubeEvent]:
        """Return the events of a pod since the last change, newest first."""
        uid = pod.uid
        mine = [
            event
            for event in self.events
            if event.subject.text("uid") == uid and last_event_time(event) >= self.since
        ]
        mine.reverse()  # listed in order; their times have a resolution of seconds
        return sorted(mine, key=last_event_time, reverse=True)


@dataclass(frozen=True, slots=True)
class _ContainerContext:
    """A container of a pod: its status, its spec and its events."""

    pod: Pod
    status: ContainerStatus
    spec: Container
    events: list[KubeEvent]
    observations: Observations
    name: str
    """The name of the container in messages."""
    config_key: str
    """The key of the configuration that defines it, or "" for the function's own container."""

    def events_with(self, *reasons: str) -> list[KubeEvent]:
        return [event for event in self.events if event.reason in reasons]


def last_event_time(event: KubeEvent) -> float:
    """Return the time of the last occurrence; 0 if it is unknown."""
    moments = map(parse_timestamp, event.time_fields)
    return next((moment for moment in moments if moment is not None), 0.0)


def container_finding(pod: Pod, observations: Observations) -> PodFinding:
    """Explain why a pod with a node is not ready."""
    first: PodFinding | None = None
    for container in _containers(pod, observations, init=True):
        if (finding := _init_finding(container)) is not None:
            return finding
    for container in _containers(pod, observations, init=False):
        finding = _not_ready_finding(container)
        if finding is not None and finding.fatal:
            return finding
        first = first or finding
    return first or PodFinding("its pod is about to be ready")


def _containers(pod: Pod, observations: Observations, *, init: bool) -> Iterator[_ContainerContext]:
    """Yield the containers of one kind in order of relevance, with or without a status."""
    listed = pod.init_container_statuses if init else pod.container_statuses
    statuses = {status.name: status for status in listed}
    events = observations.events_of(pod)
    specs = pod.init_containers
    if not init:
        specs = sorted(pod.containers, key=lambda spec: spec.name != CONTAINER)
    for spec in specs:
        name = spec.name
        label, config_key = f"sidecar {name}", "spec.sidecars"
        if init:
            label, config_key = f"init container {name}", "spec.initContainers"
        elif name == CONTAINER:
            label, config_key = "the container", ""
        yield _ContainerContext(
            pod=pod,
            status=statuses.get(name, ContainerStatus()),
            spec=spec,
            events=[event for event in events if _is_about(event, name)],
            observations=observations,
            name=label,
            config_key=config_key,
        )


def _is_about(event: KubeEvent, container: str) -> bool:
    path = event.subject.text("fieldPath")
    return not path or path.endswith(f"{{{container}}}")


def _init_finding(container: _ContainerContext) -> PodFinding | None:
    """Return what prevents the next container from starting, or None."""
    if container.status.is_running:
        if container.spec.restarts_always and container.status.get("started"):
            return None
        return _restarted_finding(container) or PodFinding(f"{container.name} is running")
    end = container.status.termination
    if end is not None and end.exit_code == 0:
        return None
    return _not_ready_finding(container)


def _not_ready_finding(container: _ContainerContext) -> PodFinding | None:
    """Explain why a container is not ready; None if it is."""
    if container.status.is_ready:
        return None
    if (end := container.status.termination) is not None:
        return _terminated_finding(container, end)
    if container.status.is_running:
        before, now = _restarted_finding(container), _running_finding(container)
        return now if before is None or (now.fatal and not before.fatal) else before
    return _waiting_finding(container)


def _waiting_finding(container: _ContainerContext) -> PodFinding:
    waiting = container.status.waiting
    reason, message = waiting.text("reason"), waiting.text("message")
    if reason in image_pulls.PULL_FAILURES:
        return _pull_finding(container, message)
    if reason == "CreateContainerConfigError":
        return kubelet.explain_config_error(message, container.pod.namespace).with_fatal(fatal=True)
    if reason == "CrashLoopBackOff":
        last = container.status.last_termination
        return _terminated_finding(container, last).with_fatal(fatal=True)
    if reason not in ("", "ContainerCreating", "PodInitializing"):
        finding = kubelet.explain_start_failure(message or reason)
        return PodFinding(f"{container.name} {finding.text}", finding.hint, fatal=True)
    return _creating_finding(container)


def _pull_finding(container: _ContainerContext, message: str) -> PodFinding:
    events = [event.message for event in container.events_with("Failed", "InspectFailed")]
    secrets = container.pod.spec.items_of("imagePullSecrets")
    finding = image_pulls.explain_pull_failure(
        container.spec.image,
        [message, *events],
        secrets=tuple(str(secret.get("name")) for secret in secrets),
        namespace=container.pod.namespace,
        policy=container.spec.text("imagePullPolicy"),
        place=container.config_key,
    )
    if container.config_key:
        return replace(finding, text=f"{container.name}: {finding.text}")
    return finding


def _creating_finding(container: _ContainerContext) -> PodFinding:
    newest = next(iter(container.events_with("Pulling", "Pulled", "FailedCreatePodSandBox")), None)
    mounts = container.events_with("FailedMount", "FailedAttachVolume", "FailedMapVolume")
    if newest is not None:  # these events follow the mounts
        mounts = [event for event in mounts if last_event_time(event) >= last_event_time(newest)]
    # The kubelet's timeout summary has less detail than the events before it.
    mounts.sort(key=lambda event: "timed out waiting" in event.message)
    if mounts:
        finding = kubelet.explain_mount_failure(mounts[0].message, container.pod.namespace)
        began = parse_timestamp(mounts[0].text("firstTimestamp")) or last_event_time(mounts[0])
        began = max(began, container.observations.since)
        return finding.with_fatal(
            fatal=bool(finding.hint) and container.observations.now - began >= MOUNT_GRACE_SECONDS
        )
    absent = container.observations.missing_references.get(container.pod.name)
    if absent is not None and newest is None:
        return absent.with_fatal(
            fatal=is_waiting_for_volumes(
                container.pod, container.observations.now, container.observations.since
            )
        )
    if newest is not None and newest.reason == "Pulling":
        return PodFinding(f"pulling {container.spec.image}")
    if newest is not None and newest.reason == "FailedCreatePodSandBox":
        return PodFinding(f"the node cannot make the pod: {newest.message}")
    return PodFinding(f"{container.name} is being created")


def _terminated_finding(container: _ContainerContext, end: Termination) -> PodFinding:
    """Explain a container that has terminated, or that waits for its restart."""
    finding = kubelet.explain_termination(end, container.spec)
    ends = container.status.restarts + (not container.status.is_running)
    times = f", {ends} times so far" if ends > 1 else ""
    return PodFinding(
        f"{container.name} {_killed_by_probe(container, end) or finding.text}{times}",
        finding.hint,
        fatal=ends > 1 or end.out_of_memory,
        container=container.spec.name,
    )


def _restarted_finding(container: _ContainerContext) -> PodFinding | None:
    """Explain a recent termination of a running container; repeated ones are fatal."""
    last = container.status.last_termination
    ended = parse_timestamp(last.finished)
    if ended is None or container.observations.now - ended > _RECENT_SECONDS:
        return None
    finding = _terminated_finding(container, last)
    return finding if finding.fatal else replace(finding, text=f"{finding.text}, and runs again")


def _killed_by_probe(container: _ContainerContext, end: Termination) -> str:
    """Describe the failed probe because of which the kubelet ended the container, or return ""."""
    if end.out_of_memory or end.exit_code not in (0, 137, 143):
        return ""
    for probe in ("liveness", "startup"):
        if response := _probe_failure(container, probe):
            return f"was ended, for its {probe} probe failed{response}"
    return ""


def _probe_failure(container: _ContainerContext, probe: str) -> str:
    """Return the response to the probe, as `: …`."""
    for event in container.events_with("Unhealthy"):
        if event.message.lower().startswith(probe):
            return f": {_probe_response(event.message.partition(': ')[2])}"
    return ""


def _probe_response(text: str) -> str:
    if code := _STATUS_CODE.search(text):
        return f"HTTP status {code[1]}"
    if "connection refused" in text:
        return "nothing listens there"
    if "context deadline exceeded" in text or "Client.Timeout" in text:
        return "no answer in time"
    return text.strip()


def _running_finding(container: _ContainerContext) -> PodFinding:
    status = container.observations.statuses.get(container.pod.name)
    if status is not None and container.spec.name == CONTAINER:
        return _processor_finding(container, status)
    if response := _probe_failure(container, "readiness"):
        text = f"{container.name} runs, its readiness probe fails{response}"
        return PodFinding(text, container=container.spec.name)
    return PodFinding(f"{container.name} has started", container=container.spec.name)


def _processor_finding(container: _ContainerContext, status: ProcessorStatus) -> PodFinding:
    """Explain the state that the processor reports, which is more precise than a probe."""
    if status.state == "unhealthy":
        return kubelet.with_memory_limit(
            PodFinding(status.reason or "a worker does not start", fatal=True, container=CONTAINER),
            container.spec,
        )
    if status.state == "starting":
        ready = sum(worker.state in ("ready", "busy") for worker in status.workers)
        done = f", {ready} of {len(status.workers)} workers ready" if ready else ""
        return PodFinding(f"init_context is running{done}")
    if status.state == "ready":
        return PodFinding("its workers are ready")
    return PodFinding("it is ending")


def restarts_by_function(pods: Iterable[Pod]) -> dict[str, Restarts]:
    """Return the restarts by function; functions without restarts are omitted."""
    by_name: dict[str, list[Pod]] = {}
    for pod in pods:
        if pod.restarts:
            by_name.setdefault(pod.labels.get(labels.FUNCTION, ""), []).append(pod)
    return {name: _restarts(own_pods) for name, own_pods in by_name.items()}


def _restarts(pods: list[Pod]) -> Restarts:
    count = sum(pod.restarts for pod in pods)
    last = max((end for pod in pods for end in _terminations(pod)), default=None)
    return Restarts(count) if last is None else Restarts(count, last[2], last[1])


def _terminations(pod: Pod) -> Iterable[tuple[float, str, str]]:
    """Yield the last end of each container: its time as a number and as text, and the reason."""
    specs = {container.name: container for container in pod.containers}
    for status in pod.container_statuses:
        if end := status.last_termination:
            spec = specs.get(status.name, Container())
            sidecar = "" if status.name == CONTAINER else f"sidecar {status.name} "
            text = f"{sidecar}{kubelet.explain_termination(end, spec).text}"
            yield parse_timestamp(end.finished) or 0.0, end.finished, text

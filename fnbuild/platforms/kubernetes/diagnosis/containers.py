"""Containers of pods: why they are not ready, and how often they have restarted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from fnbuild.function.types import Raw
from fnbuild.platforms import Restarts
from fnbuild.platforms.kubernetes import labels as own
from fnbuild.platforms.kubernetes.diagnosis import kubelet
from fnbuild.platforms.kubernetes.inventory import labels_of
from fnbuild.platforms.kubernetes.labels import CONTAINER
from fnbuild.platforms.kubernetes.status import (
    MOUNT_GRACE_SECONDS,
    PodFinding,
    is_waiting_for_volumes,
    parse_timestamp,
    restart_count,
)
from fnbuild.platforms.processor_status import ProcessorStatus

_RECENT_SECONDS = 600.0
"""The kubelet forgets earlier ends of a container that has run for so long."""

_STATUS_CODE = re.compile(r"statuscode: (\d+)")


@dataclass(frozen=True, slots=True)
class Observations:
    """What is known beside the pods; see `reasons.standing`.

    `since` is when the function was changed last, in seconds since the epoch: what was so before
    may have been mended by that. `absent` is what volumes need that is not there, by pod.
    """

    events: Sequence[Raw]
    now: float
    nodes: list[Raw] | None
    statuses: Mapping[str, ProcessorStatus]
    since: float = 0.0
    absent: Mapping[str, PodFinding] = field(default_factory=dict)

    def of(self, pod: Raw) -> list[Raw]:
        """The pod's events since then, the newest first."""
        uid = pod["metadata"].get("uid")
        mine = [
            one
            for one in self.events
            if (one.get("involvedObject") or {}).get("uid") == uid
            and last_event_time(one) >= self.since
        ]
        mine.reverse()  # the cluster lists them in their order, and its times are whole seconds
        return sorted(mine, key=last_event_time, reverse=True)


@dataclass(frozen=True, slots=True)
class _ContainerContext:
    """One container of a pod: its status, its part of the pod's spec, its events."""

    pod: Raw
    status: Raw
    spec: Raw
    events: list[Raw]
    look: Observations
    name: str
    """How sentences call it."""
    place: str
    """Where the configuration has it, "" for the function's own."""

    @property
    def restarts(self) -> int:
        return int(self.status.get("restartCount") or 0)

    @property
    def image(self) -> str:
        return str(self.spec.get("image") or "")

    @property
    def namespace(self) -> str:
        return str(self.pod["metadata"]["namespace"])

    def said(self, *reasons: str) -> list[Raw]:
        return [one for one in self.events if one.get("reason") in reasons]


def last_event_time(event: Raw) -> float:
    """When an event happened last. The scheduler's have another field than the kubelet's."""
    series = event.get("series") or {}
    for stamp in (
        series.get("lastObservedTime"),
        event.get("lastTimestamp"),
        event.get("eventTime"),
    ):
        if (moment := parse_timestamp(stamp)) is not None:
            return moment
    return 0.0


def container_finding(pod: Raw, look: Observations) -> PodFinding:
    """What keeps a pod that has a node from being ready."""
    first: PodFinding | None = None
    for one in _containers(pod, look, "init"):
        if (found := _init_finding(one)) is not None:
            return found
    for one in _containers(pod, look, ""):
        found = _not_ready_finding(one)
        if found is not None and found.fatal:
            return found
        first = first or found
    return first or PodFinding("its pod is about to be ready")


def _containers(pod: Raw, look: Observations, kind: str) -> Iterator[_ContainerContext]:
    """Those of one kind, in the order in which they count; all, before any has a status."""
    specs = pod["spec"].get("initContainers" if kind else "containers") or []
    listed = (pod.get("status") or {}).get(
        f"{kind}ContainerStatuses" if kind else "containerStatuses"
    )
    statuses = {one["name"]: one for one in listed or []}
    events = look.of(pod)
    if not kind:
        specs = sorted(specs, key=lambda spec: spec["name"] != CONTAINER)
    for spec in specs:
        name = spec["name"]
        called, place = f"sidecar {name}", "spec.sidecars"
        if kind:
            called, place = f"init container {name}", "spec.initContainers"
        elif name == CONTAINER:
            called, place = "the container", ""
        yield _ContainerContext(
            pod=pod,
            status=statuses.get(name) or {},
            spec=spec,
            events=[one for one in events if _is_about(one, name)],
            look=look,
            name=called,
            place=place,
        )


def _is_about(event: Raw, container: str) -> bool:
    path = str((event.get("involvedObject") or {}).get("fieldPath") or "")
    return not path or path.endswith(f"{{{container}}}")


def _init_finding(one: _ContainerContext) -> PodFinding | None:
    """None when the containers behind it may start."""
    state: Raw = one.status.get("state") or {}
    if "running" in state:
        # One of those that go on running beside the others.
        if one.spec.get("restartPolicy") == "Always" and one.status.get("started"):
            return None
        return _restarted_finding(one) or PodFinding(f"{one.name} is running")
    if "terminated" in state and int(state["terminated"].get("exitCode") or 0) == 0:
        return None
    return _not_ready_finding(one)


def _not_ready_finding(one: _ContainerContext) -> PodFinding | None:
    """What keeps one container from being ready; None when it is."""
    state: Raw = one.status.get("state") or {}
    if one.status.get("ready"):
        return None
    if "terminated" in state:
        return _terminated_finding(one, state["terminated"])
    if "running" in state:
        before, now = _restarted_finding(one), _running_finding(one)
        return now if before is None or (now.fatal and not before.fatal) else before
    return _waiting_finding(one, state.get("waiting") or {})


def _waiting_finding(one: _ContainerContext, waiting: Raw) -> PodFinding:
    reason, message = str(waiting.get("reason") or ""), str(waiting.get("message") or "")
    if reason in kubelet.PULL_FAILURES:
        return _pull_finding(one, message)
    if reason == "CreateContainerConfigError":
        return kubelet.explain_config_error(message, one.namespace).become(fatal=True)
    if reason == "CrashLoopBackOff":
        last = (one.status.get("lastState") or {}).get("terminated") or {}
        return _terminated_finding(one, last).become(fatal=True)
    if reason not in ("", "ContainerCreating", "PodInitializing"):
        found = kubelet.explain_start_failure(message or reason)
        return PodFinding(f"{one.name} {found.text}", found.hint, fatal=True)
    return _creating_finding(one)


def _pull_finding(one: _ContainerContext, message: str) -> PodFinding:
    events = [str(event.get("message") or "") for event in one.said("Failed", "InspectFailed")]
    secrets = one.pod["spec"].get("imagePullSecrets") or []
    found = kubelet.explain_pull_failure(
        one.image,
        [message, *events],
        secrets=tuple(str(secret.get("name")) for secret in secrets),
        namespace=one.namespace,
        policy=str(one.spec.get("imagePullPolicy") or ""),
        place=one.place,
    )
    return replace(found, text=f"{one.name}: {found.text}") if one.place else found


def _creating_finding(one: _ContainerContext) -> PodFinding:
    newest = next(iter(one.said("Pulling", "Pulled", "FailedCreatePodSandBox")), None)
    mounts = one.said("FailedMount", "FailedAttachVolume", "FailedMapVolume")
    if newest is not None:  # what comes behind the mounts
        mounts = [event for event in mounts if last_event_time(event) >= last_event_time(newest)]
    # The kubelet's summary of a volume that did not come says less than the events before it.
    mounts.sort(key=lambda event: "timed out waiting" in str(event.get("message")))
    if mounts:
        found = kubelet.explain_mount_failure(str(mounts[0].get("message") or ""), one.namespace)
        began = parse_timestamp(mounts[0].get("firstTimestamp")) or last_event_time(mounts[0])
        began = max(began, one.look.since)
        return found.become(fatal=bool(found.hint) and one.look.now - began >= MOUNT_GRACE_SECONDS)
    absent = one.look.absent.get(str(one.pod["metadata"]["name"]))
    if absent is not None and newest is None:
        return absent.become(fatal=is_waiting_for_volumes(one.pod, one.look.now, one.look.since))
    if newest is not None and newest["reason"] == "Pulling":
        return PodFinding(f"pulling {one.image}")
    if newest is not None and newest["reason"] == "FailedCreatePodSandBox":
        return PodFinding(f"the node cannot make the pod: {newest.get('message')}")
    return PodFinding(f"{one.name} is being created")


def _terminated_finding(one: _ContainerContext, state: Raw) -> PodFinding:
    """It has ended, or waits to be started after it did."""
    found = kubelet.describe_termination(state, one.spec)
    ends = one.restarts + ("running" not in (one.status.get("state") or {}))
    times = f", {ends} times so far" if ends > 1 else ""
    return PodFinding(
        f"{one.name} {_killed_by_probe(one, state) or found.text}{times}",
        found.hint,
        fatal=ends > 1 or state.get("reason") == "OOMKilled",
        container=one.spec["name"],
    )


def _restarted_finding(one: _ContainerContext) -> PodFinding | None:
    """That it ended not long ago; it will again when that was not the first time."""
    last = (one.status.get("lastState") or {}).get("terminated") or {}
    ended = parse_timestamp(last.get("finishedAt"))
    if ended is None or one.look.now - ended > _RECENT_SECONDS:
        return None
    found = _terminated_finding(one, last)
    return found if found.fatal else replace(found, text=f"{found.text}, and runs again")


def _killed_by_probe(one: _ContainerContext, state: Raw) -> str:
    """That the kubelet ended it itself, and why; "" when it did not."""
    if state.get("reason") == "OOMKilled" or int(state.get("exitCode") or 0) not in (0, 137, 143):
        return ""
    for probe in ("liveness", "startup"):
        if answer := _probe_failure(one, probe):
            return f"was ended, for its {probe} probe failed{answer}"
    return ""


def _probe_failure(one: _ContainerContext, probe: str) -> str:
    """What the probe was answered, as `: …`."""
    for event in one.said("Unhealthy"):
        message = str(event.get("message") or "")
        if message.lower().startswith(probe):
            return f": {_probe_response(message.partition(': ')[2])}"
    return ""


def _probe_response(text: str) -> str:
    if code := _STATUS_CODE.search(text):
        return f"HTTP status {code[1]}"
    if "connection refused" in text:
        return "nothing listens there"
    if "context deadline exceeded" in text or "Client.Timeout" in text:
        return "no answer in time"
    return text.strip()


def _running_finding(one: _ContainerContext) -> PodFinding:
    status = one.look.statuses.get(one.pod["metadata"]["name"])
    if status is not None and one.spec["name"] == CONTAINER:
        return _processor_finding(one, status)
    if answer := _probe_failure(one, "readiness"):
        text = f"{one.name} runs, its readiness probe fails{answer}"
        return PodFinding(text, container=one.spec["name"])
    return PodFinding(f"{one.name} has started", container=one.spec["name"])


def _processor_finding(one: _ContainerContext, status: ProcessorStatus) -> PodFinding:
    """What fnbuild's processor knows better than any probe."""
    if status.state == "unhealthy":
        return kubelet.with_memory_limit(
            PodFinding(status.reason or "a worker does not start", fatal=True, container=CONTAINER),
            one.spec,
        )
    if status.state == "starting":
        ready = sum(worker.state in ("ready", "busy") for worker in status.workers)
        done = f", {ready} of {len(status.workers)} workers ready" if ready else ""
        return PodFinding(f"init_context is running{done}")
    if status.state == "ready":
        return PodFinding("its workers are ready")
    return PodFinding("it is ending")


def restarts_by_function(pods: Iterable[Raw]) -> dict[str, Restarts]:
    """Return the restarts by function; functions without any are left out."""
    by_name: dict[str, list[Raw]] = {}
    for pod in pods:
        if restart_count(pod):
            by_name.setdefault(labels_of(pod).get(own.FUNCTION, ""), []).append(pod)
    return {name: _of_function(own_pods) for name, own_pods in by_name.items()}


def _of_function(pods: list[Raw]) -> Restarts:
    count = sum(map(restart_count, pods))
    last = max((end for pod in pods for end in _terminations(pod)), default=None)
    return Restarts(count) if last is None else Restarts(count, last[2], last[1])


def _terminations(pod: Raw) -> Iterable[tuple[float, str, str]]:
    """Yield the last end of each container: its time as a number and as text, and the reason."""
    specs = {container["name"]: container for container in pod["spec"].get("containers") or []}
    for status in (pod.get("status") or {}).get("containerStatuses") or []:
        state = (status.get("lastState") or {}).get("terminated")
        if not state:
            continue
        finished = str(state.get("finishedAt") or "")
        name = status["name"]
        text = kubelet.describe_termination(state, specs.get(name, {})).text
        sidecar = "" if name == own.CONTAINER else f"sidecar {name} "
        yield parse_timestamp(finished) or 0.0, finished, f"{sidecar}{text}"

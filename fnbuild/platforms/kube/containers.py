"""What keeps the containers of one pod from being ready."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from fnbuild.platforms.kube import endings, missing, pulling
from fnbuild.platforms.kube.findings import Finding, seconds
from fnbuild.platforms.kube.labels import CONTAINER
from fnbuild.platforms.kube.podstates import MOUNT_SECONDS, waits_for_volumes
from fnbuild.platforms.processor_status import ProcessorStatus
from fnbuild.spec.types import Raw

_RECENT_SECONDS = 600.0
"""The kubelet forgets earlier ends of a container that has run for so long."""

_CODE = re.compile(r"statuscode: (\d+)")


@dataclass(frozen=True, slots=True)
class Look:
    """What is known beside the pods; see `reasons.standing`.

    `since` is when the function was changed last, in seconds since the epoch: what was so before
    may have been mended by that. `absent` is what volumes need that is not there, by pod.
    """

    events: Sequence[Raw]
    now: float
    nodes: list[Raw] | None
    statuses: Mapping[str, ProcessorStatus]
    since: float = 0.0
    absent: Mapping[str, Finding] = field(default_factory=dict)

    def of(self, pod: Raw) -> list[Raw]:
        """The pod's events since then, the newest first."""
        uid = pod["metadata"].get("uid")
        mine = [
            one
            for one in self.events
            if (one.get("involvedObject") or {}).get("uid") == uid and last_time(one) >= self.since
        ]
        mine.reverse()  # the cluster lists them in their order, and its times are whole seconds
        return sorted(mine, key=last_time, reverse=True)


@dataclass(frozen=True, slots=True)
class _Container:
    """One container of a pod: its status, its part of the pod's spec, its events."""

    pod: Raw
    status: Raw
    spec: Raw
    events: list[Raw]
    look: Look
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


def last_time(event: Raw) -> float:
    """When an event happened last. The scheduler's have another field than the kubelet's."""
    series = event.get("series") or {}
    for stamp in (
        series.get("lastObservedTime"),
        event.get("lastTimestamp"),
        event.get("eventTime"),
    ):
        if (moment := seconds(stamp)) is not None:
            return moment
    return 0.0


def keeping(pod: Raw, look: Look) -> Finding:
    """What keeps a pod that has a node from being ready."""
    first: Finding | None = None
    for one in _containers(pod, look, "init"):
        if (found := _initial(one)) is not None:
            return found
    for one in _containers(pod, look, ""):
        found = _finding(one)
        if found is not None and found.fatal:
            return found
        first = first or found
    return first or Finding("its pod is about to be ready")


def _containers(pod: Raw, look: Look, kind: str) -> Iterator[_Container]:
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
        yield _Container(
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


def _initial(one: _Container) -> Finding | None:
    """None when the containers behind it may start."""
    state: Raw = one.status.get("state") or {}
    if "running" in state:
        # One of those that go on running beside the others.
        if one.spec.get("restartPolicy") == "Always" and one.status.get("started"):
            return None
        return _ended_before(one) or Finding(f"{one.name} is running")
    if "terminated" in state and int(state["terminated"].get("exitCode") or 0) == 0:
        return None
    return _finding(one)


def _finding(one: _Container) -> Finding | None:
    """What keeps one container from being ready; None when it is."""
    state: Raw = one.status.get("state") or {}
    if one.status.get("ready"):
        return None
    if "terminated" in state:
        return _terminated(one, state["terminated"])
    if "running" in state:
        before, now = _ended_before(one), _running(one)
        return now if before is None or (now.fatal and not before.fatal) else before
    return _waiting(one, state.get("waiting") or {})


def _waiting(one: _Container, waiting: Raw) -> Finding:
    reason, message = str(waiting.get("reason") or ""), str(waiting.get("message") or "")
    if reason in pulling.WAITING:
        return _not_pulled(one, message)
    if reason == "CreateContainerConfigError":
        return missing.cannot_configure(message, one.namespace).become(fatal=True)
    if reason == "CrashLoopBackOff":
        last = (one.status.get("lastState") or {}).get("terminated") or {}
        return _terminated(one, last).become(fatal=True)
    if reason not in ("", "ContainerCreating", "PodInitializing"):
        found = endings.not_started(message or reason)
        return Finding(f"{one.name} {found.text}", found.hint, fatal=True)
    return _creating(one)


def _not_pulled(one: _Container, message: str) -> Finding:
    events = [str(event.get("message") or "") for event in one.said("Failed", "InspectFailed")]
    secrets = one.pod["spec"].get("imagePullSecrets") or []
    found = pulling.cannot_pull(
        one.image,
        [message, *events],
        secrets=tuple(str(secret.get("name")) for secret in secrets),
        namespace=one.namespace,
        policy=str(one.spec.get("imagePullPolicy") or ""),
        place=one.place,
    )
    return replace(found, text=f"{one.name}: {found.text}") if one.place else found


def _creating(one: _Container) -> Finding:
    newest = next(iter(one.said("Pulling", "Pulled", "FailedCreatePodSandBox")), None)
    mounts = one.said("FailedMount", "FailedAttachVolume", "FailedMapVolume")
    if newest is not None:  # what comes behind the mounts
        mounts = [event for event in mounts if last_time(event) >= last_time(newest)]
    # The kubelet's summary of a volume that did not come says less than the events before it.
    mounts.sort(key=lambda event: "timed out waiting" in str(event.get("message")))
    if mounts:
        found = missing.cannot_mount(str(mounts[0].get("message") or ""), one.namespace)
        began = seconds(mounts[0].get("firstTimestamp")) or last_time(mounts[0])
        began = max(began, one.look.since)
        return found.become(fatal=bool(found.hint) and one.look.now - began >= MOUNT_SECONDS)
    absent = one.look.absent.get(str(one.pod["metadata"]["name"]))
    if absent is not None and newest is None:
        return absent.become(fatal=waits_for_volumes(one.pod, one.look.now, one.look.since))
    if newest is not None and newest["reason"] == "Pulling":
        return Finding(f"pulling {one.image}")
    if newest is not None and newest["reason"] == "FailedCreatePodSandBox":
        return Finding(f"the node cannot make the pod: {newest.get('message')}")
    return Finding(f"{one.name} is being created")


def _terminated(one: _Container, state: Raw) -> Finding:
    """It has ended, or waits to be started after it did."""
    found = endings.ended(state, one.spec)
    ends = one.restarts + ("running" not in (one.status.get("state") or {}))
    times = f", {ends} times so far" if ends > 1 else ""
    return Finding(
        f"{one.name} {_by_probe(one, state) or found.text}{times}",
        found.hint,
        fatal=ends > 1 or state.get("reason") == "OOMKilled",
        container=one.spec["name"],
    )


def _ended_before(one: _Container) -> Finding | None:
    """That it ended not long ago; it will again when that was not the first time."""
    last = (one.status.get("lastState") or {}).get("terminated") or {}
    ended = seconds(last.get("finishedAt"))
    if ended is None or one.look.now - ended > _RECENT_SECONDS:
        return None
    found = _terminated(one, last)
    return found if found.fatal else replace(found, text=f"{found.text}, and runs again")


def _by_probe(one: _Container, state: Raw) -> str:
    """That the kubelet ended it itself, and why; "" when it did not."""
    if state.get("reason") == "OOMKilled" or int(state.get("exitCode") or 0) not in (0, 137, 143):
        return ""
    for probe in ("liveness", "startup"):
        if answer := _probe(one, probe):
            return f"was ended, for its {probe} probe failed{answer}"
    return ""


def _probe(one: _Container, probe: str) -> str:
    """What the probe was answered, as `: …`."""
    for event in one.said("Unhealthy"):
        message = str(event.get("message") or "")
        if message.lower().startswith(probe):
            return f": {_answer(message.partition(': ')[2])}"
    return ""


def _answer(text: str) -> str:
    if code := _CODE.search(text):
        return f"HTTP status {code[1]}"
    if "connection refused" in text:
        return "nothing listens there"
    if "context deadline exceeded" in text or "Client.Timeout" in text:
        return "no answer in time"
    return text.strip()


def _running(one: _Container) -> Finding:
    status = one.look.statuses.get(one.pod["metadata"]["name"])
    if status is not None and one.spec["name"] == CONTAINER:
        return _as_it_says(one, status)
    if answer := _probe(one, "readiness"):
        text = f"{one.name} runs, its readiness probe fails{answer}"
        return Finding(text, container=one.spec["name"])
    return Finding(f"{one.name} has started", container=one.spec["name"])


def _as_it_says(one: _Container, status: ProcessorStatus) -> Finding:
    """What fnbuild's processor knows better than any probe."""
    if status.state == "unhealthy":
        return endings.out_of_memory(
            Finding(status.reason or "a worker does not start", fatal=True, container=CONTAINER),
            one.spec,
        )
    if status.state == "starting":
        ready = sum(worker.state in ("ready", "busy") for worker in status.workers)
        done = f", {ready} of {len(status.workers)} workers ready" if ready else ""
        return Finding(f"init_context is running{done}")
    if status.state == "ready":
        return Finding("its workers are ready")
    return Finding("it is ending")

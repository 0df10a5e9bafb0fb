"""Rules on triggers: kinds, workers, HTTP attributes, batches."""

from __future__ import annotations

from typing import Any

from fnbuild.runtime.triggers.schedule import Schedule, ScheduleError
from fnbuild.spec.function_rules import positive_duration
from fnbuild.spec.hints import meant, unknown_key
from fnbuild.spec.quantities import duration
from fnbuild.spec.source import shown
from fnbuild.spec.subject import Subject
from fnbuild.spec.types import Trigger

MAX_WORKERS = 100_000
SERVICE_TYPES = ("ClusterIP", "NodePort", "LoadBalancer")

_KINDS = (
    "http", "cron", "kafka-cluster", "kafka", "nats", "rabbit-mq", "mqtt", "iotCoreMqtt", "kinesis",
    "v3ioStream", "v3ioItemPoller", "pubsub", "eventhub", "kickstart",
)  # fmt: skip
_HTTP_ATTRIBUTES = (
    "port", "serviceType", "maxRequestBodySize", "readBufferSize", "reduceMemoryUsage",
    "disablePortPublishing", "ingresses", "ingressClassName", "cors", "mode", "async", "maxBacklog",
    "maxBacklogBytes", "maxReplyBodySize", "streamingFlushPeriod",
)  # fmt: skip
_CORS = {
    "enabled": bool,
    "allowOrigins": list,
    "allowMethods": list,
    "allowHeaders": list,
    "exposeHeaders": list,
    "allowCredentials": bool,
    "preflightMaxAgeSeconds": int,
}
_SIZES = (
    "maxrequestbodysize", "maxreplybodysize", "readbuffersize", "maxbacklog", "maxbacklogbytes",
)  # fmt: skip
_SHAPES = {bool: "true or false", int: "a number", list: "a list of texts"}
_CRON_ATTRIBUTES = ("interval", "schedule", "event", "concurrencyPolicy", "jobBackoffLimit")
_ACK_MODES = ("", "enable", "disable", "explicitOnly")


def kinds(subject: Subject) -> None:
    """Every trigger has a kind that exists, and a name that is its key."""
    for key, trigger in subject.written.spec.triggers.items():
        path = ("spec", "triggers", key)
        if not key:
            subject.error("trigger-name", "a trigger needs a name", path, part="key")
        if trigger.name and trigger.name != key:
            message = f"the trigger {shown(key)} calls itself {shown(trigger.name)}"
            hint = "remove `name`; the key is the name"
            subject.error("trigger-name", message, (*path, "name"), hint)
        if not trigger.kind:
            message = f"the trigger {shown(key)} has no kind"
            subject.error("trigger-kind", message, path, "add `kind: http`", "key")
        elif trigger.kind not in _KINDS:
            message = f"{shown(trigger.kind)} is not a kind of trigger; nothing will call it"
            subject.error("trigger-kind", message, (*path, "kind"), meant(trigger.kind, _KINDS))


def one_http(subject: Subject) -> None:
    """At most one trigger of kind http."""
    triggers = subject.written.spec.triggers
    names = [key for key, trigger in triggers.items() if trigger.kind == "http"]
    for name in names[1:]:
        message = f"{shown(name)} is a second http trigger; a function has at most one"
        path = ("spec", "triggers", name)
        subject.error("two-http-triggers", message, path, f"{shown(names[0])} is the first", "key")


def workers(subject: Subject) -> None:
    """The number of workers is positive, bounded, and given once."""
    for key, trigger in subject.written.spec.triggers.items():
        path = ("spec", "triggers", key)
        both = (("numWorkers", trigger.num_workers), ("maxWorkers", trigger.max_workers))
        for name, number in both:
            if number > MAX_WORKERS or number < 0:
                message = f"{name} is {number}; a trigger has 1 to {MAX_WORKERS} workers"
                subject.error("workers", message, (*path, name))
            elif number == 0 and _is_written_zero(subject, (*path, name)):
                message = f"{name}: 0 counts as not given, so there will be "
                message += str(trigger.num_workers or trigger.max_workers or 1)
                subject.warning("workers", message, (*path, name))
        if trigger.num_workers and trigger.max_workers:
            message = f"numWorkers ({trigger.num_workers}) wins; maxWorkers is its old name"
            subject.warning("workers-twice", message, (*path, "maxWorkers"), "remove maxWorkers")


def _is_written_zero(subject: Subject, path: tuple[str, ...]) -> bool:
    """Whether a file says zero; a number there that gave way to another is none of that."""
    found = subject.place(path) if subject.has(*path) else None
    return found is not None and found[2].value in (0, "0", None)


def timeouts(subject: Subject) -> None:
    """Durations of triggers are durations."""
    for key, trigger in subject.written.spec.triggers.items():
        path = ("spec", "triggers", key)
        for name, text in (
            ("workerTerminationTimeout", trigger.worker_termination_timeout),
            (
                "waitExplicitAckDuringRebalanceTimeout",
                trigger.wait_explicit_ack_during_rebalance_timeout,
            ),
        ):
            if text:
                positive_duration(subject, name, text, (*path, name))


def acknowledgement(subject: Subject) -> None:
    """Explicit acknowledgement has a known mode and a kind of trigger that can do it."""
    for key, trigger in subject.written.spec.triggers.items():
        path = ("spec", "triggers", key, "explicitAckMode")
        mode = trigger.explicit_ack_mode
        if mode not in _ACK_MODES:
            message = f"explicitAckMode is enable, disable or explicitOnly, not {shown(mode)}"
            subject.error("ack-mode", message, path)
        elif mode in ("enable", "explicitOnly"):
            if trigger.kind not in ("kafka-cluster", "kafka", "v3ioStream"):
                message = f"a trigger of kind {trigger.kind} has no explicit acknowledgement"
                subject.warning("ack-mode", message, path)
            elif trigger.attributes.get("workerAllocationMode") == "pool":
                message = "explicit acknowledgement does not go with workerAllocationMode pool"
                subject.error("ack-mode", message, path)


def batch(subject: Subject) -> None:
    """A batch has a size and a duration, and an http trigger."""
    for key, trigger in subject.written.spec.triggers.items():
        value, path = trigger.batch, ("spec", "triggers", key, "batch")
        if value is None:
            continue
        if value.mode not in ("", "enable", "disable"):
            message = f"batch.mode is enable or disable, not {shown(value.mode)}"
            subject.error("batch", message, (*path, "mode"))
        if value.mode != "enable":
            continue
        if trigger.kind != "http":
            message = f"batches are ignored for a trigger of kind {trigger.kind}"
            subject.warning("batch", message, path, part="key")
        if value.batch_size <= 0:
            subject.error("batch", "batchSize must be above zero", (*path, "batchSize"))
        try:
            duration(value.timeout)
        except ValueError as error:
            subject.error("batch", f"batch.timeout: {error}", (*path, "timeout"))


def http_attributes(subject: Subject) -> None:
    """What an http trigger is told, is what it knows, in the types it reads."""
    for key, trigger in subject.written.spec.triggers.items():
        if trigger.kind != "http":
            continue
        path = ("spec", "triggers", key, "attributes")
        given = {name.lower(): (name, value) for name, value in trigger.attributes.items()}
        known = {name.lower() for name in _HTTP_ATTRIBUTES}
        for lower, (name, _) in given.items():
            if lower not in known:
                message, hint = unknown_key(path, name, _HTTP_ATTRIBUTES)
                subject.warning("unknown-key", message, (*path, name), hint, "key")
        _sizes(subject, given, path)
        _port(subject, given, path)
        _service(subject, given, path)
        _ingresses(subject, trigger, path)
        _cors(subject, given, path)


def cron_attributes(subject: Subject) -> None:
    """A cron trigger has an interval or a schedule that can be read."""
    for key, trigger in subject.written.spec.triggers.items():
        if trigger.kind != "cron":
            continue
        path = ("spec", "triggers", key, "attributes")
        given = {name.lower(): (name, value) for name, value in trigger.attributes.items()}
        for lower, (name, _) in given.items():
            if lower not in {known.lower() for known in _CRON_ATTRIBUTES}:
                message, hint = unknown_key(path, name, _CRON_ATTRIBUTES)
                subject.warning("unknown-key", message, (*path, name), hint, "key")
        interval, schedule = given.get("interval"), given.get("schedule")
        if interval and interval[1]:
            positive_duration(subject, "interval", str(interval[1]), (*path, interval[0]))
            if schedule and schedule[1]:
                message = "interval wins over schedule; a cron trigger has one of them"
                subject.warning("cron", message, (*path, schedule[0]), "remove one of them")
        elif schedule and schedule[1]:
            try:
                Schedule(str(schedule[1]))
            except ScheduleError as error:
                hint = "as in `schedule: '*/5 * * * *'`, every five minutes"
                subject.error("cron", str(error), (*path, schedule[0]), hint)
        else:
            message = f"the cron trigger {shown(key)} has neither interval nor schedule"
            subject.error("cron", message, path[:-1], "as in `attributes: {interval: 10m}`", "key")
        _cron_event(subject, given, path)


Given = dict[str, tuple[str, Any]]


def _cron_event(subject: Subject, given: Given, path: tuple[str, ...]) -> None:
    name, event = given.get("event", ("event", {}))
    if not isinstance(event, dict):
        subject.error("cron", "event is a mapping with `body` and `headers`", (*path, name))
        return
    headers = {str(key).lower(): value for key, value in event.items()}.get("headers")
    if headers is not None and not isinstance(headers, dict):
        message = "the headers of an event are a mapping of names to values"
        subject.error("cron", message, (*path, name))


def _sizes(subject: Subject, given: Given, path: tuple[str, ...]) -> None:
    for lower in _SIZES:
        name, value = given.get(lower, ("", 1))
        if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
            what = "requests" if lower == "maxbacklog" else "bytes"
            message = f"{name} is a number of {what} above zero, not {shown(value)}"
            hint = f"as in `{name}: 33554432 # 32 MiB`" if what == "bytes" else None
            subject.error("http-size", message, (*path, name), hint)
    for lower in ("reducememoryusage", "disableportpublishing"):
        name, value = given.get(lower, ("", False))
        if not isinstance(value, bool) and str(value).lower() not in ("true", "false"):
            message = f"{name} is true or false, not {shown(value)}"
            subject.error("http-flag", message, (*path, name))


def _port(subject: Subject, given: Given, path: tuple[str, ...]) -> None:
    name, value = given.get("port", ("port", 0))
    if isinstance(value, str) and value.strip().isdigit():
        message = f"Nuclio ignores a port in quotes: {shown(value)}"
        subject.warning("http-port", message, (*path, name), f"remove the quotes: {value.strip()}")
    elif isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 65535:
        message = f"port is a number from 0 (any) to 65535, not {shown(value)}"
        subject.error("http-port", message, (*path, name))


def _service(subject: Subject, given: Given, path: tuple[str, ...]) -> None:
    name, value = given.get("servicetype", ("serviceType", ""))
    if value not in ("", None, *SERVICE_TYPES):
        message = f"serviceType is one of {', '.join(SERVICE_TYPES)}; not {shown(value)}"
        subject.error("service-type", message, (*path, name))


def _ingresses(subject: Subject, trigger: Trigger, path: tuple[str, ...]) -> None:
    ingresses = trigger.attributes.get("ingresses")
    if ingresses is None:
        return
    if not isinstance(ingresses, dict):
        message = "ingresses is a mapping of names to a host and paths"
        subject.error("ingresses", message, (*path, "ingresses"))
        return
    for name, ingress in ingresses.items():
        if not isinstance(ingress, dict):
            message = f"the ingress {shown(name)} is a mapping with `host` and `paths`"
            subject.error("ingresses", message, (*path, "ingresses", name))
        elif not isinstance(ingress.get("paths", []), list):
            message = f"the paths of the ingress {shown(name)} are a list"
            subject.error("ingresses", message, (*path, "ingresses", name, "paths"))


def _cors(subject: Subject, given: Given, path: tuple[str, ...]) -> None:
    name, cors = given.get("cors", ("cors", None))
    if cors is None:
        return
    if not isinstance(cors, dict):
        message = f"cors is a mapping with `enabled: true`, not {shown(cors)}"
        subject.error("cors", message, (*path, name))
        return
    kinds = {key.lower(): kind for key, kind in _CORS.items()}
    for key, value in cors.items():
        at = (*path, name, key)
        kind = kinds.get(str(key).lower())
        if kind is None:
            message, hint = unknown_key((*path, name), key, _CORS)
            subject.warning("unknown-key", message, at, hint, "key")
        elif value is not None and not _is_cors_value(value, kind):
            subject.error("cors", f"{key} is {_SHAPES[kind]}, not {shown(value)}", at)


def _is_cors_value(value: Any, kind: type) -> bool:
    if kind is list and isinstance(value, list):
        return all(isinstance(item, str) for item in value)
    if kind is list:
        return isinstance(value, str)
    return isinstance(value, kind) and isinstance(value, bool) is (kind is bool)

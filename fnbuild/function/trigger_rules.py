"""Rules on triggers: kinds, workers, HTTP attributes, batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fnbuild.function.access_rules import check_authentication
from fnbuild.function.function_rules import check_positive_duration
from fnbuild.function.quantities import parse_duration
from fnbuild.function.rule_context import RuleContext
from fnbuild.function.source_text import quoted
from fnbuild.function.suggestions import did_you_mean, unknown_key_message
from fnbuild.function.types import FieldPath
from fnbuild.runtime.access.settings import ATTRIBUTES as ACCESS_ATTRIBUTES
from fnbuild.runtime.protocols.mapping import ATTRIBUTES as PROTOCOL_ATTRIBUTES
from fnbuild.runtime.protocols.mapping import mapping_problems
from fnbuild.runtime.triggers.schedule import Schedule, ScheduleError

MAX_WORKERS = 100_000
SERVICE_TYPES = ("ClusterIP", "NodePort", "LoadBalancer")

_UNSERVED_KINDS = (
    "kafka-cluster", "kafka", "nats", "rabbit-mq", "mqtt", "iotCoreMqtt", "kinesis",
    "v3ioStream", "v3ioItemPoller", "pubsub", "eventhub", "kickstart",
)  # fmt: skip
_HTTP_ATTRIBUTES = (
    "port", "serviceType", "maxRequestBodySize", "readBufferSize", "reduceMemoryUsage",
    "disablePortPublishing", "ingresses", "ingressClassName", "cors", "mode", "async", "maxBacklog",
    "maxBacklogBytes", "maxReplyBodySize", "streamingFlushPeriod", *PROTOCOL_ATTRIBUTES,
    *ACCESS_ATTRIBUTES,
)  # fmt: skip
_CORS_ATTRIBUTES = {
    "enabled": bool,
    "allowOrigins": list,
    "allowMethods": list,
    "allowHeaders": list,
    "exposeHeaders": list,
    "allowCredentials": bool,
    "preflightMaxAgeSeconds": int,
}
_SIZE_ATTRIBUTES = (
    "maxrequestbodysize", "maxreplybodysize", "readbuffersize", "maxbacklog", "maxbacklogbytes",
)  # fmt: skip
_TYPE_DESCRIPTIONS = {bool: "true or false", int: "a number", list: "a list of texts"}
_CRON_ATTRIBUTES = ("interval", "schedule", "event", "concurrencyPolicy", "jobBackoffLimit")
_BATCH_MODES = ("", "enable", "adaptive", "disable")
_ACK_MODES = ("", "enable", "disable", "explicitOnly")


def check_kinds(context: RuleContext) -> None:
    """Check that every trigger has a supported kind, and a name equal to its key."""
    for key, trigger in context.written.spec.triggers.items():
        path = ("spec", "triggers", key)
        if not key:
            context.error("trigger-name", "a trigger needs a name", path, part="key")
        if trigger.name and trigger.name != key:
            message = f"the trigger {quoted(key)} has the name {quoted(trigger.name)}"
            hint = "remove `name`; the key is the name"
            context.error("trigger-name", message, (*path, "name"), hint)
        if not trigger.kind:
            message = f"the trigger {quoted(key)} has no kind"
            context.error("trigger-kind", message, path, "add `kind: http`", "key")
        elif trigger.kind not in (kinds := (*SERVED_KINDS, *_UNSERVED_KINDS)):
            message = f"{quoted(trigger.kind)} is not a kind of trigger; it would never fire"
            context.error(
                "trigger-kind", message, (*path, "kind"), did_you_mean(trigger.kind, kinds)
            )


def check_single_http_trigger(context: RuleContext) -> None:
    """Check that there is at most one trigger of kind http."""
    triggers = context.written.spec.triggers
    names = [key for key, trigger in triggers.items() if trigger.kind == "http"]
    for name in names[1:]:
        message = f"{quoted(name)} is a second http trigger; a function has at most one"
        path = ("spec", "triggers", name)
        context.error("two-http-triggers", message, path, f"{quoted(names[0])} is the first", "key")


def check_workers(context: RuleContext) -> None:
    """Check that the number of workers is positive, within the limit, and set once."""
    for key, trigger in context.written.spec.triggers.items():
        path = ("spec", "triggers", key)
        both = (("numWorkers", trigger.num_workers), ("maxWorkers", trigger.max_workers))
        for name, number in both:
            if number > MAX_WORKERS or number < 0:
                message = f"{name} is {number}; a trigger has 1 to {MAX_WORKERS} workers"
                context.error("workers", message, (*path, name))
            elif number == 0 and _is_written_zero(context, (*path, name)):
                message = f"{name}: 0 counts as not set, so the number of workers is "
                message += str(trigger.workers)
                context.warning("workers", message, (*path, name))
        if trigger.num_workers and trigger.max_workers:
            message = f"numWorkers ({trigger.num_workers}) applies; maxWorkers is its old name"
            context.warning("workers-twice", message, (*path, "maxWorkers"), "remove maxWorkers")


def _is_written_zero(context: RuleContext, path: FieldPath) -> bool:
    """Return True if a file sets the value to zero and no other file overrides it."""
    location = context.locate(path) if context.is_set_in_file(*path) else None
    return location is not None and location[2].value in (0, "0", None)


def check_timeouts(context: RuleContext) -> None:
    """Check the durations of triggers."""
    for key, trigger in context.written.spec.triggers.items():
        path = ("spec", "triggers", key)
        for name, text in (
            ("workerTerminationTimeout", trigger.worker_termination_timeout),
            (
                "waitExplicitAckDuringRebalanceTimeout",
                trigger.wait_explicit_ack_during_rebalance_timeout,
            ),
        ):
            if text:
                check_positive_duration(context, name, text, (*path, name))


def check_acknowledgement(context: RuleContext) -> None:
    """Check the mode of explicit acknowledgement, and that the kind of trigger supports it."""
    for key, trigger in context.written.spec.triggers.items():
        path = ("spec", "triggers", key, "explicitAckMode")
        mode = trigger.explicit_ack_mode
        if mode not in _ACK_MODES:
            message = f"explicitAckMode is enable, disable or explicitOnly, not {quoted(mode)}"
            context.error("ack-mode", message, path)
        elif mode in ("enable", "explicitOnly"):
            if trigger.kind not in ("kafka-cluster", "kafka", "v3ioStream"):
                message = f"a trigger of kind {trigger.kind} has no explicit acknowledgement"
                context.warning("ack-mode", message, path)
            elif trigger.attributes.get("workerAllocationMode") == "pool":
                message = (
                    "explicit acknowledgement cannot be combined with workerAllocationMode pool"
                )
                context.error("ack-mode", message, path)


def check_batch(context: RuleContext) -> None:
    """Check that a batch has a size, a duration, and an http trigger."""
    for key, trigger in context.written.spec.triggers.items():
        value, path = trigger.batch, ("spec", "triggers", key, "batch")
        if value is None:
            continue
        if value.mode not in _BATCH_MODES:
            message = f"batch.mode is enable, adaptive or disable, not {quoted(value.mode)}"
            hint = did_you_mean(value.mode, _BATCH_MODES)
            context.error("batch", message, (*path, "mode"), hint)
        if not value.is_enabled:
            continue
        if trigger.kind != "http":
            message = f"batches are ignored for a trigger of kind {trigger.kind}"
            context.warning("batch", message, path, part="key")
        if value.batch_size <= 0:
            context.error("batch", "batchSize must be above zero", (*path, "batchSize"))
        try:
            parse_duration(value.timeout)
        except ValueError as error:
            context.error("batch", f"batch.timeout: {error}", (*path, "timeout"))


AttributesByName = dict[str, tuple[str, Any]]
"""Attributes as written, name and value, by their names in lower case."""

AttributeCheck = Callable[[RuleContext, AttributesByName, FieldPath], None]
"""A check of attribute values; the last argument is the path of the attributes."""


@dataclass(frozen=True)
class TriggerKind:
    """A kind of trigger that processors serve: the names of its attributes, and their check.

    The processor gets the attributes named in `durations` in seconds.
    """

    attributes: tuple[str, ...]
    check: AttributeCheck
    durations: tuple[str, ...] = ()


def check_attributes(context: RuleContext) -> None:
    """Check the names and values of the attributes of each trigger."""
    for key, trigger in context.written.spec.triggers.items():
        kind = SERVED_KINDS.get(trigger.kind)
        if kind is None:
            continue
        path = ("spec", "triggers", key, "attributes")
        valid = {name.lower() for name in kind.attributes}
        for name in trigger.attributes:
            if name.lower() not in valid:
                message, hint = unknown_key_message(path, name, kind.attributes)
                context.warning("unknown-key", message, (*path, name), hint, "key")
        attributes = {name.lower(): (name, value) for name, value in trigger.attributes.items()}
        kind.check(context, attributes, path)


def _check_http(context: RuleContext, attributes: AttributesByName, path: FieldPath) -> None:
    _check_sizes(context, attributes, path)
    _check_port(context, attributes, path)
    _check_service_type(context, attributes, path)
    _check_ingresses(context, attributes, path)
    _check_cors(context, attributes, path)
    _check_protocols(context, attributes, path)
    check_authentication(context, dict(attributes.values()), path)


def _check_protocols(context: RuleContext, attributes: AttributesByName, path: FieldPath) -> None:
    values = {name: value for name, (_, value) in attributes.items()}
    for problem in mapping_problems(values):
        name, *rest = problem.path
        written = attributes[str(name)][0]
        context.error("protocols", problem.message, (*path, written, *rest), problem.hint)
    if values.get("protocols") == []:
        message = "an empty list of protocols serves none"
        context.warning("protocols", message, (*path, attributes["protocols"][0]))


def _check_cron(context: RuleContext, attributes: AttributesByName, path: FieldPath) -> None:
    interval, schedule = attributes.get("interval"), attributes.get("schedule")
    if interval and interval[1]:
        check_positive_duration(context, "interval", str(interval[1]), (*path, interval[0]))
        if schedule and schedule[1]:
            message = "interval overrides schedule; a cron trigger has one of them"
            context.warning("cron", message, (*path, schedule[0]), "remove one of them")
    elif schedule and schedule[1]:
        try:
            Schedule(str(schedule[1]))
        except ScheduleError as error:
            hint = "as in `schedule: '*/5 * * * *'`, every five minutes"
            context.error("cron", str(error), (*path, schedule[0]), hint)
    else:
        message = f"the cron trigger {quoted(path[-2])} has neither interval nor schedule"
        context.error("cron", message, path[:-1], "as in `attributes: {interval: 10m}`", "key")
    _check_cron_event(context, attributes, path)


def _check_cron_event(context: RuleContext, attributes: AttributesByName, path: FieldPath) -> None:
    name, event = attributes.get("event", ("event", {}))
    if not isinstance(event, dict):
        context.error("cron", "event is a mapping with `body` and `headers`", (*path, name))
        return
    headers = {str(key).lower(): value for key, value in event.items()}.get("headers")
    if headers is not None and not isinstance(headers, dict):
        message = "the headers of an event are a mapping of names to values"
        context.error("cron", message, (*path, name))


def _check_sizes(context: RuleContext, attributes: AttributesByName, path: FieldPath) -> None:
    for lower in _SIZE_ATTRIBUTES:
        name, value = attributes.get(lower, ("", 1))
        if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
            what = "requests" if lower == "maxbacklog" else "bytes"
            message = f"{name} is a number of {what} above zero, not {quoted(value)}"
            hint = f"as in `{name}: 33554432 # 32 MiB`" if what == "bytes" else None
            context.error("http-size", message, (*path, name), hint)
    for lower in ("reducememoryusage", "disableportpublishing"):
        name, value = attributes.get(lower, ("", False))
        if not isinstance(value, bool) and str(value).lower() not in ("true", "false"):
            message = f"{name} is true or false, not {quoted(value)}"
            context.error("http-flag", message, (*path, name))


def _check_port(context: RuleContext, attributes: AttributesByName, path: FieldPath) -> None:
    name, value = attributes.get("port", ("port", 0))
    if isinstance(value, str) and value.strip().isdigit():
        message = f"Nuclio ignores a port in quotes: {quoted(value)}"
        context.warning("http-port", message, (*path, name), f"remove the quotes: {value.strip()}")
    elif isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 65535:
        message = f"port is a number from 0 (any) to 65535, not {quoted(value)}"
        context.error("http-port", message, (*path, name))


def _check_service_type(
    context: RuleContext, attributes: AttributesByName, path: FieldPath
) -> None:
    name, value = attributes.get("servicetype", ("serviceType", ""))
    if value not in ("", None, *SERVICE_TYPES):
        message = f"serviceType is one of {', '.join(SERVICE_TYPES)}; not {quoted(value)}"
        context.error("service-type", message, (*path, name))


def _check_ingresses(context: RuleContext, attributes: AttributesByName, path: FieldPath) -> None:
    written, ingresses = attributes.get("ingresses", ("", None))
    # As in Nuclio, this name alone is case-sensitive.
    if written != "ingresses" or ingresses is None:
        return
    if not isinstance(ingresses, dict):
        message = "ingresses is a mapping of names to a host and paths"
        context.error("ingresses", message, (*path, "ingresses"))
        return
    for name, ingress in ingresses.items():
        if not isinstance(ingress, dict):
            message = f"the ingress {quoted(name)} is a mapping with `host` and `paths`"
            context.error("ingresses", message, (*path, "ingresses", name))
        elif not isinstance(ingress.get("paths", []), list):
            message = f"the paths of the ingress {quoted(name)} are a list"
            context.error("ingresses", message, (*path, "ingresses", name, "paths"))


def _check_cors(context: RuleContext, attributes: AttributesByName, path: FieldPath) -> None:
    name, cors = attributes.get("cors", ("cors", None))
    if cors is None:
        return
    if not isinstance(cors, dict):
        message = f"cors is a mapping with `enabled: true`, not {quoted(cors)}"
        context.error("cors", message, (*path, name))
        return
    kinds = {key.lower(): kind for key, kind in _CORS_ATTRIBUTES.items()}
    for key, value in cors.items():
        value_path = (*path, name, key)
        kind = kinds.get(str(key).lower())
        if kind is None:
            message, hint = unknown_key_message((*path, name), key, _CORS_ATTRIBUTES)
            context.warning("unknown-key", message, value_path, hint, "key")
        elif value is not None and not _is_cors_value(value, kind):
            context.error(
                "cors", f"{key} is {_TYPE_DESCRIPTIONS[kind]}, not {quoted(value)}", value_path
            )


def _is_cors_value(value: Any, kind: type) -> bool:
    if kind is list and isinstance(value, list):
        return all(isinstance(item, str) for item in value)
    if kind is list:
        return isinstance(value, str)
    return isinstance(value, kind) and isinstance(value, bool) is (kind is bool)


SERVED_KINDS = {
    "http": TriggerKind(_HTTP_ATTRIBUTES, _check_http),
    "cron": TriggerKind(_CRON_ATTRIBUTES, _check_cron, durations=("interval",)),
}
"""The kinds that processors serve; `fnbuild.runtime.triggers.kinds` implements them."""

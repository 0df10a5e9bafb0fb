"""The part of a processor's configuration that follows from the function, on every platform.

`fnbuild.runtime.config` describes the result; a platform adds what depends on the place: code,
interpreter, environment, listeners.
"""

from __future__ import annotations

from fnbuild.function.access_settings import without_access_secrets
from fnbuild.function.gpu_group_settings import group_settings, workers_per_device
from fnbuild.function.quantities import parse_duration
from fnbuild.function.record_settings import record_settings
from fnbuild.function.sleep_settings import sleep_settings
from fnbuild.function.trigger_rules import SERVED_KINDS
from fnbuild.function.types import Function, Raw, Trigger
from fnbuild.runtime.logs import LEVELS

DRAIN_SECONDS = 60.0
_READINESS_SECONDS = 120.0
_AVAILABILITY_MILLISECONDS = 10000
_TERMINATION_SECONDS = 10.0
_SLEEP_GRACE_SECONDS = 15.0


def processor_settings(function: Function, revision: int = 0) -> Raw:
    """Return the processor's configuration without the keys of the platform.

    These are `code`, `mount`, `interpreter`, `env`, `sdk_path` and `listeners`. The result holds no
    value of `spec.env`.
    """
    spec, metadata = function.spec, function.metadata
    arguments = script_arguments(function)
    # The configuration of other functions stays as it is, so that their pods are not restarted.
    optional: Raw = {"arguments": arguments} if arguments else {}
    if sleep := sleep_settings(function).to_processor():
        optional["sleep"] = sleep
    if record := record_settings(function):
        optional["record"] = record
    if count := workers_per_device(function):
        optional["workers_per_device"] = count
    return optional | {
        "function": {
            "name": metadata.name,
            "namespace": metadata.namespace,
            "project": function.project,
            "description": spec.description,
            "version": str(spec.version if spec.version and spec.version > 0 else "latest"),
            "revision": revision,
        },
        "handler": spec.handler,
        "triggers": {
            name: _trigger(trigger)
            for name, trigger in spec.triggers.items()
            if trigger.kind in SERVED_KINDS
        },
        "event_timeout": event_seconds(function),
        "readiness_timeout": readiness_seconds(function),
        "restart": _restart_policy(function),
        "drain_timeout": DRAIN_SECONDS,
        "log": {"level": _log_level(function)},
    }


def serves_inference(function: Function) -> bool:
    """Return True if the http trigger has inference protocols, whose requests name a revision."""
    trigger = function.http_trigger()
    return trigger is not None and bool(trigger[1].attributes.get("protocols"))


def script_arguments(function: Function) -> list[str]:
    """Return `spec.runtimeAttributes.arguments`, those of a model's script."""
    arguments = function.spec.runtime_attributes.get("arguments") or []
    return [str(argument) for argument in arguments]


def readiness_seconds(function: Function) -> float:
    """Return the time limit of `init_context` in seconds."""
    return float(function.spec.readiness_timeout_seconds or _READINESS_SECONDS)


def start_seconds(function: Function) -> float:
    """Return the time limit of a start: in a GPU group it may wait as long as it may last."""
    return readiness_seconds(function) * (2 if group_settings(function) else 1)


def termination_seconds(function: Function) -> float:
    """Return the longest time that a trigger lets its workers finish, in seconds."""
    limits = [_trigger_termination_seconds(trigger) for trigger in function.spec.triggers.values()]
    return max(limits, default=_TERMINATION_SECONDS)


def sleep_seconds(function: Function, action: str) -> float:
    """Return the time limit of a request to the processor to `sleep` or to `wake`."""
    # The import of the handler and `init_context` are limited separately.
    work = termination_seconds(function) if action == "sleep" else 2 * start_seconds(function)
    return work + _SLEEP_GRACE_SECONDS


def event_seconds(function: Function) -> float | None:
    """Return `spec.eventTimeout` in seconds, or None without a limit."""
    return parse_duration(function.spec.event_timeout) if function.spec.event_timeout else None


def _trigger_termination_seconds(trigger: Trigger) -> float:
    text = trigger.worker_termination_timeout
    return parse_duration(text) if text else _TERMINATION_SECONDS


def _restart_policy(function: Function) -> str:
    """Return "always" or "no": dead workers are restarted unless the policy is `no`."""
    policy = function.spec.platform.attributes.get("restartPolicy")
    name = policy.get("name") if isinstance(policy, dict) else policy or "always"
    # `no` without quotes is a bool in YAML.
    return "no" if name == "no" or name is False else "always"


def availability_milliseconds(trigger: Trigger) -> int:
    """Return the time that a request waits for a worker, in milliseconds."""
    milliseconds = trigger.worker_availability_timeout_milliseconds
    return _AVAILABILITY_MILLISECONDS if milliseconds is None else milliseconds


def _trigger(trigger: Trigger) -> Raw:
    return {
        "kind": trigger.kind,
        "num_workers": trigger.workers,
        "availability_timeout_ms": availability_milliseconds(trigger),
        "termination_timeout": _trigger_termination_seconds(trigger),
        "batch": _batch(trigger),
        "allocator": trigger.worker_allocator_name,
        "attributes": _attributes(trigger),
    }


def _batch(trigger: Trigger) -> Raw | None:
    batch = trigger.batch
    if batch is None or not batch.is_enabled or trigger.kind != "http":
        return None
    return {
        "size": batch.batch_size,
        "timeout": parse_duration(batch.timeout),
        "adaptive": batch.mode == "adaptive",
    }


def _attributes(trigger: Trigger) -> Raw:
    """Return the trigger's attributes with durations in seconds, and without secrets."""
    durations = SERVED_KINDS[trigger.kind].durations
    return {
        name: parse_duration(str(value)) if name.lower() in durations and value else value
        for name, value in without_access_secrets(trigger.attributes).items()
    }


def _log_level(function: Function) -> str:
    """Return the most verbose level of all sinks, since there is only one log."""
    levels = [sink.level.lower() for sink in function.spec.logger_sinks]
    return min(
        (level for level in levels if level in LEVELS), key=LEVELS.__getitem__, default="debug"
    )

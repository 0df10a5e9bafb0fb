"""CronJobs for cron triggers.

By default, cron triggers run inside the processor of every replica. With Nuclio's
`cronTriggerCreationMode: kube`, a CronJob calls the function instead, once for all replicas
(pkg/platform/kube/functionres/lazy.go: generateCronTriggerCronJobSpec). It uses the function's own
image, so that no other has to be pulled.
"""

from __future__ import annotations

import hashlib
import json
import os
import re

from fnbuild.errors import InputError
from fnbuild.function.types import Function, Raw, Trigger
from fnbuild.platforms.kubeclient.kinds import Kind
from fnbuild.platforms.kubernetes.labels import (
    COMPONENT,
    CRON_JOB_POD,
    CRON_TRIGGER,
    FUNCTION,
    MANAGED_BY,
    PROJECT,
)
from fnbuild.platforms.kubernetes.manifests import pods
from fnbuild.platforms.kubernetes.manifests.pods import HTTP_PORT, placement, pull_policy
from fnbuild.platforms.kubernetes.manifests.scaling import replica_bounds
from fnbuild.platforms.kubernetes.revision_record import RevisionRecord
from fnbuild.runtime.access.credentials import VARIABLE

CREATION_MODE_VARIABLE = "NUCLIO_CRON_TRIGGER_CREATION_MODE"
"""The default mode: `kube` creates CronJobs, `processor` runs the triggers in the pods."""

_MAX_NAME_LENGTH = 52
"""The limit for CronJobs, whose jobs and pods have longer names."""
_DEFAULT_BACKOFF_LIMIT = 2
_REQUESTS = {"cpu": "25m", "memory": "1Mi"}


def uses_cron_jobs(function: Function) -> bool:
    """Return True if CronJobs run the function's cron triggers."""
    mode = function.spec.platform.attributes.get("cronTriggerCreationMode")
    return (mode or os.environ.get(CREATION_MODE_VARIABLE)) == "kube" and bool(
        cron_triggers(function)
    )


def cron_triggers(function: Function) -> dict[str, Trigger]:
    return {
        name: trigger for name, trigger in function.spec.triggers.items() if trigger.kind == "cron"
    }


def cron_jobs(
    revision: RevisionRecord, function: Function, kind: Kind, pull_secret: str
) -> list[Raw]:
    """Return a CronJob for each cron trigger. Raises `InputError` for invalid settings."""
    if not uses_cron_jobs(function):
        return []
    if function.http_trigger() is None:
        raise InputError(
            "CronJobs call the function by HTTP, and it has no http trigger",
            hint="add one, or leave out cronTriggerCreationMode: the pods run the triggers then",
        )
    names = sorted(cron_triggers(function))
    return [_cron_job(revision, function, kind, name, pull_secret) for name in names]


def _cron_job(
    revision: RevisionRecord, function: Function, kind: Kind, name: str, pull_secret: str
) -> Raw:
    trigger = function.spec.triggers[name]
    attributes = {key.lower(): value for key, value in trigger.attributes.items()}
    metadata = revision.metadata(name=_job_name(revision, name))
    metadata["labels"] |= {COMPONENT: "cron-trigger", CRON_TRIGGER: _slug(name)}
    labels = revision.labels()
    kept = (FUNCTION, PROJECT, MANAGED_BY)
    # Without the labels of the Service's selector: the pod does not serve requests.
    pod_labels = {key: labels[key] for key in kept}
    pod_labels |= {CRON_JOB_POD: "true", CRON_TRIGGER: _slug(name)}
    template = {
        "metadata": {"labels": pod_labels},
        "spec": _job_pod(revision, function, attributes.get("event"), pull_secret),
    }
    backoff = attributes.get("jobbackofflimit") or _DEFAULT_BACKOFF_LIMIT
    spec: Raw = {
        "schedule": _schedule(name, attributes),
        "concurrencyPolicy": str(attributes.get("concurrencypolicy") or "Forbid").capitalize(),
        "suspend": replica_bounds(function) == (0, 0),
        "successfulJobsHistoryLimit": 1,
        "failedJobsHistoryLimit": 1,
        "jobTemplate": {"spec": {"backoffLimit": backoff, "template": template}},
    }
    return kind.manifest(metadata, spec=spec)


def _job_pod(revision: RevisionRecord, function: Function, event: object, pull_secret: str) -> Raw:
    container: Raw = {
        "name": "function-invocator",
        "image": revision.image_reference,
        "imagePullPolicy": pull_policy(revision, function),
        "command": [
            "processor",
            f"--invoke=http://{revision.key.object_name}:{HTTP_PORT}",
            *_event_flags(event),
        ],
        "resources": {"requests": dict(_REQUESTS)},
        "securityContext": pods.function_security_context(function),
    }
    # The processor sends the token in it; other functions' jobs stay as they are.
    if token := [item for item in pods.environment(function) if item["name"] == VARIABLE]:
        container["env"] = token
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        **placement(function, pull_secret),
        "securityContext": pods.pod_security_context(function),
        "containers": [container],
    }


def _event_flags(event: object) -> list[str]:
    """Return the event as flags. As in the processor, a body other than text is sent as JSON."""
    settings = event if isinstance(event, dict) else {}
    values = {key.lower(): value for key, value in settings.items()}
    headers = {str(name): str(value) for name, value in (values.get("headers") or {}).items()}
    body = values.get("body")
    if isinstance(body, dict | list):
        if not any(name.lower() == "content-type" for name in headers):
            headers["Content-Type"] = "application/json"
        body = json.dumps(body)
    headers["x-nuclio-invoke-trigger"] = "cron"
    flags = [f"--method={values['method']}"] if values.get("method") else []
    flags += [f"--header={name}={value}" for name, value in headers.items()]
    return [*flags, f"--body={body}"] if body is not None else flags


def _schedule(name: str, attributes: Raw) -> str:
    """Return the schedule: five fields, without seconds, or Go's `@every`."""
    if interval := attributes.get("interval"):
        return f"@every {interval}"
    text = str(attributes.get("schedule") or "").strip()
    fields = text.split()
    if text.startswith("@") or len(fields) == 5:
        return text
    if len(fields) == 6:
        return " ".join(fields[1:])
    raise InputError(
        f"spec.triggers.{name}.attributes.schedule: {text!r} is no schedule",
        hint="minute, hour, day, month and weekday, as in '0 3 * * *'",
    )


def _job_name(revision: RevisionRecord, trigger: str) -> str:
    full_name = f"{revision.key.object_name}-{_slug(trigger)}"
    if len(full_name) <= _MAX_NAME_LENGTH and _slug(trigger) == trigger:
        return full_name
    digest = hashlib.sha256(f"{revision.key.name}/{trigger}".encode()).hexdigest()[:8]
    return f"{full_name[: _MAX_NAME_LENGTH - len(digest) - 1].rstrip('-')}-{digest}"


def _slug(trigger: str) -> str:
    """Return the name of a trigger in the characters that names of objects allow."""
    return re.sub(r"[^a-z0-9]+", "-", trigger.lower()).strip("-")[:63].rstrip("-") or "cron"

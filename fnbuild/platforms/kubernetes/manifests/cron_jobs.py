"""CronJobs of cron triggers, where they are asked for.

Cron triggers run inside of the processor by default, in every replica. With Nuclio's
`cronTriggerCreationMode: kube` the cluster calls the function instead, once for all replicas
(pkg/platform/kube/functionres/lazy.go: generateCronTriggerCronJobSpec), here by the function's own
image: no other has to be fetched.
"""

from __future__ import annotations

import hashlib
import json
import os
import re

from fnbuild.errors import InputError
from fnbuild.function.types import Function, Raw, Trigger
from fnbuild.platforms.kubeclient.kinds import Kind
from fnbuild.platforms.kubernetes.labels import FUNCTION, MANAGED_BY, PROJECT, RevisionRecord
from fnbuild.platforms.kubernetes.manifests import pods
from fnbuild.platforms.kubernetes.manifests.pods import HTTP_PORT, placement, pull_policy
from fnbuild.platforms.kubernetes.manifests.scaling import replica_bounds

CREATION_MODE_VARIABLE = "NUCLIO_CRON_TRIGGER_CREATION_MODE"
"""For functions that do not say: `kube` makes CronJobs, `processor` leaves the triggers to pods."""

COMPONENT = "nuclio.io/component"
TRIGGER = "nuclio.io/function-cron-trigger-name"
_JOB_POD = "nuclio.io/function-cron-job-pod"
_MAX_NAME_LENGTH = 52
"""Of a CronJob: Kubernetes appends to it for the names of jobs and pods."""
_DEFAULT_BACKOFF_LIMIT = 2
_REQUESTS = {"cpu": "25m", "memory": "1Mi"}


def uses_cron_jobs(function: Function) -> bool:
    """Whether CronJobs run the function's cron triggers."""
    given = function.spec.platform.attributes.get("cronTriggerCreationMode")
    return (given or os.environ.get(CREATION_MODE_VARIABLE)) == "kube" and bool(
        cron_triggers(function)
    )


def cron_triggers(function: Function) -> dict[str, Trigger]:
    return {name: one for name, one in function.spec.triggers.items() if one.kind == "cron"}


def cron_jobs(made: RevisionRecord, function: Function, kind: Kind, pull_secret: str) -> list[Raw]:
    """One for each cron trigger, in the form of a kind. `InputError` where it cannot work."""
    if not uses_cron_jobs(function):
        return []
    if function.http_trigger() is None:
        raise InputError(
            "CronJobs call the function by HTTP, and it has no http trigger",
            hint="add one, or leave out cronTriggerCreationMode: the pods run the triggers then",
        )
    names = sorted(cron_triggers(function))
    return [_cron_job(made, function, kind, name, pull_secret) for name in names]


def _cron_job(
    made: RevisionRecord, function: Function, kind: Kind, name: str, pull_secret: str
) -> Raw:
    trigger = function.spec.triggers[name]
    attributes = {key.lower(): value for key, value in trigger.attributes.items()}
    metadata = made.metadata(name=_job_name(made, name))
    metadata["labels"] |= {COMPONENT: "cron-trigger", TRIGGER: _slug(name)}
    labels = made.labels()
    kept = (FUNCTION, PROJECT, MANAGED_BY)
    # Not those of the Service's selector: nobody shall send requests to such a pod.
    pod_labels = {key: labels[key] for key in kept} | {_JOB_POD: "true", TRIGGER: _slug(name)}
    template = {
        "metadata": {"labels": pod_labels},
        "spec": _job_pod(made, function, attributes.get("event"), pull_secret),
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
    return {"apiVersion": kind.api, "kind": kind.name, "metadata": metadata, "spec": spec}


def _job_pod(made: RevisionRecord, function: Function, event: object, pull_secret: str) -> Raw:
    container: Raw = {
        "name": "function-invocator",
        "image": made.runs,
        "imagePullPolicy": pull_policy(made, function),
        "command": [
            "processor",
            f"--invoke=http://{made.key.object}:{HTTP_PORT}",
            *_event_flags(event),
        ],
        "resources": {"requests": dict(_REQUESTS)},
        "securityContext": pods.function_security_context(function),
    }
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        **placement(function, pull_secret),
        "securityContext": pods.pod_security_context(function),
        "containers": [container],
    }


def _event_flags(event: object) -> list[str]:
    """The event as flags: text as it is, anything else as JSON, as the processor itself does."""
    given = event if isinstance(event, dict) else {}
    values = {key.lower(): one for key, one in given.items()}
    headers = {str(name): str(one) for name, one in (values.get("headers") or {}).items()}
    body = values.get("body")
    if isinstance(body, dict | list):
        if not any(name.lower() == "content-type" for name in headers):
            headers["Content-Type"] = "application/json"
        body = json.dumps(body)
    headers["x-nuclio-invoke-trigger"] = "cron"
    flags = [f"--method={values['method']}"] if values.get("method") else []
    flags += [f"--header={name}={one}" for name, one in headers.items()]
    return [*flags, f"--body={body}"] if body is not None else flags


def _schedule(name: str, attributes: Raw) -> str:
    """Five fields, or Go's `@every`; Kubernetes does not know seconds."""
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


def _job_name(made: RevisionRecord, trigger: str) -> str:
    whole = f"{made.key.object}-{_slug(trigger)}"
    if len(whole) <= _MAX_NAME_LENGTH and _slug(trigger) == trigger:
        return whole
    mark = hashlib.sha256(f"{made.key.name}/{trigger}".encode()).hexdigest()[:8]
    return f"{whole[: _MAX_NAME_LENGTH - len(mark) - 1].rstrip('-')}-{mark}"


def _slug(trigger: str) -> str:
    """A trigger's name as a part of other names, which have fewer letters."""
    return re.sub(r"[^a-z0-9]+", "-", trigger.lower()).strip("-")[:63].rstrip("-") or "cron"

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
from fnbuild.platforms.cluster.kinds import Kind
from fnbuild.platforms.kube import hardening
from fnbuild.platforms.kube.labels import FUNCTION, MANAGED_BY, PROJECT, Made
from fnbuild.platforms.kube.pods import HTTP_PORT, placement, pull_policy
from fnbuild.platforms.kube.scaling import bounds
from fnbuild.spec.types import Function, Raw, Trigger

MODE = "NUCLIO_CRON_TRIGGER_CREATION_MODE"
"""For functions that do not say: `kube` makes CronJobs, `processor` leaves the triggers to pods."""

COMPONENT = "nuclio.io/component"
TRIGGER = "nuclio.io/function-cron-trigger-name"
_POD = "nuclio.io/function-cron-job-pod"
_LONGEST_NAME = 52
"""Of a CronJob: Kubernetes appends to it for the names of jobs and pods."""
_BACKOFF = 2
_REQUESTS = {"cpu": "25m", "memory": "1Mi"}


def in_jobs(function: Function) -> bool:
    """Whether CronJobs run the function's cron triggers."""
    given = function.spec.platform.attributes.get("cronTriggerCreationMode")
    return (given or os.environ.get(MODE)) == "kube" and bool(triggers(function))


def triggers(function: Function) -> dict[str, Trigger]:
    return {name: one for name, one in function.spec.triggers.items() if one.kind == "cron"}


def cron_jobs(made: Made, function: Function, kind: Kind, pull_secret: str) -> list[Raw]:
    """One for each cron trigger, in the form of a kind. `InputError` where it cannot work."""
    if not in_jobs(function):
        return []
    if function.http_trigger() is None:
        raise InputError(
            "CronJobs call the function by HTTP, and it has no http trigger",
            hint="add one, or leave out cronTriggerCreationMode: the pods run the triggers then",
        )
    names = sorted(triggers(function))
    return [_cron_job(made, function, kind, name, pull_secret) for name in names]


def _cron_job(made: Made, function: Function, kind: Kind, name: str, pull_secret: str) -> Raw:
    trigger = function.spec.triggers[name]
    attributes = {key.lower(): value for key, value in trigger.attributes.items()}
    metadata = made.metadata(name=_name(made, name))
    metadata["labels"] |= {COMPONENT: "cron-trigger", TRIGGER: _word(name)}
    labels = made.labels()
    kept = (FUNCTION, PROJECT, MANAGED_BY)
    # Not those of the Service's selector: nobody shall send requests to such a pod.
    pod_labels = {key: labels[key] for key in kept} | {_POD: "true", TRIGGER: _word(name)}
    template = {
        "metadata": {"labels": pod_labels},
        "spec": _pod(made, function, attributes.get("event"), pull_secret),
    }
    backoff = attributes.get("jobbackofflimit") or _BACKOFF
    spec: Raw = {
        "schedule": _schedule(name, attributes),
        "concurrencyPolicy": str(attributes.get("concurrencypolicy") or "Forbid").capitalize(),
        "suspend": bounds(function) == (0, 0),
        "successfulJobsHistoryLimit": 1,
        "failedJobsHistoryLimit": 1,
        "jobTemplate": {"spec": {"backoffLimit": backoff, "template": template}},
    }
    return {"apiVersion": kind.api, "kind": kind.name, "metadata": metadata, "spec": spec}


def _pod(made: Made, function: Function, event: object, pull_secret: str) -> Raw:
    container: Raw = {
        "name": "function-invocator",
        "image": made.runs,
        "imagePullPolicy": pull_policy(made, function),
        "command": ["processor", f"--invoke=http://{made.key.object}:{HTTP_PORT}", *_event(event)],
        "resources": {"requests": dict(_REQUESTS)},
        "securityContext": hardening.of_function(function),
    }
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        **placement(function, pull_secret),
        "securityContext": hardening.of_pod(function),
        "containers": [container],
    }


def _event(event: object) -> list[str]:
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


def _name(made: Made, trigger: str) -> str:
    whole = f"{made.key.object}-{_word(trigger)}"
    if len(whole) <= _LONGEST_NAME and _word(trigger) == trigger:
        return whole
    mark = hashlib.sha256(f"{made.key.name}/{trigger}".encode()).hexdigest()[:8]
    return f"{whole[: _LONGEST_NAME - len(mark) - 1].rstrip('-')}-{mark}"


def _word(trigger: str) -> str:
    """A trigger's name as a part of other names, which have fewer letters."""
    return re.sub(r"[^a-z0-9]+", "-", trigger.lower()).strip("-")[:63].rstrip("-") or "cron"

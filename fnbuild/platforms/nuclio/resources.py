"""Nuclio through its resources in a cluster: NuclioFunction and NuclioProject.

Its controller acts on a function whose state is `waitingForResourceConfiguration`, and writes what
came of it into the status (pkg/platform/kube/controller/nucliofunction.go). No dashboard is needed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Event
from typing import Any
from urllib.parse import urlsplit

from fnbuild.errors import ConflictError, FnbuildError, PlatformError, UnavailableError
from fnbuild.platforms import Deployment, LogRecord, Project, Statistics, objects
from fnbuild.platforms.cluster import lastwords, logs
from fnbuild.platforms.cluster.api import MANAGER, Cluster
from fnbuild.platforms.cluster.faults import ForbiddenError
from fnbuild.platforms.cluster.forward import forwarded
from fnbuild.platforms.cluster.kinds import DEPLOYMENT, NUCLIO_FUNCTION, NUCLIO_PROJECT, POD
from fnbuild.platforms.keys import Key
from fnbuild.platforms.nuclio import reaching
from fnbuild.platforms.nuclio.records import (
    FUNCTION_LABEL,
    SKIP,
    WAITING,
    metadata_of,
    state_of,
    status_of,
)
from fnbuild.platforms.processors import ADMIN_PORT
from fnbuild.platforms.statistics import parsed
from fnbuild.spec.types import Raw

_HASH = "imageHash"
_HASH_OF_PODS = "nuclio.io/image-hash"
# What stays in the status of a function that is deployed again, as with Nuclio's own deployer.
_KEPT_STATUS = ("httpPort", "internalInvocationUrls", "externalInvocationUrls", "containerImage")
_HARMLESS = ("ContainerCreating", "PodInitializing")


class Resources:
    """A door; see `doors.Door`."""

    keeps_labels = False
    host = ""
    here = False

    def __init__(self, cluster: Cluster):
        self.cluster = cluster
        self.place = f"Nuclio in the cluster {cluster.context or cluster.server}"

    def check(self) -> None:
        if not self.cluster.serves(NUCLIO_FUNCTION):
            raise UnavailableError(
                f"the cluster {self.cluster.context or self.cluster.server} has no Nuclio: it"
                f" serves no {NUCLIO_FUNCTION.plural} of {NUCLIO_FUNCTION.api}",
                hint="install Nuclio, or deploy without it: `--platform kube`",
            )

    # Functions

    def functions(self, namespace: str) -> list[Raw]:
        self.check()
        found = self.cluster.list(NUCLIO_FUNCTION, namespace)
        return sorted(found, key=lambda one: str(metadata_of(one).get("name")))

    def function(self, key: Key) -> Raw | None:
        self.check()
        return self.cluster.get(NUCLIO_FUNCTION, *key)

    def create(self, function: Raw) -> None:
        self._refuse_other_platform(metadata_of(function))
        self._make(function, {"state": WAITING})

    def _refuse_other_platform(self, metadata: Raw) -> None:
        """Nuclio's controller would take over what has the same name."""
        key = Key(metadata["namespace"], metadata["name"])
        labels = metadata_of(self._deployment(key) or {}).get("labels") or {}
        if labels.get("app.kubernetes.io/managed-by") == MANAGER:
            raise ConflictError(
                f"{key.name} runs in namespace {key.namespace} without Nuclio already",
                hint=f"delete it there first: `fnbuild delete function {key.name} --platform kube`",
            )

    def add_imported(self, function: Raw) -> None:
        self._make(function, {"state": "imported"})

    def _make(self, function: Raw, status: Raw) -> None:
        spec = _stamped(function.get("spec") or {})
        made = self.cluster.create({**_as_resource(function), "spec": spec, "status": status})
        if state_of(made) != status["state"]:
            raise PlatformError(
                "the cluster does not keep the status of a new NuclioFunction, so no controller"
                " would act on it",
                hint="this Nuclio is another than the known ones; its dashboard may do:"
                " FNBUILD_NUCLIO_URL names it",
            )

    def replace(self, stored: Raw, function: Raw) -> None:
        metadata = {
            **metadata_of(stored),
            "labels": metadata_of(function).get("labels") or {},
            "annotations": metadata_of(function).get("annotations") or {},
        }
        self._put(stored, {**_as_resource(function), "metadata": metadata})

    def redeploy(self, stored: Raw) -> None:
        metadata = dict(metadata_of(stored))
        annotations = metadata.get("annotations") or {}
        metadata["annotations"] = {k: text for k, text in annotations.items() if k not in SKIP}
        self._put(stored, {**_as_resource(stored), "metadata": metadata})

    def _put(self, stored: Raw, function: Raw) -> None:
        kept = {key: one for key, one in status_of(stored).items() if key in _KEPT_STATUS}
        self.cluster.replace(
            {
                **function,
                "spec": _stamped(function.get("spec") or {}),
                "status": {**kept, "state": WAITING},
            }
        )

    def delete(self, key: Key) -> None:
        self.cluster.delete(NUCLIO_FUNCTION, *key)

    # Projects

    def projects(self, namespace: str) -> list[Project]:
        self.check()
        return [
            objects.project_of(one, metadata_of(one)["name"], namespace)
            for one in self.cluster.list(NUCLIO_PROJECT, namespace)
        ]

    def create_project(self, project: Project) -> None:
        kind = {"apiVersion": NUCLIO_PROJECT.api, "kind": NUCLIO_PROJECT.name}
        self.cluster.create({**kind, **objects.project_object(project)})

    def update_project(self, project: Project) -> None:
        found = self.cluster.get(NUCLIO_PROJECT, project.namespace, project.name)
        if found is not None:
            # As Nuclio does (pkg/platform/abstract/project/internalc/kube).
            texts = {"labels": project.labels, "annotations": project.annotations}
            spec = {"description": project.description, "owner": project.owner}
            metadata = {**metadata_of(found), **texts}
            spec = {**(found.get("spec") or {}), **spec}
            self.cluster.replace({**found, "metadata": metadata, "spec": spec})

    def delete_project(self, namespace: str, name: str) -> None:
        self.cluster.delete(NUCLIO_PROJECT, namespace, name)

    # What runs

    def replicas(self, namespace: str, name: str = "") -> Mapping[str, tuple[int, int]]:
        """Of the Deployments that the controller has made."""
        if name:
            one = self._deployment(Key(namespace, name))
            found = [one] if one else []
        else:
            try:
                found = self.cluster.list(DEPLOYMENT, namespace, labels="nuclio.io/class=function")
            except ForbiddenError:
                found = []
        return {_function_of(one): _replicas(one) for one in found}

    def _deployment(self, key: Key) -> Raw | None:
        try:
            return self.cluster.get(DEPLOYMENT, key.namespace, f"nuclio-{key.name}")
        except ForbiddenError:
            return None

    def unserved(self, stored: Raw) -> bool:
        """Whether no Deployment has what the function waits for."""
        metadata, spec = metadata_of(stored), stored.get("spec") or {}
        try:
            found = self.cluster.get(
                DEPLOYMENT, metadata["namespace"], f"nuclio-{metadata['name']}"
            )
        except ForbiddenError:
            return False
        if found is None:
            return True
        template = found["spec"]["template"]
        stamp = (template["metadata"].get("annotations") or {}).get(_HASH_OF_PODS)
        images = [one.get("image") for one in template["spec"].get("containers") or []]
        return stamp != spec.get(_HASH) if stamp else spec.get("image") not in images

    def _pods(self, key: Key) -> list[Raw]:
        """The pods of a function, the newest first."""
        found = self.cluster.list(POD, key.namespace, labels=f"{FUNCTION_LABEL}={key.name}")
        return sorted(found, key=_made_at, reverse=True)

    def replica_names(self, key: Key) -> list[str]:
        return [str(metadata_of(pod)["name"]) for pod in self._pods(key)]

    def statistics(self, key: Key) -> dict[str, Statistics]:
        """Of pods with our images; Nuclio's own processors have their metrics elsewhere."""
        found = {}
        for pod in self.replica_names(key):
            body = self.cluster.proxy(key.namespace, pod, ADMIN_PORT, "/metrics")
            if body and (statistics := parsed(body.decode(errors="replace"))):
                found[pod] = statistics
        return found

    def obstacle(self, key: Key) -> str:
        try:
            pods = self._pods(key)
        except ForbiddenError:
            return ""
        newest = [pod for pod in pods if _stamp(pod) == _stamp(pods[0])]
        words = (_standing(pod) for pod in newest if not metadata_of(pod).get("deletionTimestamp"))
        return next((text for text in words if text), "")

    def last_words(self, key: Key, since: float) -> str:
        try:
            newest = [str(metadata_of(pod)["name"]) for pod in self._pods(key)[:1]]
            words = [
                lastwords.of(self.cluster, key.namespace, pod, since=since, only_errors=True)
                for pod in newest
            ]
        except FnbuildError:
            return ""
        return "".join(words)

    def logs(
        self,
        key: Key,
        *,
        follow: bool,
        since: float | None,
        tail: int | None,
        until: Event | None = None,
    ) -> Iterator[LogRecord]:
        def pods() -> list[str] | None:
            if self.cluster.get(NUCLIO_FUNCTION, *key) is None:
                return None
            return self.replica_names(key)

        return logs.read(
            self.cluster,
            key.namespace,
            pods,
            follow=follow,
            since=since,
            tail=tail,
            until=until,
        )

    @contextmanager
    def reach(self, deployment: Deployment) -> Iterator[str]:
        host = urlsplit(self.cluster.server).hostname or ""
        if url := reaching.direct(deployment, [host]):
            yield url
            return
        key = Key(deployment.function.metadata.namespace, deployment.name)
        ready = [pod for pod in self._pods(key) if _is_ready(pod)]
        if not ready:
            yield ""
            return
        with forwarded(self.cluster, key.namespace, metadata_of(ready[0])["name"]) as url:
            yield url


def _as_resource(function: Raw) -> Raw:
    return {
        **function,
        "apiVersion": NUCLIO_FUNCTION.api,
        "kind": NUCLIO_FUNCTION.name,
    }


def _stamped(spec: Raw) -> Raw:
    """With what makes pods start anew, and what the dashboard fills in before the controller."""
    return {"version": -1, "alias": "latest", **spec, _HASH: str(time.time_ns())}


def _function_of(deployment: Raw) -> str:
    labels = metadata_of(deployment).get("labels") or {}
    return str(labels.get(FUNCTION_LABEL, ""))


def _replicas(deployment: Raw) -> tuple[int, int]:
    wanted = (deployment.get("spec") or {}).get("replicas")
    available = status_of(deployment).get("availableReplicas") or 0
    return int(available), 1 if wanted is None else int(wanted)


def _made_at(pod: Raw) -> str:
    return str(metadata_of(pod).get("creationTimestamp") or "")


def _stamp(pod: Raw) -> str:
    """Which order a pod is of."""
    return str((metadata_of(pod).get("annotations") or {}).get(_HASH_OF_PODS, ""))


def _is_ready(pod: Raw) -> bool:
    return not metadata_of(pod).get("deletionTimestamp") and any(
        one.get("type") == "Ready" and one.get("status") == "True"
        for one in status_of(pod).get("conditions") or []
    )


def _standing(pod: Raw) -> str:
    """Why a pod does not run, in the cluster's own words; "" when it may be well."""
    status = status_of(pod)
    for one in status.get("conditions") or []:
        if one.get("type") == "PodScheduled" and one.get("status") == "False":
            return f"no node takes the pod: {one.get('message') or one.get('reason')}"
    for container in status.get("containerStatuses") or []:
        waiting: dict[str, Any] = (container.get("state") or {}).get("waiting") or {}
        reason = waiting.get("reason") or ""
        if reason and reason not in _HARMLESS:
            said = waiting.get("message")
            return f"{reason}: {said}" if said else str(reason)
    return ""

"""Revisions in the record of a function."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from fnbuild.errors import NotFoundError
from fnbuild.platforms import revision_records
from fnbuild.platforms.kubeclient.objects import KubeDeployment
from fnbuild.platforms.kubernetes import records
from fnbuild.platforms.kubernetes.inventory import FunctionObjects
from fnbuild.platforms.kubernetes.labels import KubernetesKey
from fnbuild.platforms.kubernetes.revision_record import RevisionRecord

KEY = KubernetesKey("vision", "greeter")


def revision(number: int, note: str = "") -> RevisionRecord:
    config = {"metadata": {"name": "greeter"}, "spec": {"description": f"number {number}"}}
    moment = f"2026-01-0{number}T00:00:00Z"
    return RevisionRecord(KEY, number, moment, "c0de", "i", "", config, number, note=note)


def function_objects(*revisions: RevisionRecord, **more: str) -> FunctionObjects:
    data = {str(item.number): item.to_json() for item in revisions}
    metadata = {"name": "nuclio-greeter", "labels": {"fnbuild.io/record": "revisions"}}
    record = {"kind": "ConfigMap", "metadata": metadata, "data": data | more}
    return FunctionObjects(KEY, config_map=record)


def test_revisions_are_read_newest_first() -> None:
    failed = revision(2).with_failure("no weights\nTraceback")
    objects = function_objects(revision(1), failed, revision(3, note="rollback to revision 1"))
    assert records.all_revisions(objects) == [
        revision(3, note="rollback to revision 1"),
        failed,
        revision(1),
    ]
    history = records.to_revisions(objects)
    assert [(item.number, item.state, item.message) for item in history] == [
        (3, "superseded", "rollback to revision 1"),
        (2, "failed", "no weights\nTraceback"),
        (1, "superseded", ""),
    ]
    assert history[2].function.spec.description == "number 1"


def deployment_of(
    number: int, *, available: int, updated: int = 1, progressing: str = "True"
) -> dict[str, Any]:
    """Return a Deployment of the revision with numbers of available and updated pods."""
    record = revision(number)
    return {
        "kind": "Deployment",
        "metadata": record.metadata(record.annotations()) | {"generation": 1},
        "spec": {
            "replicas": 1,
            "template": {
                "metadata": {},
                "spec": {"containers": [{"name": "nuclio", "image": "i"}]},
            },
        },
        "status": {
            "observedGeneration": 1,
            "replicas": 1 + (available > updated),
            "updatedReplicas": updated,
            "availableReplicas": available,
            "conditions": [{"type": "Progressing", "status": progressing}],
        },
    }


def states(objects: FunctionObjects) -> list[str]:
    return [item.state for item in records.to_revisions(objects)]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({"available": 1}, ["active", "superseded"]),
        # The old pod serves until the new one is ready.
        ({"available": 1, "updated": 0}, ["pending", "active"]),
        ({"available": 0}, ["pending", "superseded"]),
        ({"available": 1, "updated": 0, "progressing": "False"}, ["failed", "active"]),
        ({"available": 0, "progressing": "False"}, ["failed", "superseded"]),
    ],
)
def test_an_unrecorded_revision_is_active_once_it_was_ready(
    status: dict[str, Any], expected: list[str]
) -> None:
    objects = function_objects(revision(1))
    objects.deployment = KubeDeployment(deployment_of(2, **status))
    assert states(objects) == expected


def test_the_last_ready_revision_stays_active() -> None:
    objects = function_objects(revision(1), revision(2))
    objects.deployment = KubeDeployment(deployment_of(2, available=0))
    assert states(objects) == ["active", "superseded"]
    objects = function_objects(revision(1), revision(2).with_failure("no weights"))
    objects.deployment = KubeDeployment(deployment_of(2, available=1, updated=0))
    assert states(objects) == ["failed", "active"]


def test_a_running_deploy_is_pending() -> None:
    objects = function_objects(revision(1))
    assert objects.config_map is not None
    lease = json.dumps({"owner": "elsewhere", "until": time.time() + 60})
    objects.config_map["metadata"]["annotations"] = {"fnbuild.io/deploying": lease}
    objects.deployment = KubeDeployment(deployment_of(2, available=0, progressing="False"))
    assert states(objects) == ["pending", "superseded"]


def test_unreadable_revisions_do_not_hide_others() -> None:
    objects = function_objects(revision(1), **{"2": "{", "3": "[]", "notes": "mine"})
    assert records.all_revisions(objects) == [revision(1)]
    assert records.all_revisions(FunctionObjects(KEY)) == []


def test_an_unknown_revision_is_an_error() -> None:
    with pytest.raises(NotFoundError, match="no revision 9") as failure:
        records.history_of(function_objects(revision(1), revision(2))).find(9)
    assert failure.value.hint == "recorded: 2, 1"


def test_functions_that_never_served_are_detected() -> None:
    failed = revision(1).with_failure("no weights")
    assert records.never_served(function_objects(failed))
    assert not records.never_served(function_objects(failed, revision(2)))
    assert not records.never_served(FunctionObjects(KEY))


def test_the_failure_log_of_a_function_without_pods() -> None:
    failed = revision(2).with_failure("the deploy was interrupted")
    [record] = revision_records.failure_log(
        records.all_revisions(function_objects(revision(1), failed))
    )
    assert (record.level, record.message) == ("error", "the deploy was interrupted")
    assert (
        list(
            revision_records.failure_log(
                records.all_revisions(function_objects(failed, revision(3)))
            )
        )
        == []
    )

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


def made(number: int, note: str = "") -> RevisionRecord:
    config = {"metadata": {"name": "greeter"}, "spec": {"description": f"number {number}"}}
    moment = f"2026-01-0{number}T00:00:00Z"
    return RevisionRecord(KEY, number, moment, "c0de", "i", "", config, number, note=note)


def known(*some: RevisionRecord, **more: str) -> FunctionObjects:
    data = {str(one.number): one.to_json() for one in some}
    about = {"name": "nuclio-greeter", "labels": {"fnbuild.io/record": "revisions"}}
    record = {"kind": "ConfigMap", "metadata": about, "data": data | more}
    return FunctionObjects(KEY, config_map=record)


def test_revisions_are_read_newest_first() -> None:
    failed = made(2).with_failure("no weights\nTraceback")
    some = known(made(1), failed, made(3, note="rollback to revision 1"))
    assert records.all_revisions(some) == [made(3, note="rollback to revision 1"), failed, made(1)]
    shown = records.revision_history(some)
    assert [(one.number, one.state, one.message) for one in shown] == [
        (3, "superseded", "rollback to revision 1"),
        (2, "failed", "no weights\nTraceback"),
        (1, "superseded", ""),
    ]
    assert shown[2].function.spec.description == "number 1"


def deployed(
    number: int, *, available: int, updated: int = 1, progressing: str = "True"
) -> dict[str, Any]:
    """A Deployment of that revision, of which so many pods are available and of its template."""
    one = made(number)
    return {
        "kind": "Deployment",
        "metadata": one.metadata(one.annotations()) | {"generation": 1},
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


def states(some: FunctionObjects) -> list[str]:
    return [one.state for one in records.revision_history(some)]


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
def test_a_revision_that_is_not_on_record_is_active_once_it_was_ready(
    status: dict[str, Any], expected: list[str]
) -> None:
    some = known(made(1))
    some.deployment = KubeDeployment(deployed(2, **status))
    assert states(some) == expected


def test_a_revision_that_was_ready_stays_active_and_one_that_failed_does_not() -> None:
    some = known(made(1), made(2))
    some.deployment = KubeDeployment(deployed(2, available=0))
    assert states(some) == ["active", "superseded"]
    some = known(made(1), made(2).with_failure("no weights"))
    some.deployment = KubeDeployment(deployed(2, available=1, updated=0))
    assert states(some) == ["failed", "active"]


def test_a_deploy_under_way_is_pending_whatever_the_cluster_says() -> None:
    some = known(made(1))
    assert some.config_map is not None
    until = json.dumps({"owner": "elsewhere", "until": time.time() + 60})
    some.config_map["metadata"]["annotations"] = {"fnbuild.io/deploying": until}
    some.deployment = KubeDeployment(deployed(2, available=0, progressing="False"))
    assert states(some) == ["pending", "superseded"]


def test_what_nobody_can_read_hides_nothing() -> None:
    some = known(made(1), **{"2": "{", "3": "[]", "notes": "mine"})
    assert records.all_revisions(some) == [made(1)]
    assert records.all_revisions(FunctionObjects(KEY)) == []


def test_a_revision_that_is_not_on_record() -> None:
    with pytest.raises(NotFoundError, match="no revision 9") as failure:
        records.function_records(known(made(1), made(2))).find(9)
    assert failure.value.hint == "recorded: 2, 1"


def test_whether_anything_ever_served() -> None:
    failed = made(1).with_failure("no weights")
    assert records.never_served(known(failed))
    assert not records.never_served(known(failed, made(2)))
    assert not records.never_served(FunctionObjects(KEY))


def test_why_a_function_without_pods_failed() -> None:
    failed = made(2).with_failure("the deploy was interrupted")
    [record] = revision_records.failure_log(records.all_revisions(known(made(1), failed)))
    assert (record.level, record.message) == ("error", "the deploy was interrupted")
    assert list(revision_records.failure_log(records.all_revisions(known(failed, made(3))))) == []

"""The status of InferenceServices as KServe writes it."""

from __future__ import annotations

from typing import Any

from fnbuild.platforms import ServiceStatus
from fnbuild.platforms.kserve.service_status import InferenceService, is_rolled_out
from fnbuild.platforms.kubeclient.objects import KubeDeployment

READY = {"type": "Ready", "status": "True"}


def service(status: dict[str, Any], generation: int = 1, **spec: Any) -> InferenceService:
    metadata = {
        "name": "iris",
        "generation": generation,
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    return InferenceService({"metadata": metadata, "spec": {"predictor": {}, **spec}} | {
        "status": status
    })  # fmt: skip


def deployment(*, updated: int) -> KubeDeployment:
    status = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": updated,
              "availableReplicas": 1}  # fmt: skip
    return KubeDeployment(
        {"metadata": {"generation": 1}, "spec": {"replicas": 1}, "status": status}
    )


def test_columns_are_those_of_kserves_list() -> None:
    status = {
        "url": "http://iris.ns.example.com",
        "conditions": [READY],
        "components": {
            "predictor": {
                "latestReadyRevision": "iris-predictor-00002",
                "previousRolledoutRevision": "iris-predictor-00001",
                "traffic": [
                    {"latestRevision": True, "percent": 20},
                    {"revisionName": "iris-predictor-00001", "percent": 80, "tag": "prev"},
                ],
            }
        },
    }
    iris = service(status, predictor={"model": {}})
    assert iris.host == "iris.ns.example.com"
    assert iris.service_status() == ServiceStatus(
        "http://iris.ns.example.com",
        "True",
        "iris-predictor-00002",
        20,
        "iris-predictor-00001",
        80,
        "2026-01-01T00:00:00Z",
    )


def test_a_canary_in_standard_mode_has_its_share() -> None:
    iris = service({"conditions": [READY]}, canary=[{"trafficPercent": 30}])
    columns = iris.service_status()
    assert (columns.latest_traffic, columns.previous_traffic) == (30, 70)


def test_a_new_service_is_unknown_and_has_no_url() -> None:
    columns = service({}).service_status()
    assert (columns.url, columns.ready, columns.latest_traffic) == ("", "Unknown", 0)


def test_a_service_is_rolled_out_when_the_current_spec_serves() -> None:
    ready = {"conditions": [READY], "observedGeneration": 2}
    assert is_rolled_out(service(ready, 2), [deployment(updated=1)])
    assert not is_rolled_out(service(ready, 3), [])
    # In Standard mode the condition stays true while old pods are replaced.
    assert not is_rolled_out(service(ready, 2), [deployment(updated=0)])
    revisions = {"latestCreatedRevision": "b", "latestReadyRevision": "a"}
    pending = {**ready, "components": {"predictor": revisions}}
    assert not is_rolled_out(service(pending, 2, predictor={"model": {}}), [])


def test_failures_that_kserve_reports_have_a_remedy() -> None:
    info = {"reason": "NoSupportingRuntime", "message": "no runtime found"}
    blocked = {"modelStatus": {"transitionStatus": "InvalidSpec", "lastFailureInfo": info}}
    failure = service(blocked).failure
    assert failure is not None
    assert failure.text == "NoSupportingRuntime: no runtime found"
    assert failure.hint
    assert service({}).failure is None
    earlier = {"modelStatus": {"transitionStatus": "UpToDate", "lastFailureInfo": info}}
    assert service(earlier).failure is None

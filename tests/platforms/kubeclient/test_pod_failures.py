"""Failures of pods that last."""

from __future__ import annotations

from typing import Any

import pytest

from fnbuild.platforms.kubeclient.objects import Pod
from fnbuild.platforms.kubeclient.pod_failures import pod_failure


def pod(state: dict[str, Any], *, init: bool = False, **fields: Any) -> Pod:
    status = {"name": "server", "state": state, **fields}
    key = "initContainerStatuses" if init else "containerStatuses"
    return Pod({"metadata": {"name": "p"}, "status": {key: [status]}})


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ({"waiting": {"reason": "ErrImagePull", "message": "not found"}}, "not found"),
        ({"waiting": {"reason": "CreateContainerConfigError"}}, "cannot start server"),
        ({"terminated": {"exitCode": 3}}, "exit status 3"),
        ({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}, "out of memory"),
    ],
)
def test_pods_that_cannot_recover_are_failures(state: dict[str, Any], text: str) -> None:
    failure = pod_failure([pod(state)])
    assert failure is not None
    assert text in failure.text


def test_pods_that_start_or_run_are_no_failures() -> None:
    assert pod_failure([pod({"waiting": {"reason": "ContainerCreating"}})]) is None
    assert pod_failure([pod({"terminated": {"exitCode": 0}}, init=True)]) is None
    ended = {"lastState": {"terminated": {"exitCode": 1}}}
    assert pod_failure([pod({"running": {}}, **ended)]) is None


def test_a_failed_download_names_its_container() -> None:
    failed = pod({"terminated": {"exitCode": 1}}, init=True)
    failed["status"]["initContainerStatuses"][0]["name"] = "storage-initializer"
    failure = pod_failure([failed])
    assert failure is not None
    assert failure.container == "storage-initializer"

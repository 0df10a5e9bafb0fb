"""Replacement of pods with GPUs: new pods start before the old ones stop if nodes have room."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from fnbuild.errors import NotReadyError, PreconditionError
from fnbuild.function.quantities import parse_quantity
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubernetes import labels
from fnbuild.platforms.kubernetes.diagnosis import queries
from fnbuild.platforms.settings import GPU_RESOURCE
from tests.cluster import gpus_alone, invoke
from tests.platforms.kubernetes.author import Author

pytestmark = pytest.mark.system


def gpus(count: int) -> dict[str, Any]:
    return {"resources": {"limits": {GPU_RESOURCE: str(count)}}}


@pytest.fixture
def gpu_count(author: Author) -> Iterator[int]:
    """The number of GPUs that a node offers; they may be simulated."""
    nodes = queries.list_nodes(author.platform.cluster) or []
    count = max(
        int(parse_quantity(str(node["status"]["allocatable"].get(GPU_RESOURCE, "0"))))
        for node in nodes
    )
    if count < 2:
        pytest.skip("no node of the cluster offers two GPUs")
    with gpus_alone(author.platform.cluster):
        yield count


def pod_names(author: Author) -> list[str]:
    return [pod["name"] for pod in author.deployment().details["pods"] if pod["state"] == "Ready"]


def strategy(author: Author) -> str:
    return str(author.live_deployment()["spec"]["strategy"]["type"])


def states(author: Author) -> list[str]:
    return [revision.state for revision in author.platform.revisions(author.namespace, "greeter")]


@contextmanager
def continuous_requests(address: str) -> Iterator[list[str]]:
    """Send requests during the block, and yield the list of errors."""
    stopped, errors = threading.Event(), list[str]()

    def call() -> None:
        host, _, port = address.rpartition(":")
        while not stopped.is_set():
            connection = http.client.HTTPConnection(host, int(port), timeout=10)
            try:
                connection.request("GET", "/")
                if (status := connection.getresponse().status) != 200:
                    errors.append(f"status {status}")
            except (OSError, http.client.HTTPException) as error:
                errors.append(repr(error))
            finally:
                connection.close()
            time.sleep(0.02)

    thread = threading.Thread(target=call)
    thread.start()
    try:
        yield errors
    finally:
        stopped.set()
        thread.join()


def test_an_unsatisfiable_limit_changes_nothing(author: Author, image: str, gpu_count: int) -> None:
    author.run(image, **gpus(1))
    before = pod_names(author)
    with pytest.raises(PreconditionError, match="cannot run, and nothing was changed") as refusal:
        author.run(image, **gpus(gpu_count + 97))
    assert f"no node has {gpu_count + 97} {GPU_RESOURCE}" in refusal.value.message
    assert f" offers {gpu_count}" in refusal.value.message
    assert "spec.resources.limits" in (refusal.value.hint or "")
    with pytest.raises(PreconditionError, match="no node has the label shelf=7") as refusal:
        author.run(image, nodeSelector={"shelf": "7"}, **gpus(1))
    assert "kubectl label node" in (refusal.value.hint or "")
    assert (pod_names(author), states(author)) == (before, ["active"])
    # A plan only has a warning.
    preview = author.plan(image, **gpus(gpu_count + 97))
    assert [
        warning
        for warning in preview.warnings
        if warning.startswith("a deploy would be refused now")
    ]
    # A refused first deploy leaves no objects.
    with pytest.raises(PreconditionError):
        author.run(image, name="other", **gpus(gpu_count + 97))
    record = author.platform.cluster.get(kinds.CONFIG_MAP, author.namespace, "nuclio-other")
    assert record is None


def test_the_new_pod_uses_a_free_gpu_while_the_old_one_runs(
    author: Author, image: str, gpu_count: int
) -> None:
    author.run(image, **gpus(1))
    address = author.deployment().external_urls[0]
    invoke(address)
    with continuous_requests(address) as errors:
        author.run(image, env={"WORD": "two"}, **gpus(1))
        assert invoke(address) == "two"
    assert errors == []
    assert not [line for line in author.progress if "waiting for the old pod" in line]
    # A restart by other means may not find a free GPU.
    assert strategy(author) == "Recreate"
    author.progress.clear()
    before = pod_names(author)
    author.run(image, env={"WORD": "two"}, **gpus(1))
    assert (author.progress[-1:], pod_names(author)) == (
        ["nothing has changed, and the function runs"],
        before,
    )


def test_code_is_imported_before_the_old_pod_stops(
    author: Author, image: str, gpu_count: int
) -> None:
    author.run(image, **gpus(gpu_count))
    before = pod_names(author)
    with pytest.raises(NotReadyError, match="No module named 'no_such_library'") as failure:
        author.run(image, env={"FAULT": "import"}, **gpus(gpu_count))
    assert "revision 2 of greeter did not become ready" in failure.value.message
    assert "Traceback" in (failure.value.detail or "")
    assert (failure.value.hint or "").startswith("revision 1 goes on serving")
    assert (pod_names(author), states(author)) == (before, ["failed", "active"])
    with pytest.raises(NotReadyError, match="fnbuild-test-nowhere"):
        author.run("127.0.0.1:5000/fnbuild-test-nowhere:1", **gpus(gpu_count))
    assert pod_names(author) == before
    assert strategy(author) == "Recreate"
    # An error that the lack of a GPU may explain is inconclusive.
    author.run(image, env={"FAULT": "no-gpu"}, **gpus(gpu_count))
    assert any("inconclusive" in line for line in author.progress)
    assert len(pod_names(author)) == 1
    assert pod_names(author) != before
    label = labels.TEMPORARY_POD_OF
    assert author.platform.cluster.list(kinds.POD, author.namespace, labels=label) == []

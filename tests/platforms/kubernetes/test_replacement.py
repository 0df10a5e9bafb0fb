"""Replacement of pods with GPUs: beside the old ones if nodes have room, else with a gap."""

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
from tests.cluster import ask, gpus_alone
from tests.platforms.kubernetes.author import Author

pytestmark = pytest.mark.system


def gpus(count: int) -> dict[str, Any]:
    return {"resources": {"limits": {GPU_RESOURCE: str(count)}}}


@pytest.fixture
def most(author: Author) -> Iterator[int]:
    """How many GPUs the node offers, be they real or not."""
    nodes = queries.list_nodes(author.platform.cluster) or []
    found = max(
        int(parse_quantity(str(node["status"]["allocatable"].get(GPU_RESOURCE, "0"))))
        for node in nodes
    )
    if found < 2:
        pytest.skip("no node of the cluster offers two GPUs")
    with gpus_alone(author.platform.cluster):
        yield found


def pod_names(author: Author) -> list[str]:
    return [pod["name"] for pod in author.shown().details["pods"] if pod["state"] == "Ready"]


def strategy(author: Author) -> str:
    return str(author.live()["spec"]["strategy"]["type"])


def states(author: Author) -> list[str]:
    return [revision.state for revision in author.platform.revisions(author.namespace, "greeter")]


@contextmanager
def callers(address: str) -> Iterator[list[str]]:
    """Ask all the time; the list gets what went wrong."""
    over, wrong = threading.Event(), list[str]()

    def call() -> None:
        host, _, port = address.rpartition(":")
        while not over.is_set():
            connection = http.client.HTTPConnection(host, int(port), timeout=10)
            try:
                connection.request("GET", "/")
                if (status := connection.getresponse().status) != 200:
                    wrong.append(f"status {status}")
            except (OSError, http.client.HTTPException) as error:
                wrong.append(repr(error))
            finally:
                connection.close()
            time.sleep(0.02)

    thread = threading.Thread(target=call)
    thread.start()
    try:
        yield wrong
    finally:
        over.set()
        thread.join()


def test_a_limit_that_no_node_has_changes_nothing(author: Author, image: str, most: int) -> None:
    author.run(image, **gpus(1))
    before = pod_names(author)
    with pytest.raises(PreconditionError, match="cannot run, and nothing was changed") as refusal:
        author.run(image, **gpus(most + 97))
    assert f"no node has {most + 97} {GPU_RESOURCE}" in refusal.value.message
    assert f" offers {most}" in refusal.value.message
    assert "spec.resources.limits" in (refusal.value.hint or "")
    with pytest.raises(PreconditionError, match="no node has the label shelf=7") as refusal:
        author.run(image, nodeSelector={"shelf": "7"}, **gpus(1))
    assert "kubectl label node" in (refusal.value.hint or "")
    assert (pod_names(author), states(author)) == (before, ["active"])
    # Who only looks is warned.
    preview = author.planned(image, **gpus(most + 97))
    assert [
        warning
        for warning in preview.warnings
        if warning.startswith("a deploy would be refused now")
    ]
    # A function that was never there leaves nothing behind.
    with pytest.raises(PreconditionError):
        author.run(image, name="other", **gpus(most + 97))
    record = author.platform.cluster.get(kinds.CONFIG_MAP, author.namespace, "nuclio-other")
    assert record is None


def test_with_a_free_gpu_the_new_pod_starts_beside_the_old_one(
    author: Author, image: str, most: int
) -> None:
    author.run(image, **gpus(1))
    address = author.shown().external_urls[0]
    ask(address)
    with callers(address) as wrong:
        author.run(image, env={"WORD": "two"}, **gpus(1))
        assert ask(address) == "two"
    assert wrong == []
    assert not [line for line in author.progress if "waiting for the old pod" in line]
    # For whoever restarts it otherwise there may be no free GPU.
    assert strategy(author) == "Recreate"
    author.progress.clear()
    before = pod_names(author)
    author.run(image, env={"WORD": "two"}, **gpus(1))
    assert (author.progress[-1:], pod_names(author)) == (
        ["nothing has changed, and the function runs"],
        before,
    )


def test_code_that_cannot_be_imported_is_found_while_the_old_pod_serves(
    author: Author, image: str, most: int
) -> None:
    author.run(image, **gpus(most))
    before = pod_names(author)
    with pytest.raises(NotReadyError, match="No module named 'no_such_library'") as failure:
        author.run(image, env={"FAULT": "import"}, **gpus(most))
    assert "revision 2 of greeter did not become ready" in failure.value.message
    assert "Traceback" in (failure.value.detail or "")
    assert (failure.value.hint or "").startswith("revision 1 goes on serving")
    assert (pod_names(author), states(author)) == (before, ["failed", "active"])
    with pytest.raises(NotReadyError, match="fnbuild-test-nowhere"):
        author.run("127.0.0.1:5000/fnbuild-test-nowhere:1", **gpus(most))
    assert pod_names(author) == before
    assert strategy(author) == "Recreate"
    # What only the lack of a GPU may explain, the start itself decides.
    author.run(image, env={"FAULT": "no-gpu"}, **gpus(most))
    assert any("inconclusive" in line for line in author.progress)
    assert len(pod_names(author)) == 1
    assert pod_names(author) != before
    label = labels.IMPORT_CHECK
    assert author.platform.cluster.list(kinds.POD, author.namespace, labels=label) == []

"""TorchServe on a real cluster: rollouts, the model store, tokens, replicas, errors."""

from __future__ import annotations

import json
import urllib.error
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fnbuild.bridges.torchserve.export import snapshot_settings
from fnbuild.errors import (
    BusyError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    NotReadyError,
    UnavailableError,
)
from fnbuild.platforms import ConnectOptions, Deployment, PlanOptions
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.commands import run_command
from fnbuild.platforms.torchserve.cluster.platform import ClusterPlatform
from fnbuild.runtime.torchserve import MANIFEST_PATH
from tests.cluster import RESOURCE_QUOTA, create, kubeconfig_of, node_address
from tests.engine import until
from tests.platforms.torchserve.cluster_author import (
    ClusterAuthor,
    busy_clients,
    cluster_author,
    post,
)

pytestmark = pytest.mark.system

DIGITS_STORE = "pvc://serving-model-pvc/digits"
BROKEN = "raise RuntimeError('the weights are missing')\n"


@pytest.fixture(scope="module")
def author(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterAuthor]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FNBUILD_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        with cluster_author(tmp_path_factory.mktemp("author")) as user:
            yield user


@pytest.fixture(scope="module")
def digits(author: ClusterAuthor) -> Deployment:
    """A function without tokens, which clients call through the Service."""
    return author.deploy("digits", "one", {"tokens": False, "keep": 1, "store": DIGITS_STORE})


def service_url(author: ClusterAuthor, deployment: Deployment) -> str:
    address = node_address(author.cluster)
    return f"http://{address}:{deployment.http_port}/predictions/{deployment.name}"


def test_no_request_is_lost_in_a_rollout_a_failed_one_and_a_rollback(
    author: ClusterAuthor, digits: Deployment
) -> None:
    assert (digits.state, digits.revision, digits.replicas) == ("ready", 1, (2, 2))
    settings = {"tokens": False, "keep": 1, "store": DIGITS_STORE}
    url = service_url(author, digits)
    until("an answer", lambda: bool(post(url, "x")))
    [first] = author.archives(root="digits")
    with busy_clients(url) as clients:
        second = author.deploy("digits", "two", settings)
        [kept] = author.archives(root="digits")
        # A failed deploy moves nothing, and leaves nothing.
        with pytest.raises(NotReadyError, match="revision 3 of digits") as failure:
            author.deploy("digits", code=BROKEN, torchserve=settings)
        assert "the weights are missing" in (failure.value.detail or "")
        assert author.archives(root="digits") == [kept]
        back = author.platform.rollback(author.namespace, "digits", None, author.progress.append)
    assert clients.failures == []
    assert set(clients.greetings) == {"one", "two"}
    assert clients.greetings[-1] == "one"
    assert (second.revision, back.revision, back.state) == (2, 4, "ready")
    assert (first, kept) == tuple(sorted((first, kept)))
    # The archive of the first revision came back from the backup, and the other one is there.
    assert author.archives(root="digits") == [first]
    assert author.archives("backup", "digits") == [kept]
    states = [item.state for item in author.platform.revisions(author.namespace, "digits")]
    assert states == ["active", "failed", "superseded", "superseded"]


def test_the_store_has_the_configuration_by_its_common_name(
    author: ClusterAuthor, digits: Deployment
) -> None:
    text = (author.volume / "digits/config/config.properties").read_text()
    assert "disable_token_authorization=true" in text
    assert "model_store=/home/model-server/shared/model-store" in text
    [deployment] = author.platform.deployments(author.namespace, "default")[:1]
    assert deployment.details["store"] == DIGITS_STORE
    assert deployment.internal_urls[0].endswith(".svc.cluster.local:8082/predictions/digits")


@pytest.fixture
def letters(author: ClusterAuthor) -> Deployment:
    """A function with tokens, whose store is written through a local mount of the claim.

    The tests of this module run in any order: it is read again, and deployed if it is missing.
    """
    try:
        return author.platform.deployment(author.namespace, "letters")
    except NotFoundError:
        variables = [{"name": "A", "value": "b"}]
        deployed = author.deploy("letters", torchserve=mounted(author), env=variables)
        author.progress.extend(deployed.warnings)
        return deployed


def mounted(author: ClusterAuthor) -> dict[str, str]:
    return {"store": "pvc://serving-model-pvc/letters", "storeMount": str(author.volume)}


def test_each_replica_has_tokens_of_its_own_in_files_of_its_user(
    author: ClusterAuthor, letters: Deployment
) -> None:
    assert any("each replica has tokens of its own" in text for text in author.progress)
    assert not [text for text in author.progress if "starting pod" in text and "letters" in text]
    url = f"http://{node_address(author.cluster)}:{letters.http_port}/predictions/letters"
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(url, "x")
    assert refused.value.code == 400  # not 401
    refused.value.close()
    assert author.invoke(letters, "x") == {"greeting": "hello", "got": "x"}
    keys = set()
    for pod in letters.processors:
        command = ["stat", "-c", "%a", "/var/run/torchserve/key_file.json"]
        assert run_command(author.cluster, author.namespace, pod, "torchserve", command) == b"600\n"
        command = ["cat", "/var/run/torchserve/key_file.json"]
        text = run_command(author.cluster, author.namespace, pod, "torchserve", command)
        keys.add(json.loads(text)["inference"]["key"])
    assert len(keys) == 2
    for kind in (kinds.DEPLOYMENT, kinds.CONFIG_MAP, kinds.SERVICE, kinds.POD):
        objects = json.dumps(author.cluster.list(kind, author.namespace))
        assert not any(key in objects for key in keys)


def test_calls_of_the_management_api_reach_every_replica(
    author: ClusterAuthor, letters: Deployment
) -> None:
    with author.platform.management(author.namespace, "letters", "managed") as clients:
        assert [client.replica for client in clients] == list(letters.processors)
        [version] = {client.describe("letters")[0].model_version for client in clients}
        other = copy_archive(author.volume / "letters/model-store", version, "2.0")
        for client in clients:
            client.register("letters", snapshot_settings({}, other))
            client.set_default("letters", "2.0")
            assert [item.model_version for item in client.describe("letters", "")] == ["2.0"]
        assert author.invoke(letters, "x") == {"greeting": "hello", "got": "x"}
        for client in clients:
            client.set_default("letters", version)
            client.unregister("letters", "2.0")
            assert [item.model_version for item in client.describe("letters")] == [version]
        assert other in author.archives(root="letters")
        (author.volume / "letters/model-store" / other).unlink()
        # One replica is left out.
        clients[0].scale("letters", version, 2, 2, 60.0)
    differing = author.platform.deployment(author.namespace, "letters")
    assert differing.state == "unhealthy"
    assert "its replicas differ" in differing.message
    assert f"{letters.processors[0]} has letters {version} with 2 workers" in differing.message
    assert f"{letters.processors[1]} has letters {version} with 1 worker" in differing.message
    requests = [item.requests for item in author.platform.statistics(differing).values()]
    assert sum(requests) >= 1
    equal = author.platform.redeploy(author.namespace, "letters", author.progress.append)
    assert (equal.state, equal.revision, len(equal.workers)) == ("ready", 2, 2)
    assert not set(equal.processors) & set(letters.processors)
    with author.platform.management(author.namespace, "letters") as clients:
        assert {client.describe("letters")[0].model_version for client in clients} == {version}


def copy_archive(store: Path, version: str, new_version: str) -> str:
    """Copy the archive of a version with another one in its manifest; return its name."""
    target = store / f"letters_{new_version}.mar"
    with (
        zipfile.ZipFile(store / f"letters_{version}.mar") as source,
        zipfile.ZipFile(target, "w") as copy,
    ):
        for name in source.namelist():
            data = source.read(name)
            if name == MANIFEST_PATH:
                data = data.replace(version.encode(), new_version.encode())
            copy.writestr(name, data)
    return target.name


def test_a_change_is_refused_during_a_call_of_the_management_api(
    author: ClusterAuthor, letters: Deployment
) -> None:
    with (
        author.platform.management(author.namespace, letters.name, "managed"),
        pytest.raises(BusyError, match="letters is being managed"),
    ):
        author.platform.redeploy(author.namespace, letters.name, author.progress.append)


def test_a_server_that_dies_is_started_again(author: ClusterAuthor, letters: Deployment) -> None:
    """The image's own entry point would keep the container without a server."""
    pod = author.platform.deployment(author.namespace, letters.name).processors[0]
    code = """
import os, signal
for number in filter(str.isdigit, os.listdir("/proc")):
    with open(f"/proc/{number}/cmdline", "rb") as file:
        if file.read().startswith(b"java"):
            os.kill(int(number), signal.SIGKILL)
"""
    run_command(author.cluster, author.namespace, pod, "torchserve", ["python3", "-c", code])
    until("a restart", lambda: "letters" in author.platform.restarts(author.namespace))
    assert author.platform.restarts(author.namespace)["letters"].count == 1
    records = author.platform.previous_logs(author.namespace, "letters")
    assert "the model is loaded" in [record.message for record in records]
    until(
        "both replicas",
        lambda: author.platform.deployment(author.namespace, "letters").replicas == (2, 2),
    )


def test_a_store_of_another_function_is_refused_before_anything_is_written(
    author: ClusterAuthor, letters: Deployment
) -> None:
    before = sorted(author.volume.rglob("*"))
    with pytest.raises(ConflictError, match="belongs to the function letters") as refused:
        author.deploy("foreign", torchserve=mounted(author))
    assert "pvc://serving-model-pvc/foreign" in (refused.value.hint or "")
    assert sorted(author.volume.rglob("*")) == before
    assert "foreign" not in [item.name for item in author.platform.deployments(author.namespace)]


def test_a_missing_claim_is_named_with_the_command_that_creates_it(author: ClusterAuthor) -> None:
    with pytest.raises(NotFoundError, match="no claim absent") as refused:
        author.deploy("words", torchserve={"store": "pvc://absent"})
    assert "fnbuild create volume absent" in (refused.value.hint or "")


def test_objects_of_other_tools_are_left_alone(author: ClusterAuthor) -> None:
    ports = [{"name": "preds", "port": 8082, "protocol": "TCP"}]
    metadata = {"name": "theirs", "namespace": author.namespace}
    author.cluster.create(kinds.SERVICE.manifest(metadata, spec={"ports": ports}))
    settings = {"store": "pvc://serving-model-pvc/words", "serviceName": "theirs"}
    with pytest.raises(ConflictError, match="service theirs is not managed by fnbuild"):
        author.deploy("words", torchserve=settings)


def test_an_image_that_cannot_be_pulled_leaves_the_store_as_it_was(author: ClusterAuthor) -> None:
    settings = {
        "store": "pvc://serving-model-pvc/pulled",
        "storeMount": str(author.volume),
        "baseImage": "127.0.0.1:1/absent:1",
    }
    with pytest.raises(NotReadyError, match="cannot") as failure:
        author.deploy("pulled", torchserve=settings, replicas=1)
    assert author.archives(root="pulled") == []
    listed = author.platform.deployment(author.namespace, "pulled")
    assert listed.state == "error"
    assert listed.message.splitlines()[0] in failure.value.message
    assert (
        not author.pods("pulled")
        or author.cluster.get(kinds.DEPLOYMENT, author.namespace, "pulled") is None
    )
    del settings["storeMount"]
    with pytest.raises(NotReadyError, match="the pod for the claim") as failure:
        author.deploy("pulled", torchserve=settings, replicas=1)
    assert "baseImage" in (failure.value.hint or "")


def test_a_claim_pod_that_fails_is_undone_and_reported(author: ClusterAuthor) -> None:
    def end_pod(text: str) -> None:
        author.progress.append(text)
        if text.startswith("packing"):
            [pod] = author.cluster.list(
                kinds.POD, author.namespace, labels="fnbuild.io/claim=serving-model-pvc"
            )
            name, code = pod["metadata"]["name"], "import os, signal; os.kill(1, signal.SIGINT)"
            run_command(author.cluster, author.namespace, name, "claim", ["python3", "-c", code])

    settings = {"store": "pvc://serving-model-pvc/claimed"}
    with pytest.raises(UnavailableError, match="the pod of the claim does not answer"):
        author.deploy("claimed", torchserve=settings, progress=end_pod)
    assert author.archives(root="claimed") == []
    assert author.cluster.get(kinds.DEPLOYMENT, author.namespace, "claimed") is None


def test_a_quota_that_is_exceeded_is_reported_at_once_and_gives_objects_back(
    author: ClusterAuthor,
) -> None:
    theirs = author.create_article_objects()
    metadata = {"name": "small", "namespace": author.namespace}
    create(author.cluster, RESOURCE_QUOTA, metadata, spec={"hard": {"limits.memory": "1Gi"}})
    try:
        settings = {"store": "pvc://serving-model-pvc/limited", "storeMount": str(author.volume)}
        taken = {**settings, "deploymentName": "torchserve"}
        with pytest.raises(NotReadyError, match="exceeded quota: small"):
            author.deploy("limited", torchserve=taken, options=PlanOptions(force_conflicts=True))
    finally:
        author.cluster.delete(RESOURCE_QUOTA, author.namespace, "small")
    # What was taken over is as before, and stays when the function is deleted.
    assert author.platform.delete(author.namespace, "limited")
    restored = author.cluster.get(kinds.DEPLOYMENT, author.namespace, "torchserve")
    assert restored is not None
    assert restored["spec"] == theirs["spec"]
    author.cluster.delete(kinds.DEPLOYMENT, author.namespace, "torchserve")


def test_a_missing_right_is_an_error_with_the_command_that_grants_it(
    author: ClusterAuthor, tmp_path: Path
) -> None:
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]}]
    file = kubeconfig_of(author.cluster, author.namespace, "clerk", rules, tmp_path / "config")
    clerk = replace(author, platform=ClusterPlatform(ConnectOptions(str(file))))
    with pytest.raises(ForbiddenError, match=r"may not .* deployments") as refused:
        clerk.deploy("words", torchserve={"store": "pvc://serving-model-pvc/words"})
    assert "kubectl create role" in str(refused.value.hint or refused.value.grant)
    findings = list(clerk.platform.examine(author.namespace))
    assert any("pods/exec" in item.message for item in findings)


def test_delete_leaves_the_store(author: ClusterAuthor, letters: Deployment) -> None:
    archives = author.archives(root="letters")
    assert author.platform.delete(author.namespace, letters.name)
    assert author.archives(root="letters") == archives
    until("the end of its pods", lambda: not author.pods("letters"))
    assert author.cluster.get(kinds.SERVICE, author.namespace, "letters-management") is None
    assert not author.platform.delete(author.namespace, letters.name)

"""Error messages for refusals of the current cluster, and for recorded error responses."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from fnbuild.errors import (
    ConflictError,
    FnbuildError,
    ForbiddenError,
    InputError,
    NotFoundError,
    PlatformError,
    PreconditionError,
    UnavailableError,
)
from fnbuild.function.types import Raw
from fnbuild.platforms.kubeclient import connection, kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.errors import (
    FieldConflictError,
    RequestSubject,
    StaleError,
    error_of_response,
)
from fnbuild.platforms.kubeclient.port_forward import forward_port
from tests.cluster import RESOURCE_QUOTA, create, kubeconfig_of, merge_patch
from tests.engine import until
from tests.platforms.kubeclient.pods import pod

pytestmark = pytest.mark.system


def deployment(namespace: str, name: str = "one", replicas: int = 0) -> Raw:
    labels = {"app": name}
    container = {"name": "nuclio", "image": "fnbuild/none", "imagePullPolicy": "Never"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


@pytest.fixture
def reader(
    cluster: Cluster, cluster_namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Cluster:
    """A client of the cluster that may list pods, and nothing else."""
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]
    file = kubeconfig_of(cluster, cluster_namespace, "ann", rules, tmp_path / "config")
    monkeypatch.setenv("KUBECONFIG", str(file))
    return connection.connect()


def test_missing_permissions_are_reported_with_commands_that_grant_them(
    cluster_namespace: str, reader: Cluster
) -> None:
    assert reader.list(kinds.POD, cluster_namespace) == []
    assert reader.is_allowed("list", kinds.POD, cluster_namespace)
    assert not reader.is_allowed("get", kinds.POD, cluster_namespace, "log")
    with pytest.raises(ForbiddenError) as caught:
        reader.apply(deployment(cluster_namespace))
    user = f"system:serviceaccount:{cluster_namespace}:ann"
    assert caught.value.message == (
        f'user "{user}" may not patch deployments.apps in namespace "{cluster_namespace}"'
    )
    hint = caught.value.hint or ""
    assert (
        "`kubectl create role fnbuild-patch-deployments.apps --verb=patch,create"
        f" --resource=deployments.apps -n {cluster_namespace}`"
    ) in hint
    assert f"--serviceaccount={cluster_namespace}:ann -n {cluster_namespace}`" in hint
    assert hint.endswith("`fnbuild doctor rights` lists all missing permissions")
    assert "doctor" not in caught.value.grant


def test_missing_permissions_on_subresources_are_reported(
    cluster_namespace: str, reader: Cluster
) -> None:
    with pytest.raises(ForbiddenError, match="may not get pods/log in"):
        list(reader.logs(cluster_namespace, "one"))
    with pytest.raises(ForbiddenError, match="may not get pods/proxy in"):
        reader.get_from_pod(cluster_namespace, "one", 8082, "/status")
    with (
        pytest.raises(ForbiddenError, match=r"may not (get|create) pods/portforward in"),
        forward_port(reader, cluster_namespace, "one"),
    ):
        pass
    with pytest.raises(ForbiddenError, match="may not watch pods in"):
        list(reader.watch(kinds.POD, cluster_namespace, seconds=1))
    with pytest.raises(ForbiddenError, match="may not list nodes in all namespaces") as caught:
        reader.list(kinds.NODE, None)
    assert "kubectl create clusterrole fnbuild-list-nodes" in (caught.value.hint or "")


def test_a_missing_namespace_is_reported(cluster: Cluster) -> None:
    for dry_run in (True, False):
        with pytest.raises(NotFoundError, match='no namespace "fnbuild-test-nowhere"') as caught:
            cluster.apply(deployment("fnbuild-test-nowhere"), dry_run=dry_run)
        assert "`kubectl create namespace fnbuild-test-nowhere`" in (caught.value.hint or "")
    assert cluster.list(kinds.POD, "fnbuild-test-nowhere") == []


def test_a_terminating_namespace_is_reported(cluster: Cluster, cluster_namespace: str) -> None:
    metadata = {"finalizers": ["example.com/kept"], "name": "kept", "namespace": cluster_namespace}
    cluster.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    cluster.delete(kinds.NAMESPACE, "", cluster_namespace)
    try:
        with pytest.raises(PreconditionError, match="is being deleted"):
            cluster.apply(deployment(cluster_namespace))
    finally:
        body = {"metadata": {"finalizers": None}}
        merge_patch(cluster, kinds.CONFIG_MAP, cluster_namespace, "kept", body)


def test_conflicts_with_other_field_managers_are_reported(
    cluster: Cluster, cluster_namespace: str
) -> None:
    cluster.apply(deployment(cluster_namespace))
    merge_patch(cluster, kinds.DEPLOYMENT, cluster_namespace, "one", {"spec": {"replicas": 0}})
    other = deployment(cluster_namespace)
    apply_as(cluster, other, "argocd", replicas=0, image="other")
    with pytest.raises(FieldConflictError) as caught:
        cluster.apply(deployment(cluster_namespace))
    image = '.spec.template.spec.containers[name="nuclio"].image'
    assert caught.value.message == f"deployment one has fields that argocd manages: {image}"
    assert "--force-conflicts" in (caught.value.hint or "")
    forced = cluster.apply(deployment(cluster_namespace), force=True)
    assert forced["spec"]["template"]["spec"]["containers"][0]["image"] == "fnbuild/none"


def apply_as(cluster: Cluster, manifest: Raw, manager: str, *, replicas: int, image: str) -> None:
    """Apply the manifest as another field manager, by force."""
    from fnbuild.platforms.kubeclient.transport import APPLY, ApiRequest

    manifest["spec"]["replicas"] = replicas
    manifest["spec"]["template"]["spec"]["containers"][0]["image"] = image
    metadata = manifest["metadata"]
    path = kinds.DEPLOYMENT.path(metadata["namespace"], metadata["name"])
    query = {"fieldManager": manager, "force": "true"}
    cluster.transport.request_json(
        ApiRequest("PATCH", path, query, manifest, APPLY), RequestSubject("patch")
    )


def test_stale_objects_and_existing_names_are_conflicts(
    cluster: Cluster, cluster_namespace: str
) -> None:
    live = cluster.create(deployment(cluster_namespace))
    merge_patch(cluster, kinds.DEPLOYMENT, cluster_namespace, "one", {"spec": {"paused": True}})
    with pytest.raises(StaleError, match="deployment one was changed by another client"):
        cluster.replace(live)
    with pytest.raises(ConflictError, match="deployment one exists already"):
        cluster.create(deployment(cluster_namespace))


def test_invalid_values_and_unknown_fields_are_reported(
    cluster: Cluster, cluster_namespace: str
) -> None:
    invalid = deployment(cluster_namespace)
    invalid["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = "Seldom"
    with pytest.raises(InputError) as caught:
        cluster.apply(invalid, dry_run=True)
    assert "refuses deployment one: spec.template.spec.containers[0].imagePullPolicy: Unsupp" in (
        caught.value.message
    )
    unknown = deployment(cluster_namespace)
    unknown["spec"]["template"]["spec"]["colour"] = "red"
    with pytest.raises(InputError, match=r"does not support fields of deployment one: \.spec"):
        cluster.apply(unknown, dry_run=True)
    with pytest.raises(InputError, match="deployment one"):
        cluster.apply({**deployment(cluster_namespace), "spec": "none"}, dry_run=True)


def test_an_exhausted_quota_is_reported(cluster: Cluster, cluster_namespace: str) -> None:
    metadata = {"name": "few", "namespace": cluster_namespace}
    create(cluster, RESOURCE_QUOTA, metadata, spec={"hard": {"pods": "0"}})
    until(
        "the count of the quota",
        lambda: bool((cluster.get(RESOURCE_QUOTA, cluster_namespace, "few") or {})["status"]),
    )
    with pytest.raises(PreconditionError, match="pod one does not fit into a quota: exceeded"):
        cluster.create(pod(cluster_namespace, "one", "fnbuild/none", "1"))


def status(code: int, message: str, reason: str = "", **details: object) -> bytes:
    body = {"kind": "Status", "code": code, "message": message, "reason": reason}
    return json.dumps({**body, "details": details}).encode()


SUBJECT = RequestSubject("patch", kinds.DEPLOYMENT, "shop", "nuclio-a", "", "https://s:1", "ctx")


@pytest.mark.parametrize(
    ("code", "body", "kind", "message"),
    [
        (
            403,
            status(403, 'admission webhook "rules.example" denied the request: no labels'),
            PreconditionError,
            "webhook rules.example of the cluster refuses deployment nuclio-a: no labels",
        ),
        (
            500,
            status(500, 'Internal error: failed calling webhook "x.y": connection refused'),
            PlatformError,
            "webhook x.y of the cluster does not work: connection refused",
        ),
        (
            403,
            status(403, 'pods "a" is forbidden: violates PodSecurity "restricted:latest"'),
            PreconditionError,
            'does not admit deployment nuclio-a: violates PodSecurity "restricted',
        ),
        (429, b"Too many requests", UnavailableError, "too busy to patch deployment"),
        (503, b"<html>busy</html>", UnavailableError, "(context ctx) could not patch deployment"),
        (500, status(500, "etcd is gone"), PlatformError, "HTTP status 500"),
        (404, b"404 page not found", NotFoundError, "has no deployments of apps/v1"),
        (418, status(418, "short and stout"), PlatformError, "short and stout"),
    ],
)
def test_error_responses_are_explained(
    code: int, body: bytes, kind: type[FnbuildError], message: str
) -> None:
    error = error_of_response(code, body, SUBJECT)
    assert type(error) is kind
    assert message in error.message


@contextmanager
def server(*answers: tuple[int, bytes]) -> Iterator[tuple[str, list[str]]]:
    """Run a server with these responses, and yield its URL and the requests that it received."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            requests.append(f"{self.command} {self.path}")
            self.rfile.read(int(self.headers.get("content-length") or 0))
            code, body = remaining.pop(0)
            if code == 0:  # close the connection without a response
                self.close_connection = True
                return
            self.send_response(code)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PATCH = answer  # noqa: N815

        def log_message(self, *words: object) -> None:
            pass

    remaining, requests = list(answers), list[str]()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{listening.server_address[1]}", requests
        listening.shutdown()
        thread.join()


def connect_to(url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    content = {
        "current-context": "a",
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "clusters": [{"name": "a", "cluster": {"server": url}}],
        "users": [{"name": "a", "user": {}}],
    }
    (folder / "config").write_text(yaml.safe_dump(content))
    monkeypatch.setenv("KUBECONFIG", str(folder / "config"))
    return connection.connect()


def test_reads_are_repeated_after_temporary_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [(503, b""), (0, b""), (429, b""), (200, b'{"gitVersion": "v1.31.0"}')]
    with server(*answers) as (url, requests):
        assert connect_to(url, tmp_path, monkeypatch).version == "v1.31.0"
    assert requests == ["GET /version"] * 4


def test_writes_are_repeated_only_if_nothing_was_processed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = status(409, "try again", "Conflict", kind="resourcequotas")
    with server((429, b""), (409, counted), (503, b"")) as (url, requests):
        with pytest.raises(UnavailableError, match="could not create pod one"):
            connect_to(url, tmp_path, monkeypatch).create(pod("a", "one", "image", "1"))
        assert requests == ["POST /api/v1/namespaces/a/pods?fieldManager=fnbuild"] * 3
    with server((0, b"")) as (url, requests):
        with pytest.raises(UnavailableError, match="no Kubernetes API answers"):
            connect_to(url, tmp_path, monkeypatch).create(pod("a", "one", "image", "1"))
        assert len(requests) == 1


def test_a_server_that_is_no_kubernetes_api_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        server((200, b"<html>hello</html>")) as (url, _),
        pytest.raises(UnavailableError, match="is not a Kubernetes API"),
    ):
        assert connect_to(url, tmp_path, monkeypatch).version

"""Addresses of functions, from their Services and Ingresses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest

from fnbuild.errors import ForbiddenError
from fnbuild.function.types import Raw
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.kinds import Kind
from fnbuild.platforms.kubeclient.objects import KubeDeployment
from fnbuild.platforms.kubernetes import endpoints
from fnbuild.platforms.kubernetes.inventory import FunctionObjects
from fnbuild.platforms.kubernetes.labels import KubernetesKey

KEY = KubernetesKey("vision", "faces")
DEPLOYMENT = KubeDeployment({})


def service(node_port: int = 0, **status: Any) -> Raw:
    port = {"name": "http", "port": 8080} | ({"nodePort": node_port} if node_port else {})
    side = {"name": "side", "port": 9000, "nodePort": 30999}
    return {"spec": {"ports": [side, port]}, "status": status}


def ingress(*rules: Raw, tls: list[Raw] | None = None, **status: Any) -> Raw:
    return {"spec": {"rules": list(rules), "tls": tls or []}, "status": status}


def rule(host: str, *paths: str) -> Raw:
    return {"host": host, "http": {"paths": [{"path": path} for path in paths]}}


def test_node_ports_are_external_addresses() -> None:
    objects = FunctionObjects(KEY, DEPLOYMENT, service(30123))
    assert endpoints.node_port(objects.service) == 30123
    assert endpoints.external_addresses(objects, ("10.0.0.1", "fd00::1")) == (
        "10.0.0.1:30123",
        "[fd00::1]:30123",
    )
    assert endpoints.internal_addresses(objects) == ("nuclio-faces.vision.svc.cluster.local:8080",)


def test_cluster_services_have_only_internal_addresses() -> None:
    objects = FunctionObjects(KEY, DEPLOYMENT, service())
    assert endpoints.node_port(objects.service) == 0
    assert endpoints.external_addresses(objects, ("10.0.0.1",)) == ()
    assert endpoints.internal_addresses(FunctionObjects(KEY, None, service())) == ()


def test_addresses_of_load_balancers_are_external() -> None:
    balancers = {"ingress": [{"ip": "203.0.113.7"}, {"hostname": "lb.example.com"}]}
    objects = FunctionObjects(KEY, DEPLOYMENT, service(30123, loadBalancer=balancers))
    assert endpoints.external_addresses(objects, ("10.0.0.1",)) == (
        "10.0.0.1:30123",
        "203.0.113.7:8080",
        "lb.example.com:8080",
    )


def test_hosts_and_paths_of_ingresses_are_external() -> None:
    rules = ingress(
        rule("a.example.com", "/", "/faces/"),
        rule("b.example.com", "/"),
        tls=[{"hosts": ["b.example.com"], "secretName": "mine"}],
    )
    objects = FunctionObjects(KEY, DEPLOYMENT, service(), rules)
    assert endpoints.external_addresses(objects, ()) == (
        "a.example.com",
        "a.example.com/faces",
        "https://b.example.com",
    )


def test_an_ingress_without_a_host_uses_the_load_balancer() -> None:
    balanced = ingress(rule("", "/faces"), loadBalancer={"ingress": [{"ip": "203.0.113.7"}]})
    assert endpoints.external_addresses(
        FunctionObjects(KEY, DEPLOYMENT, service(), balanced), ()
    ) == ("203.0.113.7/faces",)
    unbalanced = ingress(rule("", "/faces"))
    assert (
        endpoints.external_addresses(FunctionObjects(KEY, DEPLOYMENT, service(), unbalanced), ())
        == ()
    )


@pytest.mark.parametrize(
    ("server", "in_cluster", "pods", "expected"),
    [
        ("https://10.96.0.1:443", True, ("10.0.0.7", "10.0.0.7", ""), ("10.0.0.7",)),
        ("https://10.96.0.1:443", True, (), ()),
        ("https://lb.example.com", False, ("10.0.0.7",), ("10.0.0.7",)),
        ("https://lb.example.com", False, (), ()),
        ("https://127.0.0.1:6443", False, ("172.18.0.2",), ("172.18.0.2", "127.0.0.1")),
        ("https://[::1]:6443", False, (), ("::1",)),
    ],
)
def test_hosts_without_permission_to_list_nodes(
    server: str, in_cluster: bool, pods: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    cluster = cast(Cluster, _ClusterWithoutNodes(server, in_cluster, pods))
    assert (
        endpoints.node_hosts(cluster, [FunctionObjects(KEY, DEPLOYMENT, service(30123))])
        == expected
    )


@dataclass
class _ClusterWithoutNodes:
    """A cluster for a user who may list pods but not nodes."""

    server: str
    in_cluster: bool
    hosts: tuple[str, ...]

    def list(self, kind: Kind, *_: object, **__: object) -> list[Raw]:
        if kind is kinds.NODE:
            raise ForbiddenError("not nodes")
        return [{"status": {"hostIP": host}} for host in self.hosts]


def test_the_node_port_for_grpc_is_that_of_the_port_with_its_name() -> None:
    ports = [{"name": "http", "port": 8080, "nodePort": 30001}]
    assert endpoints.grpc_node_port({"spec": {"ports": ports}}) == 0
    ports.append({"name": "grpc", "port": 8081, "nodePort": 30002})
    assert endpoints.grpc_node_port({"spec": {"ports": ports}}) == 30002
    assert endpoints.grpc_node_port(None) == 0

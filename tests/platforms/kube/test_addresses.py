"""Where functions answer, by their Services and Ingresses."""

from __future__ import annotations

from typing import Any

from fnbuild.platforms.kube import addresses
from fnbuild.platforms.kube.inventory import Known
from fnbuild.platforms.kube.labels import Key
from fnbuild.spec.types import Raw

KEY = Key("vision", "faces")


def service(node_port: int = 0, **status: Any) -> Raw:
    port = {"name": "http", "port": 8080} | ({"nodePort": node_port} if node_port else {})
    side = {"name": "side", "port": 9000, "nodePort": 30999}
    return {"spec": {"ports": [side, port]}, "status": status}


def ingress(*rules: Raw, tls: list[Raw] | None = None, **status: Any) -> Raw:
    return {"spec": {"rules": list(rules), "tls": tls or []}, "status": status}


def rule(host: str, *paths: str) -> Raw:
    return {"host": host, "http": {"paths": [{"path": path} for path in paths]}}


def test_node_ports() -> None:
    known = Known(KEY, {}, service(30123))
    assert addresses.node_port(known.service) == 30123
    assert addresses.outside(known, ("10.0.0.1", "fd00::1")) == (
        "10.0.0.1:30123",
        "[fd00::1]:30123",
    )
    assert addresses.inside(known) == ("nuclio-faces.vision.svc.cluster.local:8080",)


def test_inside_the_cluster_alone() -> None:
    known = Known(KEY, {}, service())
    assert addresses.node_port(known.service) == 0
    assert addresses.outside(known, ("10.0.0.1",)) == ()
    assert addresses.inside(Known(KEY, None, service())) == ()


def test_a_load_balancer() -> None:
    balancers = {"ingress": [{"ip": "203.0.113.7"}, {"hostname": "lb.example.com"}]}
    known = Known(KEY, {}, service(30123, loadBalancer=balancers))
    assert addresses.outside(known, ("10.0.0.1",)) == (
        "10.0.0.1:30123",
        "203.0.113.7:8080",
        "lb.example.com:8080",
    )


def test_ingresses() -> None:
    made = ingress(
        rule("a.example.com", "/", "/faces/"),
        rule("b.example.com", "/"),
        tls=[{"hosts": ["b.example.com"], "secretName": "mine"}],
    )
    known = Known(KEY, {}, service(), made)
    assert addresses.outside(known, ()) == (
        "a.example.com",
        "a.example.com/faces",
        "https://b.example.com",
    )


def test_an_ingress_for_every_host() -> None:
    made = ingress(rule("", "/faces"), loadBalancer={"ingress": [{"ip": "203.0.113.7"}]})
    assert addresses.outside(Known(KEY, {}, service(), made), ()) == ("203.0.113.7/faces",)
    nobody = ingress(rule("", "/faces"))
    assert addresses.outside(Known(KEY, {}, service(), nobody), ()) == ()

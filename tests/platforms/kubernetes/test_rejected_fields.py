"""The keys of function.yaml for fields that the cluster rejects."""

from __future__ import annotations

import pytest

from fnbuild.errors import InputError
from fnbuild.function.types import Raw
from fnbuild.platforms.kubernetes.diagnosis.rejections import config_key_of_field
from tests.platforms.kubernetes import samples
from tests.platforms.kubernetes.author import Author

pytestmark = pytest.mark.system

POD = "spec.template.spec"
HTTP: Raw = {"triggers": {"web": {"kind": "http", "attributes": {"port": 31000}}}}


@pytest.mark.parametrize(
    ("kind", "field", "key"),
    [
        ("Deployment", f"{POD}.securityContext.fsGroup", "spec.securityContext.fsGroup"),
        ("Deployment", f".{POD}.securityContext.fsGrup", "spec.securityContext.fsGrup"),
        (
            "Deployment",
            f"{POD}.containers[0].resources.limits[cpu]",
            "spec.resources.limits[cpu]",
        ),
        ("Deployment", f"{POD}.containers[0].env[3].name", "spec.env"),
        ("Deployment", f'.{POD}.containers[name="nuclio"].envFrom', "spec.envFrom"),
        ("Deployment", f"{POD}.containers[0].volumeMounts[1].name", "spec.volumes"),
        ("Deployment", f"{POD}.containers[1].image", "spec.sidecars"),
        ("Deployment", f'.{POD}.containers[name="proxy"].imag', "spec.sidecars"),
        ("Deployment", f"{POD}.initContainers[0].image", "spec.initContainers"),
        ("Deployment", f"{POD}.tolerations[0].operator", "spec.tolerations[0].operator"),
        ("Deployment", "spec.strategy.rollingUpdate", "spec.deploymentStrategy.rollingUpdate"),
        ("Deployment", "metadata.labels", "metadata.labels"),
        ("Deployment", "spec.selector", ""),
        ("Service", "spec.ports[0].nodePort", "spec.triggers.web.attributes.port"),
        ("Service", "spec.ports[1].name", "spec.sidecars"),
        ("Ingress", "spec.rules[0].host", "spec.triggers.web.attributes.ingresses"),
        ("HorizontalPodAutoscaler", "spec.maxReplicas", "spec.maxReplicas"),
        ("Secret", "spec", ""),
    ],
)
def test_rejected_fields_have_their_key(kind: str, field: str, key: str) -> None:
    assert config_key_of_field(samples.function(**HTTP), kind, field) == key


def test_refusals_of_the_cluster_name_the_key(author: Author, image: str) -> None:
    with pytest.raises(InputError) as failure:
        author.plan(image, securityContext={"fsGroup": -1})
    assert "spec.securityContext.fsGroup" in (failure.value.hint or "")
    ingresses = {"a": {"host": "no host", "paths": ["/"]}}
    with pytest.raises(InputError, match="refuses ingress") as failure:
        author.plan(
            image, triggers={"web": {"kind": "http", "attributes": {"ingresses": ingresses}}}
        )
    assert "spec.triggers.web.attributes.ingresses" in (failure.value.hint or "")


def test_a_taken_node_port_is_reported_with_its_owner(author: Author, image: str) -> None:
    first = author.run(image, "first", replicas=0)
    port = {"web": {"kind": "http", "attributes": {"port": first.http_port}}}
    with pytest.raises(InputError) as failure:
        author.plan(image, "second", triggers=port)
    assert failure.value.message == (
        f"node port {first.http_port} is taken by service nuclio-first of namespace"
        f" {author.namespace}"
    )
    assert "spec.triggers.web.attributes.port, or none" in (failure.value.hint or "")

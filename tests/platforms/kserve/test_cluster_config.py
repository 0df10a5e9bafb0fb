"""KServe's own configuration is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fnbuild.errors import PreconditionError
from fnbuild.platforms.kserve.cluster_config import KServeConfig, parse_config, require_installed
from tests.platforms.kubeclient.test_errors import connect_to, server


@pytest.mark.parametrize(
    ("word", "mode"),
    [
        ("Serverless", "Knative"),
        ("RawDeployment", "Standard"),
        ("Knative", "Knative"),
        ("Standard", "Standard"),
        ("", "Standard"),
        ("ModelMesh", "Standard"),
    ],
)
def test_the_default_mode_has_two_names(word: str, mode: str) -> None:
    data = {"deploy": json.dumps({"defaultDeploymentMode": word})}
    assert parse_config(data).default_mode == mode


def test_hosts_follow_the_template() -> None:
    data = {
        "ingress": json.dumps(
            {
                "ingressDomain": "models.example.org",
                "domainTemplate": "{{.Name}}.{{ .Namespace }}.{{ .IngressDomain }}",
            }
        ),
        "storageInitializer": json.dumps({"cpuLimit": "1", "memoryLimit": "1Gi"}),
    }
    config = parse_config(data)
    assert config.host("ns", "iris") == "iris.ns.models.example.org"
    assert config.initializer_limits == (("cpu", "1"), ("memory", "1Gi"))
    assert KServeConfig().host("ns", "iris") == "iris-ns.example.com"


def test_broken_sections_count_as_absent() -> None:
    config = parse_config({"deploy": "{", "ingress": "[]"})
    assert config == KServeConfig(is_read=True)


def test_a_cluster_without_kserve_is_one_error_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server((404, b"404 page not found")) as (url, requests):
        cluster = connect_to(url, tmp_path, monkeypatch)
        with pytest.raises(PreconditionError, match="has no KServe: it does not serve") as raised:
            require_installed(cluster)
    assert requests == ["GET /apis/serving.kserve.io/v1beta1"]
    assert "--platform kube" in (raised.value.hint or "")

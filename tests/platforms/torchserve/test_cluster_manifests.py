"""The objects of functions that TorchServe serves in a cluster.

`FNBUILD_WRITE_GOLDEN=1 pytest tests/platforms/torchserve/test_cluster_manifests.py` writes the
golden file again; review the changes with `git diff`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from fnbuild.errors import InputError
from fnbuild.function.types import Raw
from fnbuild.function.yaml_writer import as_yaml
from fnbuild.platforms.torchserve.cluster.manifests import (
    STORE_MOUNT,
    config_file,
    render_objects,
    validate_names,
)
from fnbuild.runtime.torchserve import pod_commands
from tests.platforms.torchserve.cluster_samples import function, revision

GOLDEN = Path(__file__).parent / "golden"
ARTICLE = {"deploymentName": "torchserve", "serviceName": "torchserve", "loadModels": "all"}


def objects(torchserve: dict[str, Any] | None = None, **spec: Any) -> list[Raw]:
    return render_objects(revision(function(torchserve=torchserve, **spec)))


def container(manifests: list[Raw]) -> Raw:
    [only] = manifests[0]["spec"]["template"]["spec"]["containers"]
    return dict(only)


def test_the_manifests_match_their_golden_file() -> None:
    manifests = objects(ARTICLE)
    commands = container(manifests)["env"][0]
    assert commands["value"] == Path(pod_commands.__file__).read_text()
    commands["value"] = "(the source of pod_commands)"
    text = "\n---\n".join(map(as_yaml, manifests)) + "\n"
    path = GOLDEN / "embedding.yaml"
    if os.environ.get("FNBUILD_WRITE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def test_the_deployment_and_the_service_are_those_of_the_article() -> None:
    theirs = list(yaml.safe_load_all((GOLDEN / "article.yaml").read_text()))
    manifests = objects(
        {**ARTICLE, "exposeManagement": True, "baseImage": "pytorch/torchserve:0.3.0-cpu"}
    )
    assert [item["kind"] for item in manifests] == ["Deployment", "Service"]
    their_container = theirs[0]["spec"]["template"]["spec"]["containers"][0]
    # The configuration has a file for each content, and TorchServe's end ends the container.
    arguments = container(manifests)["args"]
    assert arguments[:2] == their_container["args"][:2]
    assert arguments[4:6] == their_container["args"][2:4]
    assert arguments[6] == "--ts-config"
    assert arguments[7].startswith("/home/model-server/shared/config/embedding-")
    del their_container["args"]
    # The name of a volume is not seen from outside.
    their_pod = theirs[0]["spec"]["template"]["spec"]
    their_pod["volumes"][0]["name"] = their_container["volumeMounts"][0]["name"] = "store"
    their_container["volumeMounts"][0]["mountPath"] = STORE_MOUNT
    for own, other in zip(manifests, theirs, strict=True):
        assert missing(other, own) == []


def missing(part: Any, whole: Any, path: str = "") -> list[str]:
    """Return the paths of values that `whole` lacks or has otherwise; lists may be longer."""
    if isinstance(part, dict):
        keys = part if isinstance(whole, dict) else ()
        return [
            item for key in keys for item in missing(part[key], whole.get(key), f"{path}.{key}")
        ]
    if isinstance(part, list):
        return [
            item
            for number, value in enumerate(part)
            for item in missing(value, (whole or [])[number : number + 1][0], f"{path}[{number}]")
        ]
    return [] if part == whole else [f"{path}: {part!r} is {whole!r}"]


def test_the_version_label_restarts_pods_and_the_selector_has_none() -> None:
    [deployment, *_] = objects()
    label = {"app.kubernetes.io/version": "210110_0930"}
    assert deployment["metadata"]["labels"].items() >= label.items()
    assert deployment["spec"]["template"]["metadata"]["labels"].items() >= label.items()
    assert deployment["spec"]["selector"] == {"matchLabels": {"app": "embedding"}}


def test_a_gpu_limit_of_zero_is_left_out() -> None:
    limits = {"nvidia.com/gpu": "0"}
    assert (
        "nvidia.com/gpu"
        not in container(objects(resources={"limits": limits}))["resources"]["limits"]
    )
    with_gpu = container(objects(resources={"limits": {"nvidia.com/gpu": "2"}}))["resources"]
    assert with_gpu["limits"] == {"cpu": "1", "memory": "4Gi", "nvidia.com/gpu": "2"}
    lowered = container(objects(resources={"requests": {"cpu": "250m"}}))["resources"]
    assert lowered["requests"] == {"cpu": "250m", "memory": "1Gi"}


def test_a_single_replica_is_replaced_without_a_gap() -> None:
    spec = objects(replicas=1)[0]["spec"]
    assert (spec["replicas"], spec["strategy"]["rollingUpdate"]["maxUnavailable"]) == (1, 0)
    own = {"type": "Recreate"}
    assert objects(deploymentStrategy=own)[0]["spec"]["strategy"] == own
    assert objects(disable=True)[0]["spec"]["replicas"] == 0


def test_the_management_port_is_for_the_cluster_only() -> None:
    _, service, management = objects({"serviceType": "NodePort"})
    assert [port["name"] for port in service["spec"]["ports"]] == ["preds", "metrics"]
    assert management["metadata"]["name"] == "embedding-management"
    assert management["spec"]["type"] == "ClusterIP"
    assert [port["name"] for port in management["spec"]["ports"]] == ["mdl"]


def test_the_port_of_the_trigger_is_the_node_port() -> None:
    triggers = {"http": {"kind": "http", "attributes": {"port": 31234}}}
    _, service, _ = objects({"serviceType": "NodePort"}, triggers=triggers)
    assert service["spec"]["ports"][0]["nodePort"] == 31234


def test_a_folder_of_a_claim_is_mounted_as_the_store() -> None:
    pod = objects({"store": "pvc://models/digits/v1"})[0]["spec"]["template"]["spec"]
    assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "models"}
    assert pod["containers"][0]["volumeMounts"][0] == {
        "name": "store",
        "mountPath": STORE_MOUNT,
        "subPath": "digits/v1",
    }


def test_tokens_are_in_no_object() -> None:
    deployment = objects()[0]
    pod = deployment["spec"]["template"]["spec"]
    assert {"name": "run", "emptyDir": {}} in pod["volumes"]
    only = pod["containers"][0]
    assert only["workingDir"] == "/var/run/torchserve"
    assert only["readinessProbe"]["exec"]["command"][-4:] == [
        "/var/run/torchserve/key_file.json",
        "8083",
        "ready",
        "embedding",
    ]


def test_the_grace_period_lets_the_longest_request_end() -> None:
    pod = objects(eventTimeout="300s")[0]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > 300 + 5
    assert pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-3:] == ["5", "300", "0"]


def test_a_change_of_the_number_of_pods_restarts_none() -> None:
    single, double = objects(replicas=1)[0], objects(replicas=2)[0]
    assert single["spec"]["template"] == double["spec"]["template"]


@pytest.mark.parametrize("load_models", ["active", "all"])
def test_another_configuration_has_another_file(load_models: str) -> None:
    path, text = config_file(revision(function(torchserve={"loadModels": load_models})))
    other, changed = config_file(
        revision(function(torchserve={"loadModels": load_models, "tokens": False}))
    )
    assert path != other
    assert "disable_token_authorization=true" in changed
    assert "inference_address=http://0.0.0.0:8082" in text
    assert f"model_store={STORE_MOUNT}/model-store" in text


@pytest.mark.parametrize(
    ("name", "torchserve", "message"),
    [
        ("My_Model", {}, "'My_Model' cannot be a function name in Kubernetes"),
        ("m" * 60, {}, "the function name '.*' has 60 characters"),
        ("digits", {"deploymentName": "a.b"}, "'a.b' cannot be a deploymentName"),
        ("digits", {"serviceName": "s" * 60}, "the serviceName '.*' has 60 characters"),
    ],
)
def test_names_that_kubernetes_refuses(name: str, torchserve: Raw, message: str) -> None:
    with pytest.raises(InputError, match=message):
        validate_names(revision(function(name, torchserve)))


def test_pods_load_the_archives_that_stay() -> None:
    """The store has one more archive than are kept until a deploy has succeeded."""
    sample = function(torchserve=ARTICLE)
    assert "load_models=all" in config_file(revision(sample))[1]
    loaded = ["embedding_210109_0930.mar", "embedding_210110_0930.mar"]
    text = config_file(revision(sample, loaded=loaded))[1]
    assert f"load_models={','.join(loaded)}\n" in text

"""KServe's rules: each violation is reported with its place and remedy before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest

from fnbuild.errors import InputError
from fnbuild.platforms.kserve.admission import (
    misspelt_annotations,
    require_admissible,
    runtime_problems,
    service_problems,
)
from fnbuild.platforms.kserve.pod_fields import Mode
from tests.platforms.kserve.samples import SKLEARN, function, runtime, service, supported

CONTAINER = {"name": "kserve-container", "image": "server:1"}


def problems(mode: Mode = "Standard", transformer: Any = None, **predictor: Any) -> list[str]:
    spec = {"predictor": predictor}
    if transformer is not None:
        spec["transformer"] = transformer
    manifest = {"kind": "InferenceService", "metadata": {"name": "iris"}, "spec": spec}
    return list(map(str, service_problems(manifest, mode)))


def model(**fields: Any) -> dict[str, Any]:
    return {"modelFormat": {"name": "sklearn"}, "storageUri": "s3://bucket/m", **fields}


def test_a_valid_service_has_no_problems() -> None:
    assert problems(containers=[CONTAINER]) == []
    assert problems(model=model()) == []
    assert problems(sklearn={"storageUri": "s3://bucket/m"}) == []


@pytest.mark.parametrize("name", ["1model", "Model", "model_1", "a" * 54, "model-"])
def test_names_that_kserve_refuses(name: str) -> None:
    manifest = service(function())
    manifest["metadata"]["name"] = name
    [problem] = service_problems(manifest, "Standard")
    assert problem.place == "metadata.name"
    assert problem.remedy


@pytest.mark.parametrize(
    ("kserve", "canary", "limit"),
    [
        ({}, False, 53),
        ({"component": "pair"}, False, 51),
        ({"component": "transformer", "predictorImage": "p:1"}, False, 51),
        ({}, True, 46),
    ],
)
def test_a_name_has_room_for_what_kserve_adds(
    kserve: dict[str, Any], canary: bool, limit: int
) -> None:
    def text(length: int) -> str:
        described = function("a" * length, kserve)
        stable = described if canary else None
        if canary:
            described = function("a" * length, {**kserve, "canaryTrafficPercent": 10})
        manifest = service(described, stable=stable)
        return "\n".join(map(str, service_problems(manifest, "Standard")))

    assert text(limit) == ""
    assert f"may have {limit}; shorten it by 1" in text(limit + 1)


def test_the_transformer_of_another_function_has_room_in_its_name() -> None:
    settings = {"component": "transformer", "inferenceService": "a" * 52}
    [problem] = service_problems(service(function("prepare", settings)), "Standard")
    assert "`-transformer`" in problem.remedy


def test_a_component_has_one_implementation() -> None:
    [problem] = problems(model=model(), containers=[CONTAINER])
    assert "two implementations" in problem
    [problem] = problems(model=model(), sklearn={"storageUri": "s3://bucket/m"})
    assert "model and sklearn" in problem
    [problem] = problems()
    assert "neither a model nor a container" in problem
    # Another name makes it a sidecar.
    assert problems(model=model(), containers=[{**CONTAINER, "name": "proxy"}]) == []


def test_one_of_several_containers_has_kserves_name() -> None:
    unnamed = [{**CONTAINER, "name": "a"}, {**CONTAINER, "name": "b"}]
    [problem] = problems(containers=unnamed)
    assert "kserve-container" in problem
    assert problems(containers=unnamed[:1]) == []


def test_a_transformer_has_containers() -> None:
    found_problems = problems(model=model(), transformer={"minReplicas": 1})
    assert any("a transformer has containers" in problem for problem in found_problems)


def test_a_model_has_a_format_and_no_name() -> None:
    [problem] = problems(model={"storageUri": "s3://bucket/m"})
    assert "modelFormat" in problem
    [problem] = problems(model=model(name="iris"))
    assert "spec.predictor.model.name" in problem
    [problem] = problems(model=model(modelFormat={"name": "sklearn", "version": 1}))
    assert '"1"' in problem


@pytest.mark.parametrize(
    ("mode", "fields", "text"),
    [
        ("Standard", {"minReplicas": 3, "maxReplicas": 2}, "minReplicas 3 is above maxReplicas 2"),
        ("Standard", {"minReplicas": -1}, "below zero"),
        ("Standard", {"minReplicas": 0}, "Knative or KEDA"),
        ("Standard", {"scaleMetric": "rps"}, "rps is no metric of Standard mode"),
        ("Knative", {"scaleMetric": "cpu"}, "cpu is no metric of Knative mode"),
        ("Knative", {"deploymentStrategy": {"type": "Recreate"}}, "only Standard mode"),
        ("Standard", {"canaryTrafficPercent": 10}, "ignores it in Standard mode"),
        ("Standard", {"logger": {"url": "http://x"}}, "`mode: all`"),
    ],
)
def test_settings_that_contradict_the_mode(mode: Mode, fields: dict[str, Any], text: str) -> None:
    [problem] = problems(mode, containers=[CONTAINER], **fields)
    assert text in problem


def test_scaling_to_zero_is_for_knative_and_unlimited_replicas_are_zero() -> None:
    assert problems("Knative", containers=[CONTAINER], minReplicas=0) == []
    assert problems("Knative", containers=[CONTAINER], minReplicas=2, maxReplicas=0) == []


def test_keda_has_its_own_metrics() -> None:
    manifest = service(
        function(kserve={"autoscalerClass": "keda", "scaleMetric": "cpu"}, minReplicas=0,
                 maxReplicas=2)
    )  # fmt: skip
    [problem] = service_problems(manifest, "Standard")
    assert problem.place == "spec.predictor.scaleMetric"


@pytest.mark.parametrize(
    ("container", "place", "text"),
    [
        ({"env": [{"name": "PYTHONPATH", "value": "/x"}]}, "env[0]", "PYTHONPATH"),
        ({"env": [{"name": "N", "value": 1}]}, "env[0].value", '"1"'),
        ({"resources": {"limits": {"cpu": 0.5}}}, "resources.limits.cpu", '"0.5"'),
        ({"args": ["--model_name={{.Name}}"]}, "args[0]", "serving runtimes only"),
    ],
)
def test_containers_that_kserve_refuses_or_takes_literally(
    container: dict[str, Any], place: str, text: str
) -> None:
    [problem] = problems(containers=[{**CONTAINER, **container}])
    assert problem.startswith(f"spec.predictor.containers[0].{place}: ")
    assert text in problem


@pytest.mark.parametrize(
    ("uri", "remedy"),
    [
        ("ftp://host/model", "use one of"),
        ("s3://My_Bucket/model", "lower-case letters"),
        ("pvc://", "as in pvc://claim/folder"),
        ("pvc://claim/dir/model.joblib", "pvc://claim/dir"),
        ("hf://model", "hf://owner/model"),
        ("hf://a/b/c", "hf://owner/model"),
        ("https://example.com", "as in https://host/folder/file.zip"),
    ],
)
def test_storage_uris_that_end_in_an_error(uri: str, remedy: str) -> None:
    [problem] = problems(model=model(storageUri=uri))
    assert problem.startswith("spec.predictor.model.storageUri: ")
    assert remedy in problem


@pytest.mark.parametrize(
    "uri",
    [
        "pvc://model-pvc/saved_models/", "pvc://claim", "s3://bucket/model.joblib", "gs://my_bucket/dir",
        "https://example.com/model.zip", "hf://owner/model:main", "oci://registry/model:1",
        "https://account.blob.core.windows.net/container", "/models", "file:///models",
    ],
)  # fmt: skip
def test_storage_uris_that_kserve_reads(uri: str) -> None:
    assert problems(model=model(storageUri=uri)) == []


def test_models_for_torchserve_are_folders_below_the_bucket() -> None:
    pytorch = {"modelFormat": {"name": "pytorch"}}
    good = "gs://pipeline_kserve_test_01/dir/gs"
    assert problems(model=model(**pytorch, storageUri=good)) == []
    [root] = problems(model=model(**pytorch, storageUri="gs://bucket/"))
    assert "the root of a bucket" in root
    [archive] = problems(model=model(**pytorch, storageUri="s3://bucket/dir/model-store/m.mar"))
    assert "upload the folder that contains both" in archive


def test_misspelt_annotations_are_reported() -> None:
    [warning] = misspelt_annotations({"isdecar.istio.is/inject": "false"})
    assert warning.remedy == "did you mean 'sidecar.istio.io/inject'?"
    assert not list(misspelt_annotations({"sidecar.istio.io/inject": "false", "type": "detector"}))


def test_canaries_are_for_standard_mode_and_sum_to_100_at_most() -> None:
    canaries = [{"trafficPercent": 60, "predictor": {"name": "a"}}] * 2
    spec = {"predictor": {"containers": [CONTAINER]}, "canary": canaries}
    manifest = {"metadata": {"name": "iris"}, "spec": spec}
    texts = [str(problem) for problem in service_problems(manifest, "Knative")]
    assert len(texts) == 3


def test_all_problems_are_in_one_error() -> None:
    manifest = service(function("iris", {"model": SKLEARN}))
    manifest["spec"]["predictor"]["model"]["storageUri"] = "ftp://x"
    manifest["spec"]["predictor"]["minReplicas"] = -1
    with pytest.raises(InputError, match="KServe would refuse inferenceservice iris") as error:
        require_admissible(service_problems(manifest, "Standard"), "inferenceservice iris")
    assert "ftp" in (error.value.detail or "")
    assert error.value.hint


def test_runtimes_have_kserves_container_and_templates_that_it_fills_in() -> None:
    assert list(runtime_problems(runtime("r", supported("sklearn")))) == []
    texts = {
        "--model_name={{.Name}}": 0,
        "--labels={{.Labels.team}}": 0,
        "--x={{.Spec.x}}": 1,
        '--x={{ index .Labels "a-b" }}': 1,
        "--x={{.Name": 1,
    }
    for text, count in texts.items():
        container = {**CONTAINER, "args": [text]}
        manifest = runtime("r", supported("sklearn"), containers=[container])
        assert len(list(runtime_problems(manifest))) == count, text
    other = runtime("r", supported("sklearn"), containers=[{**CONTAINER, "name": "server"}])
    [problem] = runtime_problems(other)
    assert "kserve-container" in str(problem)
    numbered = runtime("r", {"name": "sklearn", "version": 1})
    [problem] = runtime_problems(numbered)
    assert problem.place == "spec.supportedModelFormats[0].version"


def test_a_storage_of_the_logger_is_complete() -> None:
    logger = {"mode": "all", "url": "http://x", "storage": {"path": "logs", "key": "k"}}
    [problem] = problems(model=model(), logger=logger)
    assert problem.startswith("spec.predictor.logger.storage: it lacks parameters")
    logger["storage"] = {"path": "logs", "key": "k", "parameters": {"type": "s3"}}
    assert problems(model=model(), logger=logger) == []


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], "it is empty"),
        ([{"uri": "s3://b/a", "mountPath": "models"}], "models is not an absolute path"),
        ([{"uri": "s3://b/a", "mountPath": "/"}], "/ is not an absolute path below /"),
        ([{"uri": "s3://b/a", "mountPath": "/mnt/../etc"}], "without '..'"),
        ([{"uri": "s3://b/a"}, {"uri": "gs://b/c", "mountPath": "/opt/c"}], "no common parent"),
    ],
)
def test_folders_of_several_downloads(items: Any, message: str) -> None:
    [problem] = problems(containers=[CONTAINER], storageUris=items)
    assert problem.startswith("spec.predictor.storageUris")
    assert message in problem


def test_downloads_and_claims_have_folders_of_their_own() -> None:
    items = [
        {"uri": "s3://bucket/base"},
        {"uri": "hf://owner/adapter", "mountPath": "/mnt/models/adapter"},
        {"uri": "pvc://claim/data", "mountPath": "/data"},
    ]
    assert problems(containers=[CONTAINER], storageUris=items) == []
    [problem] = problems(model=model(), storageUris=items)
    assert "exclude each other" in problem


def test_a_canary_scales_with_the_predictor_that_serves() -> None:
    def canary_problems(**fields: Any) -> list[str]:
        canary = {"trafficPercent": 10, "predictor": {"name": "next", "model": model(), **fields}}
        spec = {"predictor": {"model": model(), "minReplicas": 2}, "canary": [canary]}
        manifest = {"kind": "InferenceService", "metadata": {"name": "iris"}, "spec": spec}
        return list(map(str, service_problems(manifest, "Standard")))

    assert canary_problems(minReplicas=2) == []
    [problem] = canary_problems(minReplicas=3)
    assert "3 is more than the 2 of the predictor that serves" in problem
    [problem] = canary_problems(maxReplicas=4)
    assert problem.startswith("spec.canary[0].predictor.maxReplicas: a canary scales")


def test_a_format_has_one_priority_in_a_runtime() -> None:
    formats = [supported("onnx", "1", priority=1), supported("onnx", "2", priority=2)]
    [problem] = runtime_problems(runtime("server", *formats))
    assert problem.place == "spec.supportedModelFormats[1].priority"
    formats[1]["priority"] = 1
    assert not list(runtime_problems(runtime("server", *formats)))


def test_models_in_the_old_form_have_no_name() -> None:
    [problem] = problems(sklearn={"storageUri": "s3://bucket/m", "name": "iris"})
    assert problem.startswith("spec.predictor.sklearn.name: the webhook does not allow it")

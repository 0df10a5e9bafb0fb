"""Functions under KServe on a real cluster, where a stand-in acts for KServe's controller."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from fnbuild.cli.app import run
from fnbuild.errors import (
    ConflictError,
    InputError,
    NotFoundError,
    NotReadyError,
    PreconditionError,
    UsageError,
)
from fnbuild.function.types import Raw
from fnbuild.platforms import Artifact, Plan, PlanOptions, lookup
from fnbuild.platforms.kserve.platform import KServePlatform
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.storage.volumes import HostPathVolume, VolumeRequest, create_volume
from tests.cluster import kubeconfig_of, own_namespace, require_local_node
from tests.engine import PYTHON_IMAGE, until
from tests.platforms.kserve.samples import function, supported
from tests.platforms.kserve.test_service_manifest import SAMPLES

pytestmark = pytest.mark.system

SERVER = """\
import http.server, json, os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
print("the model is loaded", flush=True)
MODELS = os.environ.get("STORAGE_URI", "/nowhere")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        length = int(self.headers.get("Content-Length") or 0)
        reply = {"word": os.environ.get("WORD"), "host": self.headers["Host"], "path": self.path,
                 "arguments": sys.argv[1:], "body": self.rfile.read(length).decode()}
        if os.path.isdir(MODELS):
            reply |= {"model": os.listdir(MODELS), "writable": os.access(MODELS, os.W_OK)}
        data = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    do_POST = do_GET
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""
COMMAND = ["python3", "-u", "-c", SERVER]
FAILING = ["python3", "-c", "raise SystemExit('no weights in /mnt/models')"]

Commands = Callable[..., tuple[int, str, str]]


@pytest.fixture
def commands(platform: KServePlatform, namespace: str, capsys: Any) -> Commands:
    """Run a command line for the platform, and return its status, stdout and stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = run([*arguments, "--platform", "kserve", "-n", namespace])
        output = capsys.readouterr()
        return status, output.out, output.err

    return call


class Deployer:
    """Deploys servers of an existing image."""

    def __init__(self, platform: KServePlatform, namespace: str):
        self.platform = platform
        self.namespace = namespace
        self.progress: list[str] = []

    def plan(self, name: str, kserve: dict[str, Any], **spec: Any) -> Plan:
        options = PlanOptions(**spec.pop("options", {}))
        spec.setdefault("readinessTimeoutSeconds", 30)
        image = "" if kserve.get("model", {}).get("format") else PYTHON_IMAGE
        if kserve.get("component") or kserve.get("servingRuntime"):
            image = PYTHON_IMAGE
        described = function(name, kserve, **spec).with_metadata(namespace=self.namespace)
        return self.platform.plan(described, Artifact("image", image, ""), options)

    def deploy(self, name: str = "greeter", word: str = "hello", **settings: Any) -> Any:
        spec = settings.pop("spec", {})
        kserve = {"command": COMMAND, **settings}
        plan = self.plan(name, kserve, env=[{"name": "WORD", "value": word}], **spec)
        return self.platform.apply(plan, self.progress.append)

    def services(self) -> list[str]:
        listed = self.platform.cluster.list(kinds.INFERENCE_SERVICE, self.namespace)
        return sorted(item["metadata"]["name"] for item in listed)


@pytest.fixture
def deployer(platform: KServePlatform, namespace: str) -> Deployer:
    return Deployer(platform, namespace)


def ask(platform: KServePlatform, deployment: Any, path: str = "/") -> dict[str, Any]:
    import urllib.request

    with (
        platform.reachable_url(deployment) as url,
        urllib.request.urlopen(url + path, timeout=30) as reply,
    ):
        answer: dict[str, Any] = json.load(reply)
    return answer


def test_a_deleted_function_leaves_nothing_in_the_cluster(
    deployer: Deployer, platform: KServePlatform, namespace: str
) -> None:
    deployment = deployer.deploy()
    assert deployment.url == f"http://greeter-{namespace}.example.com"
    assert deployment.service is not None
    assert (deployment.service.ready, deployment.service.latest_traffic) == ("True", 100)
    reply = ask(platform, deployment)
    assert (reply["word"], reply["arguments"]) == ("hello", ["--model_name=greeter"])
    unchanged = deployer.plan(
        "greeter", {"command": COMMAND}, env=[{"name": "WORD", "value": "hello"}]
    )
    assert unchanged.effective_changes == ()

    assert platform.delete(namespace, "greeter") is True
    assert platform.delete(namespace, "greeter") is False
    assert deployer.services() == []
    assert platform.cluster.list(kinds.CONFIG_MAP, namespace, labels="fnbuild.io/record") == []
    with pytest.raises(NotFoundError, match="greeter"):
        platform.deployment(namespace, "greeter")


def test_the_port_of_grpc_is_that_of_the_service(
    deployer: Deployer, platform: KServePlatform, namespace: str, commands: Commands
) -> None:
    def grpc_port() -> Any:
        described = json.loads(commands("get", "functions", "greeter", "-o", "json")[1])
        described = described[0] if isinstance(described, list) else described
        return described["status"].get("grpcPort")

    deployer.deploy()
    assert grpc_port() is None
    trigger = {"kind": "http", "attributes": {"protocols": ["v2", "grpc"]}}
    deployer.deploy(spec={"triggers": {"http": trigger}})
    service = platform.cluster.get(kinds.SERVICE, namespace, "greeter-predictor")
    assert service is not None
    [port] = [item["port"] for item in service["spec"]["ports"] if item["name"] == "grpc"]
    assert grpc_port() == port


def test_a_canary_gets_its_share_and_is_promoted(
    deployer: Deployer, platform: KServePlatform, namespace: str
) -> None:
    with pytest.raises(PreconditionError, match="no revision that could get the other requests"):
        deployer.deploy(canaryTrafficPercent=20)
    deployer.deploy()
    canary = deployer.deploy(word="new", canaryTrafficPercent=20)
    assert canary.service is not None
    assert (canary.service.latest_traffic, canary.service.previous_traffic) == (20, 80)
    live = platform.cluster.get(kinds.INFERENCE_SERVICE, namespace, "greeter")
    assert live is not None
    [entry] = live["spec"]["canary"]

    def word_of(predictor: dict[str, Any]) -> str:
        [container] = predictor["containers"]
        [word] = [item["value"] for item in container["env"] if item["name"] == "WORD"]
        return str(word)

    assert (word_of(live["spec"]["predictor"]), word_of(entry["predictor"])) == ("hello", "new")
    promoted = deployer.deploy(word="new", canaryTrafficPercent=100)
    assert promoted.service is not None
    assert promoted.service.latest_traffic == 100
    live = platform.cluster.get(kinds.INFERENCE_SERVICE, namespace, "greeter")
    assert live is not None
    assert "canary" not in live["spec"]
    assert word_of(live["spec"]["predictor"]) == "new"


@pytest.mark.parametrize(
    "kserve", [{"component": "pair"}, {"component": "transformer", "predictorImage": PYTHON_IMAGE}]
)
def test_a_transformer_has_no_canary_in_standard_mode(
    kserve: dict[str, Any], deployer: Deployer, platform: KServePlatform
) -> None:
    # Without pods, the first revision is ready at once.
    platform.apply(deployer.plan("labels", kserve, disable=True), deployer.progress.append)
    canary = {**kserve, "canaryTrafficPercent": 20}
    with pytest.raises(PreconditionError, match="canaries of predictors only") as error:
        deployer.plan("labels", canary)
    assert "`deploymentMode: Knative`" in (error.value.hint or "")
    with pytest.raises(PreconditionError, match="canaries of predictors only"):
        deployer.plan("labels", {"canaryTrafficPercent": 20})


def test_a_failed_revision_leaves_a_canary_and_a_service_from_a_file_as_they_were(
    deployer: Deployer, platform: KServePlatform, namespace: str
) -> None:
    def spec_of(name: str) -> dict[str, Any]:
        live = platform.cluster.get(kinds.INFERENCE_SERVICE, namespace, name)
        assert live is not None
        spec: dict[str, Any] = live["spec"]
        return spec

    [manifest] = deployer.plan("manual", {"command": COMMAND}).manifests
    platform.cluster.apply(manifest)
    deployer.deploy()
    deployer.deploy(word="new", canaryTrafficPercent=20)
    for name in ("greeter", "manual"):
        before = spec_of(name)
        with pytest.raises(NotReadyError):
            deployer.deploy(name, command=FAILING)
        assert spec_of(name) == before
    assert "canary" in spec_of("greeter")


def test_a_service_keeps_its_mode(deployer: Deployer) -> None:
    deployer.deploy()
    with pytest.raises(PreconditionError, match="runs in Standard mode"):
        deployer.plan("greeter", {"command": COMMAND, "deploymentMode": "Knative"})
    former_name = {"command": COMMAND, "deploymentMode": "RawDeployment"}
    assert deployer.plan("greeter", former_name).effective_changes


def test_a_model_runs_on_the_runtime_of_a_function(
    deployer: Deployer, platform: KServePlatform, namespace: str
) -> None:
    """The article about serving runtimes: a runtime around an image, and a model that names it."""
    model = {"format": "sklearn", "storageUri": "s3://bucket/iris", "runtime": "example-runtime"}
    with pytest.raises(PreconditionError, match="RuntimeNotRecognized"):
        deployer.plan("iris", {"model": model})
    runtime = deployer.deploy("example-runtime", servingRuntime={"formats": [supported("sklearn")]})
    assert (runtime.state, runtime.replicas) == ("ready", (0, 0))
    plan = deployer.plan("iris", {"model": model})
    [explanation] = plan.explanations
    assert "ServingRuntime example-runtime serves the model" in explanation
    iris = platform.apply(plan, deployer.progress.append)
    assert iris.image is None
    reply = ask(platform, iris)
    assert "--model_name=iris" in reply["arguments"]
    assert reply["word"] == "hello"
    messages = [record.message for record in platform.init_logs(namespace, "iris")]
    assert "Copying contents of s3://bucket/iris to local" in messages
    with pytest.raises(ConflictError, match="already selects sklearn"):
        deployer.plan("other", {"servingRuntime": {"formats": [supported("sklearn")]}})
    for name in ("iris", "example-runtime"):
        assert platform.delete(namespace, name)
    assert platform.cluster.list(kinds.SERVING_RUNTIME, namespace) == []


def test_runtimes_of_the_cluster_belong_to_the_function_of_one_namespace(
    deployer: Deployer, platform: KServePlatform, namespace: str
) -> None:
    settings = {"formats": [{"name": namespace}], "cluster": True}

    def live() -> Raw | None:
        return platform.cluster.get(kinds.CLUSTER_SERVING_RUNTIME, "", namespace)

    with own_namespace(platform.cluster) as other_namespace:
        other = Deployer(platform, other_namespace)
        deployer.deploy(namespace, servingRuntime=settings)
        try:
            with pytest.raises(ConflictError, match=f"the function in namespace {namespace}"):
                other.deploy(namespace, servingRuntime=settings)
            # A function whose runtime was replaced does not remove the new one.
            platform.cluster.delete(kinds.CLUSTER_SERVING_RUNTIME, "", namespace)
            other.deploy(namespace, servingRuntime=settings)
            assert platform.deployment(namespace, namespace).state == "unhealthy"
            assert platform.delete(namespace, namespace)
            assert live() is not None
            assert platform.delete(other_namespace, namespace)
            assert live() is None
        finally:
            platform.cluster.delete(kinds.CLUSTER_SERVING_RUNTIME, "", namespace)


def test_a_failed_download_is_reported_with_its_log(deployer: Deployer) -> None:
    deployer.deploy("example-runtime", servingRuntime={"formats": [supported("sklearn")]})
    model = {"format": "sklearn", "storageUri": "s3://bucket/missing"}
    with pytest.raises(NotReadyError, match="container storage-initializer") as error:
        deployer.platform.apply(deployer.plan("iris", {"model": model}), print)
    assert "s3://bucket/missing" in (error.value.detail or "")
    assert deployer.services() == []


def test_a_transformer_joins_the_service_of_its_predictor(
    deployer: Deployer, platform: KServePlatform, namespace: str
) -> None:
    settings = {"component": "transformer", "inferenceService": "mobilenet"}
    with pytest.raises(PreconditionError, match="no InferenceService mobilenet"):
        deployer.deploy("prepare", **settings)
    deployer.deploy("mobilenet", "predictor")
    transformer = deployer.deploy("prepare", "transformer", **settings)
    assert deployer.services() == ["mobilenet"]
    reply = ask(platform, transformer)
    assert reply["word"] == "transformer"
    assert reply["arguments"] == [
        "--model_name", "mobilenet", "--predictor_host", f"mobilenet-predictor.{namespace}",
        "--http_port", "8080",
    ]  # fmt: skip
    # A new revision of the predictor leaves the transformer alone.
    deployer.deploy("mobilenet", "newer")
    live = platform.cluster.get(kinds.INFERENCE_SERVICE, namespace, "mobilenet")
    assert live is not None
    assert "transformer" in live["spec"]
    assert platform.delete(namespace, "prepare")
    live = platform.cluster.get(kinds.INFERENCE_SERVICE, namespace, "mobilenet")
    assert live is not None
    assert "transformer" not in live["spec"]
    assert platform.deployment(namespace, "mobilenet").state == "ready"


def test_a_folder_of_a_claim_is_mounted_read_only(
    deployer: Deployer, platform: KServePlatform, namespace: str, tmp_path: Path
) -> None:
    require_local_node(platform.cluster)
    (tmp_path / "iris").mkdir()
    (tmp_path / "iris" / "model.joblib").touch()
    backend = HostPathVolume(str(tmp_path))
    create_volume(platform.cluster, VolumeRequest(namespace, "models", "1Gi", backend=backend))
    try:
        deployment = deployer.deploy(model={"storageUri": "pvc://models/iris/"})
        reply = ask(platform, deployment)
        assert (reply["model"], reply["writable"]) == (["model.joblib"], False)
    finally:
        platform.delete(namespace, "greeter")
        platform.cluster.delete(kinds.VOLUME, "", f"{namespace}-models")


def test_objects_that_a_function_refers_to_must_exist(deployer: Deployer) -> None:
    claim = {"command": COMMAND, "model": {"storageUri": "pvc://nowhere/model"}}
    with pytest.raises(PreconditionError, match="no PersistentVolumeClaim nowhere") as error:
        deployer.plan("greeter", claim)
    assert "fnbuild create volume" in (error.value.hint or "")
    env = [{"name": "STORAGE_URI", "value": "pvc://nowhere/model"}]
    with pytest.raises(PreconditionError, match=r"STORAGE_URI: .*Claim nowhere"):
        deployer.plan("greeter", {"command": COMMAND}, env=env)
    other = {"command": COMMAND, "model": {"storageUri": "s3://bucket/model"}}
    with pytest.raises(InputError, match="STORAGE_URI is pvc://nowhere/model") as conflict:
        deployer.plan("greeter", other, env=env)
    assert "remove one of them" in (conflict.value.hint or "")
    with pytest.raises(PreconditionError, match="no ServiceAccount nobody"):
        deployer.plan("greeter", {"command": COMMAND}, serviceAccount="nobody")
    described = {"format": "sklearn", "storage": {"key": "lake", "path": "iris"}}
    with pytest.raises(PreconditionError, match="there is no Secret storage-config"):
        deployer.plan("iris", {"model": described})
    metadata = {"name": "storage-config", "namespace": deployer.namespace}
    entries = kinds.SECRET.manifest(metadata, stringData={"default_s3": "{}"})
    deployer.platform.cluster.create(entries)
    with pytest.raises(PreconditionError, match="has no entry 'lake'") as error:
        deployer.plan("iris", {"model": described})
    assert error.value.hint == "it has default_s3"
    assert deployer.services() == []


def test_objects_of_other_tools_are_listed_and_not_changed(
    deployer: Deployer, platform: KServePlatform, namespace: str
) -> None:
    container = {"name": "kserve-container", "image": PYTHON_IMAGE, "command": COMMAND}
    manifest = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "greeter", "namespace": namespace},
        "spec": {"predictor": {"containers": [container]}},
    }
    platform.cluster.apply(manifest, manager="kubectl")
    until("the service", lambda: platform.deployment(namespace, "greeter").state == "ready")
    [listed] = platform.deployments(namespace)
    assert listed.details["deployed_by"] == "another tool"
    with pytest.raises(ConflictError, match="not managed by fnbuild"):
        deployer.deploy()
    with pytest.raises(NotFoundError, match="was not deployed by fnbuild"):
        platform.delete(namespace, "greeter")


def test_secrets_are_in_a_secret_and_nowhere_else(
    deployer: Deployer, platform: KServePlatform, namespace: str
) -> None:
    spec = {"metadata": {"annotations": {"fnbuild.io/secret-env": "WORD"}}}
    deployment = deployer.deploy(word="swordfish", spec=spec)
    assert ask(platform, deployment)["word"] == "swordfish"
    for kind in (kinds.INFERENCE_SERVICE, kinds.CONFIG_MAP, kinds.DEPLOYMENT):
        assert "swordfish" not in json.dumps(platform.cluster.list(kind, namespace))
    revealed = platform.function_with_secrets(deployment)
    assert [item.value for item in revealed.spec.env] == ["swordfish"]
    annotated = spec["metadata"]
    env = [{"name": "WORD", "value": "swordfish"}]
    plan = deployer.plan("greeter", {"command": COMMAND}, metadata=annotated, env=env)
    assert "swordfish" not in json.dumps(plan.manifests)
    [instruction] = plan.prerequisites
    assert "kubectl create secret generic greeter.kserve" in instruction


def test_images_on_record_are_in_use_on_every_platform_of_the_cluster(
    deployer: Deployer, platform: KServePlatform, namespace: str
) -> None:
    kserve = {"servingRuntime": {"formats": [supported("sklearn")]}}
    described = function("runtime", kserve).with_metadata(namespace=namespace)
    digest, tag = "1a" * 32, "fnbuild-0123456789ab"
    image = f"registry.example.com/{namespace}"
    pinned = f"{image}:{tag}@sha256:{digest}"
    plan = platform.plan(described, Artifact("image", f"{image}:latest", "c0de", pinned=pinned))
    platform.apply(plan, deployer.progress.append)
    assert pinned in platform.image_use(namespace).references
    assert pinned in lookup("kube").image_use(namespace).references


def test_a_function_is_stopped_exported_and_imported(
    commands: Commands, namespace: str, tmp_path: Path, platform: KServePlatform
) -> None:
    file = write(tmp_path, "greeter")
    status, _, errors = commands("deploy", "-f", str(file), "--run-image", PYTHON_IMAGE)
    assert status == 0, errors
    status, _, errors = commands("update", "function", "greeter", "--disable")
    assert status == 0, errors
    assert platform.deployment(namespace, "greeter").state == "standby"
    until("the end of the pods", lambda: not platform.replica_names(namespace, "greeter"))
    status, _, errors = commands("update", "function", "greeter", "--disable=false")
    assert status == 0, errors
    assert platform.deployment(namespace, "greeter").state == "ready"
    status, exported, errors = commands("export", "functions", "greeter")
    assert status == 0, errors
    assert commands("delete", "function", "greeter")[0] == 0
    place = tmp_path / "exported.yaml"
    place.write_text(exported)
    status, _, errors = commands("import", "functions", str(place))
    assert status == 0, errors
    assert platform.deployment(namespace, "greeter").state == "imported"
    status, _, errors = commands("redeploy", "greeter")
    assert status == 0, errors
    assert platform.deployment(namespace, "greeter").state == "ready"


def test_a_killed_deploy_leaves_a_record_that_leads_to_its_objects(
    deployer: Deployer, platform: KServePlatform, namespace: str, tmp_path: Path
) -> None:
    file = write(tmp_path, "greeter", command=["sleep", "1000"])
    command = ["fnbuild", "deploy", "-f", str(file), "--run-image", PYTHON_IMAGE]
    process = subprocess.Popen([*command, "--platform", "kserve", "-n", namespace])
    try:
        until("the service", lambda: deployer.services() == ["greeter"])
        listed = platform.deployment(namespace, "greeter")
        assert (listed.state, bool(listed.ongoing_change)) == ("building", True)
    finally:
        process.kill()
        process.wait()
    listed = platform.deployment(namespace, "greeter")
    assert (listed.state, listed.message) == ("error", "its deploy was interrupted")
    assert platform.delete(namespace, "greeter")
    assert deployer.services() == []


@pytest.mark.parametrize("name", SAMPLES)
def test_the_api_server_accepts_the_manifests(
    name: str, kserve_cluster: Cluster, cluster_namespace: str
) -> None:
    from tests.platforms.kserve.samples import service

    manifest = service(SAMPLES[name])
    manifest["metadata"]["namespace"] = cluster_namespace
    created = kserve_cluster.apply(manifest, dry_run=True)
    assert created["spec"] == manifest["spec"]


def write(folder: Path, name: str, **kserve: Any) -> Path:
    """Write the configuration of a function of an existing image."""
    spec = {"platform": {"attributes": {"kserve": {"command": COMMAND, **kserve}}}}
    file = folder / "function.yaml"
    file.write_text(yaml.safe_dump({"metadata": {"name": name}, "spec": spec}))
    return file


def test_commands_deploy_list_invoke_and_forward(
    commands: Commands, namespace: str, tmp_path: Path, platform: KServePlatform
) -> None:
    file = write(tmp_path, "greeter")
    status, _, errors = commands("deploy", "-f", str(file), "--run-image", PYTHON_IMAGE)
    assert status == 0, errors
    host = f"greeter-{namespace}.example.com"
    status, output, _ = commands("get", "functions", "-o", "wide")
    assert status == 0
    head, row = (line.lower() for line in output.splitlines()[:2])
    for column in ("url", "ready", "latest", "previous", "age"):
        assert column in head
    assert f"http://{host}" in row
    assert "true" in row
    assert "100 %" in row

    _, output, _ = commands("get", "functions", "greeter", "-o", "json")
    described = json.loads(output)
    described = described[0] if isinstance(described, list) else described
    assert described["status"]["service"]["url"] == f"http://{host}"
    assert described["status"]["service"]["latestTraffic"] == 100

    status, output, errors = commands("invoke", "greeter", "-b", '{"instances": []}', "-p",
                                      "/v1/models/greeter:predict")  # fmt: skip
    assert status == 0, errors
    reply = json.loads(output)
    assert (reply["host"], reply["path"]) == (host, "/v1/models/greeter:predict")
    with platform.reachable_url(platform.deployment(namespace, "greeter")) as gateway:
        status, output, errors = commands("invoke", "greeter", "--gateway", gateway)
        assert status == 0, errors
        assert json.loads(output)["host"] == host
    status, output, errors = commands("logs", "greeter", "--init")
    assert status != 0
    assert "storage-initializer" in errors
    status, _, errors = commands("update", "function", "greeter", "-e", "WORD=updated")
    assert status == 0, errors
    _, output, _ = commands("invoke", "greeter")
    assert json.loads(output)["word"] == "updated"
    assert commands("delete", "function", "greeter")[0] == 0


def test_commands_say_where_they_do_not_apply(commands: Commands) -> None:
    status, _, errors = commands("port-forward", "greeter", "x:y")
    assert status == 2
    assert "no pair of ports" in errors
    process = lookup("process")
    with pytest.raises(UsageError, match="no container that fetches a model"):
        process.init_logs("nuclio", "greeter")


HANDLER = """\
def init_context(context):
    context.logger.info("the model is loaded")

def handler(context, event):
    return {"got": event.body}
"""


def test_a_folder_becomes_a_predictor_of_v1(
    commands: Commands,
    namespace: str,
    tmp_path: Path,
    platform: KServePlatform,
    built_images: None,
) -> None:
    file = tmp_path / "function.yaml"
    attributes = {"protocols": ["v1", "v2"]}
    spec = {
        "handler": "main:handler",
        "runtime": "python:3.11",
        "build": {"image": namespace, "noBaseImagesPull": True},
        "triggers": {"http": {"kind": "http", "attributes": attributes}},
    }
    file.write_text(yaml.safe_dump({"metadata": {"name": "greeter"}, "spec": spec}))
    (tmp_path / "main.py").write_text(HANDLER)
    status, _, errors = commands("deploy", "--path", str(tmp_path))
    assert status == 0, errors
    body, path = '{"instances": [{"a": 1}, {"a": 2}]}', "/v1/models/greeter:predict"
    status, output, errors = commands(
        "invoke", "greeter", "-c", "application/json", "-b", body, "-p", path
    )
    assert status == 0, errors
    assert json.loads(output) == {"predictions": [{"got": {"a": 1}}, {"got": {"a": 2}}]}
    json_type = ("-c", "application/json")
    status, output, _ = commands("invoke", "greeter", *json_type, "-b", '{"b": 1}')
    assert json.loads(output) == {"got": {"b": 1}}
    [statistics] = platform.statistics(platform.deployment(namespace, "greeter")).values()
    assert statistics.requests
    _check_versions(commands, platform, namespace)
    (tmp_path / "main.py").write_text("import nowhere_to_be_found\n")
    status, _, errors = commands("deploy", "--path", str(tmp_path))
    assert status == 1
    assert "nowhere_to_be_found" in errors
    assert "revision 3 goes on serving" in errors


def _check_versions(commands: Commands, platform: KServePlatform, namespace: str) -> None:
    """Check that pods know the revision that started them, and that others leave them running."""

    def version(number: int) -> Any:
        path = f"/v2/models/greeter/versions/{number}"
        _, output, _ = commands("invoke", "greeter", "-m", "GET", "-p", path)
        reply = json.loads(output)
        return reply.get("versions", reply)

    assert version(1) == ["1"]
    pods = platform.replica_names(namespace, "greeter")
    status, _, errors = commands("update", "function", "greeter", "--max-replicas", "2")
    assert status == 0, errors
    assert platform.deployment(namespace, "greeter").revision == 2
    assert platform.replica_names(namespace, "greeter") == pods
    assert version(1) == ["1"]
    status, _, errors = commands("update", "function", "greeter", "-e", "WORD=new")
    assert status == 0, errors
    assert version(3) == ["3"]
    error = "Model with name greeter has no version 1; revision 3 is serving."
    assert version(1) == {"error": error}


PAIR = """\
def handler(context, event):
    return {"predictions": [2 * value for value in event.body["instances"]]}

def preprocess(context, payload):
    return {"instances": [float(text) for text in payload["instances"]]}

def postprocess(context, payload):
    return {"predictions": ["%.1f" % value for value in payload["predictions"]]}
"""


def test_a_pair_is_the_transformer_before_its_own_predictor(
    commands: Commands,
    namespace: str,
    tmp_path: Path,
    platform: KServePlatform,
    built_images: None,
) -> None:
    attributes = {"protocols": ["v1"], "event": "request"}
    spec = {
        "handler": "main:handler",
        "runtime": "python:3.11",
        "build": {"image": namespace, "noBaseImagesPull": True},
        "triggers": {"http": {"kind": "http", "attributes": attributes}},
        "platform": {"attributes": {"kserve": {"component": "pair"}}},
    }
    config = {"metadata": {"name": "pair"}, "spec": spec}
    (tmp_path / "function.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "main.py").write_text(PAIR)
    status, _, errors = commands("deploy", "--path", str(tmp_path))
    assert status == 0, errors
    assert platform.deployment(namespace, "pair").replicas == (2, 2)
    status, output, errors = commands(
        "invoke", "pair", "-c", "application/json", "-b", '{"instances": ["1", "2.5"]}',
        "-p", "/v1/models/pair:predict",
    )  # fmt: skip
    assert status == 0, errors
    assert json.loads(output) == {"predictions": ["2.0", "5.0"]}


def test_kserves_configuration_is_read_and_left_alone(
    deployer: Deployer, platform: KServePlatform, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FNBUILD_KSERVE_NAMESPACE", namespace)
    data = {
        "deploy": json.dumps({"defaultDeploymentMode": "Serverless"}),
        "storageInitializer": json.dumps({"cpuLimit": "1", "memoryLimit": "1Gi"}),
    }
    metadata = {"name": "inferenceservice-config", "namespace": namespace}
    created = platform.cluster.create(kinds.CONFIG_MAP.manifest(metadata, data=data))
    [manifest] = deployer.plan("greeter", {"command": COMMAND}).manifests
    [container] = manifest["spec"]["predictor"]["containers"]
    assert container["ports"][0]["name"] == "http1"
    deployer.deploy("runtime", servingRuntime={"formats": [supported("sklearn")]})
    model = {"format": "sklearn", "storageUri": "s3://bucket/iris"}
    explanations = deployer.plan("iris", {"model": model}).explanations
    assert "cpu 1, memory 1Gi" in explanations[1]
    standard = deployer.plan("greeter", {"command": COMMAND, "deploymentMode": "Standard"})
    [explanation] = standard.explanations
    assert explanation == f"the host of the service is greeter-{namespace}.example.com"
    findings = list(platform.examine(namespace))
    assert [(finding.area, finding.state) for finding in findings] == [
        ("kserve", "ok"),
        ("kserve", "ok"),
        ("rights", "ok"),
    ]
    assert "Knative mode by default" in findings[0].message
    assert "runtime" in findings[1].message
    live = platform.cluster.get(kinds.CONFIG_MAP, namespace, "inferenceservice-config")
    assert live == created


def test_missing_permissions_are_listed_with_commands_that_grant_them(
    kserve_cluster: Cluster, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules: list[Raw] = [{"apiGroups": [""], "resources": ["*"], "verbs": ["*"]}]
    file = kubeconfig_of(kserve_cluster, namespace, "reader", rules, tmp_path / "config")
    monkeypatch.setenv("KUBECONFIG", str(file))
    services, *others = KServePlatform().examine(namespace, areas={"rights"})
    assert services.state == "failure"
    assert "inferenceservices.serving.kserve.io" in services.message
    assert "--resource=inferenceservices.serving.kserve.io" in services.remedy
    assert f"--serviceaccount={namespace}:reader" in services.remedy
    resources = {finding.message.split(" in ")[0].split()[-1] for finding in others}
    assert resources == {
        "servingruntimes.serving.kserve.io",
        "clusterservingruntimes.serving.kserve.io",
        "deployments.apps",
        "persistentvolumes",
        "storageclasses.storage.k8s.io",
    }


def test_without_rights_in_the_cluster_its_runtimes_are_left_to_kserve(
    kserve_cluster: Cluster, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules: list[Raw] = [
        {"apiGroups": ["", "serving.kserve.io"], "resources": ["*"], "verbs": ["*"]}
    ]
    file = kubeconfig_of(kserve_cluster, namespace, "author", rules, tmp_path / "config")
    monkeypatch.setenv("KUBECONFIG", str(file))
    deployer = Deployer(KServePlatform(), namespace)
    model = {"format": "sklearn", "storageUri": "s3://bucket/iris"}
    [explanation] = deployer.plan("iris", {"model": model}).explanations
    assert "no ServingRuntime that takes the format sklearn in namespace" in explanation
    assert "which this account may not list" in explanation
    named = {**model, "runtime": "kserve-sklearnserver"}
    [explanation] = deployer.plan("iris", {"model": named}).explanations
    assert "no ServingRuntime kserve-sklearnserver in namespace" in explanation
    findings = list(KServePlatform().examine(namespace, areas={"kserve"}))
    assert "serving runtimes of the namespace: none" in [item.message for item in findings]
    formats = [supported("sklearn")]
    deployer.deploy("off", servingRuntime={"formats": formats, "disabled": True})
    with pytest.raises(PreconditionError, match="RuntimeDisabled"):
        deployer.plan("iris", {"model": {**model, "runtime": "off"}})

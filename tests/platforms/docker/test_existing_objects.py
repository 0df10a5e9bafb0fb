"""Existing objects of the engine and the machine: ports, names, networks, Nuclio's containers."""

from __future__ import annotations

import json
import os
import socket
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from fnbuild.deploy import pipeline
from fnbuild.errors import (
    ConflictError,
    FnbuildError,
    InputError,
    PreconditionError,
    UnavailableError,
    UsageError,
)
from fnbuild.function.types import Function, Platform, Spec
from fnbuild.platforms import Artifact, lookup
from fnbuild.platforms.addresses import docker_gateway
from fnbuild.platforms.docker import DockerPlatform, ports
from tests.engine import PYTHON_IMAGE, EngineResources, free_port
from tests.platforms.docker.author import Author, invoke

pytestmark = pytest.mark.system


def listening(port: int) -> set[str]:
    """Return the IPv4 addresses of this machine that have a listener on the port."""
    addresses = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, state = line.split()[1], line.split()[3]
        address, _, number = local.partition(":")
        if state == "0A" and int(number, 16) == port:
            addresses.add(socket.inet_ntoa(bytes.fromhex(address)[::-1]))
    return addresses


def test_functions_listen_on_loopback_and_the_bridge_gateway(author: Author) -> None:
    gateway = docker_gateway()
    if gateway is None:
        pytest.skip("this machine has no interface docker0")
    # Common names of functions are valid.
    name = "pth.sam_vit.B"
    deployment = author.deploy(author.write("hello", name=name))
    assert deployment.details["container"] == f"nuclio-{author.namespace}-{name}"
    bindings = author.inspect_container(name)["NetworkSettings"]["Ports"]["8080/tcp"]
    assert {binding["HostIp"] for binding in bindings} == {"127.0.0.1", gateway}
    assert listening(deployment.http_port) <= {"127.0.0.1", gateway}
    assert invoke(deployment.http_port, host=gateway) == "hello"
    assert deployment.external_urls == (
        f"127.0.0.1:{deployment.http_port}",
        f"{gateway}:{deployment.http_port}",
    )
    [listed] = author.platform.deployments(author.namespace)
    assert listed.name == name
    assert author.platform.delete(author.namespace, name) is True


def test_functions_listen_on_all_addresses_on_request(author: Author) -> None:
    folder = author.write("hello")
    deployment = author.deploy(folder, listen="0.0.0.0")
    bindings = author.inspect_container()["NetworkSettings"]["Ports"]["8080/tcp"]
    assert {binding["HostIp"] for binding in bindings} == {"0.0.0.0"}
    second = author.deploy(folder)
    assert second.http_port == deployment.http_port
    bindings = author.inspect_container()["NetworkSettings"]["Ports"]["8080/tcp"]
    assert "0.0.0.0" not in {binding["HostIp"] for binding in bindings}


def test_status_requests_reach_the_handler_and_an_unknown_address_changes_nothing(
    author: Author,
) -> None:
    first = author.deploy(author.write("old"))
    with urllib.request.urlopen(f"http://127.0.0.1:{first.http_port}/status", timeout=60) as reply:
        assert reply.read() == b"old"
    before = author.inspect_container()["Id"]
    with pytest.raises(InputError, match=r"no address 198\.51\.100\.7"):
        author.deploy(author.write("new"), listen="loopback,198.51.100.7")
    assert author.inspect_container()["Id"] == before
    assert invoke(first.http_port) == "old"


def test_a_fixed_port_is_used_or_refused(author: Author) -> None:
    port = free_port()
    spec = "triggers: {{web: {{kind: http, attributes: {{port: {}}}}}}}"
    deployment = author.deploy(author.write("hello", spec=spec.format(port)))
    assert deployment.http_port == port
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        taken = listener.getsockname()[1]
        with pytest.raises(ConflictError, match=str(taken)) as failure:
            author.deploy(author.write("hello", spec=spec.format(taken)))
    assert str(os.getpid()) in failure.value.message
    assert invoke(port) == "hello"
    with pytest.raises(ConflictError, match=f"belongs to {author.namespace}/greeter"):
        author.deploy(author.write("two", name="other", spec=spec.format(port)))


def test_another_port_is_chosen_when_the_first_is_taken(
    author: Author, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[int] = []
    find_free_port = ports._free_port
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        taken: int = listener.getsockname()[1]

        def lose(*arguments: Any) -> int:
            # The ports of the plan and of the first attempt are taken after they were chosen.
            chosen.append(taken if len(chosen) < 3 else find_free_port(*arguments))
            return chosen[-1]

        monkeypatch.setattr(ports, "_free_port", lose)
        deployment = author.deploy(author.write("hello"))
        assert deployment.http_port == chosen[-1] != taken
        assert invoke(deployment.http_port) == "hello"
        assert any(f"port {taken} on 127.0.0.1 is taken" in line for line in author.progress)
        assert author.inspect_container()["Config"]["Labels"]["fnbuild.io/port"] == str(
            deployment.http_port
        )
        [only] = author.platform.revisions(author.namespace, "greeter")
        assert (only.number, only.state) == (1, "active")

        # The number of attempts is limited.
        monkeypatch.setattr(ports, "_free_port", lambda *_: taken)
        with pytest.raises(ConflictError, match=str(taken)):
            author.deploy(author.write("two", name="other"))
    assert author.docker("ps", "-aq", "--filter", f"name={author.container('other')}") == ""


def test_settings_without_effect_are_reported(author: Author) -> None:
    spec = "runRegistry: registry.example\nnodeName: one"
    author.write("hello", spec=spec)
    [message] = [
        warning
        for warning in pipeline.plan(request(author)).warnings
        if "without effect" in warning
    ]
    assert "runRegistry" in message
    assert "nodeName" in message


def test_no_port_is_published_on_request(author: Author) -> None:
    spec = "triggers: {web: {kind: http, attributes: {disablePortPublishing: true}}}"
    deployment = author.deploy(author.write("hello", spec=spec))
    assert (deployment.state, deployment.http_port, deployment.external_urls) == ("ready", 0, ())
    [address] = deployment.internal_urls
    assert invoke(8080, host=address.partition(":")[0]) == "hello"
    assert pipeline.plan(request(author)).effective_changes == ()


def request(author: Author) -> pipeline.DeployRequest:
    folder = author.home / "functions/greeter"
    return pipeline.DeployRequest(path=folder, platform="local", namespace=author.namespace)


def test_a_foreign_container_with_the_name_is_refused(author: Author) -> None:
    author.docker("create", "--name", author.container(), PYTHON_IMAGE, "sleep", "1")
    with pytest.raises(ConflictError, match="neither fnbuild nor Nuclio"):
        author.deploy(author.write("hello"))
    assert author.inspect_container()["State"]["Status"] == "created"
    assert author.platform.deployments(author.namespace) == []


def test_containers_join_an_existing_network(author: Author, resources: EngineResources) -> None:
    network = resources.name("net")
    spec = """
    platform:
      attributes:
        restartPolicy: {name: always, maximumRetryCount: 3}
        mountMode: volume
    """
    author.write("hello", spec=spec)
    attributes = Platform(attributes={"network": network})
    request = pipeline.DeployRequest(
        path=author.home / "functions/greeter",
        platform="local",
        namespace=author.namespace,
        overrides=Function(spec=Spec(platform=attributes)),
    )
    with pytest.raises(PreconditionError, match=network) as failure:
        pipeline.plan(request)
    assert "bridge" in (failure.value.hint or "")
    author.docker("network", "create", network)
    try:
        deployment = pipeline.deploy(request, author.progress.append)
        container = author.inspect_container()
        assert container["HostConfig"]["RestartPolicy"]["Name"] == "always"
        endpoint = container["NetworkSettings"]["Networks"][network]
        assert author.container() in endpoint["Aliases"]
        assert deployment.internal_urls == (f"{endpoint['IPAddress']}:8080",)
        assert invoke(deployment.http_port) == "hello"
        assert pipeline.plan(request).effective_changes == ()
    finally:
        author.docker("rm", "--force", author.container())
        author.docker("network", "rm", network)


def test_volumes_and_variables_reach_the_handler(author: Author, tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (models / "weights").write_text("heavy")
    code = """
    import os

    def handler(context, event):
        try:
            open("/models/other", "w")
        except OSError as error:
            return [open("/models/weights").read(), error.strerror, os.environ["WORD"]]
    """
    spec = f"""
    env: [{{name: WORD, value: "it's $HOME"}}]
    volumes:
    - volume: {{name: v, hostPath: {{path: {models}}}}}
      volumeMount: {{name: v, mountPath: /models, readOnly: true}}
    """
    name = "YOLO-v8"
    deployment = author.deploy(author.write_code(code, name=name, spec=spec))
    assert deployment.details["container"] == f"nuclio-{author.namespace}-{name}"
    [listed] = author.platform.deployments(author.namespace)
    assert listed.name == name
    assert json.loads(invoke(deployment.http_port)) == [
        "heavy",
        "Read-only file system",
        "it's $HOME",
    ]
    assert author.platform.delete(author.namespace, name) is True


def test_functions_of_nuclio_are_listed_and_protected(
    author: Author, platform: DockerPlatform
) -> None:
    port = free_port()
    labels = {
        "nuclio.io/platform": "local",
        "nuclio.io/namespace": author.namespace,
        "nuclio.io/function-name": "greeter",
        "nuclio.io/project-name": "cvat",
        "nuclio.io/function-spec": '{"handler": "main:handler", "runtime": "python:3.9"}',
        "nuclio.io/annotations": '{"type": "detector"}',
    }
    label_flags = [part for key, value in labels.items() for part in ("--label", f"{key}={value}")]
    published = ("--publish", f"127.0.0.1:{port}:8080")
    name = ("--name", author.container(), "--stop-timeout", "1")
    server = ("python3", "-m", "http.server", "8080")
    author.docker("run", "--detach", *name, *label_flags, *published, PYTHON_IMAGE, *server)
    deployment = author.deployment()
    assert (deployment.state, deployment.http_port, deployment.revision) == ("ready", port, 0)
    assert deployment.function.metadata.annotations == {"type": "detector"}
    assert deployment.details["deployed_by"] == "Nuclio"
    with pytest.raises(PreconditionError, match="Nuclio"):
        platform.delete(author.namespace, "greeter")
    with pytest.raises(PreconditionError, match="Nuclio"):
        platform.redeploy(author.namespace, "greeter", author.progress.append)
    # A deploy takes over the function and its port.
    deployment = author.deploy(author.write("hello"))
    assert (deployment.http_port, deployment.revision) == (port, 1)
    assert invoke(port) == "hello"


def test_a_missing_image_is_an_error(author: Author, platform: DockerPlatform) -> None:
    function = pipeline.prepare(
        pipeline.DeployRequest(path=author.write("hello"), namespace=author.namespace)
    ).function
    plan = platform.plan(function, Artifact("image", "127.0.0.1:1/missing/image:1", ""))
    with pytest.raises(FnbuildError, match="missing/image"):
        platform.apply(plan, author.progress.append)
    assert author.docker("ps", "-aq", "--filter", f"name={author.namespace}") == ""


def test_an_image_without_a_function_is_refused(author: Author) -> None:
    request = pipeline.DeployRequest(
        path=author.write("old"), platform="local", namespace=author.namespace, image=PYTHON_IMAGE
    )
    for step in (pipeline.plan, lambda image: pipeline.deploy(image, author.progress.append)):
        with pytest.raises(InputError, match="holds no function: it runs ") as failure:
            step(request)
        assert "fnbuild build" in (failure.value.hint or "")


def test_a_missing_host_path_is_a_warning(author: Author, tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    volume = (
        "volumes:\n"
        f"  - volume: {{name: v, hostPath: {{path: {absent}}}}}\n"
        "    volumeMount: {name: v, mountPath: /weights}"
    )
    folder = author.write("hello", spec=volume)
    request = pipeline.DeployRequest(path=folder, platform="local", namespace=author.namespace)
    assert any(f"there is no {absent}" in warning for warning in pipeline.plan(request).warnings)


def test_unsupported_options_are_refused(author: Author) -> None:
    with pytest.raises(UsageError, match="Docker platform has no option keep_failed"):
        author.deploy(author.write("hello"), keep_failed=True)


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("unix:///nowhere/docker.sock", "the socket does not exist"),
        ("tcp://127.0.0.1:1", "refused"),
    ],
)
def test_a_missing_engine_is_an_error(
    host: str, message: str, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", host)
    platform = DockerPlatform()
    with pytest.raises(UnavailableError, match=message) as failure:
        platform.deployments("nuclio")
    assert host in failure.value.message
    assert "DOCKER_HOST" in (failure.value.hint or "")
    assert host in platform.problems()[0]


def test_the_platform_has_two_names() -> None:
    assert lookup("docker").name == lookup("local").name == DockerPlatform.name

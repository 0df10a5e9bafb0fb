"""The environment of a function's processes, its listen addresses and its plan."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from pathlib import Path

import pytest

import fnbuild
from fnbuild.deploy import pipeline
from fnbuild.errors import PreconditionError, UsageError
from fnbuild.platforms import addresses
from fnbuild.platforms.clean_environment import clean_environment
from fnbuild.platforms.process import ProcessPlatform, listeners, supervisor_client
from tests.platforms.process.author import NAMESPACE, Author, invoke, wait_for

pytestmark = pytest.mark.system

ENVIRONMENT = """
import json, os

def handler(context, event):
    return dict(os.environ)
"""


def test_functions_do_not_inherit_the_shell_environment(
    platform: ProcessPlatform, author: Author, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUD_TOKEN", "secret")
    monkeypatch.setenv("PYTHONSTARTUP", "/nowhere")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    spec = "env:\n  - name: GREETING\n    value: it's here"
    deployment = author.deploy(author.write_code(ENVIRONMENT, spec=spec))
    environment = json.loads(invoke(deployment.http_port))
    assert environment["GREETING"] == "it's here"
    assert environment["CUDA_VISIBLE_DEVICES"] == "0"
    assert environment["PATH"]
    assert not {"CLOUD_TOKEN", "PYTHONSTARTUP", "VIRTUAL_ENV"} & set(environment)
    checkout = str(Path(fnbuild.__file__).parent.parent)
    assert checkout not in environment.get("PYTHONPATH", "").split(":")


CALLER = """
import nuclio_sdk

def handler(context, event):
    event = nuclio_sdk.Event(body="?", method="POST", path="/", headers={})
    return context.platform.call_function("greeter", event, timeout=10).body
"""


def test_functions_call_each_other(platform: ProcessPlatform, author: Author) -> None:
    author.deploy(author.write("one"))
    caller = author.deploy(author.write_code(CALLER, name="caller"))
    assert invoke(caller.http_port) == "one"
    author.deploy(author.write("two"))
    assert invoke(caller.http_port) == "two"


def test_an_activated_environment_is_removed_from_path() -> None:
    environment = clean_environment(
        {"PATH": "/env/bin:/usr/bin", "VIRTUAL_ENV": "/env", "SECRET": "x"}
    )
    assert environment["PATH"] == "/usr/bin"
    assert set(environment) == {"PATH", "PYTHONPATH", "PYTHONUNBUFFERED"}


def invoke_at(host: str, port: int) -> bytes:
    with urllib.request.urlopen(f"http://{host}:{port}/", timeout=20) as reply:
        body: bytes = reply.read()
    return body


def test_a_function_listens_on_several_addresses(platform: ProcessPlatform, author: Author) -> None:
    first = author.deploy(author.write("one"))
    port = first.http_port
    deployment = author.deploy(author.write("two"), listen="loopback,127.0.0.2")
    assert deployment.http_port == port
    assert deployment.external_urls == (f"127.0.0.1:{port}", f"127.0.0.2:{port}")
    assert (invoke_at("127.0.0.1", port), invoke_at("127.0.0.2", port)) == (b"two", b"two")

    # A new supervisor takes over all of them.
    running = supervisor_client.running_supervisor()
    assert running is not None
    os.kill(running.pid, signal.SIGKILL)
    platform.up()
    redeployed = platform.redeploy(NAMESPACE, "greeter", author.progress.append)
    assert redeployed.external_urls == deployment.external_urls
    assert (invoke_at("127.0.0.1", port), invoke_at("127.0.0.2", port)) == (b"two", b"two")

    author.deploy(author.write("three"))
    assert invoke_at("127.0.0.1", port) == b"three"

    def refused() -> bool:
        try:
            invoke_at("127.0.0.2", port)
        except OSError:
            return True
        return False

    assert wait_for(refused)
    with pytest.raises(PreconditionError, match="all addresses"):
        author.deploy(author.write("four"), listen="0.0.0.0")


def test_listen_names_addresses() -> None:
    assert addresses.listen_hosts("loopback") == (("127.0.0.1",), ())
    assert addresses.listen_hosts("10.0.0.1, loopback")[0] == ("127.0.0.1", "10.0.0.1")
    assert addresses.listen_hosts("loopback,0.0.0.0")[0] == ("0.0.0.0",)
    with pytest.raises(UsageError, match="everywhere"):
        addresses.listen_hosts("everywhere")
    assert addresses.bridge_gateway("lo") == "127.0.0.1"
    assert addresses.bridge_gateway("nothing0") is None


def test_listening_for_docker_without_docker_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "_BRIDGE", "nothing0")
    hosts, warnings = addresses.listen_hosts("loopback,docker")
    assert hosts == ("127.0.0.1",)
    assert "nothing0" in warnings[0]
    monkeypatch.setattr(addresses, "_BRIDGE", "lo")
    assert addresses.listen_hosts("docker") == (("127.0.0.1",), ())


def test_ports_are_below_the_range_of_outgoing_connections() -> None:
    sockets = listeners.open_listeners(["127.0.0.1", "127.0.0.2"], 0, 0)
    port = sockets.port
    try:
        lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
        assert 20000 <= sockets.port < max(21000, lowest)
        assert sockets.hosts == ("127.0.0.1", "127.0.0.2")
        assert sockets.admin_port != sockets.port
        assert f"pid {os.getpid()}" in (addresses.port_owner(sockets.port) or "")
    finally:
        sockets.close()
    assert addresses.port_owner(port) is None


IGNORED_KEYS = """
replicas: 3
nodeSelector:
  gpu: "true"
resources:
  limits:
    cpu: "2"
    nvidia.com/gpu: 1
volumes:
  - volume: {name: v}
    volumeMount: {name: v, mountPath: /v}
env:
  - name: SECRET
    valueFrom:
      secretKeyRef: {name: a, key: b}
build:
  directives:
    preCopy:
      - kind: USER
        value: root
      - kind: RUN
        value: apt-get update
triggers:
  web:
    kind: http
  stream:
    kind: kafka-cluster
  timer:
    kind: cron
    attributes:
      interval: 10s
"""


def test_ignored_keys_of_one_kind_are_one_warning(
    platform: ProcessPlatform, author: Author
) -> None:
    folder = author.write(spec=IGNORED_KEYS)
    plan = pipeline.plan(pipeline.DeployRequest(path=folder))
    [build] = [warning for warning in plan.warnings if "need a container" in warning]
    assert "USER root" in build
    assert "apt-get update" in build
    [keys] = [warning for warning in plan.warnings if "without effect" in warning]
    for key in ("nodeSelector", "replicas", "resources.limits.cpu", "volumes"):
        assert key in keys
    assert "nvidia.com/gpu" not in keys
    assert any("SECRET" in warning for warning in plan.warnings)
    [kinds] = [warning for warning in plan.warnings if "triggers of these kinds" in warning]
    assert "kafka-cluster" in kinds
    assert "cron" not in kinds


def test_a_deploy_without_changes_keeps_the_revision(
    platform: ProcessPlatform, author: Author
) -> None:
    folder = author.write("one")
    first = author.deploy(folder)
    second = author.deploy(folder)
    assert second.revision == 1
    assert second.details["pid"] == first.details["pid"]
    assert "nothing has changed, and the function runs" in author.progress
    forced = author.deploy(folder, force=True)
    assert forced.revision == 2
    assert forced.details["pid"] != first.details["pid"]
    with pytest.raises(UsageError, match="monitoring"):
        author.deploy(folder, monitoring=True)


def test_a_stopped_function_is_deployed_without_changes(
    platform: ProcessPlatform, author: Author
) -> None:
    folder = author.write("one")
    author.deploy(folder)
    platform.down()
    assert author.deploy(folder).state == "ready"

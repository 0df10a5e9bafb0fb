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
from fnbuild.platforms.process import ProcessPlatform, listeners, supervisor_client
from fnbuild.platforms.process.daemon import clean_environment
from tests.platforms.process.author import NAMESPACE, Author, ask, wait_for

pytestmark = pytest.mark.system

ENVIRONMENT = """
import json, os

def handler(context, event):
    return dict(os.environ)
"""


def test_the_callers_shell_stays_outside(
    platform: ProcessPlatform, author: Author, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUD_TOKEN", "secret")
    monkeypatch.setenv("PYTHONSTARTUP", "/nowhere")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    spec = "env:\n  - name: GREETING\n    value: it's here"
    made = author.deploy(author.write_code(ENVIRONMENT, spec=spec))
    seen = json.loads(ask(made.http_port))
    assert seen["GREETING"] == "it's here"
    assert seen["CUDA_VISIBLE_DEVICES"] == "0"
    assert seen["PATH"]
    assert not {"CLOUD_TOKEN", "PYTHONSTARTUP", "VIRTUAL_ENV"} & set(seen)
    own = str(Path(fnbuild.__file__).parent.parent)
    assert own not in seen.get("PYTHONPATH", "").split(":")


CALLER = """
import nuclio_sdk

def handler(context, event):
    asked = nuclio_sdk.Event(body="?", method="POST", path="/", headers={})
    return context.platform.call_function("greeter", asked, timeout=10).body
"""


def test_functions_call_each_other(platform: ProcessPlatform, author: Author) -> None:
    author.deploy(author.write("one"))
    caller = author.deploy(author.write_code(CALLER, name="caller"))
    assert ask(caller.http_port) == "one"
    author.deploy(author.write("two"))
    assert ask(caller.http_port) == "two"


def test_an_activated_environment_is_left_out_of_path() -> None:
    found = clean_environment({"PATH": "/env/bin:/usr/bin", "VIRTUAL_ENV": "/env", "SECRET": "x"})
    assert found["PATH"] == "/usr/bin"
    assert set(found) == {"PATH", "PYTHONPATH", "PYTHONUNBUFFERED"}


def ask_at(host: str, port: int) -> bytes:
    with urllib.request.urlopen(f"http://{host}:{port}/", timeout=20) as reply:
        body: bytes = reply.read()
    return body


def test_more_addresses_on_the_same_port(platform: ProcessPlatform, author: Author) -> None:
    first = author.deploy(author.write("one"))
    port = first.http_port
    made = author.deploy(author.write("two"), listen="loopback,127.0.0.2")
    assert made.http_port == port
    assert made.external_urls == (f"127.0.0.1:{port}", f"127.0.0.2:{port}")
    assert (ask_at("127.0.0.1", port), ask_at("127.0.0.2", port)) == (b"two", b"two")

    # A supervisor that comes later gets all of them.
    running = supervisor_client.running_supervisor()
    assert running is not None
    os.kill(running.pid, signal.SIGKILL)
    platform.up()
    again = platform.redeploy(NAMESPACE, "greeter", author.progress.append)
    assert again.external_urls == made.external_urls
    assert (ask_at("127.0.0.1", port), ask_at("127.0.0.2", port)) == (b"two", b"two")

    author.deploy(author.write("three"))
    assert ask_at("127.0.0.1", port) == b"three"

    def refused() -> bool:
        try:
            ask_at("127.0.0.2", port)
        except OSError:
            return True
        return False

    assert wait_for(refused)
    with pytest.raises(PreconditionError, match="all addresses"):
        author.deploy(author.write("four"), listen="0.0.0.0")


def test_what_listen_means() -> None:
    assert addresses.listen_hosts("loopback") == (("127.0.0.1",), ())
    assert addresses.listen_hosts("10.0.0.1, loopback")[0] == ("127.0.0.1", "10.0.0.1")
    assert addresses.listen_hosts("loopback,0.0.0.0")[0] == ("0.0.0.0",)
    with pytest.raises(UsageError, match="everywhere"):
        addresses.listen_hosts("everywhere")
    assert addresses.bridge_gateway("lo") == "127.0.0.1"
    assert addresses.bridge_gateway("nothing0") is None


def test_docker_without_docker_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "_BRIDGE", "nothing0")
    hosts, warnings = addresses.listen_hosts("loopback,docker")
    assert hosts == ("127.0.0.1",)
    assert "nothing0" in warnings[0]
    monkeypatch.setattr(addresses, "_BRIDGE", "lo")
    assert addresses.listen_hosts("docker") == (("127.0.0.1",), ())


def test_ports_lie_below_those_of_outgoing_connections() -> None:
    made = listeners.open_listeners(["127.0.0.1", "127.0.0.2"], 0, 0)
    made_port = made.port
    try:
        lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
        assert 20000 <= made.port < max(21000, lowest)
        assert made.hosts == ("127.0.0.1", "127.0.0.2")
        assert made.admin_port != made.port
        assert f"pid {os.getpid()}" in (addresses.port_owner(made.port) or "")
    finally:
        made.close()
    assert addresses.port_owner(made_port) is None


WITHOUT_MEANING = """
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


def test_each_kind_of_key_without_meaning_is_one_warning(
    platform: ProcessPlatform, author: Author
) -> None:
    folder = author.write(spec=WITHOUT_MEANING)
    made = pipeline.plan(pipeline.DeployRequest(path=folder))
    [build] = [one for one in made.warnings if "need a container" in one]
    assert "USER root" in build
    assert "apt-get update" in build
    [keys] = [one for one in made.warnings if "without effect" in one]
    for key in ("nodeSelector", "replicas", "resources.limits.cpu", "volumes"):
        assert key in keys
    assert "nvidia.com/gpu" not in keys
    assert any("SECRET" in one for one in made.warnings)
    [kinds] = [one for one in made.warnings if "triggers of these kinds" in one]
    assert "kafka-cluster" in kinds
    assert "cron" not in kinds


def test_a_deploy_without_a_change_changes_nothing(
    platform: ProcessPlatform, author: Author
) -> None:
    folder = author.write("one")
    first = author.deploy(folder)
    again = author.deploy(folder)
    assert again.revision == 1
    assert again.details["pid"] == first.details["pid"]
    assert "nothing has changed, and the function runs" in author.progress
    forced = author.deploy(folder, force=True)
    assert forced.revision == 2
    assert forced.details["pid"] != first.details["pid"]
    with pytest.raises(UsageError, match="monitoring"):
        author.deploy(folder, monitoring=True)


def test_a_dead_function_is_deployed_although_nothing_changed(
    platform: ProcessPlatform, author: Author
) -> None:
    folder = author.write("one")
    author.deploy(folder)
    platform.down()
    assert author.deploy(folder).state == "ready"

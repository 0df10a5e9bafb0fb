"""The effects of a configuration inside a real container."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.engine import until
from tests.platforms.docker.author import Author, invoke

pytestmark = pytest.mark.system

IDENTITY = """\
import os

def handler(context, event):
    own = os.open("/dev/own", os.O_WRONLY) if os.path.exists("/dev/own") else None
    return {
        "user": os.getuid(),
        "group": os.getgid(),
        "groups": os.getgroups(),
        "device": own is not None and os.fstat(own).st_rdev == os.stat("/dev/null").st_rdev,
    }
"""


def health(author: Author) -> str:
    return str(author.inspect_container()["State"]["Health"]["Status"])


def test_user_groups_and_devices_reach_the_container(author: Author) -> None:
    spec = """
    securityContext: {runAsUser: 1234, runAsGroup: 2345, fsGroup: 3456}
    devices: ["/dev/null:/dev/own:rw"]
    platform: {attributes: {healthCheckInterval: 1s}}
    """
    deployment = author.deploy(author.write_code(IDENTITY, spec=spec))
    reply = json.loads(invoke(deployment.http_port))
    assert (reply["user"], reply["group"]) == (1234, 2345)
    assert 3456 in reply["groups"]
    assert reply["device"] is True
    assert author.docker("exec", author.container(), "id", "-u").strip() == "1234"
    assert author.docker("exec", author.container(), "id", "-g").strip() == "2345"
    assert "3456" in author.docker("exec", author.container(), "id", "-G").split()
    # Docker runs the health check as that user, too.
    until("the health check", lambda: health(author) == "healthy")


def test_docker_reports_an_unhealthy_function(author: Author, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    code = """
    import os

    if os.path.exists("/shared/broken"):
        raise RuntimeError("it cannot be loaded any more")

    def handler(context, event):
        os._exit(1)
    """
    spec = f"""
    platform: {{attributes: {{healthCheckInterval: 1s}}}}
    volumes:
    - volume: {{name: v, hostPath: {{path: {shared}}}}}
      volumeMount: {{name: v, mountPath: /shared}}
    """
    deployment = author.deploy(author.write_code(code, spec=spec))
    until("the health check", lambda: health(author) == "healthy")
    (shared / "broken").touch()

    def is_unhealthy() -> bool:
        try:
            invoke(deployment.http_port)
        except (AssertionError, OSError):
            return health(author) == "unhealthy"
        return False

    until("the unhealthy state", is_unhealthy)
    assert author.deployment().state != "ready"

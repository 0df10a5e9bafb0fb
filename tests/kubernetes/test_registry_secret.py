"""`create registry-secret` on the cluster: nodes use it to pull, and no output has the password."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fnbuild.platforms.kubeclient import kinds
from tests.builder.image import bases
from tests.cluster import require_local_node
from tests.containers.conftest import PROGRAM
from tests.engine import Registry, free_port
from tests.engine import registry as registry_of
from tests.kubernetes.conftest import OnCluster

pytestmark = pytest.mark.system

CREATE = ("create", "registry-secret", "--platform", "kube")
CODE = "def handler(context, event):\n    return 'pulled'\n"


@pytest.fixture
def private_registry(user: OnCluster, tmp_path: Path) -> Iterator[Registry]:
    """A registry that requires a login; nodes can reach it, and the user's docker is logged in."""
    require_local_node(user.cluster)
    with registry_of(tmp_path, free_port(), login=True) as server:
        user.environment["DOCKER_CONFIG"] = str(tmp_path)
        login = ("docker", "login", server.address, "--username", server.user, "--password-stdin")
        result = user.run(*login, stdin=server.password.encode())
        assert result.returncode == 0, result.stderr
        yield server
        del user.environment["DOCKER_CONFIG"]


def _auths(user: OnCluster, name: str) -> dict[str, dict[str, str]]:
    secret = user.live_object(kinds.SECRET, name)
    assert secret["type"] == "kubernetes.io/dockerconfigjson"
    auths: dict[str, dict[str, str]] = json.loads(
        base64.b64decode(secret["data"][".dockerconfigjson"])
    )["auths"]
    return auths


def test_nodes_use_the_secret_from_the_next_deploy_on(
    user: OnCluster, private_registry: Registry, tmp_path: Path
) -> None:
    code = tmp_path / "private"
    code.mkdir()
    (code / "main.py").write_text(CODE)
    name = user.resources.name("private")
    arguments = (
        "--path",
        code / "main.py",
        "--image",
        name,
        "-r",
        private_registry.address,
        "--base-image",
    )
    user.resources.images += [f"{name}:latest", f"{private_registry.address}/{name}:latest"]
    user.fnbuild("build", "private", *arguments, bases.image("no-shell"))
    for image in user.resources.images[-2:]:
        subprocess.run(["docker", "rmi", "--force", image], capture_output=True, check=True)

    image = f"{private_registry.address}/{name}:latest"
    deploy = ("deploy", "private", "--platform", "kube", "--run-image", image)
    handler = ("--runtime", "python:3.11", "--handler", "main:handler")
    result = user.run(PROGRAM, *deploy, *handler)
    assert result.returncode == 1
    assert "requires a login" in result.stderr
    assert "fnbuild create registry-secret --platform kube" in result.stderr

    password = f"{private_registry.password}\n".encode()
    arguments = (
        *CREATE,
        "--server",
        f"http://{private_registry.address}/",
        "--username",
        private_registry.user,
    )
    result = user.run(PROGRAM, *arguments, "--password-stdin", stdin=password)
    assert result.returncode == 0, result.stderr
    assert private_registry.password not in result.stdout + result.stderr
    assert "created secret registry-credentials" in result.stderr
    assert set(_auths(user, "registry-credentials")) == {private_registry.address}
    user.fnbuild(*deploy, *handler)
    reply = user.fnbuild("invoke", "private", "--platform", "kube")
    assert reply.strip() == "pulled"
    user.fnbuild("delete", "function", "private", "--platform", "kube")
    arguments = ("delete", "secret", "registry-credentials", "--namespace", user.namespace)
    subprocess.run(["kubectl", *arguments], capture_output=True, check=True)


def test_a_secret_is_updated_and_may_have_another_name(user: OnCluster, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("first\n")
    arguments = (*CREATE, "hub", "--registry", "docker.io", "--username", "ann")
    result = user.run(PROGRAM, *arguments, "--password-file", file, "--email", "ann@example.com")
    assert result.returncode == 0, result.stderr
    assert "created secret hub" in result.stderr
    assert "spec.imagePullSecrets" in result.stderr
    (entry,) = _auths(user, "hub").items()
    auth = base64.b64encode(b"ann:first").decode()
    credentials = {"username": "ann", "password": "first", "email": "ann@example.com", "auth": auth}
    assert entry == ("https://index.docker.io/v1/", credentials)

    result = user.run(PROGRAM, *arguments, "--password", "second")
    assert result.returncode == 0, result.stderr
    assert "updated secret hub" in result.stderr
    assert "warning: a password in a command line" in result.stderr
    assert "second" not in result.stderr
    assert _auths(user, "hub")["https://index.docker.io/v1/"]["password"] == "second"


@pytest.mark.parametrize(
    ("options", "password", "message"),
    [
        (["--registry", "127.0.0.1:5000"], "", "there is no password"),
        (["--registry", "127.0.0.1:5000", "--password-stdin"], "\n", "the password is empty"),
        (["--registry", "a b", "--password-stdin"], "x", "not the name of a registry"),
        (["--registry", "a", "--password-stdin", "--password", "x"], "x", "from one place"),
        (["--registry", "a", "--password-file", "/missing"], "", "cannot read the password"),
        (["--registry", "a", "--password-stdin", "--platform", "local"], "x", "has no secrets"),
        (["--registry", "a", "--password-stdin", "-n", "fnbuild-missing"], "x", "fnbuild-missing"),
    ],
)
def test_invalid_options_are_refused(
    options: list[str], password: str, message: str, user: OnCluster
) -> None:
    result = user.run(PROGRAM, *CREATE, "--username", "ann", *options, stdin=password.encode())
    assert result.returncode in (1, 2)
    assert message in result.stderr
    assert "Traceback" not in result.stderr

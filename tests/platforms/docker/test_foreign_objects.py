"""Containers and volumes with misleading labels or names do not disturb others."""

from __future__ import annotations

import json

import pytest

from fnbuild.deploy import pipeline
from fnbuild.errors import NotFoundError, PreconditionError
from fnbuild.platforms import Project
from fnbuild.platforms.docker import DockerPlatform
from tests.engine import PYTHON_IMAGE
from tests.platforms.docker.author import Author, invoke

pytestmark = pytest.mark.system

RUNS = ("python3", "-m", "http.server", "8080")


def label_options(author: Author, name: str, **more: str) -> tuple[str, ...]:
    """Return the flags that give a container the labels of Nuclio and additional ones."""
    spec = {"handler": "main:handler", "runtime": "python:3.9"}
    labels = {
        "nuclio.io/platform": "local",
        "nuclio.io/namespace": author.namespace,
        "nuclio.io/function-name": name,
        "nuclio.io/function-spec": json.dumps(spec),
    }
    labels |= {key.replace("__", ".io/").replace("_", "-"): text for key, text in more.items()}
    return tuple(part for key, text in labels.items() for part in ("--label", f"{key}={text}"))


def create_foreign_container(author: Author, name: str, **more: str) -> None:
    """Create a container that claims to be a function; `more` has the misleading labels."""
    label_flags = label_options(author, name, **more)
    author.docker("create", "--name", author.container(name), *label_flags, PYTHON_IMAGE, *RUNS)


MALFORMED = {
    "no-variables": {"nuclio__function_spec": '{"triggers": [], "env": 7}'},
    "no-json": {"nuclio__function_spec": "no JSON"},
    "no-number": {"fnbuild__revision": "newest", "fnbuild__port": "http"},
    "no-spec": {"fnbuild__revision": "1", "fnbuild__function": '{"spec": [1]}'},
}


def test_malformed_containers_do_not_hide_functions(
    author: Author, platform: DockerPlatform
) -> None:
    platform.create_project(Project("own", author.namespace))
    for name, more in MALFORMED.items():
        create_foreign_container(author, name, **more)
    folder = author.write("hello", spec="description: well")
    request = pipeline.DeployRequest(
        path=folder, platform="local", namespace=author.namespace, project="own"
    )
    deployment = pipeline.deploy(request, author.progress.append)
    assert invoke(deployment.http_port) == "hello"
    deployments = {
        deployment.name: deployment for deployment in platform.deployments(author.namespace)
    }
    ready = [name for name, deployment in deployments.items() if deployment.state == "ready"]
    assert (set(deployments), ready) == ({"greeter", *MALFORMED}, ["greeter"])
    assert [deployment.name for deployment in platform.deployments(author.namespace, "own")] == [
        "greeter"
    ]
    assert platform.delete_project(author.namespace, "own", cascade=True) is True
    assert {deployment.name for deployment in platform.deployments(author.namespace)} == set(
        MALFORMED
    )


def test_a_malformed_record_does_not_hide_functions_and_can_be_deleted(
    author: Author, platform: DockerPlatform
) -> None:
    labels = {
        "fnbuild.io/record": "imported",
        "fnbuild.io/namespace": author.namespace,
        "fnbuild.io/name": "strange",
        "fnbuild.io/function": '{"spec": [1]}',
    }
    label_flags = [part for key, text in labels.items() for part in ("--label", f"{key}={text}")]
    author.docker("volume", "create", *label_flags, f"fnbuild-{author.namespace}.strange.imported")
    author.deploy(author.write("hello"))
    deployments = {
        deployment.name: deployment for deployment in platform.deployments(author.namespace)
    }
    assert (deployments["greeter"].state, deployments["strange"].state) == ("ready", "error")
    assert "spec" in deployments["strange"].message
    assert platform.delete(author.namespace, "strange") is True
    assert [deployment.name for deployment in platform.deployments(author.namespace)] == ["greeter"]


def test_a_project_with_a_function_of_nuclio_is_not_deleted(
    author: Author, platform: DockerPlatform
) -> None:
    platform.create_project(Project("own", author.namespace))
    create_foreign_container(author, "theirs", nuclio__project_name="own")
    request = pipeline.DeployRequest(
        path=author.write("hello"), platform="local", namespace=author.namespace, project="own"
    )
    deployment = pipeline.deploy(request, author.progress.append)
    with pytest.raises(PreconditionError, match="theirs was deployed by Nuclio"):
        platform.delete_project(author.namespace, "own", cascade=True)
    assert invoke(deployment.http_port) == "hello"


def test_a_foreign_volume_with_the_name_is_kept(author: Author, platform: DockerPlatform) -> None:
    author.docker("volume", "create", author.container())
    author.deploy(author.write("hello"))
    assert platform.delete(author.namespace, "greeter") is True
    with pytest.raises(NotFoundError):
        author.deployment()
    assert author.docker("volume", "ls", "-q", "--filter", f"name={author.container()}") != ""


def test_the_volume_of_a_replaced_nuclio_container_is_removed(author: Author) -> None:
    name = author.container()
    volume = ("--volume", f"{name}:/etc/nuclio/config/processor:ro")
    label_flags = label_options(author, "greeter")
    started = ("run", "--detach", "--stop-timeout", "1", "--name", name)
    author.docker(*started, *label_flags, *volume, PYTHON_IMAGE, *RUNS)
    assert author.docker("volume", "ls", "-q", "--filter", f"name={name}").split() == [name]
    deployment = author.deploy(author.write("hello"))
    assert invoke(deployment.http_port) == "hello"
    assert name not in author.docker("volume", "ls", "-q", "--filter", f"name={name}").split()

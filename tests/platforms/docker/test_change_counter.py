"""The change counter of the Docker platform."""

from __future__ import annotations

import pytest

from fnbuild.function.types import Function, Metadata
from fnbuild.platforms.docker import DockerPlatform
from tests.engine import PYTHON_IMAGE, EngineResources, call, until

pytestmark = pytest.mark.system


def test_changes_by_all_clients_are_counted(
    platform: DockerPlatform, namespace: str, resources: EngineResources
) -> None:
    until("listening", lambda: platform.change_counter() > 0)
    counter = platform.change_counter()
    platform.store_imported(Function(metadata=Metadata(name="f", namespace=namespace)))
    until("a change by the record", lambda: platform.change_counter() > counter)
    counter = platform.change_counter()
    labels = {"platform": "local", "namespace": namespace, "function-name": "g"}
    flags = [f"--label=nuclio.io/{key}={value}" for key, value in labels.items()]
    container = resources.name(f"{namespace}-g")
    call(
        resources.engine,
        "run",
        "--detach",
        "--name",
        container,
        *flags,
        PYTHON_IMAGE,
        "sleep",
        "60",
    )
    until("a change by the container", lambda: platform.change_counter() > counter)
    assert {deployment.name for deployment in platform.deployments(namespace)} == {"f", "g"}

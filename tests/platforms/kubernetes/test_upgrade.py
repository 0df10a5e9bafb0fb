"""Objects that an earlier release made in a cluster are read, served and changed by this one.

`tests/data/upgrade/cluster.yaml` has the objects that an earlier release made: a project, and a
function with two revisions and a failed one. Names of images and of the namespace are placeholders.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.kinds import CONFIG_MAP
from tests.cluster import invoke
from tests.engine import until
from tests.platforms.kubernetes.author import Author, Commands

pytestmark = pytest.mark.system

STORED = Path(__file__).parents[2] / "data" / "upgrade" / "cluster.yaml"


@pytest.fixture
def upgraded(cluster: Cluster, author: Author, image: str) -> Author:
    """The objects of the earlier release in the namespace of this test."""
    text = STORED.read_text().replace("NAMESPACE", author.namespace)
    text = text.replace("PINNED_IMAGE", image).replace("IMAGE", image)
    secret: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "api", "namespace": author.namespace},
        "stringData": {"token": "abc"},
    }
    for manifest in (secret, *yaml.safe_load_all(text)):
        write = cluster.create if manifest["kind"] == "ConfigMap" else cluster.apply
        write(manifest)
    until("the function of the earlier release", lambda: author.deployment().state == "ready")
    return author


def test_functions_and_revisions_of_an_earlier_release_are_read(upgraded: Author) -> None:
    function = upgraded.deployment()
    assert function.revision == 2
    revisions = upgraded.platform.revisions(upgraded.namespace, "greeter")
    states = sorted((item.number, item.state) for item in revisions)
    assert states == [(1, "superseded"), (2, "active"), (3, "failed")]
    projects = upgraded.platform.projects(upgraded.namespace)
    assert ("cameras", "street cameras") in [(item.name, item.description) for item in projects]


def test_commands_change_functions_of_an_earlier_release(
    upgraded: Author, cluster: Cluster, fnbuild: Commands
) -> None:
    def answer() -> str:
        return invoke(upgraded.deployment().external_urls[0])

    def call(*arguments: str) -> None:
        status, _, messages = fnbuild(*arguments)
        assert status == 0, messages

    assert answer() == "second"
    call("rollback", "greeter", "1")
    until("the answer of revision 1", lambda: answer() == "first")
    call("update", "function", "greeter", "--env", "WORD=third")
    until("the answer of the update", lambda: answer() == "third")
    assert upgraded.deployment().revision == 5
    call("delete", "function", "greeter")
    call("delete", "project", "cameras")
    remaining = cluster.list(
        CONFIG_MAP, upgraded.namespace, labels="app.kubernetes.io/managed-by=fnbuild"
    )
    assert remaining == []

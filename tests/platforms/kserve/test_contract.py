"""The KServe platform satisfies the contract of all platforms, with a stand-in for KServe."""

from pathlib import Path

import pytest

from fnbuild.deploy import pipeline
from fnbuild.errors import NotReadyError
from fnbuild.platforms.kserve.platform import KServePlatform
from fnbuild.platforms.kubeclient import kinds
from tests.platforms.contract import *  # noqa: F403
from tests.platforms.contract import Author, RunningFunction, RunningInCluster

pytestmark = pytest.mark.system


@pytest.fixture
def platform_name() -> str:
    return "kserve"


@pytest.fixture
def platform(built_images: None, data: Path) -> KServePlatform:
    return KServePlatform()


@pytest.fixture
def running_function() -> type[RunningFunction]:
    return RunningInCluster


def test_a_failed_first_deploy_is_listed_with_its_reason(
    platform: KServePlatform, author: Author
) -> None:
    """Nothing is left in the cluster but the record of the failure."""
    (author.folder / "main.py").write_text("import nowhere_to_be_found\n")
    with pytest.raises(NotReadyError, match="container kserve-container") as error:
        pipeline.deploy(author.request(), author.progress.append)
    assert "nowhere_to_be_found" in (error.value.detail or "")
    assert platform.cluster.list(kinds.INFERENCE_SERVICE, author.namespace) == []
    listed = platform.deployment(author.namespace, "greeter")
    assert listed.state == "error"
    assert "exit status" in listed.message
    assert author.deploy("hello").state == "ready"
